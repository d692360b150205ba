"""Compare groups of runs, such as those of a sweep or a run's controls, over their seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import PreferansError, did_you_mean
from ..files import read_json
from .held_out import check_same_pairs, pair_values, read_tested
from .statistics import (
    LEAST_CONVERSATIONS,
    NO_DIFFERENCE,
    Score,
    interval,
    resampled,
    score_as_json,
    smallest_difference,
    verdict,
)

_GAIN = "test_normalised_accuracy_gain"
_REWARD = "test_reward_accuracy"
_FIGURES = (_GAIN, "test_balanced_accuracy_gain", _REWARD)


@dataclass
class RunGroup:
    """
    Runs that differ in their seed only.

    Attributes:
        name (`str`): The value of the key that groups the runs.
        seeds (`list[int]`): Seed of each run, ascending.
        values (`dict[str, np.ndarray]`): By figure, the value of each run and pair, of shape `(runs, pairs)`.
    """

    name: str
    seeds: list[int]
    values: dict[str, np.ndarray]


def group_runs(folders: Sequence[str], group_by: Sequence[str]) -> dict[str, Any]:
    """
    Compare finished runs by keys of their recipes.

    Intervals of groups and of their paired differences draw conversations and seeds. With one seed, they draw conversations only.

    Args:
        folders (`Sequence[str]`): Folders of `scripts/dpo.py`, scored on the same test pairs.
        group_by (`Sequence[str]`): Keys of their recipes, such as `loss_type` and `control`.

    Returns:
        `dict`: `keys`, `groups` (`name`, `runs`, `seeds`, `scores`, and `by_seed`, the gain of each), and `comparisons` of every two groups (`system`,
        `against`, shared `seeds`, and `differences` of the gain and of the reward accuracy, each with its verdict and the `smallest` difference
        that the test shows). Groups without a control come first.

    Raises:
        [`PreferansError`]: if no run has a key, two runs of a group have the same seed, or runs differ in more keys.
    """
    tested_of = {folder: read_tested(Path(folder)) for folder in folders}
    check_same_pairs(folders)
    records = [(folder, read_json(Path(folder) / "provenance.json")) for folder in folders]
    known = {name for _, record in records for name in record["keys"]}
    for key in group_by:
        if key not in known | {"control"}:
            raise PreferansError(f"--group_by {key}: no run sets this key.{did_you_mean(key, known)}")
    _check_other_keys(records, group_by)
    records.sort(key=lambda one: one[1]["keys"].get("control") or "")
    members: dict[str, list[tuple[int, str]]] = {}
    for folder, record in records:
        members.setdefault(_name(record["keys"], group_by), []).append((record["seed"], folder))
    groups, conversations = [], []
    for name, runs in members.items():
        seeds = [seed for seed, _ in sorted(runs)]
        if len(set(seeds)) < len(seeds):
            raise PreferansError(
                f"--group_by {' '.join(group_by)}: two runs of the group '{name}' have the same seed. Name one of them."
            )
        tested = [tested_of[folder] for _, folder in sorted(runs)]
        conversations = tested[0]["groups"]
        groups.append(RunGroup(name, seeds, _values(tested)))
    lengths = _lengths(tested[0]["before"])
    return {
        "keys": list(group_by),
        "groups": [_group_record(group, conversations, lengths) for group in groups],
        "comparisons": [_compared(one, other, conversations) for one, other in combinations(groups, 2)],
    }


def _name(keys: dict[str, Any], group_by: Sequence[str]) -> str:
    """Describe a group by the values of its keys; a key that is not set is left out."""
    values = {key: keys[key] for key in group_by if keys.get(key) is not None}
    texts = ("+".join(map(str, one)) if isinstance(one, list) else str(one) for one in values.values())
    return ", ".join(f"{key} {text}" for key, text in zip(values, texts, strict=True)) or f"no {group_by[0]}"


def _check_other_keys(records: list[tuple[str, dict]], group_by: Sequence[str]) -> None:
    """Raise an error if runs differ in another key than the seed and the folder: the difference would have two causes."""
    ignored = {*group_by, "seed", "output_dir", "push_to_hub", "run_name"}
    (first, base), *others = [
        (folder, {name: value for name, value in record["keys"].items() if name not in ignored})
        for folder, record in records
    ]
    for folder, keys in others:
        for name in sorted({*base, *keys}):
            if base.get(name) != keys.get(name):
                raise PreferansError(
                    f"--group_by {' '.join(group_by)}: {first} and {folder} also differ in {name} ({base.get(name)}, {keys.get(name)}). Add this "
                    "key to --group_by, or name other runs."
                )


def _values(tested: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    rows = [pair_values(one["before"], one["after"], one["beta"], one["per_token"]) for one in tested]
    return {name: np.array([row[name] for row in rows]) for name in (_GAIN, _REWARD)}


def _lengths(pairs: list[dict[str, float]]) -> np.ndarray:
    """Return 1 where the chosen answer has more tokens, -1 where it has fewer, 0 otherwise."""
    return np.array([np.sign(pair["chosen_tokens"] - pair["rejected_tokens"]) for pair in pairs])


def _drawn_mean(
    values: np.ndarray, conversations: Sequence[str], keep: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """Return the mean of values of shape `(runs, pairs)`, and the means of resampled conversations and runs."""
    runs = len(values)
    weight = np.ones(values.shape[1]) if keep is None else keep.astype(float)
    group, drawn = resampled(conversations)
    sums = np.stack([np.bincount(group, weights=weight * row) for row in values])
    sizes = np.bincount(group, weights=weight)
    seeds = np.random.default_rng(1).integers(runs, size=(len(drawn), runs))
    by_run = sums[:, drawn].sum(axis=2) / np.maximum(sizes[drawn].sum(axis=1), 1e-9)  # (runs, resamples)
    means = by_run[seeds, np.arange(len(drawn))[:, None]].mean(axis=1)
    return float((values * weight).sum() / (weight.sum() * runs)), means


def _score(values: np.ndarray, conversations: Sequence[str]) -> Score:
    value, means = _drawn_mean(values, conversations)
    return Score(value, *interval(means), values.shape[1])


def _balanced_score(values: np.ndarray, conversations: Sequence[str], lengths: np.ndarray) -> Score | None:
    if not {-1.0, 1.0} <= set(lengths):
        return None
    parts = [_drawn_mean(values, conversations, lengths == side) for side in (-1, 1)]
    means = (parts[0][1] + parts[1][1]) / 2
    return Score((parts[0][0] + parts[1][0]) / 2, *interval(means), int((lengths != 0).sum()))


def _group_record(group: RunGroup, conversations: Sequence[str], lengths: np.ndarray) -> dict[str, Any]:
    scores = {name: _score(values, conversations) for name, values in group.values.items()}
    if balanced := _balanced_score(group.values[_GAIN], conversations, lengths):
        scores["test_balanced_accuracy_gain"] = balanced
    return {
        "name": group.name,
        "runs": len(group.seeds),
        "seeds": group.seeds,
        "scores": {name: score_as_json(scores[name]) for name in _FIGURES if name in scores},
        "by_seed": [float(row.mean()) for row in group.values[_GAIN]],
    }


def _compared(one: RunGroup, other: RunGroup, conversations: Sequence[str]) -> dict[str, Any]:
    """Compare two groups pair by pair, and seed by seed where both have the seed."""
    shared = [seed for seed in one.seeds if seed in other.seeds]
    differences = {}
    for name in (_GAIN, _REWARD):
        rows = [group.values[name] for group in (one, other)]
        if shared:
            values = np.stack([rows[1][other.seeds.index(s)] - rows[0][one.seeds.index(s)] for s in shared])
        else:
            values = (rows[1].mean(axis=0) - rows[0].mean(axis=0))[None]
        score = _score(values, conversations)
        changed = {group for value, group in zip(np.abs(values).sum(axis=0), conversations, strict=True) if value}
        found = verdict(score, "higher") if len(changed) >= LEAST_CONVERSATIONS else NO_DIFFERENCE
        differences[name] = score_as_json(score) | {
            "verdict": found,
            "smallest": smallest_difference(score.low, score.high),
        }
    return {"system": other.name, "against": one.name, "differences": differences, "seeds": shared}


def expand_sweeps(folders: Sequence[str]) -> list[str]:
    """Replace folders that are not runs by the finished runs in them."""
    expanded: list[str] = []
    for folder in folders:
        runs = [] if (Path(folder) / "provenance.json").is_file() else sorted(Path(folder).glob("*/all_results.json"))
        expanded += [path.parent.as_posix() for path in runs] or [folder]
    return expanded
