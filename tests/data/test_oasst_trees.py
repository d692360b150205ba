import pytest

from ..support.rows import build, conversation, message


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
def test_drops_the_conversation_below_a_dropped_prompt(reason, changes):
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


def test_null_flags_do_not_drop_a_row():
    pairs, _ = build(conversation(deleted=None, synthetic=None))
    assert len(pairs) == 1


def test_counts_orphans_and_circles():
    orphan = message("a", "absent", rank=0)
    circle = [message("x", "y", rank=0), message("y", "x", rank=0), message("z", "z", rank=0)]
    _, counts = build([orphan, message("below", "a", role="prompter"), *circle])
    assert counts["dropped"]["orphan"] == 5
    assert counts["used"] == counts["unpaired"] == 0


def test_drops_duplicate_ids_first():
    _, counts = build([*conversation(), message("b", "q", rank=0, text="другой", lang="en")])
    assert counts["dropped"]["duplicate_id"] == 1
    assert counts["dropped"]["other_language"] == 0
    assert counts["pairs"] == 1


def test_a_parent_in_another_tree_does_not_count():
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


def test_strips_blanks_and_converts_line_endings():
    rows = [message("q", text="\ufeffВопрос\r\nв две строки\x1f "), *conversation()[1:]]
    rows[1]["text"] = " Ответ\rв две строки\n"
    pairs, _ = build(rows)
    assert pairs[0]["prompt"][0]["content"] == "\ufeffВопрос\nв две строки"
    assert pairs[0]["chosen"][0]["content"] == "Ответ\nв две строки"
    _, counts = build(conversation(text="Текст сообщения a\r\n"))
    assert counts["pairs_dropped"]["equal_texts"] == 1


def test_a_duplicate_id_in_a_tree_of_another_language_is_dropped_by_the_order_of_the_source():
    foreign = message("b", message_tree_id="t2", lang="en")
    assert build([foreign, *conversation()])[1]["dropped"]["duplicate_id"] == 1
    assert build([foreign, *conversation()])[0] == []
    pairs, counts = build([*conversation(), foreign])
    assert [pair["id"] for pair in pairs] == ["a:b"]
    assert (counts["dropped"]["duplicate_id"], counts["dropped"]["other_language"]) == (1, 0)
