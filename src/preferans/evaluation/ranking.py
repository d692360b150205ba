"""Win rates, length-controlled win rates and a ranking, from verdicts."""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from .statistics import Score, bootstrap, interval, resampled

# 400 points of strength are odds of 10 to 1, as in chess.
POINTS = 400 / math.log(10)
# Added to the votes, so that a system that always won or lost, or was never compared, gets a finite strength.
PRIOR_VOTES = 1.0
# Resamples that are fitted at once; more need more memory.
_FITTED_AT_ONCE = 200


class Vote(NamedTuple):
    """
    One verdict on the answers of two systems to one prompt.

    Attributes:
        conversation (`str`): The group of votes that are not independent of each other.
        systems (`tuple[str, str]`): The two systems.
        share (`float` or `None`): 1 if the first system is better, 0 if the second is, 0.5 for a tie; `None` if the judge's reply was
            unreadable, which is not counted as a vote.
        lengths (`tuple[int, int]` or `None`): Characters of the two answers, if known.
    """

    conversation: str
    systems: tuple[str, str]
    share: float | None
    lengths: tuple[int, int] | None = None

    def seen_from(self, system: str) -> "Vote":
        """Return the same vote with `system` first."""
        if self.systems[0] == system:
            return self
        return Vote(
            self.conversation,
            self.systems[::-1],
            None if self.share is None else 1 - self.share,
            self.lengths and self.lengths[::-1],
        )


def between(votes: Sequence[Vote], first: str, second: str) -> list[Vote]:
    """Select the votes on two systems, each with `first` as its first system."""
    return [vote.seen_from(first) for vote in votes if set(vote.systems) == {first, second}]


def win_rate(votes: Sequence[Vote]) -> Score:
    """
    Compute the share of the votes for the first system, ties half.

    Args:
        votes (`Sequence[Vote]`): Votes on two systems, see [`between`]. Unreadable ones are left out.

    Returns:
        [`Score`]: from 0 to 1; the interval draws whole conversations.
    """
    cast = [(vote.share, vote.conversation) for vote in votes if vote.share is not None]
    return bootstrap([share for share, _ in cast], [conversation for _, conversation in cast])


def length_controlled_win_rate(votes: Sequence[Vote]) -> Score:
    """
    Estimate the first system's win rate if its answers were as long as the other's.

    Judges, human or not, tend to prefer the longer answer. As in AlpacaEval 2
    ([Dubois et al. 2024](https://arxiv.org/abs/2404.04475)), a logistic regression separates the effect of length:
    `P(first wins) = sigmoid(quality + slope * tanh(d / s))`, where `d` is the difference of the lengths in characters and `s` the
    standard deviation of these differences. The result is `sigmoid(quality)`, the prediction for `d = 0`. Their term for the difficulty
    of each instruction is left out, because many systems are needed to estimate it. Ties are half a win and half a loss; one added tie,
    half of it at either end of the scale of lengths, keeps both coefficients finite and pulls them towards 0.

    Args:
        votes (`Sequence[Vote]`): Votes on two systems, see [`between`]. Unreadable ones and those without lengths are left out.

    Returns:
        [`Score`]: from 0 to 1; the interval draws whole conversations. NaN if one system's answer is always the longer one, because
        length and quality then cannot be separated.
    """
    cast = [vote for vote in votes if vote.share is not None and vote.lengths is not None]
    lengths = np.array([vote.lengths for vote in cast], dtype=float).reshape(-1, 2)
    difference = lengths[:, 0] - lengths[:, 1]
    if not cast or difference.min() > 0 or difference.max() < 0:
        return Score(math.nan, math.nan, math.nan, len(cast))
    length = np.tanh(difference / (difference.std() or 1.0))
    # the last two rows are the added tie
    design = np.column_stack([np.ones(len(cast) + 2), np.append(length, [1.0, -1.0])])
    share = np.array([*(vote.share for vote in cast), 0.5, 0.5], dtype=float)

    def fitted(weights: np.ndarray) -> np.ndarray:
        added = np.full((len(weights), 2), PRIOR_VOTES / 2)
        totals = np.hstack([weights, added])
        return _sigmoid(_logistic(design, totals * share, totals)[:, 0])

    group, drawn = resampled([vote.conversation for vote in cast])
    value = fitted(np.ones((1, len(cast))))[0]
    redrawn = np.concatenate([fitted(counts[:, group]) for counts in _counts(drawn)])
    return Score(float(value), *interval(redrawn), len(cast))


def bradley_terry(votes: Sequence[Vote], systems: Sequence[str]) -> dict[str, Score]:
    """
    Estimate the systems' strengths from votes on two of them at a time ([Bradley & Terry 1952](https://doi.org/10.2307/2334029)).

    The odds of winning are `10 ** (difference of strengths / 400)`, the scale of chess and of
    [Chatbot Arena](https://arxiv.org/abs/2403.04132), around a mean of 0. Ties are half a win and half a loss. One tie between every
    two systems is added: it moves strengths slightly together, and keeps them finite for a system that always won and for systems
    that no chain of votes connects. The strengths of two systems then differ by the logarithm of `(wins + 1/2) / (losses + 1/2)`.

    Args:
        votes (`Sequence[Vote]`): Votes on two of the systems each. Unreadable ones are left out.
        systems (`Sequence[str]`): The systems to rank.

    Returns:
        `dict[str, Score]`: strength of each system and its number of votes, the strongest first, equal strengths in the order of their
        names. The interval draws whole conversations.
    """
    cast = [vote for vote in votes if vote.share is not None]
    names = sorted(systems)
    if len(names) < 2 or not cast:
        return {}
    pairs = list(combinations(range(len(names)), 2))
    number = {pair: index for index, pair in enumerate(pairs)}
    design = np.zeros((len(pairs), len(names)))
    for index, (first, second) in enumerate(pairs):
        design[index, first], design[index, second] = 1.0, -1.0
    group, drawn = resampled([vote.conversation for vote in cast])
    wins, totals = (np.zeros((drawn.shape[1], len(pairs))) for _ in range(2))
    for vote, row in zip(cast, group, strict=True):
        first, second = sorted(names.index(system) for system in vote.systems)
        wins[row, number[first, second]] += vote.seen_from(names[first]).share
        totals[row, number[first, second]] += 1.0

    def fitted(counts: np.ndarray) -> np.ndarray:
        # Only differences matter, so the first system's strength is fixed at 0.
        others = _logistic(design[:, 1:], counts @ wins + PRIOR_VOTES / 2, counts @ totals + PRIOR_VOTES)
        strengths = np.hstack([np.zeros((len(others), 1)), others]) * POINTS
        return strengths - strengths.mean(axis=1, keepdims=True)

    value = fitted(np.ones((1, drawn.shape[1])))[0]
    redrawn = np.concatenate([fitted(counts) for counts in _counts(drawn)])
    cases = {name: sum(name in vote.systems for vote in cast) for name in names}
    scores = {
        name: Score(float(value[column]), *interval(redrawn[:, column]), cases[name])
        for column, name in enumerate(names)
    }
    return dict(sorted(scores.items(), key=lambda item: (-round(item[1].value, 6), item[0])))


def _counts(drawn: np.ndarray) -> Iterator[np.ndarray]:
    """Yield how often each group was drawn, for some resamples at a time."""
    groups = drawn.shape[1]
    for start in range(0, len(drawn), _FITTED_AT_ONCE):
        part = drawn[start : start + _FITTED_AT_ONCE]
        flat = (part + groups * np.arange(len(part))[:, None]).ravel()
        yield np.bincount(flat, minlength=groups * len(part)).reshape(len(part), groups).astype(float)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(x / 2))


def _logistic(design: np.ndarray, wins: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """
    Fit logistic regressions by Newton's method, for many weightings of the same rows at once.

    Args:
        design (`np.ndarray` of shape `(rows, coefficients)`): Features, of full column rank.
        wins (`np.ndarray` of shape `(fits, rows)`), totals (`np.ndarray` of shape `(fits, rows)`):
            Weight of the successes of each row, and of all its trials. The optimum must be finite.

    Returns:
        `np.ndarray` of shape `(fits, coefficients)`.
    """
    coefficients = np.zeros((len(wins), design.shape[1]))
    squares = design[:, :, None] * design[:, None, :]
    for _ in range(500):
        expected = _sigmoid(coefficients @ design.T)
        gradient = (wins - totals * expected) @ design
        curvature = np.tensordot(totals * expected * (1 - expected), squares, axes=1)
        step = np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0]
        # a step longer than 1 could overshoot to where the curve is flat
        step /= np.maximum(1.0, np.abs(step).max(axis=1, keepdims=True))
        coefficients += step
        if np.abs(step).max() < 1e-10:
            return coefficients
    raise ArithmeticError("the logistic regression did not converge")  # impossible if the optimum is finite
