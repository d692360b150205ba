import pytest

from preferans.evaluation.held_out import normalised_accuracy, pair_scores


def pair(chosen: float, rejected: float, chosen_tokens: int = 10, rejected_tokens: int = 10) -> dict:
    return {
        "chosen_logp": chosen,
        "rejected_logp": rejected,
        "chosen_tokens": chosen_tokens,
        "rejected_tokens": rejected_tokens,
    }


def test_normalised_accuracy_divides_by_length_and_halves_ties():
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
