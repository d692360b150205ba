"""Judging all answers over real HTTP, resuming, and the agreement with people."""

import re

import pytest

from preferans.data.ratings import CRITERIA, read_ratings
from preferans.errors import PreferansError
from preferans.evaluation.answers import line_up, read_systems
from preferans.evaluation.judge import ATTEMPTS, Judge
from preferans.evaluation.judge_run import (
    JudgeTask,
    agreement_with_people,
    judge_answers,
    summary,
    tokens,
)
from preferans.files import read_jsonl, write_jsonl
from preferans.models.endpoint import Endpoint

from ..support.judged import GOOD, POOR, fair, judged, rating, shown
from ..support.scripted_endpoint import completion, raw, status

pytestmark = pytest.mark.usefixtures("hasty")


def test_a_request_has_the_rubric_and_both_answers_but_no_names(tmp_path):
    _, _, server, *_ = judged(tmp_path, fair, {"before-270m": [POOR], "after-270m": [GOOD]})
    assert len(server.questions) == 4
    assert [shown(question) for question in server.questions] == [[POOR], [GOOD], [POOR, GOOD], [GOOD, POOR]]
    for question in server.questions:
        assert "270m" not in question
        assert "Вопрос 0?" in question
        for criterion in CRITERIA:
            section = question.split(f"**{criterion}: ")[1].split("**")[0] + question.split(f"**{criterion}: ")[1]
            assert all(f"\n- {anchor}: " in section for anchor in (1, 3, 5))
        assert question.index('"reason"') < max(question.rfind('"score"'), question.rfind('"better"'))


def test_a_verdict_needs_both_orders(tmp_path):
    texts = {"before": [POOR, GOOD, POOR, POOR], "after": [GOOD, POOR, "Слабый, но другой", POOR]}
    rows, refused, server, printed, _ = judged(tmp_path, fair, texts, kinds=["pair"])
    assert [row["verdict"] for row in rows] == ["after", "before", "tie", "tie"]
    assert [row.get("orders") for row in rows] == [["after", "after"], ["before", "before"], ["tie", "tie"], None]
    assert [row["replies"] for row in rows] == [2, 2, 2, 0]  # equal answers are not asked about
    assert refused == printed == []
    assert rows[0]["reasons"] == ["видно", "видно"]
    assert tokens(rows) == {"prompt_tokens": 66, "completion_tokens": 42}
    assert summary(rows)["pairs"] == {("before", "after"): {"wins": 1, "losses": 1, "ties": 2}}
    assert server.requests[1]["temperature"] == 0
    assert server.requests[1]["response_format"]["json_schema"]["schema"]["required"] == ["reason", "better"]


@pytest.mark.parametrize(("place", "counted"), [("А", "shown_first"), ("Б", "shown_second")])
def test_position_bias_gives_ties_and_is_counted(tmp_path, place, counted):
    rows, *_ = judged(
        tmp_path, lambda request: f'{{"better": "{place}"}}', {"x": [POOR] * 3, "y": [GOOD] * 3}, kinds=["pair"]
    )
    assert [row["verdict"] for row in rows] == ["tie"] * 3
    assert summary(rows)["pairs"]["x", "y"] == {"split": 3, "shown_first": 0, "shown_second": 0} | {counted: 3}


def test_better_in_one_order_and_equal_in_the_other_is_a_tie(tmp_path):
    def half(request):
        first = shown(request["messages"][-1]["content"])[:1]
        return '{"better": "А"}' if first == [GOOD] else '{"better": "ничья"}'

    (row,), *_ = judged(tmp_path, half, {"x": [GOOD], "y": [POOR]}, kinds=["pair"])
    assert (row["verdict"], row["orders"]) == ("tie", ["x", "tie"])


def test_scores_request_hides_names_and_references(tmp_path):
    rows, _, server, *_ = judged(tmp_path, fair, {"x": [POOR, "  ", GOOD * 9], "y": ["", "", POOR]})
    scores = {(row["system"], row["id"]): row["scores"]["style"] for row in rows if row["kind"] == "scores"}
    assert scores == {("x", "p0"): 2, ("x", "p1"): 1, ("x", "p2"): 5, ("y", "p0"): 1, ("y", "p1"): 1, ("y", "p2"): 2}
    assert rows[0]["reasons"] == dict.fromkeys(CRITERIA, "потому")
    # an empty answer loses, two empty ones are equal
    assert [row["verdict"] for row in rows if row["kind"] == "pair"] == ["x", "tie", "x"]
    assert len(server.questions) == 3 + 2
    means = summary(rows)["scores"]["x"]
    assert (means["clarity"], means["answers"], means["unreadable"]) == (pytest.approx(8 / 3), 3, 0)


@pytest.mark.parametrize(
    "reply",
    [
        "Простите, я не могу оценивать ответы.",
        '{"reason": "обор',
        '{"better": "оба"}',
        '{"better":"А"} {"better":"Б"}',
        "",
    ],
)
def test_an_unreadable_reply_is_requested_again_and_is_not_a_tie(tmp_path, reply):
    rows, refused, server, *_ = judged(tmp_path, lambda _: reply, {"x": [GOOD], "y": [POOR]})
    assert refused == []
    assert [row.get("verdict", row.get("scores")) for row in rows] == [None] * 3
    assert all(row["problem"] for row in rows)
    assert summary(rows)["pairs"]["x", "y"] == {"unreadable": 1}
    assert summary(rows)["scores"]["x"]["unreadable"] == 1
    tried = server.requests[1 : 1 + ATTEMPTS]
    assert len(server.questions) == 4 * ATTEMPTS
    assert len({request["messages"][0]["content"] for request in tried}) == 1
    assert len({request["seed"] for request in tried}) == ATTEMPTS
    assert [request["temperature"] for request in tried] == [0, 0.7, 0.7, 0.7]


def test_a_reason_with_a_lone_surrogate_is_written(tmp_path):
    def broken(request):
        return re.sub('"reason": "[^"]*"', r'"reason": "\\ud83d"', fair(request))

    rows, *_ = judged(tmp_path, broken, {"x": [GOOD], "y": [POOR]})
    assert rows == read_jsonl(tmp_path / "verdicts.jsonl")
    assert rows[0]["reasons"] == dict.fromkeys(CRITERIA, "\ufffd")
    assert (rows[2]["verdict"], rows[2]["reasons"]) == ("x", ["\ufffd"] * 2)


def test_a_readable_second_reply_counts(tmp_path):
    def moody(request):
        if request["number"] == 1:
            return completion('{"relevance": {"reason": "дл', "length")
        return raw("{") if request["number"] == 2 else fair(request)

    rows, *_ = judged(tmp_path, moody, {"x": [POOR]})
    assert rows[0]["scores"] == dict.fromkeys(CRITERIA, 2)
    assert (rows[0]["replies"], rows[0]["problem"]) == (2, None)


def test_one_unreadable_order_leaves_no_verdict(tmp_path):
    def half(request):
        return fair(request) if shown(request["messages"][-1]["content"])[:1] == [GOOD] else "Не знаю."

    (row,), *_ = judged(tmp_path, half, {"x": [GOOD], "y": [POOR]}, kinds=["pair"])
    assert (row["verdict"], row["orders"]) == (None, ["x", None])
    assert "the reply has no JSON object: 'Не знаю.'" in row["problem"]


def test_falls_back_to_words_if_the_server_has_no_schemas(tmp_path):
    def plain(request):
        if "response_format" in request:
            return status(400, "unknown field response_format")
        return f"Вот:\n```json\n{fair(request)}\n```"

    rows, _, server, printed, _ = judged(tmp_path, plain, {"x": [GOOD], "y": [POOR]}, workers=3)
    assert [row.get("verdict", row.get("scores")) is not None for row in rows] == [True] * 3
    assert ["JSON is requested in words" in note for note in printed] == [True]
    assert sum("response_format" in request for request in server.requests) == 1
    assert not rows[0]["structured"]


def test_each_question_has_its_own_reproducible_seed(tmp_path):
    seeds = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        _, _, server, *_ = judged(folder, fair, {"x": [GOOD, POOR], "y": [POOR, GOOD]}, workers=3)
        seeds.append({request["messages"][0]["content"]: request["seed"] for request in server.requests[1:]})
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0].values())) == len(seeds[0]) == 8
    assert all(0 <= seed < 2**31 for seed in seeds[0].values())


def test_questions_that_the_server_rejects_are_repeated_by_the_next_run(tmp_path):
    def strict(request):
        too_long = "Вопрос 1?" in request["messages"][-1]["content"]
        return status(400, "context length") if too_long else fair(request)

    texts = {"x": [GOOD, GOOD], "y": [POOR, POOR]}
    rows, refused, *_ = judged(tmp_path, strict, texts)
    assert {row["id"] for row in rows} == {"p0"}
    assert len(refused) == 3
    assert "context length" in refused[0]
    rows, refused, server, *_ = judged(tmp_path, fair, texts)
    assert ([row["id"] for row in rows], refused) == (["p0", "p1"] * 3, [])
    assert len(server.questions) == 4


def test_stops_early_if_the_server_rejects_everything(tmp_path):
    def answer(request):
        return status(400, "max_new_tokens too large") if request["number"] else "{}"

    with pytest.raises(PreferansError, match="rejects the request.*too large"):
        judged(tmp_path, answer, {"x": [GOOD + str(i) for i in range(30)], "y": [POOR] * 30}, workers=2)


def test_verdicts_of_other_judges_and_on_other_answers_never_mix(tmp_path):
    *_, task = judged(tmp_path, fair, {"x": [GOOD], "y": [POOR]})
    path = tmp_path / "verdicts.jsonl"
    before = path.read_bytes()
    with pytest.raises(PreferansError, match="verdicts of the judge .*Name another file"):
        judge_answers(Judge(Endpoint("http://localhost:1", "other")), task, path)
    judge = Judge(Endpoint("http://localhost:1", "judge"))  # no server is there, and none is needed
    rows, _ = judge_answers(judge, task, path)
    assert len(rows) == 3
    assert path.read_bytes() == before
    with pytest.raises(PreferansError, match="on x and y, prompt p0, which is not among"):
        judge_answers(judge, JudgeTask(task.systems[::-1], task.prompts), path)
    task.systems[0].rows["p0"]["answer"] += "!"
    with pytest.raises(PreferansError, match="line 1: the answers to prompt p0 have changed"):
        judge_answers(judge, task, path)
    path.write_text('{"kind": \n' + before.decode(), encoding="utf-8")
    with pytest.raises(PreferansError, match=r"verdicts\.jsonl, line 1: this is not a valid verdict"):
        judge_answers(judge, task, path)


def test_a_third_system_adds_only_the_missing_questions(tmp_path):
    judged(tmp_path, fair, {"x": [GOOD], "y": [POOR]})
    rows, _, server, *_ = judged(tmp_path, fair, {"x": [GOOD], "y": [POOR], "z": ["Слабый, но третий"]})
    assert len(server.questions) == 1 + 2 * 2
    systems = read_systems(str(tmp_path / "x.jsonl"))
    assert [row.get("system") or row["systems"] for row in rows] == ["x", "y", "z", ["x", "y"], ["x", "z"], ["y", "z"]]
    assert len(JudgeTask(systems, line_up(systems)).questions()) == 1


def test_a_truncated_last_line_is_judged_again(tmp_path):
    texts = {"x": [GOOD], "y": [POOR]}
    whole, *_ = judged(tmp_path, fair, texts)
    path = tmp_path / "verdicts.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    rows, _, server, *_ = judged(tmp_path, fair, texts)
    assert len(server.questions) == 2
    assert [row["verdict"] for row in rows if row["kind"] == "pair"] == ["x"]
    assert len(rows) == len(whole) == len(read_jsonl(path))


def test_agreement_with_people(tmp_path):
    """The judge: x, x, y, tie. Anna: x, x, y, y. Both choose x in 2; Anna chooses y in 2, the judge in 1."""
    texts = {"x": [GOOD, GOOD, POOR, POOR], "y": [POOR, POOR, GOOD, "Слабый иначе"]}
    rows, *_, task = judged(tmp_path, fair, texts)
    five = {"a1": dict.fromkeys(CRITERIA, 3), "a2": dict.fromkeys(CRITERIA, 2)}
    ratings = [
        rating("anna", 0, "a1", five),
        rating("anna", 1, "a1"),
        rating("anna", 2, "a1"),  # shown the other way round: a1 is the good one, which is y's
        rating("anna", 3, "a2", None, (POOR, "Слабый иначе")),
        rating("boris", 0, None, {"a1": dict.fromkeys(CRITERIA, 5)}),
        rating("boris", 7, "a1"),  # a prompt that was not judged
    ]
    write_jsonl(tmp_path / "ratings.jsonl", ratings)
    found = agreement_with_people(rows, task, read_ratings([tmp_path / "ratings.jsonl"]))
    assert found.same == 3 / 4
    # by chance: x 2/4 * 2/4, y 1/4 * 2/4, tie 1/4 * 0
    assert found.pairs.value == pytest.approx((3 / 4 - 3 / 8) / (1 - 3 / 8))
    assert found.pairs.cases == 4
    # the judge: 3 for the good answer, 2 for the poor one; anna the same, boris 5 for the good one
    judge, people = [3, 2, 3], [3, 2, 5]
    mean = [sum(judge) / 3, sum(people) / 3]
    covariance = sum((a - mean[0]) * (b - mean[1]) for a, b in zip(judge, people, strict=True)) / 3
    spread = sum(sum((a - m) ** 2 for a in those) / 3 for those, m in zip((judge, people), mean, strict=True))
    style = found.criteria["style"]
    assert style.value == pytest.approx(2 * covariance / (spread + (mean[0] - mean[1]) ** 2))
    assert style.cases == 3
    assert found.people["style"] < found.together["style"]
    with pytest.raises(PreferansError, match="no rated answer matches"):
        agreement_with_people(rows, task, [rating("anna", 9, "a1")])
