"""Distinct n-grams, as an `evaluate` module."""

from preferans.evaluation.metric_module import MetricModule
from preferans.text.measures import distinct, word_runs


class DistinctN(MetricModule):
    description = "Distinct sequences of one, two and three words as a share of all."
    inputs = """
Args:
    predictions (`list[str]`): Answers.
Returns:
    distinct_1, distinct_2, distinct_3 (`float` or `None`): Means over answers that are long enough.
    corpus_distinct_1, … (`float` or `None`): The same over all answers together.
"""

    def _compute(self, predictions, prompts=None, finish_reasons=None):
        results = {}
        for n in (1, 2, 3):
            shares = [share for answer in predictions if (share := distinct(answer, n)) is not None]
            runs = [run for answer in predictions for run in word_runs(answer, n)]
            results[f"distinct_{n}"] = sum(shares) / len(shares) if shares else None
            results[f"corpus_distinct_{n}"] = len(set(runs)) / len(runs) if runs else None
        return results
