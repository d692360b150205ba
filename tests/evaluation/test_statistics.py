"""Paired differences and their verdicts."""

import math

import pytest

from preferans.evaluation.statistics import bootstrap, difference_of, verdict


def test_the_direction_decides_what_is_better():
    up, down = bootstrap([1.0, 1.0, 2.0]), bootstrap([-1.0, -1.0, -2.0])
    assert [verdict(up, better) for better in ("higher", "lower", None)] == ["better", "worse", "higher"]
    assert [verdict(down, better) for better in ("higher", "lower", None)] == ["worse", "better", "lower"]
    assert verdict(bootstrap([-1.0, 1.0]), "higher") == "no_detectable_difference"
    assert verdict(bootstrap([]), "higher") == "no_detectable_difference"
    assert verdict(bootstrap([0.0, 0.0]), "higher") == "no_detectable_difference"


def test_differences_are_paired_and_pass_over_what_is_unknown():
    difference, said = difference_of([1, 1, None, 1], [0, 0, 0, None], list("abcd"), "higher")
    assert (difference.value, difference.cases) == (1.0, 2)
    assert said == "no_detectable_difference"


def test_fewer_than_six_that_differ_prove_nothing():
    names = [str(number) for number in range(60)]
    said = [
        difference_of([1.0] * faults + [0.0] * (60 - faults), [0.0] * 60, names, "lower")[1] for faults in (4, 5, 6)
    ]
    assert said == ["no_detectable_difference", "no_detectable_difference", "worse"]


def test_fewer_than_six_conversations_prove_nothing():
    def said(conversations: str) -> str:
        ones = [1.0] * len(conversations)
        return difference_of(ones, [0.0] * len(ones), list(conversations), "lower")[1]

    assert said("abcde") == "no_detectable_difference"
    assert said("abcdeabcde") == "no_detectable_difference"  # ten answers in five conversations
    assert said("abcdef") == "worse"


def test_bootstrap_of_known_values():
    score = bootstrap([0.0, 1.0] * 50)
    assert score.value == 0.5
    assert score.cases == 100
    # the binomial's own interval is 0.5 ± 0.098
    assert score.low == pytest.approx(0.402, abs=0.02)
    assert score.high == pytest.approx(0.598, abs=0.02)
    assert bootstrap([3.0, 3.0]) == type(score)(3.0, 3.0, 3.0, 2)
    assert math.isnan(bootstrap([]).value)


def test_cases_of_one_group_count_as_one():
    values = [0.0, 1.0] * 20
    alone, doubled = bootstrap(values), bootstrap(values * 2, groups=[str(i) for i in range(40)] * 2)
    assert doubled.cases == 80
    assert doubled.high - doubled.low == pytest.approx(alone.high - alone.low, abs=0.03)
    assert bootstrap([1.0, 1.0, 0.0], groups=["a", "a", "b"]).value == pytest.approx(2 / 3)
