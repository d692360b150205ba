"""Bootstrap intervals, paired differences and their verdicts."""

import math

import pytest

from preferans.evaluation.statistics import balanced, bootstrap, difference_of, smallest_difference, verdict


def test_bootstrap_of_known_values():
    score = bootstrap([0.0, 1.0] * 50)
    assert score.value == 0.5
    assert score.cases == 100
    # the interval of the binomial distribution is 0.5 ± 0.098
    assert score.low == pytest.approx(0.402, abs=0.02)
    assert score.high == pytest.approx(0.598, abs=0.02)
    assert bootstrap([3.0, 3.0]) == type(score)(3.0, 3.0, 3.0, 2)
    assert math.isnan(bootstrap([]).value)


def test_draws_whole_groups():
    values = [0.0, 1.0] * 20
    alone, doubled = bootstrap(values), bootstrap(values * 2, groups=[str(i) for i in range(40)] * 2)
    assert doubled.cases == 80
    assert doubled.high - doubled.low == pytest.approx(alone.high - alone.low, abs=0.03)
    assert bootstrap([1.0, 1.0, 0.0], groups=["a", "a", "b"]).value == pytest.approx(2 / 3)


def test_weighted_mean_draws_whole_groups():
    score = bootstrap([1.0, 3.0, 5.0], ["a", "a", "b"], weights=[3, 1, 4])
    assert score.value == pytest.approx((3 + 3 + 20) / 8)
    assert (score.low, score.high) == pytest.approx((1.5, 5.0))  # only a, only b
    assert bootstrap([2.0, 4.0], weights=[1, 1]) == bootstrap([2.0, 4.0])


def test_verdict_depends_on_the_better_direction():
    up, down = bootstrap([1.0, 1.0, 2.0]), bootstrap([-1.0, -1.0, -2.0])
    assert [verdict(up, better) for better in ("higher", "lower", None)] == ["better", "worse", "higher"]
    assert [verdict(down, better) for better in ("higher", "lower", None)] == ["worse", "better", "lower"]
    assert verdict(bootstrap([-1.0, 1.0]), "higher") == "no_detectable_difference"
    assert verdict(bootstrap([]), "higher") == "no_detectable_difference"
    assert verdict(bootstrap([0.0, 0.0]), "higher") == "no_detectable_difference"


def test_differences_are_paired_and_ignore_missing_values():
    difference, verdicts = difference_of([1, 1, None, 1], [0, 0, 0, None], list("abcd"), "higher")
    assert (difference.value, difference.cases) == (1.0, 2)
    assert verdicts == "no_detectable_difference"


def test_fewer_than_six_differing_cases_are_never_detected():
    names = [str(number) for number in range(60)]
    verdicts = [
        difference_of([1.0] * faults + [0.0] * (60 - faults), [0.0] * 60, names, "lower")[1] for faults in (4, 5, 6)
    ]
    assert verdicts == ["no_detectable_difference", "no_detectable_difference", "worse"]


def test_fewer_than_six_conversations_are_never_detected():
    def verdicts(conversations: str) -> str:
        ones = [1.0] * len(conversations)
        return difference_of(ones, [0.0] * len(ones), list(conversations), "lower")[1]

    assert verdicts("abcde") == "no_detectable_difference"
    assert verdicts("abcdeabcde") == "no_detectable_difference"  # ten answers in five conversations
    assert verdicts("abcdef") == "worse"


def test_balanced_means_count_each_stratum_the_same():
    values, strata = [1.0] * 30 + [0.0] * 10, ["a"] * 30 + ["b"] * 10
    score = balanced(values, strata, [str(number) for number in range(40)])
    assert (score.value, score.low, score.high, score.cases) == (0.5, 0.5, 0.5, 40)
    mixed = balanced([1.0, 0.0] * 20, strata, [str(number) for number in range(40)])
    assert mixed.value == 0.5 and 0.2 < mixed.low < 0.45 and 0.55 < mixed.high < 0.8
    one = balanced([1.0, 0.0], ["a", "a"], ["x", "y"])
    assert math.isnan(one.value) and one.cases == 0


def test_balanced_draws_whole_groups():
    values, strata = [1.0, 0.0] * 20, ["a", "b"] * 20
    alone = balanced(values, strata, [str(number) for number in range(40)])
    together = balanced(values, strata, [str(number // 2) for number in range(40)])
    assert alone.value == together.value == 0.5
    assert (together.low, together.high) == (0.5, 0.5)


def test_the_smallest_difference_shrinks_with_the_cases():
    small, large = (bootstrap([0.0, 1.0, -1.0] * count) for count in (10, 1000))
    assert smallest_difference(small.low, small.high) == pytest.approx(2.8 * (2 / 3 / 30) ** 0.5, rel=0.1)
    assert smallest_difference(large.low, large.high) == pytest.approx(2.8 * (2 / 3 / 3000) ** 0.5, rel=0.1)
