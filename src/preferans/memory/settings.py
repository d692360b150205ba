"""The settings of a step that decide its memory, from a recipe."""

import dataclasses
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from transformers import AutoConfig, PretrainedConfig
from trl import DPOConfig, ModelConfig

from ..errors import PreferansError, did_you_mean
from ..hardware.decisions import decide_kernels
from ..hardware.device import Device
from ..models.lora_modules import lora_targets
from ..training.arguments import PreferansArguments
from ..training.packed_pairs import why_not_packed


@dataclass(frozen=True)
class StepSettings:
    """
    Settings that decide the memory of a step. Fields that are not listed are the recipe's keys of the same name.

    Args:
        prompt_tokens (`int`), chosen_tokens (`int`), rejected_tokens (`int`): Lengths of the longest pair.
        pairs (`int`), evaluated_pairs (`int`): Pairs in a training batch, and in a batch without gradients.
        accumulates (`bool`): Whether gradients of an earlier batch of the same step exist already.
        head_tile (`int`): Vocabulary entries in one tile of the LM head.
        grouped_heads (`bool`): Whether attention uses grouped key/value heads without repeating them.
        emulate_cuda (`bool`): Whether a CUDA card computes instead of the CPU.
        triton (`bool`): Whether the LM head runs in Triton kernels, which need no tile in fp32.
    """

    prompt_tokens: int = 32
    chosen_tokens: int = 992
    rejected_tokens: int = 991
    pairs: int = 1
    evaluated_pairs: int = 1
    accumulates: bool = False
    load_in_4bit: bool = True
    use_bnb_nested_quant: bool = True
    bnb_4bit_quant_type: str = "nf4"
    dtype: str = "float16"
    fp16: bool = True
    bf16: bool = False
    lora_r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    lora_target_modules: tuple[str, ...] | str | None = "all-linear"
    use_dora: bool = False
    disable_dropout: bool = True
    optim: str = "adamw_torch"
    loss_type: tuple[str, ...] = ("sigmoid",)
    gradient_checkpointing: bool = True
    activation_offloading: bool = False
    pair_layout: str = "padded"
    precompute_ref_log_probs: bool = True
    attn_implementation: str | None = None
    head_tile: int = 32768
    grouped_heads: bool = False
    triton: bool = False
    emulate_cuda: bool = True


# With a short prompt most tokens are scored: the worst case of a length.
SHORT_PROMPT = 32
SMALLEST_TILE = 1024
LAYOUT_WORDS = {
    "padded": "both answers in one pass",
    "packed": "both answers in one packed row",
    "separate": "separate passes",
}


def known_shapes() -> dict[str, dict]:
    """Return the shapes of the recipes' models on the Hub, which are part of this package."""
    return json.loads(files(__package__).joinpath("model_shapes.json").read_text(encoding="utf-8"))


def load_shape(name: str, revision: str = "main") -> PretrainedConfig:
    """
    Load the text configuration of a model, without its weights.

    Args:
        name (`str`):
            Folder or Hub id. The shapes of the recipes' models are part of this package; for other models on the Hub the
            configuration is downloaded.
        revision (`str`, *optional*, defaults to `"main"`): Revision on the Hub.

    Raises:
        [`PreferansError`]: if it cannot be read.
    """
    shapes = known_shapes()
    if name in shapes and not Path(name, "config.json").is_file():
        shape = dict(shapes[name])
        return AutoConfig.for_model(shape.pop("model_type"), **shape)
    try:
        return AutoConfig.from_pretrained(name, revision=revision).get_text_config()
    except (OSError, ValueError) as error:
        raise PreferansError(
            f"model_name_or_path {name}: its configuration cannot be read ({' '.join(str(error).split()):.200}).{did_you_mean(name, shapes)} "
            f"Known without the Hub: {', '.join(shapes)}."
        ) from None


def _defaults() -> dict[str, Any]:
    """Return TRL's and our default of each key."""
    return {
        field.name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        for kind in (ModelConfig, DPOConfig, PreferansArguments)
        for field in dataclasses.fields(kind)
        if field.init and (field.default, field.default_factory) != (dataclasses.MISSING, dataclasses.MISSING)
    }


def settings_of(
    recipe_keys: dict[str, Any], config: PretrainedConfig, device: Device, pair: tuple[int, int, int] | None = None
) -> StepSettings:
    """
    Derive the settings of a step from a recipe.

    Args:
        recipe_keys (`dict`): Keys that the recipe or the command line sets; the others have TRL's defaults.
        config ([`~transformers.PretrainedConfig`]): See [`load_shape`].
        device ([`~preferans.hardware.device.Device`]): Device of the run.
        pair (`tuple[int, int, int]`, *optional*):
            Tokens of prompt, chosen and rejected answer of the longest pair. By default a pair that fills `max_length`.

    Raises:
        [`PreferansError`]: if no length is set, or it exceeds the model's positions.
    """
    keys = _defaults() | recipe_keys
    pair = pair or _longest_possible_pair(keys["max_length"])
    longest = pair[0] + max(pair[1:])
    positions = getattr(config, "n_positions", None)  # learned positions are limited; rotary ones are not
    if positions and longest > positions:
        raise PreferansError(
            f"max_length {longest}: the model has no position beyond {positions}. Write max_length: {positions}."
        )
    dtype = keys["dtype"]
    if dtype in ("auto", None):
        dtype = str(getattr(config, "dtype", None) or "float32").removeprefix("torch.")
    half = bool(keys["fp16"] or keys["bf16"] or dtype in ("float16", "bfloat16"))
    kernels = decide_kernels(device, config.vocab_size, half)
    evaluated = [keys["per_device_eval_batch_size"]]
    if keys["precompute_ref_log_probs"]:
        evaluated.append(keys["precompute_ref_batch_size"] or keys["per_device_train_batch_size"])
    targets = lora_targets(keys["lora_target_modules"])
    values: dict[str, Any] = {field.name: keys.get(field.name) for field in dataclasses.fields(StepSettings)}
    values |= {
        "pairs": keys["per_device_train_batch_size"],
        "evaluated_pairs": max(evaluated),
        "accumulates": keys["gradient_accumulation_steps"] > 1,
        "dtype": dtype,
        "fp16": bool(keys["fp16"]),
        "bf16": bool(keys["bf16"]),
        "lora_target_modules": tuple(targets) if isinstance(targets, list) else targets,
        "optim": str(keys["optim"]),
        "loss_type": tuple(keys["loss_type"] if isinstance(keys["loss_type"], list) else [keys["loss_type"]]),
        "pair_layout": keys["pair_layout"] or ("padded" if why_padded(recipe_keys, config) else "packed"),
        "head_tile": min(keys["head_tile"] or kernels.tile, config.vocab_size),
        "grouped_heads": kernels.attention == "grouped",
        "triton": kernels.triton,
        "emulate_cuda": device.kind == "cuda",
    } | dict(zip(("prompt_tokens", "chosen_tokens", "rejected_tokens"), pair, strict=True))
    return StepSettings(**values)


def has_dropout(recipe_keys: dict[str, Any]) -> bool:
    """Check whether a recipe turns dropout on, with which the layouts of pairs draw different numbers."""
    return recipe_keys.get("disable_dropout") is False and recipe_keys.get("lora_dropout") != 0.0


def why_padded(recipe_keys: dict[str, Any], config: PretrainedConfig) -> str | None:
    """Return why a recipe without `pair_layout` pads its pairs instead of packing them, or `None`."""
    if has_dropout(recipe_keys):
        return "dropout would draw other numbers for packed pairs"
    return why_not_packed(config, recipe_keys.get("attn_implementation") or "sdpa")


def _longest_possible_pair(max_length: int | None) -> tuple[int, int, int]:
    if max_length is None:
        raise PreferansError(
            "max_length is not set, so the longest pair is unknown. Set lengths, for example --lengths 512,1024."
        )
    prompt = min(SHORT_PROMPT, max_length // 4)
    return prompt, max_length - prompt, max(max_length - prompt - 1, 1)


class Switches(NamedTuple):
    """Keys of a recipe that change the memory of a step, but neither its loss nor its gradients."""

    gradient_checkpointing: bool
    pair_layout: str
    activation_offloading: bool
    head_tile: int

    @property
    def in_words(self) -> str:
        """Return for example `"separate passes, checkpointing, head in tiles of 4,096 words"`."""
        words = [LAYOUT_WORDS[self.pair_layout]]
        words += ["checkpointing"] * self.gradient_checkpointing + ["offloading"] * self.activation_offloading
        return ", ".join([*words, f"head in tiles of {self.head_tile:,} words"])

    def with_smaller_tile(self) -> "Switches":
        """Return the switches with a quarter of the tile, but not less than `SMALLEST_TILE`."""
        return self._replace(head_tile=max(self.head_tile // 4, SMALLEST_TILE))
