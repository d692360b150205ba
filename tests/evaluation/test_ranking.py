import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preferans.evaluation.ranking import POINTS, Vote, between, bradley_terry, length_controlled_win_rate, win_rate


def votes(shares, first="a", second="b", lengths=None) -> list[Vote]:
    lengths = lengths or [None] * len(shares)
    return [
        Vote(str(i), (first, second), share, long) for i, (share, long) in enumerate(zip(shares, lengths, strict=True))
    ]


def test_ties_count_half_and_unreadable_votes_do_not_count():
    cast = votes([1, 1, 0.5, 0, None])
    assert win_rate(cast).value == 2.5 / 4
    assert win_rate(cast).cases == 4
    assert win_rate(between(cast, "b", "a")).value == 1.5 / 4
    assert between(cast, "a", "c") == []
    assert win_rate([]).cases == 0 and math.isnan(win_rate([]).value)


def test_between_swaps_the_sides_of_a_vote():
    assert Vote("1", ("a", "b"), 1.0, (10, 20)).seen_from("b") == Vote("1", ("b", "a"), 0.0, (20, 10))
    assert Vote("1", ("a", "b"), None).seen_from("b") == Vote("1", ("b", "a"), None)


@pytest.mark.parametrize(("wins", "losses"), [(10, 0), (7, 3), (5, 5), (0, 4)])
def test_two_systems_differ_by_the_logarithm_of_their_odds(wins, losses):
    strengths = bradley_terry(votes([1] * wins + [0] * losses), ["a", "b"])
    difference = POINTS * math.log((wins + 0.5) / (losses + 0.5))
    assert strengths["a"].value - strengths["b"].value == pytest.approx(difference)
    assert strengths["a"].value + strengths["b"].value == pytest.approx(0)
    assert strengths["a"].cases == wins + losses


def test_four_hundred_points_are_odds_of_ten_to_one():
    strengths = bradley_terry(votes([1] * 9_999 + [0] * 1_000), ["a", "b"])
    assert strengths["a"].value - strengths["b"].value == pytest.approx(400, abs=0.2)


def plain_strengths(cast: list[Vote], names: list[str]) -> dict[str, float]:
    """By the minorization of Hunter 2004 (https://doi.org/10.1214/aos/1079120141), one system after the other."""
    won = {(a, b): 0.5 for a in names for b in names if a != b}
    for vote in cast:
        first, second = vote.systems
        won[first, second] += vote.share
        won[second, first] += 1 - vote.share
    skill = dict.fromkeys(names, 1.0)
    for _ in range(20_000):
        for a in names:
            others = [b for b in names if b != a]
            games = sum((won[a, b] + won[b, a]) / (skill[a] + skill[b]) for b in others)
            skill[a] = sum(won[a, b] for b in others) / games
    mean = sum(math.log10(value) for value in skill.values()) / len(names)
    return {name: 400 * (math.log10(value) - mean) for name, value in skill.items()}


def test_three_systems_match_a_numerical_optimum():
    cast = (
        votes([1] * 12 + [0] * 5, "a", "b") + votes([1] * 9 + [0.5] * 4 + [0] * 2, "b", "c") + votes([1, 0], "c", "a")
    )
    strengths = bradley_terry(cast, ["a", "b", "c"])
    assert list(strengths) == ["a", "b", "c"]
    for name, value in plain_strengths(cast, ["a", "b", "c"]).items():
        assert strengths[name].value == pytest.approx(value, abs=1e-4)
        assert strengths[name].low <= value <= strengths[name].high


def test_unconnected_systems_are_still_ranked():
    cast = votes([1] * 8, "a", "b") + votes([1] * 8, "c", "d")
    strengths = bradley_terry(cast, ["a", "b", "c", "d", "new"])
    assert strengths["a"].value == pytest.approx(strengths["c"].value)
    assert strengths["a"].value > 100
    assert strengths["new"].value == pytest.approx(0, abs=1e-6)
    assert strengths["new"].cases == 0
    assert all(math.isfinite(score.low) and math.isfinite(score.high) for score in strengths.values())


def test_without_votes_there_is_no_ranking():
    assert bradley_terry([], ["a", "b"]) == {}
    assert bradley_terry(votes([None]), ["a", "b"]) == {}


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd"), st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 5))
        .filter(lambda vote: vote[0] != vote[1]),
        min_size=1,
        max_size=30,
    ),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_the_ranking_does_not_depend_on_order_or_sides(drawn, order):
    cast = [Vote(str(conversation), (a, b), share) for a, b, share, conversation in drawn]
    strengths = bradley_terry(cast, "abcd")
    order.shuffle(cast)
    turned = bradley_terry([vote.seen_from(vote.systems[1]) for vote in cast], "dbca")
    for name, score in strengths.items():
        assert (score.value, score.low, score.high) == pytest.approx(
            (turned[name].value, turned[name].low, turned[name].high), abs=1e-6
        )
    # the likelihood's own condition: what is expected is what was won
    for name in strengths:
        won = expected = 0.0
        for other in strengths:
            if other != name:
                duels = between(cast, name, other)
                chance = 1 / (1 + 10 ** ((strengths[other].value - strengths[name].value) / 400))
                won += sum(vote.share for vote in duels) + 0.5
                expected += (len(duels) + 1) * chance
        assert won == pytest.approx(expected, abs=1e-6)


def test_equal_lengths_leave_the_win_rate_unchanged():
    cast = votes([1] * 7 + [0] * 3, lengths=[(500, 500)] * 10)
    assert length_controlled_win_rate(cast).value == pytest.approx(7.5 / 11)  # a tie is added


def test_removes_a_pure_preference_for_length():
    rng = np.random.default_rng(0)
    differences = rng.normal(60, 100, size=600)
    lengths = [(int(1_000 + d), 1_000) for d in differences]
    hard = votes([float(first > second) for first, second in lengths], lengths=lengths)
    assert win_rate(hard).value > 0.68
    controlled = length_controlled_win_rate(hard)
    assert controlled.value == pytest.approx(0.5, abs=0.05)
    assert controlled.low < 0.5 < controlled.high
    soft = votes(
        [float(rng.random() < 1 / (1 + math.exp(-d / 50))) for d in differences],
        lengths=lengths,
    )
    assert win_rate(soft).low > 0.6
    assert length_controlled_win_rate(soft).value == pytest.approx(0.5, abs=0.06)


def test_keeps_the_win_rate_if_length_has_no_effect():
    rng = np.random.default_rng(1)
    lengths = [(int(1_000 + d), 1_000) for d in rng.normal(60, 100, size=600)]
    cast = votes([float(rng.random() < 0.7) for _ in lengths], lengths=lengths)
    assert length_controlled_win_rate(cast).value == pytest.approx(win_rate(cast).value, abs=0.03)


def test_the_two_sides_of_a_length_controlled_win_rate_add_up():
    draw = random.Random(2)
    lengths = [(draw.randint(1, 900), draw.randint(1, 600)) for _ in range(50)]
    cast = votes([draw.choice([0.0, 0.5, 1.0]) for _ in lengths], lengths=lengths)
    one, other = length_controlled_win_rate(cast), length_controlled_win_rate(between(cast, "b", "a"))
    assert one.value + other.value == pytest.approx(1)
    assert one.low + other.high == pytest.approx(1, abs=1e-6)


def test_the_regression_matches_gradient_ascent():
    lengths = [(300, 100), (200, 100), (100, 150), (90, 100), (400, 100), (100, 300)]
    cast = votes([1, 1, 0, 1, 0, 0.5], lengths=lengths)
    spread = np.std([a - b for a, b in lengths])
    rows = [(math.tanh((a - b) / spread), vote.share, 1.0) for (a, b), vote in zip(lengths, cast, strict=True)]
    rows += [(1.0, 0.5, 0.5), (-1.0, 0.5, 0.5)]
    quality = slope = 0.0
    for _ in range(20_000):
        errors = [(x, weight * (y - 1 / (1 + math.exp(-quality - slope * x)))) for x, y, weight in rows]
        quality += 0.1 * sum(error for _, error in errors)
        slope += 0.1 * sum(x * error for x, error in errors)
    assert length_controlled_win_rate(cast).value == pytest.approx(1 / (1 + math.exp(-quality)), abs=1e-6)


def test_is_nan_if_one_system_is_always_longer():
    always = votes([1, 1, 0], lengths=[(200, 100), (300, 100), (150, 100)])
    assert math.isnan(length_controlled_win_rate(always).value)
    assert length_controlled_win_rate(always).cases == 3
    assert length_controlled_win_rate(votes([1, 0])).cases == 0  # no lengths
