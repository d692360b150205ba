"""
The report a person opens, and its short form for a model card: a story told from scores.json and the folders of its runs.

Nothing is measured here. Every figure is one of scores.json or of a run's provenance.json, in the words of `report_words`; the plots
are in `report_pictures`.
"""

import re
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ...files import read_json, write_text
from . import pictures
from .examples import _changed
from .tables import _costs, _distributions, _figure_table, _forests, _pair_table, _verdicts
from .words import GAIN, NOTHING, Words, _printable, _shown, _sides, _sign, digits

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
FEW_PROMPTS = 100
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
