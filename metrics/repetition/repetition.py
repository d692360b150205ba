"""Share of answers that loop, as an `evaluate` module."""

from preferans.evaluation.metric_module import MetricModule, share
from preferans.text.measures import repetition


class RepetitionMetric(MetricModule):
    description = "Whether an answer loops, and how much of it repeats earlier words."
    inputs = """
Args:
    predictions (`list[str]`): Answers.
Returns:
    loops (`float`): Share of answers that loop.
    repeated_share (`float`): Mean share of sequences of four words that occurred in the answer before.
"""

    def _compute(self, predictions, prompts=None, finish_reasons=None):
        measured = [repetition(answer) for answer in predictions]
        return {
            "loops": share([result.loops for result in measured]),
            "repeated_share": sum(result.repeated_share for result in measured) / len(measured),
        }
