"""The card of a dataset: what it is, by which rule it was made, what was left out, and how to make it again."""

import argparse
import json
import re
import shlex
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import polars as pl
from jinja2 import Environment, PackageLoader

from .files import sha256_of
from .language import foreign_words, is_russian, loops
from .preferences import fingerprint, length_table, text_of

SIZES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (float("inf"), "n>1M"))
QUALITY_ROWS = 2_000
EXAMPLES, EXAMPLE_LENGTH = 3, 600
DATA_ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")
OUTPUT_OPTIONS = ("output_dir", "fix")
# Options that do not decide the rows, or are nobody else's business.
PRIVATE_OPTIONS = ("help", "num_proc", "push_to_hub", "repo_id", "answers", "json")
APACHE_SOURCES = ("OpenAssistant/oasst1", "OpenAssistant/oasst2")


def dataset_card(
    title: str,
    summary: str,
    rule: str,
    splits: dict[str, pl.DataFrame],
    *,
    language: str,
    licence: str,
    tags: Sequence[str],
    source: str,
    options: dict,
    command: str,
    counts: dict[str, list[tuple[str, int | float | str]]],
    notes: str = "",
    repeatable: str = "the same source, options and seed give the same on every machine",
) -> str:
    """
    Write a dataset's `README.md`.

    Args:
        title (`str`), summary (`str`), rule (`str`):
            Heading, first paragraph, and how a pair is made; Markdown.
        splits (`dict[str, pl.DataFrame]`):
            Preference rows by split, as they are written.
        language (`str`):
            Language tag, such as `"ru"`.
        licence (`str`):
            Licence as the Hub names it, such as `"apache-2.0"`, or `"other"`.
        tags (`Sequence[str]`):
            Tags beside those every preference dataset has.
        source (`str`):
            Where the rows come from, with revision or checksums, see [`describe_source`].
        options (`dict`):
            Options that decide the rows.
        command (`str`):
            See [`command_line`].
        counts (`dict[str, list[tuple]]`):
            Tables of counts: heading, then (label, value).
        notes (`str`, *optional*):
            Markdown after the table of lengths.
        repeatable (`str`, *optional*):
            What gives the same fingerprint again.

    Returns:
        `str`: YAML metadata that the Hub reads, and Markdown. It says nothing of the time, the machine or its folders: the same
        inputs and options give the same card.
    """
    pairs = pl.concat(splits.values())
    environment = Environment(
        loader=PackageLoader("preferans", "."), trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.get_template("dataset_card.md.jinja").render(
        head=card_head(title, splits, language, licence, ["preference", "dpo", "preferans", *tags]),
        title=title,
        summary=summary,
        rule=rule,
        notes=notes,
        repeatable=repeatable,
        sizes=", ".join(f"{len(rows):,} in `{name}`" for name, rows in splits.items()),
        source=source,
        options=", ".join(f"{key} `{value}`" for key, value in options.items()),
        command=command,
        russian=language == "ru",
        separate=len(splits) > 1,
        fingerprint=fingerprint({name: rows.iter_rows(named=True) for name, rows in splits.items()}),
        counts=counts,
        lengths=length_table(pairs),
        quality=quality_table(pairs),
        examples=[_example(row) for row in _spread(pairs, EXAMPLES).iter_rows(named=True)],
    )


def counted(prefix: str, reasons: dict[str, str], counts: dict[str, int]) -> list[tuple[str, int]]:
    """Rows of a table of counts: for each reason its words after `prefix`, and its number."""
    return [(f"{prefix}: {words}", counts[reason]) for reason, words in reasons.items()]


def card_head(title: str, splits: dict[str, pl.DataFrame], language: str, licence: str, tags: Sequence[str]) -> str:
    """The YAML head of a dataset's card, between its lines of dashes, as the Hub reads it."""
    from huggingface_hub import DatasetCardData

    rows = sum(map(len, splits.values()))
    data = DatasetCardData(
        pretty_name=title,
        language=[re.split("[-_]", language)[0]],
        license=licence,
        **({"license_name": "that-of-the-source"} if licence == "other" else {}),
        task_categories=["text-generation"],
        tags=list(tags),
        size_categories=[next(label for limit, label in SIZES if rows < limit)],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": name, "path": f"data/{name}-*"} for name in splits],
            }
        ],
    )
    return f"---\n{data.to_yaml().strip()}\n---"


def quality_table(rows: pl.DataFrame) -> dict[str, dict[str, float]]:
    """
    How the answers look as Russian text.

    Args:
        rows (`pl.DataFrame`):
            Preference rows. Of more than `QUALITY_ROWS`, so many are looked at, evenly spread.

    Returns:
        `dict[str, dict[str, float]]`: for `chosen` and `rejected` the shares, from 0 to 1, of answers that are in Russian
        (`in_russian`), have an intruding foreign word (`foreign_words`), run in circles (`loops`), and `words`, their mean
        number of words.
    """
    rows = _spread(rows, QUALITY_ROWS)
    prompts = [prompt if isinstance(prompt, str) else prompt[-1]["content"] for prompt in rows["prompt"].to_list()]
    table = {}
    for column in ("chosen", "rejected"):
        texts = text_of(column, rows).to_list()
        table[column] = {
            "words": statistics.fmean(len(text.split()) for text in texts),
            "in_russian": statistics.fmean(map(is_russian, texts)),
            "foreign_words": statistics.fmean(
                bool(foreign_words(text, prompt)) for text, prompt in zip(texts, prompts, strict=True)
            ),
            "loops": statistics.fmean(map(loops, texts)),
        }
    return table


def _spread(rows: pl.DataFrame, number: int) -> pl.DataFrame:
    return rows if len(rows) <= number else rows[[i * len(rows) // number for i in range(number)]]


def _example(row: dict) -> str:
    shown = {}
    for column in ("prompt", "chosen", "rejected"):
        messages = row[column]
        shown[column] = (
            _short(messages)
            if isinstance(messages, str)
            else [message | {"content": _short(message["content"])} for message in messages]
        )
    return json.dumps({"id": row["id"]} | shown, ensure_ascii=False, indent=1)


def _short(text: str) -> str:
    return text if len(text) <= EXAMPLE_LENGTH else text[:EXAMPLE_LENGTH] + " […]"


def given_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> list[argparse.Action]:
    """Options whose value is not their default."""
    values = ((action, getattr(args, action.dest, None)) for action in parser._actions)
    return [action for action, value in values if value is not None and value != action.default]


def command_line(parser: argparse.ArgumentParser, args: argparse.Namespace) -> str:
    """
    The command that is running, as it would be given from the project's folder on any machine.

    Args:
        parser (`argparse.ArgumentParser`):
            Parser of the script.
        args (`argparse.Namespace`):
            What it made of the command line.

    Returns:
        `str`: the options that differ from their defaults and decide the rows, in the order of `--help`. Files inside the project are
        named from there, others and the folder to write by their last part.
    """
    script = Path(sys.argv[0]).resolve()
    words = ["python", f"{script.parent.name}/{script.name}"]
    for action in given_options(parser, args):
        value = getattr(args, action.dest)
        if action.dest in PRIVATE_OPTIONS:
            continue
        values = value if isinstance(value, list) else [value]
        words += action.option_strings[-1:]
        if action.dest in OUTPUT_OPTIONS:
            words.append(Path(value).resolve().name)
        elif value is not True:
            words += [_portable(str(value), script.parents[1]) for value in values]
    return shlex.join(words)


def _portable(word: str, root: Path) -> str:
    path = Path(word)
    if not (path.is_absolute() or path.exists() or word.startswith(".")):
        return word  # a number, or a name on the Hub
    path = path.resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def source_files(source: str | Path) -> list[Path]:
    """The data files of a folder, or a file itself."""
    path = Path(source)
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return [file for file in files if file.name.endswith(DATA_ENDINGS)] if path.is_dir() else files


def describe_source(source: str, revision: str | None = None) -> tuple[str, str]:
    """
    Where rows come from, in words that hold on every machine.

    Args:
        source (`str`):
            File, folder, or id of a dataset on the Hub.
        revision (`str`, *optional*):
            Revision of a dataset on the Hub.

    Returns:
        `tuple[str, str]`: description with revision or checksums, and the licence as the Hub names it.
    """
    path = Path(source)
    if not path.exists():
        licence = "apache-2.0" if source in APACHE_SOURCES else "other"
        words = "Apache-2.0" if source in APACHE_SOURCES else "that of the source"
        return f"`{source}` on the Hub, revision `{revision or 'main'}`; licence: {words}", licence
    checksums = ", ".join(
        f"`{file.relative_to(path).as_posix() if path.is_dir() else file.name}` (SHA-256 `{sha256_of(file)}`)"
        for file in source_files(path)
    )
    return f"local files: {checksums}; licence: that of the source", "other"
