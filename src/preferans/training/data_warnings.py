"""Warn before training of too few pairs, of test pairs that are in the training split, and of thinking blocks."""

import json

from datasets import Dataset

from ..text.characters import THINKING

LEAST_TRAIN, LEAST_TEST = 200, 30


def warn_of_data(train_rows: Dataset, test_rows: Dataset) -> None:
    """
    Print a warning for each reason why the test figures of a run will show little.

    Args:
        train_rows ([`~datasets.Dataset`]), test_rows ([`~datasets.Dataset`]): Preference rows.
    """
    if len(train_rows) < LEAST_TRAIN:
        print(
            f"*** Only {len(train_rows)} training pairs: with fewer than {LEAST_TRAIN}, expect a change of style and no more. ***"
        )
    if len(test_rows) < LEAST_TEST:
        print(
            f"*** Only {len(test_rows)} test pairs: with fewer than {LEAST_TEST}, only a very large gain can be told from chance. ***"
        )
    thinking = sum(
        any(THINKING.search(json.dumps(row[side])) for side in ("chosen", "rejected")) for row in train_rows
    )
    if thinking:
        print(
            f"*** {thinking} training pairs have an answer with a thinking block, which the model would learn to write. "
            "scripts/check_data.py DATASET --fix FOLDER removes the blocks. ***"
        )
    trained = set(_contents(train_rows))
    copies = sum(content in trained for content in _contents(test_rows))
    if copies:
        print(
            f"*** {copies} of {len(test_rows)} test pairs are copies of training pairs, so the test figures will be too good. "
            "scripts/check_data.py DATASET --fix FOLDER removes them. ***"
        )


def _contents(rows: Dataset) -> list[str]:
    return [json.dumps([row[column] for column in ("prompt", "chosen", "rejected")]) for row in rows]
