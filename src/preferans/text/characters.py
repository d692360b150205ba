"""
Damaged characters: lookalike letters, wrong encodings, HTML, invisible and decomposed characters.

A reader hardly notices them, but the tokens are others: «собака» with a Latin «c» is an unknown word to a model.
"""

import html
import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache

from ..utf8 import normal_form
from .dictionary import russian_dictionary
from .word_languages import CYRILLIC_TWINS, LATIN_TWINS, word_frequencies

_TO_CYRILLIC = str.maketrans(LATIN_TWINS, CYRILLIC_TWINS)
_TO_LATIN = str.maketrans(CYRILLIC_TWINS, LATIN_TWINS)
_MIXED_WORD = re.compile(r"(?<![\w/.@])(?=[А-яЁё]*[A-Za-z])(?=[A-Za-z]*[А-яЁё])[A-Za-zА-яЁё]{2,}(?![\w/@])")
_LATIN_TWIN_WORD = re.compile(rf"(?<![\w/.@-])[{LATIN_TWINS}]{{2,}}(?![\w/@-])")
# A single Latin letter between Russian words, where a preposition or conjunction belongs: «живу c мамой», «Лес, a за ним река».
_SINGLE_LETTER = re.compile(
    r"(?:(?:(?<=[а-яё] )|(?<=[а-яё], ))([acoy])|(?:(?<=[.!?…] )|^)([ACOBKY]))(?= ([а-яё]{2,}))", re.MULTILINE
)
_CASES = {"с": ("gent", "ablt"), "о": ("loct", "accs"), "у": ("gent",), "в": ("loct", "accs"), "к": ("datv",)}

_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]"
    r"|(?<=[A-Za-zА-яЁё])[\u200c\u200d](?=[A-Za-zА-яЁё])"
)
CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
# A thinking block before an answer, also one that was cut.
THINKING = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>\s*|\Z)", re.DOTALL)
_ENTITY = re.compile(
    r"&(?:nbsp|quot|lt|gt|amp|apos|laquo|raquo|mdash|ndash|hellip|shy|copy|deg|#\d{1,6}|#x[0-9a-fA-F]{1,5});"
)
_TAG = re.compile(
    r"</?(?:p|br|div|span|strong|em|ul|ol|li|h[1-6]|font|table|tr|td|blockquote|a)(?:\s[^<>]*)?\s*/?>", re.IGNORECASE
)
_LOST = re.compile(r"\ufffd|(?<![\w?!])\?{4,}(?=\s|[.,]|\Z)|(?<![\w?!])\?{2,}(?:[ ,]+\?{2,})+")
_WORD = re.compile(r"\S{2,}")
_RUSSIAN = re.compile(r"[а-яёА-ЯЁ]{2,}")
# An answer about HTML may contain it.
_ABOUT_HTML = re.compile(r"html|xml|css|\bтег|верст|вёрст|разметк|\btags?\b|markup|javascript", re.IGNORECASE)


@lru_cache(maxsize=10_000)
def comparable(text: str) -> str:
    """
    Reduce a text to what distinguishes it from another: no case, spaces, punctuation and emphasis, and «е» for «ё».

    Symbols such as `+` and `<`, and a minus before a number, are kept. Of a text that is mostly
    punctuation, such as a drawing, only the spaces around it are removed.
    """
    text = normal_form(text).casefold().replace("ё", "е").strip()
    if 2 * len(re.findall(r"\w", text)) < len(re.findall(r"\S", text)):
        return text
    return re.sub(r"(?<![\w)])[-−–](?=\d)", "∖", text).translate(_MEANINGFUL) or text


class _Meaningful(dict[int, str]):
    """Map codes of spaces and punctuation to nothing, and others to their characters."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        self[code] = char if char in "/%#@&∖" or unicodedata.category(char)[0] not in "PZC" else ""
        return self[code]


_MEANINGFUL = _Meaningful()


def character_damage(text: str, prompt: str = "") -> dict[str, str]:
    """
    Find the damaged characters of a text.

    Args:
        text (`str`): The text.
        prompt (`str`, *optional*, defaults to `""`): Its prompt; HTML is not damage if the prompt is about it.

    Returns:
        `dict[str, str]`: an example by kind: `homoglyphs`, `encoding`, `html`, `invisible`, `decomposed`.
    """
    composed = normal_form(text)
    if broken := _broken_encoding(composed):
        return {"encoding": broken}
    damage = {}
    if match := _INVISIBLE.search(text):
        damage["invisible"] = f"U+{ord(match[0]):04X}"
    if composed != text:
        damage["decomposed"] = next((word for word in text.split() if normal_form(word) != word), "")
    prose = CODE.sub(" ", composed)
    if (match := _ENTITY.search(prose) or _TAG.search(prose)) and not _ABOUT_HTML.search(prompt + prose):
        damage["html"] = match[0]
    if found := next(_lookalikes(prose), None):
        damage["homoglyphs"] = found[0]
    return damage


def repair_characters(text: str, prompt: str = "") -> str:
    """Repair what has only one repair: lookalike letters, HTML entities, invisible and decomposed characters, outside code."""
    text = normal_form(_INVISIBLE.sub("", text))
    if not _ABOUT_HTML.search(prompt + text):
        text = _outside_code(text, lambda part: _ENTITY.sub(lambda match: html.unescape(match[0]), part))
    return _outside_code(text, _without_lookalikes)


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    parts = re.split(f"({CODE.pattern})", text, flags=re.DOTALL)  # prose and code in turn
    return "".join(part if i % 2 else change(part) for i, part in enumerate(parts))


def _without_lookalikes(text: str) -> str:
    # Once a word is right, its neighbour may turn out to be wrong.
    while found := sorted(_lookalikes(text), key=lambda found: -found[2]):
        for word, right, start in found:
            text = text[:start] + right + text[start + len(word) :]
    return text


def _lookalikes(text: str) -> Iterator[tuple[str, str, int]]:
    """Find words with letters of the wrong alphabet; yield each with the right word and its position."""
    mixed = False
    for match in _MIXED_WORD.finditer(text):
        word = match[0]
        if not set(re.sub("[А-яЁё]", "", word)) - set(LATIN_TWINS):
            mixed = True
            yield word, word.translate(_TO_CYRILLIC), match.start()
        elif not set(re.sub("[A-Za-z]", "", word)) - set(CYRILLIC_TWINS):
            yield word, word.translate(_TO_LATIN), match.start()
    for match in _LATIN_TWIN_WORD.finditer(text):
        right = match[0].translate(_TO_CYRILLIC)
        around = text[max(0, match.start() - 15) : match.end() + 15]
        # a short word or an English one is only wrong among other wrong words
        is_unusual = len(right) > 3 and match[0].lower() not in word_frequencies("en")
        if _RUSSIAN.search(around) and (mixed or is_unusual) and russian_dictionary().word_is_known(right.lower()):
            yield match[0], right, match.start()
    for match in _SINGLE_LETTER.finditer(text):
        written = match[1] or match[2]
        letter = written.translate(_TO_CYRILLIC)
        if _fits(letter.lower(), match[3], text[: match.start()]):
            yield written, letter, match.start()


def _fits(letter: str, next_word: str, before: str) -> bool:
    """Check whether a Russian preposition or conjunction of one letter can stand before a word."""
    if letter == "а":
        return before.endswith(", ") or not before or before[-2:-1] in ".!?…"
    return any(
        parse.tag.case in _CASES[letter]
        and parse.tag.POS in ("NOUN", "ADJF", "NPRO", "NUMR", "PRTF")
        and parse.is_known
        for parse in russian_dictionary().parse(next_word)
    )


def _broken_encoding(text: str) -> str | None:
    """Find lost characters, or a word that is Russian in another encoding."""
    if match := _LOST.search(text):
        return match[0][:20]
    if not re.search(r"[РСÐÑ][^а-яёА-ЯЁ\s]|[À-ÿ]{4}", text):
        return None
    for match in _WORD.finditer(text):
        for written, read in (("cp1251", "utf-8"), ("latin-1", "utf-8"), ("cp1252", "utf-8"), ("latin-1", "cp1251")):
            try:
                right = match[0].encode(written).decode(read)
            except UnicodeError:
                continue
            letters = re.sub(r"\W", "", right)
            if read == "cp1251" and not re.fullmatch(r"[À-ÿ]{4,}", re.sub(r"\W", "", match[0])):
                continue
            if letters and _RUSSIAN.fullmatch(letters) and match[0] != right:
                return match[0][:20]
    return None
