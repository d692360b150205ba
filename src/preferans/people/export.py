"""Write ratings as JSON lines, CSV or parquet, in the format of docs/ratings.md."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from ..data.ratings import NESTED
from ..errors import PreferansError
from ..files import write_bytes

# Media type of each format, by the ending of its files.
EXPORTS = {".jsonl": "application/jsonl", ".csv": "text/csv", ".parquet": "application/vnd.apache.parquet"}
_TYPES = {
    "rater": pl.String,
    "prompt_id": pl.String,
    "prompt": pl.String,
    "message_tree_id": pl.String,
    "answers": pl.String,
    "verdict": pl.String,
    "scores": pl.String,
    "thumbs": pl.String,
    "rated_at": pl.String,
    "comment": pl.String,
    "seconds": pl.Float64,
    "marks": pl.Boolean,
}


def check_export(path: str | Path) -> None:
    """
    Check the ending of an export's file.

    Raises:
        [`PreferansError`]: names the known endings.
    """
    if Path(path).suffix not in EXPORTS:
        raise PreferansError(f"--export {path}: the file must end in {', '.join(EXPORTS)}.")


def export_bytes(judgements: Sequence[dict], suffix: str) -> bytes:
    """
    Return judgements as the content of a file.

    Args:
        judgements (`Sequence[dict]`): Judgements in the format of docs/ratings.md.
        suffix (`str`): One of `EXPORTS`. In a table, the cells of nested keys are JSON; a CSV file has a byte order mark for Excel.
    """
    if suffix == ".jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in judgements).encode()
    rows = [
        {
            key: json.dumps(row[key], ensure_ascii=False)
            if key in NESTED and row.get(key) is not None
            else row.get(key)
            for key in _TYPES
        }
        for row in judgements
    ]
    table, buffer = pl.DataFrame(rows, schema=_TYPES), io.BytesIO()
    if suffix == ".csv":
        table.write_csv(buffer, include_bom=True)
    else:
        table.write_parquet(buffer)
    return buffer.getvalue()


def export_ratings(judgements: Sequence[dict], path: str | Path) -> None:
    """Write judgements to a file, in the format of its ending."""
    check_export(path)
    write_bytes(path, export_bytes(judgements, Path(path).suffix))
