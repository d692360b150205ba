"""chrF++ with its signature, as an `evaluate` module."""

import datasets
import evaluate

from preferans.text.measures import chrf, chrf_plus_plus, corpus_chrf

_DESCRIPTION = "sacrebleu chrF++: likeness to references in characters and words."
_INPUTS = """
Args:
    predictions (`list[str]`): Answers.
    references (`list[list[str]]`): One or more texts for each answer.
Returns:
    chrf (`float`): chrF++ of all answers together, from 0 to 100.
    chrf_mean (`float`): Mean of the answers' own chrF++.
    chrf_signature (`str`): What sacrebleu asks to be quoted with it.
"""


class ChrfRu(evaluate.Metric):
    """chrF++ by sacrebleu."""

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
        return {
            "chrf": corpus_chrf(predictions, references),
            "chrf_mean": sum(map(chrf, predictions, references)) / len(predictions),
            "chrf_signature": str(chrf_plus_plus().get_signature()),
        }
