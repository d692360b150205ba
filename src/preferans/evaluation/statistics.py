"""Figures with their uncertainty: preference accuracy on held-out pairs, and what answers look like before and after."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np

RESAMPLES = 2_000
CONFIDENCE = 0.95
NO_DIFFERENCE = "no_detectable_difference"
# Where fewer differ, an exact sign test would find nothing even if all of them differ the same way: 2 * 0.5 ** 5 is more than 0.05. The
# bootstrap alone would: of 60 prompts, 4 that differ suffice for an interval above 0.
LEAST_CONVERSATIONS = 6


@dataclasses.dataclass
class Score:
    """
    A mean with its bootstrap interval.

    Attributes:
        value (`float`): Mean over the cases.
        low (`float`), high (`float`): Ends of the 95 % percentile interval over resampled cases.
        cases (`int`): How many cases the mean is over.
    """

    value: float
    low: float
    high: float
    cases: int

    def in_words(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}], n = {self.cases}"


def bootstrap(
    values: Sequence[float],
    groups: Sequence[str] | None = None,
    seed: int = 0,
    weights: Sequence[float] | None = None,
) -> Score:
    """
    Mean of `values` with a bootstrap interval ([Efron 1979](https://doi.org/10.1214/aos/1176344552)).

    Args:
        values (`Sequence[float]`):
            One number per case.
        groups (`Sequence[str]`, *optional*):
            The group of each case. Cases of one conversation are alike, so whole groups are drawn; without groups each case
            is drawn for itself.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the resampling.
        weights (`Sequence[float]`, *optional*):
            How much each case counts, such as its number of tokens where a value is a mean over them.

    Returns:
        [`Score`]: not-a-number throughout when there are no values.
    """
    data = np.asarray(list(values), dtype=float)
    if not len(data):
        return Score(math.nan, math.nan, math.nan, 0)
    group, drawn = resampled(range(len(data)) if groups is None else groups, seed)
    weight = np.ones(len(data)) if weights is None else np.asarray(list(weights), dtype=float)
    sums, sizes = np.bincount(group, weights=weight * data), np.bincount(group, weights=weight)
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    return Score(float(np.average(data, weights=weight)), *interval(means), len(data))


def resampled(groups: Iterable, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """
    Which groups are drawn, with replacement, in each resample.

    Args:
        groups (`Iterable`):
            The group of each case. The draw depends on the set of groups and not on the order of the cases.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the resampling.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: the number of each case's group, and the numbers of the groups drawn, of shape
        `(RESAMPLES, number of groups)`.
    """
    groups = list(groups)
    known = {name: number for number, name in enumerate(sorted(set(groups)))}
    drawn = np.random.default_rng(seed).integers(len(known), size=(RESAMPLES, len(known)))
    return np.array([known[name] for name in groups]), drawn


def interval(values: np.ndarray) -> tuple[float, float]:
    """Ends of the interval that holds the middle 95 % of resampled values."""
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def mean_of(values: Sequence[float | None], conversations: Sequence[str]) -> Score:
    """
    Mean of what is known, with its interval.

    Args:
        values (`Sequence[float | None]`):
            One number per answer, `None` where the question did not arise.
        conversations (`Sequence[str]`):
            Conversation of each answer, see [`bootstrap`].
    """
    return _bootstrap_known(list(zip(values, conversations, strict=True)))


def difference_of(
    values: Sequence[float | None],
    against: Sequence[float | None],
    conversations: Sequence[str],
    better: str | None = None,
) -> tuple[Score, str]:
    """
    Mean of the paired differences between two systems' answers to the same prompts, and what it says.

    Args:
        values (`Sequence[float | None]`), against (`Sequence[float | None]`):
            One measure of the answers of each system, in the same order. Prompts for which either is `None` are left out.
        conversations (`Sequence[str]`):
            Conversation of each prompt, see [`bootstrap`].
        better (`str`, *optional*):
            Which direction is the better one, see [`Measure`].

    Returns:
        `tuple[Score, str]`: the difference, `values` minus `against`, and the [`verdict`].
    """
    pairs = [
        (None if new is None or old is None else new - old, conversation)
        for new, old, conversation in zip(values, against, conversations, strict=True)
    ]
    differing = {conversation for value, conversation in pairs if value}
    difference = _bootstrap_known(pairs)
    return difference, verdict(difference, better) if len(differing) >= LEAST_CONVERSATIONS else NO_DIFFERENCE


def _bootstrap_known(values: list[tuple[float | None, str]]) -> Score:
    known = [(value, group) for value, group in values if value is not None]
    return bootstrap([value for value, _ in known], [group for _, group in known])


def verdict(difference: Score, better: str | None = None) -> str:
    """
    A difference in one word.

    Args:
        difference ([`Score`]):
            A paired difference. Its interval decides: where it touches 0, nothing was found.
        better (`str`, *optional*):
            Which direction is the better one, `"higher"` or `"lower"`.

    Returns:
        `str`: `"better"` or `"worse"`; `"higher"` or `"lower"` where neither direction is the better one; or
        `"no_detectable_difference"`.
    """
    if not (difference.low > 0 or difference.high < 0):
        return NO_DIFFERENCE
    direction = "higher" if difference.low > 0 else "lower"
    return direction if better is None else "better" if direction == better else "worse"
