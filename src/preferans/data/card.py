"""The card of a dataset: what it is, by which rule it was made, what was left out, and how to make it again."""

import json
import re
import statistics
from collections.abc import Sequence

import polars as pl
from huggingface_hub import DatasetCardData
from jinja2 import Environment, PackageLoader

from ..text.language import foreign_words, is_russian, loops
from .preferences import fingerprint
from .tables import answer_texts, length_table

SIZES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (float("inf"), "n>1M"))
QUALITY_ROWS = 2_000
EXAMPLES, EXAMPLE_LENGTH = 3, 600


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
        loader=PackageLoader("preferans", "data"), trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
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
        texts = answer_texts(column, rows).to_list()
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
