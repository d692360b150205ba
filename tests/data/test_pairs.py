import json

import pytest

from preferans.data.check import CHECKS, check_dataset
from preferans.data.pairs import Pair, read_pairs, row_label
from preferans.data.preferences import row_problem
from preferans.data.repair import fix_dataset

from ..support.pairs import QUESTION, TOPICS, as_implicit, as_plain, findings, messages, valid_row


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"chosen": None}, "schema"),
        ({"chosen": 7}, "schema"),
        ({"chosen": "текст"}, "schema"),
        ({"rejected": [3]}, "schema"),
        ({"rejected": [{"from": "gpt", "value": "Да"}]}, "schema"),
        ({"chosen": [{"role": "assistant", "content": None}]}, "schema"),
        ({"chosen": [{"role": "assistant", "content": ["Да"]}]}, "schema"),
        ({"chosen": messages("\ud800")}, "schema"),
        ({"prompt": "Зачем?"}, "schema"),
        ({"chosen": messages("Да", "gpt")}, "roles"),
        ({"chosen": messages("Да", "user")}, "roles"),
        ({"chosen": messages("Да") + messages("Нет")}, "roles"),
        ({"prompt": messages("Ответ")}, "roles"),
        ({"prompt": []}, "empty"),
        ({"prompt": messages(" ", "user")}, "empty"),
        ({"chosen": []}, "empty"),
        ({"rejected": messages(" \n")}, "empty"),
        ({"chosen": messages("Да."), "rejected": messages(" Да.\n")}, "equal"),
    ],
)
def test_finds_one_invalid_row(changes, check):
    assert findings([valid_row(0), valid_row(1, **changes), valid_row(2)]) == {check: (CHECKS[check][0], 1)}


def test_names_invalid_rows_by_id_or_by_number():
    rows = [valid_row(0), valid_row(1, chosen=None), {"chosen": []}, "текст", *[valid_row(2, id=5, prompt=[])] * 7]
    findings = check_dataset({"train": rows}).findings
    assert {finding.problem: (finding.count, finding.rows) for finding in findings} == {
        "'chosen' is null.": (1, ["c1:r1"]),
        "The column 'prompt' is missing: in a row with chosen.": (1, ["train:3"]),
        "The row is not an object: a text.": (1, ["train:4"]),
        "'prompt' has no message.": (7, [f"train:{number}" for number in range(5, 12)]),
    }


def test_finds_invalid_plain_texts():
    rows = [as_plain(valid_row(i)) for i in range(4)]
    asked = {"prompt": f"Вопрос: {QUESTION}\nОтвет:"}
    assert findings([*rows, rows[0] | asked | {"id": "x", "chosen": f" {QUESTION} Рассеяние."}]) == {
        "prompt_echo": ("error", 1)
    }
    assert findings([*rows, rows[0] | {"id": "x", "chosen": "  "}]) == {"empty": ("error", 1)}
    # a plain prompt may be what a chat template has rendered
    assert findings([*rows, rows[0] | {"id": "x", "prompt": "<|im_start|>user\nПочему?<|im_end|>"}]) == {}
    assert findings([*rows, rows[0] | {"id": "x", "chosen": messages("Да.")}]) == {"schema": ("error", 1)}


def test_an_implicit_prompt_is_the_common_beginning():
    rows = [as_implicit(valid_row(i)) for i in range(3)]
    other = rows[1] | {"chosen": messages("Иной вопрос", "user") + messages("Да.")}
    assert findings([*rows, other | {"id": "x"}]) == {"implicit_prompt": ("error", 3), "schema": ("error", 1)}


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        ("Вопрос: Как?\nОтвет: Парус", "Вопрос: Как?\nОтвет: Парад", ("Вопрос: Как?\nОтвет:", " Парус", " Парад")),
        ("\n\nHuman: Hi\n\nAssistant: Yes", "\n\nHuman: Hi\n\nAssistant: Yes. No", None),
        ("Вопрос: Как?\nОтвет:\nДа", "Вопрос: Как?\nОтвет:\nНет", ("Вопрос: Как?\nОтвет:\n", "Да", "Нет")),
        ("Как? Парус", "Как? Парад", None),
        ("Вопрос: Как?\nДа", "Вопрос: Как?\nНет", None),
        (".", ". Так надо.", None),
        ("Да.", "Нет.", None),
    ],
)
def test_a_text_is_cut_only_after_a_label_of_the_assistant(chosen, rejected, expected):
    if expected is None and "Assistant:" in chosen:
        expected = ("\n\nHuman: Hi\n\nAssistant:", " Yes", " Yes. No")
    pairs, problems = read_pairs({"train": [{"chosen": chosen, "rejected": rejected}]})
    assert [(pair.prompt, pair.chosen, pair.rejected) for pair in pairs] == ([expected] if expected else [])
    assert [problem.check for _, problem in problems] == ([] if expected else ["schema"])
    fixed, _ = fix_dataset({"train": [{"chosen": chosen, "rejected": rejected}]})
    assert [row[1:4] for frame in fixed.values() for row in frame.rows()] == ([expected] if expected else [])


@pytest.mark.parametrize("column", ["question", "Instruction", "вопрос"])
def test_names_the_column_that_looks_like_the_prompt(column):
    rows = [{column: "Почему?", "chosen": "Потому.", "rejected": "Просто так."}] * 2
    report = check_dataset({"train": rows})
    assert [finding.check for finding in report.findings] == ["schema"]
    assert f"'{column}' looks like it: rename it" in report.findings[0].problem
    assert f"'{column}' looks like it: rename the column" in row_problem(rows[0])


@pytest.mark.parametrize("write", [json.dumps, repr], ids=["JSON", "repr"])
def test_finds_and_reads_lists_of_messages_in_texts(write):
    rows = [valid_row(i) for i in range(3)]
    texts = [row | {column: write(row[column]) for column in ("prompt", "chosen", "rejected")} for row in rows]
    assert findings(texts) == {"schema": ("error", 3)}
    assert "'prompt' contains a list of messages as a text" in row_problem(texts[0])
    frames, counts = fix_dataset({"train": texts})
    assert frames["train"]["prompt"].to_list() == [row["prompt"] for row in rows]
    assert frames["train"]["chosen"].to_list() == [row["chosen"] for row in rows]
    assert counts["repairs"] == [("rows turned from texts into messages", 3)]


def test_finds_and_repairs_text_answers_beside_messages():
    rows = [valid_row(i) | {"chosen": f"Да {i}.", "rejected": f"Нет {i}."} for i in range(3)]
    assert findings(rows) == {"schema": ("error", 3)}
    frames, _ = fix_dataset({"train": rows})
    assert frames["train"]["chosen"].to_list() == [messages(f"Да {i}.") for i in range(3)]


@pytest.mark.parametrize("whole", [True, False], ids=["whole conversation", "answer alone"])
def test_finds_and_repairs_a_text_prompt_beside_messages(whole):
    rows = [(as_implicit(valid_row(i)) if whole else valid_row(i)) | {"prompt": TOPICS[i]} for i in range(3)]
    assert findings(rows) == {"schema": ("error", 3)}
    frames, counts = fix_dataset({"train": rows})
    assert frames["train"]["prompt"].to_list() == [messages(topic, "user") for topic in TOPICS[:3]]
    assert counts["repairs"] == [("rows turned from texts into messages", 3)]


def read(*rows: dict) -> list[Pair]:
    return read_pairs({"train": list(rows)})[0]


def test_reads_the_texts_of_the_user():
    prompt = [
        *messages("Будь краток.", "system"),
        *messages("Раз?", "user"),
        *messages("Да."),
        *messages("Два?", "user"),
    ]
    pair, plain = read(valid_row(0, prompt=prompt))[0], read(as_plain(valid_row(0)))[0]
    assert (pair.first_user_text, pair.user_text, pair.questions) == ("Раз?", "Раз?\nДва?", ["Два?"])
    assert plain.first_user_text == plain.user_text == TOPICS[0]
    assert plain.questions == [f"Вопрос: {TOPICS[0]}\nОтвет:", TOPICS[0]]


@pytest.mark.parametrize("name", ["", " ", 5, None, "\ud800"])
def test_a_row_without_a_usable_id_is_named_by_its_number(name):
    assert row_label({"id": name}, "test", 3) == "test:3"
    assert row_label({"id": "a"}, "test", 3) == "a"
