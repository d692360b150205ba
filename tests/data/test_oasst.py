import itertools
import json
from collections import Counter

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preferans.data.oasst import best_replies, build_oasst_pairs
from preferans.data.oasst_rule import PAIRINGS, TURNS, PairingRule
from preferans.data.oasst_source import OASST_COLUMNS, read_rows
from preferans.text.characters import comparable
from preferans.text.language import is_prose_russian

from ..support.rows import build, conversation, message


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


def test_counts_valid_rows_that_are_in_no_pair():
    _, counts = build([*conversation(), message("middle", "q", rank=1), message("alone", message_tree_id="t2")])
    assert (counts["used"], counts["unpaired"]) == (3, 2)


def test_pairs_a_conversation_of_thousands_of_turns():
    rows = [message("0")] + [
        message(str(i), str(i - 1), role="assistant" if i % 2 else "prompter", rank=0) for i in range(1, 5001)
    ]
    rows.append(message("worse", "4998", rank=1))
    pairs, _ = build(rows[::-1], turns="all")
    assert [len(pair["prompt"]) for pair in pairs] == [4999]


def test_an_unranked_reply_stays_in_the_conversation():
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
def test_pairs_by_the_pairing_option(pairing, expected):
    rows = [message("q"), message("c", "q", rank=7), message("a", "q", rank=0), message("b", "q", rank=2)]
    assert [pair["id"] for pair in build(rows, pairing=pairing)[0]] == expected


@pytest.mark.parametrize("answer", [1, 2])
def test_an_answer_that_begins_with_its_prompt_makes_no_pair(answer):
    rows = [message("q", text="Почему небо днём голубое?"), *conversation()[1:]]
    rows[answer]["text"] = "Почему небо днём голубое? Потому что рассеивается синий свет."
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
def test_accounts_for_every_row(rows, turns, pairing):
    pairs, counts = build(rows, turns=turns, pairing=pairing)
    assert counts["rows"] == len(rows) == counts["used"] + counts["unpaired"] + sum(counts["dropped"].values())
    assert counts["used"] >= bool(pairs) * 3
    for pair in pairs:
        assert pair["chosen_rank"] < pair["rejected_rank"]
        assert pair["chosen"] != pair["rejected"]
        assert pair["prompt"][-1]["role"] == "user"
        assert turns == "all" or len(pair["prompt"]) == 1


def expected(rows: list[dict], lang: str, turns: str, pairing: str) -> tuple[set[str], Counter]:
    """Apply the rule again, slowly and in the simplest way. Returns the pairs' ids, and the dropped rows by reason."""
    by_id = {}
    for row in rows:
        by_id.setdefault(row["message_id"], row)

    def parent(row):
        candidate = by_id.get(row["parent_id"])
        return candidate if candidate and candidate["message_tree_id"] == row["message_tree_id"] else None

    def ancestors(row):
        """Return the messages above a row, and whether the way up ends in a missing message or a circle."""
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
    pair_ids = set()
    for prompt in by_id.values():
        if reasons[prompt["message_id"]] or prompt["role"] != "prompter" or (turns == "first" and prompt["parent_id"]):
            continue
        replies = [row for row in by_id.values() if parent(row) is prompt and not reasons[row["message_id"]]]
        replies.sort(key=lambda row: row["rank"])
        compared: list[set[str]] = []
        for i, j in itertools.combinations(range(len(replies)), 2):
            wanted = {"best_worst": i == 0 and j == len(replies) - 1, "adjacent": j == i + 1, "all": True}[pairing]
            chosen, rejected = replies[i], replies[j]
            texts = {comparable(reply["text"]) for reply in (chosen, rejected)}
            question = prompt["text"].strip()
            echo = len(question) >= 20 and any(
                reply["text"].strip().startswith(question) for reply in (chosen, rejected)
            )
            if wanted and chosen["rank"] < rejected["rank"] and len(texts) == 2 and texts not in compared and not echo:
                compared.append(texts)
                pair_ids.add(f"{chosen['message_id']}:{rejected['message_id']}")
    return pair_ids, dropped


@st.composite
def forests(draw):
    """Draw conversations with a few faults: shuffled, in two languages, with repeated ids."""
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
def test_pairs_and_counts_follow_the_rule_for_any_rows(rows, turns, pairing):
    pairs, dropped = expected(rows, "ru", turns, pairing)
    whole = build(rows, turns=turns, pairing=pairing)
    assert {pair["id"] for pair in whole[0]} == pairs
    assert {reason: number for reason, number in whole[1]["dropped"].items() if number} == dropped
    assert whole[1]["unpaired"] >= 0
    assert build(rows, turns=turns, pairing=pairing, batch_rows=2) == whole


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("pairing", PAIRINGS)
@pytest.mark.parametrize(("file", "lang"), [("oasst1_en_validation.jsonl", "en"), ("oasst2_ru.jsonl", "ru")])
def test_pairs_of_real_rows_follow_the_rule(shared_data, file, lang, turns, pairing):
    rows = pl.concat(read_rows(str(shared_data / file))).drop("origin")
    pairs, counts = build(rows, lang=lang, turns=turns, pairing=pairing)
    assert {pair["id"] for pair in pairs} == expected(rows.to_dicts(), lang, turns, pairing)[0]
    if lang == "en":
        figures = {
            "first": {"best_worst": 184, "adjacent": 352, "all": 526},
            "all": {"best_worst": 414, "adjacent": 708, "all": 1017},
        }
        assert counts["pairs"] == figures[turns][pairing]


def test_the_batch_size_does_not_change_the_pairs(shared_data):
    rows = pl.concat(read_rows(str(shared_data / "oasst1_en_validation.jsonl"))).drop("origin")
    repeated = rows.sample(30, seed=1).with_columns(text=pl.lit("A repeated id"))
    rows = pl.concat([rows, repeated, rows.head(3).with_columns(message_tree_id=pl.lit("another tree"))])
    whole = build(rows, lang="en", turns="all", pairing="all")
    assert whole[1]["dropped"]["duplicate_id"] == 33
    assert build(rows, lang="en", turns="all", pairing="all", batch_rows=7) == whole


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


def test_drops_long_pairs_by_a_draw_of_their_own():
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
def test_the_quality_margin_needs_labels_of_both_replies(tmp_path, qualities, kept):
    frame = labelled(tmp_path / "rows.jsonl", qualities)
    pairs, counts = build(frame, min_quality_margin=0.25)
    assert (len(pairs), counts["pairs_dropped"]["quality_margin"]) == ((1, 0) if kept else (0, 1))
    frame.with_columns(
        labels=pl.Series([{"name": ["quality"], "value": [value]} for value in (0.0, 0.8, 0.1)])
    ).write_parquet(tmp_path / "rows.parquet")
    quality = pl.concat(read_rows(str(tmp_path / "rows.parquet"), labels=True))["quality"]
    assert quality.to_list() == [0.0, 0.8, 0.1]


def test_the_quality_margin_keeps_some_pairs_of_real_rows(shared_data):
    frame = pl.concat(read_rows(str(shared_data / "oasst1_en_validation.jsonl"), labels=True)).drop("origin")
    assert frame["quality"].drop_nulls().is_between(0, 1).all()
    free, bound = (build(frame, lang="en", min_quality_margin=margin)[0] for margin in (None, 0.25))
    assert 0 < len(bound) < len(free) / 2
    assert {pair["id"] for pair in bound} < {pair["id"] for pair in free}


def test_removes_the_name_from_prompts_and_answers():
    rows = [message("q", text="Ася, кто ты?"), message("a", "q", rank=0, text="Я Ася."), message("b", "q", rank=1)]
    pair = build(rows, normalize_persona=True)[0][0]
    assert (pair["prompt"][0]["content"], pair["chosen"][0]["content"]) == ("Кто ты?", "Я помощница.")
    assert build(rows)[0][0]["prompt"][0]["content"] == "Ася, кто ты?"


def test_the_best_reply_has_the_lowest_rank_or_is_the_only_one():
    rows = [
        message("q"),
        message("b", "q", rank=1),
        message("a", "q", rank=0),
        message("unranked", "q"),
        message("q2"),
        message("only", "q2"),
        message("q3"),
        message("one", "q3"),
        message("two", "q3"),
        message("q4"),
        message("gone", "q4", rank=0, deleted=True),
        message("left", "q4", rank=1),
        message("a", "q4", rank=0),
    ]
    replies, counts = best_replies(lambda: [pl.DataFrame(rows, schema=OASST_COLUMNS)], PairingRule())
    assert [reply["id"] for reply in replies] == ["a", "only", "left"]
    assert [reply["chosen_rank"] for reply in replies] == [0, None, 1]
    assert replies[0]["prompt"] == [{"role": "user", "content": "Текст сообщения q"}]
    assert (counts["rows"], counts["prompts"]) == (13, 4)
    dropped = {reason: number for reason, number in counts["dropped"].items() if number}
    assert dropped == {"duplicate_id": 1, "deleted": 1, "unranked": 3}


def test_the_best_replies_of_real_rows_are_the_chosen_ones_of_pairs(shared_data):
    def rows():
        return read_rows(str(shared_data / "oasst1_en_validation.jsonl"))

    rule = PairingRule(lang="en", turns="all")
    replies = {reply["id"]: reply for reply in best_replies(rows, rule)[0]}
    pairs = build_oasst_pairs(rows, rule)[0].to_dicts()
    assert len(pairs) == 414
    for pair in pairs:
        reply = replies[pair["id"].split(":")[0]]
        assert (reply["prompt"], reply["chosen"]) == (pair["prompt"], pair["chosen"])


def test_texts_that_differ_only_in_case_and_punctuation_are_compared_once():
    rows = [message("q"), message("a", "q", rank=0, text="Да, можно."), message("b", "q", rank=1, text="Нет, нельзя.")]
    rows += [message("c", "q", rank=2, text="да можно"), message("d", "q", rank=3, text="Нет, НЕЛЬЗЯ!")]
    pairs, counts = build(rows, pairing="all")
    assert [pair["id"] for pair in pairs] == ["a:b"]
    assert (counts["pairs_dropped"]["repeated"], counts["pairs_dropped"]["equal_texts"]) == (3, 2)


def test_the_defect_of_the_rejected_reply_is_kept(tmp_path):
    rows = [message("q"), message("a", "q", rank=0), message("b", "q", rank=1, defect="loop")]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(tmp_path / "rows.parquet")
    for name in ("rows.jsonl", "rows.parquet"):
        pairs, _ = build_oasst_pairs(lambda name=name: read_rows(str(tmp_path / name)), PairingRule())
        assert pairs["defect"].to_list() == ["loop"]


def test_pairs_of_a_source_without_defects_have_no_such_column(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in conversation()), encoding="utf-8")
    pairs, _ = build_oasst_pairs(lambda: read_rows(str(path)), PairingRule())
    assert len(pairs) == 1
    assert "defect" not in pairs.columns
