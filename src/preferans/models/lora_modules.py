"""Check the modules that a recipe's LoRA keys name; PEFT ignores a wrong name beside a right one."""

import re
from collections.abc import Iterable
from typing import Any

import torch
from accelerate import init_empty_weights
from transformers import AutoModelForCausalLM, PretrainedConfig
from transformers.pytorch_utils import Conv1D

from ..errors import PreferansError, did_you_mean


def lora_targets(targets: list[str] | str | None) -> list[str] | str | None:
    """
    Return `lora_target_modules` as PEFT should read it.

    TRL turns a list of one name into the name, which PEFT reads as a regular expression for a module's whole name.

    Returns:
        `list[str]`, `str` or `None`: a list of names; a regular expression, `"all-linear"` or `None` unchanged.
    """
    words = _as_list(targets)
    if len(words) != 1:
        return words or None
    return words if words[0] != "all-linear" and re.fullmatch(r"[\w.]+", words[0]) else words[0]


def check_lora_modules(keys: dict[str, Any], config: PretrainedConfig, recipe_name: str) -> None:
    """
    Check every name in `lora_target_modules`, `lora_modules_to_save` and `lora_target_parameters` on the model without its weights.

    Args:
        keys (`dict`): Keys of the run.
        config ([`~transformers.PretrainedConfig`]): Configuration of the base model.
        recipe_name (`str`): The recipe's path for messages.

    Raises:
        [`PreferansError`]: names the key, the unknown name, and the names of the model.
    """
    targets = lora_targets(keys.get("lora_target_modules"))
    saved, parameters = _as_list(keys.get("lora_modules_to_save")), _as_list(keys.get("lora_target_parameters"))
    if targets in (None, "all-linear") and not saved and not parameters:
        return
    with init_empty_weights():
        model = AutoModelForCausalLM.from_config(config)
    modules = dict(model.named_modules())
    linear = [name for name, module in modules.items() if isinstance(module, torch.nn.Linear | Conv1D)]
    if isinstance(targets, list):
        _check_names(targets, modules, linear, f"{recipe_name}: lora_target_modules")
    elif targets not in (None, "all-linear"):
        _check_pattern(targets, modules, f"{recipe_name}: lora_target_modules")
    _check_names(saved, modules, linear, f"{recipe_name}: lora_modules_to_save")
    names = [name for name, _ in model.named_parameters()]
    _check_names(parameters, names, names, f"{recipe_name}: lora_target_parameters")


def _check_names(wanted: list[str], names: Iterable[str], suggested: list[str], key: str) -> None:
    """Check that each wanted name is the end of a name, as PEFT compares them."""
    for word in wanted:
        if not any(f".{name}".endswith(f".{word}") for name in names):
            ends = _ends(suggested)
            raise PreferansError(
                f"{key}: '{word}' is not in the model.{did_you_mean(word, ends)} The model has {', '.join(ends)}."
            )


def _check_pattern(pattern: str, modules: Iterable[str], key: str) -> None:
    """Check that a regular expression matches the whole name of a module."""
    try:
        found = any(re.fullmatch(pattern, name) for name in modules)
    except re.error as error:
        raise PreferansError(f"{key}: '{pattern}' is not a valid regular expression ({error}).") from None
    if not found:
        raise PreferansError(
            f"{key}: the regular expression '{pattern}' matches no module's whole name, such as {list(modules)[-1]}."
        )


def _ends(names: list[str]) -> list[str]:
    """Return the last part of each name, once."""
    return list(dict.fromkeys(name.rpartition(".")[2] for name in names))


def _as_list(value: list[str] | str | None) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])
