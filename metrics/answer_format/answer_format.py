"""Share of answers in the form that their prompt asks for, as an `evaluate` module."""

import datasets
import evaluate

from preferans.text.form_kept import keeps_format

_DESCRIPTION = "Asked in Russian for a list, a table, JSON, code, N items, N sentences or one word: is it there."
_INPUTS = """
Args:
    predictions (`list[str]`): Answers.
    prompts (`list[str]`): The last message of the user, for each answer.
Returns:
    keeps_format (`float` or `None`): Share of answers with the form asked for, among prompts that ask for one.
    format_cases (`int`): How many those are.
"""


class AnswerFormat(evaluate.Metric):
    """Forms that prompts ask for."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Value("string"), "prompts": datasets.Value("string")}),
        )

    # `evaluate.combine` hands every column to every module: those that are not needed are passed over.
    def _compute(self, predictions, prompts, finish_reasons=None):
        judged = [keeps_format(prompt, answer) for prompt, answer in zip(prompts, predictions, strict=True)]
        known = [verdict for verdict in judged if verdict is not None]
        return {"keeps_format": sum(known) / len(known) if known else None, "format_cases": len(known)}
