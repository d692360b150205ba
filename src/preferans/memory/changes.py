"""Changes of a recipe that save memory, and their price."""

import copy
import dataclasses
from typing import Any, NamedTuple

from transformers import PretrainedConfig

from .settings import SMALLEST_TILE, StepSettings

TRIMMED_VOCABULARY = 32_768


class Change(NamedTuple):
    """
    A change of the recipe that saves memory.

    Attributes:
        keys (`dict`): Keys to set.
        price (`str`): What it costs, in words.
        time (`float`): Time of a step as a multiple of today's, counted in passes through the model.
        peak (`int`): Peak with this change alone, in bytes.
        verdict (`str`): With this change alone.
        chosen (`bool`): Whether it belongs to the cheapest changes that make the run fit.
        equal (`bool`): Whether loss and gradients stay the same.
    """

    keys: dict[str, Any]
    price: str
    time: float
    peak: int
    verdict: str
    chosen: bool
    equal: bool


class Option(NamedTuple):
    """
    A way to save memory.

    Attributes:
        keys (`dict`), price (`str`), time (`float`), equal (`bool`): See [`Change`].
        fields (`dict`): Fields of [`~preferans.memory.settings.StepSettings`] to change.
        vocab_size (`int`, *optional*): Vocabulary to change to.
    """

    keys: dict[str, Any]
    price: str
    time: float
    equal: bool
    fields: dict[str, Any]
    vocab_size: int | None = None

    @property
    def in_words(self) -> str:
        return ", ".join(
            f"{key}: {str(value).lower() if isinstance(value, bool) else value}" for key, value in self.keys.items()
        )

    def apply(self, config: PretrainedConfig, settings: StepSettings) -> tuple[PretrainedConfig, StepSettings]:
        """Shape and settings with this change."""
        settings = dataclasses.replace(settings, **self.fields)
        if self.vocab_size:
            config = copy.deepcopy(config)
            config.vocab_size = self.vocab_size
            settings = dataclasses.replace(settings, head_tile=min(settings.head_tile, self.vocab_size))
        return config, settings


def possible_changes(
    config: PretrainedConfig, settings: StepSettings, accumulation: int = 1, trimmed: bool = False
) -> list[Option]:
    """
    Changes of a recipe that may save memory, cheapest first.

    Args:
        config, settings, accumulation, trimmed:
            See [`make_plan`].

    Returns:
        `list[Option]`.
    """
    # Passes through the model in a step: forward, recomputation, and backward, which is as much as forward for a frozen base.
    passes = 3 if settings.gradient_checkpointing else 2
    options = []

    def add(keys: dict, price: str, time: float, equal: bool, fields: dict, vocab_size: int | None = None) -> None:
        options.append(Option(keys, price, time, equal, fields, vocab_size))

    if settings.evaluated_pairs > settings.pairs:
        keys = {"per_device_eval_batch_size": settings.pairs, "precompute_ref_batch_size": settings.pairs}
        add(keys, "evaluation in smaller batches", 1.0, True, {"evaluated_pairs": settings.pairs})
    if settings.pairs > 1:
        keys = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": accumulation * settings.pairs}
        if settings.evaluated_pairs > 1:
            keys |= {"per_device_eval_batch_size": 1, "precompute_ref_batch_size": 1}
        fields = {"pairs": 1, "evaluated_pairs": 1, "accumulates": True}
        add(keys, "smaller products, little on a small card", 1.0, True, fields)
    if settings.head_tile > SMALLEST_TILE:
        tile = max(settings.head_tile // 4, SMALLEST_TILE)
        add({"head_tile": tile}, "more and smaller products in the head", 1.0, True, {"head_tile": tile})
    if settings.emulate_cuda and "8bit" not in settings.optim:
        keys = {"optim": "paged_adamw_8bit"}
        add(keys, "Adam's moments are rounded to 8 bits", 1.0, False, keys)
    if not settings.gradient_checkpointing:
        keys = {"gradient_checkpointing": True}
        add(keys, "activations are computed twice", 3 / 2, True, keys)
    if not settings.separate_passes:
        keys = {"separate_passes": True, "precompute_ref_log_probs": True}
        time = 1 + (1 - 1 / (2 * settings.pairs)) / passes
        add(keys, "one more forward pass for every sequence but one", time, True, keys)
    if not trimmed and config.vocab_size > 2 * TRIMMED_VOCABULARY:
        keys = {"model_name_or_path": "a folder from scripts/trim_vocab.py"}
        add(keys, "words of other languages take more tokens", 1.0, False, {}, TRIMMED_VOCABULARY)
    if settings.emulate_cuda and not settings.activation_offloading:
        keys = {"activation_offloading": True}
        add(keys, "kept activations travel to the computer's memory and back, in each step", 1.2, True, keys)
    if settings.lora_r > 4:
        keys = {"lora_r": settings.lora_r // 2, "lora_alpha": settings.lora_alpha // 2}
        add(keys, "the adapter can learn less", 1.0, False, keys)
    longest = settings.prompt_tokens + max(settings.chosen_tokens, settings.rejected_tokens)
    for share in (3 / 4, 1 / 2):
        length = int(longest * share) // 64 * 64
        answer = length - settings.prompt_tokens
        if answer >= settings.prompt_tokens:
            fields = {
                "chosen_tokens": min(settings.chosen_tokens, answer),
                "rejected_tokens": min(settings.rejected_tokens, answer - 1),
            }
            add({"max_length": length}, "the ends of longer answers are cut off", share, False, fields)
    return options
