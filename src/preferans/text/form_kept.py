"""Whether an answer has the requested form: a list, a table, JSON, N sentences, …"""

import json
import re
from collections.abc import Callable
from typing import Any

from razdel import sentenize

from .form_asked import FormatRequest, requested_formats
from .language import WORD_OR_NUMBER
from .manners import refuses
from .phrases import lowered


def keeps_format(prompt: str, answer: str) -> bool | None:
    """
    Check whether an answer has all the forms that its Russian prompt requests, as [`~preferans.text.form_asked.requested_formats`] finds them.

    Args:
        prompt (`str`): The user's last message.
        answer (`str`): The answer. An empty one has no form.

    Returns:
        `bool` or `None`: `None` if the prompt requests no form, or the answer declines the request.
    """
    requests = requested_formats(prompt)
    if not requests:
        return None
    kept = bool(answer.strip()) and all(_fulfils(answer, request) for request in requests)
    return None if not kept and refuses(answer) else kept


def _fulfils(answer: str, request: FormatRequest) -> bool:
    match request.kind:
        case "list":
            return _list_items(answer) >= 2 or len(re.findall(r"<li\b", answer)) >= 2
        case "numbered_list":
            return _list_items(answer, numbered=True) >= 2
        case "table":
            return bool(rows_of_table(answer)) or "<table" in answer
        case "json":
            return _has_keys(_first_json(answer), request.keys)
        case "code":
            return _has_code(answer)
        case "no_list":
            return _list_items(answer) < 2
        case "no_table":
            return not rows_of_table(answer)
        case "no_code":
            return not _has_code(answer)
        case "yes_no":
            return bool(_YES_OR_NO.match(lowered(answer)))
        case "word":
            return len(WORD_OR_NUMBER.findall(answer.replace("-", ""))) == 1
        case "sentences":
            counts = {count_sentences(answer)}
        case "words":
            counts = {len(WORD_OR_NUMBER.findall(answer))}
        case "lines":
            counts = _line_counts(answer)
        case _:
            counts = _item_counts(answer)
    return any(request.low <= count and (request.high is None or count <= request.high) for count in counts)


_FENCED = re.compile(r"^[ \t]*```[ \t]*([\w+#-]*)[^\n]*\n(.*?)^[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE)
_NUMBERED_LINE = re.compile(r"^([ \t]*)[*_#> \t]{0,8}\(?(?:\d{1,3}[.)]|\d️?⃣)[*_]*[ \t]*\S", re.MULTILINE)
_BULLET_LINE = re.compile(r"^([ \t]*)(?:[-*•–—+·◦▪●✅✔]️?[ \t]+\S|[a-zа-яё]\)[ \t]+\S)", re.MULTILINE | re.IGNORECASE)
_HEADING_LINE = re.compile(r"^()(?:#{1,6}[ \t]+\S|\*\*[^*\n]+\*\*)", re.MULTILINE)


def _outermost(pattern: re.Pattern, text: str) -> int:
    """Count the least indented lines of a pattern: lines that are nested under an item are not items of the same list."""
    indents = [len(match[1].expandtabs(4)) for match in pattern.finditer(text)]
    least = min(indents, default=0)
    return sum(indent <= least + 1 for indent in indents)


def _list_items(text: str, numbered: bool = False) -> int:
    return _outermost(_NUMBERED_LINE, text) or (0 if numbered else _outermost(_BULLET_LINE, text))


def _item_counts(answer: str) -> set[int]:
    """Count the items of an answer in every way in which they may be written."""
    counts = {_outermost(pattern, answer) for pattern in (_NUMBERED_LINE, _BULLET_LINE, _HEADING_LINE)}
    value = _first_json(answer)
    if isinstance(value, list):
        counts.add(len(value))
    if rows := rows_of_table(answer):
        counts.add(len(rows) - 1)
    if max(counts) >= 2:
        return counts
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    counts.add(len(lines))
    if lines and lines[0].endswith(":"):
        counts.add(len(lines) - 1)
    if len(lines) == 1 or (len(lines) == 2 and lines[0].endswith(":")):
        enumeration = re.sub(r"^[^:]*:", "", lines[-1])
        counts.add(len([part for part in re.split(r"[,;]|\sи\s", enumeration) if part.strip()]))
        counts.add(count_sentences(answer))
    return counts


def _line_counts(answer: str) -> set[int]:
    """Count the lines of an answer with and without a title, an introduction that ends with a colon, and a remark below."""
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    blocks = [len(block.strip().splitlines()) for block in re.split(r"\n\s*\n", answer) if block.strip()]
    bare = [
        line
        for line in lines
        if not line.endswith(":") and not _HEADING_LINE.fullmatch(line) and line.strip("*") == line
    ]
    return {len(lines), len(bare), max(blocks, default=0)}


def count_sentences(text: str) -> int:
    """Count the sentences that `razdel` finds. A heading or a list item on its own line is a sentence; an item's number is not."""
    return sum(
        any(map(str.isalnum, part.text)) and not re.fullmatch(r"\(?\d{1,3}[.)]", part.text.strip())
        for line in text.splitlines()
        for part in sentenize(line)
    )


_SEPARATOR = re.compile(r"\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)+\|?|\|[ \t]*:?-+:?[ \t]*\|")
_OUTER_BAR = re.compile(r"^\||(?<!\\)\|$")


def rows_of_table(text: str) -> list[list[str]]:
    """
    Read the cells of the first Markdown table of a text, starting with its header. Without a table, the list is empty.

    A table has a line of dashes below its header, and at least one row.
    """
    lines = [line.strip() for line in text.splitlines()]
    for i in range(1, len(lines)):
        if "|" in lines[i - 1] and _SEPARATOR.fullmatch(lines[i]):
            rows = [lines[i - 1]]
            for line in lines[i + 1 :]:
                if "|" not in line:
                    break
                rows.append(line)
            if len(rows) > 1:
                return [re.split(r"(?<!\\)\|", _OUTER_BAR.sub("", row)) for row in rows]
    return []


def parsed_json(text: str) -> Any:
    """Parse JSON; `None` if it is invalid."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _json_value(answer: str) -> Any:
    """Parse an answer that is only JSON, with or without a code fence."""
    fenced = _FENCED.fullmatch(answer.strip())
    return parsed_json(fenced[2] if fenced else answer)


def _first_json(answer: str) -> dict | list | None:
    """Find the first JSON object or list in an answer that may have other text."""
    blocks = re.findall(r"```(?:json\w*)?[ \t]*\n(.*?)```", answer, re.DOTALL | re.IGNORECASE)
    for value in (_json_value(answer), *map(parsed_json, blocks)):
        if isinstance(value, dict | list):
            return value
    decoder = json.JSONDecoder()
    for start in list(re.finditer(r"[{\[](?=\s*[\"{\[\]}\d-])", answer))[:20]:
        try:
            return decoder.raw_decode(answer, start.start())[0]
        except (ValueError, RecursionError):
            continue
    return None


def _has_keys(value: Any, keys: tuple[str, ...]) -> bool:
    """Check whether a JSON value is, or contains, an object with all of these keys; without keys, any object or list is accepted."""
    if not keys:
        return value is not None
    if isinstance(value, dict):
        return all(key in value for key in keys) or any(_has_keys(inner, keys) for inner in value.values())
    return isinstance(value, list) and bool(value) and all(_has_keys(inner, keys) for inner in value)


_CODE_LINE = re.compile(
    r"^[ \t]*(?:def |class \w+|import \w|from \S+ import |for .+[:{)]$|while .+[:{)]$|if .+[:{)]$|return\b|print\(|SELECT\b|INSERT\b|#include|"
    r"public |function |var |let |const |</?[a-z]\w*[ >]|\w[\w.\[\]]* ?[-+]?= ?\S|.*[;{}]$|\w[\w.]*\(.*\)$|\$ \w)",
    re.MULTILINE,
)


def _has_code(answer: str) -> bool:
    if re.search(r"^[ \t]*(?:```|~~~).*\n\s*\S", answer, re.MULTILINE):
        return True
    return bool(re.search(r"`[^`\n]*[(=;/$<-][^`\n]*`", answer)) or len(_CODE_LINE.findall(answer)) >= 2


_NUMBERED = re.compile(r"[ \t]{0,3}\**(\d{1,3})[.)]\**[ \t]+\S")
_BULLET = re.compile(r"[ \t]{0,3}[-*•–—+·][ \t]+\S")
_HEADING = re.compile(r"#{1,6}[ \t]+\S")
_NESTED = re.compile(r"[ \t]{2,}\S")


def _lines(answer: str) -> list[str]:
    return [line.rstrip() for line in answer.strip().splitlines() if line.strip()]


def _bare(answer: str) -> str:
    """Remove emphasis, quotation marks and a full stop around an answer."""
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
    table = rows_of_table(answer)
    widths = {len(row) for row in table}
    # the first column may hold the names of the compared things
    return widths in ({columns}, {columns + 1}) and _count_ok(len(table) - 1, rows, 1)


def _json(answer: str, keys: list[str], numbers: list[str] | None = None) -> bool:
    value = _json_value(answer)
    if not isinstance(value, dict) or set(value) != set(keys):
        return False
    return all(isinstance(value[key], int | float) and not isinstance(value[key], bool) for key in numbers or [])


def _json_list(answer: str, items: int) -> bool:
    value = _json_value(answer)
    return isinstance(value, list) and len(value) == items and all(isinstance(item, str) for item in value)


def _sentences(answer: str, items: int) -> bool:
    return count_sentences(answer) == items


def _words(answer: str, items: int) -> bool:
    bare = _bare(answer)
    return "\n" not in bare and len(bare.split()) == items and bool(re.fullmatch(r"[\w\s'’&-]+", bare))


def _max_words(answer: str, items: int) -> bool:
    return 0 < len(WORD_OR_NUMBER.findall(answer)) <= items


_YES_OR_NO = re.compile(r"[*_«\"\s]*(да|нет)\b")


def _yes_no(answer: str, only: bool = False) -> bool:
    if only:
        return lowered(_bare(answer)) in ("да", "нет")
    return bool(_YES_OR_NO.match(lowered(answer))) and len(WORD_OR_NUMBER.findall(answer)) > 1


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
    return lowered(_bare(answer).rstrip(")")) in options


def _fits(answer: str, regex: str) -> bool:
    return bool(re.fullmatch(regex, answer.strip().strip("*`")))


def _paragraphs(answer: str, items: int) -> bool:
    lines = _lines(answer)
    plain_text = not any(_NUMBERED.match(line) or _BULLET.match(line) or _HEADING.match(line) for line in lines)
    return plain_text and len(re.split(r"\n\s*\n", answer.strip())) == items and bool(lines)


def _headings(answer: str, items: int) -> bool:
    lines = _FENCED.sub("", answer).splitlines()
    levels = [len(line.split()[0]) for line in lines if _HEADING.match(line)]
    # the parts may have a common title
    parts = len(levels) - (len(levels) > 1 and levels[0] < min(levels[1:]))
    return parts == items


FORM_CHECKS: dict[str, Callable[..., bool]] = {
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
    Check whether an answer has a form.

    Args:
        answer (`str`): The answer.
        kind (`str`): A key of `FORM_CHECKS`.
        options (`dict`): Details: `items` (their number), `only` (the answer has nothing else), `columns` and `rows` (of a table), `keys` and
            `numbers` (the keys with numeric values), `language` and `marked` (the code fence must name the language), `options` (accepted
            answers), `regex`.
    """
    return FORM_CHECKS[kind](answer, **options)
