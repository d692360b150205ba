import json
import re
from dataclasses import replace

import pytest

from preferans.data.oasst import build_oasst_pairs
from preferans.data.oasst_rule import PairingRule
from preferans.data.oasst_source import read_rows
from preferans.data.pairs import read_pairs
from preferans.data.shortcuts import find_shortcuts

from ..support.pairs import messages
from ..support.rows import preference
from ..support.tiny import ROOT, SAMPLE


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


def test_style_does_not_give_away_the_chosen_answers_of_the_sample():
    rows, _ = build_oasst_pairs(lambda: read_rows(str(SAMPLE)), PairingRule(turns="all"))
    pairs, _ = read_pairs({"train": rows.drop("rows").to_dicts()})
    found = find_shortcuts(pairs)
    assert found.accuracy < 0.6
    assert found.longer < 0.6
    punctuation = [
        replace(
            pair,
            **{
                side: [{"role": "assistant", "content": re.sub(r"[\w ]+", " ", pair.text(side))}]
                for side in ("chosen", "rejected")
            },
        )
        for pair in pairs
    ]
    assert find_shortcuts(punctuation).accuracy < 0.6


def test_the_held_out_defects_do_not_occur_in_the_sample():
    rows, _ = build_oasst_pairs(lambda: read_rows(str(SAMPLE)), PairingRule(turns="all"))
    path = ROOT / "samples" / "other_defects_ru.jsonl"
    other = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert not set(rows["defect"]) & {row["defect"] for row in other}
    prompts = {prompt[-1]["content"] for prompt in rows["prompt"].to_list()}
    assert not prompts & {row["prompt"][-1]["content"] for row in other}
