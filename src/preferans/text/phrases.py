"""
Phrases of persona and probe files, and how to find them in a text.

A phrase matches in any case, with «е» or «ё», and with any ending in place of an asterisk. Irony, paraphrases and statements that span several
sentences are not recognised.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from functools import cache

from ..utf8 import normal_form
from .dictionary import lemma, with_digits

_WORD = r"\w+(?:[-.,:]\w+)*"
_PHRASE = re.compile(rf"{_WORD}\*?(?: {_WORD}\*?)*")
_PHRASE_WITH_NUMBERS = re.compile(rf"(?:{_WORD}|#(?:-{_WORD})?)\*?(?: (?:{_WORD}|#(?:-{_WORD})?)\*?)*")
_NUMBER = r"(\d+(?:[.,]\d+)?)"
# Words that deny a phrase if they precede it in the same part of a sentence.
_DENIAL = re.compile(r"(?:не|ни|нет|без|вместо|кроме|раньше|прежде|перенес\w*|вычеркн\w*|убра\w*|пута\w*)")
_DENIAL_WORDS = 3
_QUOTED = re.compile(r"```.*?(?:```|$)|`[^`\n]*`|«[^»]*»|“[^”]*”|„[^“]*“|\"[^\"\n]*\"", re.DOTALL)
_PART_END = re.compile(r"[.,:;!?…\n()]")


def lowered(text: str) -> str:
    """Convert a text to lower case, with «е» for «ё» and composed letters."""
    return normal_form(text).lower().replace("ё", "е")


def own_words(text: str) -> str:
    """Convert a text as [`lowered`] does, and remove its quotations and code, which are not the author's own words."""
    return lowered(_QUOTED.sub(" ", text)).replace("*", "").replace("_", " ")


def is_phrase(phrase: str, numbers: bool = False) -> bool:
    """
    Check whether a phrase is valid: words or numbers with one space between them, an asterisk only at the end of a word.

    Args:
        phrase (`str`): The phrase.
        numbers (`bool`, *optional*, defaults to `False`): Whether `#` is allowed as a placeholder for a number.
    """
    return bool((_PHRASE_WITH_NUMBERS if numbers else _PHRASE).fullmatch(phrase.strip()))


@cache
def _pattern(phrase: str) -> re.Pattern:
    words = []
    for word in lowered(phrase).split():
        ending = r"\w*" if word.endswith("*") else ""
        words.append(re.escape(word.rstrip("*")).replace(r"\#", _NUMBER) + ending)
    # «я — программа» matches «я программа»; a number does not match a part of a longer one
    return re.compile(r"(?<!\d[.,:])\b" + r"\s+(?:[-–—]\s+)?".join(words) + r"\b(?![.,:]\d)")


def find_phrases(phrases: Iterable[str], text: str) -> set[str]:
    """Select the phrases that a text contains."""
    text = lowered(text)
    return {phrase for phrase in phrases if _pattern(phrase).search(text)}


def find_new_phrases(phrases: Iterable[str], text: str, prompt: str) -> set[str]:
    """Select the phrases that a text contains in words that its prompt does not contain, in any form («машину», «машина»)."""
    text, known = lowered(text), {lemma(word) for word in re.findall(r"\w+", lowered(prompt))}
    return {
        phrase
        for phrase in phrases
        for match in _pattern(phrase).finditer(text)
        if not {lemma(word) for word in re.findall(r"\w+", match[0])} <= known
    }


def _asserted(phrase: str, text: str) -> Iterator[re.Match]:
    for match in _pattern(phrase).finditer(text):
        before = _PART_END.split(text[: match.start()])[-1].split()[-_DENIAL_WORDS:]
        if not any(_DENIAL.fullmatch(word.strip("«»\"'")) for word in before):
            yield match


def find_asserted(phrases: Iterable[str], text: str) -> set[str]:
    """Select the phrases that a text contains without a denial before them: «в пятницу, а не в среду» denies «среду»."""
    text = lowered(text)
    return {phrase for phrase in phrases if any(_asserted(phrase, text))}


def numbers_in(texts: Iterable[str]) -> frozenset[str]:
    """Collect the numbers of texts in digits, with a point for the decimal comma; they may be written as words."""
    return frozenset(number.replace(",", ".") for text in texts for number in re.findall(_NUMBER, with_digits(text)))


def wrong_numbers(phrases: Iterable[str], text: str, right: Collection[str]) -> set[str]:
    """
    Select the phrases that a text asserts, see [`find_asserted`], with a wrong number.

    Args:
        phrases (`Iterable[str]`): Phrases with `#` as a placeholder for a number. One without `#` is always wrong.
        text (`str`): The text to search.
        right (`Collection[str]`): The right numbers, from [`numbers_in`].
    """
    text, in_digits = lowered(text), lowered(with_digits(text))
    return {
        phrase
        for phrase in phrases
        for match in _asserted(phrase, in_digits if "#" in phrase else text)
        if not match.groups() or any(number.replace(",", ".") not in right for number in match.groups())
    }
