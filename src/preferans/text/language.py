"""Language of a text: its words, share of Russian letters, loops, and the assistant's name."""

import re
import unicodedata

import numpy as np

from ..utf8 import normal_form
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
CLOSED_BLOCK = re.compile(r"^[ \t]*(```|~~~).*?^[ \t]*\1[ \t]*$", re.DOTALL | re.MULTILINE)
# Neither may hide a loop: list markers count up, and tables have the same cells in many rows.
_MARKER_OR_ROW = re.compile(r"^[ \t]*(?:\|.*|(?:\d{1,4}[.)]|[-*•–—]|#{1,6})[ \t]*)", re.MULTILINE)
# Longer words, such as «хахаха…», are split into characters.
_UNIT = re.compile(r"\w{1,30}(?!\w)|\w|[^\w\s]|\n\s*")
_LONGEST_UNIT, _SHORTEST_LOOP = 1000, 12  # in tokens
# How many copies of words are a loop, if they cover this share of a text.
_COPIES_AND_SHARE = ((2, 0.9), (2.4, 0.7), (4, 0.25))


def words(text: str) -> list[str]:
    """List the words of a text in lower case, without digits and punctuation."""
    return [word.lower() for word in WORD.findall(normal_form(text))]


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
    """List the words that [`~preferans.text.intrusions.confusion`] finds, without jargon, in lower case, in order, with repetitions."""
    return [intruder.word.lower() for intruder in confusion(text, prompt).intruders if not intruder.jargon]


def loops(text: str) -> bool:
    """
    Check whether a text repeats something immediately after itself, again and again: lines, sentences, words or characters.

    A refrain or a phrase that returns later is not a loop. Table rows and drawings of characters do not count, nor does closed code.
    """
    text = CLOSED_BLOCK.sub(lambda block: f"\nblock{hash(block[0]) % 10**9}\n", text)
    tokens = _UNIT.findall(_MARKER_OR_ROW.sub("", text.strip().lower()))
    tokens = ["\n" if token.isspace() else token for token in tokens]
    numbers = {token: i for i, token in enumerate(tokens)}
    characters = len("".join(tokens))
    sequence = np.array([numbers[token] for token in tokens])
    for length in range(1, min(_LONGEST_UNIT, len(tokens) // 2) + 1):
        breaks = np.flatnonzero(sequence[length:] != sequence[:-length])
        starts = np.concatenate(([0], breaks + 1))
        covered = np.append(breaks, len(tokens) - length) - starts + length
        for i in np.flatnonzero(covered >= max(_SHORTEST_LOOP, 2 * length - 1)):
            copies = tokens[starts[i] : starts[i] + covered[i]]
            if _is_loop(copies, length, len("".join(copies)) / characters):
                return True
    return False


def _is_loop(copies: list[str], length: int, share: float) -> bool:
    """Check whether copies of a unit of `length` tokens, which cover a share of a text, are a loop."""
    unit = copies[:length]
    times = (len(copies) + 1) / length  # the last copy may lack its last token, such as a line break
    if any(len(token) > 1 and not token.isdigit() and token.strip("_") for token in unit):
        enough = any(times >= copies_needed and share >= part for copies_needed, part in _COPIES_AND_SHARE)
        return enough or (times >= 8 and len(copies) >= 30)
    # A drawing has short rows of characters, and long rules without letters, digits and emoji.
    return times >= 100 or (times >= 20 and share >= 0.25 and not all(map(_is_drawn, unit)))


def _is_drawn(token: str) -> bool:
    is_emoji = unicodedata.category(token[0]) == "So" and not "\u2500" <= token <= "\u25ff"
    return not token.isalnum() and not is_emoji


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
