"""Score adapters beside their base on the pairs of any dataset, without training."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from datasets import Dataset

from ..data.formats import read_dataset
from ..data.pairs import Pair, is_training, read_pairs
from ..data.shortcuts import find_shortcuts
from ..errors import PreferansError, did_you_mean
from ..files import read_json
from .held_out import pair_scores
from .statistics import Score, difference_of, mean_of, score_as_json, smallest_difference

ALL = "all"
PAIRS_FILE, PAIRS_SCHEMA = "pairs.json", 1
_SHOWN = {
    "test_normalised_accuracy_before": "likelier per token, before",
    "test_normalised_accuracy_after": "likelier per token, after",
    "test_normalised_accuracy_gain": "gain",
    "test_balanced_accuracy_gain": "length-balanced gain",
    "test_reward_accuracy": "reward accuracy",
}


@dataclass
class PairSet:
    """
    The pairs of a dataset that are scored.

    Attributes:
        name (`str`): The dataset.
        pairs (`list[Pair]`): Pairs that can be read and scored.
        unreadable (`int`), too_long (`int`), cut (`int`): Numbers of rows that are no pair, of pairs whose prompt alone fills `max_length`, and of
            pairs with a cut answer.
    """

    name: str
    pairs: list[Pair]
    unreadable: int = 0
    too_long: int = 0
    cut: int = 0


def read_pair_set(name: str, split: str) -> PairSet:
    """
    Read the pairs of a dataset.

    Args:
        name (`str`): Folder, file, or id of a dataset on the Hub, in any of TRL's preference formats.
        split (`str`): The split, or `"all"` for all of them. A dataset with a single split has only that.

    Raises:
        [`PreferansError`]: if there is no such split, or no row is a pair.
    """
    splits = read_dataset(name)
    if split != ALL and len(splits) > 1:
        if split not in splits:
            raise PreferansError(
                f"--split {split}: {name} has the splits {', '.join(splits)}.{did_you_mean(split, splits)} Name one, or write 'all'."
            )
        splits = {split: splits[split]}
    pairs, problems = read_pairs(splits)
    if not pairs:
        label, problem = problems[0]
        raise PreferansError(f"{name}: no row is a preference pair; {label}: {problem.words}.")
    labels = {pair.label for pair in pairs}
    if len(labels) < len(pairs):
        raise PreferansError(f"{name}: two rows have the same id. Give each its own, or remove the column 'id'.")
    return PairSet(name, pairs, unreadable=len(problems))


def pair_rows(pair_set: PairSet) -> Dataset:
    """Return the pairs with an explicit prompt, as rows that a trainer can tokenize."""
    return Dataset.from_list(
        [{"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected} for pair in pair_set.pairs]
    )


def has_training_pairs(pair_set: PairSet) -> bool:
    """Check whether pairs of a training split are among the scored ones: for an adapter that was trained on them, they prove nothing."""
    return any(is_training(pair.split) for pair in pair_set.pairs)


@dataclass
class ScoredPairs:
    """
    Log-probabilities of a dataset's pairs.

    Attributes:
        base (`list[dict]`): Of the base model, see [`~preferans.evaluation.held_out.pair_scores`].
        adapters (`dict[str, list[dict]]`): Of each adapter, in the same order.
        beta (`dict[str, float]`), per_token (`dict[str, bool]`): Of each adapter's run.
        in_domain (`set[str]`): Adapters that were trained on the training split of the same dataset.
    """

    base: list[dict]
    adapters: dict[str, list[dict]]
    beta: dict[str, float] = field(default_factory=dict)
    per_token: dict[str, bool] = field(default_factory=dict)
    in_domain: set[str] = field(default_factory=set)


def dataset_record(pair_set: PairSet, scored: ScoredPairs, subset_column: str | None = None) -> dict[str, Any]:
    """
    Compute all figures of one dataset.

    Args:
        pair_set ([`PairSet`]): The dataset.
        scored ([`ScoredPairs`]): Its log-probabilities.
        subset_column (`str`, *optional*): Column whose values are also scored apart.

    Returns:
        `dict`: `name`, counts, `surface` (what the style of the answers alone gives away), `systems` with their `scores` and `subsets`, and
        `comparisons` of every two adapters.
    """
    pairs = pair_set.pairs
    groups = [pair.conversation for pair in pairs]
    systems, gains = [], {}
    for name, after in scored.adapters.items():
        scores = _figures(scored, name, range(len(pairs)), groups)
        gain = scores["test_normalised_accuracy_gain"]
        subsets = {}
        for value, numbers in _subsets(pairs, subset_column).items():
            subsets[value] = _as_json(_figures(scored, name, numbers, groups))
        systems.append(
            {
                "name": name,
                "in_domain": name in scored.in_domain,
                "per_token": scored.per_token.get(name, False),
                "scores": _as_json(scores),
                "smallest_gain": smallest_difference(gain.low, gain.high),
                "subsets": subsets,
            }
        )
        gains[name] = [_likelier(pair) for pair in after]
    comparisons = []
    for first, second in combinations(gains, 2):
        difference, verdict = difference_of(gains[second], gains[first], groups, "higher")
        comparisons.append(
            {"system": second, "against": first, "difference": score_as_json(difference), "verdict": verdict}
        )
    return {
        "name": pair_set.name,
        "pairs": len(pairs),
        "unreadable": pair_set.unreadable,
        "too_long": pair_set.too_long,
        "cut": pair_set.cut,
        "surface": _surface(pairs),
        "systems": systems,
        "comparisons": comparisons,
    }


def record_lines(record: dict[str, Any]) -> list[str]:
    """Describe the most important figures of a dataset, see [`dataset_record`]."""
    counts = (f"{record[key]:,} {key.replace('_', ' ')}" for key in ("unreadable", "too_long", "cut") if record[key])
    lost = ", ".join(counts)
    lines = [f"\n{record['name']}: {record['pairs']:,} pairs{f' ({lost})' if lost else ''}"]
    if surface := record["surface"]:
        lines.append(
            f"  Without a language model: a linear model on words gets {surface['linear_model']:.0%} right; the chosen answer is the longer "
            f"one in {surface['chosen_longer']:.0%}."
        )
    for system in record["systems"]:
        domain = (
            "in-domain: trained on other pairs of this dataset" if system["in_domain"] else "pairs of another dataset"
        )
        lines.append(f"  {system['name']}, {domain}")
        for key, words in _SHOWN.items():
            if (score := system["scores"].get(key)) and score["value"] is not None:
                lines.append(f"    {words:<28} {score['value']:>7.1%} [{score['low']:.1%}, {score['high']:.1%}]")
        lines.append(f"    smallest gain that this test shows: {system['smallest_gain']:.1%}")
    return lines


def read_pair_records(paths: Sequence[str]) -> list[dict[str, Any]]:
    """
    Read the datasets of files of `scripts/evaluate_pairs.py`.

    Raises:
        [`PreferansError`]: if a file is missing or is another one.
    """
    records = []
    for path in paths:
        content = read_json(path)
        if not isinstance(content, dict) or content.get("schema") != PAIRS_SCHEMA or "datasets" not in content:
            raise PreferansError(
                f"--pairs {path}: this is no pairs.json of scripts/evaluate_pairs.py. Run that command again."
            )
        records += content["datasets"]
    return records


def _figures(scored: ScoredPairs, name: str, numbers: Sequence[int], groups: list[str]) -> dict[str, Score]:
    before, after = [scored.base[number] for number in numbers], [scored.adapters[name][number] for number in numbers]
    own = [groups[number] for number in numbers]
    scores = pair_scores(before, after, scored.beta.get(name, 0.1), scored.per_token.get(name, False), own)
    for when, pairs in (("before", before), ("after", after)):
        won = [float(pair["chosen_logp"] > pair["rejected_logp"]) for pair in pairs]
        scores[f"test_summed_accuracy_{when}"] = mean_of(won, own)
    return scores


def _likelier(pair: dict) -> float:
    return float(pair["chosen_logp"] / pair["chosen_tokens"] > pair["rejected_logp"] / pair["rejected_tokens"])


def _as_json(scores: dict[str, Score]) -> dict[str, dict]:
    return {name: score_as_json(score) for name, score in scores.items()}


def _subsets(pairs: Sequence[Pair], column: str | None) -> dict[str, list[int]]:
    subsets: dict[str, list[int]] = {}
    if column is not None:
        for number, pair in enumerate(pairs):
            subsets.setdefault(str(pair.row.get(column)), []).append(number)
    return dict(sorted(subsets.items()))


def _surface(pairs: list[Pair]) -> dict[str, Any] | None:
    """What length and the linear model of check_data get right; `None` for pairs of a single conversation."""
    if len({pair.conversation for pair in pairs}) < 2:
        return None
    found = find_shortcuts(pairs)
    lengths = [(len(pair.text("chosen")), len(pair.text("rejected"))) for pair in pairs]
    return {
        "linear_model": found.accuracy,
        "interval": list(found.interval),
        "chosen_longer": sum(chosen > rejected for chosen, rejected in lengths) / len(pairs),
    }
