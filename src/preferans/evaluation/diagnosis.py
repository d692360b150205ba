"""
What a finished DPO run shows: findings with their cause and the recipe's line to change.

Every rule reads figures that training wrote: the logged metrics (`trainer_state.json`), the log-probabilities of the test pairs
(`test_log_probs.json`) and the record of the run (`provenance.json`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from ..errors import PreferansError
from ..files import read_json
from .held_out import read_tested, tested_scores
from .statistics import Score, smallest_difference

# Losses whose value is ln 2 if the rewards of both answers are equal.
LOGISTIC = ("sigmoid", "sigmoid_norm")
FLAT = 0.02  # nats from ln 2
UNMOVED, FALLEN = 0.005, 0.1  # nats per token
SATURATED_FROM, SATURATED = 0.3, 0.995  # share of the run, and mean accuracy from there on
EXPLODED = 10.0  # the logistic loss of this margin is 5e-5
SKIPPED, CUT = 0.05, 0.1  # shares of the steps, and of the training pairs
BLIND = 0.1  # a smallest gain above this shows only very strong effects


class RunFinding(NamedTuple):
    """
    Something that went wrong in a run, or that limits what it shows.

    Attributes:
        kind (`str`): For example `"nothing_moved"`.
        text (`str`): What happened, with figures.
        cause (`str`): The usual cause.
        change (`str`): The recipe's line to change, or what else to do.
    """

    kind: str
    text: str
    cause: str
    change: str


@dataclass(frozen=True)
class Evidence:
    """
    The figures of a finished run.

    Attributes:
        keys (`dict`): Keys of the recipe.
        record (`dict`): Content of `provenance.json`.
        steps (`list[dict]`): Logged metrics of the training steps, in order.
        scores (`dict[str, Score]`): See [`~preferans.evaluation.held_out.pair_scores`].
        moves (`dict[str, float]`): Mean change of the log-probability per token, in nats, of `"chosen"` and `"rejected"` test answers.
    """

    keys: dict[str, Any]
    record: dict[str, Any]
    steps: list[dict[str, float]]
    scores: dict[str, Score]
    moves: dict[str, float]

    def part(self, name: str, start: float) -> list[float]:
        """Return a logged metric from this share of the run on."""
        return [step[name] for step in self.steps[math.ceil(start * len(self.steps)) :] if name in step]

    @property
    def losses(self) -> list[str]:
        """The losses of the recipe."""
        loss_type = self.keys.get("loss_type", "sigmoid")
        return [loss_type] if isinstance(loss_type, str) else loss_type

    def key(self, name: str, factor: float) -> str:
        """Return the recipe's line that multiplies a number, for example `"learning_rate: 1e-05"`."""
        value = self.keys.get(name)
        return f"{name}: {value * factor:.2g}" if value else f"a {'higher' if factor > 1 else 'lower'} {name}"


def read_evidence(run: Path) -> Evidence:
    """
    Read the figures of a finished DPO run.

    Raises:
        [`PreferansError`]: if the folder is not a finished DPO run.
    """
    tested, record = read_tested(run), read_json(run / "provenance.json")
    if record.get("method") != "dpo":
        raise PreferansError(f"{run}: this run imitates answers (scripts/sft.py); only DPO runs are explained.")
    moves = {
        side: mean(
            (new[f"{side}_logp"] - old[f"{side}_logp"]) / old[f"{side}_tokens"]
            for old, new in zip(tested["before"], tested["after"], strict=True)
        )
        for side in ("chosen", "rejected")
    }
    history = read_json(run / "trainer_state.json")["log_history"]
    steps = [entry for entry in history if "loss" in entry]
    return Evidence(record["keys"], record, steps, tested_scores(tested), moves)


def diagnose(evidence: Evidence) -> list[RunFinding]:
    """Return what is wrong with a run, the most serious first; empty for a healthy run."""
    rules = (_not_moved, _flat, _chosen_fell, _exploded, _saturated, _length, _skipped, _cut, _blind)
    return [finding for rule in rules for finding in rule(evidence)]


def _has_moved(evidence: Evidence) -> bool:
    return max(map(abs, evidence.moves.values())) >= UNMOVED


def _not_moved(evidence: Evidence) -> Iterator[RunFinding]:
    if not _has_moved(evidence):
        yield RunFinding(
            "nothing_moved",
            f"The log-probabilities of the test answers changed by {max(map(abs, evidence.moves.values())):.4f} nats per token: the model "
            "is the same as before.",
            "The learning rate is too low for this number of steps.",
            evidence.key("learning_rate", 10),
        )


def _flat(evidence: Evidence) -> Iterator[RunFinding]:
    losses = evidence.part("loss", 0.5)
    if len(evidence.losses) > 1 or evidence.losses[0] not in LOGISTIC or not losses or not _has_moved(evidence):
        return
    if abs(mean(losses) - math.log(2)) < FLAT:
        yield RunFinding(
            "loss_flat",
            f"The mean loss of the second half is {mean(losses):.3f}, and ln 2 = 0.693 is that of a model that prefers neither answer.",
            "The labels follow no pattern that the model can learn, or the rate is too low.",
            f"{evidence.key('learning_rate', 3)}; read some pairs (scripts/check_data.py) to see whether the better answer is the chosen one",
        )


def _chosen_fell(evidence: Evidence) -> Iterator[RunFinding]:
    reward = evidence.scores["test_chosen_reward"]
    if reward.high < 0 and evidence.moves["chosen"] < -FALLEN:
        yield RunFinding(
            "chosen_fell",
            f"The chosen test answers became less likely: {evidence.moves['chosen']:+.2f} nats per token, the rejected ones "
            f"{evidence.moves['rejected']:+.2f}.",
            "DPO rewards the difference alone, and both may fall; other texts, which no pair names, become likelier.",
            (
                ""
                if "sft" in evidence.losses
                else f"loss_type: [{', '.join(evidence.losses)}, sft], which also imitates the chosen answers, or "
            )
            + evidence.key("learning_rate", 1 / 3),
        )


def _exploded(evidence: Evidence) -> Iterator[RunFinding]:
    margin = evidence.scores["test_reward_margin"]
    if margin.low > EXPLODED:
        yield RunFinding(
            "margins_exploded",
            f"The mean reward margin of the test pairs is {margin.value:.1f}; the loss of such a pair is nearly 0.",
            "Training continues on answers that are separated already, and the model moves far from its reference.",
            f"{evidence.key('learning_rate', 1 / 3)}, or fewer steps",
        )


def _saturated(evidence: Evidence) -> Iterator[RunFinding]:
    accuracies = evidence.part("rewards/accuracies", SATURATED_FROM)
    if len(accuracies) >= 5 and mean(accuracies) >= SATURATED:
        yield RunFinding(
            "accuracy_saturated",
            f"After the first {SATURATED_FROM:.0%} of the steps, the reward accuracy in training is {mean(accuracies):.0%}.",
            "The pairs can be told apart by something simple, such as their length or their style.",
            "scripts/check_data.py prints how well length, punctuation and single words tell the answers apart; harder pairs teach more",
        )


def _length(evidence: Evidence) -> Iterator[RunFinding]:
    longer, shorter = (evidence.scores.get(f"test_accuracy_gain_chosen_{kind}") for kind in ("longer", "shorter"))
    if not (longer and shorter) or (longer.low <= shorter.high and shorter.low <= longer.high):
        return
    kind = "longer" if longer.value > shorter.value else "shorter"
    yield RunFinding(
        "length_learned",
        f"The accuracy changed by {100 * longer.value:+.0f} points where the chosen answer is longer, and by {100 * shorter.value:+.0f} where it is "
        f"shorter: the model learned to prefer {kind} answers.",
        f"In most training pairs the {kind} answer is the chosen one, or the loss sums over tokens.",
        (
            ""
            if "sigmoid_norm" in evidence.losses
            else "loss_type: [sigmoid_norm], which compares log-probabilities per token, or "
        )
        + "pairs of balanced lengths",
    )


def _skipped(evidence: Evidence) -> Iterator[RunFinding]:
    skipped = evidence.record["measured"].get("skipped_steps") or 0
    steps = evidence.steps[-1]["step"] if evidence.steps else 0
    if steps and skipped > max(SKIPPED * steps, 2):
        yield RunFinding(
            "steps_skipped",
            f"{skipped} of {steps} steps were skipped, because a gradient overflowed fp16.",
            "Gradients are too large for fp16; the first two or three steps are normal, while the scaler finds its scale.",
            f"{evidence.key('learning_rate', 1 / 3)}, a longer warmup_steps, or dtype: float32",
        )


def _cut(evidence: Evidence) -> Iterator[RunFinding]:
    cut, pairs = evidence.record["dataset"].get("truncated_train_pairs", 0), evidence.record["dataset"]["train_pairs"]
    if cut > CUT * pairs:
        yield RunFinding(
            "pairs_truncated",
            f"{cut} of {pairs} training pairs are longer than max_length and were truncated: their ends, and the end token, were not learned.",
            "max_length is short for these pairs.",
            f"{evidence.key('max_length', 2)}; scripts/plan.py shows whether it fits",
        )


def _blind(evidence: Evidence) -> Iterator[RunFinding]:
    gain = evidence.scores["test_normalised_accuracy_gain"]
    smallest = smallest_difference(gain.low, gain.high)
    if gain.low <= 0 <= gain.high and (smallest > BLIND or gain.cases < 30):
        yield RunFinding(
            "test_set_small",
            f"The gain of {100 * gain.value:+.1f} points [{100 * gain.low:.1f}, {100 * gain.high:.1f}] on {gain.cases} test pairs can be chance. Such a test "
            f"shows a gain of {100 * smallest:.0f} points or more.",
            "There are too few test pairs for an effect of this size.",
            "build the dataset with a larger --test_size, or add other people's pairs (eval_pairs)",
        )
