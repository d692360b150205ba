"""Measures of one answer: loops, variety, completeness, similarity to references."""

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from razdel import tokenize
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import CHRF

from ..errors import PreferansError
from ..utf8 import normal_form
from .dictionary import lemma, russian_dictionary
from .form_kept import parsed_json, rows_of_table
from .language import CLOSED_BLOCK, loops, words
from .prose import blank_code

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL")


class Repetition(NamedTuple):
    """
    How much a text repeats itself.

    Attributes:
        loops (`bool`): Whether something is repeated again and again without a break ([`~preferans.text.language.loops`]).
        repeated_share (`float`): Share of sequences of four words that occurred before, from 0 to 1: seq-rep-4 of
            [Welleck et al. 2020](https://huggingface.co/papers/1908.04319).
    """

    loops: bool
    repeated_share: float


def repetition(text: str) -> Repetition:
    """Measure how much a text repeats itself. The contents of closed code blocks are ignored."""
    runs = word_runs(CLOSED_BLOCK.sub("\n", text), 4)
    return Repetition(loops(text), 1.0 - len(set(runs)) / len(runs) if runs else 0.0)


def distinct(text: str, n: int) -> float | None:
    """
    Share of distinct n-grams of words ([Li et al. 2016](https://aclanthology.org/N16-1014)), without case, digits and punctuation.

    Returns:
        `float` or `None`: above 0, up to 1; `None` for a text of fewer than `n` words.
    """
    runs = word_runs(text, n)
    return len(set(runs)) / len(runs) if runs else None


def word_runs(text: str, n: int) -> list[tuple[str, ...]]:
    """List all sequences of `n` words of a text, in order."""
    sequence = words(text)
    return list(zip(*(sequence[i:] for i in range(n))))


def _checked(references: Sequence[str]) -> list[str]:
    if isinstance(references, str) or not references:
        raise PreferansError(
            f"references is {references!r}. Give a list of one or more texts, such as [chosen], and leave out answers without a reference."
        )
    return list(map(normal_form, references))


def chrf(answer: str, references: Sequence[str]) -> float:
    """
    Compute sacrebleu's sentence-level chrF++: similarity in characters and words, from 0 to 100.

    Args:
        answer (`str`): The answer.
        references (`Sequence[str]`): One or more texts; the most similar one counts.
    """
    return chrf_plus_plus().sentence_score(normal_form(answer), _checked(references)).score


def corpus_chrf(answers: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Compute chrF++ of many answers together, each with its own references, from 0 to 100."""
    texts = [_checked(several) for several in references]
    # sacrebleu expects the first references of all answers, then the second ones, with None for a missing one.
    streams = [[several[i] if i < len(several) else None for several in texts] for i in range(max(map(len, texts)))]
    return chrf_plus_plus().corpus_score(list(map(normal_form, answers)), streams).score


@cache
def chrf_plus_plus() -> CHRF:
    """Return the scorer of `sacrebleu` with word order 2. Its signature is complete only after scoring."""
    return CHRF(word_order=2)


class RussianTokenizer:
    """
    Words and numbers of a Russian text, for `rouge_score`: its own tokenizer drops all letters that are not Latin.

    Args:
        lemmas (`bool`, *optional*, defaults to `True`): Whether to replace words by their dictionary form, so that «кошками» equals «кошка».
    """

    def __init__(self, lemmas: bool = True):
        self.lemmas = lemmas

    def tokenize(self, text: str) -> list[str]:
        """Split into tokens in lower case, with «е» for «ё», without punctuation."""
        tokens = [token.text.lower() for token in tokenize(normal_form(text)) if any(map(str.isalnum, token.text))]
        return [lemma(token) if self.lemmas else token.replace("ё", "е") for token in tokens]


@cache
def _rouge_scorer(lemmas: bool) -> RougeScorer:
    return RougeScorer(ROUGE_TYPES, tokenizer=RussianTokenizer(lemmas))


def rouge(answer: str, references: Sequence[str], lemmas: bool = True) -> dict[str, float]:
    """
    Compute ROUGE ([Lin 2004](https://aclanthology.org/W04-1013)) over Russian tokens.

    Args:
        answer (`str`): The answer.
        references (`Sequence[str]`): One or more texts; for each value, the most similar one counts.
        lemmas (`bool`, *optional*, defaults to `True`): Whether all forms of a word are equal.

    Returns:
        `dict[str, float]`: F-measures `rouge1`, `rouge2` and `rougeL`, from 0 to 1. All are 1 if the tokens are equal, even for a single token,
        which has no bigram.
    """
    references = _checked(references)
    split = RussianTokenizer(lemmas).tokenize
    tokens = split(answer)
    if tokens and any(split(reference) == tokens for reference in references):
        return dict.fromkeys(ROUGE_TYPES, 1.0)
    scores = _rouge_scorer(lemmas).score_multi(references, answer)
    return {name: score.fmeasure for name, score in scores.items()}


_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)
_RULE = re.compile(r"[-*_=]{3,}")
_MARKER = re.compile(r"(?:[-*•–—+]|#{1,6}|\(?(?:\d{1,3}|[a-zа-яё])[.)])(?=\s|$)", re.IGNORECASE)
_BARE_MARKER = re.compile(r"(?:[-*•–—+]|#{1,6}|\(?\d{1,3}[.)])")
_HEADING = re.compile(r"#{1,6}\s")
_SMILEY = re.compile(r"[:;=8xхХ]-?[)(DPРрРdp*]+$|(?<=\w)\(+$|\){2,}$|\^_*\^$")
_FOOTNOTES = re.compile(r"(?:\s*\[\d+\])+$")
_CLOSING = "»”\"'“’)]}*_`›"
_END = ".!?…。!?؟"
_OPEN_MARK = re.compile(r"[,;:\-–—(\[{«„/\\+=<&|]$")
_PAIRS = {"(": ")", "[": "]", "{": "}", "«": "»", "„": "“”"}
# Abbreviations that do not end a sentence.
_ABBREVIATION = re.compile(r"(?:^|[\s(«])(?:т\.\s?е|напр|см|им|ул|т|рис|стр|гл|проф|акад)\.$", re.IGNORECASE)
# Words that do not end a sentence. A single capital letter is a name («витамин С», "plan A") unless it starts a sentence.
_DANGLING = re.compile(
    r"(?<!\d)[.!?…]\s[ИАВСКОУ]$|[-–—] это$|, (?:где|куда|откуда|кто|чем)$|(?<!:)\s[иавскоуa]$"
    r"|(?:^|\s)(?i:но|или|либо|что|чтобы|если|когда|хотя|пока|поскольку|потому|так как|также|будто|словно|ибо|несмотря|прежде чем|то есть"
    r"|в том числе|вследствие"
    r"|котор(?:ый|ая|ое|ые|ого|ой|ому|ых|ым|ыми|ом|ую)|во|на|со|ко|по|за|из|из-за|изо|от|до|об|при|про|для|без|над|под|перед|между|через|около"
    r"|среди|вместо|кроме|благодаря|согласно|включая|не|ни|этот|эта|эти|такие|такой|такая|такие как|как|очень|более|менее|самый"
    r"|and|or|but|because|although|the|an|which|whose|such as|my|your|our|their)$"
)
_STARTS_JSON = re.compile(r"\{\s*[\"}]|\[\s*[\[{\"]")
# «Ответ: 68», «-2», «11 человек», «13, 17, 19, 23»
_NUMBERS = re.compile(
    r"(?:[^\d\n]{1,60}[:=≈—–]\s*)?[-+−±≈]?\d[\d\s.,:/+*^%°$€₽−-]*(?:(?:(?:кв|куб|тыс|млн|млрд)\.?\s)?[^\W\d]+(?:/[^\W\d]+)?\.?)?"
)
_SHORT_LINE = 70
_CLOSING_WORDS = re.compile(
    r"(?:с (?:уважением|любовью|наилучшими|теплом|благодарностью)|искренне|целую|обнимаю|тво[йя]|ваша?)\b", re.I
)


def is_complete(text: str, finish_reason: str | None = None) -> bool | None:
    """
    Check whether an answer is complete, or stops in mid-sentence.

    A text is cut off if something is left open: a code block, a bracket, a quotation, a comma or colon, a list marker or heading with nothing
    after it, a word that does not end a sentence. A missing full stop counts only if the finish reason is unknown, and not for short answers,
    numbers, enumerations, lists and verses without full stops, table rows, links, code, formulas, drawings, emoji, and signatures.

    Args:
        text (`str`): The answer.
        finish_reason (`str`, *optional*): `"length"` (cut at the limit of tokens: never complete), `"stop"` (ended by the model or the
            person), or `None` (unknown).

    Returns:
        `bool` or `None`: `None` for an empty text.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    while len(lines) > 1 and _RULE.fullmatch(lines[-1]):
        lines.pop()
    if not lines:
        return None
    if finish_reason == "length" or len(_FENCE.findall(text)) % 2:
        return False
    last = lines[-1]
    if _FENCE.match(last):
        return True
    if _STARTS_JSON.match(text.strip()):
        return parsed_json(text) is not None
    if last.startswith("|"):
        rows = rows_of_table(text)
        return last.endswith("|") and len(last) > 1 and (not rows or len(rows[-1]) == len(rows[0]))
    if len(lines) > 1 and (_BARE_MARKER.fullmatch(last) or _HEADING.match(last) or _is_next_number(last, lines[-2])):
        return False
    if _is_drawing(last, lines) or _is_ended_code(last):
        return True
    if _left_open(last):
        return False
    return finish_reason == "stop" or _ended(last, lines)


def _bare(line: str) -> str:
    """Remove the quotation marks, brackets, emphasis and footnotes that may follow the end of a line."""
    return _FOOTNOTES.sub("", line[-300:]).rstrip(_CLOSING + " ")


def _is_next_number(line: str, item: str) -> bool:
    """Check whether a line is the beginning of the number that follows that of an item."""
    number = re.match(r"(\d{1,3})[.)]", item)
    return line.isdigit() and number is not None and str(int(number[1]) + 1).startswith(line)


def _is_drawing(line: str, lines: list[str]) -> bool:
    """Check whether a line and the line before it are drawn with characters other than letters and digits."""
    if len(lines) < 2 or re.fullmatch(r"[\s\[\](){},;:\"']+", line):  # nor is it the end of a program
        return False
    return all(2 * sum(map(str.isalnum, drawn)) < len("".join(drawn.split())) for drawn in (line, lines[-2]))


def _is_ended_code(line: str) -> bool:
    return line.endswith((";", "}", ")")) and not blank_code(line, "")[0].strip()


def _left_open(line: str) -> bool:
    """Check whether a last line is unfinished."""
    if line.count("`") % 2 or line.count("**") % 2 or re.fullmatch("`+", line):
        return True
    if _SMILEY.search(line):
        return False
    for opening, closing in _PAIRS.items():
        start = line.rfind(opening)
        if start >= 0 and not any(mark in line[start:] for mark in closing):
            return True
    bare = _bare(line)
    if not bare or line.endswith(("$", "\\]", "\\)")) or re.fullmatch(r"[^\w\s]+", bare):
        return False
    if _OPEN_MARK.search(bare) and not re.search(r"https?://\S+$|\w\+\+$|</?[A-Za-z][^<>]*$", bare):
        return True
    return bool(_ABBREVIATION.search(bare) or _DANGLING.search(bare))


def _ended(line: str, lines: list[str]) -> bool:
    """Check whether a last line that nothing keeps open ends like a sentence or like another complete text."""
    bare = _bare(line)
    if not bare or bare[-1] in _END or _SMILEY.search(line) or line.endswith(("$", "\\]", "\\)", ">", "};", "}")):
        return True
    if unicodedata.category(bare[-1]) in ("So", "Sk", "Sm", "Mn", "Me", "Cf"):  # emoji and what modifies them
        return True
    if re.search(r"(?:https?://|www\.)\S+$|#\w+$|=\s*\S*\d\S*$", bare):
        return True
    if line[0] in '([«"“„`' and line[-1] in _CLOSING:  # a line in brackets: [Ваше имя]
        return True
    if re.search(r"(?:^|[.!?…)]\s)\*[^*]+\*$", line):  # an action: *улыбается*
        return True
    last_word = re.search(r"(?<![\w-])[а-яё]{2,}$", bare)
    if last_word and not russian_dictionary().word_is_known(last_word[0]):  # cut within the word
        return False
    if (_NUMBERS.fullmatch(bare) and not _MARKER.match(line)) or not blank_code(line, "")[0].strip():
        return True
    parts = bare.split(":")[-1].split(", ")
    if len(parts) > 2 and all(len(part.split()) <= 2 for part in parts):  # an enumeration: Москва, Казань, Тверь
        return True
    if len(lines) == 1:
        return len(line.split()) <= 3
    if any(_CLOSING_WORDS.match(earlier) for earlier in lines[-3:]) and len(line.split()) <= 5:
        return True
    return _is_like_other_items(line, lines[:-1]) or _is_like_earlier_lines(line, lines[-4:-1])


def _is_like_earlier_lines(line: str, earlier: list[str]) -> bool:
    """Check whether a line is one of at least three short lines without full stops: a verse or a list without markers."""
    similar = [
        other
        for other in (line, *earlier)
        if len(other) <= _SHORT_LINE
        and not _MARKER.match(other)
        and not other.endswith((":", "**"))
        and _bare(other)[-1:] not in _END
    ]
    return len(similar) > 2 and similar[0] is line


def _is_like_other_items(line: str, earlier: list[str]) -> bool:
    """Check whether a line is an item of a list in which at least half of the other items have no full stop either."""
    if not (marker := _MARKER.match(line)):
        return False
    numbered = any(map(str.isdigit, marker[0]))
    items = [
        other for other in earlier if (match := _MARKER.match(other)) and any(map(str.isdigit, match[0])) == numbered
    ]
    return bool(items) and 2 * sum(_bare(item)[-1:] not in _END for item in items) >= len(items)
