"""Means with bootstrap intervals, and paired differences between two systems."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np

RESAMPLES = 2_000
CONFIDENCE = 0.95
NO_DIFFERENCE = "no_detectable_difference"
# With fewer conversations that differ, an exact sign test is not significant even if all of them differ in the same direction:
# 2 * 0.5 ** 5 is more than 0.05. The bootstrap alone would report a difference: 4 of 60 prompts are enough for an interval above 0.
LEAST_CONVERSATIONS = 6


@dataclasses.dataclass
class Score:
    """
    A mean with its bootstrap interval.

    Attributes:
        value (`float`): Mean over the cases.
        low (`float`), high (`float`): Ends of the 95 % percentile interval over resampled cases.
        cases (`int`): Number of cases.
    """

    value: float
    low: float
    high: float
    cases: int

    def in_words(self) -> str:
        """Return the score as one line of text."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}], n = {self.cases}"


def score_as_json(score: Score) -> dict[str, float | int | None]:
    """Return a score as a JSON object; NaN becomes null."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in dataclasses.asdict(score).items()
    }


def bootstrap(
    values: Sequence[float],
    groups: Sequence[str] | None = None,
    seed: int = 0,
    weights: Sequence[float] | None = None,
) -> Score:
    """
    Compute the mean of `values` with a bootstrap interval ([Efron 1979](https://doi.org/10.1214/aos/1176344552)).

    Args:
        values (`Sequence[float]`): One number per case.
        groups (`Sequence[str]`, *optional*):
            The group of each case. Cases of one conversation are not independent, so whole groups are drawn; without groups, each case
            is drawn separately.
        seed (`int`, *optional*, defaults to `0`): Seed of the resampling.
        weights (`Sequence[float]`, *optional*): Weight of each case, such as its number of tokens if a value is a mean over them.

    Returns:
        [`Score`]: all NaN if there are no values.
    """
    data = np.asarray(list(values), dtype=float)
    if not len(data):
        return Score(math.nan, math.nan, math.nan, 0)
    group, drawn = resampled(range(len(data)) if groups is None else groups, seed)
    weight = np.ones(len(data)) if weights is None else np.asarray(list(weights), dtype=float)
    sums, sizes = np.bincount(group, weights=weight * data), np.bincount(group, weights=weight)
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    return Score(float(np.average(data, weights=weight)), *interval(means), len(data))


def balanced(values: Sequence[float], strata: Sequence[str], groups: Sequence[str]) -> Score:
    """
    Compute the mean of the strata's means, so that each stratum counts the same, with its bootstrap interval.

    Args:
        values (`Sequence[float]`): One number per case.
        strata (`Sequence[str]`): The stratum of each case.
        groups (`Sequence[str]`): The group of each case; whole groups are drawn.

    Returns:
        [`Score`]: all NaN and without cases with fewer than two strata. Its interval leaves out draws without a case of some stratum.
    """
    names = sorted(set(strata))
    if len(names) < 2:
        return Score(math.nan, math.nan, math.nan, 0)
    data, stratum = np.asarray(list(values), dtype=float), np.array([names.index(one) for one in strata])
    group, drawn = resampled(groups)
    cell = (drawn.shape[1], len(names))
    sums, sizes = np.zeros(cell), np.zeros(cell)
    np.add.at(sums, (group, stratum), data)
    np.add.at(sizes, (group, stratum), 1.0)
    totals = sizes[drawn].sum(axis=1)
    means = sums[drawn].sum(axis=1)[totals.min(axis=1) > 0] / totals[totals.min(axis=1) > 0]
    value = (sums.sum(axis=0) / sizes.sum(axis=0)).mean()
    return Score(float(value), *interval(means.mean(axis=1)), len(data))


def smallest_difference(low: float, high: float) -> float:
    """
    Estimate the smallest true difference that a test like this one shows with a probability of 80 %.

    Args:
        low (`float`), high (`float`): Ends of the difference's 95 % interval, from which the standard error is estimated.

    Returns:
        `float`: 2.8 standard errors (1.96 for the interval and 0.84 for the probability), in their unit.
    """
    return (1.96 + 0.84) * (high - low) / (2 * 1.96)


def resampled(groups: Iterable, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """
    Draw groups with replacement, once per resample. The draw depends on the set of groups, not on the order of the cases.

    Args:
        groups (`Iterable`): The group of each case.
        seed (`int`, *optional*, defaults to `0`): Seed of the resampling.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: the group number of each case, and the drawn group numbers, of shape
        `(RESAMPLES, number of groups)`.
    """
    groups = list(groups)
    numbers = {name: number for number, name in enumerate(sorted(set(groups)))}
    drawn = np.random.default_rng(seed).integers(len(numbers), size=(RESAMPLES, len(numbers)))
    return np.array([numbers[name] for name in groups]), drawn


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return the ends of the interval that holds the middle 95 % of resampled values."""
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def mean_of(values: Sequence[float | None], conversations: Sequence[str]) -> Score:
    """
    Compute the mean of the known values with its interval.

    Args:
        values (`Sequence[float | None]`): One number per answer, `None` if the measure does not apply to it.
        conversations (`Sequence[str]`): Conversation of each answer; whole conversations are drawn.
    """
    known = [(value, group) for value, group in zip(values, conversations, strict=True) if value is not None]
    return bootstrap([value for value, _ in known], [group for _, group in known])


def difference_of(
    values: Sequence[float | None],
    against: Sequence[float | None],
    conversations: Sequence[str],
    better: str | None = None,
) -> tuple[Score, str]:
    """
    Compute the mean of the paired differences between two systems' answers to the same prompts, and its verdict.

    Args:
        values (`Sequence[float | None]`), against (`Sequence[float | None]`):
            One measure of each system's answers, in the same order. Prompts for which either is `None` are left out.
        conversations (`Sequence[str]`): Conversation of each prompt; whole conversations are drawn.
        better (`str`, *optional*): The better direction, `"higher"` or `"lower"`.

    Returns:
        `tuple[Score, str]`: the difference, `values` minus `against`, and the [`verdict`].
    """
    differences = [None if new is None or old is None else new - old for new, old in zip(values, against, strict=True)]
    differing = {group for value, group in zip(differences, conversations, strict=True) if value}
    difference = mean_of(differences, conversations)
    return difference, verdict(difference, better) if len(differing) >= LEAST_CONVERSATIONS else NO_DIFFERENCE


def verdict(difference: Score, better: str | None = None) -> str:
    """
    Summarize a paired difference in one word. It is detectable if its interval does not touch 0.

    Returns:
        `str`: `"better"` or `"worse"`; `"higher"` or `"lower"` if neither direction is better; or `"no_detectable_difference"`.
    """
    if not (difference.low > 0 or difference.high < 0):
        return NO_DIFFERENCE
    direction = "higher" if difference.low > 0 else "lower"
    return direction if better is None else "better" if direction == better else "worse"
