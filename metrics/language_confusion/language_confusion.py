"""Language confusion in Russian answers, as an `evaluate` module: `evaluate.load("metrics/language_confusion")`."""

from collections import Counter
from typing import ClassVar

from preferans.evaluation.metric_module import MetricModule, share
from preferans.text.intrusions import confusion


class LanguageConfusion(MetricModule):
    description = """
Whether answers that should be in Russian are, and whether words of other languages intrude into them.
Code, links, formulas, names, acronyms, units, quoted words and words of the prompt are no intrusions.
"""
    inputs = """
Args:
    predictions (`list[str]`):
        Answers.
    prompts (`list[str]`):
        The prompt of each answer; an empty string if there is none.

Returns:
    `dict`:
    - `in_russian` (`float` or `None`): share of answers in Russian, among those with prose;
    - `intrusion_rate` (`float` or `None`): among answers in Russian, share with an intruding word;
    - `intrusion_rate_without_glosses` (`float` or `None`): the same, without single everyday English words in brackets;
    - `hard_intrusion_rate` (`float` or `None`): among answers in Russian, share with a word in a script other than Cyrillic and
      Latin, or in two scripts at once;
    - `foreign_word_share` (`float` or `None`): intruding words among all words of answers in Russian;
    - `template_leak_rate` (`float` or `None`): share of all answers that contain a token of a chat template;
    - `languages` (`dict[str, int]`): number of answers in Russian with words of each language, the most frequent first; `mixed` means
      two scripts in one word, `unknown` a word of no recognised language;
    - `answers`, `answers_in_russian` (`int`): number of answers.

    Rates are from 0 to 1, and `None` if there is nothing to count.

Examples:
    >>> metric = evaluate.load("metrics/language_confusion")
    >>> metric.compute(predictions=["Мы должны consider все варианты.", "Да, верно."], prompts=["", ""])["intrusion_rate"]
    0.5
"""
    columns: ClassVar = {"predictions": "string", "prompts": "string"}

    def _compute(self, predictions: list[str], prompts: list[str]) -> dict:
        found = [confusion(answer, prompt) for answer, prompt in zip(predictions, prompts, strict=True)]
        judged = [one for one in found if one.in_russian is not None]
        russian = [one for one in judged if one.in_russian]
        words = sum(one.words for one in russian)
        languages = Counter(
            language for one in russian for language in {word.language or "unknown" for word in one.intruders}
        )
        return {
            "in_russian": share([one.in_russian for one in judged]),
            "intrusion_rate": share([bool(one.intruders) for one in russian]),
            "intrusion_rate_without_glosses": share(
                [any(not word.gloss for word in one.intruders) for one in russian]
            ),
            "hard_intrusion_rate": share([any(word.hard for word in one.intruders) for one in russian]),
            "foreign_word_share": sum(len(one.intruders) for one in russian) / words if words else None,
            "template_leak_rate": share([bool(one.leaks) for one in found]),
            "languages": dict(languages.most_common()),
            "answers": len(found),
            "answers_in_russian": len(russian),
        }
