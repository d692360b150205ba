"""Scores of held-out pairs: rewards and imitation."""

import math
from collections.abc import Sequence

from .statistics import Score, _bootstrap_known, bootstrap


def _win(chosen: float, rejected: float) -> float:
    return 1.0 if chosen > rejected else 0.5 if chosen == rejected else 0.0


def normalised_accuracy(pairs: list[dict[str, float]]) -> list[float]:
    """
    Whether a model finds the chosen answer likelier per token than the rejected one, per pair; a tie counts a half.

    Unlike the accuracy of DPO's implicit rewards, which is a tie everywhere before training, this has a meaningful start. It
    divides by the length as [SimPO](https://huggingface.co/papers/2405.14734) does.

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
    Scores of a trained model on held-out preference pairs.

    Args:
        before (`list[dict]`):
            Log-probabilities under the reference, see [`normalised_accuracy`].
        after (`list[dict]`):
            The same pairs under the trained model.
        beta (`float`):
            DPO's beta, the unit of the implicit reward.
        per_token (`bool`, *optional*, defaults to `False`):
            Whether the loss compares log-probabilities per token (`sigmoid_norm`), so that its reward is per token too.
        groups (`Sequence[str]`, *optional*):
            Conversation tree of each pair, see [`bootstrap`].

    Returns:
        `dict[str, Score]`: `test_normalised_accuracy_before`, `…_after` and `…_gain` (paired difference);
        `test_reward_accuracy`, the share of pairs whose chosen answer has the higher implicit reward, ties half;
        `test_reward_margin`; `test_chosen_reward` and `test_rejected_reward`.
    """
    was, now = normalised_accuracy(before), normalised_accuracy(after)
    rewards = {
        side: [
            beta * (b[f"{side}_logp"] - a[f"{side}_logp"]) / (b[f"{side}_tokens"] if per_token else 1)
            for a, b in zip(before, after, strict=True)
        ]
        for side in ("chosen", "rejected")
    }
    pairs = list(zip(rewards["chosen"], rewards["rejected"], strict=True))
    values = {
        "test_normalised_accuracy_before": was,
        "test_normalised_accuracy_after": now,
        "test_normalised_accuracy_gain": [b - a for a, b in zip(was, now, strict=True)],
        "test_reward_accuracy": [_win(chosen, rejected) for chosen, rejected in pairs],
        "test_reward_margin": [chosen - rejected for chosen, rejected in pairs],
        "test_chosen_reward": rewards["chosen"],
        "test_rejected_reward": rewards["rejected"],
    }
    return {name: bootstrap(numbers, groups) for name, numbers in values.items()}


def imitation_scores(
    before: list[dict[str, float]], after: list[dict[str, float]], groups: Sequence[str] | None = None
) -> dict[str, Score]:
    """
    Scores of a model that learned to imitate the chosen answers, on held-out preference pairs.

    Words and ends are told apart: a base model finds an end token all but impossible, so that learning it alone lowers the mean
    loss of an answer by much and says nothing of its words.

    Args:
        before (`list[dict]`):
            Log-probabilities under the base model, see [`~preferans.training.sft.ImitationTrainer.pair_log_probs`].
        after (`list[dict]`):
            The same pairs under the trained model.
        groups (`Sequence[str]`, *optional*):
            Conversation tree of each pair, see [`bootstrap`].

    Returns:
        `dict[str, Score]`: `test_chosen_loss_before`, `…_after` and `…_change` (paired difference, negative when the answers became
        likelier), and the same for `test_rejected_loss`, in nats per token over all tokens before the end;
        `test_chosen_perplexity_before` and `…_after`; `test_end_probability_before` and `…_after`, which the model gives the end token
        where a chosen answer ends; `test_normalised_accuracy_before`, `…_after` and `…_gain` as in [`pair_scores`].
    """
    trees = [str(number) for number in range(len(before))] if groups is None else list(groups)
    scores = {}
    for side in ("chosen", "rejected"):
        pairs = [(b, a, tree) for b, a, tree in zip(before, after, trees, strict=True) if b[f"{side}_words_tokens"]]
        tokens = [b[f"{side}_words_tokens"] for b, _, _ in pairs]
        was, now = (
            [-pair[when][f"{side}_words_logp"] / count for pair, count in zip(pairs, tokens, strict=True)]
            for when in (0, 1)
        )
        change = [b - a for a, b in zip(was, now, strict=True)]
        for name, values in (("before", was), ("after", now), ("change", change)):
            scores[f"test_{side}_loss_{name}"] = bootstrap(values, [tree for *_, tree in pairs], weights=tokens)
    for name, pairs in (("before", before), ("after", after)):
        loss = scores[f"test_chosen_loss_{name}"]
        scores[f"test_chosen_perplexity_{name}"] = Score(
            *(math.exp(value) for value in (loss.value, loss.low, loss.high)), loss.cases
        )
        ends = [(pair["chosen_end_logp"], tree) for pair, tree in zip(pairs, trees, strict=True)]
        scores[f"test_end_probability_{name}"] = _bootstrap_known(
            [(None if logp is None else math.exp(logp), tree) for logp, tree in ends]
        )
    accuracy = pair_scores(before, after, beta=1.0, groups=groups)
    return scores | {name: accuracy[name] for name in accuracy if "normalised_accuracy" in name}
