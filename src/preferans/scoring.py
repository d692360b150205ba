"""Figures with their uncertainty: preference accuracy on held-out pairs, and what answers look like before and after."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .intrusions import Confusion, confusion
from .probes import PROBE_MEASURES
from .text_measures import chrf, distinct, is_complete, keeps_format, repetition, rouge

RESAMPLES = 2_000
CONFIDENCE = 0.95
NO_DIFFERENCE = "no_detectable_difference"
# With fewer, an exact sign test would find nothing even where all of them agree: 2 * 0.5 ** 5 is more than 0.05.
LEAST_CONVERSATIONS = 6


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


class Measure(NamedTuple):
    """
    Something that is measured of every answer.

    Attributes:
        function (`Callable[[dict], float | None]`): From a row (`prompt`, a list of messages; `answer`; `finish_reason`; `references`,
            replies of people, and `probed`, see [`~probes.probe_measures`], where there are any) to a number, or to `None` where the question does not arise.
        better (`str` or `None`): `"higher"`, `"lower"`, or `None` where neither is.
        unit (`str`): `"share"` (from 0 to 1), `"characters"`, or `"points"` (from 0 to 100).
    """

    function: Callable[[dict], float | None]
    better: str | None
    unit: str


def _of_text(function: Callable[[dict], float | None]) -> Callable[[dict], float | None]:
    """A measure that an empty answer does not have."""

    def measured(row: dict) -> float | None:
        value = function(row) if row["answer"].strip() else None
        return None if value is None else float(value)

    return measured


def _of_russian(function: Callable[[Confusion], float]) -> Callable[[dict], float | None]:
    """A measure that only an answer in Russian has: words of another language can intrude into nothing else."""

    def measured(row: dict) -> float | None:
        found = confused(row)
        return float(function(found)) if found.in_russian else None

    return _of_text(measured)


@lru_cache(maxsize=1)  # five measures ask for the same answer one after the other
def _confused(answer: str, prompt: str) -> Confusion:
    return confusion(answer, prompt)


def confused(row: dict) -> Confusion:
    """Languages in an answer, where words of the prompt are no intruders."""
    return _confused(row["answer"], "\n".join(message["content"] for message in row["prompt"]))


def _probed(name: str) -> Callable[[dict], float | None]:
    return lambda row: row.get("probed", {}).get(name)


def _against(row: dict, function: Callable[[str, list[str]], float]) -> float | None:
    return function(row["answer"], row["references"]) if row.get("references") else None


# In the order of the tables.
MEASURES: dict[str, Measure] = {
    "empty": Measure(lambda row: float(not row["answer"].strip()), "lower", "share"),
    "finished": Measure(
        lambda row: None if row["finish_reason"] is None else float(row["finish_reason"] == "stop"), "higher", "share"
    ),
    "complete": Measure(_of_text(lambda row: is_complete(row["answer"], row["finish_reason"])), "higher", "share"),
    "loops": Measure(_of_text(lambda row: repetition(row["answer"]).loops), "lower", "share"),
    "repeated_share": Measure(_of_text(lambda row: repetition(row["answer"]).repeated_share), "lower", "share"),
    "distinct_2": Measure(_of_text(lambda row: distinct(row["answer"], 2)), None, "share"),
    "in_russian": Measure(_of_text(lambda row: confused(row).in_russian), "higher", "share"),
    "intrusion": Measure(_of_russian(lambda found: bool(found.intruders)), "lower", "share"),
    "hard_intrusion": Measure(_of_russian(lambda found: any(word.hard for word in found.intruders)), "lower", "share"),
    "foreign_word_share": Measure(
        _of_russian(lambda found: len(found.intruders) / max(1, found.words)), "lower", "share"
    ),
    "template_leak": Measure(_of_text(lambda row: bool(confused(row).leaks)), "lower", "share"),
    "keeps_format": Measure(
        _of_text(lambda row: keeps_format(row["prompt"][-1]["content"], row["answer"])), "higher", "share"
    ),
    "chrf": Measure(_of_text(lambda row: _against(row, chrf)), "higher", "points"),
    "rougeL": Measure(
        _of_text(lambda row: _against(row, lambda answer, others: rouge(answer, others)["rougeL"])), "higher", "share"
    ),
    "length": Measure(lambda row: float(len(row["answer"])), None, "characters"),
} | {name: Measure(_probed(name), better, "share") for name, better in PROBE_MEASURES.items()}


def measure(row: dict) -> dict[str, float | None]:
    """All of [`MEASURES`] of one answer."""
    return {name: measure.function(row) for name, measure in MEASURES.items()}


def mean_of(values: Sequence[float | None], conversations: Sequence[str]) -> Score:
    """
    Mean of what is known, with its interval.

    Args:
        values (`Sequence[float | None]`):
            One number per answer, `None` where the question did not arise.
        conversations (`Sequence[str]`):
            Conversation of each answer, see [`bootstrap`].
    """
    return _bootstrap_known(list(zip(values, conversations, strict=True)))


def difference_of(
    values: Sequence[float | None],
    against: Sequence[float | None],
    conversations: Sequence[str],
    better: str | None = None,
) -> tuple[Score, str]:
    """
    Mean of the paired differences between two systems' answers to the same prompts, and what it says.

    Args:
        values (`Sequence[float | None]`), against (`Sequence[float | None]`):
            One measure of the answers of each system, in the same order. Prompts for which either is `None` are left out.
        conversations (`Sequence[str]`):
            Conversation of each prompt, see [`bootstrap`].
        better (`str`, *optional*):
            Which direction is the better one, see [`Measure`].

    Returns:
        `tuple[Score, str]`: the difference, `values` minus `against`, and the [`verdict`].
    """
    pairs = [
        (None if new is None or old is None else new - old, conversation)
        for new, old, conversation in zip(values, against, conversations, strict=True)
    ]
    independent = {conversation for value, conversation in pairs if value is not None}
    difference = _bootstrap_known(pairs)
    return difference, verdict(difference, better) if len(independent) >= LEAST_CONVERSATIONS else NO_DIFFERENCE


def _bootstrap_known(values: list[tuple[float | None, str]]) -> Score:
    known = [(value, group) for value, group in values if value is not None]
    return bootstrap([value for value, _ in known], [group for _, group in known])


def verdict(difference: Score, better: str | None = None) -> str:
    """
    A difference in one word.

    Args:
        difference ([`Score`]):
            A paired difference. Its interval decides: where it touches 0, nothing was found.
        better (`str`, *optional*):
            Which direction is the better one, `"higher"` or `"lower"`.

    Returns:
        `str`: `"better"` or `"worse"`; `"higher"` or `"lower"` where neither direction is the better one; or
        `"no_detectable_difference"`.
    """
    if not (difference.low > 0 or difference.high < 0):
        return NO_DIFFERENCE
    direction = "higher" if difference.low > 0 else "lower"
    return direction if better is None else "better" if direction == better else "worse"
