"""Write the card of a dataset: its rule, its counts, and how to build it again."""

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from huggingface_hub import DatasetCardData
from jinja2 import Environment, PackageLoader

from ..text.language import foreign_words, is_russian, loops
from .preferences import fingerprint
from .tables import answer_texts, length_table

SIZES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (float("inf"), "n>1M"))
QUALITY_ROWS = 2_000
EXAMPLES, EXAMPLE_LENGTH = 3, 600


@dataclass
class CardContent:
    """
    What a dataset's card states, apart from the rows.

    Args:
        title (`str`), summary (`str`), rule (`str`): Heading, first paragraph, and how a pair is made; Markdown.
        language (`str`): Language tag, such as `"ru"`.
        source (`str`), licence (`str`): See [`~preferans.data.source.describe_source`].
        options (`dict`): Options that affect the rows.
        command (`str`): See [`~preferans.data.build_options.command_line`].
        counts (`dict[str, Sequence[tuple]]`): Tables of counts: heading, then (label, value).
        tags (`Sequence[str]`, *optional*): Tags in addition to those of every preference dataset.
        notes (`str`, *optional*): Markdown after the table of lengths.
        repeatable (`str`, *optional*): Conditions under which the fingerprint is the same again.
    """

    title: str
    summary: str
    rule: str
    language: str
    source: str
    licence: str
    options: dict[str, Any]
    command: str
    counts: Mapping[str, Sequence[tuple[str, int | float | str]]]
    tags: Sequence[str] = ()
    notes: str = ""
    repeatable: str = "the same source, options and seed give the same on every machine"


def dataset_card(content: CardContent, splits: dict[str, pl.DataFrame]) -> str:
    """
    Write a dataset's `README.md`.

    Args:
        content ([`CardContent`]): What the card states.
        splits (`dict[str, pl.DataFrame]`): Preference rows by split, as they are written.

    Returns:
        `str`: YAML metadata for the Hub, and Markdown. The same content and rows always give the same card: it has no dates, machine names
        or folders.
    """
    pairs = pl.concat(splits.values())
    environment = Environment(
        loader=PackageLoader("preferans", "data"), trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    tags = ["preference", "dpo", "preferans", *content.tags]
    return environment.get_template("dataset_card.md.jinja").render(
        **vars(content),
        head=card_head(content.title, splits, content.language, content.licence, tags),
        sizes=", ".join(f"{len(rows):,} in `{name}`" for name, rows in splits.items()),
        separate=len(splits) > 1,
        fingerprint=fingerprint({name: rows.iter_rows(named=True) for name, rows in splits.items()}),
        lengths=length_table(pairs),
        quality=quality_table(pairs),
        examples=[_example(row) for row in _evenly_spread(pairs, EXAMPLES).iter_rows(named=True)],
    )


def counted(prefix: str, reasons: dict[str, str], counts: dict[str, int]) -> list[tuple[str, int]]:
    """Return the rows of a table of counts: `prefix` and the words of each reason, and its count."""
    return [(f"{prefix}: {words}", counts[reason]) for reason, words in reasons.items()]


def card_head(title: str, splits: dict[str, pl.DataFrame], language: str, licence: str, tags: Sequence[str]) -> str:
    """Write the YAML metadata at the beginning of a dataset's card, as the Hub reads it."""
    rows = sum(map(len, splits.values()))
    files = [{"split": name, "path": f"data/{name}-*"} for name in splits]
    data = DatasetCardData(
        pretty_name=title,
        language=[re.split("[-_]", language)[0]],
        license=licence,
        **({"license_name": "that-of-the-source"} if licence == "other" else {}),
        task_categories=["text-generation"],
        tags=list(tags),
        size_categories=[next(label for limit, label in SIZES if rows < limit)],
        configs=[{"config_name": "default", "data_files": files}],
    )
    return f"---\n{data.to_yaml().strip()}\n---"


def quality_table(rows: pl.DataFrame) -> dict[str, dict[str, float]]:
    """
    Measure the answers as Russian text.

    Args:
        rows (`pl.DataFrame`): Preference rows. At most `QUALITY_ROWS` are measured, evenly spread.

    Returns:
        `dict[str, dict[str, float]]`: for `chosen` and `rejected`, the mean number of `words`, and the shares, from 0 to 1, of answers that
        are in Russian (`in_russian`), have an intruding foreign word (`foreign_words`), or loop (`loops`).
    """
    rows = _evenly_spread(rows, QUALITY_ROWS)
    prompts = [prompt if isinstance(prompt, str) else prompt[-1]["content"] for prompt in rows["prompt"].to_list()]
    table = {}
    for column in ("chosen", "rejected"):
        texts = answer_texts(column, rows).to_list()
        mixed = [bool(foreign_words(text, prompt)) for text, prompt in zip(texts, prompts, strict=True)]
        table[column] = {
            "words": statistics.fmean(len(text.split()) for text in texts),
            "in_russian": statistics.fmean(map(is_russian, texts)),
            "foreign_words": statistics.fmean(mixed),
            "loops": statistics.fmean(map(loops, texts)),
        }
    return table


def _evenly_spread(rows: pl.DataFrame, number: int) -> pl.DataFrame:
    return rows if len(rows) <= number else rows[[i * len(rows) // number for i in range(number)]]


def _example(row: dict) -> str:
    shown = {"id": row["id"]} | {column: _shortened(row[column]) for column in ("prompt", "chosen", "rejected")}
    return json.dumps(shown, ensure_ascii=False, indent=1)


def _shortened(text: str | list[dict]) -> str | list[dict]:
    if not isinstance(text, str):
        return [message | {"content": _shortened(message["content"])} for message in text]
    return text if len(text) <= EXAMPLE_LENGTH else text[:EXAMPLE_LENGTH] + " […]"
