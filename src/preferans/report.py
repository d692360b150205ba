"""
The report a person opens, and its short form for a model card: a story told from scores.json and the folders of its runs.

Nothing is measured here. Every figure is one of scores.json or of a run's provenance.json, in the words of `report_words`; the plots
are in `report_pictures`.
"""

import dataclasses
import json
import re
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

from markupsafe import Markup, escape

from . import report_pictures as pictures
from .files import read_json, write_text
from .ratings import CRITERIA
from .report_words import NOTHING, Words, digits

# Training curves: name in report_*.yaml, keys in the trainer's log with the words for each line, a level to compare with, a unit
CURVES: tuple[tuple[str, dict[str, str], float | None, float], ...] = (
    ("loss", {"loss": ""}, None, 1),
    ("margin", {"rewards/margins": ""}, 0.0, 1),
    ("accuracy", {"rewards/accuracies": ""}, 0.5, 1),
    ("log_probability", {"logps/chosen": "chosen", "logps/rejected": "rejected"}, None, 1),
    ("token_accuracy", {"mean_token_accuracy": ""}, None, 1),
    ("gradient", {"grad_norm": ""}, None, 1),
    ("memory", {"peak_memory_bytes": ""}, None, 1 << 30),
)
GAIN = "test_normalised_accuracy_gain"
FEW_PROMPTS = 100
# Answers shown of each kind: fewer where several systems are compared, so that the page can still be read to its end.
SHOWN, SHOWN_OF_SEVERAL = 5, 3
# Shares that are neither 0 nor 1 in at least so many answers have a distribution worth a look.
WORTH_A_LOOK = 0.1
# Halves of surrogate pairs are no text in UTF-8, control characters none in HTML, and marks that turn the direction of what follows
# would turn the report's own words.
_UNPRINTABLE = re.compile("[\ud800-\udfff\x00-\x08\x0b\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
_BREAK = re.compile(r"[^\S\u00a0]+")  # white space and ends of lines of every kind, but a space that does not break
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~&])")


def write_report(folder: str | Path, scores: dict[str, Any], language: str = "en") -> list[Path]:
    """
    Write `report.html` and `report.md`. The same scores and runs give the same bytes.

    Args:
        folder (`str` or `Path`):
            Where to.
        scores (`dict`):
            What `scripts/score.py` writes as scores.json.
        language (`str`, *optional*, defaults to `"en"`):
            `"en"` or `"ru"`.

    Returns:
        `list[Path]`: the files.

    Raises:
        [`PreferansError`]: when the folder of a run is not where scores.json says.
    """
    import jinja2

    words = Words(language)
    story = _story(scores, words)
    written = []
    for name in ("report.html", "report.md"):
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent),
            autoescape=name.endswith(".html"),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        environment.filters["md"] = _markdown
        page = environment.get_template(f"{name}.jinja").render(story, w=words, language=language)
        written.append(Path(folder) / name)
        write_text(written[-1], _printable(page))
    return written


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub("\ufffd", text)


def _markdown(text: str) -> str:
    """Any text as one line of Markdown that means nothing but itself."""
    return _MARKDOWN.sub(r"\\\1", _BREAK.sub(" ", text))


def _story(scores: dict[str, Any], words: Words) -> dict[str, Any]:
    """Everything the templates show, in the order in which they show it."""
    measures = {name: (known["better"], known["unit"]) for name, known in scores["measures"].items()}
    names = [system["name"] for system in scores["systems"]]
    runs = [
        run
        | {
            "origin": read_json(Path(run["folder"]) / "provenance.json"),
            "log": read_json(Path(run["folder"]) / "trainer_state.json")["log_history"],
        }
        for run in scores["runs"]
    ]
    return {
        "title": ", ".join([run["name"] for run in runs] + [name for name in names]),
        "made": scores["made"],
        "confidence": _confidence(scores, words),
        "summary": _summary(scores, measures, words),
        "runs": [_what_ran(run, words) for run in runs],
        "systems": [_where_from(system, words) for system in scores["systems"]],
        "prompts": scores["prompts"],
        "curves": [(run["name"], _curves(number, run["log"], words)) for number, run in enumerate(runs)],
        "pair_table": _pair_table(scores["runs"], words),
        "names": names,
        "figure_table": _figure_table(scores, measures, words),
        "forests": _forests(scores, measures, words),
        "verdicts": _verdicts(scores["verdicts"], words),
        "distributions": _distributions(scores["answers"], names, measures, words),
        "changed": _changed(scores, measures, words),
        "costs": _costs(runs, words),
    }


def _confidence(scores: dict[str, Any], words: Words) -> str:
    return words.number(100 * scores["made"]["confidence"]) + words.percent_sign


# The summary


def _summary(scores: dict[str, Any], measures: dict, words: Words) -> dict[str, Any]:
    systems, count = scores["systems"], scores["prompts"]["count"]
    prompts = words.plural("on_prompts", count)
    lead, notes = [], []
    if not systems:
        lead.append(words("summary_no_answers"))
    elif len(systems) == 1:
        lead.append(words("summary_single", system=systems[0]["name"], prompts=prompts))
    elif not scores["comparisons"]:
        lead.append(
            words("summary_uncompared", systems=words.plural("systems", len(systems)).capitalize(), prompts=prompts)
        )
    comparisons = [_compared(comparison, scores, measures, words) for comparison in scores["comparisons"]]
    for run in scores["runs"]:
        gain = run["pairs"].get(GAIN)
        if gain and gain["cases"]:
            before, after = (run["pairs"][f"test_normalised_accuracy_{when}"] for when in ("before", "after"))
            places = digits("share", [before, after], [gain])
            lead.append(
                words(
                    "summary_pairs",
                    run=run["name"],
                    pairs=words.plural("on_pairs", gain["cases"]),
                    before=words.measure(before["value"], "share", places),
                    after=words.measure(after["value"], "share", places),
                    difference=words.measure(gain["value"], "share", places, True),
                    verdict=words.verdict(_sign(gain)),
                )
            )
    ranking = (scores["verdicts"] or {}).get("ranking") or []
    if len(ranking) > 1:
        near = [row["system"] for row in ranking[1:] if row["high"] >= ranking[0]["low"]]
        lead.append(
            words("summary_not_first", system=ranking[0]["system"], others=", ".join(near))
            if near
            else words("summary_first", system=ranking[0]["system"])
        )
    if comparisons:
        if count < FEW_PROMPTS:
            notes.append(words("few_prompts"))
        tried = sum(score["cases"] > 0 for one in scores["comparisons"] for score in one["differences"].values())
        notes.append(
            words(
                "by_chance",
                comparisons=words.plural("comparisons", tried),
                confidence=_confidence(scores, words),
                one_in=words.number(1 / (1 - scores["made"]["confidence"])),
            )
        )
    if systems:
        notes.append(words("not_quality"))
    return {"lead": lead, "comparisons": comparisons, "notes": notes}


def _sign(score: dict[str, float]) -> str:
    return "better" if score["low"] > 0 else "worse" if score["high"] < 0 else "no_detectable_difference"


def _sides(comparison: dict[str, Any]) -> dict[str, str]:
    return {"system": comparison["system"], "against": comparison["against"]}


def _compared(comparison: dict[str, Any], scores: dict[str, Any], measures: dict, words: Words) -> dict[str, Any]:
    """What one system does better and worse than another, and what cannot be told."""
    of = {system["name"]: system["scores"] for system in scores["systems"]}
    sides: dict[str, list] = {"better": [], "worse": [], "other": [], "unknown": []}
    for name in measures:
        difference = comparison["differences"].get(name)
        if not difference or not difference["cases"]:
            continue
        old, new = of[comparison["against"]][name], of[comparison["system"]][name]
        unit = measures[name][1]
        places = digits(unit, [old, new], [difference])
        told = {"title": words.title(name)} | {
            key: words.measure(score["value"], unit, places, key == "difference")
            for key, score in (("old", old), ("new", new), ("difference", difference))
        }
        side = {"higher": "other", "lower": "other", "no_detectable_difference": "unknown"}.get(difference["verdict"])
        sides[side or difference["verdict"]].append(told)
    return {
        "lead": words(
            "summary_compared",
            **_sides(comparison),
            prompts=words.plural("on_prompts", scores["prompts"]["count"]),
        ),
        "nothing_differs": not (sides["better"] or sides["worse"] or sides["other"]),
        **sides,
    }


# What was run


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _what_ran(run: dict[str, Any], words: Words) -> dict[str, Any]:
    origin = run["origin"]
    model, dataset, measured = origin["model"], origin["dataset"], origin.get("measured", {})
    revision = f" ({model['revision']})" if model.get("revision") else ""
    facts = [
        ("recipe", origin["recipe"]),
        ("base_model", f"{model['name']}{revision}"),
        ("weights", ", ".join(f"{file} {checksum}" for file, checksum in model["weights_sha256"].items())),
        ("data", dataset["name"]),
        ("fingerprint", dataset["fingerprint"]),
        ("seed", origin["seed"]),
        ("hardware", measured.get("device")),
        ("processes", measured.get("world_size")),
        ("precision", measured.get("precision")),
        ("kernels", measured.get("kernels")),
        ("memory_switches", ", ".join(f"{key} {_shown(on)}" for key, on in origin.get("switches", {}).items())),
        ("versions", ", ".join(f"{name} {version}" for name, version in origin["packages"].items())),
        ("platform", f"{origin['platform']}, Python {origin['python']}"),
        ("commit", origin["git_commit"]),
    ]
    pairs = words("data_pairs", train=words.number(dataset["train_pairs"]), test=words.number(dataset["test_pairs"]))
    return {
        "name": run["name"],
        "facts": [
            (words(label), str(value), pairs if label == "data" else "")
            for label, value in facts
            if value not in (None, "")
        ],
        "keys": [(key, _shown(value)) for key, value in origin["keys"].items()],
    }


def _where_from(system: dict[str, Any], words: Words) -> dict[str, str]:
    weights, sampling = system.get("weights") or {}, system.get("sampling") or {}
    return {
        "name": system["name"],
        "source": system["source"],
        "model": words("human")
        if system["kind"] == "human"
        else weights.get("model_name_or_path") or words("unknown"),
        "sampling": ", ".join(f"{key} {_shown(value)}" for key, value in sampling.items()) or NOTHING,
        "answers": words.number(system["answers"]),
    }


def _curves(run: int, log: list[dict[str, Any]], words: Words) -> list[dict[str, Any]]:
    drawn = []
    for name, keys, level, unit in CURVES:
        lines = {
            label: points
            for key, label in keys.items()
            if (points := pictures.finite([(row["step"], row[key]) for row in log if key in row]))
        }
        if not lines:
            continue
        texts = words.tables["curves"][name]
        lines = {label: [(step, value / unit) for step, value in points] for label, points in lines.items()}
        label = "; ".join(
            words(
                "curve_label",
                title=f"{texts['title']} ({words(who)})" if who else texts["title"],
                first=words.number(points[0][1], 2),
                first_step=words.number(points[0][0]),
                last=words.number(points[-1][1], 2),
                last_step=words.number(points[-1][0]),
            )
            for who, points in lines.items()
        )
        drawn.append(
            {
                **texts,
                "legend": [words(who) for who in lines if who],
                "svg": Markup(pictures.curve(f"{run} {name}", list(lines.values()), level, label, words)),
            }
        )
    return drawn


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


# Answers side by side


def changes(old: dict[str, Any], new: dict[str, Any], measures: dict[str, tuple[str | None, str]]) -> dict[str, float]:
    """
    By how much an answer is better than another, measure by measure.

    Args:
        old (`dict`), new (`dict`):
            Two answers of scores.json.
        measures (`dict[str, tuple]`):
            Which side is better (`"higher"`, `"lower"` or `None`), and the unit of each.

    Returns:
        `dict[str, float]`: from -1 to 1, above zero where `new` is better; only measures that have a better side and that both
        answers have. An empty answer has the worst value of each that the other one has.
    """
    found = {}
    for name, (better, unit) in measures.items():
        if better is None or unit not in ("share", "points"):
            continue
        top = 1.0 if unit == "share" else 100.0
        worst = 0.0 if better == "higher" else top
        values = [
            worst if row["measures"].get(name) is None and not row["answer"].strip() else row["measures"].get(name)
            for row in (old, new)
        ]
        if None in values or all(row["measures"].get(name) is None for row in (old, new)):
            continue
        found[name] = (values[1] - values[0]) / top * (1 if better == "higher" else -1)
    return found


def _changed(scores: dict[str, Any], measures: dict, words: Words) -> dict[str, Any] | None:
    """The answers worth reading, in groups, and how they were chosen."""
    rows = scores["answers"]
    if not rows:
        return None
    names = [system["name"] for system in scores["systems"]]
    by_system = [{answer["system"]: answer for answer in row["answers"]} for row in rows]
    comparisons = scores["comparisons"]
    shown = SHOWN if len(comparisons) < 2 else SHOWN_OF_SEVERAL
    groups = []
    seen: set[int] = set()

    def add(title: str, numbers: list[int], who: list[str], change: Callable[[int], dict] | None, none: str = ""):
        seen.update(numbers)
        articles = []
        for number in numbers:
            parts = change(number) if change else {}
            articles.append(_article(rows[number], [by_system[number][name] for name in who], parts, words))
        groups.append({"title": title, "articles": articles, "none": none})

    if comparisons:
        rule = words("changed_rule")
        for comparison in comparisons:
            pair = [comparison["against"], comparison["system"]]
            found = [changes(*(answers[name] for name in pair), measures) for answers in by_system]
            total = [round(sum(parts.values()), 9) for parts in found]
            order = sorted(range(len(rows)), key=lambda number: -total[number])
            gains = [number for number in order if total[number] > 0][:shown]
            losses = [n for n in sorted(range(len(rows)), key=lambda number: total[number]) if total[n] < 0][:shown]
            head = words("difference_to", system=pair[1], against=pair[0]) if len(comparisons) > 1 else ""
            for title, numbers, none in (
                ("gains", gains, words("none_gained")),
                ("losses_shown", losses, words("none_lost")),
            ):
                add(
                    f"{head}: {words(title).lower()}" if head else words(title), numbers, pair, found.__getitem__, none
                )
    elif len(names) > 1:
        rule = words("spread_rule")
        spread = [
            max(
                abs(round(sum(changes(answers[a], answers[b], measures).values()), 9))
                for a, b in combinations(names, 2)
            )
            for answers in by_system
        ]
        order = sorted(range(len(rows)), key=lambda number: -spread[number])
        add(words("spread"), [number for number in order if spread[number] > 0][:shown], names, None, words("nothing"))
    else:
        rule = words("single_rule")
        best = {"answer": "-", "measures": {}}
        for name, (better, unit) in measures.items():
            best["measures"][name] = (1.0 if unit == "share" else 100.0) if better == "higher" else 0.0
        found = [changes(best, answers[names[0]], measures) for answers in by_system]
        order = sorted(range(len(rows)), key=lambda number: round(sum(found[number].values()), 9))
        add(words("worst"), order[:shown], names, found.__getitem__)
    rest = [number for number in range(len(rows)) if number not in seen]
    steps = [rest[place * len(rest) // shown] for place in range(min(shown, len(rest)))]
    add(words("unpicked"), list(dict.fromkeys(steps)), names, None, words("nothing"))
    return {"rule": rule, "groups": groups}


def _article(row: dict[str, Any], answers: list[dict], parts: dict[str, float], words: Words) -> dict[str, Any]:
    largest = sorted(parts.items(), key=lambda item: -abs(item[1]))[:4]
    roles = {"user": words("person"), "assistant": words("assistant"), "system": words("system_message")}
    return {
        "prompt": [
            {"role": turn["role"], "who": roles.get(turn["role"], turn["role"]), "text": _shown(turn["content"])}
            for turn in row["prompt"]
        ],
        "change": words("change", value=words.number(sum(parts.values()), 2, True)) if parts else "",
        "parts": words(
            "by_measures",
            items="; ".join(
                f"{words.title(name)} {words.number(value, 2, True)}" for name, value in largest if abs(value) >= 0.005
            ),
        )
        if parts
        else "",
        "answers": [
            {
                "system": answer["system"],
                "html": highlight(answer["answer"], answer["intruders"], words),
                "note": _ending(answer, words),
            }
            for answer in answers
        ],
    }


def _ending(answer: dict[str, Any], words: Words) -> str:
    if not answer["answer"].strip():
        return words("empty_answer")
    return {"stop": words("stopped"), "length": words("cut")}.get(answer["finish_reason"], "")


def highlight(answer: str, intruders: list[list], words: Words) -> Markup:
    """
    An answer as HTML, with intruding words marked.

    Args:
        answer (`str`):
            The answer.
        intruders (`list[list]`):
            Start, end, language and whether it is a hard one, of each intruding word.
        words ([`~preferans.report_words.Words`]):
            The language.
    """
    pieces, done = [], 0
    for start, end, language, hard in sorted(intruders, key=lambda intruder: intruder[:2]):
        if not done <= start < end <= len(answer):
            continue  # it lies within the last one
        pieces.append(escape(answer[done:start]))
        title = f"{words('hard' if hard else 'soft')}: {words.foreign(language)}"
        kind = "hard" if hard else "soft"
        pieces.append(Markup('<mark class="{}" title="{}">{}</mark>').format(kind, title, answer[start:end]))
        done = end
    return Markup("").join([*pieces, escape(answer[done:])])


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
