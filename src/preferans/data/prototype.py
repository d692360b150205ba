"""The first notebook's table, for reproducing old figures."""

import argparse
import re
from collections.abc import Iterable

import polars as pl

from ..errors import PreferansError
from .card import card_head
from .oasst_source import read_rows
from .preferences import fingerprint
from .source import describe_source
from .tables import write_dataset

CARD = """{head}
# The first notebook's table

Every opening prompt tagged `{lang}` in `text`, beside each of its replies in `answer` (null for a prompt without a reply): a left join on
`parent_id` within each split of the source, with nothing filtered. For reproducing old figures; to train, build pairs.

{sizes}.

- Source: {source}.
- Command to build it again: `{command}`
- fingerprint: `{fingerprint}`
"""


def build_prototype(args: argparse.Namespace) -> None:
    """
    Write the first notebook's table with its card.

    Args:
        args (`argparse.Namespace`): `source`, `revision`, `lang`, `output_dir`, and `command` for the card.

    Raises:
        [`PreferansError`]: if no opening prompt has the language.
    """
    splits = prototype_tables(read_rows(args.source, args.revision), args.lang)
    if not splits:
        raise PreferansError(f"--source {args.source}: no opening prompt has the language --lang {args.lang}.")
    source, licence = describe_source(args.source, args.revision)
    sizes = ", ".join(f"{len(rows):,} rows in `{name}`" for name, rows in splits.items())
    card = CARD.format(
        head=card_head("The first notebook's table", splits, args.lang, licence, ["preferans"]),
        lang=args.lang,
        sizes=sizes,
        source=source,
        command=args.command,
        fingerprint=fingerprint({name: rows.iter_rows(named=True) for name, rows in splits.items()}),
    )
    new = write_dataset(args.output_dir, splits, card)
    print(f"{'Written to' if new else 'The table is already in'} {args.output_dir}: {sizes}.")


def prototype_tables(batches: Iterable[pl.DataFrame], lang: str) -> dict[str, pl.DataFrame]:
    """
    Build the first notebook's table: every opening prompt of a language beside each of its replies, with nothing filtered.

    Args:
        batches (`Iterable[pl.DataFrame]`): Rows, see [`~preferans.data.oasst_source.read_rows`].
        lang (`str`): Language tag of the prompts.

    Returns:
        `dict[str, pl.DataFrame]`: for each split of the source (for files, by their names) a table with `text` and `answer`; a prompt
        without a reply has one row with a null answer.
    """
    parts: dict[str, list[pl.DataFrame]] = {}
    for batch in batches:
        named = re.search(r"(?<![a-z])(validation|test)(?![a-z])", batch["origin"][0].lower())
        split = named[1] if named else "train"
        parts.setdefault(split, []).append(batch.select("message_id", "parent_id", "text", "lang"))
    tables = {}
    for split, batches_of_split in parts.items():
        rows = pl.concat(batches_of_split)
        prompts = rows.filter((pl.col("lang") == lang) & pl.col("parent_id").is_null())
        replies = rows.select(message_id="parent_id", answer="text")
        table = prompts.join(replies, on="message_id", how="left", maintain_order="left_right")
        if len(table):
            tables[split] = table.select("text", "answer")
    return tables
