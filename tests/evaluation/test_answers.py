import json

import pytest

from preferans.errors import PreferansError
from preferans.evaluation.answers import HUMAN, human_replies, line_up, pick, prompts_sha256, read_systems
from preferans.files import write_jsonl

from ..support.rows import preference


def row(number: int, model: str = "before", **changes) -> dict:
    prompt = [{"role": "user", "content": f"Вопрос номер {number}?"}]
    return {"id": str(number), "prompt": prompt, "answer": "Да.", "model": model, "finish_reason": "stop"} | changes


def read(tmp_path, *rows: dict, name: str = "answers.jsonl"):
    write_jsonl(tmp_path / name, list(rows))
    return read_systems(str(tmp_path / name))


def refused(function, *arguments) -> str:
    with pytest.raises(PreferansError) as caught:
        function(*arguments)
    return str(caught.value)


def test_one_file_can_contain_several_systems(tmp_path):
    sampling = {"temperature": 0.7}
    rows = [row(1, "a", sampling=sampling), row(1, "b"), row(2, "a", sampling=sampling), row(2, "b", sampling={})]
    first, second = read(tmp_path, *rows)
    assert (first.name, second.name) == ("a", "b")
    assert list(first.rows) == ["1", "2"]
    assert first.sampling == sampling
    assert second.sampling is None  # not the same in all
    assert pick("b", [first, second]) is second
    assert "Name one of them: a, b" in refused(pick, str(tmp_path / "answers.jsonl"), [first, second])
    assert "Did you mean" in refused(pick, "aa", [first, second])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"answer": None}, "'answer' must be text, got None"),
        ({"prompt": "Вопрос?"}, "'prompt' must be a list, got 'Вопрос?'"),
        ({"prompt": []}, "'prompt' has no message"),
        ({"prompt": [{"role": "system", "content": "Ты кот."}]}, "'prompt' has no message other than the system's"),
        ({"prompt": [{"role": "user"}]}, "'prompt', item 1, 'content' is missing"),
        ({"prompt": [{"role": "tool", "content": "42"}]}, "'prompt', item 1, 'role' is 'tool'"),
        ({"id": 7}, "'id' must be text"),
        ({"model": " "}, "'model' is empty"),
        ({"finish_reason": 1}, "'finish_reason' must be"),
        ({"model": "tie"}, "'model' must not be 'tie'"),
        ({"id": "1"}, "'before' has a second answer to 1"),
    ],
)
def test_invalid_answers_are_rejected_with_line_and_key(changes, words, tmp_path):
    paragraph = refused(read, tmp_path, row(1), row(2, **changes))
    assert "answers.jsonl, line 2: " in paragraph
    assert words in paragraph


@pytest.mark.parametrize(
    "changes", [{"answer": "Кот \ud83d"}, {"model": "\udc00"}, {"prompt": [{"role": "user", "content": "\ud83d?"}]}]
)
def test_lone_surrogates_are_rejected(changes, tmp_path):
    (tmp_path / "answers.jsonl").write_text(json.dumps(row(1, **changes)), encoding="utf-8")
    paragraph = refused(read_systems, str(tmp_path / "answers.jsonl"))
    assert "answers.jsonl, line 1: '" in paragraph
    assert "contains half a character" in paragraph


def test_rejects_files_that_are_not_answers(tmp_path):
    assert "there are no answers in this file" in refused(read, tmp_path)
    assert "there is no such file" in refused(read_systems, str(tmp_path / "absent.jsonl"))
    write_jsonl(tmp_path / "cut.jsonl", [row(1), row(2)])
    whole = (tmp_path / "cut.jsonl").read_bytes()
    (tmp_path / "cut.jsonl").write_bytes(whole[:-30])
    paragraph = refused(read_systems, str(tmp_path / "cut.jsonl"))
    assert "cut.jsonl, line 2: this is not valid JSON" in paragraph
    assert "may be truncated" in paragraph


def test_systems_are_aligned_by_their_prompts(tmp_path):
    persona = [{"role": "system", "content": "Ты кот."}]
    (plain,) = read(tmp_path, row(2), row(1), name="a.jsonl")
    (prompted,) = read(
        tmp_path, *[row(n, "cat", prompt=persona + row(n)["prompt"]) for n in (1, 2)], name="b.jsonl"
    )  # fmt: skip
    prompts = line_up([prompted, plain])
    assert list(prompts.items()) == [("1", row(1)["prompt"]), ("2", row(2)["prompt"])]
    assert line_up([prompted])["1"] == persona + row(1)["prompt"]
    assert prompts_sha256(prompts) == prompts_sha256(line_up([prompted])) != prompts_sha256({"1": row(1)["prompt"]})


def test_rejects_systems_with_different_prompts(tmp_path):
    (first,) = read(tmp_path, row(1), row(2), name="a.jsonl")

    def against(*rows: dict) -> str:
        return refused(line_up, [first, *read(tmp_path, *rows, name="b.jsonl")])

    assert "answer different prompts (2 is not in both)" in against(row(1, "after"), row(3, "after"))
    assert "have 2 and 1 answers. If " + str(tmp_path / "b.jsonl") in against(row(1, "after"))
    changed = row(2, "after", prompt=row(3)["prompt"])
    assert "the id 2 has different messages" in against(row(1, "after"), changed)
    assert "both have a system 'before'. Set a different --label" in against(row(1), row(2))


def test_human_replies_are_matched_by_the_prompt(tmp_path):
    folder = tmp_path / "pairs"
    folder.mkdir()
    second = preference(1, id="other", chosen=[{"role": "assistant", "content": "Ещё лучше."}])
    write_jsonl(folder / "train.jsonl", [preference(1, chosen_rank=1), second, preference(2)])
    write_jsonl(folder / "test.jsonl", [preference(3)])
    (system,) = read(tmp_path, row(3), row(1))
    human, references = human_replies(str(folder), line_up([system]))
    assert (human.name, human.kind, human.source) == (HUMAN, "human", str(folder))
    assert human.rows["1"]["answer"] == "Ещё лучше."  # its rank is the better one
    assert human.rows["3"]["finish_reason"] is None
    assert references["1"] == ["Хороший ответ номер 1, полный и вежливый.", "Ещё лучше."]
    assert list(line_up([system, human])) == ["1", "3"]
    (unanswered,) = read(tmp_path, row(1), row(9), row(8))
    assert "no reply to 2 of the 3 prompts (such as 8)" in refused(human_replies, str(folder), line_up([unanswered]))


def test_human_replies_of_a_dataset_of_texts(tmp_path):
    folder = tmp_path / "pairs"
    folder.mkdir()
    texts = {"prompt": "Вопрос: Который час?\nОтвет:", "chosen": " Полдень.", "rejected": " Нет."}
    write_jsonl(folder / "train.jsonl", [texts])
    (system,) = read(tmp_path, row(1, prompt=[{"role": "user", "content": texts["prompt"]}]))
    human, _ = human_replies(str(folder), line_up([system]))
    assert human.rows["1"]["answer"] == "Полдень."
