"""Scores of held-out pairs on small numbers."""

import math

import pytest

from preferans.evaluation.held_out import imitation_scores, normalised_accuracy, pair_scores


def pair(chosen: float, rejected: float, chosen_tokens: int = 10, rejected_tokens: int = 10) -> dict:
    return {
        "chosen_logp": chosen,
        "rejected_logp": rejected,
        "chosen_tokens": chosen_tokens,
        "rejected_tokens": rejected_tokens,
    }


def test_normalised_accuracy_divides_by_length_and_counts_ties_as_half():
    pairs = [pair(-10, -20), pair(-20, -10), pair(-10, -10), pair(-20, -15, 20, 10)]
    assert normalised_accuracy(pairs) == [1.0, 0.0, 0.5, 1.0]


def test_pair_scores_on_two_pairs():
    before = [pair(-10, -10), pair(-20, -10)]
    after = [pair(-8, -14), pair(-20, -10)]
    scores = {name: score.value for name, score in pair_scores(before, after, beta=0.5).items()}
    assert scores == {
        "test_normalised_accuracy_before": 0.25,
        "test_normalised_accuracy_after": 0.5,
        "test_normalised_accuracy_gain": 0.25,
        "test_reward_accuracy": 0.75,
        "test_reward_margin": 1.5,
        "test_chosen_reward": 0.5,
        "test_rejected_reward": -1.0,
    }


def test_rewards_per_token():
    scores = pair_scores([pair(-10, -10, 5, 2)], [pair(-8, -14, 5, 2)], beta=3, per_token=True)
    assert scores["test_chosen_reward"].value == pytest.approx(3 * 2 / 5)
    assert scores["test_reward_margin"].value == pytest.approx(3 * 2 / 5 + 3 * 4 / 2)


def test_a_preference_for_short_answers_is_no_balanced_gain():
    """All shorter answers become likelier, chosen or not: three of four chosen answers are shorter."""
    short, long = pair(-30, -20, 5, 10), pair(-20, -30, 10, 5)
    before, after = [short] * 3 + [long], [short | {"chosen_logp": -1}] * 3 + [long | {"rejected_logp": -1}]
    scores = pair_scores(before, after, beta=1, groups=["a", "b", "c", "d"])
    values = {name: score.value for name, score in scores.items()}
    assert values["test_normalised_accuracy_gain"] == 0.5
    assert values["test_accuracy_gain_chosen_shorter"] == 1 and scores["test_accuracy_gain_chosen_shorter"].cases == 3
    assert values["test_accuracy_gain_chosen_longer"] == -1
    assert values["test_balanced_accuracy_gain"] == 0
    assert values["test_balanced_accuracy_before"] == values["test_balanced_accuracy_after"] == 0.5
    assert values["test_balanced_reward_accuracy"] == 0.5


def side(name: str, words: float, count: int, end: float | None) -> dict:
    return {
        f"{name}_logp": words + (end or 0),
        f"{name}_tokens": count + (end is not None),
        f"{name}_words_logp": words,
        f"{name}_words_tokens": count,
        f"{name}_end_logp": end,
    }


def test_imitation_losses_are_means_over_tokens_without_the_end():
    rejected = side("rejected", -40.0, 10, -1.0)
    before = [side("chosen", -30.0, 10, math.log(0.25)) | rejected, side("chosen", -60.0, 30, None) | rejected]
    after = [side("chosen", -20.0, 10, math.log(0.75)) | rejected, side("chosen", -30.0, 30, None) | rejected]
    scores = imitation_scores(before, after, ["a", "b"])
    values = {name: score.value for name, score in scores.items()}
    assert values["test_chosen_loss_before"] == pytest.approx(90 / 40)
    assert values["test_chosen_loss_after"] == pytest.approx(50 / 40)
    assert values["test_chosen_loss_change"] == pytest.approx(-40 / 40)
    assert values["test_rejected_loss_change"] == 0
    assert values["test_chosen_perplexity_after"] == pytest.approx(math.exp(50 / 40))
    assert values["test_end_probability_before"] == pytest.approx(0.25)
    assert values["test_end_probability_after"] == pytest.approx(0.75)
    assert scores["test_end_probability_after"].cases == 1  # the other answer was cut before its end
    assert values["test_normalised_accuracy_before"] == 1.0
    assert not any("reward" in name for name in values)
