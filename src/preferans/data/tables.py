"""Preference rows as tables: columns, splits, lengths, plain texts, dataset folder."""

import os
import random
import re
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import PreferansError
from ..files import files_below, new_folder, write_text

_MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
ROW_COLUMNS = {
    "id": pl.String,
    "prompt": _MESSAGES,
    "chosen": _MESSAGES,
    "rejected": _MESSAGES,
    "message_tree_id": pl.String,
    "lang": pl.String,
    "source": pl.String,
    "chosen_rank": pl.Int32,
    "rejected_rank": pl.Int32,
}
# The types that `datasets` itself writes.
_ARROW_TYPES = {
    pl.String: pa.string(),
    pl.Int32: pa.int32(),
    pl.Int64: pa.int64(),
    pl.Float64: pa.float64(),
    pl.Boolean: pa.bool_(),
    _MESSAGES: pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})),
}
ROWS_PER_FILE = 200_000


def preference_frame(rows: list[dict]) -> pl.DataFrame:
    """Convert preference rows to a table with the columns of `ROW_COLUMNS`. Missing values are null."""
    return pl.DataFrame(rows, schema=ROW_COLUMNS)


def read_parquet_rows(path: str | Path) -> list[dict]:
    """
    Read the rows of a parquet file.

    Raises:
        [`PreferansError`]: if the file cannot be read.
    """
    try:
        return pl.read_parquet(path, glob=False).to_dicts()
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = f"{' '.join(str(error).split()):.200}"
        raise PreferansError(f"{path}: this is not a readable parquet file ({reason}). Write it again.") from None


def split_by_tree(rows: pl.DataFrame, test_size: float, seed: int) -> dict[str, pl.DataFrame]:
    """
    Split rows so that no conversation tree is in two splits.

    Args:
        rows (`pl.DataFrame`): Preference rows with `message_tree_id`.
        test_size (`float`): Share of the trees, from 0 to 1, in the test split. With 0 there is no test split.
        seed (`int`): Seed of the draw, which depends on the set of trees and not on the order of the rows.

    Returns:
        `dict[str, pl.DataFrame]`: `train` and, unless it is empty, `test`, in the order of `rows`.
    """
    trees = sorted(rows["message_tree_id"].unique().to_list())
    random.Random(seed).shuffle(trees)
    number = max(round(len(trees) * test_size), 1) if test_size else 0
    number = min(number, len(trees) - 1)  # the training split is never empty
    held_out = pl.col("message_tree_id").is_in(trees[: max(number, 0)])
    splits = {"train": rows.filter(~held_out), "test": rows.filter(held_out)}
    return {name: part for name, part in splits.items() if len(part)}


def answer_texts(column: str, rows: pl.DataFrame) -> pl.Series:
    """Return an answer column as texts, in either format."""
    texts = rows[column]
    return texts if texts.dtype == pl.String else texts.list.last().struct.field("content")


def length_table(rows: pl.DataFrame) -> dict[str, float]:
    """
    Compare the lengths of chosen and rejected answers, in characters.

    Args:
        rows (`pl.DataFrame`): At least one preference row.

    Returns:
        `dict[str, float]`: `_mean`, `_median` and `_p95` (95 % are no longer) of `chosen` and `rejected`, and `chosen_longer`, the share of
        pairs, from 0 to 1, with a longer chosen answer.
    """
    lengths = {column: answer_texts(column, rows).str.len_chars() for column in ("chosen", "rejected")}
    table = {"chosen_longer": (lengths["chosen"] > lengths["rejected"]).mean()}
    for column, values in lengths.items():
        table |= {
            f"{column}_mean": values.mean(),
            f"{column}_median": values.median(),
            f"{column}_p95": values.quantile(0.95, "lower"),
        }
    return table


def as_texts(rows: pl.DataFrame) -> pl.DataFrame:
    """
    Convert conversational rows to plain texts, for models without a chat template.

    The texts are formatted as by `recipes/chat_templates/plain_ru.jinja`: questions after «Вопрос:», answers after «Ответ:». The trainer adds
    special tokens, which differ between models.
    """
    labels = {"user": "Вопрос: {}\n", "assistant": "Ответ: {}\n", "system": "{}\n\n"}
    prompts = [
        "".join(labels[message["role"]].format(message["content"]) for message in prompt) + "Ответ:"
        for prompt in rows["prompt"].to_list()
    ]
    answers = {column: " " + answer_texts(column, rows) for column in ("chosen", "rejected")}
    return rows.with_columns(prompt=pl.Series(prompts, dtype=pl.String), **answers)


def write_dataset(output_dir: str | Path, splits: dict[str, pl.DataFrame], card: str) -> bool:
    """
    Write a dataset folder in the Hub's layout: `README.md`, and parquet files in `data/`.

    Args:
        output_dir (`str` or `Path`): Folder to write. An existing dataset folder is replaced; any other folder is an error.
        splits (`dict[str, pl.DataFrame]`): Rows by split.
        card (`str`): Text of `README.md`, with the fingerprint of the rows, see [`~preferans.data.card.dataset_card`].

    Returns:
        `bool`: `False` if the folder already had exactly these files.

    Raises:
        [`PreferansError`]: if `output_dir` contains something other than a dataset.
    """
    check_output_dir(output_dir)
    before = os.stat(output_dir) if Path(output_dir).exists() else None
    with new_folder(output_dir) as folder:
        (folder / "data").mkdir()
        for name, rows in splits.items():
            schema = pa.schema({column: _ARROW_TYPES[dtype] for column, dtype in rows.schema.items()})
            files = -(-len(rows) // ROWS_PER_FILE)
            for number in range(files):
                part = rows.slice(number * ROWS_PER_FILE, ROWS_PER_FILE)
                pq.write_table(part.to_arrow().cast(schema), folder / shard_name(name, number, files))
        write_text(folder / "README.md", card)
    # new_folder keeps a folder with equal files
    return before is None or not os.path.samestat(before, os.stat(output_dir))


def stored_fingerprint(output_dir: str | Path) -> str | None:
    """Read the fingerprint in a dataset folder's card; `None` if the folder has no card, no fingerprint or no parquet files."""
    card = Path(output_dir) / "README.md"
    if not card.is_file() or not any(Path(output_dir, "data").glob("*.parquet")):
        return None
    match = re.search(r"fingerprint: `([0-9a-f]{64})`", card.read_text(encoding="utf-8"))
    return match[1] if match else None


def check_output_dir(output_dir: str | Path, option: str = "--output_dir") -> None:
    """
    Check that `output_dir` is absent, empty, or a dataset folder that may be replaced.

    Raises:
        [`PreferansError`]: if it contains anything else; the message names `option`.
    """
    path = Path(output_dir)
    if path.is_dir():
        files = [file.relative_to(path).as_posix() for file in files_below(path)]
        others = [name for name in files if name != "README.md" and not re.fullmatch(r"data/[^/]+\.parquet", name)]
        if others or (files and stored_fingerprint(path) is None):
            first = sorted(others or files)[:5]
            more = ", …" if len(others or files) > len(first) else ""
            raise PreferansError(
                f"{option} {output_dir}: the folder holds something else ({', '.join(first)}{more}), which would be replaced. Name "
                "a new folder."
            )
    else:
        file = next((parent for parent in (path, *path.parents) if parent.is_file()), None)
        if file:
            raise PreferansError(f"{option} {output_dir}: {file} is a file; a folder is needed.")


def shard_name(split: str, number: int = 0, files: int = 1) -> str:
    """Return the path of a split's file in the dataset folder, as the Hub names it."""
    return f"data/{split}-{number:05}-of-{files:05}.parquet"
