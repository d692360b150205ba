"""Read the texts of a corpus from a file of lines or from any dataset."""

from pathlib import Path
from typing import Any

from ..errors import PreferansError
from ..files import decode_utf8
from ..utf8 import writable
from .formats import read_dataset

TEXT_COLUMNS = ("text", "content", "messages", "prompt", "completion", "chosen", "rejected", "answer")


def read_texts(name: str) -> list[str]:
    """
    Read the texts of a corpus.

    Args:
        name (`str`):
            `.txt` file with one text per line, or a dataset for [`~preferans.data.formats.read_dataset`], of which the columns
            `TEXT_COLUMNS` are used.

    Raises:
        [`PreferansError`]: if the corpus cannot be read or has no texts.
    """
    try:
        if Path(name).suffix == ".txt":
            texts = [line for line in decode_utf8(Path(name).read_bytes(), name).splitlines() if line.strip()]
        else:
            texts = [text for rows in read_dataset(name).values() for row in rows for text in _texts_in(row)]
    except FileNotFoundError:
        raise PreferansError(f"--corpus {name}: there is no such file.") from None
    except PreferansError as error:
        raise PreferansError(f"--corpus: {error}") from None
    if not texts:
        raise PreferansError(
            f"--corpus {name}: it has no texts. Write one text per line of a .txt file, or rows with {', '.join(TEXT_COLUMNS)}."
        )
    return [writable(text) for text in texts]  # tokenizers reject lone surrogates, which JSON may contain


def _texts_in(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value.strip() else []
    if isinstance(value, dict):
        return [text for key in TEXT_COLUMNS for text in _texts_in(value.get(key))]
    return [text for part in value for text in _texts_in(part)] if isinstance(value, list) else []
