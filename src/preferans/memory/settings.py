"""What a recipe means for the memory of a step."""

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
from ..training.arguments import PreferansArguments


@dataclass(frozen=True)
class StepSettings:
    """
    What decides the memory of a step, named as in a recipe.

    Args:
        prompt_tokens, chosen_tokens, rejected_tokens (`int`):
            Lengths of the longest pair, as the model reads it.
        pairs (`int`), evaluated_pairs (`int`):
            Pairs in a training batch, and in a batch without gradients.
        accumulates (`bool`):
            Whether gradients of an earlier batch of the same step are there already.
        head_tile (`int`):
            Vocabulary entries in one tile of the LM head.
        fp16, bf16 (`bool`):
            Mixed precision.
        grouped_heads (`bool`):
            Whether attention takes grouped key/value heads as they are, instead of repeated ones.
        emulate_cuda (`bool`):
            Whether a CUDA card computes; else the CPU does.
        triton (`bool`):
            Whether the LM head runs in Triton kernels, which need no tile in fp32.

    The others are the recipe's keys of the same name.
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
    separate_passes: bool = False
    precompute_ref_log_probs: bool = True
    attn_implementation: str | None = None
    head_tile: int = 32768
    grouped_heads: bool = False
    triton: bool = False
    emulate_cuda: bool = True


# A short prompt leaves most tokens to be scored: the worst case of a length.
SHORT_PROMPT = 32
SMALLEST_TILE = 1024


def known_shapes() -> dict[str, dict]:
    """Shapes of the recipes' models on the Hub, which are part of this package."""
    return json.loads(files(__package__).joinpath("model_shapes.json").read_text(encoding="utf-8"))


def load_shape(name: str, revision: str = "main") -> PretrainedConfig:
    """
    The shape of a model, without its weights.

    Args:
        name (`str`):
            Folder or Hub id. The shapes of the recipes' models are part of this package; for others on the Hub the
            configuration is downloaded.
        revision (`str`, *optional*, defaults to `"main"`):
            Revision on the Hub.

    Returns:
        [`~transformers.PretrainedConfig`]: the text model's configuration.

    Raises:
        [`PreferansError`]: when there is none.
    """

    shapes = known_shapes()
    if name in shapes and not Path(name, "config.json").is_file():
        shape = dict(shapes[name])
        return AutoConfig.for_model(shape.pop("model_type"), **shape)
    try:
        return AutoConfig.from_pretrained(name, revision=revision).get_text_config()
    except (OSError, ValueError) as error:
        raise PreferansError(
            f"model_name_or_path {name}: its shape cannot be read ({' '.join(str(error).split()):.200}).{did_you_mean(name, shapes)} "
            f"Without the Hub these are known: {', '.join(shapes)}."
        ) from None


def settings_of(
    recipe_keys: dict[str, Any], config: PretrainedConfig, device: Device, pair: tuple[int, int, int] | None = None
) -> "StepSettings":
    """
    What a recipe means for the memory of a step.

    Args:
        recipe_keys (`dict`):
            Keys that the recipe or the command line sets; the others have TRL's defaults.
        config ([`~transformers.PretrainedConfig`]):
            See [`load_shape`].
        device ([`~preferans.hardware.device.Device`]):
            Where the run shall compute.
        pair (`tuple[int, int, int]`, *optional*):
            Tokens of prompt, chosen and rejected answer of the longest pair. By default a pair that fills `max_length`.

    Returns:
        [`~preferans.memory.settings.StepSettings`].

    Raises:
        [`PreferansError`]: when no length is known, or it is more than the model has positions for.
    """

    defaults = {
        field.name: field.default_factory() if field.default is dataclasses.MISSING else field.default
        for kind in (ModelConfig, DPOConfig, PreferansArguments)
        for field in dataclasses.fields(kind)
        if field.init and (field.default, field.default_factory) != (dataclasses.MISSING, dataclasses.MISSING)
    }

    def value(key: str) -> Any:
        return recipe_keys.get(key, defaults[key])

    max_length = value("max_length")
    if pair is None:
        if max_length is None:
            raise PreferansError(
                "max_length is not set, so no longest pair is known: name lengths, --lengths 512,1024."
            )
        prompt = min(SHORT_PROMPT, max_length // 4)
        pair = (prompt, max_length - prompt, max(max_length - prompt - 1, 1))
    longest = pair[0] + max(pair[1:])
    positions = getattr(config, "n_positions", None)  # learned positions end; rotary ones do not
    if positions and longest > positions:
        raise PreferansError(
            f"max_length {longest}: the model knows no position beyond {positions}. Write max_length: {positions}."
        )
    on_card = device.kind == "cuda"
    dtype = value("dtype")
    if dtype in ("auto", None):
        dtype = str(getattr(config, "dtype", None) or "float32").removeprefix("torch.")
    half = bool(value("fp16") or value("bf16") or dtype in ("float16", "bfloat16"))
    kernels = decide_kernels(device, config.vocab_size, half)
    targets = value("lora_target_modules")
    named = {
        key: value(key)
        for key in (
            "load_in_4bit", "use_bnb_nested_quant", "bnb_4bit_quant_type", "lora_r", "lora_alpha", "lora_dropout",
            "use_dora", "disable_dropout", "gradient_checkpointing", "activation_offloading", "precompute_ref_log_probs",
            "attn_implementation",
        )
    }  # fmt: skip
    evaluated = [value("per_device_eval_batch_size")]
    if value("precompute_ref_log_probs"):
        evaluated.append(value("precompute_ref_batch_size") or value("per_device_train_batch_size"))
    return StepSettings(
        *pair,
        pairs=value("per_device_train_batch_size"),
        accumulates=value("gradient_accumulation_steps") > 1,
        dtype=dtype,
        evaluated_pairs=max(evaluated),
        fp16=bool(value("fp16")),
        bf16=bool(value("bf16")),
        lora_target_modules=targets if isinstance(targets, str | None) else _one_or_all(targets),
        optim=str(value("optim")),
        loss_type=tuple(_as_list(value("loss_type"))),
        separate_passes=bool(value("separate_passes")),
        head_tile=min(value("head_tile") or kernels.tile, config.vocab_size),
        grouped_heads=kernels.attention == "grouped",
        triton=kernels.triton,
        emulate_cuda=on_card,
        **named,
    )


def _as_list(value: Any) -> list:
    return value if isinstance(value, list) else [value]


def _one_or_all(targets: list[str]) -> tuple[str, ...] | str:
    """As TRL reads them: a list of one word is the word, since `all-linear` is none of the layers' names."""
    return targets[0] if len(targets) == 1 else tuple(targets)


class Switches(NamedTuple):
    """
    What changes the memory of a step, and neither its loss nor its gradients.

    Attributes:
        gradient_checkpointing (`bool`), separate_passes (`bool`), activation_offloading (`bool`), head_tile (`int`):
            The recipe's keys of these names.
    """

    gradient_checkpointing: bool
    separate_passes: bool
    activation_offloading: bool
    head_tile: int

    @property
    def in_words(self) -> str:
        """Such as `"separate passes, checkpointing, head in tiles of 4,096 words"`."""
        words = ["separate passes" if self.separate_passes else "both answers in one pass"]
        words += ["checkpointing"] * self.gradient_checkpointing + ["offloading"] * self.activation_offloading
        return ", ".join([*words, f"head in tiles of {self.head_tile:,} words"])

    def with_smaller_tile(self) -> "Switches":
        """A quarter of the tile, but not less than what still saves something."""
        return self._replace(head_tile=max(self.head_tile // 4, SMALLEST_TILE))
