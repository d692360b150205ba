import hashlib
import random

import pytest

from preferans.errors import PreferansError
from preferans.evaluation.answers import System, line_up
from preferans.evaluation.ranking import Vote
from preferans.evaluation.verdicts import read_verdicts
from preferans.files import write_jsonl


def make_systems() -> list[System]:
    def rows(*answers: str) -> dict[str, dict]:
        return {
            str(number): {"prompt": [{"role": "user", "content": f"Вопрос {number}?"}], "answer": answer}
            for number, answer in enumerate(answers)
        }

    return [System("base", "base.jsonl", rows("Да.", "Нет!")), System("tuned", "t.jsonl", rows("Да, да.", ""))]


def read(path, rows: list[dict]):
    write_jsonl(path, rows)
    systems = make_systems()
    (verdicts,) = read_verdicts([str(path)], systems, line_up(systems)).values()
    return verdicts


def pair(**changes) -> dict:
    return {"kind": "pair", "id": "0", "systems": ["tuned", "base"], "verdict": "tuned"} | changes


def judgement(rater: str, verdict: str | None, scores: dict | None = None) -> dict:
    return {
        "rater": rater,
        "prompt_id": "q",
        "prompt": [{"role": "user", "content": "Вопрос 0?"}],
        "answers": [
            {"id": "x", "model": "base", "text": "Да."},
            {"id": "y", "model": "tuned", "text": "Да, да.\n"},
        ],
        "verdict": verdict,
        "scores": scores,
        "rated_at": "2026-03-14T18:05:00+03:00",
    }


def test_verdicts_of_a_judge(tmp_path):
    scores = {"relevance": 5, "clarity": 4, "completeness": 3, "originality": 2, "style": 1}
    found = read(
        tmp_path / "judge.jsonl",
        [
            pair(),
            pair(id="1", verdict="base"),
            pair(verdict="tie"),
            pair(verdict=None),
            {"kind": "scores", "id": "1", "system": "base", "scores": scores, "reasons": {}},
            {"kind": "scores", "id": "0", "system": "base", "scores": None},
        ],
    )
    assert sorted(found.votes, key=str) == sorted(
        [
            Vote("Вопрос 0?", ("tuned", "base"), 1.0, (7, 3)),
            Vote("Вопрос 1?", ("tuned", "base"), 0.0, (0, 4)),
            Vote("Вопрос 0?", ("tuned", "base"), 0.5, (7, 3)),
            Vote("Вопрос 0?", ("tuned", "base"), None, (7, 3)),
        ],
        key=str,
    )
    assert found.scores == [("base", "Вопрос 0?", None), ("base", "Вопрос 1?", scores)]
    assert found.sources == [{"source": (tmp_path / "judge.jsonl").as_posix(), "verdicts": 6}]


def test_verdicts_with_matching_checksums_are_accepted(tmp_path):
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in ("Да, да.", "Да.")]
    assert len(read(tmp_path / "judge.jsonl", [pair(answers_sha256=digests)]).votes) == 1


def test_ratings_of_people(tmp_path):
    scores = {"y": {"relevance": 5}}
    found = read(
        tmp_path / "ratings.jsonl",
        [judgement("anna", "y", scores), judgement("boris", "tie"), judgement("vera", None), judgement("anna", "x")],
    )
    # Anna's later judgement replaces her earlier one; Vera has not judged
    assert sorted(found.votes, key=str) == [
        Vote("Вопрос 0?", ("base", "tuned"), 0.5, (3, 7)),
        Vote("Вопрос 0?", ("base", "tuned"), 1.0, (3, 7)),
    ]
    assert found.scores == []
    found = read(tmp_path / "ratings.jsonl", [judgement("anna", "y", scores)])
    assert found.scores == [("tuned", "Вопрос 0?", {"relevance": 5})]


def test_people_and_judge_are_kept_apart(tmp_path):
    files = [str(tmp_path / name) for name in ("judge.jsonl", "ratings.jsonl")]
    write_jsonl(files[0], [pair()])
    write_jsonl(files[1], [judgement("anna", "x")])
    systems = make_systems()
    verdicts = read_verdicts(files, systems, line_up(systems))
    assert {kind: [vote.share for vote in one.votes] for kind, one in verdicts.items()} == {
        "people": [1.0],
        "judge": [1.0],
    }
    assert list(verdicts) == ["people", "judge"]


def test_ratings_of_other_texts_are_rejected(tmp_path):
    changed, other = judgement("boris", "x"), judgement("boris", "x")
    changed["answers"][1] |= {"id": "z", "text": "Нет."}
    other["prompt"][0]["content"] = "Иной вопрос?"
    with pytest.raises(PreferansError, match=r"judgement 2: the answer of tuned to the prompt '0' has changed"):
        read(tmp_path / "ratings.jsonl", [judgement("anna", "x"), changed])
    with pytest.raises(PreferansError, match=r"judgement 1: no system here answered its prompt, 'q'"):
        read(tmp_path / "ratings.jsonl", [other])


def test_the_order_of_lines_does_not_matter(tmp_path):
    rows = [pair(id=str(n % 2), verdict=verdict) for n, verdict in enumerate(["tuned", "base", "tie", None] * 3)]
    before = read(tmp_path / "judge.jsonl", rows)
    random.Random(1).shuffle(rows)
    assert read(tmp_path / "judge.jsonl", rows) == before


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (pair(verdict="tined"), "'verdict' is 'tined'; it must be 'tuned', 'base', 'tie', or null"),
        (pair(systems=["tuned", "tuned"]), "'systems' must name two different systems"),
        (pair(systems=["tuned", "bse"]), "the system 'bse' is not among those compared (base, tuned)"),
        (pair(id=["0"]), "'id' must be text, got ['0']"),
        ({"kind": ["pair"]}, "'kind' must be 'pair' or 'scores'"),
        (pair(id="9"), "no system here answered the prompt '9'"),
        ({"kind": "pair", "id": "0"}, "'systems' is missing"),
        (pair(answers_sha256=["0" * 64, "1" * 64]), "the answers of tuned and base to the prompt '0' have changed"),
        ({"kind": "score"}, "'kind' must be 'pair' or 'scores', got 'score'"),
        ({"kind": "scores", "id": "0", "system": "base", "scores": {"style": 6}}, "integers from 1 to 5"),
        ({"kind": "scores", "id": "0", "system": "base", "scores": {"stile": 5}}, "'scores' must have"),
    ],
)
def test_invalid_verdicts_are_rejected_with_line_and_key(row, words, tmp_path):
    with pytest.raises(PreferansError) as caught:
        read(tmp_path / "judge.jsonl", [pair(), row])
    assert "judge.jsonl, line 2: " in str(caught.value)
    assert words in str(caught.value)


def test_files_without_verdicts_are_rejected(tmp_path):
    with pytest.raises(PreferansError, match="there are no verdicts in this file"):
        read(tmp_path / "none.jsonl", [])
    with pytest.raises(PreferansError, match="neither a file of scripts/judge.py"):
        read(tmp_path / "answers.jsonl", [{"id": "1", "answer": "Да."}])
    unknown = judgement("anna", "y")
    unknown["answers"][0]["model"] = "gpt"
    with pytest.raises(PreferansError, match="judgement 1: the system 'gpt' is not among"):
        read(tmp_path / "ratings.jsonl", [unknown])
    write_jsonl(tmp_path / "judge.jsonl", [pair()])
    systems = make_systems()
    with pytest.raises(PreferansError, match="the file is named twice"):
        read_verdicts([str(tmp_path / "judge.jsonl")] * 2, systems, line_up(systems))


def test_a_copy_of_a_verdict_does_not_count_twice(tmp_path):
    mine, other = {"judge": {"model": "m", "seed": 1}}, {"judge": {"model": "n", "seed": 1}}
    systems = make_systems()
    files = [str(tmp_path / name) for name in ("one.jsonl", "copy.jsonl", "other.jsonl")]
    write_jsonl(files[0], [pair(**mine), pair(id="1", **mine)])
    write_jsonl(files[1], [pair(systems=["base", "tuned"], **mine)])
    write_jsonl(files[2], [pair(**other)])
    verdicts = read_verdicts([files[0], files[2]], systems, line_up(systems))
    assert len(verdicts["judge"].votes) == 3  # another judge's is no copy
    with pytest.raises(PreferansError, match="copy.jsonl, line 1: .* is already in .*one.jsonl, line 1"):
        read_verdicts(files, systems, line_up(systems))
