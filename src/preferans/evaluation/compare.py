"""Compare systems and runs: every figure and difference, as scores.json."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import __version__
from ..data.persona import Persona
from ..data.ratings import CRITERIA
from ..errors import PreferansError
from .answers import System, prompts_sha256
from .held_out import check_same_pairs, read_tested, tested_scores
from .measures import MEASURES, confused, measure
from .people_votes import conversation
from .probes import probe_measures
from .ranking import Vote, between, bradley_terry, length_controlled_win_rate, win_rate
from .statistics import CONFIDENCE, RESAMPLES, difference_of, mean_of, score_as_json
from .verdicts import Verdicts

SCHEMA = 2


@dataclass
class Comparison:
    """
    Inputs of a comparison.

    Args:
        systems (`Sequence[System]`):
            Systems that answered the same prompts, see [`~preferans.evaluation.answers.line_up`]; empty if only runs are scored.
        prompts (`dict[str, list[dict]]`): The prompts by id.
        command (`str`): The command line, for the record.
        baseline ([`System`], *optional*): The system that the others are compared with.
        references (`dict[str, list[str]]`, *optional*): Human replies by id, for chrF++ and ROUGE-L of models' answers.
        runs (`Sequence[str]`, *optional*): Folders of finished runs.
        verdicts (`dict[str, Verdicts]`, *optional*): Verdicts of people and of judges, see
            [`~preferans.evaluation.verdicts.read_verdicts`].
        probes (`dict[str, dict]`, *optional*): Probes by id, see [`~preferans.evaluation.probes.read_probes`].
        persona ([`~preferans.data.persona.Persona`], *optional*): Character that all systems should keep.
        pairs (`Sequence[dict]`, *optional*): Datasets of [`~preferans.evaluation.other_pairs.read_pair_records`].
        groups (`dict`, *optional*): Groups of the runs, see [`~preferans.evaluation.run_groups.group_runs`].
    """

    systems: Sequence[System]
    prompts: dict[str, list[dict]]
    command: str
    baseline: System | None = None
    references: dict[str, list[str]] = field(default_factory=dict)
    runs: Sequence[str] = ()
    verdicts: dict[str, Verdicts] = field(default_factory=dict)
    probes: dict[str, dict] = field(default_factory=dict)
    persona: Persona | None = None
    pairs: Sequence[dict[str, Any]] = ()
    groups: dict[str, Any] | None = None

    def measured(self, system: System) -> list[dict[str, float | None]]:
        """Measure a system's answers, in the order of the prompts."""
        rows = []
        for name, prompt in self.prompts.items():
            row = system.rows[name]
            extra: dict[str, Any] = {
                "probed": probe_measures(row, self.probes.get(name, {"prompt": prompt}), self.persona)
            }
            if system.kind != "human":  # human replies are not compared with themselves
                extra["references"] = self.references.get(name)
            rows.append(measure(row | extra))
        return rows


def compare(inputs: Comparison) -> dict[str, Any]:
    """
    Compute all figures of a comparison.

    Returns:
        `dict`: the record, ready to be written as JSON; docs/scores.md describes it.
    """
    baseline, prompts = inputs.baseline, inputs.prompts
    systems = sorted(inputs.systems, key=lambda system: (system is not baseline, system.kind == "human"))
    conversations = [conversation(prompt) for prompt in prompts.values()]
    measured = {system.name: inputs.measured(system) for system in systems}
    columns = {
        name: {measure_name: [values[measure_name] for values in rows] for measure_name in MEASURES}
        for name, rows in measured.items()
    }
    return {
        "schema": SCHEMA,
        "made": {
            "preferans": __version__,
            "command": inputs.command,
            "confidence": CONFIDENCE,
            "resamples": RESAMPLES,
        },
        "prompts": {"count": len(prompts), "sha256": prompts_sha256(prompts)},
        "baseline": baseline.name if baseline else None,
        "measures": {name: {"better": known.better, "unit": known.unit} for name, known in MEASURES.items()},
        "systems": [_system_record(system, columns[system.name], conversations) for system in systems],
        "comparisons": [
            {
                "system": system.name,
                "against": baseline.name,
                "differences": _differences(columns[system.name], columns[baseline.name], conversations),
            }
            for system in systems
            if baseline and system is not baseline
        ],
        "runs": run_scores(inputs.runs),
        "groups": inputs.groups,
        "pairs": list(inputs.pairs),
        "verdicts": [
            {"kind": kind} | _judged(verdicts, [system.name for system in systems])
            for kind, verdicts in inputs.verdicts.items()
        ],
        "answers": [
            {
                "id": name,
                "prompt": prompt,
                "answers": [_answer_record(system, name, measured[system.name][number]) for system in systems],
            }
            for number, (name, prompt) in enumerate(prompts.items())
        ],
    }


def _system_record(system: System, columns: dict[str, list], conversations: list[str]) -> dict[str, Any]:
    return {
        "name": system.name,
        "kind": system.kind,
        "source": system.source,
        "weights": system.weights,
        "sampling": system.sampling,
        "persona": system.persona,
        "answers": len(system.rows),
        "scores": {name: score_as_json(mean_of(values, conversations)) for name, values in columns.items()},
    }


def _differences(columns: dict[str, list], against: dict[str, list], conversations: list[str]) -> dict[str, Any]:
    differences = {}
    for name, known in MEASURES.items():
        difference, verdict = difference_of(columns[name], against[name], conversations, known.better)
        differences[name] = score_as_json(difference) | {"verdict": verdict}
    return differences


def _answer_record(system: System, name: str, measures: dict[str, float | None]) -> dict[str, Any]:
    row = system.rows[name]
    languages = confused(row)
    intruders = languages.intruders if languages.in_russian else []
    return {
        "system": system.name,
        "answer": row["answer"],
        "finish_reason": row["finish_reason"],
        "measures": measures,
        "intruders": [[word.start, word.end, word.language or "unknown", word.hard] for word in intruders],
    }


def run_scores(folders: Sequence[str]) -> list[dict[str, Any]]:
    """
    Score finished runs on their held-out pairs.

    Args:
        folders (`Sequence[str]`): Folders of `scripts/dpo.py` or `scripts/sft.py`.

    Returns:
        `list[dict]`: `name`, `folder` and `pairs` (see [`~preferans.evaluation.held_out.tested_scores`]) of each.

    Raises:
        [`PreferansError`]: if a folder is not a finished run, or is named twice, or runs were scored on different test pairs.
    """
    paths = [Path(folder) for folder in folders]
    names = [path.resolve().name for path in paths]
    if len({path.resolve() for path in paths}) < len(paths):
        raise PreferansError(f"{', '.join(folders)}: the same run is named twice. Name it once.")
    scored = []
    for path, name in zip(paths, names, strict=True):
        pairs = tested_scores(read_tested(path))
        scored.append(
            {
                "name": name if names.count(name) == 1 else path.as_posix(),
                "folder": path.as_posix(),
                "pairs": {key: score_as_json(score) for key, score in pairs.items()},
            }
        )
    check_same_pairs(folders)
    return scored


def _judged(verdicts: Verdicts, names: list[str]) -> dict[str, Any]:
    compared = [name for name in names if any(name in vote.systems for vote in verdicts.votes)]
    ranking = {name: score_as_json(score) for name, score in bradley_terry(verdicts.votes, compared).items()}
    return {
        "sources": verdicts.sources,
        "pairs": _pair_records(verdicts.votes, names),
        "ranking": [
            {
                "system": name,
                "strength": score["value"],
                "low": score["low"],
                "high": score["high"],
                "verdicts": score["cases"],
            }
            for name, score in ranking.items()
        ],
        "criteria": _criteria_records(verdicts, names),
    }


def _pair_records(votes: Sequence[Vote], names: list[str]) -> list[dict[str, Any]]:
    pairs = []
    for position, second in enumerate(names):
        for first in names[position + 1 :]:  # the system nearer to the front, such as the baseline, is the second
            pair_votes = between(votes, first, second)
            shares = [vote.share for vote in pair_votes]
            if pair_votes:
                pairs.append(
                    {
                        "systems": [first, second],
                        "wins": shares.count(1.0),
                        "losses": shares.count(0.0),
                        "ties": shares.count(0.5),
                        "unreadable": shares.count(None),
                        "win_rate": score_as_json(win_rate(pair_votes)),
                        "length_controlled_win_rate": score_as_json(length_controlled_win_rate(pair_votes)),
                    }
                )
    return pairs


def _criteria_records(verdicts: Verdicts, names: list[str]) -> list[dict[str, Any]]:
    records = []
    for name in names:
        rows = [(scores, about) for system, about, scores in verdicts.scores if system == name]
        means = {
            criterion: mean_of([(scores or {}).get(criterion) for scores, _ in rows], [about for _, about in rows])
            for criterion in CRITERIA
        }
        if rows:
            records.append(
                {
                    "system": name,
                    "unreadable": sum(scores is None for scores, _ in rows),
                    "scores": {criterion: score_as_json(score) for criterion, score in means.items()},
                }
            )
    return records
