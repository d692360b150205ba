"""
Preference pairs of a model's own answers: of several answers to a prompt, a better one against a worse one.

    python scripts/generate.py --adapter runs/llama1b_ru --dataset_name data/oasst1_ru --split train --num_answers 4 --output answers/four.jsonl
    python data_builders/ranked_answers_ru.py --source answers/four.jsonl
    python data_builders/ranked_answers_ru.py --source answers/four.jsonl --by verdicts --verdicts verdicts/four.jsonl --min_gap 4
    python data_builders/ranked_answers_ru.py --source answers/four.jsonl --anchor data/oasst1_ru --anchor_share 0.3

--by measures needs no judge: an answer without a fault (not in Russian, loops, breaks off, a foreign word, not the requested form) against
the one with the most serious fault. Faults concern form and language only, so the better answer may still be wrong: read some pairs. --by
verdicts uses the scores of scripts/judge.py. For ratings by people, see data_builders/ratings_ru.py. Of equally good and equally bad
answers, the two with the closest lengths are taken. --anchor mixes in pairs of people, so that the model does not drift away from them; where it
has the same prompts, --by measures also counts a length far from that of the chosen answer, after all other faults.
"""

import argparse
import random
from collections import Counter
from functools import partial

from preferans.data.build_options import add_output_arguments, parse
from preferans.errors import PreferansError, help_first, run

WAYS = {
    "measures": "`chosen` has none of these faults, and `rejected` the most serious one, in this order: {faults}. Prompts without an answer "
    "without faults, and those whose answers are equally good, make no pair. {far_length}Faults concern form and language only: a chosen answer may "
    "still be wrong.",
    "verdicts": "A judge gave each answer one to five points for five criteria: `chosen` has the highest sum and `rejected` the lowest, if they differ by at "
    "least {min_gap:g}.",
}
LENGTH_RULE = "Among answers without these faults, one that {far_length} is worse. "


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--source", nargs="+", required=True, metavar="FILE", help="files of answers, several to each prompt")
    add("--by", choices=WAYS, default="measures", help="what ranks the answers (default: %(default)s)")
    add("--verdicts", nargs="+", default=[], metavar="FILE", help="files of scripts/judge.py, for --by verdicts")
    add(
        "--min_gap",
        type=float,
        default=3.0,
        help="smallest difference of two sums of scores, 5 to 25 (default: %(default)s)",
    )
    add("--anchor", metavar="DATASET", help="preference dataset whose training pairs are mixed in")
    add("--anchor_share", type=float, default=0.3, help="their share of the training pairs (default: %(default)s)")
    add("--lang", default="ru", help="language tag of the pairs (default: %(default)s)")
    add_output_arguments(parser, "data/ranked_answers_ru")
    return parser


PARSER = make_parser()
help_first(PARSER)

import polars as pl

from preferans.data.build import REMOVED, SPLIT_RULE, check_output_arguments, finish_dataset, print_counts, split_pairs
from preferans.data.card import CardContent, dataset_card
from preferans.data.preferences import row_problem
from preferans.data.prompts import split_rows
from preferans.data.tables import ROW_COLUMNS, preference_frame
from preferans.evaluation.answer_ranks import (
    FAR_LENGTH,
    FAULTS,
    RANK_OUTCOMES,
    judge_totals,
    pair_by_faults,
    pair_by_scores,
)
from preferans.evaluation.answers import prompt_key, read_systems
from preferans.evaluation.people_votes import conversation
from preferans.files import sha256_of
from preferans.release.bundle import push_dataset
from preferans.release.hub import check_can_push
from preferans.text.near_duplicates import drop_near_duplicates

RULE = """Answers of a model to the same prompt were sampled with different random numbers. {way} Of equally good and of equally bad answers,
the two whose lengths are closest are paired. {split_rule}{anchor}"""
ANCHOR = " Training pairs of `{name}`, drawn with the seed, are {share:.0%} of the training split."


def check_arguments(args: argparse.Namespace) -> None:
    if (args.by == "verdicts") != bool(args.verdicts):
        raise PreferansError("--by verdicts and --verdicts FILE belong together.")
    if not 0 < args.anchor_share < 1:
        raise PreferansError(f"--anchor_share {args.anchor_share}: it must be above 0 and below 1, such as 0.3.")
    if not 0 <= args.min_gap <= 20:
        raise PreferansError(f"--min_gap {args.min_gap}: it must be from 0 to 20; sums of scores are from 5 to 25.")
    check_output_arguments(args)
    if args.push_to_hub:
        check_can_push(args.repo_id)


def answers_by_prompt(files: list[str]) -> dict[str, list[dict]]:
    """Group the answers of all files by their prompt."""
    groups: dict[str, list[dict]] = {}
    for name in files:
        for system in read_systems(name):
            for row in system.rows.values():
                groups.setdefault(prompt_key(row["prompt"]), []).append(row)
    return groups


def pair_row(better: dict, worse: dict, lang: str) -> dict:
    """Return two answers to a prompt as a preference row."""
    prompt = [{"role": message["role"], "content": message["content"]} for message in better["prompt"]]
    return {
        "id": f"{better['model']} {better['id']}:{worse['model']} {worse['id']}",
        "prompt": prompt,
        "chosen": [{"role": "assistant", "content": better["answer"].strip()}],
        "rejected": [{"role": "assistant", "content": worse["answer"].strip()}],
        "message_tree_id": conversation(prompt),
        "lang": lang,
        "source": "ranked answers",
    }


def anchored(
    splits: dict[str, pl.DataFrame], anchors: pl.DataFrame, share: float, seed: int
) -> tuple[dict[str, pl.DataFrame], int]:
    """Add so many anchor pairs to the training split that they are `share` of it; return the splits and the number added."""
    held_out = set(splits["test"]["message_tree_id"]) if "test" in splits else set()
    free = anchors.filter(~pl.col("message_tree_id").is_in(list(held_out)))
    number = min(round(len(splits["train"]) * share / (1 - share)), len(free))
    drawn = sorted(random.Random(seed).sample(range(len(free)), number))
    mixed = splits | {"train": pl.concat([splits["train"], free[drawn]])}
    before = len(mixed["train"])
    mixed, _ = drop_near_duplicates(mixed)
    return mixed, number - (before - len(mixed["train"]))


def main() -> None:
    args = parse(PARSER)
    check_arguments(args)
    groups = answers_by_prompt(args.source)
    total = judge_totals(args.verdicts) if args.by == "verdicts" else None
    human = anchor_rows(args.anchor) if args.anchor else []
    lengths = chosen_lengths(human)
    outcomes: Counter[str] = Counter()
    rows = []
    for group in groups.values():
        found = pair_by_scores(group, total, args.min_gap) if total else pair_by_faults(group, lengths)
        row = None if isinstance(found, str) else pair_row(*found, args.lang)
        if row and row_problem(row):  # the texts differ and are not empty
            row, found = None, "echo"
        outcomes[found if isinstance(found, str) else "pair"] += 1
        rows += [row] if row else []
    print(f"Prompts: {len(groups):,}:")
    print_counts(RANK_OUTCOMES, outcomes)
    if not rows:
        raise PreferansError(
            f"--source {' '.join(args.source)}: no prompt makes a pair. Generate several answers to each prompt (--num_answers 4), of a model that "
            "sometimes does well."
        )
    splits, removed = split_pairs(preference_frame(rows), args)
    added = 0
    if human:
        splits, added = anchored(splits, preference_frame(human), args.anchor_share, args.seed)
        print(f"Pairs of {args.anchor} added to the training split: {added:,}.")
    finish_dataset(splits, args, partial(card, args, outcomes, removed, added))
    if args.push_to_hub:
        push_dataset(args.output_dir, args.repo_id)
    print(f"Next: train on it, with dataset_name: {args.output_dir}")


def anchor_rows(name: str) -> list[dict]:
    """Return the training pairs of a dataset with the columns of this one."""
    rows: list[dict] = [{key: row.get(key) for key in ROW_COLUMNS} for row in split_rows(name, "train")]
    if isinstance(rows[0]["prompt"], str):
        raise PreferansError(f"--anchor {name}: its pairs are plain texts. Build it with --format conversational.")
    return [row | {"message_tree_id": row["message_tree_id"] or conversation(row["prompt"])} for row in rows]


def chosen_lengths(rows: list[dict]) -> dict[str, list[int]]:
    """Collect the lengths of the chosen answers to each prompt, in characters."""
    lengths: dict[str, list[int]] = {}
    for row in rows:
        lengths.setdefault(prompt_key(row["prompt"]), []).append(len(row["chosen"][-1]["content"].strip()))
    return lengths


def card(args: argparse.Namespace, outcomes: Counter, removed: int, added: int, splits: dict) -> str:
    """Write the dataset's `README.md`."""
    kept = sum(map(len, splits.values()))
    checksums = ", ".join(f"`{name.rsplit('/', 1)[-1]}` (SHA-256 `{sha256_of(name)}`)" for name in args.source)
    anchor = ANCHOR.format(name=args.anchor, share=added / len(splits["train"])) if added else ""
    content = CardContent(
        title="Better and worse answers of one model",
        summary=f"{kept:,} pairs of a model's own answers to the same prompt, ranked by {args.by}.",
        rule=RULE.format(
            way=WAYS[args.by].format(
                faults=", ".join(FAULTS),
                far_length=LENGTH_RULE.format(far_length=FAR_LENGTH) if args.anchor else "",
                min_gap=args.min_gap,
            ),
            split_rule=SPLIT_RULE,
            anchor=anchor,
        ),
        language=args.lang,
        licence="other",
        tags=["synthetic"],
        source=f"answers: {checksums}; licence: that of the model",
        command=args.command,
        options={
            name: getattr(args, name) for name in ("by", "min_gap", "anchor_share", "test_size", "seed", "format")
        },
        counts={
            "prompts": [
                ("answered", sum(outcomes.values())),
                *((words, outcomes[outcome]) for outcome, words in RANK_OUTCOMES.items()),
                (REMOVED, removed),
                ("pairs mixed in", added),
                ("pairs kept", kept),
            ],
        },
    )
    return dataset_card(content, splits)


if __name__ == "__main__":
    run(main)
