"""
Whether an answer has the form that was asked, where the form is known: so many items, these keys, one word.

The form is given, not read out of the prompt. A check is strict about what can be counted and lenient about what people do not mean
by a form: bold signs, a full stop after one word, a code fence around JSON.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from .language import WORD_OR_NUMBER
from .phrases import plain

_FENCED = re.compile(r"^[ \t]*```[ \t]*([\w+#-]*)[^\n]*\n(.*?)^[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE)
_NUMBERED = re.compile(r"[ \t]{0,3}\**(\d{1,3})[.)]\**[ \t]+\S")
_BULLET = re.compile(r"[ \t]{0,3}[-*•–—+·][ \t]+\S")
_HEADING = re.compile(r"#{1,6}[ \t]+\S")
_NESTED = re.compile(r"[ \t]{2,}\S")
_SEPARATOR = re.compile(r"[|:\- \t]*-[|:\- \t]*")


def _lines(answer: str) -> list[str]:
    return [line.rstrip() for line in answer.strip().splitlines() if line.strip()]


def _bare(answer: str) -> str:
    """An answer without emphasis, quotation marks and a full stop around it."""
    return answer.strip().strip("*_`«»\"'“”.!").strip()


def _count_ok(count: int, items: int | None, least: int) -> bool:
    return count == items if items else count >= least


def _numbered(answer: str, items: int | None = None, only: bool = False) -> bool:
    marked = [(line, _NUMBERED.match(line)) for line in _lines(answer)]
    numbers = [int(match[1]) for _, match in marked if match]
    others = [line for line, match in marked if not match and not _NESTED.match(line)]
    return numbers == list(range(1, len(numbers) + 1)) and _count_ok(len(numbers), items, 2) and not (only and others)


def _bullets(answer: str, items: int | None = None, only: bool = False) -> bool:
    lines = _lines(answer)
    bullets = [line for line in lines if _BULLET.match(line) and not line.startswith("  ")]
    others = [line for line in lines if not _BULLET.match(line) and not _NESTED.match(line)]
    return _count_ok(len(bullets), items, 2) and not (only and others)


def _table(answer: str, columns: int, rows: int | None = None) -> bool:
    lines = [line.strip() for line in answer.splitlines()]
    for header, separator, number in zip(lines, lines[1:], range(2, len(lines) + 1), strict=False):
        if "|" not in header or "|" not in separator or not _SEPARATOR.fullmatch(separator):
            continue
        body = []
        for line in lines[number:]:
            if "|" not in line:
                break
            body.append(line)
        widths = {len(line.strip("|").split("|")) for line in [header, *body]}
        # a column for the names of what is compared may stand in front
        return widths <= {columns, columns + 1} and len(widths) == 1 and _count_ok(len(body), rows, 1)
    return False


def _json_value(answer: str) -> Any:
    """What an answer says as JSON and nothing else, a code fence aside; `None` where it says more or less."""
    fenced = _FENCED.fullmatch(answer.strip())
    try:
        return json.loads(fenced[2] if fenced else answer)
    except (ValueError, RecursionError):
        return None


def _json(answer: str, keys: list[str], numbers: list[str] | None = None) -> bool:
    value = _json_value(answer)
    if not isinstance(value, dict) or set(value) != set(keys):
        return False
    return all(isinstance(value[key], int | float) and not isinstance(value[key], bool) for key in numbers or [])


def _json_list(answer: str, items: int) -> bool:
    value = _json_value(answer)
    return isinstance(value, list) and len(value) == items and all(isinstance(item, str) for item in value)


def count_sentences(text: str) -> int:
    """Sentences of a text, as `razdel` divides it; a heading or an item on a line of its own is one."""
    from razdel import sentenize

    return sum(
        any(map(str.isalnum, sentence.text))
        for line in text.splitlines()
        if line.strip()
        for sentence in sentenize(line)
    )


def _sentences(answer: str, items: int) -> bool:
    return count_sentences(answer) == items


def _words(answer: str, items: int) -> bool:
    bare = _bare(answer)
    return "\n" not in bare and len(bare.split()) == items and bool(re.fullmatch(r"[\w\s'’&-]+", bare))


def _max_words(answer: str, items: int) -> bool:
    return 0 < len(WORD_OR_NUMBER.findall(answer)) <= items


def _yes_no(answer: str, only: bool = False) -> bool:
    if only:
        return plain(_bare(answer)) in ("да", "нет")
    return bool(re.match(r"[*_«\"]*(да|нет)\b", plain(answer.strip()))) and len(WORD_OR_NUMBER.findall(answer)) > 1


def _code(answer: str, language: str | None = None, only: bool = False, marked: bool = False) -> bool:
    blocks = _FENCED.findall(answer)
    blocks = [(name.lower(), code) for name, code in blocks if code.strip()]
    allowed = {language} if marked else {language, ""} if language else None
    if not any(allowed is None or name in allowed for name, _ in blocks):
        return False
    return not (only and (len(blocks) > 1 or _FENCED.sub("", answer).strip()))


def _number(answer: str) -> bool:
    return bool(re.fullmatch(r"[-−]?\d{1,3}(?:[  ]\d{3})+(?:[.,]\d+)?|[-−]?\d+(?:[.,]\d+)?", _bare(answer)))


def _commas(answer: str, items: int) -> bool:
    bare = _bare(answer)
    return "\n" not in bare and ":" not in bare and len([part for part in bare.split(",") if part.strip()]) == items


def _line_count(answer: str, items: int) -> bool:
    return len(_lines(answer)) == items


def _choice(answer: str, options: list[str]) -> bool:
    return plain(_bare(answer).rstrip(")")) in options


def _fits(answer: str, regex: str) -> bool:
    return bool(re.fullmatch(regex, answer.strip().strip("*`")))


def _paragraphs(answer: str, items: int) -> bool:
    lines = _lines(answer)
    plain_text = not any(_NUMBERED.match(line) or _BULLET.match(line) or _HEADING.match(line) for line in lines)
    return plain_text and len(re.split(r"\n\s*\n", answer.strip())) == items and bool(lines)


def _headings(answer: str, items: int) -> bool:
    lines = _FENCED.sub("", answer).splitlines()
    levels = [len(line.split()[0]) for line in lines if _HEADING.match(line)]
    # a title of its own may stand above the parts
    parts = len(levels) - (len(levels) > 1 and levels[0] < min(levels[1:]))
    return parts == items


FORMATS: dict[str, Callable[..., bool]] = {
    "numbered": _numbered,
    "bullets": _bullets,
    "table": _table,
    "json": _json,
    "json_list": _json_list,
    "sentences": _sentences,
    "words": _words,
    "max_words": _max_words,
    "yes_no": _yes_no,
    "code": _code,
    "number": _number,
    "commas": _commas,
    "lines": _line_count,
    "choice": _choice,
    "pattern": _fits,
    "paragraphs": _paragraphs,
    "headings": _headings,
}


def has_form(answer: str, kind: str, options: dict[str, Any]) -> bool:
    """
    Whether an answer has the form asked for.

    Args:
        answer (`str`):
            Answer.
        kind (`str`):
            A key of `FORMATS`.
        options (`dict`):
            What is asked of it: `items` (how many), `only` (nothing beside it), `columns` and `rows`, `keys` and `numbers` (keys whose
            values are numbers), `language` and `marked` (the language must stand at the fence), `options` to choose from, `regex`.
    """
    return FORMATS[kind](answer, **options)
