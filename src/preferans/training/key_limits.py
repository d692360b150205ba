"""Limits of the numbers in a recipe; TRL, PEFT and transformers accept invalid ones such as a negative `beta`."""

from collections.abc import Callable
from typing import Any

from ..errors import PreferansError

LIMITS: tuple[tuple[str, Callable[[float], bool], tuple[str, ...]], ...] = (
    (
        "above 0",
        lambda value: value > 0,
        (
            "beta",
            "learning_rate",
            "num_train_epochs",
            "max_length",
            "lora_r",
            "lora_alpha",
            "per_device_train_batch_size",
            "per_device_eval_batch_size",
            "precompute_ref_batch_size",
            "gradient_accumulation_steps",
            "head_tile",
            "pad_to_multiple_of",
            "adam_epsilon",
            "logging_steps",
            "eval_steps",
            "save_steps",
            "save_total_limit",
            "eval_accumulation_steps",
        ),
    ),
    (
        "at least 0",
        lambda value: value >= 0,
        (
            "loss_weights",
            "weight_decay",
            "warmup_steps",
            "max_grad_norm",
            "neftune_noise_alpha",
            "router_aux_loss_coef",
            "eval_delay",
            "dataloader_num_workers",
            "seed",
            "data_seed",
        ),
    ),
    ("from 0 to 1", lambda value: 0 <= value <= 1, ("ld_alpha",)),
    ("at least 0 and below 1", lambda value: 0 <= value < 1, ("lora_dropout", "adam_beta1", "adam_beta2")),
    # The probability that a label is wrong: from 0.5 on, the rejected answer is the likelier one.
    ("at least 0 and below 0.5", lambda value: 0 <= value < 0.5, ("label_smoothing",)),
    ("above 0, or -1 for num_train_epochs", lambda value: value > 0 or value == -1, ("max_steps",)),
)
CURES = {"learning_rate": " For a control that learns nothing, add --control zero_learning_rate."}


def check_numbers(recipe_keys: dict[str, Any], recipe_name: str) -> None:
    """
    Check the numbers of a recipe; with a negative `beta`, for example, DPO prefers the rejected answers.

    Args:
        recipe_keys (`dict`): Keys that the recipe or the command line sets.
        recipe_name (`str`): The recipe's path for messages.

    Raises:
        [`PreferansError`]: names the key and its limits.
    """
    for words, is_allowed, keys in LIMITS:
        for key in keys:
            value = recipe_keys.get(key)
            for number in value if isinstance(value, list) else [value]:
                if isinstance(number, (int, float)) and not is_allowed(number):
                    raise PreferansError(f"{recipe_name}: {key} is {number}, but must be {words}.{CURES.get(key, '')}")
