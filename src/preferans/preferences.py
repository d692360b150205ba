"""
The preference dataset: its contract, its splits, its fingerprint, and the folder it lives in.

A row holds `prompt` (a list of messages), `chosen` and `rejected` (one assistant message each, as lists): what TRL calls a
conversational preference dataset with an explicit prompt. The same three columns may hold plain texts instead, for models
without a chat template. Our builders add `id`, `message_tree_id`, `lang`, `source`, `chosen_rank` and `rejected_rank`.
"""

import hashlib
import json
import os
import random
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from .errors import PreferansError
from .files import checksums, new_folder, write_text
from .starting import split_revision

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

ROLES = ("system", "user", "assistant")
# A chosen answer that opens with this many characters of the question has been cut out of a model's output carelessly.
ECHO_LENGTH = 20
FORMATS = ("conversational", "text")
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
ROWS_PER_FILE = 200_000


def row_problem(row: dict) -> str | None:
    """
    What breaks the contract in one preference row.

    Args:
        row (`dict`):
            Row of a preference dataset.

    Returns:
        `str` or `None`: the first problem in words, beginning with the column's name, or `None` for a sound row.
    """
    columns = ("prompt", "chosen", "rejected")
    for column in columns:
        if row.get(column) in (None, [], ""):
            return f"'{column}' is missing"
    texts = all(isinstance(row[column], str) for column in columns)
    for column in columns:
        messages = row[column]
        if texts:
            if not messages.strip():
                return f"'{column}' has no text"
            continue
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            return (
                f"'{column}' must be a list of messages such as [{{'role': 'user', 'content': '…'}}], or a text as "
                "'prompt', 'chosen' and 'rejected' all three"
            )
        for message in messages:
            if message.get("role") not in ROLES:
                return f"'{column}' has a message with the role {message.get('role')!r}; roles are {', '.join(ROLES)}"
            if not isinstance(message.get("content"), str) or not message["content"].strip():
                return f"'{column}' has a message without text"
    if texts:
        question, chosen, rejected = (row[column].strip() for column in columns)
    else:
        if row["prompt"][-1]["role"] != "user":
            return "'prompt' must end with a message of the user"
        for column in ("chosen", "rejected"):
            if len(row[column]) != 1 or row[column][0]["role"] != "assistant":
                return f"'{column}' must be exactly one message of the assistant"
        question, chosen, rejected = (row[column][-1]["content"].strip() for column in columns)
    if chosen == rejected:
        return "'chosen' and 'rejected' are the same text"
    if len(question) >= ECHO_LENGTH and chosen.startswith(question):
        return "'chosen' repeats the prompt; an answer begins after it"
    return None


def check_rows(rows: Iterable[dict], origin: str) -> None:
    """
    Check every row against the contract.

    Args:
        rows (`Iterable[dict]`):
            Preference rows: a list, a [`~datasets.Dataset`], or `frame.iter_rows(named=True)`.
        origin (`str`):
            What to call the rows in a message: the dataset and its split.

    Raises:
        [`PreferansError`]: names the first broken row by its id and how many are broken in all.
    """
    first, broken, number = None, 0, 0
    for number, row in enumerate(rows, start=1):
        problem = row_problem(row)
        if problem:
            broken += 1
            first = first or (f"row {number}" + (f" (id {row['id']})" if row.get("id") else ""), problem)
    if not number:
        raise PreferansError(f"{origin}: there is not one row in it.")
    if first:
        more = f" {broken} rows of {number} are broken in all." if broken > 1 else ""
        raise PreferansError(f"{origin}, {first[0]}: {first[1]}.{more} Mend or drop such rows and start again.")


def check_leakage(train: "Dataset", test: "Dataset", origin: str) -> None:
    """
    Check that no conversation tree stands in both splits.

    Raises:
        [`PreferansError`]: names one tree that does.
    """
    if "message_tree_id" not in train.column_names or "message_tree_id" not in test.column_names:
        return
    shared = (set(train["message_tree_id"]) & set(test["message_tree_id"])) - {None}
    if shared:
        raise PreferansError(
            f"{origin}: {len(shared)} conversation trees stand both in the training and in the test split (such as "
            f"message_tree_id {min(shared)}), so the test would flatter the model. Split by message_tree_id."
        )


def preference_frame(rows: list[dict]) -> pl.DataFrame:
    """Preference rows as a table with the columns of `ROW_COLUMNS`; what a row lacks is null."""
    return pl.DataFrame(rows, schema=ROW_COLUMNS)


def split_by_tree(rows: pl.DataFrame, test_size: float, seed: int) -> dict[str, pl.DataFrame]:
    """
    Split rows so that no conversation tree stands in two splits.

    Args:
        rows (`pl.DataFrame`):
            Preference rows with `message_tree_id`.
        test_size (`float`):
            Share of the trees, from 0 to 1, that goes to the test split. With 0 there is no test split.
        seed (`int`):
            Seed of the draw. The draw depends on the set of trees and not on the order of the rows.

    Returns:
        `dict[str, pl.DataFrame]`: `train` and, unless it is empty, `test`, in the order of `rows`.
    """
    trees = sorted(rows["message_tree_id"].unique().to_list())
    random.Random(seed).shuffle(trees)
    number = round(len(trees) * test_size)
    if test_size:
        number = max(number, 1)
    number = min(number, len(trees) - 1)  # the training split is never empty
    held_out = pl.col("message_tree_id").is_in(trees[: max(number, 0)])
    splits = {"train": rows.filter(~held_out), "test": rows.filter(held_out)}
    return {name: part for name, part in splits.items() if len(part)}


def fingerprint(splits: dict[str, Iterable[dict]]) -> str:
    """SHA-256 over the rows of every split, as hexadecimal digits: the same on every machine for the same rows."""
    digest = hashlib.sha256()
    for name in sorted(splits):
        digest.update(f"{name}\n".encode())
        for row in splits[name]:
            # surrogatepass: a lone surrogate from a broken source must not stop the count
            line = json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n"
            digest.update(line.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def text_of(column: str, rows: pl.DataFrame) -> pl.Series:
    """An answer column as texts, in either format."""
    texts = rows[column]
    return texts if texts.dtype == pl.String else texts.list.last().struct.field("content")


def length_table(rows: pl.DataFrame) -> dict[str, float]:
    """
    Lengths of chosen against rejected, in characters.

    Args:
        rows (`pl.DataFrame`):
            At least one preference row.

    Returns:
        `dict[str, float]`: for `chosen` and `rejected` each `_mean`, `_median` and `_p95` (95 % are no longer), and
        `chosen_longer`, the share of pairs, from 0 to 1, whose chosen answer is the longer one.
    """
    lengths = {column: text_of(column, rows).str.len_chars() for column in ("chosen", "rejected")}
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
    Conversational rows as plain texts, for models without a chat template.

    Args:
        rows (`pl.DataFrame`):
            Conversational preference rows.

    Returns:
        `pl.DataFrame`: the same rows with texts in `prompt`, `chosen` and `rejected`, laid out as
        `recipes/chat_templates/plain_ru.jinja` would: questions after «Вопрос:», answers after «Ответ:». Special tokens, which
        differ from model to model, are left to the trainer.
    """
    labels = {"user": "Вопрос: {}\n", "assistant": "Ответ: {}\n", "system": "{}\n\n"}
    prompts = [
        "".join(labels[message["role"]].format(message["content"]) for message in prompt) + "Ответ:"
        for prompt in rows["prompt"].to_list()
    ]
    answers = {column: " " + text_of(column, rows) for column in ("chosen", "rejected")}
    return rows.with_columns(prompt=pl.Series(prompts, dtype=pl.String), **answers)


def write_dataset(output_dir: str | Path, splits: dict[str, pl.DataFrame], card: str) -> bool:
    """
    Write a dataset folder in the Hub's layout: `README.md`, and parquet files under `data/`.

    Args:
        output_dir (`str` or `Path`):
            Folder to make. A dataset folder that stands there is replaced as a whole; any other folder is left alone.
        splits (`dict[str, pl.DataFrame]`):
            Rows by split.
        card (`str`):
            Text of `README.md`, see [`~cards.dataset_card`]. It holds the fingerprint of the rows.

    Returns:
        `bool`: `False` when the very same files stood there already.

    Raises:
        [`PreferansError`]: when `output_dir` holds something that is not a dataset folder.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_output_dir(output_dir)
    # the types that `datasets` itself writes
    kinds = {
        pl.String: pa.string(),
        pl.Int32: pa.int32(),
        pl.Int64: pa.int64(),
        pl.Float64: pa.float64(),
        pl.Boolean: pa.bool_(),
        _MESSAGES: pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})),
    }
    before = os.stat(output_dir) if Path(output_dir).exists() else None
    with new_folder(output_dir) as folder:
        (folder / "data").mkdir()
        for name, rows in splits.items():
            schema = pa.schema({column: kinds[kind] for column, kind in rows.schema.items()})
            files = -(-len(rows) // ROWS_PER_FILE)
            for number in range(files):
                part = rows.slice(number * ROWS_PER_FILE, ROWS_PER_FILE)
                pq.write_table(part.to_arrow().cast(schema), folder / shard_name(name, number, files))
        write_text(folder / "README.md", card)
    # an equal folder is left standing by new_folder, which has compared the files already
    return before is None or not os.path.samestat(before, os.stat(output_dir))


def check_output_dir(output_dir: str | Path) -> None:
    """
    Check that a dataset may be written to `output_dir`: it is free, empty, or holds a dataset that we may replace.

    Raises:
        [`PreferansError`]: when it holds anything else.
    """
    path = Path(output_dir)
    if path.is_dir():
        files = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
        strangers = [name for name in files if name != "README.md" and not re.fullmatch(r"data/[^/]+\.parquet", name)]
        if strangers or (files and stored_fingerprint(path) is None):
            raise PreferansError(
                f"--output_dir {output_dir}: the folder holds something else ({', '.join(strangers or files)}) and would "
                "be replaced. Name a new folder."
            )
    else:
        file = next((parent for parent in (path, *path.parents) if parent.is_file()), None)
        if file:
            raise PreferansError(f"--output_dir {output_dir}: {file} is a file, and a folder is needed.")


def shard_name(split: str, number: int = 0, files: int = 1) -> str:
    """Path of a split's file inside the dataset folder, as the Hub names it."""
    return f"data/{split}-{number:05}-of-{files:05}.parquet"


def stored_fingerprint(output_dir: str | Path) -> str | None:
    """The fingerprint that a dataset folder's card gives its parquet files, or `None` where either is not there."""
    card = Path(output_dir) / "README.md"
    if not card.is_file() or not any(Path(output_dir, "data").glob("*.parquet")):
        return None
    match = re.search(r"fingerprint: `([0-9a-f]{64})`", card.read_text(encoding="utf-8"))
    return match[1] if match else None


def load_preferences(name: str, config: str | None = None) -> "DatasetDict":
    """
    Load a preference dataset from a local folder or from the Hub.

    Args:
        name (`str`):
            Folder, or id of a dataset on the Hub, which may end in `@REVISION`.
        config (`str`, *optional*):
            Configuration of the dataset.

    Returns:
        [`~datasets.DatasetDict`]: the splits.

    Raises:
        [`PreferansError`]: when there is no such dataset, or it cannot be read.
    """
    import datasets

    # datasets (5.2) caches a local folder that has a card by the folder's name, not by what stands in it: a rebuilt dataset, or
    # another one of the same name, would come out of the cache as the old one. So each content gets a cache of its own.
    cache = None
    if Path(name).is_dir():
        contents = "\n".join(f"{file} {checksum}" for file, checksum in sorted(checksums(name).items()))
        cache = Path(datasets.config.HF_DATASETS_CACHE, "preferans", hashlib.sha256(contents.encode()).hexdigest())
    hub_name, revision = split_revision(name)
    try:
        return datasets.load_dataset(hub_name, name=config, revision=revision, cache_dir=str(cache) if cache else None)
    except Exception as error:  # datasets raises a dozen kinds, and each means: not to be had
        place = (
            "the folder is there, but cannot be read as a dataset"
            if Path(name).is_dir()
            else (
                "there is no such folder here, and the Hub does not give a dataset of that name. Build it first (see "
                "data_builders/), or correct the name"
                if not datasets.config.HF_HUB_OFFLINE
                else "there is no such folder here, HF_HUB_OFFLINE is set, and it is not in the cache. Unset that once and load it"
            )
        )
        raise PreferansError(
            f"dataset_name {name}: {place} ({type(error).__name__}: {str(error).strip():.300})."
        ) from None


def column_or_numbers(rows: "Dataset", column: str) -> list[str]:
    """A column of a dataset, or the numbers of the rows where it has no such column."""
    return list(rows[column]) if column in rows.column_names else [str(number) for number in range(len(rows))]


def load_checked_splits(
    name: str, config: str | None, train_split: str, test_split: str
) -> tuple["Dataset", "Dataset"]:
    """
    Load the two splits a run needs, and check every row and their separation before anything else is loaded.

    Args:
        name (`str`):
            Folder, or id of a dataset on the Hub.
        config (`str`, *optional*):
            Configuration of the dataset.
        train_split (`str`), test_split (`str`):
            Names of the splits.

    Returns:
        `tuple[Dataset, Dataset]`: the training and the test rows.

    Raises:
        [`PreferansError`]: when a split is missing, a row breaks the contract, or a tree stands in both splits.
    """
    dataset = load_preferences(name, config)
    for split in (train_split, test_split):
        if split not in dataset:
            raise PreferansError(f"dataset_name {name}: it has no split '{split}', only {', '.join(dataset)}.")
        check_rows(dataset[split], f"{name}, split {split}")
    check_leakage(dataset[train_split], dataset[test_split], name)
    return dataset[train_split], dataset[test_split]
