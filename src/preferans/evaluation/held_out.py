"""Scores of held-out preference pairs: accuracies, rewards and imitation."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import PreferansError
from ..files import read_json
from .statistics import Score, balanced, bootstrap, mean_of


def _win(chosen: float, rejected: float) -> float:
    return 1.0 if chosen > rejected else 0.5 if chosen == rejected else 0.0


def normalised_accuracy(pairs: list[dict[str, float]]) -> list[float]:
    """
    Check for each pair whether the model gives the chosen answer a higher probability per token than the rejected one.

    The accuracy of DPO's implicit rewards is a tie everywhere before training; this one has a meaningful start. It divides by the
    length as [SimPO](https://huggingface.co/papers/2405.14734) does. A tie counts a half.

    Args:
        pairs (`list[dict]`):
            `chosen_logp`, `rejected_logp` (sums in nats), `chosen_tokens` and `rejected_tokens` of each pair.
    """
    return [
        _win(pair["chosen_logp"] / pair["chosen_tokens"], pair["rejected_logp"] / pair["rejected_tokens"])
        for pair in pairs
    ]


def pair_scores(
    before: list[dict[str, float]],
    after: list[dict[str, float]],
    beta: float,
    per_token: bool = False,
    groups: Sequence[str] | None = None,
) -> dict[str, Score]:
    """
    Score a trained model on held-out preference pairs.

    Args:
        before (`list[dict]`): Log-probabilities under the reference model, see [`normalised_accuracy`].
        after (`list[dict]`): The same pairs under the trained model.
        beta (`float`): DPO's beta, the unit of the implicit reward.
        per_token (`bool`, *optional*, defaults to `False`):
            Whether the loss compares log-probabilities per token (`sigmoid_norm`), so that its reward is per token too.
        groups (`Sequence[str]`, *optional*): Conversation tree of each pair, see [`~preferans.evaluation.statistics.bootstrap`].

    Returns:
        `dict[str, Score]`: `test_normalised_accuracy_before`, `…_after` and `…_gain` (paired difference);
        `test_reward_accuracy`, the share of pairs whose chosen answer has the higher implicit reward, ties half;
        `test_reward_margin`; `test_chosen_reward` and `test_rejected_reward`; and the figures of [`_length_scores`].
    """
    values = pair_values(before, after, beta, per_token)
    scores = {name: bootstrap(numbers, groups) for name, numbers in values.items()}
    trees = [str(number) for number in range(len(before))] if groups is None else list(groups)
    return scores | _length_scores(values, before, trees)


def pair_values(
    before: list[dict[str, float]], after: list[dict[str, float]], beta: float, per_token: bool = False
) -> dict[str, list[float]]:
    """Return the value of each pair for the figures of [`pair_scores`] that are not about length; the arguments are the same."""
    accuracy_before, accuracy_after = normalised_accuracy(before), normalised_accuracy(after)
    rewards = {
        side: [
            beta * (b[f"{side}_logp"] - a[f"{side}_logp"]) / (b[f"{side}_tokens"] if per_token else 1)
            for a, b in zip(before, after, strict=True)
        ]
        for side in ("chosen", "rejected")
    }
    pairs = list(zip(rewards["chosen"], rewards["rejected"], strict=True))
    return {
        "test_normalised_accuracy_before": accuracy_before,
        "test_normalised_accuracy_after": accuracy_after,
        "test_normalised_accuracy_gain": [b - a for a, b in zip(accuracy_before, accuracy_after, strict=True)],
        "test_reward_accuracy": [_win(chosen, rejected) for chosen, rejected in pairs],
        "test_reward_margin": [chosen - rejected for chosen, rejected in pairs],
        "test_chosen_reward": rewards["chosen"],
        "test_rejected_reward": rewards["rejected"],
    }


def _length_scores(
    values: dict[str, list[float]], pairs: list[dict[str, float]], trees: list[str]
) -> dict[str, Score]:
    """
    Separate what a model learned from the length of the answers.

    Returns:
        `dict[str, Score]`: `test_accuracy_gain_chosen_longer` and `…_shorter`, the gains where the chosen answer has more tokens and
        where it has fewer; and balanced figures, in which both kinds of pairs count the same: `test_balanced_accuracy_before`, `…_after`
        and `…_gain`, `test_balanced_reward_accuracy`. Pairs of equal lengths are left out, and figures without a pair.
    """
    unequal = [number for number, pair in enumerate(pairs) if pair["chosen_tokens"] != pair["rejected_tokens"]]
    kinds = ["longer" if pairs[n]["chosen_tokens"] > pairs[n]["rejected_tokens"] else "shorter" for n in unequal]
    groups = [trees[number] for number in unequal]
    scores = {}
    for kind in ("longer", "shorter"):
        own = [number for number, one in zip(unequal, kinds, strict=True) if one == kind]
        gains = [values["test_normalised_accuracy_gain"][number] for number in own]
        scores[f"test_accuracy_gain_chosen_{kind}"] = bootstrap(gains, [trees[number] for number in own])
    names = {
        f"test_balanced_accuracy_{when}": f"test_normalised_accuracy_{when}" for when in ("before", "after", "gain")
    }
    for name, source in (names | {"test_balanced_reward_accuracy": "test_reward_accuracy"}).items():
        scores[name] = balanced([values[source][number] for number in unequal], kinds, groups)
    return {name: score for name, score in scores.items() if score.cases}


def imitation_scores(
    before: list[dict[str, float]], after: list[dict[str, float]], groups: Sequence[str] | None = None
) -> dict[str, Score]:
    """
    Score a model that learned to imitate the chosen answers, on held-out preference pairs.

    Words and end tokens are scored separately: a base model gives an end token almost no probability, so learning only the end token
    would lower an answer's mean loss by much.

    Args:
        before (`list[dict]`):
            Log-probabilities under the base model, see [`~preferans.training.sft.ImitationTrainer.pair_log_probs`].
        after (`list[dict]`): The same pairs under the trained model.
        groups (`Sequence[str]`, *optional*): Conversation tree of each pair, see [`~preferans.evaluation.statistics.bootstrap`].

    Returns:
        `dict[str, Score]`: `test_chosen_loss_before`, `…_after` and `…_change` (paired difference, negative if the answers became
        likelier), and the same for `test_rejected_loss`, in nats per token over all tokens before the end;
        `test_chosen_perplexity_before` and `…_after`; `test_end_probability_before` and `…_after`, the probability of the end token
        where a chosen answer ends; and the accuracies of [`pair_scores`].
    """
    trees = [str(number) for number in range(len(before))] if groups is None else list(groups)
    scores = _loss_scores("chosen", before, after, trees) | _loss_scores("rejected", before, after, trees)
    for name, pairs in (("before", before), ("after", after)):
        loss = scores[f"test_chosen_loss_{name}"]
        value, low, high = (math.exp(nats) for nats in (loss.value, loss.low, loss.high))
        scores[f"test_chosen_perplexity_{name}"] = Score(value, low, high, loss.cases)
        ends = [pair["chosen_end_logp"] for pair in pairs]
        scores[f"test_end_probability_{name}"] = mean_of(
            [None if logp is None else math.exp(logp) for logp in ends], trees
        )
    accuracy = pair_scores(before, after, beta=1.0, groups=groups)
    return scores | {name: accuracy[name] for name in accuracy if "accuracy" in name and "reward" not in name}


def _loss_scores(side: str, before: list[dict], after: list[dict], trees: list[str]) -> dict[str, Score]:
    pairs = [(b, a, tree) for b, a, tree in zip(before, after, trees, strict=True) if b[f"{side}_words_tokens"]]
    tokens = [b[f"{side}_words_tokens"] for b, _, _ in pairs]
    loss_before = [-b[f"{side}_words_logp"] / count for (b, _, _), count in zip(pairs, tokens, strict=True)]
    loss_after = [-a[f"{side}_words_logp"] / count for (_, a, _), count in zip(pairs, tokens, strict=True)]
    change = [b - a for a, b in zip(loss_before, loss_after, strict=True)]
    losses = {"before": loss_before, "after": loss_after, "change": change}
    return {
        f"test_{side}_loss_{name}": bootstrap(values, [tree for *_, tree in pairs], weights=tokens)
        for name, values in losses.items()
    }


def read_tested(path: Path) -> dict[str, Any]:
    """
    Read the log-probabilities of a finished run's test pairs.

    Raises:
        [`PreferansError`]: if the folder is not a finished run.
    """
    if not (path / "all_results.json").is_file() or not (path / "test_log_probs.json").is_file():
        if any(path.glob("*.jsonl")) and not (path / "provenance.json").is_file():
            raise PreferansError(
                f"{path}: this folder is not a run. If it has answers, name its files: {path}/*.jsonl."
            )
        raise PreferansError(f"{path}: this is not a finished run. Run its training command again to resume it.")
    return read_json(path / "test_log_probs.json")


def tested_scores(tested: dict[str, Any]) -> dict[str, Score]:
    """Return [`pair_scores`] of what [`read_tested`] returns."""
    return pair_scores(**{key: tested[key] for key in ("before", "after", "beta", "per_token", "groups")})


def check_same_pairs(folders: Sequence[str]) -> None:
    """
    Check that runs were scored on the same test pairs; otherwise their figures cannot be compared.

    Raises:
        [`PreferansError`]: if two runs were scored on different ones.
    """
    signatures = []
    for folder in folders:
        ids = read_json(Path(folder) / "test_log_probs.json").get("ids")
        signatures.append((read_json(Path(folder) / "provenance.json")["dataset"]["fingerprint"], ids))
    for folder, signature in zip(folders[1:], signatures[1:], strict=True):
        if signature != signatures[0]:
            raise PreferansError(
                f"{folders[0]} and {folder} were scored on different test pairs, so their figures cannot be compared. Train both on the "
                "same dataset, or score them apart."
            )
