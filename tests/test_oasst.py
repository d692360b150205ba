import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preferans.errors import PreferansError
from preferans.oasst import COLUMNS, PAIRINGS, TURNS, build_pairs, read_rows

from .support.rows import message


def conversation(**changes_of_worst) -> list[dict]:
    return [message("q"), message("a", "q", rank=0), message("b", "q", **({"rank": 1} | changes_of_worst))]


def test_the_lower_rank_is_chosen():
    pairs, counts = build_pairs([message("q"), message("a", "q", rank=3), message("b", "q", rank=1)])
    assert [pair["id"] for pair in pairs] == ["b:a"]
    assert pairs[0]["prompt"] == [{"role": "user", "content": "Текст q"}]
    assert pairs[0]["chosen"] == [{"role": "assistant", "content": "Текст b"}]
    assert pairs[0]["rejected"] == [{"role": "assistant", "content": "Текст a"}]
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
    pairs, counts = build_pairs(conversation(**changes))
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
    pairs, counts = build_pairs(rows, turns="all")
    assert pairs == []
    assert {key: number for key, number in counts["dropped"].items() if number} == {reason: 1, "ancestor": 5}


def test_flags_that_are_null_do_not_drop_a_row():
    pairs, _ = build_pairs(conversation(deleted=None, synthetic=None))
    assert len(pairs) == 1


def test_orphans_and_circles_are_counted():
    orphan = message("a", "absent", rank=0)
    circle = [message("x", "y", rank=0), message("y", "x", rank=0), message("z", "z", rank=0)]
    _, counts = build_pairs([orphan, message("below", "a", role="prompter"), *circle])
    assert counts["dropped"]["orphan"] == 5
    assert counts["used"] == counts["unpaired"] == 0


def test_a_sound_row_outside_every_pair_is_counted():
    _, counts = build_pairs([*conversation(), message("middle", "q", rank=1), message("alone", message_tree_id="t2")])
    assert (counts["used"], counts["unpaired"]) == (3, 2)


def test_a_long_conversation_needs_no_deep_stack():
    rows = [message("0")] + [
        message(str(i), str(i - 1), role="assistant" if i % 2 else "prompter", rank=0) for i in range(1, 5001)
    ]
    rows.append(message("worse", "4998", rank=1))
    pairs, _ = build_pairs(rows[::-1], turns="all")
    assert [len(pair["prompt"]) for pair in pairs] == [4999]


def test_duplicate_ids_are_dropped_before_anything_else():
    _, counts = build_pairs([*conversation(), message("b", "q", rank=0, text="другой", lang="en")])
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
    pairs, _ = build_pairs(rows, turns="all")
    assert [pair["id"] for pair in pairs] == ["c:d"]
    assert [turn["role"] for turn in pairs[0]["prompt"]] == ["user", "assistant", "user"]
    assert build_pairs(rows, turns="first")[0] == []


@pytest.mark.parametrize(
    ("pairing", "expected"),
    [("best_worst", ["a:c"]), ("adjacent", ["a:b", "b:c"]), ("all", ["a:b", "a:c", "b:c"])],
)
def test_pairings(pairing, expected):
    rows = [message("q"), message("c", "q", rank=7), message("a", "q", rank=0), message("b", "q", rank=2)]
    assert [pair["id"] for pair in build_pairs(rows, pairing=pairing)[0]] == expected


def test_equal_ranks_and_equal_texts_make_no_pair():
    assert build_pairs(conversation(rank=0))[0] == []
    pairs, counts = build_pairs(conversation(text="Текст a "))
    assert pairs == []
    assert (counts["equal_texts"], counts["prompts_with_pairs"]) == (1, 0)


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


@settings(max_examples=300, deadline=None)
@given(st.lists(row_strategy, max_size=12), st.sampled_from(TURNS), st.sampled_from(PAIRINGS))
def test_every_row_is_accounted_for(rows, turns, pairing):
    pairs, counts = build_pairs(rows, turns=turns, pairing=pairing)
    assert counts["rows"] == len(rows) == counts["used"] + counts["unpaired"] + sum(counts["dropped"].values())
    assert counts["used"] >= bool(pairs) * 3
    for pair in pairs:
        assert pair["chosen_rank"] < pair["rejected_rank"]
        assert pair["chosen"] != pair["rejected"]
        assert pair["prompt"][-1]["role"] == "user"
        assert turns == "all" or len(pair["prompt"]) == 1


def expected_pairs(rows: list[dict], lang: str, turns: str, pairing: str) -> set[str]:
    """The rule once more, as slowly and plainly as it can be written."""
    by_id = {}
    for row in rows:
        by_id.setdefault(row["message_id"], row)

    def counts(row):
        fine = row["lang"] == lang and not row["deleted"] and row["review_result"] is True and not row["synthetic"]
        fine = fine and row["tree_state"] == "ready_for_export" and bool((row["text"] or "").strip())
        if row["parent_id"] is None or not fine:
            return fine
        return row["parent_id"] in by_id and counts(by_id[row["parent_id"]])

    found = set()
    for prompt in by_id.values():
        if prompt["role"] != "prompter" or not counts(prompt) or (turns == "first" and prompt["parent_id"]):
            continue
        replies = [
            row for row in by_id.values() if row["parent_id"] == prompt["message_id"] and row["role"] == "assistant"
        ]
        replies = sorted(
            (row for row in replies if counts(row) and row["rank"] is not None), key=lambda row: row["rank"]
        )
        for i, j in itertools.combinations(range(len(replies)), 2):
            wanted = {"best_worst": i == 0 and j == len(replies) - 1, "adjacent": j == i + 1, "all": True}[pairing]
            chosen, rejected = replies[i], replies[j]
            if wanted and chosen["rank"] < rejected["rank"] and chosen["text"].strip() != rejected["text"].strip():
                found.add(f"{chosen['message_id']}:{rejected['message_id']}")
    return found


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("pairing", PAIRINGS)
@pytest.mark.parametrize(("file", "lang"), [("oasst1_en_validation.jsonl", "en"), ("oasst2_ru.jsonl", "ru")])
def test_real_rows_give_exactly_the_pairs_of_the_rule(shared_data, file, lang, turns, pairing):
    rows = read_rows(str(shared_data / file))
    pairs, counts = build_pairs(rows, lang, turns, pairing)
    assert {pair["id"] for pair in pairs} == expected_pairs(rows, lang, turns, pairing)
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
    assert read_rows(str(tmp_path / "rows")) == read_rows(str(tmp_path / "rows" / "a.jsonl")) == rows
    assert read_rows(str(tmp_path / "rows.parquet")) == rows
    assert list(rows[0]) == list(COLUMNS)


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
        read_rows(str(path))
    for word in ["rows.jsonl", *words]:
        assert word in str(caught.value)


def test_a_source_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(PreferansError, match="no such file or folder"):
        read_rows(str(tmp_path / "absent.jsonl"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(PreferansError, match=r"holds no \.jsonl"):
        read_rows(str(tmp_path / "empty"))
    (tmp_path / "x.parquet").write_bytes(b"PAR1 broken")
    with pytest.raises(PreferansError, match="not a readable parquet"):
        read_rows(str(tmp_path / "x.parquet"))
