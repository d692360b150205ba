from collections import Counter

import pytest
from datasets import Dataset

from preferans.training.controls import control_rows, for_control

from ..support.rows import preference


@pytest.fixture
def rows():
    return Dataset.from_list([preference(number) for number in range(10)])


def swapped(rows: Dataset, others: Dataset) -> list[bool]:
    """Whether each row has changed labels; everything else must be the same."""
    assert others.features == rows.features
    changed = []
    for row, other in zip(rows, others, strict=True):
        changed.append(row["chosen"] != other["chosen"])
        sides = ("rejected", "chosen") if changed[-1] else ("chosen", "rejected")
        assert other == row | {"chosen": row[sides[0]], "rejected": row[sides[1]]}
    return changed


def test_labels_are_swapped_in_all_or_half_of_the_rows(rows):
    assert swapped(rows, control_rows(rows, "swapped_labels", 1)) == [True] * 10
    halves = [swapped(rows, control_rows(rows, "shuffled_labels", seed)) for seed in (1, 1, 2)]
    assert [Counter(half) for half in halves] == [{True: 5, False: 5}] * 3
    assert halves[0] == halves[1] != halves[2]


@pytest.mark.parametrize("control", [None, "zero_learning_rate"])
def test_other_runs_keep_their_rows(rows, control):
    assert control_rows(rows, control, 1) is rows


def test_a_control_has_its_own_folder_and_is_not_published():
    keys = {"output_dir": "runs/a/", "push_to_hub": True, "control": "swapped_labels"}
    assert for_control(keys) == keys | {"output_dir": "runs/a_swapped_labels", "push_to_hub": False}
    for other in ({"output_dir": "runs/a", "push_to_hub": True}, {"control": "swapped_labels"}):
        assert for_control(other) == other
