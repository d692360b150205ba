"""Tables of the report."""

import dataclasses
from collections.abc import Callable
from statistics import median
from typing import Any

from markupsafe import Markup

from ...data.ratings import CRITERIA
from . import pictures
from .examples import WORTH_A_LOOK
from .words import GAIN, Words, _printable, _sides, _sign, digits

# Tables


@dataclasses.dataclass
class _Cell:
    """What one cell of a table shows: a figure, its interval and number of cases, a verdict, and a difference below it."""

    text: str
    interval: str = ""
    note: str = ""
    verdict: str = ""
    words: str = ""
    difference: "_Cell | None" = None


@dataclasses.dataclass
class _Row:
    title: str
    cells: list[_Cell]
    meaning: str = ""


def _cell(
    score: dict[str, Any] | None,
    unit: str,
    places: int,
    words: Words,
    difference: bool = False,
    of: int | None = None,
    absent: str = "not_asked",
) -> _Cell:
    """A figure with its interval; with its number of cases where it is not that of all answers."""
    if not score or score["value"] is None:
        return _Cell("", note=words(absent))
    verdict = score.get("verdict", "")
    return _Cell(
        words.measure(score["value"], unit, places, difference),
        words.interval(score, unit, places, difference),
        words("cases_note", cases=words.number(score["cases"])) if of not in (None, score["cases"]) else "",
        verdict,
        words.verdict(verdict) if verdict else "",
    )


def _pair_table(runs: list[dict[str, Any]], words: Words) -> dict[str, Any] | None:
    names = list(dict.fromkeys(name for run in runs for name in run["pairs"]))
    rows = []
    for name in names:
        found = [run["pairs"].get(name) for run in runs]
        unit, gain = ("share" if "accuracy" in name else "number"), name == GAIN
        known = [score for score in found if score and score["cases"]]
        if not known:
            continue
        places = digits(unit, [] if gain else known, known if gain else [])
        found = [score and (score | {"verdict": _sign(score)} if gain else score) for score in found]
        cells = [_cell(score, unit, places, words, gain) for score in found]
        rows.append(_Row(words.title(name), cells, words.meaning(name)))
    columns = []
    for run in runs:
        cases = max((score["cases"] for score in run["pairs"].values()), default=0)
        columns.append(f"{run['name']}, {words.plural('on_pairs', cases)}")
    return {"columns": columns, "rows": rows} if rows else None


def _figure_table(scores: dict[str, Any], measures: dict, words: Words) -> dict[str, Any] | None:
    """
    Every measure of every system. The difference stands in a column of its own where two systems are compared, and below a system's
    own figure where there are more.
    """
    systems, comparisons = scores["systems"], scores["comparisons"]
    if not systems:
        return None
    apart = len(comparisons) == 1
    differences = {comparison["system"]: comparison["differences"] for comparison in comparisons}
    columns = [system["name"] for system in systems]
    if apart:
        columns.append(words("difference_to", **_sides(comparisons[0])))
    rows = []
    for name, (_, unit) in measures.items():
        found = [system["scores"].get(name) for system in systems]
        if not any(score and score["cases"] for score in found):
            continue
        changes = [one[name] for one in differences.values() if one.get(name) and one[name]["cases"]]
        places = digits(unit, [score for score in found if score and score["cases"]], changes)
        cells = [
            _cell(score, unit, places, words, of=system["answers"])
            for score, system in zip(found, systems, strict=True)
        ]
        for system, cell in zip(systems, cells, strict=True):
            change = differences.get(system["name"], {}).get(name)
            if not change or not change["cases"]:
                continue
            told = _cell(change, unit, places, words, True, of=system["answers"])
            if apart:
                cells = [*cells, told]
            else:
                cell.difference = told
        if apart and len(cells) == len(systems):
            cells.append(_cell(None, unit, places, words))
        rows.append(_Row(words.title(name), cells, words.meaning(name)))
    return {"columns": columns, "rows": rows, "baseline": scores["baseline"]}


def _forests(scores: dict[str, Any], measures: dict, words: Words) -> list[dict[str, Any]]:
    """For each comparison, its differences on one axis: better to the right."""
    drawn = []
    for number, comparison in enumerate(scores["comparisons"]):
        rows = []
        for name, (better, unit) in measures.items():
            score = comparison["differences"].get(name)
            if better is None or unit not in ("share", "points") or not score or not score["cases"]:
                continue
            times = (1 if better == "higher" else -1) / (1 if unit == "share" else 100)
            ends = sorted((times * score["low"], times * score["high"]))
            rows.append((_printable(words.title(name)), times * score["value"], *ends))
        if not rows:
            continue
        items = "; ".join(f"{title} {words.measure(value, 'share', 1, True)}" for title, value, *_ in rows)
        drawn.append(
            {
                "title": words("difference_to", **_sides(comparison)),
                "svg": Markup(
                    pictures.intervals(
                        f"forest {number}",
                        rows,
                        words("forest_label", items=items),
                        words,
                        ends=(words("worse_left"), words("better_right")),
                    )
                ),
            }
        )
    return drawn


# Verdicts


def _verdicts(verdicts: dict[str, Any] | None, words: Words) -> dict[str, Any] | None:
    if not verdicts:
        return None
    ranking = verdicts["ranking"]
    pairs = verdicts["pairs"]
    items = "; ".join(f"{row['system']} {words.number(row['strength'], 0, True)}" for row in ranking)
    rows = [
        (f"{place}. {_printable(row['system'])}", row["strength"], row["low"], row["high"])
        for place, row in enumerate(ranking, start=1)
    ]
    read = sum(pair["wins"] + pair["losses"] + pair["ties"] for pair in pairs)
    criteria = verdicts["criteria"]
    return {
        "note": words("ranking_note", verdicts=words.plural("verdicts", read)),
        "ranking": {
            "columns": [words("strength")],
            "rows": [
                _Row(
                    f"{place}. {row['system']}",
                    [
                        _Cell(
                            words.number(row["strength"], 0, True),
                            words.interval(row, "number", 0, True),
                        )
                    ],
                )
                for place, row in enumerate(ranking, start=1)
            ],
        }
        if ranking
        else None,
        "picture": Markup(
            pictures.intervals("ranking", rows, words("strength_label", items=items), words, percent=False)
        )
        if ranking
        else "",
        "pairs": {
            "columns": [
                words(key) for key in ("win_rate", "length_controlled", "wins", "losses", "ties", "unreadable")
            ],
            "rows": [
                _Row(
                    words("difference_to", system=pair["systems"][0], against=pair["systems"][1]),
                    [
                        *(
                            _cell(pair[rate], "share", digits("share", [pair[rate]]), words, absent="cannot_tell")
                            for rate in ("win_rate", "length_controlled_win_rate")
                        ),
                        *(_Cell(words.number(pair[key])) for key in ("wins", "losses", "ties", "unreadable")),
                    ],
                )
                for pair in pairs
            ],
        }
        if pairs
        else None,
        "criteria": {
            "columns": [*(words.tables["criteria"][name] for name in CRITERIA), words("unreadable")],
            "rows": [
                _Row(
                    row["system"],
                    [
                        *(_cell(row["scores"].get(name), "number", 1, words) for name in CRITERIA),
                        _Cell(words.number(row["unreadable"])),
                    ],
                )
                for row in criteria
            ],
        }
        if criteria
        else None,
        "sources": [
            (
                words("judge" if source["kind"] == "judge" else "people"),
                source["source"],
                words.number(source["verdicts"]),
            )
            for source in verdicts["sources"]
        ],
    }


# Distributions


def _distributions(answers: list[dict], names: list[str], measures: dict, words: Words) -> list[dict[str, Any]]:
    drawn = []
    for name, (_, unit) in measures.items():
        values = [[] for _ in names]
        for row in answers:
            for system, answer in zip(values, row["answers"], strict=True):
                value = answer["measures"].get(name)
                if value is not None:
                    system.append(value)
        everything = [value for system in values for value in system]
        between = sum(value not in (0.0, 1.0) for value in everything)
        if not everything or between < WORTH_A_LOOK * len(everything):
            continue
        places = 0 if unit != "points" else 1
        items = "; ".join(
            f"{system} {words.measure(median(found) if found else None, unit, places)}"
            for system, found in zip(names, values, strict=True)
        )
        label = words("distribution_label", title=words.title(name), items=items)
        drawn.append(
            {
                "title": words.title(name),
                "meaning": words.meaning(name),
                "svg": Markup(pictures.hills(f"hills {name}", values, label, words, unit == "share")),
            }
        )
    # The length first: it explains much of the rest.
    return sorted(drawn, key=lambda picture: picture["title"] != words.title("length"))


# Costs


def _costs(runs: list[dict[str, Any]], words: Words) -> dict[str, Any] | None:
    sessions = [run["origin"].get("measured", {}) for run in runs]
    if not any(sessions):
        return None
    shown: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
        ("time", "train_seconds", words.duration),
        ("tokens_per_second", "tokens_per_second", lambda value: words.number(value, 1)),
        ("epochs", "epochs", lambda value: words.number(value, 2)),
        ("peak_measured", "peak_memory_bytes", words.bytes),
        ("peak_planned", "planned_peak_bytes", words.bytes),
        ("skipped_steps", "skipped_steps", words.number),
    )
    rows = []
    for title, key, in_words in shown:
        cells = []
        for measured in sessions:
            value = measured.get(key)
            cells.append(_Cell("", note=words("not_logged")) if value is None else _Cell(in_words(value)))
            if key == "train_seconds" and measured.get("resumed_from"):
                cells[-1].note = words("time_resumed")
        rows.append(_Row(words(title), cells))
    return {"columns": [run["name"] for run in runs], "rows": rows}
