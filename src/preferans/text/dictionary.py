"""The Russian dictionary: forms of a word, and numbers that are written as words."""

import re
from functools import cache, lru_cache

import pymorphy3


@cache
def russian_dictionary() -> pymorphy3.MorphAnalyzer:
    """Load the dictionary of `pymorphy3` once."""
    return pymorphy3.MorphAnalyzer(lang="ru")


@lru_cache(maxsize=100_000)
def lemma(word: str) -> str:
    """Return the dictionary form of a word in lower case, with «е» for «ё»: «окнах» becomes «окно»."""
    try:
        # The dictionary needs «ё»: «всё» and «все» have different lemmas.
        form = russian_dictionary().parse(word)[0].normal_form
    except ValueError:  # for a character without a Unicode name, which no Russian word has
        form = word
    return form.replace("ё", "е")


_UNITS = [
    "ноль",
    "один",
    "два",
    "три",
    "четыре",
    "пять",
    "шесть",
    "семь",
    "восемь",
    "девять",
    "десять",
    "одиннадцать",
    "двенадцать",
    "тринадцать",
    "четырнадцать",
]
_UNITS += ["пятнадцать", "шестнадцать", "семнадцать", "восемнадцать", "девятнадцать"]
_TENS = ["двадцать", "тридцать", "сорок", "пятьдесят", "шестьдесят", "семьдесят", "восемьдесят", "девяносто"]
_HUNDREDS = ["сто", "двести", "триста", "четыреста", "пятьсот", "шестьсот", "семьсот", "восемьсот", "девятьсот"]
_ORDINALS = [
    "нулевой",
    "первый",
    "второй",
    "третий",
    "четвертый",
    "пятый",
    "шестой",
    "седьмой",
    "восьмой",
    "девятый",
    "десятый",
    "одиннадцатый",
    "двенадцатый",
    "тринадцатый",
]
_ORDINALS += ["четырнадцатый", "пятнадцатый", "шестнадцатый", "семнадцатый", "восемнадцатый", "девятнадцатый"]
_VALUES = {word: value for words in (_UNITS, _ORDINALS) for value, word in enumerate(words)}
_VALUES |= {word: 20 + 10 * place for place, word in enumerate(_TENS)}
_VALUES |= {word: 100 + 100 * place for place, word in enumerate(_HUNDREDS)}
_VALUES |= {
    "двадцатый": 20,
    "тридцатый": 30,
    "сороковой": 40,
    "пятидесятый": 50,
    "сотый": 100,
    "двое": 2,
    "трое": 3,
    "четверо": 4,
}
_THOUSANDS = {"тысяча": 1000, "тысячный": 1000, "миллион": 1_000_000}
_WORD = re.compile(r"[а-яё]+", re.IGNORECASE)


def with_digits(text: str) -> str:
    """Write the numbers of a text in digits: «две тысячи шестого года» becomes «2006 года»."""
    parts: list[str] = []
    end = 0  # of what is written
    last = 0  # of the number that is being read
    total = below = 0
    smallest = 0  # of the parts of the number so far; a larger one begins another number
    for match in _WORD.finditer(text):
        value, factor = _VALUES.get(lemma(match[0].lower())), _THOUSANDS.get(lemma(match[0].lower()))
        follows = smallest and text[last : match.start()].isspace()
        if smallest and not (follows and ((value is not None and value < smallest) or (factor and below))):
            parts.append(str(total + below))
            end, smallest, total, below = last, 0, 0, 0
        if value is None and not factor:
            continue
        if not smallest:
            parts.append(text[end : match.start()])
        if factor:
            total, below, smallest = total + (below or 1) * factor, 0, factor
        else:
            below += value or 0
            smallest = _place_of(value or 0)
        last = match.end()
    if smallest:
        parts.append(str(total + below))
        end = last
    return "".join([*parts, text[end:]])


def _place_of(value: int) -> int:
    """Return the place of a number's last part: after «двадцать» a number below 10 may follow, after «сто» one below 100."""
    return 100 if value >= 100 else 10 if value >= 20 else 1
