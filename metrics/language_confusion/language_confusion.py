"""Language confusion in Russian answers, as an `evaluate` module."""

from collections import Counter
from typing import ClassVar

from preferans.evaluation.metric_module import MetricModule, share
from preferans.text.intrusions import confusion
from preferans.text.known_words import known_words


class LanguageConfusion(MetricModule):
    description = """
Whether answers are in Russian, and whether words of other languages intrude into them.
Code, links, formulas, names, acronyms, units, quoted words and words of the prompt are not intrusions.
"""
    inputs = """
Args:
    predictions (`list[str]`): Answers.
    prompts (`list[str]`): The prompt of each answer, or an empty string.
Returns:
    in_russian (`float` or `None`): Share of answers in Russian, among answers with prose.
    intrusion_rate (`float` or `None`): Among answers in Russian, share with an intruding word.
    intrusion_rate_without_glosses (`float` or `None`): The same, without single everyday English words in brackets.
    jargon_rate (`float` or `None`): Among answers in Russian, share with a term of IT or business in Latin letters, such as `deploy`; it is no
        intruding word.
    hard_intrusion_rate (`float` or `None`): Among answers in Russian, share with a word in a script other than Cyrillic and Latin, or in
        two scripts at once.
    foreign_word_share (`float` or `None`): Intruding words among all words of answers in Russian.
    known_words (`float` or `None`): Mean share of Cyrillic words that the dictionary or the prompt has, over answers in Russian.
    template_leak_rate (`float` or `None`): Share of all answers that contain a token of a chat template.
    languages (`dict[str, int]`): Number of answers in Russian with words of each language, the most frequent first; `mixed` means two
        scripts in one word, `unknown` an unknown language.
    answers, answers_in_russian (`int`): Number of answers.
Rates are from 0 to 1, and `None` if there are no such answers.
"""
    columns: ClassVar = {"predictions": "string", "prompts": "string"}

    def _compute(self, predictions: list[str], prompts: list[str]) -> dict:
        results = [confusion(answer, prompt) for answer, prompt in zip(predictions, prompts, strict=True)]
        with_prose = [result for result in results if result.in_russian is not None]
        russian = [result for result in with_prose if result.in_russian]
        known = [
            value
            for answer, prompt, result in zip(predictions, prompts, results, strict=True)
            if result.in_russian and (value := known_words(answer, prompt)) is not None
        ]
        words = sum(result.words for result in russian)
        intruders = [[word for word in result.intruders if not word.jargon] for result in russian]
        languages = Counter(
            language for found in intruders for language in {word.language or "unknown" for word in found}
        )
        return {
            "in_russian": share([result.in_russian for result in with_prose]),
            "intrusion_rate": share([bool(found) for found in intruders]),
            "intrusion_rate_without_glosses": share([any(not word.gloss for word in found) for found in intruders]),
            "jargon_rate": share([any(word.jargon for word in result.intruders) for result in russian]),
            "hard_intrusion_rate": share([any(word.hard for word in found) for found in intruders]),
            "foreign_word_share": sum(map(len, intruders)) / words if words else None,
            "known_words": sum(known) / len(known) if known else None,
            "template_leak_rate": share([bool(result.leaks) for result in results]),
            "languages": dict(languages.most_common()),
            "answers": len(results),
            "answers_in_russian": len(russian),
        }
