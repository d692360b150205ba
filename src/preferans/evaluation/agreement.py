"""
Agreement of raters beyond chance: Cohen's kappa and Krippendorff's alpha.

1 is full agreement and 0 is the agreement of raters who answer at random, each with their own frequencies; below 0 they contradict
each other.
"""

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from .statistics import Score, interval, resampled

LEVELS = ("nominal", "ordinal", "interval")


def cohen_kappa(
    first: Sequence[Hashable], second: Sequence[Hashable], categories: Sequence[Hashable], weights: str | None = None
) -> float:
    """
    Compute Cohen's kappa of two raters ([Cohen 1960](https://doi.org/10.1177/001316446002000104)).

    Args:
        first (`Sequence`), second (`Sequence`): Each rater's categories of the same cases, in the same order.
        categories (`Sequence`): All categories; in order if they have one.
        weights (`str`, *optional*):
            `"quadratic"` counts a disagreement by the square of its distance in `categories`
            ([Cohen 1968](https://doi.org/10.1037/h0026256)). By default, every disagreement counts the same.

    Returns:
        `float`: NaN if kappa is undefined: there are no cases, or both raters put all cases in the same single category.
    """
    if weights not in (None, "quadratic"):
        raise ValueError(f"weights must be None or 'quadratic', got {weights!r}")
    size = len(categories)
    number = {category: position for position, category in enumerate(categories)}
    table = np.zeros((size, size))
    for one, other in zip(first, second, strict=True):
        table[number[one], number[other]] += 1
    cases = table.sum()
    if not cases:
        return math.nan
    distance = np.subtract.outer(np.arange(size), np.arange(size))
    cost = distance.astype(float) ** 2 if weights else (distance != 0).astype(float)
    by_chance = np.outer(table.sum(axis=1), table.sum(axis=0)) / cases
    expected = float((cost * by_chance).sum())
    return 1 - float((cost * table).sum()) / expected if expected else math.nan


def krippendorff_alpha(units: Sequence[Sequence[float | None]], level: str = "ordinal") -> float:
    """
    Compute Krippendorff's alpha ([Krippendorff 2011](https://repository.upenn.edu/handle/20.500.14332/2089)).

    Args:
        units (`Sequence[Sequence[float | None]]`):
            Each rater's rating of each unit; `None` if missing. Units with fewer than two ratings are ignored.
        level (`str`, *optional*, defaults to `"ordinal"`):
            Distance of two values: `"nominal"` (equal or not), `"ordinal"` (by the values in between) or `"interval"` (by their
            difference).

    Returns:
        `float`: NaN if alpha is undefined: no unit has two ratings, or all ratings are equal.
    """
    values, coincidences = _coincidences(units, level)
    return float(_alpha(coincidences.sum(axis=0), values, level))


def alpha_with_interval(
    units: Sequence[Sequence[float | None]], groups: Sequence[Hashable], level: str = "ordinal"
) -> Score:
    """
    Compute [`krippendorff_alpha`] with its bootstrap interval.

    Args:
        units (`Sequence[Sequence[float | None]]`), level (`str`, *optional*, defaults to `"ordinal"`): See [`krippendorff_alpha`].
        groups (`Sequence`): The group of each unit, such as its prompt; whole groups are drawn.

    Returns:
        [`~preferans.evaluation.statistics.Score`]: its interval leaves out draws for which alpha is undefined.
    """
    values, coincidences = _coincidences(units, level)
    value = float(_alpha(coincidences.sum(axis=0), values, level))
    if math.isnan(value):
        return Score(math.nan, math.nan, math.nan, len(units))
    group, drawn = resampled(groups)
    by_group = np.zeros((drawn.shape[1], *coincidences.shape[1:]))
    np.add.at(by_group, group, coincidences)
    redrawn = np.array([_alpha(by_group[draw].sum(axis=0), values, level) for draw in drawn])
    return Score(value, *interval(redrawn[~np.isnan(redrawn)]), len(units))


def _coincidences(units: Sequence[Sequence[float | None]], level: str) -> tuple[np.ndarray, np.ndarray]:
    """The values in order, and for each unit how often each two of them coincide, of shape `(units, values, values)`."""
    if level not in LEVELS:
        raise ValueError(f"level must be one of {LEVELS}, got {level!r}")
    known = [[value for value in unit if value is not None] for unit in units]
    values = sorted({value for unit in known if len(unit) > 1 for value in unit})
    number = {value: position for position, value in enumerate(values)}
    coincidences = np.zeros((len(units), len(values), len(values)))
    for row, unit in zip(coincidences, known, strict=True):
        if len(unit) > 1:
            counts = np.bincount([number[value] for value in unit], minlength=len(values)).astype(float)
            row += (np.outer(counts, counts) - np.diag(counts)) / (len(unit) - 1)
    return np.array(values, float), coincidences


def _alpha(coincidences: np.ndarray, values: np.ndarray, level: str) -> float:
    totals = coincidences.sum(axis=0)
    if level == "nominal":
        distance = 1.0 - np.eye(len(values))
    elif level == "interval":
        distance = np.subtract.outer(values, values) ** 2
    else:
        mean_rank = np.cumsum(totals) - totals / 2
        distance = np.subtract.outer(mean_rank, mean_rank) ** 2
    expected = (distance * np.outer(totals, totals)).sum()
    observed = (distance * coincidences).sum()
    return 1 - (totals.sum() - 1) * observed / expected if expected else math.nan


def with_interval(
    statistic: Callable[[list], float], cases: Sequence, groups: Sequence[Hashable], seed: int = 0
) -> Score:
    """
    Compute a statistic other than a mean, with its bootstrap interval.

    Args:
        statistic (`Callable`): Function of a list of cases.
        cases (`Sequence`): Cases.
        groups (`Sequence`): The group of each case, such as its prompt; whole groups are drawn.
        seed (`int`, *optional*, defaults to `0`): Seed of the resampling.

    Returns:
        [`~preferans.evaluation.statistics.Score`]: its interval leaves out draws for which the statistic is NaN.
    """
    value = statistic(list(cases))
    if math.isnan(value):
        return Score(math.nan, math.nan, math.nan, len(cases))
    group, drawn = resampled(groups, seed)
    blocks = [[cases[int(case)] for case in np.flatnonzero(group == block)] for block in range(group.max() + 1)]
    values = np.array([statistic([case for block in draw for case in blocks[block]]) for draw in drawn])
    return Score(value, *interval(values[~np.isnan(values)]), len(cases))
