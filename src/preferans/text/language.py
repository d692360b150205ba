"""Language of a text: its words, share of Russian letters, loops, and the assistant's name."""

import re
from collections import Counter

from .intrusions import confusion
from .prose import RUSSIAN_LETTERS

_RUSSIAN_LETTER = re.compile(rf"[{RUSSIAN_LETTERS}]")
_LETTER = re.compile(r"[^\W\d_]")
WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
WORD_OR_NUMBER = re.compile(r"\w+")
# Code, links, markup, names in snake_case or camelCase, JSON keys.
_NO_PROSE = re.compile(
    r"```.*?```|`[^`]*`|https?://\S+|www\.\S+|</?[a-zA-Z][^<>]*>"
    r"|\b[A-Za-z]+_\w+\b|\b[A-Za-z][a-z]+[A-Z]\w*\b|\"[A-Za-z]\w*\"\s*:",
    re.DOTALL,
)
LOOP_WORDS, LOOP_TIMES = 4, 3


def words(text: str) -> list[str]:
    """List the words of a text in lower case, without digits and punctuation."""
    return [word.lower() for word in WORD.findall(text)]


def cyrillic_share(text: str) -> float | None:
    """Compute the share of Russian letters among the letters of a text, from 0 to 1; `None` for a text without letters."""
    letters = len(_LETTER.findall(text))
    return len(_RUSSIAN_LETTER.findall(text)) / letters if letters else None


def is_russian(text: str) -> bool:
    """Check whether most letters of a text are Russian; `False` for a text without letters."""
    share = cyrillic_share(text)
    return share is not None and share > 0.5


def is_prose_russian(text: str) -> bool:
    """Check whether at least half of the letters outside code, links and markup are Russian; `True` for a text without letters."""
    share = cyrillic_share(text)
    if share is not None and share < 0.5:
        share = cyrillic_share(_NO_PROSE.sub(" ", text))
    return share is None or share >= 0.5


def foreign_words(text: str, prompt: str) -> list[str]:
    """List the words that [`~preferans.text.intrusions.confusion`] finds, in lower case, in order, with repetitions."""
    return [intruder.word.lower() for intruder in confusion(text, prompt).intruders]


def loops(text: str) -> bool:
    """Check whether a text contains the same four words, or the same line of at least two words, three times."""
    sequence = words(text)
    runs = Counter(tuple(sequence[i : i + LOOP_WORDS]) for i in range(len(sequence) - LOOP_WORDS + 1))
    lines = Counter(line.strip().lower() for line in text.splitlines() if len(line.split()) >= 2)
    return max([0, *runs.values(), *lines.values()]) >= LOOP_TIMES


# «Ася» and «помощница» have the same gender, so that the words around them still agree.
_NAME_ENDINGS = {"я": "а", "и": "ы", "е": "е", "ю": "у", "ей": "ей", "ею": "ею"}
_CALLED = re.compile(r"\b([Мм])еня зовут Ася\b")
_APPOSITION = re.compile(r"\b([Яя]|[Тт]ы|[Мм]еня|[Тт]ебя|[Мм]не|[Тт]ебе), Ас(?:я|и|е|ю),\s*")
_ADDRESS_FIRST = re.compile(r"(^|[.!?…]\s+|\n\s*|[—–-]\s+|[«\"“„])(?:Ас[яь]|АСЯ),\s*(\w)", re.MULTILINE)
_ADDRESS_LATER = re.compile(r",\s*(?:Ас[яь]|АСЯ)(?=\s*(?:[,.!?…)\n]|$))")
# «Ася» before a family name is another person.
_NAME = re.compile(
    r"(^|[.!?…]\s+|\n\s*)?(?:[«\"“„]Ас\w{1,2}[»\"”]|\bАс(?:ей|ею|я|и|е|ю)(?= [А-ЯЁ])|\bАс(ей|ею|я|и|е|ю)\b)"
)


def without_assistant_name(text: str) -> str:
    """
    Remove «Ася», the assistant's name in Russian Open Assistant texts.

    Forms of address are deleted; elsewhere the name becomes «помощница» in the same case. It is kept in quotation marks, where it is a title
    such as Turgenev's story, and before a family name, where it is another person.
    """
    if "Ас" not in text and "АСЯ" not in text:
        return text
    text = _APPOSITION.sub(r"\1 ", text)
    text = _CALLED.sub(lambda match: ("Я" if match[1] == "М" else "я") + " помощница", text)
    text = _ADDRESS_FIRST.sub(lambda match: match[1] + match[2].upper(), text)
    text = _ADDRESS_LATER.sub("", text)
    return _NAME.sub(_helper, text)


def _helper(match: re.Match) -> str:
    if match[2] is None:
        return match[0]
    starts_sentence = match[1] is not None
    return (match[1] or "") + ("П" if starts_sentence else "п") + "омощниц" + _NAME_ENDINGS[match[2]]
