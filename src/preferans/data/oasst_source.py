"""Read rows of OpenAssistant conversation trees from files or from the Hub, checked and typed."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from datasets import load_dataset
from pydantic import ConfigDict, Field

from ..errors import PreferansError
from ..files import numbered_jsonl
from ..hub_names import can_be_on_hub, unreadable
from ..typed_rows import AnyText, Row, Text, check_row
from .source import DATA_ENDINGS, source_files

OASST_COLUMNS = {
    "message_id": pl.String,
    "parent_id": pl.String,
    "text": pl.String,
    "role": pl.String,
    "lang": pl.String,
    "review_result": pl.Boolean,
    "deleted": pl.Boolean,
    "rank": pl.Int64,
    "synthetic": pl.Boolean,
    "message_tree_id": pl.String,
    "tree_state": pl.String,
}
# Not in oasst1: what is wrong with a reply, in hand-written sources.
OPTIONAL_COLUMNS = {"defect": pl.String}
REQUIRED = ("message_id", "message_tree_id", "role")
LOWEST_RANK, HIGHEST_RANK = -(2**31), 2**31 - 1
READ_ROWS = 20_000  # rows in one batch of JSON lines or of a Hub dataset
READ_PARQUET_ROWS = 100_000
_TYPES_IN_WORDS = {pl.String: "text", pl.Boolean: "true or false", pl.Int64: "an integer"}


class _OasstRow(Row):
    model_config = ConfigDict(extra="ignore", strict=True)

    message_id: Text
    parent_id: AnyText | None
    text: AnyText | None
    role: Text
    lang: AnyText | None
    review_result: bool | None
    deleted: bool | None
    rank: Annotated[int, Field(ge=LOWEST_RANK, le=HIGHEST_RANK)] | None
    synthetic: bool | None
    message_tree_id: Text
    tree_state: AnyText | None
    defect: AnyText | None = None


class _LabelledRow(_OasstRow):
    labels: Any


def read_rows(source: str, revision: str | None = None, labels: bool = False) -> Iterator[pl.DataFrame]:
    """
    Read oasst rows from a file, a folder or the Hub, in batches.

    Args:
        source (`str`):
            A `.jsonl`, `.jsonl.gz`, `.json` (one object per line) or `.parquet` file, a folder of `.jsonl`, `.jsonl.gz` and `.parquet`
            files, or the id of a dataset on the Hub, of which all splits are read.
        revision (`str`, *optional*):
            Commit, branch or tag of a dataset on the Hub.
        labels (`bool`, *optional*, defaults to `False`):
            Whether to read the quality label as well, as the column `quality`.

    Yields:
        `pl.DataFrame`: the columns of `OASST_COLUMNS` and `OPTIONAL_COLUMNS`, `origin` (name of the file or split) and, with `labels`, `quality`, in the order of
        the source. The files of a folder are read in the order of their names.

    Raises:
        [`PreferansError`]: if `source` cannot be read or is empty, a column is missing, or a value has the wrong type.
    """
    empty = True
    for batch in _read_any(source, Path(source), revision, labels):
        empty = False
        yield batch
    if empty:
        raise PreferansError(f"{source}: the source is empty.")


def _read_any(source: str, path: Path, revision: str | None, labels: bool) -> Iterator[pl.DataFrame]:
    if path.is_dir():
        files = source_files(path)
        if not files:
            raise PreferansError(f"--source {source}: the folder has no {', '.join(DATA_ENDINGS)} file.")
    elif path.exists() and path.name.lower().endswith((*DATA_ENDINGS, ".json")):
        files = [path]
    elif path.exists():
        raise PreferansError(f"--source {source}: a file must end in {', '.join(DATA_ENDINGS)} or .json.")
    elif path.name.lower().endswith((*DATA_ENDINGS, ".json")) or not can_be_on_hub(source):
        raise PreferansError(f"--source {source}: no such file or folder.")
    else:
        yield from _read_hub(source, revision, labels)
        return
    for file in files:
        for batch in (_read_parquet if file.suffix.lower() == ".parquet" else _read_jsonl)(file, labels):
            yield batch.with_columns(origin=pl.lit(file.name))


def _read_jsonl(path: Path, labels: bool) -> Iterator[pl.DataFrame]:
    schema = OASST_COLUMNS | OPTIONAL_COLUMNS | ({"quality": pl.Float64} if labels else {})
    rows = (_checked_row(row, f"{path}, line {number}", labels) for number, row in numbered_jsonl(path))
    while batch := list(islice(rows, READ_ROWS)):
        yield pl.DataFrame(batch, schema=schema)


def _checked_row(row: dict, location: str, labels: bool) -> dict:
    checked = check_row(_LabelledRow if labels else _OasstRow, row, location).model_dump()
    if labels:
        checked["quality"] = _quality(checked.pop("labels"), location)
    return checked


def _quality(labels: Any, location: str) -> float | None:
    try:
        value = dict(zip(labels["name"], labels["value"], strict=True)).get("quality") if labels else None
        return value if value is None else float(value)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise PreferansError(
            f"{location}: 'labels' must have the lists name and value, of equal length, got {labels!r:.80}."
        ) from None


def _read_parquet(path: Path, labels: bool) -> Iterator[pl.DataFrame]:
    wanted = [*OASST_COLUMNS, *OPTIONAL_COLUMNS, *(["labels"] if labels else [])]
    try:
        scan = pl.scan_parquet(path, glob=False)
        scan = scan.select([column for column in wanted if column in scan.collect_schema()])
        for start in range(0, scan.select(pl.len()).collect().item(), READ_PARQUET_ROWS):
            yield _checked_table(scan.slice(start, READ_PARQUET_ROWS).collect(), str(path), start, labels)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise PreferansError(f"{path}: this is not a readable parquet file ({error}).") from None


def _read_hub(source: str, revision: str | None, labels: bool) -> Iterator[pl.DataFrame]:
    try:
        splits = load_dataset(source, revision=revision)
    except (
        Exception
    ) as error:  # the client raises a dozen types, and all of them mean that the dataset cannot be loaded
        raise PreferansError(f"--source {source}: {unreadable(source, error)}") from None
    wanted = [*OASST_COLUMNS, *OPTIONAL_COLUMNS, *(["labels"] if labels else [])]
    for split, rows in splits.items():
        rows = rows.select_columns([column for column in wanted if column in rows.column_names])
        for start in range(0, len(rows), READ_ROWS):
            table = rows.with_format("arrow")[start : start + READ_ROWS]
            batch = _checked_table(pl.DataFrame(table), f"{source}, split {split}", start, labels)
            yield batch.with_columns(origin=pl.lit(split))


def _checked_table(frame: pl.DataFrame, location: str, first_row: int, labels: bool) -> pl.DataFrame:
    for column in (*OASST_COLUMNS, *(["labels"] if labels else [])):
        if column not in frame.columns:
            raise PreferansError(
                f"{location}: the column '{column}' is missing. An oasst source has the columns {', '.join(OASST_COLUMNS)} and labels."
            )
    missing = [pl.lit(None, dtype).alias(column) for column, dtype in OPTIONAL_COLUMNS.items() if column not in frame]
    frame = frame.with_columns(missing)
    checked = pl.DataFrame(
        {column: _cast(frame[column], dtype, location) for column, dtype in (OASST_COLUMNS | OPTIONAL_COLUMNS).items()}
    )
    problems = {
        f"'{column}' is empty": pl.col(column).fill_null("").str.strip_chars().str.len_bytes() == 0
        for column in REQUIRED
    }
    problems["'rank' is out of range"] = ~pl.col("rank").is_between(LOWEST_RANK, HIGHEST_RANK)
    for problem, is_bad in problems.items():
        row = checked.select(is_bad.arg_true().first()).item()
        if row is not None:
            raise PreferansError(f"{location}, row {first_row + row + 1}: {problem}.")
    if labels:
        quality = [_quality(value, location) for value in frame["labels"].to_list()]
        checked = checked.with_columns(quality=pl.Series(quality, dtype=pl.Float64))
    return checked


def _cast(values: pl.Series, dtype: type[pl.DataType], location: str) -> pl.Series:
    """Convert a column without a change of values: pandas writes a column of integers with gaps as floats."""
    if values.dtype == dtype:
        return values
    numeric = dtype == pl.Int64 and values.dtype.is_numeric()
    named = dtype == pl.String and values.dtype in (pl.Categorical, pl.Enum)
    if numeric or named or values.dtype == pl.Null:
        cast = values.cast(dtype, strict=False)
        equal = (cast.cast(pl.Float64) == values.cast(pl.Float64)).fill_null(True).all() if numeric else True
        if equal and cast.null_count() == values.null_count():
            return cast
    raise PreferansError(
        f"{location}: '{values.name}' must be {_TYPES_IN_WORDS[dtype]} or null, and the file has {values.dtype}."
    )
