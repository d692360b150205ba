"""
Russian preference pairs from OpenAssistant conversation trees.

People wrote several replies to the same prompt and ranked them: the better one becomes `chosen`, the worse one `rejected`.

    python data_builders/oasst1_ru.py --output_dir data/oasst1_ru
    python data_builders/oasst1_ru.py --source samples/oasst1_ru_sample.jsonl --turns all --output_dir data/oasst1_ru_sample
    python data_builders/oasst1_ru.py --output_dir data/oasst1_ru --push_to_hub --repo_id YOU/oasst1-ru-preferences

The same source, options and seed give the same dataset; a dataset that is already there is left as it is.
"""

import argparse
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from preferans.errors import PreferansError, run
from preferans.files import sha256_of
from preferans.oasst import DROP_REASONS, OASST1, OASST1_REVISION, PAIRINGS, TURNS, build_pairs, read_rows
from preferans.preferences import (
    check_output_dir,
    check_rows,
    data_files_yaml,
    fingerprint,
    length_table,
    split_by_tree,
    stored_fingerprint,
    write_dataset,
)


@dataclass
class Arguments:
    source: str
    revision: str | None
    lang: str
    turns: str
    pairing: str
    test_size: float
    seed: int
    output_dir: str
    push_to_hub: bool
    repo_id: str | None


def parse_arguments() -> Arguments:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--source",
        default=OASST1,
        help="Hub id, or a local folder, .parquet or .jsonl file with oasst1's columns (default: %(default)s)",
    )
    parser.add_argument(
        "--revision",
        help="commit, branch or tag of a source on the Hub (default: for oasst1 the commit we tested, else main)",
    )
    parser.add_argument("--lang", default="ru", help="language tag to keep (default: %(default)s)")
    parser.add_argument(
        "--turns",
        choices=TURNS,
        default="first",
        help="first: prompts that open a conversation; all: every prompt, with the conversation before it (default: %(default)s)",
    )
    parser.add_argument(
        "--pairing",
        choices=PAIRINGS,
        default="best_worst",
        help="which replies of a prompt to pair (default: %(default)s)",
    )
    parser.add_argument(
        "--test_size",
        type=float,
        default=0.1,
        help="share of the conversation trees held out for the test split (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=42, help="seed of the split (default: %(default)s)")
    parser.add_argument(
        "--output_dir", default="data/oasst1_ru", help="dataset folder to write (default: %(default)s)"
    )
    parser.add_argument(
        "--push_to_hub",
        action="store_true",
        help="upload the folder as a private dataset; needs --repo_id and a token with write access",
    )
    parser.add_argument("--repo_id", help="name on the Hub, such as YOU/oasst1-ru-preferences")
    return Arguments(**vars(parser.parse_args()))


def describe_source(args: Arguments) -> str:
    """Source, its revision or checksums, and its licence, in words."""
    path = Path(args.source)
    if not path.exists():
        licence = "Apache-2.0" if args.source == OASST1 else "that of the source"
        return f"`{args.source}` on the Hub, revision `{args.revision or 'main'}`; licence: {licence}"
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    checksums = ", ".join(f"`{file.name}` (SHA-256 `{sha256_of(file)}`)" for file in files)
    return f"local files: {checksums}; licence: that of the source"


def card(args: Arguments, source: str, counts: dict, splits: dict[str, list[dict]], print_of_rows: str) -> str:
    """The dataset's `README.md`: what it is, by which rule, and what was left out."""
    pairs = [row for rows in splits.values() for row in rows]
    lengths = length_table(pairs)
    licence = "apache-2.0" if args.source == OASST1 else "other"
    command = shlex.join(
        ["python", "data_builders/oasst1_ru.py", *(word for word in sys.argv[1:] if word != "--push_to_hub")]
    )
    dropped = "\n".join(f"| {DROP_REASONS[reason]} | {number:,} |" for reason, number in counts["dropped"].items())
    sizes = ", ".join(f"{len(rows):,} in `{name}`" for name, rows in splits.items())
    size = next(
        label
        for limit, label in (
            (1e3, "n<1K"),
            (1e4, "1K<n<10K"),
            (1e5, "10K<n<100K"),
            (1e6, "100K<n<1M"),
            (float("inf"), "n>1M"),
        )
        if len(pairs) < limit
    )
    return f"""---
language: [{args.lang}]
license: {licence}
task_categories: [text-generation]
tags: [preference, dpo, human-feedback, preferans]
size_categories: [{size}]
{data_files_yaml(splits)}
---
# Preference pairs from ranked conversations

{len(pairs):,} pairs of replies that people wrote to the same prompt and ranked: `chosen` has the better rank, `rejected` the
worse one. {sizes}; no conversation tree stands in two splits.

- Source: {source}.
- Options: language `{args.lang}`, turns `{args.turns}`, pairing `{args.pairing}`, test_size {args.test_size}, seed {args.seed}.
- Made by: `{command}`
- fingerprint: `{print_of_rows}`

## The rule

Every row is indexed and repeated ids are dropped before anything is filtered. A prompt counts when it and all messages before it are in
the language, not deleted, approved by reviewers, not synthetic, and belong to a finished tree. A reply counts when the same
holds for it and it has a rank. Replies of one prompt with different ranks and different texts make pairs.

| | |
| --- | ---: |
| rows read | {counts["rows"]:,} |
| rows that stand in a pair or in its prompt | {counts["used"]:,} |
| sound rows that stand in none | {counts["unpaired"]:,} |
| prompts | {counts["prompts"]:,} |
| prompts with a pair | {counts["prompts_with_pairs"]:,} |
| **pairs** | **{counts["pairs"]:,}** |
| pairs not made because both texts are the same | {counts["equal_texts"]:,} |

Rows that fell out, each once, by the first reason that holds:

| reason | rows |
| --- | ---: |
{dropped}

## Length

A reward for length is the commonest thing a model learns by mistake. Here `chosen` is the longer answer in
{lengths["chosen_longer"]:.0%} of the pairs.

| characters | chosen | rejected |
| --- | ---: | ---: |
| mean | {lengths["chosen_mean"]:.0f} | {lengths["rejected_mean"]:.0f} |
| median | {lengths["chosen_median"]:.0f} | {lengths["rejected_median"]:.0f} |
"""


def main() -> None:
    args = parse_arguments()
    if not 0 <= args.test_size < 1:
        raise PreferansError(
            f"--test_size {args.test_size}: it is a share of the trees, from 0 to below 1, such as 0.1."
        )
    check_output_dir(args.output_dir)
    if args.push_to_hub:
        from preferans.hub import check_can_push

        check_can_push(args.repo_id)

    if args.revision is None and args.source == OASST1:
        args.revision = OASST1_REVISION
    rows = read_rows(args.source, args.revision)
    pairs, counts = build_pairs(rows, args.lang, args.turns, args.pairing)
    source = describe_source(args)
    print(f"Source: {source}.")
    print(f"Language: {args.lang}; turns: {args.turns}; pairing: {args.pairing}.")
    print(
        f"Rows read: {counts['rows']:,}. In a pair or its prompt: {counts['used']:,}; sound, but in none: "
        f"{counts['unpaired']:,}; fell out:"
    )
    for reason, number in counts["dropped"].items():
        print(f"  {number:>8,}  {DROP_REASONS[reason]}")
    print(
        f"Prompts: {counts['prompts']:,}, of which {counts['prompts_with_pairs']:,} have a pair. Pairs: {counts['pairs']:,}."
    )
    if not pairs:
        langs = sorted({row["lang"] for row in rows if row["lang"]})
        raise PreferansError(
            f"--source {args.source}: no pair is left for --lang {args.lang}. Its languages are {', '.join(langs)}."
        )
    check_rows(pairs, args.source)
    lengths = length_table(pairs)
    print(
        f"Length in characters, mean: chosen {lengths['chosen_mean']:.0f}, rejected {lengths['rejected_mean']:.0f}; chosen is longer in {lengths['chosen_longer']:.0%}."
    )

    splits = split_by_tree(pairs, args.test_size, args.seed)
    print_of_rows = fingerprint(splits)
    if stored_fingerprint(args.output_dir) == print_of_rows:
        print(f"The dataset is already in {args.output_dir}.")
    else:
        write_dataset(args.output_dir, splits, card(args, source, counts, splits, print_of_rows))
        print(f"Written to {args.output_dir}: {', '.join(f'{len(rows):,} {name}' for name, rows in splits.items())}.")
    if args.push_to_hub:
        from preferans.hub import push_dataset

        print(f"Pushed to {push_dataset(args.output_dir, args.repo_id)}")


if __name__ == "__main__":
    run(main)
