"""
Words of other languages that intrude into a Russian answer.

A word intrudes if it is of another language where a Russian writer would use a Russian one («мы должны consider все варианты»), or if it is
written in two alphabets at once («ногami»). Code, links, formulas, names, acronyms, units, quoted words, terms in brackets and words of the
prompt are excluded first; the rest is judged word by word. Terms that Russian professionals write in Latin letters («сделать deploy») are
marked as jargon. Lists of brands, technical terms and other words are in `intrusions.yaml`.
"""

import re
import unicodedata
from difflib import SequenceMatcher
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import yaml

from .dictionary import russian_dictionary
from .prose import RUSSIAN_LETTERS, blank_citations, blank_code, names_in_code
from .requested_language import requests_foreign
from .word_languages import (
    COMMON_FREQUENCY,
    CYRILLIC_TWINS,
    LATIN_TWINS,
    LISTED_LANGUAGES,
    cyrillic_language,
    is_other_cyrillic,
    latin_languages,
    neighbour_language,
    script_language,
    word_frequencies,
)


class Intruder(NamedTuple):
    """
    A word of another language in a Russian answer.

    Attributes:
        start (`int`), end (`int`): Its position: `answer[start:end]`.
        word (`str`): The word as written.
        language (`str` or `None`): ISO 639-1 code of its language (`"en"`, `"vi"`, `"zh"`, `"uk"` …), `"mixed"` for Cyrillic and Latin
            letters in one word, `None` if it is unknown.
        hard (`bool`): Whether it is in a script other than Latin and Cyrillic, or in two scripts at once: neither a loanword nor a name.
        gloss (`bool`): Whether it is a single everyday word in brackets after its Russian equivalent, or before it in a list:
            «линия (line)», «1. Triangle — треугольник».
        jargon (`bool`): Whether it is a term of IT or business that Russian professionals write in Latin letters: «сделать deploy».
    """

    start: int
    end: int
    word: str
    language: str | None
    hard: bool
    gloss: bool = False
    jargon: bool = False


class Confusion(NamedTuple):
    """
    The languages of an answer.

    Attributes:
        in_russian (`bool` or `None`): Whether its prose is in Russian; `None` if it has no prose. Words of the prompt count.
        intruders (`list[Intruder]`): Intruding words, in order.
        words (`int`): Number of words of its prose, including the intruders.
        leaks (`list[str]`): Leaked tokens of chat templates, in order.
    """

    in_russian: bool | None
    intruders: list[Intruder]
    words: int
    leaks: list[str]

    @property
    def intrudes(self) -> bool:
        """Whether it has an intruding word that is not jargon."""
        return not all(intruder.jargon for intruder in self.intruders)


class _Word(NamedTuple):
    start: int
    end: int
    word: str


class _Answer(NamedTuple):
    """An answer and everything in it and its prompt that excuses a foreign word."""

    raw: str
    prose: str  # the same text with everything that is not judged replaced by spaces
    leaks: list[str]
    glosses: set[int]  # where single words in brackets start
    excused: frozenset[str]  # words of the prompt, case folded
    code_names: frozenset[str]  # names in the answer's code, case folded
    foreign_requested: bool

    def excuses(self, word: str) -> bool:
        return word.casefold() in self.excused or word.casefold() in self.code_names


_CYRILLIC = "\u0400-\u052f\u1c80-\u1c8f\ua640-\ua69f"
_LATIN = "A-Za-zªºÀ-ÖØ-öø-ɏḀ-ỿ\uff21-\uff3a\uff41-\uff5a"
# Parts of words that `re` does not count as letters: accents, vowels of Indian and South-East Asian scripts, Arabic and Hebrew points.
_MARK = (
    "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0900-\u0dff\u0e31-\u0e4e\u0eb1-\u0ece\u0f71-\u0f84"
    "\u102b-\u103e\u1780-\u17d3"
)
_LETTERS = rf"(?:[^\W\d_]|[{_MARK}])+"
_TOKEN = re.compile(rf"{_LETTERS}(?:[-‑'’]{_LETTERS})*")
_PART = re.compile(rf"{_LETTERS}(?:['’]{_LETTERS})*")
_NOT_RUSSIAN = re.compile(rf"[^\W\d_{RUSSIAN_LETTERS}]")
_ONLY_RUSSIAN = re.compile(rf"[{RUSSIAN_LETTERS}\u0300-\u036f'’-]+")
_RUSSIAN_LETTER = re.compile(rf"[{RUSSIAN_LETTERS}]")
_LATIN_LETTER = re.compile(rf"[{_LATIN}]")
_CYRILLIC_LETTER = re.compile(rf"[{_CYRILLIC}]")
_ONLY_CYRILLIC = re.compile(rf"[{_CYRILLIC}\u0300-\u036f'’-]+")
_ONLY_LATIN = re.compile(rf"[{_LATIN}\u0300-\u036f'’‑-]+")
# «зáмок»: keyboards without U+0301 mark the stress with an accented Latin vowel.
_STRESS = str.maketrans("áéóýÁÉÓÝ", "аеоуАЕОУ")

_WORD_LISTS = {
    name: frozenset(words.split())
    for name, words in yaml.safe_load((Path(__file__).parent / "intrusions.yaml").read_text(encoding="utf-8")).items()
}
_BRANDS, _TECHNICAL = _WORD_LISTS["brands"], _WORD_LISTS["technical"]
_OPENINGS, _JOINERS = _WORD_LISTS["openings"], _WORD_LISTS["joiners"]
_ELEMENTS = _WORD_LISTS["elements"]
_NOT_GLOSSES = _WORD_LISTS["terms"] | _TECHNICAL | _BRANDS
_JARGON, _JARGON_PARTS = _WORD_LISTS["jargon"], _WORD_LISTS["jargon_parts"]

_BRACKETS = re.compile(r"\(([^()\n]*)\)")
# After it, every word has a capital.
_SENTENCE_START = re.compile(r"(?:\A|[.!?…:;|(«“„\[\n])[\s*_#>•–—\"-]*(?:\d+[.)]\s*)?[\s*_«“„\"(\[]*\Z")
_SOUNDS = "a b v g d e e zh z i y k l m n o p r s t u f h ts ch sh sch  y  e yu ya"
_DECLINED = re.compile(rf"([{_LATIN}]{{2,}})['’][а-яё]{{1,8}}")  # «iPhone'а»
# Tags of pymorphy3 for names, places, organisations and brands.
_NAME_TAGS = frozenset(("Name", "Surn", "Patr", "Geox", "Orgn", "Trad"))
_TO_CYRILLIC = str.maketrans(LATIN_TWINS, CYRILLIC_TWINS)
_TRANSLITERATION = dict(zip("абвгдеёжзийклмнопрстуфхцчшщъыьэюя", _SOUNDS.split(" "), strict=True))


def confusion(answer: str, prompt: str = "") -> Confusion:
    """
    Find the words of other languages that intrude into an answer, and whether the answer is in Russian at all.

    Args:
        answer (`str`): A model's answer, which should be in Russian.
        prompt (`str`, *optional*, defaults to `""`): Its words never intrude. If it requests another language, only words in two scripts
            intrude.
    """
    prepared = _prepare(answer, prompt)
    words, intruders = _judged(prepared)
    judged = intruders
    if any(prepared.excuses(word.word) and not _ONLY_RUSSIAN.fullmatch(word.word) for word in words):
        judged = _judged(prepared._replace(excused=frozenset()))[1]
    return Confusion(_in_russian(prepared, words, judged), intruders, len(words), prepared.leaks)


def _judged(answer: _Answer) -> tuple[list[_Word], list[Intruder]]:
    """Return the words of an answer and those of them that intrude."""
    words: list[_Word] = []
    runs: list[list[_Word]] = []  # neighbouring words in Latin letters are judged together
    intruders = []
    for token in _TOKEN.finditer(answer.prose):
        if _ONLY_RUSSIAN.fullmatch(token[0]):
            words.append(_Word(*token.span(), token[0]))
            intruders += _of_russian_letters(words[-1], answer)
            continue
        for part in _parts(token):
            words.append(part)
            if _ONLY_LATIN.fullmatch(part.word):
                if runs and re.fullmatch(r"[ \u00a0]{1,2}|[ ]?[&-][ ]?", answer.prose[runs[-1][-1].end : part.start]):
                    runs[-1].append(part)
                else:
                    runs.append([part])
            elif not answer.excuses(part.word) and not answer.excuses(token[0]):
                intruders += _of_other_letters(part, answer)
    if not answer.foreign_requested:
        for run in runs:
            intruders += _of_latin_letters(run, answer)
    return words, sorted(intruders)


def _parts(token: re.Match) -> list[_Word]:
    """Split a token with letters that are not Russian into words of one alphabet, if it has any."""
    if _ONLY_LATIN.fullmatch(token[0]):
        return [_Word(*token.span(), token[0])]
    if declined := _DECLINED.fullmatch(token[0]):
        return [_Word(token.start(), token.start() + declined.end(1), declined[1])]
    return [
        _Word(token.start() + part.start(), token.start() + part.end(), part[0]) for part in _PART.finditer(token[0])
    ]


def _prepare(answer: str, prompt: str) -> _Answer:
    text = answer
    leaks: list[str] = []
    glosses: set[int] = set()
    code_names: frozenset[str] = frozenset()
    if _NOT_RUSSIAN.search(answer):
        code_names = frozenset(names_in_code(answer)) - _JOINERS - _OPENINGS
        text, leaks = blank_code(answer, prompt)
        text, glosses = _blank_brackets(blank_citations(text), answer)
    return _Answer(answer, text, leaks, glosses, _words_of(prompt), code_names, requests_foreign(prompt))


@lru_cache(maxsize=1024)
def _words_of(prompt: str) -> frozenset[str]:
    """Collect the words of the prompt, split in every way in which the words of the answer may be split."""
    words = set()
    for text in (prompt, blank_code(prompt, prompt)[0]):
        for token in _TOKEN.findall(text):
            words.add(token.casefold())
            words.update(part.casefold() for part in re.split("[-‑]", token))
    return frozenset(words)


def _blank_brackets(text: str, raw: str) -> tuple[str, set[int]]:
    """Blank terms, names and titles in brackets after a Russian word, and find where single everyday English words in them start."""
    glosses: set[int] = set()
    for bracket in _BRACKETS.finditer(text):
        inside, before = bracket[1], text[: bracket.start()].rstrip(" *_")
        if not before or _RUSSIAN_LETTER.search(inside) or not _NOT_RUSSIAN.search(inside):
            continue
        if before[-1] in '»”"' or raw[: bracket.start()].rstrip(" *_").endswith("`"):
            text = _blank_between(text, *bracket.span())
            continue
        if not _RUSSIAN_LETTER.fullmatch(before[-1]):
            if _spells_out(inside, re.split("[^A-Z]", before)[-1]):  # MLM (masked language modeling)
                text = _blank_between(text, *bracket.span())
            continue
        for item in re.finditer(r"[^,;/]+", inside):
            start, end = bracket.start(1) + item.start(), bracket.start(1) + item.end()
            tokens = list(_TOKEN.finditer(text, start, end))
            if not all(_ONLY_LATIN.fullmatch(token[0]) for token in tokens):
                if _ends_with_name(before):  # «Отани (大谷翔平)»
                    text = _blank_between(text, start, end)
                    continue
                glosses.update(token.start() for token in tokens)
            elif len(tokens) == 1 and _is_gloss(tokens[0][0], before):
                glosses.add(tokens[0].start())
            elif len(tokens) <= 6:
                text = _blank_between(text, start, end)
    return text, glosses


def _blank_between(text: str, start: int, end: int) -> str:
    return text[:start] + " " * (end - start) + text[end:]


def _spells_out(text: str, acronym: str) -> bool:
    """Check whether a text spells out an acronym: it starts with its first letter, and has the others in order."""
    letters = iter(text.upper())
    return len(acronym) > 1 and text[:1].upper() == acronym[0] and all(letter in letters for letter in acronym)


def _ends_with_name(text: str) -> bool:
    """Check whether the last word of a text is a name: capitalised, and no ordinary word that starts a sentence."""
    word = re.search(rf"[{RUSSIAN_LETTERS}-]*$", text)
    if not word or not word[0][:1].isupper():
        return False
    return (
        not _starts_sentence(text, word.start())
        or not russian_dictionary().word_is_known(word[0].lower())
        or _is_name_in_dictionary(word[0])
    )


def _is_name_in_dictionary(word: str) -> bool:
    return any(_NAME_TAGS & parse.tag.grammemes for parse in russian_dictionary().parse(word))


def _is_gloss(word: str, before: str) -> bool:
    """Check whether a single word in brackets is everyday English, and not a technical term or a transliteration: «Лондон (London)»."""
    lower = word.lower()
    if (
        lower in _NOT_GLOSSES
        or word in _ELEMENTS
        or word.isupper()
        or len(word) == 1
        or lower not in word_frequencies("en")
    ):
        return False
    if word.islower():
        return True
    last = re.split(r"[^а-яё]", before.lower())[-1]
    if russian_dictionary().word_is_known(last) and not _is_name_in_dictionary(last):
        return True
    russian = "".join(_TRANSLITERATION.get(letter, "") for letter in last)
    return SequenceMatcher(None, russian, lower).ratio() < 0.6


def _starts_sentence(text: str, start: int) -> bool:
    """Check whether a word starts a text, line, sentence or bracket, so that it may have a capital without being a name."""
    return bool(_SENTENCE_START.search(text, max(0, start - 40), start)) or not text[:start].strip()


def _of_russian_letters(word: _Word, answer: _Answer) -> list[Intruder]:
    language = neighbour_language(word.word)
    if not language or answer.foreign_requested or answer.excuses(word.word) or _is_name(word, answer.prose):
        return []
    return [Intruder(*word, language, False)]


def _of_other_letters(word: _Word, answer: _Answer) -> list[Intruder]:
    """Judge a word in letters that are neither all Russian nor all Latin."""
    plain = word.word.translate(_STRESS)
    if _ONLY_RUSSIAN.fullmatch(plain) or re.fullmatch("[IVXLCDMІХСМУ]+", word.word):  # XІХ, typed with a Ukrainian І
        return []
    language, hard = None, False
    if _ONLY_CYRILLIC.fullmatch(plain):
        if _is_name(word, answer.prose):
            return []
        language = cyrillic_language(word.word)
    else:
        letters = [
            unicodedata.normalize("NFKC", letter)[0]
            for letter in word.word
            if letter.isalpha() and unicodedata.category(letter) != "Lm"
        ]
        latin, cyrillic = (sum(bool(script.match(a)) for a in letters) for script in (_LATIN_LETTER, _CYRILLIC_LETTER))
        others, hard = len(letters) - latin - cyrillic, True
        if others:
            language = script_language(word.word)
            if language == "el" and len(letters) <= 4 and others == 1:  # α, Δt, kΩ, cosα
                return []
        elif (
            latin and cyrillic and not re.fullmatch("[A-Z]{2,}'?[а-яё]{1,6}", word.word)
        ):  # «SMSка» is a declined acronym
            language = "mixed"
        else:
            return []
    if answer.foreign_requested and language != "mixed":
        return []
    return [Intruder(*word, language, hard, word.start in answer.glosses)]


def _is_name(word: _Word, text: str) -> bool:
    return word.word[0].isupper() and not _starts_sentence(text, word.start)


def _of_latin_letters(run: list[_Word], answer: _Answer) -> list[Intruder]:
    """Judge neighbouring words in Latin letters."""
    words = [word.word for word in run]
    capitals = [word[0].isupper() for word in words]
    is_title = (
        len(run) > 1
        and capitals[0]
        and capitals[-1]
        and all(capital or word in _JOINERS for capital, word in zip(capitals, words, strict=True))
    )
    foreign, twins = set(), set()
    for i, word in enumerate(run):
        lower = word.word.lower()
        if len(lower) == 1 or answer.excuses(word.word):
            continue
        if _is_cyrillic_twin(word.word):
            twins.add(i)
        elif _is_technical(word, answer.raw) or _is_cut(word, answer.raw):
            continue
        elif word.start in answer.glosses or _is_listed(run, answer.prose):
            foreign.add(i)
        elif is_title or (answer.code_names and _is_unknown(lower)):
            continue
        elif not capitals[i]:
            between_names = 0 < i < len(run) - 1 and capitals[i - 1] and capitals[i + 1] and word.word in _JOINERS
            if not between_names and not _is_epithet(i, run, answer.prose):
                foreign.add(i)
        elif lower not in _BRANDS and _is_ordinary(i, run, answer.prose):
            foreign.add(i)
    # «I», «a», «y» are words beside other words, and symbols alone.
    for i, letter in enumerate(words):
        if len(letter) == 1 and letter in "aIyeoàéó" and ({i - 1, i + 1} & foreign) and not answer.excuses(letter):
            foreign.add(i)
    languages = latin_languages([words[i] for i in sorted(foreign)])
    jargon = _is_jargon([words[i].lower() for i in sorted(foreign)])
    glosses = {i for i in foreign if run[i].start in answer.glosses or _is_listed(run, answer.prose)}
    return [
        *(Intruder(*run[i], "mixed", True) for i in twins),
        *(
            Intruder(*run[i], language, False, i in glosses, jargon and i not in glosses)
            for i, language in zip(sorted(foreign), languages, strict=True)
        ),
    ]


def _is_jargon(words: list[str]) -> bool:
    """Check whether neighbouring words are a term of IT or business."""
    return all(word in _JARGON | _JARGON_PARTS for word in words) and (len(words) > 1 or not _JARGON.isdisjoint(words))


def _is_cyrillic_twin(word: str) -> bool:
    """Check whether a word in Latin letters looks like a Russian one of four letters or more: «COCTAB» like «СОСТАВ»."""
    if len(word) < 4 or set(word) - set(LATIN_TWINS) or word.lower() in word_frequencies("en"):
        return False
    return russian_dictionary().word_is_known(word.translate(_TO_CYRILLIC).lower())


def _is_listed(run: list[_Word], text: str) -> bool:
    """Check whether a list of words gives a word with its Russian equivalent: «1. Triangle — треугольник»."""
    line_start = text.rfind("\n", 0, run[0].start) + 1
    return (
        len(run) == 1
        and run[0].word[0].isupper()
        and run[0].word.lower() in word_frequencies("en")
        and run[0].word.lower() not in _NOT_GLOSSES
        and bool(re.fullmatch(r"\s*(?:\d+[.)]|[-*•])\s+[*_]*", text[line_start : run[0].start]))
        and bool(re.match(r"[*_]*\s+[—–-]\s+[а-яё]+(?:\s[а-яё]+)?[.;,]?\s*(?:\n|$)", text[run[0].end :]))
    )


def _is_cut(word: _Word, text: str) -> bool:
    """Check whether a word may be cut off by the limit of tokens: it ends the text and is unknown."""
    return word.end == len(text.rstrip()) and _is_unknown(word.word.lower())


def _is_technical(word: _Word, answer: str) -> bool:
    """Check whether Latin letters are an acronym, a name with capitals inside, a unit, a technical name or a part of a number."""
    return (
        word.word.lower() in _TECHNICAL
        or bool(re.search(r"[^\W\d_]['’-]?[A-Z]", word.word))
        or answer[word.start - 1 : word.start].isdigit()
        or answer[word.end : word.end + 1].isdigit()
        # «.pyd», «2-opt», «bx + c»
        or bool(re.search(r"(?:(?<!\S)|(?<=[(«,]))\.\Z|\d[-‑]\Z", answer[max(0, word.start - 3) : word.start]))
        or (len(word.word) <= 2 and _is_in_formula(word, answer))
        or (word.word in _ELEMENTS and bool(re.match(r"\s?[—–(:]|\s-\s", answer[word.end : word.end + 3])))
    )


def _is_in_formula(word: _Word, text: str) -> bool:
    """Check whether an operator is beside a word: `E = hc/λ`."""
    before, after = text[max(0, word.start - 2) : word.start], text[word.end : word.end + 5]
    return bool(re.match(r"\s?[\^=+*<>²³≤≥·×÷]|/\w{1,2}(?!\w)", after) or re.search(r"[\^=+*·×÷]\s?\Z", before))


def _is_unknown(word: str) -> bool:
    parts = word.split("-")
    return word.isascii() and not any(
        len(parts) <= 2 and all(part in word_frequencies(language) for part in parts) for language in LISTED_LANGUAGES
    )


def _is_epithet(i: int, run: list[_Word], text: str) -> bool:
    """Check whether a word names a species: «Escherichia coli», «E. coli», «Canis lupus familiaris»."""
    if word_frequencies("en").get(run[i].word, 0.0) >= COMMON_FREQUENCY or run[i].word in _OPENINGS:
        return False
    if i == 0:
        return bool(re.search(r"(?<![^\W\d_])[A-Z]\.\s?\Z", text[max(0, run[i].start - 4) : run[i].start]))
    genus = run[0].word
    is_genus = genus[0].isupper() and word_frequencies("en").get(genus.lower(), 0.0) < COMMON_FREQUENCY
    return i <= 2 and is_genus and not any(word.word in _JOINERS for word in run[: i + 1])


def _is_ordinary(i: int, run: list[_Word], text: str) -> bool:
    """
    Check whether a capitalised word is not a name: an opening or, at the start of a sentence, a common word before a lower-case one, with
    the ending of an abstract noun or an adverb, or beside a Russian noun or adjective: «Moderate количества».
    """
    lower, after = run[i].word.lower(), run[i + 1 : i + 2]
    before_small = bool(after) and not after[0].word[0].isupper()
    starts_sentence = _starts_sentence(text, run[i].start)
    if lower in _OPENINGS:
        return before_small or (starts_sentence and len(run) == i + 1)
    frequency = word_frequencies("en").get(lower, 0.0)
    if not starts_sentence or frequency < 1:
        return False
    next_word = re.match(r"[*_]*\s+([а-яё]{3,})", text[run[i].end : run[i].end + 40])
    if len(run) == 1 and next_word and _follows_an_adjective(next_word[1]):
        return True
    return frequency >= COMMON_FREQUENCY and (before_small or bool(re.search("(?:ly|tion|ness|ment|ing)$", lower)))


def _follows_an_adjective(word: str) -> bool:
    """Check whether a Russian word can only be a noun, and not one in the nominative singular, which may follow a name."""
    tags = [parse.tag for parse in russian_dictionary().parse(word)]
    return all(tag.POS == "NOUN" and (tag.case, tag.number) != ("nomn", "sing") for tag in tags)


def _in_russian(answer: _Answer, words: list[_Word], intruders: list[Intruder]) -> bool | None:
    russian = len(_RUSSIAN_LETTER.findall(answer.prose))
    foreign = sum(intruder.end - intruder.start for intruder in intruders)
    if not russian and not foreign:
        # Without any Russian word, names cannot be distinguished from other words.
        foreign = sum(
            len(word.word)
            for word in words
            if not word.word.isupper() and word.word.lower() not in _BRANDS | _TECHNICAL | answer.code_names
        )
    if not russian and not foreign:
        return None
    cyrillic = {
        word.word.lower()
        for word in words
        if _ONLY_CYRILLIC.fullmatch(word.word.translate(_STRESS)) and not _is_name(word, answer.prose)
    }
    is_russian = russian > foreign and not is_other_cyrillic(cyrillic, russian_dictionary().word_is_known)
    return is_russian or (None if answer.foreign_requested else False)
