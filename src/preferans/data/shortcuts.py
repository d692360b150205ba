"""
Find out whether the style of the answers gives away which one is preferred.

If a colon, «вы» or the length reveals which answer is preferred, a model learns that instead of what people prefer. A linear model on differences in words
and word pairs is fitted on some conversations and tested on others. See [Annotation artifacts in natural language inference
data](https://arxiv.org/abs/1803.02324) for the same test on another task.
"""

import itertools
import math
import random
import re
from collections import Counter
from typing import NamedTuple

import numpy as np

from ..utf8 import normal_form
from .pairs import Pair

FOLDS, MAX_PAIRS, MAX_FEATURES, LEAST_PAIRS = 5, 2000, 4000, 3
_TOKEN = re.compile(r"\d+|\w+|[^\w\s]|\n")


class Shortcuts(NamedTuple):
    """
    How well surface features tell chosen from rejected answers.

    Attributes:
        pairs (`int`): Number of pairs that were judged.
        accuracy (`float`): Share of pairs whose chosen answer the linear model recognizes, fitted on other conversations. 0.5 is chance.
        interval (`tuple[float, float]`): Its 95 % interval (Wilson, with conversations as the sample).
        longer (`float`): Share of pairs whose chosen answer is the longer one, or the shorter one if that is more.
        features (`list[tuple[str, int, int]]`): The strongest features, with the numbers of pairs in which the chosen and in which the rejected
            answer has more of them.
    """

    pairs: int
    accuracy: float
    interval: tuple[float, float]
    longer: float
    features: list[tuple[str, int, int]]


def find_shortcuts(pairs: list[Pair]) -> Shortcuts:
    """
    Measure how well a linear model on words and pairs of words separates chosen from rejected answers, by cross-validation over conversations.

    Args:
        pairs (`list[Pair]`): At least two pairs with different prompts. At most `MAX_PAIRS` of them are used, drawn with a fixed seed.
    """
    if len(pairs) > MAX_PAIRS:
        pairs = random.Random(0).sample(pairs, MAX_PAIRS)
    counts = [_difference(pair) for pair in pairs]
    frequency = Counter(feature for difference in counts for feature in difference)
    names = [feature for feature, number in frequency.most_common(MAX_FEATURES) if number >= LEAST_PAIRS]
    position = {feature: column for column, feature in enumerate(names)}
    matrix = np.zeros((len(pairs), len(names)))
    for row, difference in enumerate(counts):
        for feature, value in difference.items():
            if feature in position:
                matrix[row, position[feature]] = np.sign(value)
    matrix /= np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-9)

    groups = [pair.conversation for pair in pairs]  # pairs of one conversation are never in two folds
    order = sorted(set(groups))
    random.Random(0).shuffle(order)
    fold_of = {group: number % FOLDS for number, group in enumerate(order)}
    folds = np.array([fold_of[group] for group in groups])
    scores = np.zeros(len(pairs))
    for fold in range(FOLDS):
        scores[folds == fold] = matrix[folds == fold] @ _ridge(matrix[folds != fold])
    right = (scores > 0) + 0.5 * (scores == 0)
    longer = float(np.mean([np.sign(len(pair.text("chosen")) - len(pair.text("rejected"))) for pair in pairs]))
    weights = np.abs(_ridge(matrix)) * np.abs(matrix).sum(axis=0)
    strongest = [names[column] for column in np.argsort(-weights)[:8]]
    features = [
        (name, sum(difference[name] > 0 for difference in counts), sum(difference[name] < 0 for difference in counts))
        for name in strongest
    ]
    accuracy = float(right.mean())
    return Shortcuts(len(pairs), accuracy, _wilson(accuracy, len(order)), (1 + abs(longer)) / 2, features)


def _difference(pair: Pair) -> Counter:
    """Count the features of the chosen answer minus those of the rejected one."""
    difference = _features(pair.text("chosen"))
    difference.subtract(_features(pair.text("rejected")))
    return Counter({feature: value for feature, value in difference.items() if value})


def _features(text: str) -> Counter:
    tokens = ["0" if token.isdigit() else token for token in _TOKEN.findall(normal_form(text).lower())]
    return Counter([*tokens, *(f"{one} {other}" for one, other in itertools.pairwise(tokens))])


def _ridge(matrix: np.ndarray) -> np.ndarray:
    """Fit weights that score every row of differences as 1, by ridge regression in its dual form."""
    gram = matrix @ matrix.T
    return matrix.T @ np.linalg.solve(gram + np.eye(len(gram)), np.ones(len(gram)))


def _wilson(share: float, number: int) -> tuple[float, float]:
    z = 1.96
    centre = share + z * z / (2 * number)
    spread = z * math.sqrt(share * (1 - share) / number + z * z / (4 * number * number))
    scale = 1 + z * z / number
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
