import pytest

from preferans.data.ratings import CRITERIA
from preferans.people.results import rating_results

from ..support.ratings import judgement, scores


def test_win_rates_sides_and_time():
    rows = [
        judgement("anna", verdict, number, seconds=10.0 * number)
        for number, verdict in enumerate(["a1", "a1", "tie", "a2"], 1)
    ]
    rows.append(judgement("boris", None, 5, seconds=900.0))  # skipped
    results = rating_results(rows)
    (pair,) = results.pairs
    assert (pair.systems, pair.wins, pair.losses, pair.ties) == (("model 1", "model 2"), 2, 1, 1)
    assert pair.win_rate.value == pytest.approx(2.5 / 4)
    assert pair.win_rate.low < pair.win_rate.value < pair.win_rate.high
    assert (results.left.value, results.left.cases) == (pytest.approx(2 / 3), 3)
    assert results.seconds == {"anna": (25.0, 4)}
    assert (results.judgements, results.raters, results.ranking, results.means) == (4, 1, {}, {})


def test_the_left_side_is_what_the_rater_saw():
    rows = [judgement(verdict="a2", ids="a2 a1"), judgement(verdict="a1", number=2)]
    assert rating_results(rows).left.value == 1.0


def test_means_by_system_and_criterion():
    rows = [judgement("anna", None, scores=scores(a1=10, a2=20)), judgement("boris", None, scores=scores(a1=20))]
    results = rating_results(rows)
    assert results.means["model 1"]["total"].value == 15 and results.means["model 1"]["total"].cases == 2
    assert results.means["model 2"]["style"].value == 4
    assert list(results.means["model 1"]) == [*CRITERIA, "total"]


def test_more_than_two_systems_are_ranked():
    rows = [
        judgement("anna", verdict, number, ids)
        for number, (verdict, ids) in enumerate([("a1", "a1 a2"), ("a1", "a1 a3"), ("a2", "a3 a2")] * 4)
    ]
    assert list(rating_results(rows).ranking) == ["model 1", "model 2", "model 3"]


def test_agreement_of_raters():
    agree = [judgement(rater, "a1" if n % 2 else "a2", n) for n in range(8) for rater in ("anna", "boris")]
    assert rating_results(agree).agreement["verdict"].value == pytest.approx(1)
    oppose = [
        judgement(rater, "a1" if (n + (rater == "anna")) % 2 else "a2", n)
        for n in range(8)
        for rater in ("anna", "boris")
    ]
    assert rating_results(oppose).agreement["verdict"].value < 0
    scored = [
        judgement(rater, None, n, scores=scores(a1=5 + n, a2=20 - n)) for n in range(8) for rater in ("anna", "boris")
    ]
    agreement = rating_results(scored).agreement
    assert {name: score.value for name, score in agreement.items()} == dict.fromkeys(CRITERIA, pytest.approx(1))
    assert agreement["style"].cases == 16
    assert rating_results([judgement()]).agreement == {}


def test_the_most_disputed_item_comes_first():
    rows = [
        judgement("anna", "a1", 1, comment="Первый."),
        judgement("boris", "a2", 1),
        judgement("anna", "a1", 2),
        judgement("boris", "tie", 2),
        judgement("anna", "a1", 3),
        judgement("boris", "a1", 3),
    ]
    first, second = rating_results(rows).disputed
    assert (first.prompt, first.spread) == ("Вопрос номер 1?", 1.0)
    assert first.opinions == [("anna", "model 1"), ("boris", "model 2")]
    assert first.comments == [("anna", "Первый.")]
    assert (second.opinions[1], second.spread) == (("boris", "tie"), 0.25)
    single = [judgement(rater, None, scores=scores(a1=total)) for rater, total in (("anna", 5), ("boris", 25))]
    for row in single:
        row["answers"] = row["answers"][:1]
    (dispute,) = rating_results(single).disputed
    assert (dispute.opinions, dispute.spread) == ([("anna", "5"), ("boris", "25")], 1.0)


def test_later_judgements_replace_earlier_ones():
    rows = [judgement(verdict="a1"), judgement(verdict="a2", rated_at="2027-01-01")]
    assert [(pair.wins, pair.losses) for pair in rating_results(rows).pairs] == [(0, 1)]


def test_without_ratings_there_is_nothing():
    results = rating_results([])
    assert (results.judgements, results.pairs, results.disputed) == (0, [], [])
