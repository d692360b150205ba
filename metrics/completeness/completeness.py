"""Share of complete answers, as an `evaluate` module."""

from preferans.evaluation.metric_module import MetricModule, share
from preferans.text.measures import is_complete


class Completeness(MetricModule):
    description = "Whether an answer is complete, or stops in mid-sentence."
    inputs = """
Args:
    predictions (`list[str]`): Answers.
    finish_reasons (`list[str]`, *optional*): "stop" or "length" of each answer, given to `compute`, also after `add_batch`.
Returns:
    complete (`float` or `None`): Share of complete answers among non-empty ones.
    complete_cases (`int`): Number of non-empty answers.
"""

    def _compute(self, predictions, prompts=None, finish_reasons=None):
        if finish_reasons is None:
            finish_reasons = [None] * len(predictions)
        judged = [is_complete(*pair) for pair in zip(predictions, finish_reasons, strict=True)]
        verdicts = [verdict for verdict in judged if verdict is not None]
        return {"complete": share(verdicts), "complete_cases": len(verdicts)}
