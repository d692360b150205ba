"""Length of answers, as an `evaluate` module."""

import statistics

import datasets
import evaluate

from preferans.text.measures import word_runs

_DESCRIPTION = "How long answers are, in characters and words."
_INPUTS = """
Args:
    predictions (`list[str]`): Answers.
Returns:
    length (`float`): Mean number of characters.
    length_median (`float`): Their median.
    length_words (`float`): Mean number of words.
"""


class Length(evaluate.Metric):
    """Characters and words."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    # `evaluate.combine` hands every column to every module: those that are not needed are passed over.
    def _compute(self, predictions, prompts=None, finish_reasons=None):
        lengths = [len(answer) for answer in predictions]
        return {
            "length": statistics.fmean(lengths),
            "length_median": float(statistics.median(lengths)),
            "length_words": statistics.fmean(len(word_runs(answer, 1)) for answer in predictions),
        }
