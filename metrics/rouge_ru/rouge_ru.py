"""ROUGE over Russian tokens, as an `evaluate` module."""

from typing import ClassVar

from preferans.evaluation.metric_module import MetricModule
from preferans.text.measures import ROUGE_TYPES, rouge


class RougeRu(MetricModule):
    description = (
        "ROUGE over razdel tokens, by lemma (configuration lemmas, the default) or as written (configuration words)."
    )
    inputs = """
Args:
    predictions (`list[str]`): Answers.
    references (`list[list[str]]` or `list[str]`): One or more texts for each answer.
Returns:
    rouge1, rouge2, rougeL (`float`): Mean F-measures, from 0 to 1.
"""
    columns: ClassVar = {"predictions": "string", "references": "texts"}

    def _compute(self, predictions, references, prompts=None, finish_reasons=None):
        if self.config_name not in ("default", "lemmas", "words"):
            raise ValueError(f'rouge_ru has the configurations "lemmas" and "words", not "{self.config_name}".')
        lemmas = self.config_name != "words"
        scores = [rouge(answer, texts, lemmas) for answer, texts in zip(predictions, references, strict=True)]
        return {name: sum(score[name] for score in scores) / len(scores) for name in ROUGE_TYPES}
