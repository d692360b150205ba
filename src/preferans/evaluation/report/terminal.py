"""The comparison as text for the terminal: figures, differences, verdicts."""

import textwrap
from collections.abc import Sequence
from typing import Any

from .tables import group_tables
from .words import Words, digits

# More systems side by side do not fit into a terminal.
TABLE_COLUMNS = 4
TERMINAL_WIDTH = 110


def score_table(scores: dict[str, Any], language: str = "en") -> str:
    """
    Format a comparison as text.

    Args:
        scores (`dict`): Content of scores.json, see [`~preferans.evaluation.compare.compare`].
        language (`str`, *optional*, defaults to `"en"`): `"en"` or `"ru"`.

    Returns:
        `str`: figures with their intervals. Measures without cases are left out; `n=` is the number of cases if it is not the
        number of prompts.
    """
    words = Words(language)
    parts = [
        *_runs(scores, words),
        *_groups(scores, words),
        *_figures(scores, words),
        *_differences(scores, words),
        *_verdicts(scores, words),
    ]
    return "\n\n".join(part for part in parts if part)


def _figure(
    score: dict, unit: str, places: int, words: Words, difference: bool = False, expected: int | None = None
) -> str:
    """Format a figure with its interval, and with its number of cases if that is not `expected`."""
    value = words.measure(score["value"], unit, places, difference)
    text = f"{value} {words.interval(score, unit, places, difference)}".rstrip()
    return text if expected is None or score["cases"] in (0, expected) else f"{text} n={words.number(score['cases'])}"


def _aligned(rows: Sequence[Sequence[str]], gap: int = 2) -> str:
    """Align the first column left and the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        (" " * gap)
        .join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))])
        .rstrip()
        for row in rows
    )


def _runs(scores: dict, words: Words) -> list[str]:
    parts = []
    others = [
        {"name": words("system_on", system=system["name"], dataset=record["name"]), "pairs": system["scores"]}
        for record in scores["pairs"]
        for system in record["systems"]
    ]
    # Groups stand for their runs: nine runs would fill nine screens.
    for run in [*([] if scores["groups"] else scores["runs"]), *others]:
        rows = []
        for name, score in run["pairs"].items():
            unit = "share" if "accuracy" in name else "number"
            rows.append(
                [f"  {words.title(name)}", _figure(score, unit, digits(unit, [score]), words, "accuracy_gain" in name)]
            )
        cases = max(score["cases"] for score in run["pairs"].values())
        parts.append(f"{run['name']}, {words.plural('on_pairs', cases)}\n{_aligned(rows)}")
    return parts


def _groups(scores: dict, words: Words) -> list[str]:
    tables = group_tables(scores["groups"], words)
    if tables is None:
        return []
    parts = [tables["title"]]
    for name in ("figures", "differences"):
        rows = [["", *tables[name]["columns"]]]
        for row in tables[name]["rows"]:
            cells = (" ".join(filter(None, (one.text or one.note, one.interval, one.words))) for one in row.cells)
            rows.append([f"  {row.title}", *cells])
        parts.append(_aligned(rows))
    return [*parts, tables["conclusion"]]


def _figures(scores: dict, words: Words) -> list[str]:
    parts = []
    for start in range(0, len(scores["systems"]), TABLE_COLUMNS):
        systems = scores["systems"][start : start + TABLE_COLUMNS]
        rows = [["", *(system["name"] for system in systems)]]
        for name, known in scores["measures"].items():
            if not any(system["scores"][name]["cases"] for system in scores["systems"]):
                continue
            figures = [system["scores"][name] for system in systems]
            places = digits(known["unit"], figures)
            cells = [
                _figure(score, known["unit"], places, words, expected=scores["prompts"]["count"]) for score in figures
            ]
            rows.append([f"  {words.title(name)}", *cells])
        parts.append(f"{words('figures')}, {words.plural('on_prompts', scores['prompts']['count'])}\n{_aligned(rows)}")
    return parts


def _differences(scores: dict, words: Words) -> list[str]:
    parts = []
    for comparison in scores["comparisons"]:
        rows, nothing = [], []
        for name, difference in comparison["differences"].items():
            if not difference["cases"]:
                continue
            if difference["verdict"] == "no_detectable_difference":
                nothing.append(words.title(name))
                continue
            unit = scores["measures"][name]["unit"]
            places = digits(unit, [difference], [difference])
            figure = _figure(difference, unit, places, words, difference=True, expected=scores["prompts"]["count"])
            rows.append([f"  {words.verdict(difference['verdict'])}: {words.title(name)}", figure])
        lines = [words.versus(**comparison)]
        if rows:
            lines.append(_aligned(rows))
        if nothing:
            text = f"{words.verdict('no_detectable_difference')}: {'; '.join(nothing)}"
            lines.append(textwrap.fill(text, TERMINAL_WIDTH, initial_indent="  ", subsequent_indent="    "))
        parts.append("\n".join(lines))
    return parts


def _verdicts(scores: dict, words: Words) -> list[str]:
    return [part for judged in scores["verdicts"] for part in _judged(judged, words)]


def _judged(judged: dict, words: Words) -> list[str]:
    parts = [f"{words.tables['judges'][judged['kind']]['title']}:"]
    if judged["ranking"]:
        rows = [["", words("strength")]]
        for number, row in enumerate(judged["ranking"], start=1):
            figure = _figure(row | {"value": row["strength"]}, "number", 0, words, difference=True)
            rows.append([f"  {number}. {row['system']}", figure])
        parts.append(f"{words('ranking')}\n{_aligned(rows)}")
    if judged["pairs"]:
        keys = ("wins", "losses", "ties", "unreadable", "win_rate", "length_controlled")
        rows = [["", *map(words, keys)]]
        for pair in judged["pairs"]:
            counts = [words.number(pair[key]) for key in keys[:4]]
            rates = [_figure(pair[key], "share", 0, words) for key in ("win_rate", "length_controlled_win_rate")]
            name = words.versus(*pair["systems"])
            rows.append([f"  {name}", *counts, *rates])
        parts.append(f"{words('win_rates')}\n{_aligned(rows)}")
    if judged["criteria"]:
        criteria = list(judged["criteria"][0]["scores"])
        rows = [["", *(words.tables["criteria"][name] for name in criteria)]]
        for row in judged["criteria"]:
            rows.append(
                [f"  {row['system']}", *(_figure(row["scores"][name], "number", 1, words) for name in criteria)]
            )
        parts.append(f"{words('criteria')}\n{_aligned(rows)}")
    return parts
