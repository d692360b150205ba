"""chrF++ with its signature, as an `evaluate` module."""

from typing import ClassVar

from preferans.evaluation.metric_module import MetricModule
from preferans.text.measures import chrf, chrf_plus_plus, corpus_chrf


class ChrfRu(MetricModule):
    description = "sacrebleu chrF++: similarity to references in characters and words."
    inputs = """
Args:
    predictions (`list[str]`): Answers.
    references (`list[list[str]]` or `list[str]`): One or more texts for each answer.
Returns:
    chrf (`float`): chrF++ of all answers together, from 0 to 100.
    chrf_mean (`float`): Mean chrF++ of single answers.
    chrf_signature (`str`): sacrebleu's signature, to be quoted with the value.
"""
    columns: ClassVar = {"predictions": "string", "references": "texts"}

    def _compute(self, predictions, references, prompts=None, finish_reasons=None):
        return {
            "chrf": corpus_chrf(predictions, references),
            "chrf_mean": sum(map(chrf, predictions, references)) / len(predictions),
            "chrf_signature": str(chrf_plus_plus().get_signature()),
        }
