"""Share of answers that come to their end, as an `evaluate` module."""

import datasets
import evaluate

from preferans.text.measures import is_complete

_DESCRIPTION = "Does an answer come to its end, or stop in mid-sentence."
_INPUTS = """
Args:
    predictions (`list[str]`): Answers.
    finish_reasons (`list[str]`, *optional*): "stop" or "length" of each answer, given to `compute`, also after `add_batch`.
Returns:
    complete (`float` or `None`): Share of answers that are complete, among those that are not empty.
    complete_cases (`int`): How many those are.
"""


class Completeness(evaluate.Metric):
    """Answers cut in mid-sentence."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    # `evaluate.combine` hands every column to every module: those that are not needed are passed over.
    def _compute(self, predictions, prompts=None, finish_reasons=None):
        if finish_reasons is None:
            finish_reasons = [None] * len(predictions)
        judged = [is_complete(*pair) for pair in zip(predictions, finish_reasons, strict=True)]
        known = [verdict for verdict in judged if verdict is not None]
        return {"complete": sum(known) / len(known) if known else None, "complete_cases": len(known)}
