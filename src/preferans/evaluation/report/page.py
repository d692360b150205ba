"""The report: report.html for people and report.md for a model card."""

import re
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ...files import read_json, write_text
from . import pictures
from .examples import changed_answers, first_answers
from .tables import (
    costs,
    distributions,
    figure_table,
    forests,
    gain_verdict,
    group_tables,
    has_cases,
    other_pair_tables,
    pair_table,
    verdict_tables,
)
from .words import ABSENT, GAIN, Words, digits, printable, text_or_json

# Training curves: key in words_*.yaml, keys of the trainer's log with the label of each line, reference level, unit
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
_BREAK = re.compile(r"[^\S\u00a0]+")  # any white space except a non-breaking space
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~&])")


def write_report(folder: str | Path, scores: dict[str, Any], language: str = "en") -> list[Path]:
    """
    Write `report.html` and `report.md`. The same scores and runs give the same bytes.

    Nothing is measured here: every figure is in scores.json or in a run's provenance.json.

    Args:
        folder (`str` or `Path`): Output folder.
        scores (`dict`): Content of scores.json.
        language (`str`, *optional*, defaults to `"en"`): `"en"` or `"ru"`.

    Returns:
        `list[Path]`: the files.

    Raises:
        [`PreferansError`]: if a run's folder is not at the path that scores.json has.
    """

    words = Words(language)
    content = _content(scores, words)
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
        page = environment.get_template(f"{name}.jinja").render(content, w=words, language=language)
        written.append(Path(folder) / name)
        write_text(written[-1], printable(page))
    return written


def _markdown(text: str) -> str:
    """Escape a text as one line of Markdown."""
    return _MARKDOWN.sub(r"\\\1", _BREAK.sub(" ", text))


def _content(scores: dict[str, Any], words: Words) -> dict[str, Any]:
    """Return everything that the templates show, in the order of the page."""
    measures = {name: (known["better"], known["unit"]) for name, known in scores["measures"].items()}
    names = [system["name"] for system in scores["systems"]]
    runs = [_with_files(run) for run in scores["runs"]]
    comparisons = [_compared(comparison, scores, measures, words) for comparison in scores["comparisons"]]
    return {
        "title": ", ".join([run["name"] for run in runs] + names),
        "headline": _headline(scores, comparisons, words),
        "forests": forests(scores, measures, words),
        "first": first_answers(scores, words),
        "comparisons": comparisons,
        "findings": _findings(scores, words),
        "notes": _notes(scores, words),
        "names": names,
        "figure_table": figure_table(scores, measures, words),
        "pair_table": pair_table(runs, words),
        "groups": group_tables(scores["groups"], words),
        "other_pairs": other_pair_tables(scores["pairs"], words),
        "verdicts": [verdict_tables(verdicts, words) for verdicts in scores["verdicts"]],
        "distributions": distributions(scores, measures, words),
        "changed": changed_answers(scores, measures, words),
        "curves": [(run["name"], _curves(number, run["log"], words)) for number, run in enumerate(runs)],
        "costs": costs(runs, words),
        "runs": [_run_details(run, words) for run in runs],
        "systems": [_system_details(system, words) for system in scores["systems"]],
        "prompts": scores["prompts"],
        "made": scores["made"],
        "confidence": _confidence(scores, words),
    }


def _with_files(run: dict[str, Any]) -> dict[str, Any]:
    folder = Path(run["folder"])
    return run | {
        "provenance": read_json(folder / "provenance.json"),
        "log": read_json(folder / "trainer_state.json")["log_history"],
        "per_token": read_json(folder / "test_log_probs.json")["per_token"],
    }


def _confidence(scores: dict[str, Any], words: Words) -> str:
    return words.number(100 * scores["made"]["confidence"]) + words.percent_sign


def _headline(scores: dict[str, Any], comparisons: list[dict[str, Any]], words: Words) -> list[str]:
    """Return the answer in one line for each comparison, or what was scored if nothing was compared."""
    systems, prompts = scores["systems"], words.plural("on_prompts", scores["prompts"]["count"])
    truth = words("judged_below" if scores["verdicts"] else "truth_not_measured")
    if not systems:
        return [words("summary_no_answers")]
    if len(systems) == 1:
        return [words("summary_single", system=systems[0]["name"], prompts=prompts)]
    if not comparisons:
        return [
            words("summary_uncompared", systems=words.plural("systems", len(systems)).capitalize(), prompts=prompts)
        ]
    people = {system["name"] for system in systems if system["kind"] == "human"}
    of_models = [one for one in comparisons if one["pair"]["system"] not in people] or comparisons
    return [f"{words(one['headline'], **one['pair'])}, {prompts}; {truth}." for one in of_models]


def _findings(scores: dict[str, Any], words: Words) -> list[str]:
    """Return what training and verdicts showed, as sentences."""
    lines = []
    for run in scores["runs"]:
        gain = run["pairs"].get(GAIN)
        if not has_cases(gain):
            continue
        before, after = (run["pairs"][f"test_normalised_accuracy_{when}"] for when in ("before", "after"))
        places = digits("share", [before, after], [gain])
        lines.append(
            words(
                "summary_pairs",
                run=run["name"],
                pairs=words.plural("on_pairs", gain["cases"]),
                before=words.measure(before["value"], "share", places),
                after=words.measure(after["value"], "share", places),
                difference=words.measure(gain["value"], "share", places, True),
                verdict=words.verdict(gain_verdict(gain)),
            )
        )
        if sentence := _length_sentence(run, words):
            lines.append(sentence)
    for verdicts in scores["verdicts"]:
        if len(ranking := verdicts["ranking"]) > 1:
            near = ", ".join(row["system"] for row in ranking[1:] if row["high"] >= ranking[0]["low"])
            key = "summary_not_first" if near else "summary_first"
            lines.append(
                words(key, by=words.tables["judges"][verdicts["kind"]]["by"], system=ranking[0]["system"], others=near)
            )
    return lines


def _length_sentence(run: dict[str, Any], words: Words) -> str:
    """Say that a run's gain depends on the length of the answers, if the intervals of both kinds of pairs do not overlap."""
    longer, shorter, balanced = (
        run["pairs"].get(name)
        for name in (
            "test_accuracy_gain_chosen_longer",
            "test_accuracy_gain_chosen_shorter",
            "test_balanced_accuracy_gain",
        )
    )
    if not (has_cases(longer) and has_cases(shorter) and has_cases(balanced)):
        return ""
    if not (longer["low"] > shorter["high"] or shorter["low"] > longer["high"]):
        return ""
    figures = {
        name: f"{words.measure(score['value'], 'share', 0, True)} {words.interval(score, 'share', 0, True)}"
        for name, score in (("longer", longer), ("shorter", shorter), ("balanced", balanced))
    }
    what = words("longer" if longer["value"] > shorter["value"] else "shorter")
    return words("summary_length", run=run["name"], what=what, **figures)


def _notes(scores: dict[str, Any], words: Words) -> list[str]:
    """Return what the figures do not show."""
    notes = []
    if scores["comparisons"]:
        notes += [text for one in scores["comparisons"] if (text := _other_causes(one, scores, words))]
        if scores["prompts"]["count"] < FEW_PROMPTS:
            notes.append(words("few_prompts"))
        tests = sum(has_cases(score) for one in scores["comparisons"] for score in one["differences"].values())
        notes.append(
            words(
                "by_chance",
                comparisons=words.plural("comparisons", tests),
                confidence=_confidence(scores, words),
                one_in=words.number(1 / (1 - scores["made"]["confidence"])),
            )
        )
    if scores["systems"]:
        notes.append(words("not_quality"))
    return notes


def _other_causes(comparison: dict[str, Any], scores: dict[str, Any], words: Words) -> str:
    """State in what two systems of one base model differ beside the adapter, which may also cause their differences."""
    systems = {system["name"]: system for system in scores["systems"]}
    one, other = (systems[comparison[key]] for key in ("system", "against"))
    differing = []
    for kind in ("weights", "sampling"):
        values, against = one.get(kind) or {}, other.get(kind) or {}
        differing += [key for key in values if key in against and values[key] != against[key]]
    causes = [key for key in differing if key != "sha256"]
    if not causes or not one.get("weights") or "model_name_or_path" in causes:
        return ""
    return words("other_causes", system=one["name"], against=other["name"], keys=", ".join(causes))


def _compared(comparison: dict[str, Any], scores: dict[str, Any], measures: dict, words: Words) -> dict[str, Any]:
    """Sort the measures of a comparison into better, worse, other and unclear."""
    pair = {key: comparison[key] for key in ("system", "against")}
    figures = {system["name"]: system["scores"] for system in scores["systems"]}
    sides: dict[str, list] = {"better": [], "worse": [], "other": [], "unknown": []}
    for name, (_, unit) in measures.items():
        difference = comparison["differences"].get(name)
        if not has_cases(difference):
            continue
        old, new = figures[pair["against"]][name], figures[pair["system"]][name]
        places = digits(unit, [old, new], [difference])
        side = {"higher": "other", "lower": "other", "no_detectable_difference": "unknown"}.get(difference["verdict"])
        sides[side or difference["verdict"]].append(
            {
                "title": words.title(name),
                "old": words.measure(old["value"], unit, places),
                "new": words.measure(new["value"], unit, places),
                "difference": words.measure(difference["value"], unit, places, True),
            }
        )
    headline = {
        (True, False): "headline_better",
        (False, True): "headline_worse",
        (True, True): "headline_mixed",
        (False, False): "headline_same",
    }[bool(sides["better"]), bool(sides["worse"])]
    return {
        "pair": pair,
        "headline": headline,
        "lead": words("summary_compared", **pair, prompts=words.plural("on_prompts", scores["prompts"]["count"])),
        "nothing_differs": not (sides["better"] or sides["worse"] or sides["other"]),
        **sides,
    }


def _run_details(run: dict[str, Any], words: Words) -> dict[str, Any]:
    provenance = run["provenance"]
    model, dataset, measured = provenance["model"], provenance["dataset"], provenance.get("measured", {})
    revision = f" ({model['revision']})" if model.get("revision") else ""
    facts = [
        ("recipe", provenance["recipe"]),
        ("base_model", f"{model['name']}{revision}"),
        ("weights", ", ".join(f"{file} {checksum}" for file, checksum in model["weights_sha256"].items())),
        ("data", dataset["name"]),
        ("fingerprint", dataset["fingerprint"]),
        ("seed", provenance["seed"]),
        ("hardware", measured.get("device")),
        ("processes", measured.get("world_size")),
        ("precision", measured.get("precision")),
        ("kernels", measured.get("kernels")),
        (
            "memory_switches",
            ", ".join(f"{key} {text_or_json(on)}" for key, on in provenance.get("switches", {}).items()),
        ),
        ("versions", ", ".join(f"{name} {version}" for name, version in provenance["packages"].items())),
        ("platform", f"{provenance['platform']}, Python {provenance['python']}"),
        ("commit", provenance["git_commit"]),
    ]
    pairs = words("data_pairs", train=words.number(dataset["train_pairs"]), test=words.number(dataset["test_pairs"]))
    return {
        "name": run["name"],
        "facts": [
            (words(label), str(value), pairs if label == "data" else "")
            for label, value in facts
            if value not in (None, "")
        ],
        "keys": [(key, text_or_json(value)) for key, value in provenance["keys"].items()],
    }


def _system_details(system: dict[str, Any], words: Words) -> dict[str, str]:
    weights, sampling = system.get("weights") or {}, system.get("sampling") or {}
    model = words("human") if system["kind"] == "human" else weights.get("model_name_or_path") or words("unknown")
    return {
        "name": system["name"],
        "source": system["source"],
        "model": model,
        "sampling": ", ".join(f"{key} {text_or_json(value)}" for key, value in sampling.items()) or ABSENT,
        "answers": words.number(system["answers"]),
    }


def _curves(run: int, log: list[dict[str, Any]], words: Words) -> list[dict[str, Any]]:
    drawn = []
    for name, keys, level, unit in CURVES:
        lines = {}
        for key, label in keys.items():
            points = pictures.finite([(row["step"], row[key]) for row in log if key in row])
            if points:
                lines[label] = [(step, value / unit) for step, value in points]
        if not lines:
            continue
        texts = words.tables["curves"][name]
        label = "; ".join(
            words(
                "curve_label",
                title=f"{texts['title']} ({words(line)})" if line else texts["title"],
                first=words.number(points[0][1], 2),
                first_step=words.number(points[0][0]),
                last=words.number(points[-1][1], 2),
                last_step=words.number(points[-1][0]),
            )
            for line, points in lines.items()
        )
        picture = pictures.curve(f"{run} {name}", list(lines.values()), level, label, words)
        drawn.append({**texts, "legend": [words(line) for line in lines if line], "svg": Markup(picture)})
    return drawn
