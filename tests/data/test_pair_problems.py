import pytest

from preferans.data.check import CHECKS, check_dataset
from preferans.data.repair import fix_dataset

from ..support.pairs import LONG_QUESTION, QUESTION, TOPICS, as_plain, findings, messages, valid_row


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"prompt": messages(QUESTION, "user"), "chosen": messages(QUESTION + " Рассеяние.")}, "prompt_echo"),
        ({"prompt": messages(QUESTION, "user"), "rejected": messages(QUESTION + " Рассеяние.")}, "prompt_echo"),
        (
            {"prompt": messages(LONG_QUESTION, "user"), "chosen": messages(f"Вы спросили: {LONG_QUESTION}")},
            "prompt_echo",
        ),
        ({"chosen": messages(TOPICS[1], "user") + messages("Да.")}, "prompt_echo"),
        ({"chosen": messages("Хороший ответ.<|im_end|>")}, "template_tokens"),
        ({"rejected": messages("Хороший ответ.\n### Assistant: да")}, "template_tokens"),
        ({"prompt": messages("<start_of_turn>Как быть?", "user")}, "template_tokens"),
        ({"prompt": [*messages("Погода?", "user"), {"role": "tool", "content": "Дождь"}]}, "tools"),
    ],
)
def test_finds_one_problem(changes, check):
    assert findings([valid_row(0), valid_row(1, **changes), valid_row(2)]) == {check: (CHECKS[check][0], 1)}


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": messages("Зачем?", "user"), "chosen": messages("Зачем? Затем.")},
        {"prompt": messages(QUESTION, "user"), "chosen": messages(f"Вопрос «{QUESTION}» непрост.")},
        {"chosen": messages("Тег <b>жирный</b>, массив a[1] и 3 < 5.")},
        {"prompt": messages("Будь вежлив.", "system") + messages("Как дела?", "user")},
        {"tools": '[{"type": "function"}]', "score_chosen": 0.5, "note": None},
    ],
)
def test_accepts_what_only_resembles_a_problem(changes):
    assert findings([valid_row(0), valid_row(1, **changes)]) == {}


def test_finds_repetitions_and_contradictions_within_a_split():
    rows = [valid_row(0), valid_row(0), valid_row(0, chosen=messages("Другой.")), valid_row(1)]
    assert findings(rows) == {"duplicate": ("warning", 1), "repeated_id": ("warning", 1)}
    turned = valid_row(1, id="x", chosen=valid_row(1)["rejected"], rejected=valid_row(1)["chosen"])
    assert findings([valid_row(0), valid_row(1), turned]) == {"contradiction": ("error", 2)}
    loud = turned | {"prompt": messages(TOPICS[1].upper(), "user"), "chosen": messages("плохой ответ 1")}
    assert findings([valid_row(0), valid_row(1), loud]) == {"contradiction": ("error", 2)}
    frames, counts = fix_dataset({"train": [valid_row(0), valid_row(0), valid_row(1), turned]})
    assert frames["train"]["id"].to_list() == ["c0:r0"]
    assert counts["rows"] == [
        ("read", 4),
        ("dropped: repeats another row", 1),
        ("dropped: contradicts another row", 2),
        ("kept", 1),
    ]


def test_finds_leakage_by_tree_and_by_prompt():
    near = messages("почему  трава ЗЕЛЁНАЯ", "user")
    splits = {
        "train": [valid_row(0), valid_row(1, message_tree_id="tree7"), valid_row(2)],
        "train_more": [valid_row(2)],
        "test": [valid_row(3, prompt=near), valid_row(7)],
    }
    report = check_dataset(splits)
    assert {finding.check: (finding.count, finding.rows) for finding in report.findings} == {
        "tree_leakage": (1, ["c1:r1"]),
        "prompt_leakage": (1, ["c0:r0"]),
    }
    assert report.findings[0].share == 1 / 4  # of the training rows
    frames, counts = fix_dataset(splits)
    assert {name: frame["id"].to_list() for name, frame in frames.items()} == {
        "train": ["c2:r2"],
        "train_more": ["c2:r2"],
        "test": ["c3:r3", "c7:r7"],
    }
    assert ("dropped: training row with a conversation tree of another split", 1) in counts["rows"]
    assert findings({"train": splits["test"], "train_more": splits["train"]}) == {}
    # labels of plain prompts make no two of them alike
    assert findings({"train": [as_plain(valid_row(i)) for i in (0, 1)], "test": [as_plain(valid_row(2))]}) == {}


def test_ignores_lines_that_many_prompts_share():
    preamble = "Ниже приведена инструкция, которая описывает задачу. Напиши ответ.\n\n### Инструкция:\n"
    rows = [as_plain(valid_row(i)) for i in range(8)]
    rows = [row | {"prompt": f"{preamble}{row['prompt']}\n\n### Ответ:\n"} for row in rows]
    assert findings({"train": rows[:6], "test": rows[6:]}) == {}
    assert "prompt_leakage" in findings({"train": rows[:6], "test": rows[5:]})


def test_finds_a_test_prompt_in_a_longer_conversation():
    deeper = [*messages("Как варить борщ?", "user"), *messages("Долго."), *messages("А точнее?", "user")]
    rows = [valid_row(0, prompt=deeper, message_tree_id="a")]
    assert "prompt_leakage" in findings(
        {"train": rows, "test": [valid_row(1, prompt=messages("Как варить борщ", "user"))]}
    )
