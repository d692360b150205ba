import pytest

from preferans.data.ratings import CRITERIA
from preferans.errors import PreferansError
from preferans.evaluation.answer_ranks import FAULTS, faults_of, judge_totals, pair_by_faults, pair_by_scores
from preferans.evaluation.answers import answers_sha256, prompt_key
from preferans.files import write_jsonl

GOOD = "Перелейте чай несколько раз из чашки в чашку, и он быстро остынет."
SHORT = "Остудите его."
LONG = GOOD + " Ещё можно поставить чашку в холодную воду и помешивать ложкой, пока чай не станет тёплым."
FOREIGN = "Нужно consider разные способы, и чай быстро остынет сам."
LOOP = "Чай остынет. " * 20
CUT = "Перелейте чай несколько раз из чашки в чашку, и"
ENGLISH = "Pour the tea from one cup into another several times, and it cools down quickly."


def answer(text: str, number: int = 0, prompt: str = "Как быстро остудить чай?") -> dict:
    return {
        "id": f"q#{number}",
        "prompt": [{"role": "user", "content": prompt}],
        "answer": text,
        "finish_reason": None,
    }


def rows(*texts: str) -> list[dict]:
    return [answer(text, number) for number, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("text", "prompt", "fault"),
    [
        (ENGLISH, "Как?", "not in Russian"),
        (LOOP, "Как?", "loops"),
        (CUT, "Как?", "breaks off"),
        (FOREIGN, "Как?", "has an intruding foreign word"),
        (GOOD, "Ответь в формате JSON: как остудить чай?", "has not the requested form"),
    ],
)
def test_each_fault_is_found(text, prompt, fault):
    found = [name for name, is_fault in zip(FAULTS, faults_of(answer(text, prompt=prompt)), strict=False) if is_fault]
    assert found == [fault]
    assert not any(faults_of(answer(GOOD)))


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([FOREIGN, GOOD], (GOOD, FOREIGN)),
        ([FOREIGN, GOOD, ENGLISH, CUT], (GOOD, ENGLISH)),  # the most serious fault
        ([GOOD, SHORT, FOREIGN], (GOOD, FOREIGN)),  # the closest lengths
        ([GOOD, SHORT], "tie"),
        ([CUT, FOREIGN], "no_good"),
        ([GOOD, ""], "single"),  # an empty answer cannot be rejected
        ([GOOD, "", FOREIGN], (GOOD, FOREIGN)),
        ([GOOD, f" {GOOD}\n"], "single"),
    ],
)
def test_pairs_by_faults(texts, expected):
    found = pair_by_faults(rows(*texts))
    assert (found if isinstance(found, str) else tuple(row["answer"] for row in found)) == expected


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([SHORT, GOOD], (GOOD, SHORT)),
        ([LONG, SHORT, GOOD], (GOOD, SHORT)),  # of two answers that are too far, the one whose length is closest
        ([GOOD, SHORT, FOREIGN], (GOOD, FOREIGN)),  # a word is more serious
        ([SHORT, FOREIGN], (SHORT, FOREIGN)),  # a far length does not exclude from chosen
        ([SHORT, SHORT.upper()], "tie"),
    ],
)
def test_a_length_far_from_that_of_people_is_the_last_fault(texts, expected):
    answers = rows(*texts)
    lengths = {prompt_key(answers[0]["prompt"]): [1000, len(GOOD)]}
    found = pair_by_faults(answers, lengths)
    assert (found if isinstance(found, str) else tuple(row["answer"] for row in found)) == expected


@pytest.mark.parametrize(("length", "is_far"), [(49, True), (50, False), (200, False), (201, True)])
def test_a_far_length_is_less_than_half_or_more_than_twice(length, is_far):
    assert faults_of(answer("а" * length), [100])[-1] is is_far
    assert faults_of(answer("а" * length))[-1] is False


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({"a": 20, "b": 10, "c": 15}, ("a", "b")),
        ({"a": 12, "b": 10}, "gap"),
        ({"a": 13, "b": 10}, ("a", "b")),
        ({"a": 10, "b": 10}, "tie"),
        ({"a": 20, "b": None}, "unjudged"),
    ],
)
def test_pairs_by_scores(scores, expected):
    found = pair_by_scores(rows(*scores), lambda row: scores[row["answer"]], 3)
    assert (found if isinstance(found, str) else tuple(row["answer"] for row in found)) == expected


def test_reads_the_scores_of_judges(tmp_path):
    def scored(total: int, text: str, number: int) -> dict:
        scores = dict.fromkeys(CRITERIA, total // 5)
        return {
            "kind": "scores",
            "id": f"q#{number}",
            "system": "m",
            "scores": scores,
            "answers_sha256": answers_sha256([text]),
        }

    write_jsonl(tmp_path / "one.jsonl", [scored(20, GOOD, 0), scored(5, SHORT, 1), {"kind": "pair", "id": "q#0"}])
    write_jsonl(tmp_path / "two.jsonl", [scored(10, GOOD, 0), scored(5, SHORT, 1) | {"scores": None}])
    total = judge_totals([str(tmp_path / "one.jsonl"), str(tmp_path / "two.jsonl")])
    assert [total(row) for row in rows(GOOD, SHORT)] == [15, 5]
    assert total(answer("Иной текст.", 0)) is None and total(answer(GOOD, 5)) is None
    write_jsonl(tmp_path / "pairs.jsonl", [{"kind": "pair", "id": "q"}])
    with pytest.raises(PreferansError, match=r"pairs\.jsonl: this file has no scores of a judge"):
        judge_totals([str(tmp_path / "pairs.jsonl")])
