"""Share of answers in the form that their prompt requests, as an `evaluate` module."""

from typing import ClassVar

from preferans.evaluation.metric_module import MetricModule, share
from preferans.text.form_kept import keeps_format


class AnswerFormat(MetricModule):
    description = "Whether an answer is a list, a table, JSON, code, N items, sentences, words or lines, if its Russian prompt requests it."
    inputs = """
Args:
    predictions (`list[str]`): Answers.
    prompts (`list[str]`): The last message of the user, for each answer.
Returns:
    keeps_format (`float` or `None`): Share of answers in the requested form, among prompts that request one.
    format_cases (`int`): Number of such prompts.
"""
    columns: ClassVar = {"predictions": "string", "prompts": "string"}

    def _compute(self, predictions, prompts, finish_reasons=None):
        judged = [keeps_format(prompt, answer) for prompt, answer in zip(prompts, predictions, strict=True)]
        requested = [verdict for verdict in judged if verdict is not None]
        return {"keeps_format": share(requested), "format_cases": len(requested)}
