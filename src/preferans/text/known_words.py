"""Share of words that the Russian dictionary has, for answers in Russian letters that are not Russian."""

import re
from functools import lru_cache

from pymorphy3.units import DictionaryAnalyzer, KnownPrefixAnalyzer

from ..utf8 import normal_form
from .dictionary import russian_dictionary
from .prose import blank_code

_TOKEN = re.compile(r"[^\W_]+(?:[-‑][^\W_]+)*")
_HYPHEN = re.compile("[-‑]")
_CYRILLIC = re.compile(r"[\u0400-\u052f]")
_STRESS_AND_INVISIBLE = dict.fromkeys(map(ord, "\u0300\u0301\u00ad\u200b\u200c\u200d\ufeff"))
# Spaces, quotation marks and list markers may follow the end of a sentence.
_SENTENCE_START = re.compile(r"(?:^|[.!?…:\n])[\W\d_]*$")
_CAPITALS = re.compile(r"[А-ЯЁ]{2,}[а-яё]{0,2}")  # США, ВУЗом
_ABBREVIATION = re.compile(r"[а-яё]\.|[а-яё]{2,4}\.\s?[а-яё\d,;)]")  # т. е., кв. м
_WORDS_OF_ONE_LETTER = set("абвжикосуэя" + "гмтч")  # and units
# Prefixes that pymorphy3's dictionary lacks.
_NUMERAL = re.compile(r"\b(?:тр[её]х|четыр[её]х|пяти|шести|семи|восьми|девяти|десяти)(?=\w{4})")


def known_words(answer: str, prompt: str = "") -> float | None:
    """
    Compute the share of an answer's Cyrillic words that are known: in the dictionary of pymorphy3, or in the prompt.

    Names (words with a capital letter inside a sentence), abbreviations, words with digits, and code are ignored. A word with letters of
    another alphabet is not known. Words with a hyphen are judged by parts unless the dictionary has them.

    Returns:
        `float` or `None`: from 0 to 1; `None` for an answer without such words.
    """
    # Without the endings, so that other forms of a word of the prompt are known.
    asked = tuple(word[: max(4, len(word) - 2)] for word in _TOKEN.findall(_plain(prompt).lower()) if len(word) >= 4)
    text, _ = blank_code(_plain(answer), prompt)
    names: set[str] = set()
    words: list[str] = []
    for match in _TOKEN.finditer(text):
        word, start = match[0], match.start()
        if not _CYRILLIC.search(word) or any(map(str.isdigit, word)) or _CAPITALS.fullmatch(word):
            continue
        if word[0].isupper() and not _SENTENCE_START.search(text[max(0, start - 20) : start]):
            names.add(word)
        elif not _ABBREVIATION.match(text[start : match.end() + 3]):
            words.append(word)
    known = [_is_known(word.lower()) or word.lower().startswith(asked) for word in words if word not in names]
    return sum(known) / len(known) if known else None


def _plain(text: str) -> str:
    return normal_form(text).translate(_STRESS_AND_INVISIBLE)


@lru_cache(maxsize=100_000)
def _is_known(word: str) -> bool:
    *first, last = _HYPHEN.split(word)
    if first and russian_dictionary().word_is_known(word):
        return True
    # The first part of «русско-английский» has another ending in the dictionary.
    return _is_listed(last) and all(
        _is_listed(part) or _is_listed(part[:-1] + "ий") or _is_listed(part[:-1] + "ый") for part in first
    )


def _is_listed(part: str) -> bool:
    """Check whether the dictionary has a word, with «е» for «ё» or without a prefix if need be, or it is not Cyrillic."""
    if len(part) == 1 or not _CYRILLIC.search(part):
        return part in _WORDS_OF_ONE_LETTER or not _CYRILLIC.search(part)
    if any(
        russian_dictionary().word_is_known(form)
        for form in (part, part.replace("ё", "е"), _NUMERAL.sub("", part, count=1))
    ):
        return True
    methods = [type(method[0]) for method in russian_dictionary().parse(part)[0].methods_stack]
    return methods == [DictionaryAnalyzer, KnownPrefixAnalyzer]
