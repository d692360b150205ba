"""Rows of OpenAssistant conversation trees from files or from the Hub, checked and typed."""

import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl
from datasets import load_dataset

from ..errors import PreferansError
from ..files import iter_jsonl
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
_JSON_TYPES = {pl.String: str, pl.Boolean: bool, pl.Int64: int}
READ_ROWS = 20_000  # rows in one batch


def read_rows(source: str, revision: str | None = None, labels: bool = False) -> Iterator[pl.DataFrame]:
    """
    Read oasst rows from a file, a folder or the Hub, in batches.

    Args:
        source (`str`):
            A `.jsonl`, `.jsonl.gz`, `.json` (one object a line) or `.parquet` file, a folder of `.jsonl`, `.jsonl.gz` and
            `.parquet` files, or the id of a dataset on the Hub, of which all splits are read.
        revision (`str`, *optional*):
            Commit, branch or tag, for a dataset on the Hub.
        labels (`bool`, *optional*, defaults to `False`):
            Whether to read the column `labels` as well, as `quality`.

    Yields:
        `pl.DataFrame`: the columns of `OASST_COLUMNS`, `origin` (name of the file or split) and, if asked for, `quality`, in the
        order of the source (the files of a folder in the order of their names).

    Raises:
        [`PreferansError`]: when nothing can be read from `source`, a column is missing, or a value has the wrong type.
    """
    found = False
    for batch in _read_any(source, Path(source), revision, labels):
        found = True
        yield batch
    if not found:
        raise PreferansError(f"{source}: there is not one row in it.")


def _read_any(source: str, path: Path, revision: str | None, labels: bool) -> Iterator[pl.DataFrame]:
    if path.is_dir():
        files = source_files(path)
        if not files:
            raise PreferansError(f"--source {source}: the folder holds no {', '.join(DATA_ENDINGS)} file.")
    elif path.exists():
        files = [path]
    elif path.name.endswith((*DATA_ENDINGS, ".json")) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", source):
        raise PreferansError(f"--source {source}: there is no such file or folder.")
    else:
        yield from _read_hub(source, revision, labels)
        return
    for file in files:
        for batch in (_read_parquet if file.suffix == ".parquet" else _read_jsonl)(file, labels):
            yield batch.with_columns(origin=pl.lit(file.name))


def _read_jsonl(path: Path, labels: bool) -> Iterator[pl.DataFrame]:
    schema = OASST_COLUMNS | ({"quality": pl.Float64} if labels else {})
    rows = []
    for number, row in enumerate(iter_jsonl(path), start=1):
        rows.append(_checked_row(row, f"{path}, row {number}", labels))
        if len(rows) == READ_ROWS:
            yield pl.DataFrame(rows, schema=schema, orient="row")
            rows = []
    if rows:
        yield pl.DataFrame(rows, schema=schema, orient="row")


def _checked_row(row: dict, place: str, labels: bool) -> tuple:
    values = []
    for column, kind in OASST_COLUMNS.items():
        if column not in row:
            raise PreferansError(f"{place}: {_missing_column(column)}")
        value, kind = row[column], _JSON_TYPES[kind]
        # bool is an int to Python, but not to a person
        if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise PreferansError(f"{place}: '{column}' must be {kind.__name__} or null, got {value!r:.60}.")
        if kind is int and value is not None and not -(2**31) <= value < 2**31:
            raise PreferansError(f"{place}: '{column}' is far out of any range.")
        if kind is str and value and not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            raise PreferansError(
                f"{place}: '{column}' holds half of a character (a lone surrogate), which no file in UTF-8 can keep. "
                "Mend or drop the row."
            )
        values.append(value)
    for column in ("message_id", "message_tree_id", "role"):
        if not row[column]:
            raise PreferansError(f"{place}: '{column}' is empty.")
    if labels:
        if "labels" not in row:
            raise PreferansError(f"{place}: {_missing_column('labels')}")
        values.append(_quality(row["labels"], place))
    return tuple(values)


def _missing_column(column: str) -> str:
    return f"the column '{column}' is missing. An oasst source has the columns {', '.join(OASST_COLUMNS)} and labels."


def _quality(labels: dict | None, place: str) -> float | None:
    try:
        value = dict(zip(labels["name"], labels["value"], strict=True)).get("quality") if labels else None
        return value if value is None else float(value)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise PreferansError(
            f"{place}: 'labels' must hold the lists name and value of equal length, got {labels!r:.80}."
        ) from None


def _read_parquet(path: Path, labels: bool) -> Iterator[pl.DataFrame]:
    wanted = [*OASST_COLUMNS, *(["labels"] if labels else [])]
    try:
        scan = pl.scan_parquet(path, glob=False)
        scan = scan.select([column for column in wanted if column in scan.collect_schema()])
        for start in range(0, scan.select(pl.len()).collect().item(), READ_ROWS * 5):
            yield _checked_table(scan.slice(start, READ_ROWS * 5).collect(), str(path), start, labels)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise PreferansError(f"{path}: this is not a readable parquet file ({error}).") from None


def _read_hub(source: str, revision: str | None, labels: bool) -> Iterator[pl.DataFrame]:

    try:
        splits = load_dataset(source, revision=revision)
    except Exception as error:  # the client raises a dozen kinds, and each means: not to be had
        raise PreferansError(
            f"--source {source}: there is no such file or folder here, and the Hub does not give a dataset of that name "
            f"({type(error).__name__}: {error})."
        ) from None
    wanted = [*OASST_COLUMNS, *(["labels"] if labels else [])]
    for split, rows in splits.items():
        rows = rows.select_columns([column for column in wanted if column in rows.column_names])
        for start in range(0, len(rows), READ_ROWS):
            table = rows.with_format("arrow")[start : start + READ_ROWS]
            batch = _checked_table(pl.DataFrame(table), f"{source}, split {split}", start, labels)
            yield batch.with_columns(origin=pl.lit(split))


def _checked_table(frame: pl.DataFrame, origin: str, before: int, labels: bool) -> pl.DataFrame:
    columns = {}
    for column, kind in OASST_COLUMNS.items():
        if column not in frame.columns:
            raise PreferansError(f"{origin}: {_missing_column(column)}")
        values = frame[column]
        try:
            # pandas writes a column of whole numbers with gaps as floats
            columns[column] = values if values.dtype == kind else _cast(values, kind)
        except (pl.exceptions.PolarsError, ValueError):
            raise PreferansError(
                f"{origin}: '{column}' must be {_JSON_TYPES[kind].__name__} or null, and the file has {values.dtype}."
            ) from None
    checked = pl.DataFrame(columns)
    faults = {
        f"'{column}' is empty": pl.col(column).is_null() | (pl.col(column).str.len_bytes() == 0)
        for column in ("message_id", "message_tree_id", "role")
    }
    faults["'rank' is far out of any range"] = ~pl.col("rank").is_between(-(2**31), 2**31 - 1)
    found = checked.select(**{words: fault.any() for words, fault in faults.items()}).row(0, named=True)
    for words in (words for words, is_there in found.items() if is_there):
        row = checked.select(faults[words].arg_true().first()).item()
        raise PreferansError(f"{origin}, row {before + row + 1}: {words}.")
    if labels:
        if "labels" not in frame.columns:
            raise PreferansError(f"{origin}: {_missing_column('labels')}")
        quality = [_quality(value, origin) for value in frame["labels"].to_list()]
        checked = checked.with_columns(quality=pl.Series(quality, dtype=pl.Float64))
    return checked


def _cast(values: pl.Series, kind: type[pl.DataType]) -> pl.Series:
    numeric = values.dtype.is_numeric() and kind == pl.Int64
    if not (numeric or values.dtype == pl.Null or values.dtype in (pl.Categorical, pl.Enum)):
        raise ValueError
    cast = values.cast(kind, strict=True)
    if numeric and not (cast.cast(pl.Float64) == values.cast(pl.Float64)).fill_null(True).all():
        raise ValueError
    return cast
