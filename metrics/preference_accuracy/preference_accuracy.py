"""Share of preference pairs that a model orders as people did, as an `evaluate` module."""

import numpy as np

from preferans.evaluation.metric_module import MetricModule
from preferans.evaluation.statistics import bootstrap

_COLUMNS = ("chosen_rewards", "rejected_rewards", "chosen_lengths", "rejected_lengths")


class PreferenceAccuracy(MetricModule):
    description = "Share of pairs whose chosen answer has the higher implicit reward, and the share that length alone would reach."
    inputs = """
Args:
    chosen_rewards, rejected_rewards (`list[float]`): Implicit rewards of both answers, or their log-probabilities.
    chosen_lengths, rejected_lengths (`list[float]`): Lengths of both answers, in tokens or characters.
    groups (`list[str]`, *optional*): Conversation tree of each pair, given to `compute`; whole trees are resampled.
Returns:
    preference_accuracy (`float`): Share of all pairs; a tie counts as a half.
    reward_margin (`float`): Mean of the chosen reward minus the rejected reward.
    length_accuracy (`float`): The same share for the rule "the longer answer is better".
    accuracy_over_length (`float`): The first share minus the third, pair by pair.
    pairs (`int`): Number of pairs.
    Each share and the margin has `…_low` and `…_high`, the ends of its 95 % bootstrap interval.
"""
    columns = dict.fromkeys(_COLUMNS, "float64")

    def add_batch(self, **columns):
        """Add pairs, one number of each column per pair."""
        missing = [name for name in _COLUMNS if columns.get(name) is None]
        if missing:
            raise ValueError(f"preference_accuracy also needs {', '.join(missing)}: one number per pair.")
        super().add_batch(**columns)

    def _compute(self, groups=None, **columns):
        chosen, rejected, chosen_lengths, rejected_lengths = (
            np.asarray(columns[name], dtype=float) for name in _COLUMNS
        )
        for name in _COLUMNS:
            if not np.isfinite(columns[name]).all():
                raise ValueError(
                    f"{name} contains a number that is not finite, so its pair has no order. Leave out such pairs."
                )
        won, longer = _wins(chosen, rejected), _wins(chosen_lengths, rejected_lengths)
        values = {
            "preference_accuracy": won,
            "reward_margin": chosen - rejected,
            "length_accuracy": longer,
            "accuracy_over_length": won - longer,
        }
        results = {}
        for name, numbers in values.items():
            score = bootstrap(numbers, groups)
            results |= {name: score.value, f"{name}_low": score.low, f"{name}_high": score.high}
        return results | {"pairs": len(won)}


def _wins(chosen, rejected):
    return (chosen > rejected) + 0.5 * (chosen == rejected)
