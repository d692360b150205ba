"""Share of preference pairs that a model orders as people did, as an `evaluate` module."""

import datasets
import evaluate
import numpy as np

from preferans.evaluation.statistics import bootstrap

_DESCRIPTION = (
    "Share of pairs whose chosen answer has the higher implicit reward, beside what length alone would reach."
)
_INPUTS = """
Args:
    chosen_rewards, rejected_rewards (`list[float]`): Implicit rewards of both answers, or their log-probabilities.
    chosen_lengths, rejected_lengths (`list[float]`): Lengths of both answers, in tokens or characters.
    groups (`list[str]`, *optional*): Conversation tree of each pair, given to `compute`; whole trees are resampled.
Returns:
    preference_accuracy (`float`): Share over all pairs, a tie counts a half.
    reward_margin (`float`): Mean of the chosen reward minus the rejected.
    length_accuracy (`float`): The same share for the rule "the longer answer is the better".
    accuracy_over_length (`float`): The first share minus the third, pair by pair.
    pairs (`int`): How many there are.
    Each share and the margin has `…_low` and `…_high`, the ends of its 95 % bootstrap interval.
"""
_COLUMNS = ("chosen_rewards", "rejected_rewards", "chosen_lengths", "rejected_lengths")


class PreferenceAccuracy(evaluate.Metric):
    """Accuracy of implicit rewards, over the whole set."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({name: datasets.Value("float64") for name in _COLUMNS}),
        )

    def add_batch(self, **columns):
        """Add pairs, one number of each column per pair."""
        missing = [name for name in _COLUMNS if columns.get(name) is None]
        if missing:
            raise ValueError(f"preference_accuracy needs {', '.join(missing)} as well: one number per pair.")
        super().add_batch(**columns)

    def _compute(self, groups=None, **columns):
        chosen, rejected, chosen_lengths, rejected_lengths = (
            np.asarray(columns[name], dtype=float) for name in _COLUMNS
        )
        for name in _COLUMNS:
            if not np.isfinite(columns[name]).all():
                raise ValueError(
                    f"{name} holds a number that is not finite: its pair has no order. Leave such pairs out, and say so."
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
