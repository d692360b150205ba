"""The file of answers of one system."""

import json

import pytest

from preferans.errors import PreferansError
from preferans.files import read_jsonl
from preferans.models.answers_file import AnswersFile

PROMPTS = [{"id": "a", "prompt": "Да?"}, {"id": "b", "prompt": [{"role": "user", "content": "Нет?"}]}]
CONSTANT = {"model": "tiny", "weights": {}, "sampling": {"seed": 1}, "persona": None}


def answer(name: str) -> dict:
    return {"id": name, "answer": "Да.", "finish_reason": "stop"}


def test_keeps_answers_and_orders_them_by_prompts(tmp_path):
    path = tmp_path / "answers" / "a.jsonl"
    answers = AnswersFile(path, PROMPTS, CONSTANT)
    with answers.appending() as append:
        append({"b": answers.complete(answer("b"))})
    answers = AnswersFile(path, PROMPTS, CONSTANT)
    assert answers.missing == PROMPTS[:1]
    with answers.appending() as append:
        append({"a": answers.complete(answer("a"))})
    rows = answers.finish()
    assert [row["id"] for row in rows] == ["a", "b"] and read_jsonl(path) == rows
    assert rows[0] == {"id": "a", "prompt": [{"role": "user", "content": "Да?"}], "answer": "Да.", "model": "tiny"} | {
        "weights": {}, "sampling": {"seed": 1}, "finish_reason": "stop",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "other"}, "line 1: this answer has model 'other', but the command has 'tiny'"),
        ({"persona": {"name": "x"}}, "this answer has persona"),
        ({"id": "c"}, r"this answer is to a prompt \(c\) that the command does not have"),
        ({"prompt": []}, "this answer is to a prompt"),
    ],
)
def test_rejects_answers_of_another_command(tmp_path, change, message):
    row = AnswersFile(tmp_path / "new.jsonl", PROMPTS, CONSTANT).complete(answer("a")) | change
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(PreferansError, match=message):
        AnswersFile(tmp_path / "a.jsonl", PROMPTS, CONSTANT)


def test_rejects_a_broken_line_before_the_end(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": \n{"id": "1"}\n', encoding="utf-8")
    with pytest.raises(PreferansError, match=r"a\.jsonl, line 1"):
        AnswersFile(tmp_path / "a.jsonl", PROMPTS, CONSTANT)


def test_removes_thinking_from_answers(tmp_path):
    answers = AnswersFile(tmp_path / "a.jsonl", PROMPTS, CONSTANT)
    thought = answers.complete(answer("a") | {"answer": "<think>Хм.</think> Да."})
    assert (thought["answer"], thought["thinking"]) == ("Да.", True)
    assert "thinking" not in answers.complete(answer("a"))
