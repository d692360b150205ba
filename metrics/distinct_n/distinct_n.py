"""Distinct n-grams, as an `evaluate` module."""

import datasets
import evaluate

from preferans.text.measures import distinct, word_runs

_DESCRIPTION = "Distinct runs of one, two and three words as a share of all."
_INPUTS = """
Args:
    predictions (`list[str]`): Answers.
Returns:
    distinct_1, distinct_2, distinct_3 (`float` or `None`): Means over answers long enough.
    corpus_distinct_1, … (`float` or `None`): The same over all answers together.
"""


class DistinctN(evaluate.Metric):
    """Variety of words within answers, and among them."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    # `evaluate.combine` hands every column to every module: those that are not needed are passed over.
    def _compute(self, predictions, prompts=None, finish_reasons=None):
        results = {}
        for n in (1, 2, 3):
            shares = [share for answer in predictions if (share := distinct(answer, n)) is not None]
            runs = [run for answer in predictions for run in word_runs(answer, n)]
            results[f"distinct_{n}"] = sum(shares) / len(shares) if shares else None
            results[f"corpus_distinct_{n}"] = len(set(runs)) / len(runs) if runs else None
        return results
