"""Agreement beyond chance, against published examples and identities."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferans.evaluation.agreement import alpha_with_interval, cohen_kappa, krippendorff_alpha, with_interval

# Four observers, twelve units: the worked example C of Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011).
OBSERVERS = """
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 .
"""
RATINGS = [
    [None if sign == "." else int(sign) for sign in unit]
    for unit in zip(*(line.split() for line in OBSERVERS.strip().splitlines()), strict=True)
]
SCALE = (1, 2, 3, 4, 5)


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_the_published_example(level, published):
    assert krippendorff_alpha(RATINGS, level) == pytest.approx(published, abs=0.0005)


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_the_interval_of_alpha_is_that_of_redrawn_units(level):
    groups = [number // 2 for number in range(len(RATINGS))]
    fast = alpha_with_interval(RATINGS, groups, level)
    slow = with_interval(lambda units: krippendorff_alpha(units, level), RATINGS, groups)
    assert (fast.value, fast.low, fast.high, fast.cases) == pytest.approx(
        (slow.value, slow.low, slow.high, slow.cases)
    )
    assert fast.low < fast.value <= fast.high
    assert math.isnan(alpha_with_interval([[1, None], [2, None]], ["a", "b"], level).value)


def test_kappa_of_a_known_table():
    # 20 times both yes, 15 times both no, 5 and 10 times apart: 0.7 observed, 0.5 by chance
    cases = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
    first, second = zip(*cases, strict=True)
    assert cohen_kappa(first, second, ("yes", "no")) == pytest.approx(0.4)


def test_weighted_kappa_penalizes_large_differences_more():
    truth = [1, 2, 3, 4, 5]
    near, far = [2, 2, 3, 4, 5], [5, 2, 3, 4, 5]
    assert cohen_kappa(truth, near, SCALE) == pytest.approx(cohen_kappa(truth, far, SCALE), abs=0.01)
    # by hand: squares of the differences of the five cases, and of all 25 combinations divided by 5
    assert cohen_kappa(truth, near, SCALE, "quadratic") == pytest.approx(1 - 1 / (85 / 5))
    assert cohen_kappa(truth, far, SCALE, "quadratic") == pytest.approx(1 - 16 / (100 / 5))


@given(st.lists(st.tuples(st.sampled_from(SCALE), st.sampled_from(SCALE)), min_size=2))
def test_quadratic_kappa_is_the_concordance_of_the_numbers(pairs):
    """Fleiss and Cohen 1973: it equals twice the covariance over the variances plus the squared difference of the means."""
    first, second = zip(*pairs, strict=True)
    n = len(pairs)
    mean_a, mean_b = sum(first) / n, sum(second) / n
    spread = sum((a - mean_a) ** 2 for a in first) / n + sum((b - mean_b) ** 2 for b in second) / n
    below = spread + (mean_a - mean_b) ** 2
    kappa = cohen_kappa(first, second, SCALE, "quadratic")
    if below < 1e-12:
        assert math.isnan(kappa)
    else:
        above = 2 * sum((a - mean_a) * (b - mean_b) for a, b in pairs) / n
        assert kappa == pytest.approx(above / below)


def test_is_nan_without_variation():
    assert math.isnan(cohen_kappa([], [], SCALE))
    assert math.isnan(cohen_kappa([3, 3], [3, 3], SCALE))
    assert math.isnan(krippendorff_alpha([[1, None], [None, 2]]))
    assert math.isnan(krippendorff_alpha([[4, 4], [4, 4]]))
    assert math.isnan(krippendorff_alpha([]))


def test_full_agreement_and_contradiction():
    assert cohen_kappa([1, 2, 5], [1, 2, 5], SCALE) == 1
    assert krippendorff_alpha([[1, 1], [2, 2], [5, 5, None]]) == 1
    assert cohen_kappa("ab", "ba", "ab") == -1
    assert krippendorff_alpha([[1, 5], [5, 1]]) < 0


def test_the_interval_contains_the_value_and_draws_whole_prompts():
    cases = [(1, 1), (2, 2), (1, 2), (2, 2), (1, 1), (2, 1)] * 5

    def kappa(drawn):
        return cohen_kappa(*zip(*drawn, strict=True), (1, 2))

    apart = with_interval(kappa, cases, range(len(cases)))
    assert apart.value == kappa(cases)
    assert apart.low < apart.value < apart.high
    assert apart.cases == 30
    together = with_interval(kappa, cases, ["one prompt"] * len(cases))
    assert together.low == together.high == together.value
    assert math.isnan(with_interval(kappa, [(1, 1)], ["a"]).value)
