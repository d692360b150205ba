"""Sampling from each answer's own random numbers."""

import pytest
import torch

from preferans.models.drawing import drawing, random_numbers


def test_numbers_depend_on_seed_and_name_only():
    assert random_numbers(1, "a", 5).tolist() == random_numbers(1, "a", 50)[:5].tolist()
    assert random_numbers(1, "a", 5).tolist() != random_numbers(1, "b", 5).tolist()
    assert random_numbers(1, "a", 5).tolist() != random_numbers(2, "a", 5).tolist()


def test_tokens_are_sampled_with_their_probability():
    scores = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -9.0])
    rows = 20_000
    names = [str(i) for i in range(rows)]
    sampling = {"max_new_tokens": 1, "temperature": 0.7, "top_k": 4, "top_p": 0.9}
    steps = drawing(sampling, seed=0, names=names, prompt_length=1, device=torch.device("cpu"))
    kept = steps(torch.zeros(rows, 1, dtype=torch.long), scores.repeat(rows, 1))
    assert ((kept > -torch.inf).sum(dim=1) == 1).all()
    share = torch.bincount(kept.argmax(dim=1), minlength=6) / rows
    expected = torch.exp(scores / 0.7)
    expected[3:] = 0  # beyond the first four, and then beyond 0.9 of the probability
    expected /= expected.sum()
    assert share.tolist() == pytest.approx(expected.tolist(), abs=0.01)
    assert share[3:].sum() == 0
    assert not drawing(sampling | {"temperature": 0}, 0, names, 1, torch.device("cpu"))
