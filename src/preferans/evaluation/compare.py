"""The comparison of systems and runs as one record, scores.json: every figure with its interval, and what differs."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..data.persona import Persona
from ..data.ratings import CRITERIA
from ..errors import PreferansError
from ..files import read_json
from .answers import System, prompts_sha256
from .held_out import pair_scores
from .measures import MEASURES, confused, measure
from .probes import probe_measures
from .ranking import between, bradley_terry, length_controlled_win_rate, win_rate
from .statistics import CONFIDENCE, RESAMPLES, Score, difference_of, mean_of
from .verdicts import Verdicts, conversation

SCHEMA = 1


def compare(
    systems: Sequence[System],
    prompts: dict[str, list[dict]],
    command: str,
    baseline: System | None = None,
    references: dict[str, list[str]] | None = None,
    runs: Sequence[str] = (),
    verdicts: Verdicts | None = None,
    probes: dict[str, dict] | None = None,
    persona: Persona | None = None,
) -> dict[str, Any]:
    """
    All figures of a comparison.

    Args:
        systems (`Sequence[System]`):
            Systems that answered the same prompts, see [`~preferans.evaluation.answers.line_up`]; none where only runs are scored.
        prompts (`dict[str, list[dict]]`):
            The prompts by id.
        command (`str`):
            The command that asks for the comparison.
        baseline ([`System`], *optional*):
            The one of the systems with which the others are compared.
        references (`dict[str, list[str]]`, *optional*):
            Replies of people by id, with which models' answers are compared.
        runs (`Sequence[str]`, *optional*):
            Folders of finished runs.
        verdicts ([`~preferans.evaluation.verdicts.Verdicts`], *optional*):
            What judges said.
        probes (`dict[str, dict]`, *optional*):
            Probes by id, see [`~preferans.evaluation.probes.read_probes`]: what the answers to them should hold.
        persona ([`~preferans.data.persona.Persona`], *optional*):
            Character that all systems should keep.

    Returns:
        `dict`: the record, ready to be written as JSON; docs/scores.md describes it.
    """
    systems = sorted(systems, key=lambda system: (system is not baseline, system.kind == "human"))
    conversations = [conversation(prompt) for prompt in prompts.values()]
    measured = {system.name: _measured(system, prompts, references or {}, probes or {}, persona) for system in systems}

    def column(system: System, name: str) -> list[float | None]:
        return [values[name] for values in measured[system.name]]

    return {
        "schema": SCHEMA,
        "made": {
            "preferans": __version__,
            "command": command,
            "confidence": CONFIDENCE,
            "resamples": RESAMPLES,
        },
        "prompts": {"count": len(prompts), "sha256": prompts_sha256(prompts)},
        "baseline": baseline.name if baseline else None,
        "measures": {name: {"better": known.better, "unit": known.unit} for name, known in MEASURES.items()},
        "systems": [
            {
                "name": system.name,
                "kind": system.kind,
                "source": system.source,
                "weights": system.weights,
                "sampling": system.sampling,
                "persona": system.persona,
                "answers": len(system.rows),
                "scores": {name: score_as_json(mean_of(column(system, name), conversations)) for name in MEASURES},
            }
            for system in systems
        ],
        "comparisons": [
            {
                "system": system.name,
                "against": baseline.name,
                "differences": {
                    name: _difference(column(system, name), column(baseline, name), conversations, known.better)
                    for name, known in MEASURES.items()
                },
            }
            for system in systems
            if baseline and system is not baseline
        ],
        "runs": run_scores(runs),
        "verdicts": None if verdicts is None else _judged(verdicts, [system.name for system in systems]),
        "answers": [
            {
                "id": name,
                "prompt": prompt,
                "answers": [
                    {
                        "system": system.name,
                        "answer": system.rows[name]["answer"],
                        "finish_reason": system.rows[name]["finish_reason"],
                        "measures": measured[system.name][number],
                        "intruders": _intruders(system.rows[name]),
                    }
                    for system in systems
                ],
            }
            for number, (name, prompt) in enumerate(prompts.items())
        ],
    }


def score_as_json(score: Score) -> dict[str, float | int | None]:
    """A score as JSON knows it: a number that is not one becomes null."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in dataclasses.asdict(score).items()
    }


def run_scores(folders: Sequence[str]) -> list[dict[str, Any]]:
    """
    How finished runs do on their held-out pairs.

    Args:
        folders (`Sequence[str]`):
            Folders of `scripts/dpo.py` or `scripts/sft.py`.

    Returns:
        `list[dict]`: `name`, `folder` and `pairs` (see [`~preferans.evaluation.held_out.pair_scores`]) of each.

    Raises:
        [`PreferansError`]: when a folder is no finished run, or is named twice.
    """
    paths = [Path(folder) for folder in folders]
    names = [path.resolve().name for path in paths]
    if len({path.resolve() for path in paths}) < len(paths):
        raise PreferansError(f"{', '.join(folders)}: the same run is named twice. Name it once.")
    scored = []
    for path, name in zip(paths, names, strict=True):
        if not (path / "all_results.json").is_file() or not (path / "test_log_probs.json").is_file():
            if any(path.glob("*.jsonl")) and not (path / "provenance.json").is_file():
                raise PreferansError(
                    f"{path}: this folder is no run. If it holds answers, name its files: {path}/*.jsonl."
                )
            raise PreferansError(
                f"{path}: this is not a finished run. Give the command that trains it again; it goes on where it stopped."
            )
        tested = read_json(path / "test_log_probs.json")
        pairs = pair_scores(**{key: tested[key] for key in ("before", "after", "beta", "per_token", "groups")})
        scored.append(
            {
                "name": name if names.count(name) == 1 else path.as_posix(),
                "folder": path.as_posix(),
                "pairs": {key: score_as_json(score) for key, score in pairs.items()},
            }
        )
    return scored


def _measured(
    system: System,
    prompts: dict[str, list[dict]],
    references: dict[str, list[str]],
    probes: dict[str, dict],
    persona: Persona | None,
) -> list[dict[str, float | None]]:
    found = []
    for name, prompt in prompts.items():
        row = system.rows[name]
        more = {"probed": probe_measures(row, probes.get(name, {"prompt": prompt}), persona)}
        if system.kind != "human":  # people's replies are not compared with themselves
            more["references"] = references.get(name)
        found.append(measure(row | more))
    return found


def _difference(values: list, against: list, conversations: list[str], better: str | None) -> dict[str, Any]:
    difference, said = difference_of(values, against, conversations, better)
    return score_as_json(difference) | {"verdict": said}


def _intruders(row: dict) -> list[list]:
    found = confused(row)
    if not found.in_russian:
        return []
    return [[word.start, word.end, word.language or "unknown", word.hard] for word in found.intruders]


def _judged(verdicts: Verdicts, names: list[str]) -> dict[str, Any]:
    pairs = []
    for position, second in enumerate(names):
        for first in names[position + 1 :]:  # the one nearer to the front, such as the baseline, stands second
            votes = between(verdicts.votes, first, second)
            shares = [vote.share for vote in votes]
            if votes:
                pairs.append(
                    {
                        "systems": [first, second],
                        "wins": shares.count(1.0),
                        "losses": shares.count(0.0),
                        "ties": shares.count(0.5),
                        "unreadable": shares.count(None),
                        "win_rate": score_as_json(win_rate(votes)),
                        "length_controlled_win_rate": score_as_json(length_controlled_win_rate(votes)),
                    }
                )
    compared = [name for name in names if any(name in vote.systems for vote in verdicts.votes)]
    ranking = bradley_terry(verdicts.votes, compared)
    scored = {name: [(scores, about) for system, about, scores in verdicts.scores if system == name] for name in names}
    return {
        "sources": verdicts.sources,
        "pairs": pairs,
        "ranking": [
            {
                "system": name,
                "strength": score["value"],
                "low": score["low"],
                "high": score["high"],
                "verdicts": score["cases"],
            }
            for name, score in ((name, score_as_json(score)) for name, score in ranking.items())
        ],
        "criteria": [
            {
                "system": name,
                "unreadable": sum(scores is None for scores, _ in rows),
                "scores": {
                    criterion: score_as_json(
                        mean_of([(scores or {}).get(criterion) for scores, _ in rows], [about for _, about in rows])
                    )
                    for criterion in CRITERIA
                },
            }
            for name, rows in scored.items()
            if rows
        ],
    }
