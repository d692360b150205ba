"""Letters of languages: whose tokens stay when a vocabulary is trimmed."""

import functools
import sys
import unicodedata

from ..errors import PreferansError

# Languages by how Unicode's names of their letters begin. Russian has its alphabet alone.
SCRIPTS = {
    ("CYRILLIC ",): "be bg kk ky mk mn sr tg tt uk",
    ("LATIN ",): "az ca cs da de en es et fi fr hr hu id it lt lv nl no pl pt ro sk sl sv tr uz vi",
    ("GREEK ",): "el",
    ("ARMENIAN ",): "hy",
    ("GEORGIAN ",): "ka",
    ("HEBREW ",): "he",
    ("ARABIC ",): "ar fa ur",
    ("DEVANAGARI ",): "hi mr ne",
    ("BENGALI ",): "bn",
    ("TAMIL ",): "ta",
    ("TELUGU ",): "te",
    ("THAI ",): "th",
    ("HANGUL ",): "ko",
    ("CJK ", "IDEOGRAPHIC "): "zh",
    ("CJK ", "IDEOGRAPHIC ", "HIRAGANA ", "KATAKANA", "HALFWIDTH KATAKANA "): "ja",
}
_PREFIXES = {language: prefixes for prefixes, languages in SCRIPTS.items() for language in languages.split()}
LANGUAGES = ("ru", *sorted(_PREFIXES), "none")


@functools.cache
def letters_of(language: str) -> frozenset[str]:
    """
    Letters whose tokens all stay.

    Args:
        language (`str`):
            One of `LANGUAGES`. With `"none"` no letters do, and a corpus alone decides.

    Raises:
        [`PreferansError`]: when the language is not among them.
    """
    if language == "ru":
        return frozenset("абвгдеёжзийклмнопрстуфхцчшщъыьэюяАБВГДЕЁЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ")
    if language == "none":
        return frozenset()
    if language not in _PREFIXES:
        raise PreferansError(
            f"--language {language}: its letters are not known here. Known are "
            f"{', '.join(LANGUAGES[:-1])}. For another one write --language none and give its texts with --corpus."
        )
    prefixes = _PREFIXES[language]
    return frozenset(
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if character.isalpha() and unicodedata.name(character, "").startswith(prefixes)
    )


def is_of_language(text: str, letters: frozenset[str]) -> bool:
    """Whether a text has letters, all of them among `letters`, and no digits but 0 to 9, so that it must be split as before."""
    return any(character in letters for character in text) and all(
        character in letters or _is_sign(character) or character in "0123456789" for character in text
    )


def _is_sign(character: str) -> bool:
    """Whether Unicode knows a character as neither letter nor digit."""
    return not character.isalnum() and unicodedata.category(character) not in ("Cn", "Co", "Cs")


LATIN_CUTOFF = 20_000
