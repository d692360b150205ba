"""Precision and kernels, decided in one place from the card."""

from typing import NamedTuple

from ..errors import PreferansError
from .device import Device

# TRL's own tile of the vocabulary, and the one that keeps PyTorch's tiles near Triton's in size.
TRITON_TILE = 32768
TORCH_TILE = 4096

# Model types whose activations or gradients leave the range of fp16 (65,504), and where that is reported. In Gemma 3 270M a
# short Russian sentence drives the residual stream to 104,000.
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
    Check a recipe's precision against the device, and settle what the recipe leaves open.

    Args:
        device ([`Device`]):
            Where the run computes.
        fp16 (`bool`):
            The recipe's `fp16`.
        bf16 (`bool`, *optional*):
            The recipe's `bf16`, or `None` when the recipe does not say. TRL would then turn it on for any card.
        dtype (`str`, *optional*):
            The recipe's `dtype`, in which the weights are loaded and 4-bit blocks are computed.
        model_type (`str`, *optional*):
            The model's `model_type` in its `config.json`. Types in [`FP16_OVERFLOWS`] are refused for fp16.

    Returns:
        `tuple[bool, bool, str]`: `fp16`, `bf16` and the reason in words.

    Raises:
        [`PreferansError`]: when the device cannot compute what the recipe asks for.
    """
    if fp16 and bf16:
        raise PreferansError(
            "fp16 and bf16 are both true: choose one. A card before Ampere (GTX 16, RTX 20, T4) wants fp16."
        )
    if fp16 and dtype == "bfloat16":
        raise PreferansError("fp16: true and dtype: bfloat16 do not go together. Write dtype: float16.")
    if device.kind == "cuda" and not device.has_bf16 and dtype in ("bfloat16", "auto"):
        raise PreferansError(
            f"dtype: {dtype}, but {device.in_words} only emulates bf16, in which most models are stored. Write dtype: float16, or "
            "float32 for Gemma."
        )
    overflows = model_type in FP16_OVERFLOWS
    if device.kind == "cuda" and overflows and (fp16 or dtype == "float16"):
        better = "bf16: true, fp16: false and dtype: bfloat16" if device.has_bf16 else "fp16: false and dtype: float32"
        raise PreferansError(
            f"{'fp16: true' if fp16 else 'dtype: float16'}, but numbers inside models of the type {model_type} grow beyond 65,504, the "
            f"greatest of fp16 ({FP16_OVERFLOWS[model_type]}), and the loss turns NaN. Write {better}."
        )
    if device.kind == "cpu":
        if fp16:
            raise PreferansError(
                "fp16: true needs a CUDA card, and this run computes on the CPU. Run it on the card, or add "
                "--fp16 false --dtype float32 to try the recipe here."
            )
        if dtype == "float16":
            raise PreferansError(
                "dtype: float16 needs a CUDA card, and this run computes on the CPU. Add --dtype float32 to try it here."
            )
        return False, bool(bf16), "fp32 on the CPU" if not bf16 else "bf16 on the CPU, because the recipe says so"
    if fp16:
        return (
            True,
            False,
            f"fp16 with a gradient scaler on {device.in_words}, as the recipe says",
        )
    if device.has_bf16:
        if bf16 is False:
            return False, False, f"{dtype} on {device.name}, because the recipe turns bf16 off"
        return False, True, f"bf16 on {device.in_words}"
    if bf16:
        raise PreferansError(
            f"bf16: true, but {device.in_words} only emulates bf16, which starts with 8.0. "
            + (
                f"Write fp16: false and dtype: float32; {model_type} overflows in fp16."
                if overflows
                else "Write fp16: true and dtype: float16, or leave both out for fp32."
            )
        )
    if overflows:
        return False, False, f"fp32, because {device.in_words} has no bf16 and {model_type} overflows in fp16"
    return False, False, f"fp32, because {device.in_words} has no bf16 and the recipe does not ask for fp16"


class Decisions(NamedTuple):
    """
    What a training step is computed with.

    Attributes:
        triton (`bool`): Whether the head's tiles are folded by Triton, else by PyTorch.
        tile (`int`): Words of the vocabulary scored at once.
        attention (`str`): `"grouped"` when attention takes grouped heads as they are, `"repeated"` when key and value heads
            are repeated for it.
        reason (`str`): Why, in words.
    """

    triton: bool
    tile: int
    attention: str
    reason: str


def decide_kernels(
    device: Device,
    vocab_size: int | None = None,
    half: bool = True,
) -> Decisions:
    """
    Choose what a training step is computed with.

    Args:
        device ([`Device`]):
            Where the run computes.
        vocab_size (`int`, *optional*):
            Words of the model's vocabulary; a tile is never wider.
        half (`bool`, *optional*, defaults to `True`):
            Whether activations are fp16 or bf16. Flash kernels take no others.

    Returns:
        [`Decisions`]: ready for [`apply_kernels`].
    """
    on_card = device.kind == "cuda"
    triton = on_card and device.triton
    tile = TORCH_TILE if on_card and not triton else TRITON_TILE
    tile = min(tile, vocab_size or tile)
    folded = "Triton" if triton else "PyTorch"
    if not on_card:
        why = "Triton is for cards"
    elif triton:
        why = "a Triton kernel ran"
    else:
        why = "Triton supports 8.0 and above" if device.profile and not device.has_bf16 else "Triton does not run here"
    if not on_card:
        attention, attention_why = "grouped", "the CPU takes them so"
    elif half and device.grouped_heads in ("flash", "cudnn", "efficient"):
        attention, attention_why = "grouped", f"the {device.grouped_heads} kernel takes them so"
    elif not half:
        attention, attention_why = (
            "repeated",
            "in fp32 grouped ones fall back to the math kernel, which holds every score",
        )
    elif device.grouped_heads == "unknown":
        attention, attention_why = "repeated", "which every kernel takes"
    else:
        attention, attention_why = "repeated", "grouped ones fall back to the math kernel, which holds every score"
    return Decisions(
        triton,
        tile,
        attention,
        f"the head in tiles of {tile:,} words by {folded} ({why}); attention with {attention} heads ({attention_why})",
    )


_originals: dict[str, object] = {}


def apply_kernels(decisions: Decisions) -> None:
    """
    Make TRL and transformers compute as decided, in this process. A later call replaces an earlier one;
    [`restore_kernels`] undoes both.

    Args:
        decisions ([`Decisions`]):
            See [`decide_kernels`].
    """
    import transformers.integrations.sdpa_attention as attention
    import trl.kernels.chunked_logprob as head
    import trl.trainer.utils as fused

    if not _originals:
        _originals.update(
            triton=head._TRITON_AVAILABLE, tile=fused._CHUNKED_LOGPROB_CHUNK_SIZE, grouped=attention.use_gqa_in_sdpa
        )
    head._TRITON_AVAILABLE = _originals["triton"] and decisions.triton
    fused._CHUNKED_LOGPROB_CHUNK_SIZE = decisions.tile
    # transformers asks this before each call of SDPA; the answer no makes it repeat key and value heads.
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
