"""ROUGE over Russian tokens, as an `evaluate` module."""

import datasets
import evaluate

from preferans.text.measures import ROUGE_TYPES, rouge

_DESCRIPTION = (
    "ROUGE over razdel tokens, by lemma (configuration lemmas, the default) or as written (configuration words)."
)
_INPUTS = """
Args:
    predictions (`list[str]`): Answers.
    references (`list[list[str]]`): One or more texts for each answer.
Returns:
    rouge1, rouge2, rougeL (`float`): Mean F-measures, from 0 to 1.
"""


class RougeRu(evaluate.Metric):
    """ROUGE for Russian."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Sequence(datasets.Value("string"))}
            ),
        )

    # `evaluate.combine` hands every column to every module: those that are not needed are passed over.
    def _compute(self, predictions, references, prompts=None, finish_reasons=None):
        if self.config_name not in ("default", "lemmas", "words"):
            raise ValueError(f'rouge_ru has the configurations "lemmas" and "words", not "{self.config_name}".')
        scores = [
            rouge(answer, texts, lemmas=self.config_name != "words")
            for answer, texts in zip(predictions, references, strict=True)
        ]
        return {name: sum(score[name] for score in scores) / len(scores) for name in ROUGE_TYPES}
