"""Measures of one answer, without a model: does it run in circles, is it whole, is it like a reference, does it keep the form asked for."""

import functools
import json
import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import pymorphy3
from razdel import tokenize
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import CHRF

from ..errors import PreferansError
from .form_kept import rows_of_table
from .language import LOOP_WORDS, loops, words

LOOP_SHARE = 0.2
ROUGE_TYPES = ("rouge1", "rouge2", "rougeL")


class Repetition(NamedTuple):
    """
    How much a text repeats itself.

    Attributes:
        loops (`bool`):
            Whether it runs in circles: it says something three times ([`~preferans.text.language.loops`]), and at least a fifth of its runs of four
            words, or of its lines, stood in it before. A long answer may well use a phrase three times.
        repeated_share (`float`):
            Share of its runs of four words that stood in it before, from 0 to 1: seq-rep-4 of
            [Welleck et al. 2020](https://huggingface.co/papers/1908.04319).
    """

    loops: bool
    repeated_share: float


def repetition(text: str) -> Repetition:
    """Whether a text runs in circles, and how much of it was said before. Code between fences may repeat its lines."""
    prose = _CLOSED_BLOCK.sub("\n", text)
    share = _repeated(word_runs(prose, LOOP_WORDS))
    lines = _repeated([line.strip().lower() for line in prose.splitlines() if len(line.split()) >= 2])
    return Repetition(max(share, lines) >= LOOP_SHARE and loops(prose), share)


def _repeated(things: list) -> float:
    return 1.0 - len(set(things)) / len(things) if things else 0.0


def distinct(text: str, n: int) -> float | None:
    """
    Distinct n-grams of words as a share of all of them ([Li et al. 2016](https://aclanthology.org/N16-1014)).

    Args:
        text (`str`):
            Any text. Case does not count, nor do digits and punctuation.
        n (`int`):
            Words in a run.

    Returns:
        `float` or `None`: above 0, up to 1; `None` for a text of fewer than `n` words.
    """
    runs = word_runs(text, n)
    return len(set(runs)) / len(runs) if runs else None


def word_runs(text: str, n: int) -> list[tuple[str, ...]]:
    """All runs of `n` words of a text, in order."""
    sequence = words(text)
    return list(zip(*(sequence[i:] for i in range(n))))


def _checked(references: Sequence[str]) -> list[str]:
    if isinstance(references, str) or not references:
        raise PreferansError(
            f"references is {references!r}. An answer is compared with a list of one or more texts, such as [chosen]; leave out the "
            "answers that have none."
        )
    return list(references)


def chrf(answer: str, references: Sequence[str]) -> float:
    """
    Likeness of an answer to references in characters and words: sacrebleu's sentence-level chrF++.

    Args:
        answer (`str`):
            Answer.
        references (`Sequence[str]`):
            One or more texts; the likest counts.

    Returns:
        `float`: from 0 to 100.
    """
    return chrf_plus_plus().sentence_score(answer, _checked(references)).score


def corpus_chrf(answers: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """chrF++ of many answers together, each with references of its own, from 0 to 100."""
    texts = [_checked(some) for some in references]
    # sacrebleu wants the first references of all answers, then the second of all; None where an answer has no further one.
    streams = [[some[i] if i < len(some) else None for some in texts] for i in range(max(map(len, texts)))]
    return chrf_plus_plus().corpus_score(list(answers), streams).score


@functools.cache
def chrf_plus_plus():
    """The scorer of `sacrebleu` with word order 2. Its signature is to be asked after scoring."""

    return CHRF(word_order=2)


class RussianTokenizer:
    """
    Words and numbers of a Russian text, for `rouge_score`, whose own tokenizer knows Latin letters alone.

    Args:
        lemmas (`bool`, *optional*, defaults to `True`):
            Whether to bring words to their dictionary form: «кошками» and «кошка» are one word then.
    """

    def __init__(self, lemmas: bool = True):
        self.lemmas = lemmas

    def tokenize(self, text: str) -> list[str]:
        """Tokens in lower case, «ё» as «е», without punctuation."""

        tokens = [token.text.lower() for token in tokenize(text) if any(map(str.isalnum, token.text))]
        return [_lemma(token) if self.lemmas else token.replace("ё", "е") for token in tokens]


@functools.cache
def _dictionary():

    return pymorphy3.MorphAnalyzer(lang="ru")


@functools.lru_cache(maxsize=100_000)
def _lemma(word: str) -> str:
    try:
        # The dictionary knows «ё» and wants it: «всё» and «все» have lemmas of their own.
        lemma = _dictionary().parse(word)[0].normal_form
    except ValueError:  # at a character that Python has no name for, which is in no Russian word
        lemma = word
    return lemma.replace("ё", "е")


@functools.cache
def _rouge_scorer(lemmas: bool):

    return RougeScorer(ROUGE_TYPES, tokenizer=RussianTokenizer(lemmas))


def rouge(answer: str, references: Sequence[str], lemmas: bool = True) -> dict[str, float]:
    """
    ROUGE of an answer ([Lin 2004](https://aclanthology.org/W04-1013)) over Russian tokens.

    Args:
        answer (`str`):
            Answer.
        references (`Sequence[str]`):
            One or more texts; the likest counts, for each figure.
        lemmas (`bool`, *optional*, defaults to `True`):
            Whether forms of one word are one word.

    Returns:
        `dict[str, float]`: F-measures `rouge1`, `rouge2` and `rougeL`, from 0 to 1. All are 1 where the tokens are the same, also when
        there is but one and so no run of two.
    """
    references = _checked(references)
    tokenize = RussianTokenizer(lemmas).tokenize
    tokens = tokenize(answer)
    if tokens and any(tokenize(reference) == tokens for reference in references):
        return dict.fromkeys(ROUGE_TYPES, 1.0)
    scores = _rouge_scorer(lemmas).score_multi(references, answer)
    return {name: score.fmeasure for name, score in scores.items()}


_CLOSED_BLOCK = re.compile(r"^[ \t]*(```|~~~).*?^[ \t]*\1[ \t]*$", re.DOTALL | re.MULTILINE)
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
# A full stop after these belongs to the word, and the sentence goes on.
_STOPPED_SHORT = re.compile(r"(?:^|[\s(«])(?:т\.\s?е|напр|см|им|ул|т|рис|стр|гл|проф|акад)\.$", re.IGNORECASE)
# No Russian sentence ends with them.
_DANGLING = re.compile(
    r"\s(?:и|а|но|или|либо|чтобы|если|котор(?:ый|ая|ое|ые)|в|во|на|с|со|к|ко|по|за|из|изо|от|до|у|о|об|при|про|для|без|над|под|перед"
    r"|между|через|около|не|ни|этот|эта|эти|такие|такой|такая|очень|более|менее|самый)$",
    re.IGNORECASE,
)
_CLOSING_WORDS = re.compile(
    r"(?:с (?:уважением|любовью|наилучшими|теплом|благодарностью)|искренне|целую|обнимаю|тво[йя]|ваша?)\b", re.I
)


def is_complete(text: str, finish_reason: str | None = None) -> bool | None:
    """
    Whether an answer comes to its end, or stops in mid-sentence.

    A text is cut when something is left open: a code block, a bracket, a quotation, a comma or colon, a list marker or heading with
    nothing after it, a word that no sentence ends with. A missing full stop says so only where nobody knows how the text ended, and not
    for short answers, items of a list without full stops, table rows, links, formulas, emoji, and signatures.

    Args:
        text (`str`):
            Answer.
        finish_reason (`str`, *optional*):
            `"length"` (the limit of tokens cut it: never complete), `"stop"` (the model, or the person, ended it), or `None`
            (unknown).

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
    if text.strip()[0] in "{[" and (_is_json(text) or text.count('"') >= 2):
        return _is_json(text)
    if last.startswith("|"):
        rows = rows_of_table(text)
        return last.endswith("|") and len(last) > 1 and (not rows or len(rows[-1]) == len(rows[0]))
    if len(lines) > 1 and (_BARE_MARKER.fullmatch(last) or _HEADING.match(last)):
        return False
    if _left_open(last):
        return False
    return finish_reason == "stop" or _ended(last, lines)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _bare(line: str) -> str:
    """A line without what may follow its last sign: quotation marks, brackets, emphasis, footnotes."""
    return _FOOTNOTES.sub("", line[-300:]).rstrip(_CLOSING + " ")


def _left_open(line: str) -> bool:
    """Whether a last line must go on."""
    if line.count("`") % 2 or line.count("**") % 2 or re.fullmatch("`+", line):
        return True
    if _SMILEY.search(line):
        return False
    for opening, closing in _PAIRS.items():
        start = line.rfind(opening)
        if start >= 0 and not any(sign in line[start:] for sign in closing):
            return True
    bare = _bare(line)
    if not bare or line.endswith(("$", "\\]", "\\)")) or re.fullmatch(r"[^\w\s]+", bare):
        return False
    if _OPEN_MARK.search(bare) and not re.search(r"https?://\S+$|\w\+\+$|</?[A-Za-z][^<>]*$", bare):
        return True
    if _STOPPED_SHORT.search(bare):
        return True
    return bool(_DANGLING.search(bare))


def _ended(line: str, lines: list[str]) -> bool:
    """Whether a last line that may end here does so."""
    bare = _bare(line)
    if not bare or bare[-1] in _END or _SMILEY.search(line) or line.endswith(("$", "\\]", "\\)", ">", "};", "}")):
        return True
    if unicodedata.category(bare[-1]) in ("So", "Sk", "Sm", "Mn", "Me", "Cf"):  # emoji and what modifies them
        return True
    if re.search(r"(?:https?://|www\.)\S+$|#\w+$|=\s*\S*\d\S*$", bare):
        return True
    if line[0] in '([«"“„`' and line[-1] in _CLOSING:  # all of it stands in brackets: [Ваше имя]
        return True
    if re.search(r"(?:^|[.!?…)]\s)\*[^*]+\*$", line):  # what a character does: *улыбается*
        return True
    if len(lines) == 1:
        return len(line.split()) <= 3
    if any(_CLOSING_WORDS.match(earlier) for earlier in lines[-3:]) and len(line.split()) <= 5:
        return True
    return _is_like_other_items(line, lines[:-1])


def _is_like_other_items(line: str, earlier: list[str]) -> bool:
    """Whether a line is an item of a list most of whose items have no full stop either."""
    if not (marker := _MARKER.match(line)):
        return False
    numbered = any(map(str.isdigit, marker[0]))
    items = [
        other for other in earlier if (match := _MARKER.match(other)) and any(map(str.isdigit, match[0])) == numbered
    ]
    return bool(items) and 2 * sum(_bare(item)[-1:] not in _END for item in items) >= len(items)
