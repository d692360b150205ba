"""
Russian preference pairs from OpenAssistant conversation trees.

People wrote several replies to the same prompt and ranked them: the better one becomes `chosen`, the worse one `rejected`.

    python data_builders/oasst1_ru.py --output_dir data/oasst1_ru
    python data_builders/oasst1_ru.py --source samples/oasst1_ru_sample.jsonl --turns all --output_dir data/oasst1_ru_sample
    python data_builders/oasst1_ru.py --max_length_ratio 1.5 --keep_long_prob 0.3 --output_dir data/oasst1_ru_even
    python data_builders/oasst1_ru.py --output_dir data/oasst1_ru --push_to_hub --repo_id YOU/oasst1-ru-preferences

The same source, options and seed give the same dataset; a dataset that is already there is left as it is.
"""

import argparse
from pathlib import Path

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
        help="preference: pairs; prototype: the first notebook's table, every opening prompt beside each of its replies, as "
        "text and answer, unfiltered and split as the source is (default: %(default)s)",
    )
    add(
        "--pairing",
        choices=PAIRINGS,
        default="best_worst",
        help="which replies of a prompt to pair (default: %(default)s)",
    )
    add(
        "--max_length_ratio",
        type=float,
        help="a chosen more than so many times as long as its rejected is kept with --keep_long_prob only: people rank long "
        "answers higher, and a model that learns this learns to be long",
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
        help="keep a pair only if the quality label of chosen, from 0 to 1, exceeds that of rejected by at least so much; in oasst1 "
        "0.1 costs about half of the pairs",
    )
    add("--num_proc", type=int, default=1, help="processes for a source of over a million rows (default: %(default)s)")
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
from preferans.data.card import card_head, counted, dataset_card
from preferans.data.oasst import (
    PAIR_DROP_REASONS,
    ROW_DROP_REASONS,
    account,
    build_oasst_pairs,
    in_processes,
    prototype_tables,
)
from preferans.data.oasst_source import read_rows
from preferans.data.preferences import fingerprint
from preferans.data.source import describe_source
from preferans.data.tables import write_dataset
from preferans.release.bundle import push_dataset
from preferans.release.hub import check_can_push

RULE = """Every row is indexed and repeated ids are dropped before anything is filtered. A prompt counts when it and all messages before it
are in the language (by their tag and, for `ru`, by most of their letters), not deleted, approved by reviewers, not synthetic, belong
to one finished tree, and prompts and replies alternate. A reply counts when the same holds for it and it has a rank. {turns}
{pairing} Of equal ranks the reply that stands earlier in the source counts as better, but replies with the same rank or the same text
make no pair, nor does a `chosen` that begins with the prompt. {split_rule}"""
RULE_TURNS = {
    "first": "Only prompts that open a conversation are taken.",
    "all": "Every prompt is taken, with the conversation before it.",
}
RULE_PAIRINGS = {
    "best_worst": "The reply with the lowest rank is paired with that of the highest.",
    "adjacent": "Each reply is paired with the next one in rank order.",
    "all": "Each reply is paired with every reply ranked below it.",
}
# What the prototype's table has no use for.
PAIR_OPTIONS = (
    "turns",
    "pairing",
    "max_length_ratio",
    "keep_long_prob",
    "min_quality_margin",
    "normalize_persona",
    "format",
    "num_proc",
)


def check_arguments(args: argparse.Namespace) -> None:
    if args.max_length_ratio is not None and not args.max_length_ratio > 0:
        raise PreferansError(f"--max_length_ratio {args.max_length_ratio}: it must be above 0, such as 1.5.")
    if not 0 <= args.keep_long_prob <= 1:
        raise PreferansError(f"--keep_long_prob {args.keep_long_prob}: it is a probability, from 0 to 1.")
    if args.keep_long_prob and args.max_length_ratio is None:
        raise PreferansError("--keep_long_prob says how many long pairs to keep: add --max_length_ratio, such as 1.5.")
    if args.min_quality_margin is not None and not -1 <= args.min_quality_margin <= 1:
        raise PreferansError(f"--min_quality_margin {args.min_quality_margin}: quality lies from 0 to 1; try 0.1.")
    if args.num_proc < 1:
        raise PreferansError(f"--num_proc {args.num_proc}: it must be at least 1.")
    if args.layout == "prototype":
        given = [name for name in PAIR_OPTIONS if name in args.given]
        if given:
            raise PreferansError(f"--layout prototype is one fixed table: leave out --{', --'.join(given)}.")
    check_output_arguments(args)
    if args.push_to_hub:
        check_can_push(args.repo_id)


def card(args: argparse.Namespace, rule: PairingRule, source: str, licence: str, counts: dict, splits: dict) -> str:
    """The dataset's `README.md`."""
    notes = ""
    if rule.max_length_ratio is not None:
        notes = (
            f"Before pairs with a chosen more than {rule.max_length_ratio:g} times as long as the rejected were thinned out to "
            f"{rule.keep_long_prob:.0%}, `chosen` was the longer one in {counts['chosen_longer'] / counts['compared']:.0%}."
        )
    return dataset_card(
        "Preference pairs from ranked conversations",
        f"{counts['pairs']:,} pairs of replies that people wrote to the same prompt and ranked: `chosen` has the better rank, "
        "`rejected` the worse one.",
        RULE.format(split_rule=SPLIT_RULE, turns=RULE_TURNS[rule.turns], pairing=RULE_PAIRINGS[rule.pairing]),
        splits,
        language=args.lang,
        licence=licence,
        tags=["human-feedback"],
        source=source,
        command=args.command,
        options=vars(rule) | {"test_size": args.test_size, "format": args.format},
        counts={
            "rows": [
                ("read", counts["rows"]),
                ("standing in a pair or in its prompt", counts["used"]),
                ("sound, but in no pair", counts["unpaired"]),
                *counted("fell out", ROW_DROP_REASONS, counts["dropped"]),
            ],
            "pairs": [
                ("prompts that count", counts["prompts"]),
                ("prompts with a pair", counts["prompts_with_pairs"]),
                ("pairs that the ranks make", counts["ranked_pairs"]),
                *counted("not kept", PAIR_DROP_REASONS, counts["pairs_dropped"]),
                ("kept", counts["pairs"]),
            ],
        },
        notes=notes,
    )


PROTOTYPE_CARD = """{head}
# The first notebook's table

Every opening prompt tagged `{lang}` in `text`, beside each of its replies in `answer` (null where it has none): a left join on
`parent_id` within each split of the source, with nothing filtered. For reproducing old figures; to train, build pairs.

{sizes}.

- Source: {source}.
- Command to build it again: `{command}`
- fingerprint: `{fingerprint}`
"""


def build_prototype(args: argparse.Namespace) -> None:
    """Write the first notebook's table."""
    splits = prototype_tables(read_rows(args.source, args.revision), args.lang)
    if not splits:
        raise PreferansError(f"--source {args.source}: no opening prompt has the language --lang {args.lang}.")
    source, licence = describe_source(args.source, args.revision)
    sizes = ", ".join(f"{len(rows):,} rows in `{name}`" for name, rows in splits.items())
    made = PROTOTYPE_CARD.format(
        head=card_head("The first notebook's table", splits, args.lang, licence, ["preferans"]),
        lang=args.lang,
        sizes=sizes,
        source=source,
        command=args.command,
        fingerprint=fingerprint({name: rows.iter_rows(named=True) for name, rows in splits.items()}),
    )
    new = write_dataset(args.output_dir, splits, made)
    print(f"{'Written to' if new else 'The table is already in'} {args.output_dir}: {sizes}.")
    if args.push_to_hub:
        push_dataset(args.output_dir, args.repo_id)


def main() -> None:
    args = parse(PARSER)
    check_arguments(args)
    pin_revision(args)
    if args.layout == "prototype":
        build_prototype(args)
        return

    names = (
        "lang",
        "turns",
        "pairing",
        "min_quality_margin",
        "normalize_persona",
        "max_length_ratio",
        "keep_long_prob",
        "seed",
    )
    rule = PairingRule(**{name: getattr(args, name) for name in names})
    batches = read_rows(args.source, args.revision, labels=rule.min_quality_margin is not None)
    output = Path(args.output_dir).resolve()
    pairs, counts = build_oasst_pairs(
        batches, rule, output.with_name(f".{output.name}.shards"), in_processes(args.num_proc)
    )
    source, licence = describe_source(args.source, args.revision)
    print(f"Source: {source}.")
    print("Rule: " + ", ".join(f"{key} {value}" for key, value in vars(rule).items()) + ".")
    splits = {}
    if len(pairs):
        splits, counts["pairs_dropped"]["near_duplicate"] = split_pairs(pairs, args)
        del pairs  # the splits are a copy
    counts = account(counts, pl.concat(splits.values()) if splits else pairs)
    print_all(counts)
    if not splits:
        raise PreferansError(
            f"--source {args.source}: no pair is left for --lang {args.lang}. "
            f"Its languages are {', '.join(counts['langs'])}."
        )
    splits = {name: rows.drop("rows") for name, rows in splits.items()}
    finish_dataset(splits, args, lambda made: card(args, rule, source, licence, counts, made))
    if args.push_to_hub:
        push_dataset(args.output_dir, args.repo_id)


def print_all(counts: dict) -> None:
    print(
        f"Rows read: {counts['rows']:,}. In a pair or its prompt: {counts['used']:,}; sound, but in none: "
        f"{counts['unpaired']:,}; fell out:"
    )
    print_counts(ROW_DROP_REASONS, counts["dropped"])
    print(f"Pairs that the ranks make: {counts['ranked_pairs']:,}; not kept:")
    print_counts(PAIR_DROP_REASONS, counts["pairs_dropped"])
    print(
        f"Prompts: {counts['prompts']:,}, of which {counts['prompts_with_pairs']:,} have a pair. Pairs: {counts['pairs']:,}."
    )


if __name__ == "__main__":
    run(main)
