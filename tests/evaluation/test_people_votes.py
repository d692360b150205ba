from preferans.evaluation.people_votes import conversation, votes_and_scores
from preferans.evaluation.ranking import Vote

from ..support.ratings import judgement


def test_a_verdict_is_a_vote_with_the_lengths_of_the_answers():
    rows = [judgement(verdict="a2", comment="Так."), judgement("boris", "tie"), judgement("vera", None)]
    votes, scores = votes_and_scores(rows)
    assert votes == [
        Vote("Вопрос номер 1?", ("model 1", "model 2"), 0.0, (13, 13)),
        Vote("Вопрос номер 1?", ("model 1", "model 2"), 0.5, (13, 13)),
    ]
    assert scores == []


def test_single_answers_have_scores_and_no_votes():
    row = judgement(verdict=None, scores={"a2": {"style": 4}})
    row["answers"] = row["answers"][1:]
    assert votes_and_scores([row]) == ([], [("model 2", "Вопрос номер 1?", {"style": 4})])


def test_a_later_judgement_replaces_the_earlier_one():
    rows = [judgement(scores={"a1": {"style": 1}}), judgement(scores={"a1": {"style": 5}}, rated_at="2027-01-01")]
    assert votes_and_scores(rows)[1] == [("model 1", "Вопрос номер 1?", {"style": 5})]


def test_turns_of_a_conversation_share_its_opening_question():
    opening = {"role": "user", "content": "Как?"}
    later = [
        {"role": "system", "content": "Кратко."},
        opening,
        {"role": "assistant", "content": "Так."},
        {"role": "user", "content": "А?"},
    ]
    assert conversation([opening]) == conversation(later) == "Как?"
