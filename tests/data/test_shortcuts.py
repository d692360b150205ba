import pytest

from preferans.data.pairs import read_pairs
from preferans.data.shortcuts import find_shortcuts

from ..support.pairs import messages
from ..support.rows import preference


def pairs_with(chosen: str, rejected: str, number: int = 40, tree: str | None = None):
    rows = [
        preference(
            i,
            prompt=messages(f"Вопрос {i}", "user"),
            chosen=messages(chosen.format(i)),
            rejected=messages(rejected.format(i)),
            message_tree_id=tree or f"t{i}",
        )
        for i in range(number)
    ]
    return read_pairs({"train": rows})[0]


def test_a_word_of_one_side_is_a_shortcut():
    found = find_shortcuts(pairs_with("Итак: слово {}", "Слово {} же"))
    assert found.accuracy == 1.0
    assert found.interval == (pytest.approx(0.912, abs=1e-3), 1.0)
    assert found.pairs == 40
    assert {name: counts for name, *counts in found.features}[":"] == [40, 0]


def test_equal_styles_are_at_chance():
    assert find_shortcuts(pairs_with("слово а{}", "слово б{}")).accuracy == 0.5


def test_the_share_of_longer_answers_has_no_direction():
    assert (
        find_shortcuts(pairs_with("да", "нет же")).longer == find_shortcuts(pairs_with("нет же", "да")).longer == 1.0
    )


def test_a_single_conversation_teaches_nothing_about_others():
    # all pairs are in one fold, so the model is fitted on none
    assert find_shortcuts(pairs_with("Итак: {}", "{} же", tree="same")).accuracy == 0.5
