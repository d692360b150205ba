"""Precision and kernels, decided in one place from the card."""

from typing import Any, NamedTuple

from ..errors import PreferansError
from .device import Device

# TRL's tile of the vocabulary for Triton, and a tile with which PyTorch needs a similar amount of memory.
TRITON_TILE = 32768
TORCH_TILE = 4096

# Model types whose activations or gradients exceed the range of fp16 (65,504), with a report of it. In Gemma 3 270M a short
# Russian sentence drives the residual stream to 104,000.
FP16_OVERFLOWS = {
    "falcon_h1": "unsloth-zoo#212",
    "gemma": "gemma_pytorch#24",
    "gemma2": "onnxruntime-genai#2444",
    "gemma3": "unsloth#4014",
    "gemma3_text": "unsloth#4014",
    "gemma3n": "unsloth#3332",
    "gemma3n_text": "unsloth#3332",
    "gemma4": "unsloth-zoo#866",
    "gemma4_text": "unsloth-zoo#866",
    "glm4_moe": "unsloth-zoo#866",
    "gpt_oss": "onnxruntime-genai#2444",
    "qwen3_5": "unsloth-zoo#978",
    "qwen3_5_text": "unsloth-zoo#978",
    "qwen3_moe": "unsloth-zoo#866",
    "t5": "transformers#5651",
    "mt5": "transformers#5651",
}


def decide_precision(
    device: Device, fp16: bool, bf16: bool | None, dtype: str | None, model_type: str | None = None
) -> tuple[bool, bool, str]:
    """
    Check a recipe's precision against the device, and decide what the recipe leaves open.

    Args:
        device ([`Device`]): The device of the run.
        fp16 (`bool`): The recipe's `fp16`.
        bf16 (`bool`, *optional*): The recipe's `bf16`; `None` if it is not set. TRL would then enable it on any card.
        dtype (`str`, *optional*): The recipe's `dtype`, for loaded weights and for computing 4-bit blocks.
        model_type (`str`, *optional*): `model_type` of the model's `config.json`. Types in [`FP16_OVERFLOWS`] cannot use fp16.

    Returns:
        `tuple[bool, bool, str]`: `fp16`, `bf16` and the reason.

    Raises:
        [`PreferansError`]: if the device does not support the recipe's precision.
    """
    if fp16 and bf16:
        raise PreferansError(
            "fp16 and bf16 are both true: choose one. Cards before Ampere (GTX 16, RTX 20, T4) need fp16."
        )
    if fp16 and dtype == "bfloat16":
        raise PreferansError("fp16: true cannot be combined with dtype: bfloat16. Write dtype: float16.")
    if device.kind == "cpu":
        return _on_cpu(fp16, bf16, dtype)
    _check_dtype(device, fp16, dtype, model_type)
    if fp16:
        return True, False, f"fp16 with a gradient scaler on {device.in_words}, as in the recipe"
    if device.has_bf16:
        if bf16 is False:
            return False, False, f"{dtype} on {device.name}, because bf16 is false in the recipe"
        return False, True, f"bf16 on {device.in_words}"
    overflows = model_type in FP16_OVERFLOWS
    if bf16:
        remedy = (
            f"Write fp16: false and dtype: float32; {model_type} overflows in fp16."
            if overflows
            else "Write fp16: true and dtype: float16, or remove both for fp32."
        )
        raise PreferansError(f"bf16: true, but {device.in_words} only emulates bf16, which needs 8.0. {remedy}")
    reason = f"{model_type} overflows in fp16" if overflows else "fp16 is not set in the recipe"
    return False, False, f"fp32, because {device.in_words} has no bf16 and {reason}"


def _on_cpu(fp16: bool, bf16: bool | None, dtype: str | None) -> tuple[bool, bool, str]:
    if fp16:
        raise PreferansError(
            "fp16: true needs a CUDA card, and this run computes on the CPU. Run it on the card, or add --fp16 false --dtype float32 to "
            "try the recipe here."
        )
    if dtype == "float16":
        raise PreferansError(
            "dtype: float16 needs a CUDA card, and this run computes on the CPU. Add --dtype float32 to try it here."
        )
    return False, bool(bf16), "bf16 on the CPU, as in the recipe" if bf16 else "fp32 on the CPU"


def _check_dtype(device: Device, fp16: bool, dtype: str | None, model_type: str | None) -> None:
    if not device.has_bf16 and dtype in ("bfloat16", "auto"):
        raise PreferansError(
            f"dtype: {dtype}, but {device.in_words} only emulates bf16, in which most models are stored. Write dtype: float16, or "
            "float32 for Gemma."
        )
    if model_type in FP16_OVERFLOWS and (fp16 or dtype == "float16"):
        better = "bf16: true, fp16: false and dtype: bfloat16" if device.has_bf16 else "fp16: false and dtype: float32"
        raise PreferansError(
            f"{'fp16: true' if fp16 else 'dtype: float16'}, but values inside models of the type {model_type} exceed 65,504, the maximum of "
            f"fp16 ({FP16_OVERFLOWS[model_type]}), and the loss becomes NaN. Write {better}."
        )


class Decisions(NamedTuple):
    """
    The kernels of a training step.

    Attributes:
        triton (`bool`): Whether Triton instead of PyTorch computes the LM head.
        tile (`int`): Words of the vocabulary that are scored at once.
        attention (`str`): `"grouped"`, or `"repeated"` if key and value heads are repeated for attention.
        reason (`str`): The reasons.
    """

    triton: bool
    tile: int
    attention: str
    reason: str


def decide_kernels(device: Device, vocab_size: int | None = None, half: bool = True) -> Decisions:
    """
    Choose the kernels of a training step.

    Args:
        device ([`Device`]): The device of the run.
        vocab_size (`int`, *optional*): Size of the model's vocabulary, the maximum of a tile.
        half (`bool`, *optional*, defaults to `True`): Whether activations are fp16 or bf16, which flash kernels require.
    """
    on_card = device.kind == "cuda"
    triton = on_card and device.triton
    tile = TORCH_TILE if on_card and not triton else TRITON_TILE
    tile = min(tile, vocab_size or tile)
    if not on_card:
        why = "Triton is for cards"
    elif triton:
        why = "a Triton kernel ran"
    else:
        why = "Triton supports 8.0 and above" if device.profile and not device.has_bf16 else "Triton does not run here"
    attention, attention_why = _attention(device, half)
    return Decisions(
        triton,
        tile,
        attention,
        f"the head in tiles of {tile:,} words by {'Triton' if triton else 'PyTorch'} ({why}); attention with {attention} heads "
        f"({attention_why})",
    )


def _attention(device: Device, half: bool) -> tuple[str, str]:
    if device.kind == "cpu":
        return "grouped", "supported on the CPU"
    if half and device.grouped_heads in ("flash", "cudnn", "efficient"):
        return "grouped", f"supported by the {device.grouped_heads} kernel"
    if not half:
        return "repeated", "in fp32 grouped heads need the math kernel, which stores every score"
    if device.grouped_heads == "unknown":
        return "repeated", "supported by every kernel"
    return "repeated", "grouped heads need the math kernel, which stores every score"


_originals: dict[str, Any] = {}


def apply_kernels(decisions: Decisions) -> None:
    """Apply the decisions of [`decide_kernels`] to TRL and transformers in this process; [`restore_kernels`] undoes it."""
    import transformers.integrations.sdpa_attention as attention
    import trl.kernels.chunked_logprob as head
    import trl.trainer.utils as fused

    if not _originals:
        _originals.update(
            triton=head._TRITON_AVAILABLE, tile=fused._CHUNKED_LOGPROB_CHUNK_SIZE, grouped=attention.use_gqa_in_sdpa
        )
    head._TRITON_AVAILABLE = _originals["triton"] and decisions.triton
    fused._CHUNKED_LOGPROB_CHUNK_SIZE = decisions.tile
    # transformers calls this before each call of SDPA, and repeats key and value heads if it is false.
    attention.use_gqa_in_sdpa = (
        (lambda attention_mask, key, value: False) if decisions.attention == "repeated" else _originals["grouped"]
    )


def restore_kernels() -> None:
    """Undo [`apply_kernels`]."""
    if not _originals:
        return
    import transformers.integrations.sdpa_attention as attention
    import trl.kernels.chunked_logprob as head
    import trl.trainer.utils as fused

    head._TRITON_AVAILABLE = _originals["triton"]
    fused._CHUNKED_LOGPROB_CHUNK_SIZE = _originals["tile"]
    attention.use_gqa_in_sdpa = _originals["grouped"]
    _originals.clear()
