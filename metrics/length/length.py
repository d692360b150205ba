"""Length of answers, as an `evaluate` module."""

import statistics

from preferans.evaluation.metric_module import MetricModule
from preferans.text.measures import word_runs


class Length(MetricModule):
    description = "Length of answers in characters and words."
    inputs = """
Args:
    predictions (`list[str]`): Answers.
Returns:
    length (`float`): Mean number of characters.
    length_median (`float`): Median number of characters.
    length_words (`float`): Mean number of words.
"""

    def _compute(self, predictions, prompts=None, finish_reasons=None):
        lengths = [len(answer) for answer in predictions]
        return {
            "length": statistics.fmean(lengths),
            "length_median": float(statistics.median(lengths)),
            "length_words": statistics.fmean(len(word_runs(answer, 1)) for answer in predictions),
        }
