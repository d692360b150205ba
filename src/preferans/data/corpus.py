"""Texts of a corpus, from a file of lines or from any dataset."""

from pathlib import Path
from typing import Any

from ..errors import PreferansError
from .formats import read_dataset

TEXT_COLUMNS = ("text", "content", "messages", "prompt", "completion", "chosen", "rejected", "answer")


def read_texts(name: str) -> list[str]:
    """
    Read the texts of a corpus.

    Args:
        name (`str`):
            `.txt` file with a text a line, or what [`~preferans.data.formats.read_dataset`] reads, whose columns `TEXT_COLUMNS` are
            taken.

    Raises:
        [`PreferansError`]: when it cannot be read or has no texts.
    """
    if Path(name).suffix == ".txt":
        try:
            texts = [line for line in Path(name).read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        except FileNotFoundError:
            raise PreferansError(f"--corpus {name}: there is no such file.") from None
        except UnicodeDecodeError as error:
            raise PreferansError(f"--corpus {name}: this is not UTF-8 text ({error}). Save it as UTF-8.") from None
    else:
        try:
            splits = read_dataset(name)
        except PreferansError as error:
            raise PreferansError(f"--corpus: {error}") from None
        texts = [text for rows in splits.values() for row in rows for text in _texts_in(row)]
    if not texts:
        raise PreferansError(
            f"--corpus {name}: there is no text in it. A .txt file has a text a line; rows have one of {', '.join(TEXT_COLUMNS)}."
        )
    # JSON may hold halves of characters, which no tokenizer takes.
    return [text.encode(errors="replace").decode() for text in texts]


def _texts_in(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value.strip() else []
    if isinstance(value, dict):
        return [text for key in TEXT_COLUMNS for text in _texts_in(value.get(key))]
    return [text for part in value for text in _texts_in(part)] if isinstance(value, list) else []
