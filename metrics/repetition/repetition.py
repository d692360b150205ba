"""Share of answers that run in circles, as an `evaluate` module."""

import datasets
import evaluate

from preferans.text.measures import repetition

_DESCRIPTION = "Does an answer run in circles, and how much of it was said before."
_INPUTS = """
Args:
    predictions (`list[str]`): Answers.
Returns:
    loops (`float`): Share of answers that run in circles.
    repeated_share (`float`): Mean share of runs of four words that stood in the answer before.
"""


class RepetitionMetric(evaluate.Metric):
    """Loops and repeated runs of words."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    # `evaluate.combine` hands every column to every module: those that are not needed are passed over.
    def _compute(self, predictions, prompts=None, finish_reasons=None):
        measured = [repetition(answer) for answer in predictions]
        return {
            "loops": sum(one.loops for one in measured) / len(measured),
            "repeated_share": sum(one.repeated_share for one in measured) / len(measured),
        }
