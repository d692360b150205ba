"""Examples of the report: answers that changed most, with marks."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

from markupsafe import Markup, escape

from .words import Words, _shown

# Answers shown of each kind: fewer where several systems are compared, so that the page can still be read to its end.
SHOWN, SHOWN_OF_SEVERAL = 5, 3
# Shares that are neither 0 nor 1 in at least so many answers have a distribution worth a look.
WORTH_A_LOOK = 0.1


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
        words ([`~preferans.evaluation.report.words.Words`]):
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
