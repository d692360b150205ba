"""Limits of the numbers in a recipe."""

import dataclasses

import pytest
from trl import DPOConfig, ModelConfig, ScriptArguments, SFTConfig

from preferans.errors import PreferansError
from preferans.training.arguments import PreferansArguments
from preferans.training.key_limits import LIMITS, check_numbers

NAN = float("nan")


@pytest.mark.parametrize(
    ("key", "values", "words"),
    [
        ("beta", [-1.0, 0, NAN], "must be above 0"),
        (
            "learning_rate",
            [0, -1e-5],
            "must be above 0. For a control that learns nothing, add --control zero_learning_rate.",
        ),
        ("lora_r", [0], "must be above 0"),
        ("num_train_epochs", [0, -1], "must be above 0"),
        ("save_steps", [0, -1], "must be above 0"),
        ("weight_decay", [-0.1], "must be at least 0"),
        ("warmup_steps", [-5], "must be at least 0"),
        ("ld_alpha", [-0.5, 2], "must be from 0 to 1"),
        ("lora_dropout", [-0.5, 1.0], "must be at least 0 and below 1"),
        ("label_smoothing", [-0.1, 0.5, 0.7], "must be at least 0 and below 0.5"),
        ("max_steps", [0, -5], "must be above 0, or -1 for num_train_epochs"),
    ],
)
def test_rejects_numbers_with_which_training_makes_no_sense(key, values, words):
    for value in values:
        with pytest.raises(PreferansError) as caught:
            check_numbers({key: value}, "r.yaml")
        assert str(caught.value).startswith(f"r.yaml: {key} is {value}, but {words}")


def test_checks_every_number_of_a_list():
    with pytest.raises(PreferansError, match="loss_weights is -1.0, but must be at least 0"):
        check_numbers({"loss_weights": [1.0, -1.0]}, "r.yaml")


def test_accepts_every_default_and_knows_no_key_that_does_not_exist():
    kinds = (PreferansArguments, ScriptArguments, ModelConfig, DPOConfig, SFTConfig)
    defaults = {field.name: field.default for kind in kinds for field in dataclasses.fields(kind)}
    check_numbers(defaults, "r.yaml")
    check_numbers({"max_steps": -1, "learning_rate": 1e-12}, "r.yaml")
    assert {key for _, _, keys in LIMITS for key in keys} <= defaults.keys()
