"""Answers that the report shows side by side: unpicked ones, and those that changed most."""

from itertools import combinations
from typing import Any

from markupsafe import Markup, escape

from .words import Words, text_or_json

# Answers in each group; fewer with several comparisons, so that the page stays readable.
SHOWN, SHOWN_OF_SEVERAL = 5, 3
PARTS_SHOWN = 4

Measures = dict[str, tuple[str | None, str]]


def changes(old: dict[str, Any], new: dict[str, Any], measures: Measures) -> dict[str, float]:
    """
    Compare two answers to one prompt, measure by measure.

    Args:
        old (`dict`), new (`dict`): Two answers of scores.json.
        measures (`dict[str, tuple]`): Better direction (`"higher"`, `"lower"` or `None`) and unit of each measure.

    Returns:
        `dict[str, float]`: from -1 to 1, positive if `new` is better. Only measures with a better direction that both answers
        have; an empty answer gets the worst value of each measure that the other one has.
    """
    parts = {}
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
        parts[name] = (values[1] - values[0]) / top * (1 if better == "higher" else -1)
    return parts


def _total(parts: dict[str, float]) -> float:
    return round(sum(parts.values()), 9)  # equal sums stay equal despite rounding errors


def first_answers(scores: dict[str, Any], words: Words) -> dict[str, Any] | None:
    """Return the first prompt and the middle one, with the answers of at most two systems."""
    rows, comparisons = scores["answers"], scores["comparisons"]
    if not rows:
        return None
    names = [system["name"] for system in scores["systems"]][:2]
    if comparisons:
        names = [comparisons[0]["against"], comparisons[0]["system"]]
    numbers = sorted({0, len(rows) // 2})
    return {
        "title": words("first_answers" if comparisons else "first_answers_single"),
        "articles": [_article(rows[number], names, {}, words) for number in numbers],
    }


class _Groups:
    """Groups of answers, and the prompts that are already shown."""

    def __init__(self, rows: list[dict[str, Any]], words: Words):
        self.rows, self.words = rows, words
        self.groups: list[dict[str, Any]] = []
        self.shown: set[int] = set()

    def add(
        self, title: str, numbers: list[int], systems: list[str], parts: list[dict] | None, none: str = ""
    ) -> None:
        self.shown.update(numbers)
        articles = [
            _article(self.rows[number], systems, parts[number] if parts else {}, self.words) for number in numbers
        ]
        self.groups.append({"title": title, "articles": articles, "none": none})


def changed_answers(scores: dict[str, Any], measures: Measures, words: Words) -> dict[str, Any] | None:
    """Return the answers that changed most, in groups, and the rule by which they were chosen."""
    rows = scores["answers"]
    if not rows:
        return None
    names = [system["name"] for system in scores["systems"]]
    by_system = [{answer["system"]: answer for answer in row["answers"]} for row in rows]
    count = SHOWN if len(scores["comparisons"]) < 2 else SHOWN_OF_SEVERAL
    groups = _Groups(rows, words)
    if scores["comparisons"]:
        rule = words("changed_rule")
        for comparison in scores["comparisons"]:
            _add_changed(groups, comparison, by_system, measures, count, len(scores["comparisons"]) > 1)
    elif len(names) > 1:
        rule = words("spread_rule")
        spread = [
            max(abs(_total(changes(answers[a], answers[b], measures))) for a, b in combinations(names, 2))
            for answers in by_system
        ]
        order = sorted(range(len(rows)), key=lambda number: -spread[number])
        largest = [number for number in order if spread[number] > 0][:count]
        groups.add(words("spread"), largest, names, None, words("nothing"))
    else:
        rule = words("single_rule")
        best_values = {
            name: 0.0 if better != "higher" else 1.0 if unit == "share" else 100.0
            for name, (better, unit) in measures.items()
        }
        best = {"answer": "-", "measures": best_values}
        parts = [changes(best, answers[names[0]], measures) for answers in by_system]
        order = sorted(range(len(rows)), key=lambda number: _total(parts[number]))
        groups.add(words("worst"), order[:count], names, parts)
    rest = [number for number in range(len(rows)) if number not in groups.shown]
    steps = [rest[step * len(rest) // count] for step in range(min(count, len(rest)))]
    groups.add(words("unpicked"), list(dict.fromkeys(steps)), names, None, words("nothing"))
    return {"rule": rule, "groups": groups.groups}


def _add_changed(
    groups: _Groups, comparison: dict[str, Any], by_system: list[dict], measures: Measures, count: int, several: bool
) -> None:
    words, pair = groups.words, [comparison["against"], comparison["system"]]
    parts = [changes(answers[pair[0]], answers[pair[1]], measures) for answers in by_system]
    total = [_total(part) for part in parts]
    gains = sorted((number for number in range(len(total)) if total[number] > 0), key=lambda number: -total[number])
    losses = sorted((number for number in range(len(total)) if total[number] < 0), key=lambda number: total[number])
    for key, numbers, none in (("gains", gains, "none_gained"), ("losses_shown", losses, "none_lost")):
        title = f"{words.versus(**comparison)}: {words(key).lower()}" if several else words(key)
        groups.add(title, numbers[:count], pair, parts, words(none))


def _article(row: dict[str, Any], systems: list[str], parts: dict[str, float], words: Words) -> dict[str, Any]:
    answers = {answer["system"]: answer for answer in row["answers"]}
    largest = sorted(parts.items(), key=lambda item: -abs(item[1]))[:PARTS_SHOWN]
    items = "; ".join(
        f"{words.title(name)} {words.number(value, 2, True)}" for name, value in largest if abs(value) >= 0.005
    )
    roles = {"user": words("person"), "assistant": words("assistant"), "system": words("system_message")}
    return {
        "prompt": [
            {"role": turn["role"], "who": roles.get(turn["role"], turn["role"]), "text": text_or_json(turn["content"])}
            for turn in row["prompt"]
        ],
        "change": words("change", value=words.number(sum(parts.values()), 2, True)) if parts else "",
        "parts": words("by_measures", items=items) if parts else "",
        "answers": [
            {
                "system": name,
                "text": answers[name]["answer"],
                "html": highlight(answers[name]["answer"], answers[name]["intruders"], words),
                "note": _ending(answers[name], words),
            }
            for name in systems
        ],
    }


def _ending(answer: dict[str, Any], words: Words) -> str:
    if not answer["answer"].strip():
        return words("empty_answer")
    return {"stop": words("stopped"), "length": words("cut")}.get(answer["finish_reason"], "")


def highlight(answer: str, intruders: list[list], words: Words) -> Markup:
    """
    Return an answer as HTML with its intruding words marked.

    Args:
        answer (`str`)
        intruders (`list[list]`): Start, end, language code, and whether it is in another script, of each intruding word.
        words ([`~preferans.evaluation.report.words.Words`])
    """
    pieces, done = [], 0
    for start, end, language, hard in sorted(intruders, key=lambda intruder: intruder[:2]):
        if not done <= start < end <= len(answer):
            continue  # it overlaps with the previous one
        kind = "hard" if hard else "soft"
        title = f"{words(kind)}: {words.foreign(language)}"
        mark = Markup('<mark class="{}" title="{}">{}</mark>').format(kind, title, answer[start:end])
        pieces += [escape(answer[done:start]), mark]
        done = end
    return Markup("").join([*pieces, escape(answer[done:])])
