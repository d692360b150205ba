"""
Preference pairs from people's ratings of answers.

People saw the answers of several systems to the same prompt, named the best one or scored each: on the page of scripts/rate.py, in
scripts/chat.py, or elsewhere. docs/ratings.md explains the format.

    python data_builders/ratings_ru.py --source exports/ratings.jsonl
    python data_builders/ratings_ru.py --source exports --min_raters 2 --min_agreement 0.75
    python data_builders/ratings_ru.py --source march.jsonl april.jsonl --by totals --output_dir data/totals_ru

The same judgements, options and seed give the same dataset. If the dataset already exists, it is left as it is.
"""

import argparse
from functools import partial

from preferans.data.build_options import add_output_arguments, parse
from preferans.errors import PreferansError, help_first, run

VOTES = {
    "verdict": "A rater votes for the answer named best, against every other answer shown beside it; a tie is a vote for neither. A rater "
    "without such a judgement who gave one answer a thumb up and the other a thumb down votes for the former.",
    "totals": "A rater who gave both answers all five scores, from 1 to 5 each, votes for the one with the higher sum; equal sums are a "
    "vote for neither.",
}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--source", nargs="+", required=True, help="files of ratings (.jsonl, .csv, .parquet), or folders of them")
    add(
        "--by",
        choices=VOTES,
        default="verdict",
        help="verdict: a rater votes for the answer named best, against every other one shown beside it; totals: for the answer with the "
        "higher sum of the five scores (default: %(default)s)",
    )
    add(
        "--min_margin",
        type=float,
        help="minimum difference of the totals (5 to 25) of chosen and rejected, mean over the raters who scored both (default: 1 with "
        "totals; no minimum with verdict)",
    )
    add("--min_raters", type=int, default=1, help="minimum number of raters who vote on a pair (default: %(default)s)")
    add(
        "--min_agreement",
        type=float,
        default=0.6,
        help="minimum share of the votes, from 0 to 1 and including ties, that go to chosen; more than half is always needed (default: "
        "%(default)s)",
    )
    add("--lang", default="ru", help="language tag of the pairs (default: %(default)s)")
    add_output_arguments(parser, "data/ratings_ru")
    return parser


PARSER = make_parser()
help_first(PARSER)

import polars as pl

from preferans.data.build import REMOVED, SPLIT_RULE, check_output_arguments, finish_dataset, print_counts, split_pairs
from preferans.data.card import CardContent, dataset_card
from preferans.data.ratings import (
    CRITERIA,
    OUTCOMES,
    VotingRule,
    build_rating_pairs,
    export_files,
    mean_scores,
    read_ratings,
)
from preferans.files import sha256_of
from preferans.release.bundle import push_dataset
from preferans.release.hub import check_can_push

RULE = """Of the judgements by one rater of the same answers to the same prompt, the last one counts. Each two answers to a prompt are put to
the vote, one vote per rater. {vote} If at least `min_raters` raters vote, the answer with more than half of the votes, and with at least the
share `min_agreement` of them, becomes `chosen` and the other one `rejected`{margin}. {split_rule}"""
MARGIN = ", if the mean difference of their sums of scores, over the raters who scored both, is at least `min_margin`"
SCORES = "Mean scores, over the answers that a rater gave all five:"
# What to change if an outcome took all pairs away.
REMEDIES = {
    "not_judged": "for pairs not judged, use --by {other} if the raters gave {needed}",
    "too_few_raters": "for too few raters, lower --min_raters or collect more judgements",
    "raters_disagree": "for raters who disagree, lower --min_agreement (more than half is always needed) or add another rater",
    "margin": "for a margin too small, lower --min_margin or, with --by verdict, leave it out",
}


def check_arguments(args: argparse.Namespace) -> None:
    if args.min_margin is not None and not 0 <= args.min_margin <= 20:
        raise PreferansError(
            f"--min_margin {args.min_margin}: it must be from 0 to 20, because totals are from 5 to 25; try 1."
        )
    if args.min_raters < 1:
        raise PreferansError(f"--min_raters {args.min_raters}: it must be at least 1.")
    if not 0 <= args.min_agreement <= 1:
        raise PreferansError(f"--min_agreement {args.min_agreement}: it must be a share from 0 to 1, such as 0.6.")
    check_output_arguments(args)
    if args.push_to_hub:
        check_can_push(args.repo_id)


def main() -> None:
    args = parse(PARSER)
    check_arguments(args)
    rule = VotingRule(args.by, args.min_margin, args.min_raters, args.min_agreement, args.lang)
    files = export_files(args.source)
    judgements = read_ratings(files)
    pairs, counts = build_rating_pairs(judgements, rule)
    table = score_table(mean_scores(judgements))
    checksums = ", ".join(f"`{file.name}` (SHA-256 `{sha256_of(file)}`)" for file in files)
    source = f"local files: {checksums}; licence: that of the source"

    print(f"Source: {source}.")
    print("Rule: " + ", ".join(f"{key} {value}" for key, value in vars(rule).items()) + ".")
    print_results(counts, table)
    if not len(pairs):
        raise PreferansError(no_pair(args, counts["outcomes"]))
    splits, counts["near_duplicates"] = split_pairs(pairs, args)
    kept = sum(map(len, splits.values()))
    print(f"Pairs {REMOVED}: {counts['near_duplicates']:,}; kept: {kept:,}.")
    finish_dataset(splits, args, partial(card, args, rule, source, counts, table))
    if args.push_to_hub:
        push_dataset(args.output_dir, args.repo_id)


def score_table(scores: dict) -> list[list[str]]:
    """Mean scores as cells, with a header; empty if there are none."""
    columns = (*CRITERIA, "total")
    rows = [[model, f"{row['answers']:,}", *(f"{row[name]:.2f}" for name in columns)] for model, row in scores.items()]
    return [["system", "scored", *columns], *rows] if rows else []


def print_results(counts: dict, table: list[list[str]]) -> None:
    print(
        f"Judgements read: {counts['judgements']:,}, of which {counts['replaced']:,} replaced by a later one; {counts['skipped']:,} of the "
        f"others without a verdict. Raters: {counts['raters']:,}; prompts: {counts['prompts']:,}."
    )
    print(f"Pairs of answers: {sum(counts['outcomes'].values()):,}:")
    print_counts(OUTCOMES, counts["outcomes"])
    agreement = "not known, because no two raters voted on the same pair of answers"
    if counts["shared"]:
        agreement = (
            f"{counts['unanimous'] / counts['shared']:.0%} (all votes the same on {counts['unanimous']:,} of the {counts['shared']:,} pairs "
            "of answers with two or more raters)"
        )
    print(f"Agreement between raters: {agreement}.")
    print(SCORES if table else "Mean scores: no answer has all five.")
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for model, *values in table:
        cells = (f"{value:>{width}}" for value, width in zip(values, widths[1:], strict=True))
        print(f"  {model:<{widths[0]}}  " + "  ".join(cells))


def no_pair(args: argparse.Namespace, outcomes: dict) -> str:
    """Explain why there is no pair, and what to change."""
    present = {outcome: number for outcome, number in outcomes.items() if number}
    reasons = "; ".join(f"{OUTCOMES[outcome]}: {number:,}" for outcome, number in present.items())
    other, needed = ("totals", "all five scores") if args.by == "verdict" else ("verdict", "verdicts")
    remedies = [REMEDIES[outcome].format(other=other, needed=needed) for outcome in present if outcome in REMEDIES]
    cure = "; ".join(remedies) or "no option changes that: collect more judgements"
    return (
        f"--source {' '.join(args.source)}: no pair is left of {sum(present.values()):,} pairs of answers ({reasons}). "
        f"{cure[0].upper()}{cure[1:]}."
    )


def card(
    args: argparse.Namespace, rule: VotingRule, source: str, counts: dict, table: list, splits: dict[str, pl.DataFrame]
) -> str:
    """Write the dataset's `README.md`. It names no rater."""
    lines = [[cell.replace("|", "&#124;") for cell in line] for line in table]
    lines[1:1] = [["---", *["---:"] * (len(line) - 1)] for line in lines[:1]]
    kept = sum(map(len, splits.values()))
    content = CardContent(
        title="Preference pairs from people's ratings",
        summary=f"{kept:,} pairs of answers to the same prompt that people compared: `chosen` is the one that they found better.",
        rule=RULE.format(split_rule=SPLIT_RULE, vote=VOTES[rule.by], margin="" if rule.min_margin is None else MARGIN),
        language=args.lang,
        licence="other",
        tags=["human-feedback"],
        source=source,
        command=args.command,
        options=vars(rule) | {"test_size": args.test_size, "seed": args.seed, "format": args.format},
        counts={
            "judgements": [
                ("read", counts["judgements"]),
                ("replaced by a later one of the same rater", counts["replaced"]),
                ("of the others, without a verdict", counts["skipped"]),
                ("raters", counts["raters"]),
                ("prompts", counts["prompts"]),
            ],
            "pairs of answers": [
                ("considered", sum(counts["outcomes"].values())),
                *((words, counts["outcomes"][outcome]) for outcome, words in OUTCOMES.items()),
                (REMOVED, counts["near_duplicates"]),
                ("kept", kept),
                ("with votes of two or more raters", counts["shared"]),
                ("of these, with all votes the same", counts["unanimous"]),
            ],
        },
        notes="\n".join([f"## Scores\n\n{SCORES}\n", *(f"| {' | '.join(line)} |" for line in lines)]) if table else "",
    )
    return dataset_card(content, splits)


if __name__ == "__main__":
    run(main)
