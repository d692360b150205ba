"""Tables of the report: figures, held-out pairs, verdicts, distributions and costs."""

import dataclasses
from collections.abc import Callable
from statistics import median
from typing import Any

from markupsafe import Markup

from ..statistics import smallest_difference
from . import pictures
from .words import GAIN, Words, digits, printable

# A distribution is shown if at least this share of the values lies between 0 and 1.
WORTH_A_LOOK = 0.1


@dataclasses.dataclass
class _Cell:
    """A figure with its interval, a note, a verdict in words, and a difference below it."""

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
    absent: str = "not_asked",
) -> _Cell:
    if not score or score["value"] is None:
        return _Cell("", note=words(absent))
    verdict = score.get("verdict", "")
    return _Cell(
        words.measure(score["value"], unit, places, difference),
        words.interval(score, unit, places, difference),
        verdict=verdict,
        words=words.verdict(verdict) if verdict else "",
    )


def has_cases(score: dict[str, Any] | None) -> bool:
    """Check whether a figure exists and has at least one case."""
    return bool(score and score["cases"])


def gain_verdict(score: dict[str, float]) -> str:
    """Return the verdict on a gain from its interval."""
    return "better" if score["low"] > 0 else "worse" if score["high"] < 0 else "no_detectable_difference"


def pair_table(runs: list[dict[str, Any]], words: Words) -> dict[str, Any] | None:
    """Return the table of held-out pairs: scores as rows, runs as columns."""
    rows = []
    for name in dict.fromkeys(name for run in runs for name in run["pairs"]):
        scores = [run["pairs"].get(name) for run in runs]
        cases = [score for score in scores if has_cases(score)]
        if not cases:
            continue
        unit, gain = ("share" if "accuracy" in name else "number"), "accuracy_gain" in name
        places = digits(unit, [] if gain else cases, cases if gain else [])
        if gain:
            scores = [score and score | {"verdict": gain_verdict(score)} for score in scores]
        title = words.title(name)
        if unit == "number":
            scales = {run["per_token"] for run in runs if name in run["pairs"]}
            scale = "per_token_or_answer" if len(scales) > 1 else "per_token" if scales.pop() else "per_answer"
            title = f"{title}, {words(scale)}"
        rows.append(_Row(title, [_cell(score, unit, places, words, gain) for score in scores], words.meaning(name)))
        if name == GAIN:
            rows.append(
                _Row(
                    words("smallest_gain"),
                    [_smallest(score, words) for score in scores],
                    words("smallest_gain_meaning"),
                )
            )
    counts = [max((score["cases"] for score in run["pairs"].values()), default=0) for run in runs]
    columns = [f"{run['name']}, {words.plural('on_pairs', count)}" for run, count in zip(runs, counts, strict=True)]
    return {"columns": columns, "rows": rows} if rows else None


def _smallest(score: dict[str, Any] | None, words: Words) -> _Cell:
    if not score or not score["cases"]:
        return _Cell("", note=words("not_asked"))
    return _Cell(words.measure(smallest_difference(score["low"], score["high"]), "share", 1))


def other_pair_tables(records: list[dict[str, Any]], words: Words) -> list[dict[str, Any]]:
    """Return the tables of pairs.json: pairs of the training's own dataset and pairs of others apart."""
    tables = []
    for in_domain in (True, False):
        runs = [
            {
                "name": words("system_on", system=system["name"], dataset=record["name"]),
                "pairs": system["scores"],
                "per_token": system["per_token"],
            }
            for record in records
            for system in record["systems"]
            if system["in_domain"] is in_domain
        ]
        if table := pair_table(runs, words):
            title = words("pairs_in_domain" if in_domain else "pairs_elsewhere")
            tables.append({"title": title, "table": table, "notes": []})
    if tables:
        tables[-1]["notes"] = [_surface_note(record, words) for record in records if record["surface"]]
    return tables


def group_tables(groups: dict[str, Any] | None, words: Words) -> dict[str, Any] | None:
    """Return the tables of groups of runs: `figures` and paired `differences`, and a line on controls, if there are any."""
    if groups is None:
        return None
    names = list(dict.fromkeys(name for group in groups["groups"] for name in group["scores"]))
    figures = []
    for group in groups["groups"]:
        cells = [_cell(group["scores"].get(name), "share", 1, words, "gain" in name) for name in names]
        by_seed = "; ".join(words.measure(gain, "share", 1, True) for gain in group["by_seed"])
        figures.append(_Row(group["name"], [*cells, _Cell(by_seed)], words.plural("runs", group["runs"])))
    differences = []
    for compared in groups["comparisons"]:
        scores = compared["differences"]
        cells = [_cell(score, "share", 1, words, True) for score in scores.values()]
        smallest = _Cell(words.measure(scores[GAIN]["smallest"], "share", 1))
        differences.append(_Row(words.versus(**compared), [*cells, smallest]))
    columns = [*(words.title(name) for name in names), words("by_seed")]
    return {
        "title": words("groups", keys=", ".join(groups["keys"])),
        "figures": {"columns": columns, "rows": figures},
        "differences": {
            "columns": [words("gain_difference"), words("reward_difference"), words("smallest")],
            "rows": differences,
        },
        "conclusion": _conclusion(groups, words),
    }


def _conclusion(groups: dict[str, Any], words: Words) -> str:
    """State whether the gain of the first group exceeds that of every other one, if these are controls."""
    if "control" not in groups["keys"] or len(groups["groups"]) < 2:
        return ""
    first = groups["groups"][0]["name"]
    compared = [one for one in groups["comparisons"] if one["against"] == first]
    unclear = [one["system"] for one in compared if one["differences"][GAIN]["verdict"] != "worse"]
    if unclear:
        return words("gain_unproven", run=first, controls="; ".join(unclear))
    return words("gain_proven", run=first)


def _surface_note(record: dict[str, Any], words: Words) -> str:
    surface = record["surface"]
    return words(
        "surface",
        dataset=record["name"],
        linear=words.measure(surface["linear_model"], "share", 0),
        longer=words.measure(surface["chosen_longer"], "share", 0),
    )


def figure_table(scores: dict[str, Any], measures: dict, words: Words) -> dict[str, Any] | None:
    """
    Return the table of all measures of all systems.

    A difference has its own column if there is one comparison, and stands below the system's figure if there are more. Measures
    that are 0 for every system are listed in `zeros` instead.
    """
    systems, comparisons = scores["systems"], scores["comparisons"]
    if not systems:
        return None
    columns = [system["name"] for system in systems]
    if len(comparisons) == 1:
        columns.append(words.versus(**comparisons[0]))
    rows, zeros = [], []
    for name, (_, unit) in measures.items():
        known = [score for system in systems if has_cases(score := system["scores"].get(name))]
        if not known:
            continue
        if unit == "share" and all(score["value"] == 0 for score in known):
            zeros.append(words.title(name))
            continue
        rows.append(_Row(words.title(name), _figure_cells(name, unit, known, scores, words), words.meaning(name)))
    zero_line = words("zero_everywhere", titles="; ".join(zeros)) if zeros else ""
    return {"columns": columns, "rows": rows, "zeros": zero_line}


def _figure_cells(name: str, unit: str, known: list[dict], scores: dict[str, Any], words: Words) -> list[_Cell]:
    differences = {
        one["system"]: one["differences"][name]
        for one in scores["comparisons"]
        if has_cases(one["differences"].get(name))
    }
    places = digits(unit, known, list(differences.values()))

    def counted(score: dict[str, Any] | None, answers: int, difference: bool = False) -> _Cell:
        cell = _cell(score, unit, places, words, difference)
        if score and score["value"] is not None and score["cases"] != answers:
            cell.note = words("cases_note", cases=words.number(score["cases"]))
        return cell

    cells = [counted(system["scores"].get(name), system["answers"]) for system in scores["systems"]]
    changes = {
        number: counted(differences[system["name"]], system["answers"], True)
        for number, system in enumerate(scores["systems"])
        if system["name"] in differences
    }
    if len(scores["comparisons"]) == 1:
        return [*cells, next(iter(changes.values()), _cell(None, unit, places, words))]
    for number, change in changes.items():
        cells[number].difference = change
    return cells


def forests(scores: dict[str, Any], measures: dict, words: Words) -> list[dict[str, Any]]:
    """Draw the differences of each comparison on one axis, better to the right."""
    drawn = []
    for number, comparison in enumerate(scores["comparisons"]):
        rows = []
        for name, (better, unit) in measures.items():
            score = comparison["differences"].get(name)
            zero = score and score["value"] == score["low"] == score["high"] == 0
            if better is None or unit not in ("share", "points") or not has_cases(score) or zero:
                continue
            scale = (1 if better == "higher" else -1) / (1 if unit == "share" else 100)
            low, high = sorted((scale * score["low"], scale * score["high"]))
            rows.append((printable(words.title(name)), scale * score["value"], low, high))
        if not rows:
            continue
        items = "; ".join(f"{title} {words.measure(value, 'share', 1, True)}" for title, value, *_ in rows)
        label = words("forest_label", items=items)
        ends = (words("worse_left"), words("better_right"))
        picture = pictures.intervals(f"forest {number}", rows, label, words, ends=ends)
        drawn.append({"title": words.versus(**comparison), "svg": Markup(picture)})
    return drawn


def verdict_tables(verdicts: dict[str, Any], words: Words) -> dict[str, Any]:
    """Return what people or judges decided: ranking with its picture, win rates, scores by criterion and sources."""
    pairs, kind = verdicts["pairs"], verdicts["kind"]
    count = sum(pair["wins"] + pair["losses"] + pair["ties"] for pair in pairs)
    return {
        "id": f"verdicts-{kind}",
        "title": words.tables["judges"][kind]["title"],
        "note": words("ranking_note", verdicts=words.plural("verdicts", count)),
        **_ranking(verdicts, words),
        "pairs": _win_rates(pairs, words) if pairs else None,
        "criteria": _criteria(verdicts["criteria"], words) if verdicts["criteria"] else None,
        "sources": [(one["source"], words.number(one["verdicts"])) for one in verdicts["sources"]],
    }


def _ranking(verdicts: dict[str, Any], words: Words) -> dict[str, Any]:
    ranking = verdicts["ranking"]
    if not ranking:
        return {"ranking": None, "picture": ""}
    names = [f"{number}. {row['system']}" for number, row in enumerate(ranking, start=1)]
    rows = [
        _Row(name, [_Cell(words.number(row["strength"], 0, True), words.interval(row, "number", 0, True))])
        for name, row in zip(names, ranking, strict=True)
    ]
    items = "; ".join(f"{row['system']} {words.number(row['strength'], 0, True)}" for row in ranking)
    bars = [
        (printable(name), row["strength"], row["low"], row["high"]) for name, row in zip(names, ranking, strict=True)
    ]
    picture = pictures.intervals(
        f"ranking {verdicts['kind']}", bars, words("strength_label", items=items), words, percent=False
    )
    return {"ranking": {"columns": [words("strength")], "rows": rows}, "picture": Markup(picture)}


def _win_rates(pairs: list[dict[str, Any]], words: Words) -> dict[str, Any]:
    counts = ("wins", "losses", "ties", "unreadable")
    rows = []
    for pair in pairs:
        rates = [
            _cell(pair[rate], "share", digits("share", [pair[rate]]), words, absent="cannot_tell")
            for rate in ("win_rate", "length_controlled_win_rate")
        ]
        rows.append(
            _Row(words.versus(*pair["systems"]), [*rates, *(_Cell(words.number(pair[key])) for key in counts)])
        )
    return {"columns": [words(key) for key in ("win_rate", "length_controlled", *counts)], "rows": rows}


def _criteria(criteria: list[dict[str, Any]], words: Words) -> dict[str, Any]:
    names = list(criteria[0]["scores"])
    rows = []
    for row in criteria:
        cells = [_cell(row["scores"].get(name), "number", 1, words) for name in names]
        rows.append(_Row(row["system"], [*cells, _Cell(words.number(row["unreadable"]))]))
    return {
        "columns": [*(words.tables["criteria"].get(name, name) for name in names), words("unreadable")],
        "rows": rows,
    }


def distributions(scores: dict[str, Any], measures: dict, words: Words) -> list[dict[str, Any]]:
    """Draw how the values of each measure are distributed; the length comes first because it explains much of the rest."""
    names = [system["name"] for system in scores["systems"]]
    drawn = []
    for name in sorted(measures, key=lambda name: name != "length"):
        unit = measures[name][1]
        values: list[list[float]] = [[] for _ in names]
        for row in scores["answers"]:
            for column, answer in zip(values, row["answers"], strict=True):
                if answer["measures"].get(name) is not None:
                    column.append(answer["measures"][name])
        everything = [value for column in values for value in column]
        between = sum(value not in (0.0, 1.0) for value in everything)
        if not everything or between < WORTH_A_LOOK * len(everything):
            continue
        places = 1 if unit == "points" else 0
        items = "; ".join(
            f"{system} {words.measure(median(column) if column else None, unit, places)}"
            for system, column in zip(names, values, strict=True)
        )
        label = words("distribution_label", title=words.title(name), items=items)
        picture = pictures.histograms(f"distribution {name}", values, label, words, unit == "share")
        drawn.append({"title": words.title(name), "meaning": words.meaning(name), "svg": Markup(picture)})
    return drawn


def costs(runs: list[dict[str, Any]], words: Words) -> dict[str, Any] | None:
    """Return the table of time and memory: runs as columns."""
    sessions = [run["provenance"].get("measured", {}) for run in runs]
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
        values = [measured.get(key) for measured in sessions]
        cells = [_Cell("", note=words("not_logged")) if value is None else _Cell(in_words(value)) for value in values]
        for cell, measured in zip(cells, sessions, strict=True):
            if key == "train_seconds" and measured.get("resumed_from"):
                cell.note = words("time_resumed")
        rows.append(_Row(words(title), cells))
    on_cpu = any(str(measured.get("device", "")).startswith("CPU") for measured in sessions)
    note = words("costs_on_cpu") if on_cpu else words("costs_note")
    return {"columns": [run["name"] for run in runs], "rows": rows, "note": note}
