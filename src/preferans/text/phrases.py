"""
Phrases as the files of personas and of probes write them: words in any case, the dots of «ё» left aside, an asterisk for any ending.

Rules of words cannot read: what is said in irony, in other words or across sentences they do not see.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from functools import cache

_WORD = r"\w+(?:[-.,:]\w+)*"
_PHRASE = re.compile(rf"{_WORD}\*?(?: {_WORD}\*?)*")
_PHRASE_WITH_NUMBERS = re.compile(rf"(?:{_WORD}|#(?:-{_WORD})?)\*?(?: (?:{_WORD}|#(?:-{_WORD})?)\*?)*")
_NUMBER = r"(\d+(?:[.,]\d+)?)"
# A word before a phrase, in the same part of a sentence, that says it is not so, or no longer.
_DENIAL = re.compile(r"(?:не|ни|нет|без|вместо|кроме|раньше|прежде|перенес\w*|вычеркн\w*|убра\w*|пута\w*)")
_DENIAL_WORDS = 3
_QUOTED = re.compile(r"```.*?(?:```|$)|`[^`\n]*`|«[^»]*»|“[^”]*”|„[^“]*“|\"[^\"\n]*\"", re.DOTALL)
_PART_END = re.compile(r"[.,:;!?…\n()]")


def lowered(text: str) -> str:
    """A text in lower case, «ё» as «е»."""
    return text.lower().replace("ё", "е")


def own_words(text: str) -> str:
    """A text as [`lowered`] gives it, without what it quotes or shows as code: those words are somebody else's."""
    return lowered(_QUOTED.sub(" ", text)).replace("*", "").replace("_", " ")


def is_phrase(phrase: str, numbers: bool = False) -> bool:
    """
    Whether a phrase is written as it must be: words or figures with one space between them, an asterisk only at a word's end.

    Args:
        phrase (`str`):
            What a file says.
        numbers (`bool`, *optional*, defaults to `False`):
            Whether `#` may stand for a number.
    """
    return bool((_PHRASE_WITH_NUMBERS if numbers else _PHRASE).fullmatch(phrase.strip()))


@cache
def _pattern(phrase: str) -> re.Pattern:
    words = []
    for word in lowered(phrase).split():
        ending = r"\w*" if word.endswith("*") else ""
        words.append(re.escape(word.rstrip("*")).replace(r"\#", _NUMBER) + ending)
    # «я — программа» is «я программа»; a figure is no part of a longer one
    return re.compile(r"(?<!\d[.,:])\b" + r"\s+(?:[-–—]\s+)?".join(words) + r"\b(?![.,:]\d)")


def found(phrases: Iterable[str], text: str) -> set[str]:
    """Which of the phrases a text has."""
    text = lowered(text)
    return {phrase for phrase in phrases if _pattern(phrase).search(text)}


def _asserted(phrase: str, text: str) -> Iterator[re.Match]:
    for match in _pattern(phrase).finditer(text):
        before = _PART_END.split(text[: match.start()])[-1].split()[-_DENIAL_WORDS:]
        if not any(_DENIAL.fullmatch(word.strip("«»\"'")) for word in before):
            yield match


def asserted(phrases: Iterable[str], text: str) -> set[str]:
    """Which of the phrases a text has without a denial before it: «в пятницу, а не в среду» has «среду», and does not say it."""
    text = lowered(text)
    return {phrase for phrase in phrases if any(_asserted(phrase, text))}


def numbers_in(texts: Iterable[str]) -> frozenset[str]:
    """Numbers that texts write in figures, with a point for the decimal comma."""
    return frozenset(number.replace(",", ".") for text in texts for number in re.findall(_NUMBER, text))


def wrong_numbers(phrases: Iterable[str], text: str, right: Collection[str]) -> set[str]:
    """
    Phrases that a text says, see [`asserted`], with a number in them that is not right.

    Args:
        phrases (`Iterable[str]`):
            Phrases, in which `#` stands for a number; one without `#` counts wherever it is said.
        text (`str`):
            Where to look.
        right (`Collection[str]`):
            What [`numbers_in`] gives.

    Returns:
        `set[str]`: such phrases.
    """
    text = lowered(text)
    return {
        phrase
        for phrase in phrases
        for match in _asserted(phrase, text)
        if not match.groups() or any(number.replace(",", ".") not in right for number in match.groups())
    }
