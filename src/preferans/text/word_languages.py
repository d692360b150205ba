"""Language of a single word, by its letters, lists of words and word frequencies."""

import gzip
import json
import math
import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import spellchecker
import yaml

COMMON_FREQUENCY = 5.0  # occurrences of a common word in a million words
LISTED_LANGUAGES = ("en", "es", "fr", "de", "it", "pt")  # languages with a frequency list
# Latin letters and the Cyrillic letters that look like them.
LATIN_TWINS, CYRILLIC_TWINS = "aceopxyABCEHKMOPTXY", "асеорхуАВСЕНКМОРТХУ"

_Patterns = list[tuple[str, re.Pattern]]


def _compiled(pairs: Iterable[tuple[str, str]]) -> _Patterns:
    return [(language, re.compile(pattern)) for language, pattern in pairs]


_TABLES = yaml.safe_load((Path(__file__).parent / "word_languages.yaml").read_text(encoding="utf-8"))
_SCRIPTS = _compiled(_TABLES["scripts"].items())
_CYRILLIC = _compiled(_TABLES["cyrillic"])
_LATIN = _compiled(_TABLES["latin"].items())
_WEAK_NEIGHBOURS = frozenset(_TABLES["weak_neighbours"].split())
_NEIGHBOURS = {word: language for language, words in _TABLES["neighbours"].items() for word in words.split()}
# In Russian a hard sign is before е, ё, ю, я (и) or, in the old spelling, at the end of a word.
_BULGARIAN = re.compile("ъ[абвгджзйклмнопрстуфхцчшщ]")

# A Cyrillic text is not Russian if at least the first share of its words is of another Cyrillic language, and the second of one or unknown:
# unknown words alone are names, slang or nonsense.
_OTHER_SHARE, _NOT_RUSSIAN_SHARE = 0.1, 0.4
# Words with the Bulgarian or Macedonian article, if the Russian dictionary lacks them: «супата», «морето».
_ARTICLE = re.compile("(?:[аяо]та|[иеао]те|[еои]то|[ъяо]т)$")


def script_language(word: str) -> str | None:
    """Identify the language of a word in a script other than Latin and Cyrillic."""
    return _first_match(_SCRIPTS, word)


def cyrillic_language(word: str) -> str | None:
    """Identify the language of a Cyrillic word by letters that Russian does not have."""
    return _first_match(_CYRILLIC, word)


def neighbour_language(word: str) -> str | None:
    """Identify the language of a word in Russian letters that is not Russian."""
    return _NEIGHBOURS.get(word.lower()) or ("bg" if _BULGARIAN.search(word) else None)


def is_other_cyrillic(words: set[str], is_known: Callable[[str], bool]) -> bool:
    """
    Check whether words are of a Cyrillic language other than Russian: some are known to be, and the Russian dictionary lacks many others.

    Args:
        words (`set[str]`): Cyrillic words of a text in lower case, without names.
        is_known (`Callable[[str], bool]`): Whether the Russian dictionary has a word.
    """
    others = {
        word for word in words if word in _WEAK_NEIGHBOURS or neighbour_language(word) or cyrillic_language(word)
    }
    unknown = {word for word in words if word not in others and not is_known(word)}
    articles = {word for word in unknown if _ARTICLE.search(word)}
    if len(articles) > 1:
        others |= articles
    return (
        bool(others)
        and len(others) >= _OTHER_SHARE * len(words)
        and len(others | unknown) >= _NOT_RUSSIAN_SHARE * len(words)
    )


def latin_languages(words: list[str]) -> list[str | None]:
    """
    Identify the languages of neighbouring words in Latin letters.

    A word with a letter that only one language has is of that language. The others are all of the language in which they are most frequent.
    """
    languages = [_first_match(_LATIN, word) for word in words]
    rest = [word for word, language in zip(words, languages, strict=True) if language is None]
    common = _most_frequent_in(rest) or next(filter(None, languages), None) if rest else None
    return [language or common for language in languages]


@cache
def word_frequencies(language: str) -> dict[str, float]:
    """Load the lower-case words of a language from `pyspellchecker`, with their occurrences in a million words of running text."""
    path = Path(spellchecker.__file__).parent / "resources" / f"{language}.json.gz"
    counts = json.loads(gzip.decompress(path.read_bytes()))
    total = sum(counts.values())
    return {word: count * 1e6 / total for word, count in counts.items()}


def _first_match(patterns: _Patterns, word: str) -> str | None:
    return next((language for language, pattern in patterns if pattern.search(word)), None)


def _most_frequent_in(words: list[str]) -> str | None:
    parts = re.split("[-‑'’ ]", " ".join(words).lower())
    english = word_frequencies("en")
    if any(len(part) > 3 for part in parts) and all(english.get(part, 0.0) >= COMMON_FREQUENCY for part in parts):
        return "en"  # the usual case, without loading the other lists
    scores = {}
    for language in LISTED_LANGUAGES:
        frequencies = [word_frequencies(language).get(part, 0.0) for part in parts]
        if any(frequencies):
            scores[language] = sum(math.log(max(frequency, 1e-3)) for frequency in frequencies)
    if "en" in scores:
        scores["en"] += 2  # most intruders are English
    return max(scores, key=scores.__getitem__) if scores else None
