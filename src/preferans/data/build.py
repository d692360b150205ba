"""Steps that all data builders share, from pairs to a finished dataset folder."""

import argparse
import contextlib
from collections.abc import Callable
from pathlib import Path

import polars as pl
from huggingface_hub import HfApi

from ..errors import PreferansError
from ..text.near_duplicates import drop_near_duplicates
from .oasst_rule import OASST1, OASST1_REVISION
from .preferences import check_rows
from .tables import as_texts, check_output_dir, length_table, split_by_tree, write_dataset

# What [`split_pairs`] does, for the cards.
SPLIT_RULE = """A training pair is removed if its opening prompt, or all user messages together, are nearly the same as in the test split (at
least 0.7 of their five-letter pieces in common)."""
REMOVED = "removed from training: the prompt is nearly the same as one of the test split"


def pin_revision(args: argparse.Namespace) -> None:
    """
    Replace the revision of a source on the Hub by its commit, so that the card can name it.

    Raises:
        [`PreferansError`]: if a local source has a revision, or contains the output folder.
    """
    path = Path(args.source)
    if path.exists():
        if args.revision is not None:
            raise PreferansError(
                f"--revision {args.revision}: --source {args.source} is a local source; leave --revision out."
            )
        if path.is_dir() and Path(args.output_dir).resolve().is_relative_to(path.resolve()):
            raise PreferansError(
                f"--output_dir {args.output_dir}: it is inside the folder --source {args.source} and would be read as part of the source. "
                "Name a folder outside."
            )
    elif args.source == OASST1 and args.revision is None:
        args.revision = OASST1_REVISION
    else:
        # The client raises a dozen types. If there is no such dataset, reading the rows reports it; offline, they may be cached.
        with contextlib.suppress(Exception):
            args.revision = HfApi().dataset_info(args.source, revision=args.revision).sha


def check_output_arguments(args: argparse.Namespace) -> None:
    """
    Check `--test_size` and `--output_dir` before any work is done.

    Raises:
        [`PreferansError`]: if --test_size is not in [0, 1), or the output folder contains something else.
    """
    if not 0 <= args.test_size < 1:
        raise PreferansError(f"--test_size {args.test_size}: it must be at least 0 and below 1, such as 0.1.")
    check_output_dir(args.output_dir)


def split_pairs(pairs: pl.DataFrame, args: argparse.Namespace) -> tuple[dict[str, pl.DataFrame], int]:
    """
    Split pairs by tree, and remove training pairs with nearly the same prompt as in the test split.

    Returns:
        `tuple[dict[str, pl.DataFrame], int]`: the splits and the number of pairs removed.

    Raises:
        [`PreferansError`]: if no training pair is left.
    """
    check_rows(pairs.iter_rows(named=True), "the pairs built")
    splits, removed = drop_near_duplicates(split_by_tree(pairs, args.test_size, args.seed))
    if not len(splits["train"]):
        raise PreferansError(
            f"The prompts of all {removed:,} training pairs are nearly the same as one of the test split, so no training pair is left. "
            "Use more varied prompts, or --test_size 0 for no test split."
        )
    if args.test_size and len(splits) < 2:
        print("There is only one conversation tree, so there is no test split.")
    return splits, removed


def print_counts(reasons: dict[str, str], counts: dict[str, int]) -> None:
    """Print the count of each reason."""
    for reason, words in reasons.items():
        print(f"  {counts[reason]:>8,}  {words}")


def finish_dataset(
    splits: dict[str, pl.DataFrame],
    args: argparse.Namespace,
    make_card: Callable[[dict[str, pl.DataFrame]], str],
) -> None:
    """
    Convert the splits to the requested format and write them with their card.

    Args:
        splits (`dict[str, pl.DataFrame]`): Conversational preference rows by split, with the columns to write.
        args (`argparse.Namespace`): Options of [`~preferans.data.build_options.add_output_arguments`].
        make_card (`Callable`): Makes the card from the splits as they are written.
    """
    lengths = length_table(pl.concat(splits.values()))
    print(
        f"Mean length in characters: chosen {lengths['chosen_mean']:.0f}, rejected {lengths['rejected_mean']:.0f}; chosen is longer in "
        f"{lengths['chosen_longer']:.0%} of the pairs."
    )
    if args.format == "text":
        splits = {name: as_texts(rows) for name, rows in splits.items()}
    if write_dataset(args.output_dir, splits, make_card(splits)):
        print(f"Written to {args.output_dir}: {', '.join(f'{len(rows):,} {name}' for name, rows in splits.items())}.")
    else:
        print(f"The dataset is already in {args.output_dir}.")
