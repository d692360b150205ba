"""Figures with their uncertainty: preference accuracy on held-out pairs, and what answers look like before and after."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from .language import cyrillic_share, foreign_words, is_russian, loops

RESAMPLES = 2_000
CONFIDENCE = 0.95


@dataclasses.dataclass
class Score:
    """
    A mean with its bootstrap interval.

    Attributes:
        value (`float`): Mean over the cases.
        low (`float`), high (`float`): Ends of the 95 % percentile interval over resampled cases.
        cases (`int`): How many cases the mean is over.
    """

    value: float
    low: float
    high: float
    cases: int

    def in_words(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}], n = {self.cases}"


def bootstrap(
    values: Sequence[float],
    groups: Sequence[str] | None = None,
    seed: int = 0,
    weights: Sequence[float] | None = None,
) -> Score:
    """
    Mean of `values` with a bootstrap interval ([Efron 1979](https://doi.org/10.1214/aos/1176344552)).

    Args:
        values (`Sequence[float]`):
            One number per case.
        groups (`Sequence[str]`, *optional*):
            The group of each case. Cases of one conversation are alike, so whole groups are drawn; without groups each case
            is drawn for itself.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the resampling.
        weights (`Sequence[float]`, *optional*):
            How much each case counts, such as its number of tokens where a value is a mean over them.

    Returns:
        [`Score`]: not-a-number throughout when there are no values.
    """
    data = np.asarray(list(values), dtype=float)
    if not len(data):
        return Score(math.nan, math.nan, math.nan, 0)
    group, drawn = resampled(range(len(data)) if groups is None else groups, seed)
    weight = np.ones(len(data)) if weights is None else np.asarray(list(weights), dtype=float)
    sums, sizes = np.bincount(group, weights=weight * data), np.bincount(group, weights=weight)
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    return Score(float(np.average(data, weights=weight)), *interval(means), len(data))


def resampled(groups: Iterable, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """
    Which groups are drawn, with replacement, in each resample.

    Args:
        groups (`Iterable`):
            The group of each case. The draw depends on the set of groups and not on the order of the cases.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the resampling.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: the number of each case's group, and the numbers of the groups drawn, of shape
        `(RESAMPLES, number of groups)`.
    """
    groups = list(groups)
    known = {name: number for number, name in enumerate(sorted(set(groups)))}
    drawn = np.random.default_rng(seed).integers(len(known), size=(RESAMPLES, len(known)))
    return np.array([known[name] for name in groups]), drawn


def interval(values: np.ndarray) -> tuple[float, float]:
    """Ends of the interval that holds the middle 95 % of resampled values."""
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


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
            Log-probabilities under the base model, see [`~sft.ImitationTrainer.pair_log_probs`].
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


def _prompt_text(row: dict) -> str:
    return "\n".join(message["content"] for message in row["prompt"])


# Each gives a number, or None where the question does not arise: an empty answer is in no language.
ANSWER_MEASURES: dict[str, Callable[[dict], float | None]] = {
    "empty": lambda row: float(not row["answer"].strip()),
    "finished": lambda row: float(row["finish_reason"] == "stop"),
    "loops": lambda row: float(loops(row["answer"])),
    "in_russian": lambda row: float(is_russian(row["answer"])) if row["answer"].strip() else None,
    "cyrillic_share": lambda row: cyrillic_share(row["answer"]),
    "foreign_word_answers": lambda row: (
        float(bool(foreign_words(row["answer"], _prompt_text(row)))) if row["answer"].strip() else None
    ),
    "length": lambda row: float(len(row["answer"])),
}


def answer_scores(answers: list[dict]) -> dict[str, Score]:
    """
    What a system's answers look like.

    Args:
        answers (`list[dict]`):
            Rows of `scripts/generate.py`: `prompt`, `answer` and `finish_reason`.

    Returns:
        `dict[str, Score]`: shares of answers that are `empty`, `finished` (the model ended them itself), `loops`, `in_russian`
        and that hold words in other letters (`foreign_word_answers`); the mean `cyrillic_share` of letters; the mean `length`
        in characters. Language is judged over answers that are not empty.
    """
    scores = {}
    for name, measure in ANSWER_MEASURES.items():
        values = [(measure(row), _conversation(row)) for row in answers]
        scores[name] = _bootstrap_known(values)
    return scores


def answer_differences(before: list[dict], after: list[dict]) -> dict[str, Score]:
    """
    Paired differences, after minus before, over the prompts for which both sides have a value.

    Args:
        before (`list[dict]`), after (`list[dict]`):
            Answers of two systems to the same prompts, in the same order.

    Returns:
        `dict[str, Score]`: see [`answer_scores`].
    """
    differences = {}
    for name, measure in ANSWER_MEASURES.items():
        values = []
        for old, new in zip(before, after, strict=True):
            a, b = measure(old), measure(new)
            values.append((None if a is None or b is None else b - a, _conversation(new)))
        differences[name] = _bootstrap_known(values)
    return differences


def _conversation(row: dict) -> str:
    """What answers of one conversation have in common: its opening question."""
    return row["prompt"][0]["content"]


def _bootstrap_known(values: list[tuple[float | None, str]]) -> Score:
    known = [(value, group) for value, group in values if value is not None]
    return bootstrap([value for value, _ in known], [group for _, group in known])


def verdict(difference: Score) -> str:
    """A difference in plain words: `"higher"`, `"lower"` or `"no detectable difference"`."""
    if difference.low > 0:
        return "higher"
    return "lower" if difference.high < 0 else "no detectable difference"
