"""Changes of a recipe that save memory, and their cost."""

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
        price (`str`): Its cost, in words.
        time (`float`): Time per step relative to the present, counted in passes through the model.
        peak (`int`): Peak in bytes with this change alone.
        verdict (`str`): Verdict with this change alone.
        chosen (`bool`): Whether it is one of the cheapest changes that make the run fit.
        equal (`bool`): Whether loss and gradients stay the same.
    """

    keys: dict[str, Any]
    price: str
    time: float
    peak: int
    verdict: str
    chosen: bool
    equal: bool


def keys_in_words(keys: dict[str, Any]) -> str:
    """Format keys as a recipe has them, for example `"pair_layout: separate, lora_r: 8"`."""
    return ", ".join(
        f"{key}: {str(value).lower() if isinstance(value, bool) else value}" for key, value in keys.items()
    )


class Option(NamedTuple):
    """
    A change that is not traced yet.

    Attributes:
        keys (`dict`), price (`str`), time (`float`), equal (`bool`): See [`Change`].
        fields (`dict`): Fields of [`~preferans.memory.settings.StepSettings`] to change.
        vocab_size (`int`, *optional*): New size of the vocabulary.
    """

    keys: dict[str, Any]
    price: str
    time: float
    equal: bool
    fields: dict[str, Any]
    vocab_size: int | None = None

    def apply(self, config: PretrainedConfig, settings: StepSettings) -> tuple[PretrainedConfig, StepSettings]:
        """Return shape and settings with this change."""
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
    List changes of a recipe that may save memory, cheapest first.

    Args:
        config ([`~transformers.PretrainedConfig`]), settings ([`StepSettings`])
        accumulation (`int`, *optional*, defaults to 1): The recipe's `gradient_accumulation_steps`.
        trimmed (`bool`, *optional*, defaults to `False`): Whether the vocabulary is trimmed already.
    """
    # Passes through the model in a step: forward, recomputation, and backward, which costs as much as forward for a frozen base.
    passes = 3 if settings.gradient_checkpointing else 2
    options: list[Option] = []
    keys: dict[str, Any]

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
        add(keys, "smaller matrix products, which cost little on a small card", 1.0, True, fields)
    if settings.head_tile > SMALLEST_TILE:
        tile = max(settings.head_tile // 4, SMALLEST_TILE)
        add({"head_tile": tile}, "more and smaller products in the head", 1.0, True, {"head_tile": tile})
    if settings.emulate_cuda and "8bit" not in settings.optim:
        keys = {"optim": "paged_adamw_8bit"}
        add(keys, "Adam's moments are rounded to 8 bits", 1.0, False, keys)
    if not settings.gradient_checkpointing:
        keys = {"gradient_checkpointing": True}
        add(keys, "activations are computed twice", 3 / 2, True, keys)
    if settings.pair_layout != "separate":
        keys = {"pair_layout": "separate", "precompute_ref_log_probs": True}
        time = 1 + (1 - 1 / (2 * settings.pairs)) / passes
        add(keys, "one more forward pass for every sequence except one", time, True, keys)
    if not trimmed and config.vocab_size > 2 * TRIMMED_VOCABULARY:
        keys = {"model_name_or_path": "a folder from scripts/trim_vocab.py"}
        add(keys, "words of other languages need more tokens", 1.0, False, {}, TRIMMED_VOCABULARY)
    if settings.emulate_cuda and not settings.activation_offloading:
        keys = {"activation_offloading": True}
        add(keys, "activations are moved to the computer's memory and back in each step", 1.2, True, keys)
    if settings.lora_r > 4:
        keys = {"lora_r": settings.lora_r // 2, "lora_alpha": settings.lora_alpha // 2}
        add(keys, "the adapter can learn less", 1.0, False, keys)
    return options + _shorter_lengths(settings)


def _shorter_lengths(settings: StepSettings) -> list[Option]:
    options = []
    longest = settings.prompt_tokens + max(settings.chosen_tokens, settings.rejected_tokens)
    for share in (3 / 4, 1 / 2):
        length = int(longest * share) // 64 * 64
        answer = length - settings.prompt_tokens
        if answer >= settings.prompt_tokens:
            fields = {
                "chosen_tokens": min(settings.chosen_tokens, answer),
                "rejected_tokens": min(settings.rejected_tokens, answer - 1),
            }
            price = "the ends of longer answers are cut off"
            options.append(Option({"max_length": length}, price, share, False, fields))
    return options
