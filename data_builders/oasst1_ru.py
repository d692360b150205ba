"""
Russian preference pairs from OpenAssistant conversation trees.

People wrote several replies to the same prompt and ranked them: the better one becomes `chosen`, the worse one `rejected`.

    python data_builders/oasst1_ru.py --output_dir data/oasst1_ru
    python data_builders/oasst1_ru.py --source samples/oasst1_ru_sample.jsonl --turns all --output_dir data/oasst1_ru_sample
    python data_builders/oasst1_ru.py --max_length_ratio 1.5 --keep_long_prob 0.3 --output_dir data/oasst1_ru_even
    python data_builders/oasst1_ru.py --output_dir data/oasst1_ru --push_to_hub --repo_id YOU/oasst1-ru-preferences

The same source, options and seed give the same dataset. If the dataset already exists, it is left as it is.
"""

import argparse
from dataclasses import fields
from functools import partial

from preferans.data.build_options import add_oasst_arguments, add_output_arguments, parse
from preferans.data.oasst_rule import PAIRINGS, PairingRule
from preferans.errors import PreferansError, help_first, run


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add_oasst_arguments(parser)
    add(
        "--layout",
        choices=("preference", "prototype"),
        default="preference",
        help="preference: pairs; prototype: the first notebook's table, every opening prompt beside each of its replies, as text and "
        "answer, unfiltered and with the source's splits (default: %(default)s)",
    )
    add(
        "--pairing",
        choices=PAIRINGS,
        default="best_worst",
        help="which replies to a prompt to pair (default: %(default)s)",
    )
    add(
        "--max_length_ratio",
        type=float,
        help="keep a pair whose chosen is more than this many times as long as its rejected with --keep_long_prob only: people rank "
        "long answers higher, and the model would learn to write long answers",
    )
    add(
        "--keep_long_prob",
        type=float,
        default=0.0,
        help="probability from 0 to 1 of keeping such a pair, drawn with --seed (default: %(default)s)",
    )
    add(
        "--min_quality_margin",
        type=float,
        help="keep a pair only if the quality label of chosen, from 0 to 1, exceeds that of rejected by at least this much; in oasst1, "
        "0.1 costs about half of the pairs",
    )
    add_output_arguments(parser, "data/oasst1_ru")
    return parser


PARSER = make_parser()
help_first(PARSER)

import polars as pl

from preferans.data.build import (
    SPLIT_RULE,
    check_output_arguments,
    finish_dataset,
    pin_revision,
    print_counts,
    split_pairs,
)
from preferans.data.card import CardContent, counted, dataset_card
from preferans.data.oasst import PAIR_DROP_REASONS, account, build_oasst_pairs
from preferans.data.oasst_source import read_rows
from preferans.data.oasst_trees import ROW_DROP_REASONS
from preferans.data.prototype import build_prototype
from preferans.data.source import describe_source
from preferans.release.bundle import push_dataset
from preferans.release.hub import check_can_push

RULE = """Repeated ids are dropped before anything is filtered. A prompt counts if it and all messages before it are in the language (by their
tag and, for `ru`, by most of their letters), not deleted, approved by reviewers, not synthetic, and in one finished tree, and if prompts and
replies alternate. A reply counts under the same conditions, if it has a rank. {turns} {pairing} Of equal ranks, the reply that comes earlier
in the source counts as better, but replies with the same rank or the same text make no pair, nor does a `chosen` that begins with the prompt.
{split_rule}"""
RULE_TURNS = {
    "first": "Only prompts that open a conversation are used.",
    "all": "Every prompt is used, with the conversation before it.",
}
RULE_PAIRINGS = {
    "best_worst": "The reply with the lowest rank is paired with the reply with the highest.",
    "adjacent": "Each reply is paired with the next one in rank order.",
    "all": "Each reply is paired with every reply ranked below it.",
}
# Options that do not apply to the first notebook's table.
PAIR_OPTIONS = {field.name for field in fields(PairingRule)} - {"lang", "seed"} | {"format"}


def check_arguments(args: argparse.Namespace) -> None:
    if args.max_length_ratio is not None and not args.max_length_ratio > 0:
        raise PreferansError(f"--max_length_ratio {args.max_length_ratio}: it must be above 0, such as 1.5.")
    if not 0 <= args.keep_long_prob <= 1:
        raise PreferansError(f"--keep_long_prob {args.keep_long_prob}: it must be a probability, from 0 to 1.")
    if args.keep_long_prob and args.max_length_ratio is None:
        raise PreferansError("--keep_long_prob applies to long pairs only: add --max_length_ratio, such as 1.5.")
    if args.min_quality_margin is not None and not -1 <= args.min_quality_margin <= 1:
        raise PreferansError(f"--min_quality_margin {args.min_quality_margin}: quality is from 0 to 1; try 0.1.")
    unused = [name for name in args.given if name in PAIR_OPTIONS]
    if args.layout == "prototype" and unused:
        raise PreferansError(f"--layout prototype is a fixed table: leave out --{', --'.join(unused)}.")
    check_output_arguments(args)
    if args.push_to_hub:
        check_can_push(args.repo_id)


def card(args: argparse.Namespace, rule: PairingRule, counts: dict, splits: dict[str, pl.DataFrame]) -> str:
    """Write the dataset's `README.md`."""
    source, licence = describe_source(args.source, args.revision)
    notes = ""
    if rule.max_length_ratio is not None:
        notes = (
            f"Of pairs with a chosen more than {rule.max_length_ratio:g} times as long as the rejected, {rule.keep_long_prob:.0%} were kept. "
            f"Before that, `chosen` was longer in {counts['chosen_longer'] / counts['compared']:.0%} of all pairs."
        )
    content = CardContent(
        title="Preference pairs from ranked conversations",
        summary=(
            f"{counts['pairs']:,} pairs of replies that people wrote to the same prompt and ranked: `chosen` has the better rank, "
            "`rejected` the worse one."
        ),
        rule=RULE.format(split_rule=SPLIT_RULE, turns=RULE_TURNS[rule.turns], pairing=RULE_PAIRINGS[rule.pairing]),
        language=args.lang,
        licence=licence,
        tags=["human-feedback"],
        source=source,
        command=args.command,
        options=vars(rule) | {"test_size": args.test_size, "format": args.format},
        counts={
            "rows": [
                ("read", counts["rows"]),
                ("in a pair or its prompt", counts["used"]),
                ("valid, but in no pair", counts["unpaired"]),
                *counted("dropped", ROW_DROP_REASONS, counts["dropped"]),
            ],
            "pairs": [
                ("prompts that count", counts["prompts"]),
                ("prompts with a pair", counts["prompts_with_pairs"]),
                ("pairs by rank", counts["ranked_pairs"]),
                *counted("dropped", PAIR_DROP_REASONS, counts["pairs_dropped"]),
                ("kept", counts["pairs"]),
            ],
        },
        notes=notes,
    )
    return dataset_card(content, splits)


def build_pairs(args: argparse.Namespace) -> None:
    rule = PairingRule(**{field.name: getattr(args, field.name) for field in fields(PairingRule)})
    labels = rule.min_quality_margin is not None
    pairs, counts = build_oasst_pairs(partial(read_rows, args.source, args.revision, labels), rule)
    print(f"Source: {describe_source(args.source, args.revision)[0]}.")
    print("Rule: " + ", ".join(f"{key} {value}" for key, value in vars(rule).items()) + ".")
    splits: dict[str, pl.DataFrame] = {}
    if len(pairs):
        splits, counts["pairs_dropped"]["near_duplicate"] = split_pairs(pairs, args)
        pairs = pl.concat(splits.values())
    counts = account(counts, pairs)
    print(
        f"Rows read: {counts['rows']:,}. In a pair or its prompt: {counts['used']:,}; valid, but in no pair: {counts['unpaired']:,}; dropped:"
    )
    print_counts(ROW_DROP_REASONS, counts["dropped"])
    print(f"Pairs by rank: {counts['ranked_pairs']:,}; dropped:")
    print_counts(PAIR_DROP_REASONS, counts["pairs_dropped"])
    print(
        f"Prompts: {counts['prompts']:,}, of which {counts['prompts_with_pairs']:,} have a pair. Pairs: {counts['pairs']:,}."
    )
    if not splits:
        raise PreferansError(
            f"--source {args.source}: no pair is left for --lang {args.lang}. Its languages are {', '.join(counts['langs'])}."
        )
    splits = {name: rows.drop("rows") for name, rows in splits.items()}
    finish_dataset(splits, args, partial(card, args, rule, counts))


def main() -> None:
    args = parse(PARSER)
    check_arguments(args)
    pin_revision(args)
    if args.layout == "prototype":
        build_prototype(args)
    else:
        build_pairs(args)
    if args.push_to_hub:
        push_dataset(args.output_dir, args.repo_id)


if __name__ == "__main__":
    run(main)
