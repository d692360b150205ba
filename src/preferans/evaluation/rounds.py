"""Compare the rounds of a model that improves itself, and find the first regression."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .answers import System
from .measures import MEASURES, measure
from .other_pairs import PAIRS_FILE, read_pair_records
from .people_votes import conversation
from .probes import probe_measures
from .statistics import difference_of, mean_of, score_as_json

# Measures that must not become significantly worse, nor lower if neither direction is better.
GUARDS = ("empty", "complete", "loops", "in_russian", "intrusion", "known_words", "distinct_2", "chrf")
_MEASURED = (*GUARDS, "length")  # the length is neither better nor worse, but explains the others


def compare_rounds(
    base: System,
    rounds: Sequence[System],
    prompts: dict[str, list[dict]],
    references: dict[str, list[str]],
    runs: Sequence[Path],
) -> dict[str, Any]:
    """
    Compare each round with the one before and with the base, and stop at the first regression.

    Args:
        base ([`System`]): The base model's answers.
        rounds (`Sequence[System]`): The answers of each round, the first one first.
        prompts (`dict[str, list[dict]]`): The held-out prompts by id.
        references (`dict[str, list[str]]`): People's replies by id; without them, likeness is not a guard.
        runs (`Sequence[Path]`): The run of each round. If it scored `eval_pairs`, they are a guard too.

    Returns:
        `dict`: `guards`; `base`, its scores; `rounds` (`name`, `run`, `scores`, `against_previous` and `against_base`: the difference and verdict of each guard,
        `pairs`: the gain on each of `eval_pairs`, and `regressions`, a list of guards and pairs); `best`, the last round before a regression, or
        the base; and `stopped`.
    """
    conversations = [conversation(prompt) for prompt in prompts.values()]
    measured = {one.name: _columns(one, prompts, references) for one in (base, *rounds)}
    records: list[dict[str, Any]] = []
    best, stopped, previous = base, False, base
    for system, run in zip(rounds, runs, strict=True):
        own = measured[system.name]
        record = {"name": system.name, "run": run.as_posix(), "scores": _means(own, conversations)}
        for kind, against in (("against_previous", previous), ("against_base", base)):
            record[kind] = _differences(own, measured[against.name], conversations)
        record["pairs"] = _pair_gains(run)
        record["regressions"] = _regressions(record)
        records.append(record)
        stopped = bool(record["regressions"])
        if stopped:
            break
        best = previous = system
    return {
        "guards": list(GUARDS),
        "base": {"name": base.name, "scores": _means(measured[base.name], conversations)},
        "rounds": records,
        "best": best.name,
        "stopped": stopped,
    }


def _columns(
    system: System, prompts: dict[str, list[dict]], references: dict[str, list[str]]
) -> dict[str, list[float | None]]:
    """Measure a system's answers: the guards and the length as columns, in the order of the prompts."""
    rows = []
    for name, prompt in prompts.items():
        row = system.rows[name]
        extra = {"probed": probe_measures(row, {"prompt": prompt}, None), "references": references.get(name)}
        rows.append(measure(row | extra))
    return {name: [row[name] for row in rows] for name in _MEASURED}


def _means(columns: dict[str, list[float | None]], conversations: list[str]) -> dict[str, dict]:
    scores = {name: mean_of(values, conversations) for name, values in columns.items()}
    return {name: score_as_json(score) for name, score in scores.items() if score.cases}


def _differences(
    columns: dict[str, list[float | None]], against: dict[str, list[float | None]], conversations: list[str]
) -> dict[str, dict]:
    differences = {}
    for name in GUARDS:
        score, found = difference_of(columns[name], against[name], conversations, MEASURES[name].better)
        if score.cases:
            differences[name] = score_as_json(score) | {"verdict": found}
    return differences


def _regressions(record: dict[str, Any]) -> list[str]:
    """Name the guards that are significantly worse than in the round before or than the base, and the pairs with a loss."""
    found = []
    for kind in ("against_previous", "against_base"):
        for name, difference in record[kind].items():
            if difference["verdict"] in ("worse", "lower"):
                found.append(name)
    found += [name for name, gain in record["pairs"].items() if gain["high"] < 0]
    return list(dict.fromkeys(found))


def _pair_gains(run: Path) -> dict[str, dict[str, Any]]:
    """Return by dataset of `eval_pairs` the gain in accuracy over the round's reference, the round before."""
    path = run / PAIRS_FILE
    if not path.is_file():
        return {}
    return {
        record["name"]: record["systems"][0]["scores"]["test_normalised_accuracy_gain"]
        for record in read_pair_records([str(path)])
    }
