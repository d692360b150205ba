"""Warn before training of data that cannot show a gain: too few pairs, or test pairs that are in the training split."""

import json

from datasets import Dataset

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
    trained = set(_contents(train_rows))
    copies = sum(content in trained for content in _contents(test_rows))
    if copies:
        print(
            f"*** {copies} of {len(test_rows)} test pairs are copies of training pairs, so the test figures will be too good. "
            "scripts/check_data.py DATASET --fix FOLDER removes them. ***"
        )


def _contents(rows: Dataset) -> list[str]:
    return [json.dumps([row[column] for column in ("prompt", "chosen", "rejected")]) for row in rows]
