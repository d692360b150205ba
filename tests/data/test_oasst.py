import gzip
import itertools
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections import Counter

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preferans.data.oasst import build_oasst_pairs, prototype_tables
from preferans.data.oasst_rule import PAIRINGS, TURNS, PairingRule
from preferans.data.oasst_source import OASST_COLUMNS, read_rows
from preferans.data.preferences import row_problem
from preferans.errors import PreferansError
from preferans.files import checksums
from preferans.text.language import is_prose_russian, without_assistant_name

from ..support.rows import build, message
from ..support.tiny import ROOT, SAMPLE


def read(path) -> pl.DataFrame:
    return pl.concat(read_rows(str(path))).drop("origin")


def conversation(**changes_of_worst) -> list[dict]:
    return [message("q"), message("a", "q", rank=0), message("b", "q", **({"rank": 1} | changes_of_worst))]


def test_the_lower_rank_is_chosen():
    pairs, counts = build([message("q"), message("a", "q", rank=3), message("b", "q", rank=1)])
    assert [pair["id"] for pair in pairs] == ["b:a"]
    assert pairs[0]["prompt"] == [{"role": "user", "content": "Текст сообщения q"}]
    assert pairs[0]["chosen"] == [{"role": "assistant", "content": "Текст сообщения b"}]
    assert pairs[0]["rejected"] == [{"role": "assistant", "content": "Текст сообщения a"}]
    assert (pairs[0]["chosen_rank"], pairs[0]["rejected_rank"]) == (1, 3)
    assert counts["rows"] == counts["used"] == 3
    assert counts["unpaired"] == 0
    assert (counts["prompts"], counts["prompts_with_pairs"], counts["pairs"]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("other_language", {"lang": "en"}),
        ("deleted", {"deleted": True}),
        ("not_approved", {"review_result": False}),
        ("not_approved", {"review_result": None}),
        ("synthetic", {"synthetic": True}),
        ("tree_not_ready", {"tree_state": "ranking"}),
        ("no_text", {"text": " \n"}),
        ("no_text", {"text": None}),
        ("unranked", {"rank": None}),
    ],
)
def test_each_filter_drops_a_reply(reason, changes):
    pairs, counts = build(conversation(**changes))
    assert pairs == []
    assert {key: number for key, number in counts["dropped"].items() if number} == {reason: 1}


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("other_language", {"lang": "uk"}),
        ("deleted", {"deleted": True}),
        ("not_approved", {"review_result": False}),
        ("synthetic", {"synthetic": True}),
        ("tree_not_ready", {"tree_state": "aborted_low_grade"}),
    ],
)
def test_a_dropped_prompt_takes_its_whole_conversation_along(reason, changes):
    rows = [
        *conversation(),
        message("q2", "a", role="prompter"),
        message("c", "q2", rank=0),
        message("d", "q2", rank=1),
    ]
    rows[0] |= changes
    pairs, counts = build(rows, turns="all")
    assert pairs == []
    assert {key: number for key, number in counts["dropped"].items() if number} == {reason: 1, "ancestor": 5}


def test_flags_that_are_null_do_not_drop_a_row():
    pairs, _ = build(conversation(deleted=None, synthetic=None))
    assert len(pairs) == 1


def test_orphans_and_circles_are_counted():
    orphan = message("a", "absent", rank=0)
    circle = [message("x", "y", rank=0), message("y", "x", rank=0), message("z", "z", rank=0)]
    _, counts = build([orphan, message("below", "a", role="prompter"), *circle])
    assert counts["dropped"]["orphan"] == 5
    assert counts["used"] == counts["unpaired"] == 0


def test_a_sound_row_outside_every_pair_is_counted():
    _, counts = build([*conversation(), message("middle", "q", rank=1), message("alone", message_tree_id="t2")])
    assert (counts["used"], counts["unpaired"]) == (3, 2)


def test_a_long_conversation_needs_no_deep_stack():
    rows = [message("0")] + [
        message(str(i), str(i - 1), role="assistant" if i % 2 else "prompter", rank=0) for i in range(1, 5001)
    ]
    rows.append(message("worse", "4998", rank=1))
    pairs, _ = build(rows[::-1], turns="all")
    assert [len(pair["prompt"]) for pair in pairs] == [4999]


def test_duplicate_ids_are_dropped_before_anything_else():
    _, counts = build([*conversation(), message("b", "q", rank=0, text="другой", lang="en")])
    assert counts["dropped"]["duplicate_id"] == 1
    assert counts["dropped"]["other_language"] == 0
    assert counts["pairs"] == 1


def test_an_unranked_reply_still_carries_the_conversation_on():
    rows = [
        message("q"),
        message("a", "q"),
        message("q2", "a", role="prompter"),
        message("c", "q2", rank=0),
        message("d", "q2", rank=1),
    ]
    pairs, _ = build(rows, turns="all")
    assert [pair["id"] for pair in pairs] == ["c:d"]
    assert [turn["role"] for turn in pairs[0]["prompt"]] == ["user", "assistant", "user"]
    assert build(rows, turns="first")[0] == []


@pytest.mark.parametrize(
    ("pairing", "expected"),
    [("best_worst", ["a:c"]), ("adjacent", ["a:b", "b:c"]), ("all", ["a:b", "a:c", "b:c"])],
)
def test_pairings(pairing, expected):
    rows = [message("q"), message("c", "q", rank=7), message("a", "q", rank=0), message("b", "q", rank=2)]
    assert [pair["id"] for pair in build(rows, pairing=pairing)[0]] == expected


def test_an_answer_that_begins_with_its_prompt_makes_no_pair():
    rows = [message("q", text="Почему небо днём голубое?"), *conversation()[1:]]
    rows[1]["text"] = "Почему небо днём голубое? Потому что рассеивается синий свет."
    pairs, counts = build(rows)
    assert (pairs, counts["pairs_dropped"]["echo"]) == ([], 1)


def test_equal_ranks_and_equal_texts_make_no_pair():
    assert build(conversation(rank=0))[0] == []
    pairs, counts = build(conversation(text="Текст сообщения a "))
    assert pairs == []
    assert (counts["pairs_dropped"]["equal_texts"], counts["prompts_with_pairs"]) == (1, 0)


row_strategy = st.fixed_dictionaries(
    {
        "message_id": st.sampled_from("abcdefgh"),
        "parent_id": st.none() | st.sampled_from("abcdefghz"),
        "text": st.none() | st.text(max_size=5),
        "role": st.sampled_from(["prompter", "assistant"]),
        "lang": st.sampled_from(["ru", "en"]),
        "review_result": st.sampled_from([True, True, False, None]),
        "deleted": st.sampled_from([False, False, True, None]),
        "rank": st.none() | st.integers(0, 3),
        "synthetic": st.sampled_from([False, False, True, None]),
        "message_tree_id": st.sampled_from(["t1", "t2"]),
        "tree_state": st.sampled_from(["ready_for_export", "ready_for_export", "ranking"]),
    }
)


@settings(max_examples=300)
@given(st.lists(row_strategy, min_size=1, max_size=12), st.sampled_from(TURNS), st.sampled_from(PAIRINGS))
def test_every_row_is_accounted_for(rows, turns, pairing):
    pairs, counts = build(rows, turns=turns, pairing=pairing)
    assert counts["rows"] == len(rows) == counts["used"] + counts["unpaired"] + sum(counts["dropped"].values())
    assert counts["used"] >= bool(pairs) * 3
    for pair in pairs:
        assert pair["chosen_rank"] < pair["rejected_rank"]
        assert pair["chosen"] != pair["rejected"]
        assert pair["prompt"][-1]["role"] == "user"
        assert turns == "all" or len(pair["prompt"]) == 1


def expected(rows: list[dict], lang: str, turns: str, pairing: str) -> tuple[set[str], Counter]:
    """The rule once more, as slowly and plainly as it can be written: the pairs' ids, and dropped rows by reason."""
    by_id = {}
    for row in rows:
        by_id.setdefault(row["message_id"], row)

    def parent(row):
        found = by_id.get(row["parent_id"])
        return found if found and found["message_tree_id"] == row["message_tree_id"] else None

    def ancestors(row):
        """Messages above a row, and whether the way up ends in a missing message or a circle."""
        above, seen = [], {row["message_id"]}
        while row["parent_id"] is not None:
            row = parent(row)
            if row is None or row["message_id"] in seen:
                return above, True
            seen.add(row["message_id"])
            above.append(row)
        return above, False

    def own_reason(row):
        reasons = {
            "other_language": row["lang"] != lang,
            "deleted": row["deleted"],
            "not_approved": row["review_result"] is not True,
            "synthetic": row["synthetic"],
            "tree_not_ready": row["tree_state"] != "ready_for_export",
            "no_text": not (row["text"] or "").strip(),
            "not_russian": lang == "ru" and not is_prose_russian(row["text"] or ""),
        }
        return next((reason for reason, holds in reasons.items() if holds), None)

    def is_misplaced(row):
        if row["role"] not in ("prompter", "assistant"):
            return True
        if row["parent_id"] is None:
            return row["role"] != "prompter"
        above = parent(row)
        return above is not None and row["role"] != {"assistant": "prompter"}.get(above["role"], "assistant")

    def reason(row):
        above, lost = ancestors(row)
        if own_reason(row):
            return own_reason(row)
        if lost:
            return "orphan"
        if is_misplaced(row):
            return "wrong_role"
        if any(own_reason(other) or is_misplaced(other) for other in above):
            return "ancestor"
        return "unranked" if row["role"] == "assistant" and row["rank"] is None else None

    reasons = {name: reason(row) for name, row in by_id.items()}
    dropped = Counter(filter(None, reasons.values())) + Counter(duplicate_id=len(rows) - len(by_id))
    found = set()
    for prompt in by_id.values():
        if reasons[prompt["message_id"]] or prompt["role"] != "prompter" or (turns == "first" and prompt["parent_id"]):
            continue
        replies = [row for row in by_id.values() if parent(row) is prompt and not reasons[row["message_id"]]]
        replies.sort(key=lambda row: row["rank"])
        for i, j in itertools.combinations(range(len(replies)), 2):
            wanted = {"best_worst": i == 0 and j == len(replies) - 1, "adjacent": j == i + 1, "all": True}[pairing]
            chosen, rejected = replies[i], replies[j]
            if wanted and chosen["rank"] < rejected["rank"] and chosen["text"].strip() != rejected["text"].strip():
                found.add(f"{chosen['message_id']}:{rejected['message_id']}")
    return found, dropped


@st.composite
def forests(draw):
    """Conversations as they come, with a few things wrong: shuffled, in two languages, with repeated ids."""
    rows = []
    for tree in range(draw(st.integers(1, 3))):
        names = [f"{tree}.{number}" for number in range(draw(st.integers(1, 8)))]
        for number, name in enumerate(names):
            above = draw(st.sampled_from(rows[-number:])) if number else None
            parent_id = draw(st.sampled_from([above and above["message_id"]] * 9 + ["absent", "0.0", name]))
            follows = {"prompter": "assistant"}.get(above["role"], "prompter") if above else "prompter"
            rows.append(
                message(
                    name,
                    parent_id if number else None,
                    role=draw(st.sampled_from([follows] * 9 + ["prompter", "system"])),
                    rank=draw(st.sampled_from([0, 1, 2, 3, None])),
                    lang=draw(st.sampled_from(["ru"] * 6 + ["en"])),
                    text=draw(st.sampled_from([f"слово {name}"] * 6 + ["одно", " одно ", "words only", None])),
                    message_tree_id=draw(st.sampled_from([f"t{tree}"] * 12 + ["t0"])),
                    deleted=draw(st.sampled_from([False] * 12 + [True, None])),
                    review_result=draw(st.sampled_from([True] * 12 + [False, None])),
                )
            )
    rows = draw(st.permutations(rows))
    again = draw(st.lists(st.sampled_from(rows), max_size=4))
    return [*rows, *(row | {"text": "ещё раз", "lang": draw(st.sampled_from(["ru", "en"]))} for row in again)]


@settings(max_examples=150)
@given(forests(), st.sampled_from(TURNS), st.sampled_from(PAIRINGS))
def test_pairs_and_counts_are_those_of_the_rule_however_they_are_made(rows, turns, pairing):
    pairs, dropped = expected(rows, "ru", turns, pairing)
    whole = build(rows, turns=turns, pairing=pairing)
    assert {pair["id"] for pair in whole[0]} == pairs
    assert {reason: number for reason, number in whole[1]["dropped"].items() if number} == dropped
    assert whole[1]["unpaired"] >= 0
    assert build(rows, turns=turns, pairing=pairing, shard_rows=3, batch_rows=2) == whole


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("pairing", PAIRINGS)
@pytest.mark.parametrize(("file", "lang"), [("oasst1_en_validation.jsonl", "en"), ("oasst2_ru.jsonl", "ru")])
def test_real_rows_give_exactly_the_pairs_of_the_rule(shared_data, file, lang, turns, pairing):
    rows = read(shared_data / file)
    pairs, counts = build(rows, lang=lang, turns=turns, pairing=pairing)
    assert {pair["id"] for pair in pairs} == expected(rows.to_dicts(), lang, turns, pairing)[0]
    if lang == "en":
        figures = {
            "first": {"best_worst": 185, "adjacent": 355, "all": 530},
            "all": {"best_worst": 415, "adjacent": 711, "all": 1021},
        }
        assert counts["pairs"] == figures[turns][pairing]


def test_parquet_jsonl_and_a_folder_read_the_same(tmp_path):
    from datasets import Dataset

    rows = conversation()
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.jsonl").write_text(
        "\n".join(json.dumps(row | {"extra": 1}) for row in rows), encoding="utf-8-sig"
    )
    Dataset.from_list(rows).to_parquet(tmp_path / "rows.parquet")
    for source in (tmp_path / "rows", tmp_path / "rows" / "a.jsonl", tmp_path / "rows.parquet"):
        assert read(source).to_dicts() == rows
    assert list(rows[0]) == list(OASST_COLUMNS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"message_id": "a"', ["line 1", "not valid JSON", "cut short"]),
        ('{"message_id": "a"}\n', ["row 1", "'parent_id' is missing"]),
        ("[1, 2]\n", ["line 1", "expected a JSON object"]),
        (json.dumps(message("a") | {"rank": "first"}) + "\n", ["row 1", "'rank' must be int", "'first'"]),
        (json.dumps(message("a") | {"rank": True}) + "\n", ["'rank' must be int"]),
        (json.dumps(message("") | {"message_id": ""}) + "\n", ["'message_id' is empty"]),
        (json.dumps(message("a") | {"message_tree_id": None}) + "\n", ["row 1", "'message_tree_id' is empty"]),
        (json.dumps(message("a") | {"text": "\ud83d"}) + "\n", ["row 1", "lone surrogate"]),
        ("", ["not one row"]),
    ],
)
def test_a_broken_source_is_refused_by_name(tmp_path, text, words):
    path = tmp_path / "rows.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PreferansError) as caught:
        read(path)
    for word in ["rows.jsonl", *words]:
        assert word in str(caught.value)


def test_a_source_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(PreferansError, match="no such file or folder"):
        read(tmp_path / "absent.jsonl")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "folder.jsonl").mkdir()
    with pytest.raises(PreferansError, match=r"holds no \.jsonl"):
        read(tmp_path / "empty")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 broken")
    with pytest.raises(PreferansError, match="not a readable parquet"):
        read(tmp_path / "x.parquet")


def test_shards_and_processes_change_nothing(shared_data):
    rows = read(shared_data / "oasst1_en_validation.jsonl")
    repeated = rows.sample(30, seed=1).with_columns(text=pl.lit("An id that stands earlier"))
    rows = pl.concat([rows, repeated, rows.head(3).with_columns(message_tree_id=pl.lit("another tree"))])
    whole = build(rows, lang="en", turns="all", pairing="all")
    assert whole[1]["dropped"]["duplicate_id"] == 33
    assert build(rows, lang="en", turns="all", pairing="all", shard_rows=100) == whole
    assert build(rows, lang="en", turns="all", pairing="all", shard_rows=100, num_proc=2) == whole


def test_a_parent_in_another_tree_is_no_parent():
    rows = [*conversation(), message("alien", "q", rank=2, message_tree_id="t2")]
    pairs, counts = build(rows)
    assert [pair["id"] for pair in pairs] == ["a:b"]
    assert counts["dropped"]["orphan"] == 1


@pytest.mark.parametrize(
    "changes",
    [{"role": "system"}, {"role": "prompter"}, {"role": "Assistant"}],
)
def test_roles_must_alternate(changes):
    pairs, counts = build(conversation(**changes))
    assert pairs == []
    assert counts["dropped"]["wrong_role"] == 1


def test_a_conversation_must_not_open_with_an_answer():
    _, counts = build([message("q", role="assistant", rank=0), message("a", "q", role="prompter")])
    assert (counts["dropped"]["wrong_role"], counts["dropped"]["ancestor"]) == (1, 1)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Turtles can live for a very long time.", False),
        ("海龟可以活很长时间。", False),
        ("вылезло IndexError: list index out of range, что это значит?", True),
        ("```python\nprint(sum(range(10)))\n```", True),
        ("Смотрите https://example.org/a/very/long/link/to/some/page", True),
        ("42", True),
    ],
)
def test_a_text_tagged_russian_must_be_russian(text, kept):
    pairs, counts = build(conversation(text=text))
    assert (len(pairs), counts["dropped"]["not_russian"]) == ((1, 0) if kept else (0, 1))
    assert len(build([row | {"lang": "en"} for row in conversation(text=text)], lang="en")[0]) == 1


def test_texts_lose_outer_blanks_and_foreign_line_endings():
    rows = [message("q", text="\ufeffВопрос\r\nв две строки\x1f "), *conversation()[1:]]
    rows[1]["text"] = " Ответ\rв две строки\n"
    pairs, _ = build(rows)
    assert pairs[0]["prompt"][0]["content"] == "\ufeffВопрос\nв две строки"
    assert pairs[0]["chosen"][0]["content"] == "Ответ\nв две строки"
    _, counts = build(conversation(text="Текст сообщения a\r\n"))
    assert counts["pairs_dropped"]["equal_texts"] == 1


def long_and_short(number: int) -> list[dict]:
    rows = []
    for i in range(number):
        question = message(f"q{i}", message_tree_id=f"t{i}")
        answers = [
            message(f"a{i}", f"q{i}", rank=0, text="да " * 30),
            message(f"b{i}", f"q{i}", rank=1, text="нет " * 10),
        ]
        rows += [question, *(answer | {"message_tree_id": f"t{i}"} for answer in answers)]
    return rows


def test_long_answers_are_thinned_out_by_their_own_draw():
    rows = long_and_short(400)
    pairs, counts = build(rows, max_length_ratio=2.0)
    assert (len(pairs), counts["pairs_dropped"]["length_ratio"]) == (0, 400)
    assert (counts["chosen_longer"], counts["compared"], counts["used"]) == (400, 400, 0)
    assert len(build(rows, max_length_ratio=2.4)[0]) == 400
    pairs, counts = build(rows, max_length_ratio=2.0, keep_long_prob=0.3)
    assert 90 <= len(pairs) <= 150
    assert counts["rows"] == counts["used"] + counts["unpaired"]
    assert build(rows, max_length_ratio=2.0, keep_long_prob=0.3)[0] == pairs
    fewer = {pair["id"] for pair in build(rows[:600], max_length_ratio=2.0, keep_long_prob=0.3)[0]}
    assert fewer == {pair["id"] for pair in pairs if int(pair["id"].split(":")[0][1:]) < 200}
    other = {pair["id"] for pair in build(rows, max_length_ratio=2.0, keep_long_prob=0.3, seed=1)[0]}
    assert other != {pair["id"] for pair in pairs}


def labelled(path, qualities: dict[str, float | None]):
    rows = [message("q"), message("a", "q", rank=0), message("b", "q", rank=1)]
    for row in rows:
        quality = qualities.get(row["message_id"])
        known = quality is not None
        row["labels"] = {"name": ["spam", *["quality"] * known], "value": [0.0, *[quality] * known]}
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return pl.concat(read_rows(str(path), labels=True)).drop("origin")


@pytest.mark.parametrize(
    ("qualities", "kept"),
    [({"a": 0.75, "b": 0.5}, True), ({"a": 0.5, "b": 0.5}, False), ({"a": 0.2, "b": 0.9}, False), ({"a": 0.9}, False)],
)
def test_the_quality_margin_wants_labels_of_both(tmp_path, qualities, kept):
    frame = labelled(tmp_path / "rows.jsonl", qualities)
    pairs, counts = build(frame, min_quality_margin=0.25)
    assert (len(pairs), counts["pairs_dropped"]["quality_margin"]) == ((1, 0) if kept else (0, 1))
    frame.with_columns(
        labels=pl.Series([{"name": ["quality"], "value": [value]} for value in (0.0, 0.8, 0.1)])
    ).write_parquet(tmp_path / "rows.parquet")
    quality = pl.concat(read_rows(str(tmp_path / "rows.parquet"), labels=True))["quality"]
    assert quality.to_list() == [0.0, 0.8, 0.1]


def test_the_quality_of_real_rows_is_read(shared_data):
    frame = pl.concat(read_rows(str(shared_data / "oasst1_en_validation.jsonl"), labels=True)).drop("origin")
    assert frame["quality"].drop_nulls().is_between(0, 1).all()
    free, bound = (build(frame, lang="en", min_quality_margin=margin)[0] for margin in (None, 0.25))
    assert 0 < len(bound) < len(free) / 2
    assert {pair["id"] for pair in bound} < {pair["id"] for pair in free}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Ася, объясни, почему небо голубое?", "Объясни, почему небо голубое?"),
        ("Спасибо, Ася, ты очень помогла.", "Спасибо, ты очень помогла."),
        ("Спасибо, Ася!", "Спасибо!"),
        ("Меня зовут Ася, я готова помочь.", "Я помощница, я готова помочь."),
        ("Спроси у Аси. Ася знает.", "Спроси у помощницы. Помощница знает."),
        ("Я верю Асе, люблю Асю и горжусь Асей.", "Я верю помощнице, люблю помощницу и горжусь помощницей."),
        ("Тургенев написал «Асю» и «Асины» не писал.", "Тургенев написал «Асю» и «Асины» не писал."),
        ("Я, Ася, помогу тебе.", "Я помогу тебе."),
        ("Привет, Ася", "Привет"),
        ("Привет, Ася\nКак дела?", "Привет\nКак дела?"),
        ("— Ася, что это?", "— Что это?"),
        ("АСЯ, помоги!", "Помоги!"),
        ("Рассказ про Асю Клячину.", None),
        ("Повесть «Ася» вышла в 1858 году. Вася и Ассоль её читали.", None),
    ],
)
def test_the_assistants_name_is_taken_out(before, after):
    assert without_assistant_name(before) == (after or before)


def test_the_name_falls_out_of_prompts_and_answers():
    rows = [message("q", text="Ася, кто ты?"), message("a", "q", rank=0, text="Я Ася."), message("b", "q", rank=1)]
    pair = build(rows, normalize_persona=True)[0][0]
    assert (pair["prompt"][0]["content"], pair["chosen"][0]["content"]) == ("Кто ты?", "Я помощница.")
    assert build(rows)[0][0]["prompt"][0]["content"] == "Ася, кто ты?"


def test_the_prototypes_table_is_a_left_join():
    rows = [
        message("q"),
        message("a", "q", text="раз"),
        message("b", "q", text="two", lang="en", deleted=True),
        message("lonely"),
        message("q2", lang="en"),
        message("later", "a", role="prompter"),
    ]
    batch = pl.DataFrame(rows, schema=OASST_COLUMNS).with_columns(origin=pl.lit("ru-validation.jsonl"))
    table = prototype_tables([batch], "ru")["validation"]
    assert table.rows() == [
        ("Текст сообщения q", "раз"),
        ("Текст сообщения q", "two"),
        ("Текст сообщения lonely", None),
    ]


def test_the_prototypes_table_is_that_of_pandas(shared_data):
    frame = pl.concat(read_rows(str(shared_data / "oasst1_en_validation.jsonl")))
    rows = frame.select("message_id", "parent_id", "text", "lang").to_pandas()
    joined = rows.merge(
        rows[["parent_id", "text"]].dropna(subset="parent_id"),
        left_on="message_id",
        right_on="parent_id",
        how="left",
        suffixes=("", "_reply"),
    )
    joined = joined[(joined["lang"] == "en") & joined["parent_id"].isna()]
    table = prototype_tables([frame], "en")["validation"]
    assert len(table) == len(joined) == 568
    assert sorted(map(str, table.rows())) == sorted(
        str((text, answer if isinstance(answer, str) else None))
        for text, answer in zip(joined["text"], joined["text_reply"], strict=True)
    )


def test_a_dataset_folder_is_the_same_from_everywhere(tmp_path):
    """To the byte, card included: nothing of the machine, the folder or the way the command was put."""
    builder, sample = str(ROOT / "data_builders" / "oasst1_ru.py"), ROOT / "samples" / "oasst1_ru_sample.jsonl"
    here = tmp_path / "here"
    here.mkdir()
    calls = {
        ROOT: [
            "data_builders/oasst1_ru.py",
            "--source",
            "samples/oasst1_ru_sample.jsonl",
            "--output_dir",
            here / "a" / "x",
        ],
        here: [builder, f"--source={sample}", "--output_dir=b/x", "--num_proc", "2"],
        ROOT / "data_builders": [
            "oasst1_ru.py",
            "--output_dir",
            here / "c" / "x",
            "--source",
            f"../samples/{sample.name}",
        ],
    }
    for folder, call in calls.items():
        subprocess.run([sys.executable, *map(str, call)], cwd=folder, check=True, capture_output=True)
    a, b, c = (checksums(here / name / "x") for name in "abc")
    assert a == b == c
    card = (here / "a" / "x" / "README.md").read_text(encoding="utf-8")
    command = "python data_builders/oasst1_ru.py --source samples/oasst1_ru_sample.jsonl --output_dir x"
    assert f"`{command}`" in card


def test_a_damaged_dataset_folder_is_mended(tmp_path, call_script, capsys):
    build = ["data_builders/oasst1_ru.py", "--source", SAMPLE, "--output_dir", tmp_path / "x"]
    call_script(*build)
    whole = checksums(tmp_path / "x")
    (tmp_path / "x" / "data" / "train-00000-of-00001.parquet").write_bytes(b"junk")
    (tmp_path / "x" / "data" / "test-00000-of-00001.parquet").unlink()
    capsys.readouterr()
    call_script(*build)
    assert "Written to" in capsys.readouterr().out
    assert checksums(tmp_path / "x") == whole
    call_script(*build)
    assert "already in" in capsys.readouterr().out


DAMAGES = {
    "missing column": lambda row, draw: row.pop(draw(st.sampled_from(list(OASST_COLUMNS))), None),
    "wrong type": lambda row, draw: row.update(
        {draw(st.sampled_from(list(OASST_COLUMNS))): draw(st.sampled_from([[1], {}, 1.5, True, 2**70]))}
    ),
    "empty id": lambda row, draw: row.update({draw(st.sampled_from(["message_id", "message_tree_id", "role"])): ""}),
    "circle": lambda row, draw: row.update(parent_id=row["message_id"]),
    "wandering parent": lambda row, draw: row.update(parent_id=draw(st.sampled_from("abcdefz"))),
    "another tree": lambda row, draw: row.update(message_tree_id="t9"),
    "long text": lambda row, draw: row.update(text="очень длинно " * 80_000),
    "lone surrogate": lambda row, draw: row.update(text="полсимвола \ud83d"),
    "line endings": lambda row, draw: row.update(text="раз\r\nдва\rтри\u2028четыре\x00\x85"),
    "repeated id": lambda row, draw: row.update(message_id="a", text=draw(st.text(max_size=9))),
    "another role": lambda row, draw: row.update(role=draw(st.text(min_size=1, max_size=5))),
    "another rank": lambda row, draw: row.update(rank=draw(st.integers() | st.just(10**400))),
    "null": lambda row, draw: row.update({draw(st.sampled_from(list(OASST_COLUMNS))): None}),
    "nothing": lambda row, draw: None,
}


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_rows_are_counted_or_refused_by_name(tmp_path, data):
    names = ["q", "a", "b", "c", "d", "e", "f"]
    parents = [None, "q", "q", "a", "c", "c", "e"]
    roles = ["prompter", "assistant", "assistant", "prompter", "assistant", "assistant", "prompter"]
    rows = [
        message(name, parent, role=role, rank=i if role == "assistant" else None)
        for i, (name, parent, role) in enumerate(zip(names, parents, roles, strict=True))
    ]
    for _ in range(data.draw(st.integers(1, 3))):
        damage = data.draw(st.sampled_from(sorted(DAMAGES)))
        row = data.draw(st.sampled_from(rows))
        if "message_id" in row:
            DAMAGES[damage](row, data.draw)
    path = tmp_path / "rows.jsonl"
    ending = data.draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"]))
    text = data.draw(st.sampled_from(["", "\ufeff"])) + ending.join(map(json.dumps, rows))
    path.write_bytes(text[: data.draw(st.sampled_from([len(text), len(text) - 3]))].encode())
    try:
        frame = read(path)
        pairs, counts = build(frame, turns="all", pairing="all")
    except PreferansError as error:
        assert re.search(r"rows\.jsonl, (row|line) \d+\b", str(error)), error
        return
    assert len(frame) == counts["rows"] == 7
    assert counts["rows"] == counts["used"] + counts["unpaired"] + sum(counts["dropped"].values())
    assert counts["ranked_pairs"] == counts["pairs"] + sum(counts["pairs_dropped"].values())
    for pair in pairs:
        assert row_problem(pair) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (pl.col("rank").cast(pl.String), "'rank' must be int or null, and the file has String"),
        (pl.lit(1).alias("text"), "'text' must be str or null"),
        (pl.lit(0.5).alias("rank"), "'rank' must be int"),
        (pl.lit(2**40).alias("rank"), "row 1: 'rank' is far out of any range"),
        (pl.lit("").alias("message_id"), "row 1: 'message_id' is empty"),
    ],
)
def test_a_broken_parquet_column_is_refused_by_name(tmp_path, change, words):
    path = tmp_path / "rows.parquet"
    pl.DataFrame(conversation(), schema=OASST_COLUMNS).with_columns(change).write_parquet(path)
    with pytest.raises(PreferansError) as caught:
        read(path)
    assert words in str(caught.value)
    pl.DataFrame(conversation(), schema=OASST_COLUMNS).drop("lang").write_parquet(path)
    with pytest.raises(PreferansError, match="'lang' is missing"):
        read(path)


def test_names_with_brackets_are_names(tmp_path):
    frame = pl.DataFrame(conversation(), schema=OASST_COLUMNS)
    frame.head(1).write_parquet(tmp_path / "rows1.parquet")
    frame.write_parquet(tmp_path / "rows[1].parquet")
    assert read(tmp_path / "rows[1].parquet").equals(frame)
    pairs, _ = build_oasst_pairs([frame], PairingRule(), tmp_path / "work[1]", shard_rows=1)
    assert pairs["id"].to_list() == ["a:b"]
    assert not (tmp_path / "work[1]").exists()


def test_a_folder_for_shards_is_not_emptied_of_other_things(tmp_path):
    (tmp_path / "thesis.txt").write_text("…", encoding="utf-8")
    frame = pl.DataFrame(conversation(), schema=OASST_COLUMNS)
    build_oasst_pairs([frame], PairingRule(), tmp_path)
    with pytest.raises(PreferansError, match="holds something else"):
        build_oasst_pairs([frame], PairingRule(), tmp_path, shard_rows=1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_packed_files_are_read_and_arrays_explained(tmp_path):
    lines = "\n".join(map(json.dumps, conversation()))
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    assert read(tmp_path).to_dicts() == conversation()
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(lines.encode())[:-9])
    with pytest.raises(PreferansError, match="cannot be unpacked"):
        read(tmp_path)
    (tmp_path / "rows.json").write_text(json.dumps(conversation(), indent=1), encoding="utf-8")
    with pytest.raises(PreferansError, match="line 1: .*one JSON array"):
        read(tmp_path / "rows.json")


def test_ranks_that_pandas_made_floats_are_read(tmp_path):
    frame = pl.DataFrame(conversation(), schema=OASST_COLUMNS)
    frame.with_columns(pl.col("rank").cast(pl.Float64)).write_parquet(tmp_path / "rows.parquet")
    assert read(tmp_path / "rows.parquet").equals(frame)


@pytest.mark.hub
def test_the_prototypes_figures_on_the_real_dataset(tmp_path):
    try:
        urllib.request.urlopen("https://huggingface.co", timeout=10).close()
    except OSError as error:
        pytest.skip(f"the Hub cannot be reached ({error})")
    command = [
        sys.executable,
        "data_builders/oasst1_ru.py",
        "--layout",
        "prototype",
        "--output_dir",
        tmp_path / "table",
    ]
    online = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    done = subprocess.run(command, cwd=ROOT, env=online, capture_output=True, text=True, encoding="utf-8")
    assert "1,948 rows in `train`, 105 rows in `validation`" in done.stdout, done.stderr
