"""The record of a trimmed vocabulary."""

from pathlib import Path
from typing import Any

from ..files import read_json

KEPT_NAME, RECORD_NAME = "kept_token_ids.json", "trimmed_vocabulary.json"


def trimmed_from(folder: str | Path) -> dict[str, Any] | None:
    """Return the record of a model's trimmed vocabulary, or `None` for a full one."""
    path = Path(folder) / RECORD_NAME
    return read_json(path) if path.is_file() else None


def trimmed_in_words(record: dict[str, Any]) -> str:
    """Describe the record of [`trimmed_from`]."""
    return (
        f"trimmed from that of `{record['source']}`, {record['tokens_after']:,} of {record['tokens_before']:,} tokens"
    )


def trimming_in_words(model: str | Path) -> str:
    """Return sentences for the card of an adapter, with a leading space; empty for a base with a full vocabulary."""
    record = trimmed_from(model)
    if record is None:
        return ""
    full = "the full model"
    if "merged_with" in record:
        full += f" once it has that of {' and '.join(f'`{run}`' for run in record['merged_with'])} as well"
    return f" The adapter was trained with a vocabulary {trimmed_in_words(record)}, and fits {full}: scripts/merge.py."
