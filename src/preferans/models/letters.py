"""Letters of languages, whose tokens a trimmed vocabulary keeps."""

import functools
import sys
import unicodedata

from ..errors import PreferansError

# Languages by the prefixes of their letters' Unicode names. Russian has only its alphabet.
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
    Return the letters whose tokens are all kept.

    Args:
        language (`str`): One of `LANGUAGES`. `"none"` has no letters, so that only a corpus decides.

    Raises:
        [`PreferansError`]: if the language is unknown.
    """
    if language == "ru":
        return frozenset("абвгдеёжзийклмнопрстуфхцчшщъыьэюяАБВГДЕЁЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ")
    if language == "none":
        return frozenset()
    if language not in _PREFIXES:
        raise PreferansError(
            f"--language {language}: its letters are unknown. Known languages: "
            f"{', '.join(LANGUAGES[:-1])}. For another one, use --language none and its texts with --corpus."
        )
    prefixes = _PREFIXES[language]
    return frozenset(
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if character.isalpha() and unicodedata.name(character, "").startswith(prefixes)
    )


def is_of_language(text: str, letters: frozenset[str]) -> bool:
    """Check whether a text has letters, all of them among `letters`, and no digits except 0 to 9."""
    return any(character in letters for character in text) and all(
        character in letters or _is_sign(character) or character in "0123456789" for character in text
    )


def _is_sign(character: str) -> bool:
    """Check whether a character is neither letter nor digit in Unicode."""
    return not character.isalnum() and unicodedata.category(character) not in ("Cn", "Co", "Cs")


LATIN_CUTOFF = 20_000
