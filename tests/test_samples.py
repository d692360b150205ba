"""The embedded sample is hand-written in oasst1's columns; these tests keep it valid."""

import json
import re
from collections import Counter
from dataclasses import replace

import polars as pl

from preferans.data.oasst_source import read_rows
from preferans.data.pairs import Pair, read_pairs
from preferans.data.shortcuts import find_shortcuts
from preferans.data.tables import length_table, preference_frame
from preferans.text.language import is_russian

from .support.rows import build
from .support.tiny import ROOT, SAMPLE

OASST1_COLUMNS = [
    "message_id", "parent_id", "user_id", "created_date", "text", "role", "lang", "review_count", "review_result", "deleted",
    "rank", "synthetic", "model_name", "detoxify", "message_tree_id", "tree_state", "emojis", "labels", "defect",
]  # fmt: skip


def rows() -> list[dict]:
    return [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]


def without_words(pair: Pair) -> Pair:
    """Return a pair of which only the punctuation is left."""
    answers = {side: re.sub(r"[\w ]+", " ", pair.text(side)) for side in ("chosen", "rejected")}
    return replace(pair, **{side: [{"role": "assistant", "content": text}] for side, text in answers.items()})


def test_every_row_has_the_columns_of_oasst1_and_the_defect():
    for row in rows():
        assert list(row) == OASST1_COLUMNS
        assert len(row["labels"]["name"]) == len(row["labels"]["value"]) == len(row["labels"]["count"])


def test_enough_trees_have_two_or_three_ranked_replies():
    pairs, counts = build(pl.concat(read_rows(str(SAMPLE))), turns="all")
    assert len({pair["message_tree_id"] for pair in pairs}) >= 120
    replies = Counter(row["parent_id"] for row in rows() if row["rank"] is not None and row["text"])
    used = {pair["id"].split(":")[0] for pair in pairs}
    parents = {row["message_id"]: row["parent_id"] for row in rows()}
    assert {replies[parents[message_id]] for message_id in used} == {2, 3}
    assert any(len(pair["prompt"]) == 3 for pair in pairs)
    assert counts["pairs_dropped"]["equal_texts"] == 0


def test_every_reason_to_drop_a_row_occurs():
    _, counts = build(pl.concat(read_rows(str(SAMPLE))), turns="all")
    assert all(counts["dropped"].values()), counts["dropped"]


def test_length_does_not_reveal_the_better_answer():
    pairs, _ = build(pl.concat(read_rows(str(SAMPLE))), turns="all")
    assert 0.4 < length_table(preference_frame(pairs))["chosen_longer"] < 0.6


def test_words_and_punctuation_do_not_reveal_the_better_answer():
    built, _ = build(pl.concat(read_rows(str(SAMPLE))), turns="all")
    pairs, _ = read_pairs({"train": built})
    assert find_shortcuts(pairs).accuracy < 0.6
    assert find_shortcuts([without_words(pair) for pair in pairs]).accuracy < 0.6


def test_the_held_out_defects_and_prompts_do_not_occur_in_the_sample():
    built, _ = build(pl.concat(read_rows(str(SAMPLE))), turns="all")
    path = ROOT / "samples" / "other_defects_ru.jsonl"
    other = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    pairs, problems = read_pairs({"test": other})
    assert len(pairs) == len(other) >= 30 and not problems
    assert None not in {row["defect"] for row in built}
    assert not {row["defect"] for row in built} & {row["defect"] for row in other}
    assert not {row["prompt"][-1]["content"] for row in built} & {row["prompt"][-1]["content"] for row in other}


def test_questions_are_russian_and_unique():
    pairs, _ = build(pl.concat(read_rows(str(SAMPLE))))
    questions = [pair["prompt"][0]["content"].lower() for pair in pairs]
    assert len(set(questions)) == len(questions)
    assert sum(map(is_russian, questions)) / len(questions) > 0.97
