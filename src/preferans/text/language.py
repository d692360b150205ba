"""What an answer looks like as Russian text: scripts, loops, endings."""

import re
from collections import Counter

from .intrusions import confusion

_RUSSIAN_LETTER = re.compile(r"[а-яёА-ЯЁ]")
_LETTER = re.compile(r"[^\W\d_]")
WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
WORD_OR_NUMBER = re.compile(r"\w+")
# Code, links, markup, names as programmers write them and keys of JSON.
_NO_PROSE = re.compile(
    r"```.*?```|`[^`]*`|https?://\S+|www\.\S+|</?[a-zA-Z][^<>]*>"
    r"|\b[A-Za-z]+_\w+\b|\b[A-Za-z][a-z]+[A-Z]\w*\b|\"[A-Za-z]\w*\"\s*:",
    re.DOTALL,
)
LOOP_WORDS, LOOP_TIMES = 4, 3


def words(text: str) -> list[str]:
    """Words of a text in lower case, without digits and punctuation."""
    return [word.lower() for word in WORD.findall(text)]


def cyrillic_share(text: str) -> float | None:
    """
    Share of Russian letters among the letters of a text.

    Args:
        text (`str`):
            Any text.

    Returns:
        `float` or `None`: from 0 to 1, or `None` for a text without letters.
    """
    letters = len(_LETTER.findall(text))
    return len(_RUSSIAN_LETTER.findall(text)) / letters if letters else None


def is_russian(text: str) -> bool:
    """Whether most letters of a text are Russian. A text without letters is not."""
    share = cyrillic_share(text)
    return share is not None and share > 0.5


def is_prose_russian(text: str) -> bool:
    """Whether at least half of the letters of a text are Russian, code, links and markup aside. A text without letters passes."""
    share = cyrillic_share(text)
    if share is not None and share < 0.5:
        share = cyrillic_share(_NO_PROSE.sub(" ", text))
    return share is None or share >= 0.5


def foreign_words(text: str, prompt: str) -> list[str]:
    """
    Words of other languages that intrude into an answer.

    Args:
        text (`str`):
            Answer.
        prompt (`str`):
            What was asked.

    Returns:
        `list[str]`: the words that `intrusions.confusion` finds, in lower case, in order, with repetitions.
    """
    return [intruder.word.lower() for intruder in confusion(text, prompt).intruders]


def loops(text: str) -> bool:
    """Whether a text runs in circles: the same four words, or the same line of two words and more, three times."""
    sequence = words(text)
    runs = Counter(tuple(sequence[i : i + LOOP_WORDS]) for i in range(len(sequence) - LOOP_WORDS + 1))
    lines = Counter(line.strip().lower() for line in text.splitlines() if len(line.split()) >= 2)
    return max([0, *runs.values(), *lines.values()]) >= LOOP_TIMES


# «Ася» is declined like «помощница», so that the words around it still agree.
_NAME_ENDINGS = {"я": "а", "и": "ы", "е": "е", "ю": "у", "ей": "ей", "ею": "ею"}
_CALLED = re.compile(r"\b([Мм])еня зовут Ася\b")
_APPOSITION = re.compile(r"\b([Яя]|[Тт]ы|[Мм]еня|[Тт]ебя|[Мм]не|[Тт]ебе), Ас(?:я|и|е|ю),\s*")
_ADDRESS_FIRST = re.compile(r"(^|[.!?…]\s+|\n\s*|[—–-]\s+|[«\"“„])(?:Ас[яь]|АСЯ),\s*(\w)", re.MULTILINE)
_ADDRESS_LATER = re.compile(r",\s*(?:Ас[яь]|АСЯ)(?=\s*(?:[,.!?…)\n]|$))")
# With a family name after it, it is somebody else.
_NAME = re.compile(
    r"(^|[.!?…]\s+|\n\s*)?(?:[«\"“„]Ас\w{1,2}[»\"”]|\bАс(?:ей|ею|я|и|е|ю)(?= [А-ЯЁ])|\bАс(ей|ею|я|и|е|ю)\b)"
)


def without_assistant_name(text: str) -> str:
    """
    Take «Ася», as Russian Open Assistant texts call the assistant, out of a text.

    The name is left out where it is an address, and becomes «помощница» in the same case elsewhere. In quotation marks of its
    own it is a title, such as Turgenev's story, and before a family name somebody else's: both stay.

    Args:
        text (`str`):
            Russian text.

    Returns:
        `str`: the text without the name.
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
    opening = match[1] is not None  # of the text or of a sentence
    return (match[1] or "") + ("П" if opening else "п") + "омощниц" + _NAME_ENDINGS[match[2]]
