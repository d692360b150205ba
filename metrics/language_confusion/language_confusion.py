"""Language confusion in Russian answers, as an `evaluate` module: `evaluate.load("metrics/language_confusion")`."""

import statistics
from collections import Counter

import datasets
import evaluate

from preferans.text.intrusions import confusion

_DESCRIPTION = """
Whether answers that should be in Russian are, and whether words of other languages intrude into those that are.
Code, links, formulas, names, acronyms, units, cited words and words of the prompt are no intrusions.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (`list[str]`):
        Answers.
    prompts (`list[str]`):
        What was asked, one prompt for each answer. Where nothing was asked, an empty string.

Returns:
    `dict`:
    - `in_russian` (`float` or `None`): share of answers that are in Russian, among those with prose to judge;
    - `intrusion_rate` (`float` or `None`): among answers in Russian, share with an intruding word;
    - `intrusion_rate_without_glosses` (`float` or `None`): the same, with a lone everyday English word in brackets forgiven;
    - `hard_intrusion_rate` (`float` or `None`): among answers in Russian, share with a word in another script than Cyrillic and
      Latin, or in two scripts at once;
    - `foreign_word_share` (`float` or `None`): intruding words among all words of answers in Russian;
    - `template_leak_rate` (`float` or `None`): share of all answers with a token of a chat template in them;
    - `languages` (`dict[str, int]`): answers in Russian into which each language intrudes, the most frequent first; `mixed` stands for
      two scripts in one word, `unknown` for a word that nothing tells;
    - `answers`, `answers_in_russian` (`int`): how many there were.

    Rates run from 0 to 1 and are `None` where there is nothing to count.

Examples:
    >>> metric = evaluate.load("metrics/language_confusion")
    >>> metric.compute(predictions=["Мы должны consider все варианты.", "Да, верно."], prompts=["", ""])["intrusion_rate"]
    0.5
"""


class LanguageConfusion(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": datasets.Value("string"), "prompts": datasets.Value("string")}),
        )

    def _compute(self, predictions: list[str], prompts: list[str]) -> dict:
        found = [confusion(answer, prompt) for answer, prompt in zip(predictions, prompts, strict=True)]
        judged = [one for one in found if one.in_russian is not None]
        russian = [one for one in judged if one.in_russian]
        words = sum(one.words for one in russian)
        languages = Counter(
            language for one in russian for language in {word.language or "unknown" for word in one.intruders}
        )
        return {
            "in_russian": _share(one.in_russian for one in judged),
            "intrusion_rate": _share(bool(one.intruders) for one in russian),
            "intrusion_rate_without_glosses": _share(any(not word.gloss for word in one.intruders) for one in russian),
            "hard_intrusion_rate": _share(any(word.hard for word in one.intruders) for one in russian),
            "foreign_word_share": sum(len(one.intruders) for one in russian) / words if words else None,
            "template_leak_rate": _share(bool(one.leaks) for one in found),
            "languages": dict(languages.most_common()),
            "answers": len(found),
            "answers_in_russian": len(russian),
        }


def _share(flags) -> float | None:
    flags = list(flags)
    return statistics.fmean(flags) if flags else None
