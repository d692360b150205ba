"""What the machine can compute with, decided in one place and said aloud with its reason."""

import os
from typing import NamedTuple

from .errors import PreferansError


class Device(NamedTuple):
    """
    The device a run computes on.

    Attributes:
        kind (`str`): `"cuda"` or `"cpu"`.
        name (`str`): Name of the card, or `"CPU"`.
        capability (`tuple[int, int]`): CUDA compute capability, `(0, 0)` on the CPU. Turing is (7, 5).
        memory (`int`): Total memory of the card in bytes, 0 on the CPU.
    """

    kind: str
    name: str
    capability: tuple[int, int]
    memory: int

    @property
    def has_bf16(self) -> bool:
        """
        Whether the card computes in bf16 itself. `torch.cuda.is_bf16_supported()` also says yes where bf16 is emulated, as
        on Turing; the compute capability does not.
        """
        return self.capability >= (8, 0)


def find_device(use_cpu: bool = False) -> Device:
    """Look at the machine. With `use_cpu`, or when `accelerate launch` was told so, a card is passed over."""
    import torch

    use_cpu = use_cpu or os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "on")
    if use_cpu or not torch.cuda.is_available():
        return Device("cpu", "CPU", (0, 0), 0)
    properties = torch.cuda.get_device_properties(0)
    return Device("cuda", properties.name, (properties.major, properties.minor), properties.total_memory)


def decide_precision(device: Device, fp16: bool, bf16: bool | None, dtype: str | None) -> tuple[bool, bool, str]:
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
            f"dtype: {dtype}, but {device.name} (compute capability {'.'.join(map(str, device.capability))}) only emulates bf16, in "
            "which most models are stored. Write dtype: float16, or float32 for Gemma."
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
    capability = ".".join(map(str, device.capability))
    if fp16:
        return (
            True,
            False,
            f"fp16 with a gradient scaler on {device.name} (compute capability {capability}), as the recipe says",
        )
    if device.has_bf16:
        if bf16 is False:
            return False, False, f"{dtype} on {device.name}, because the recipe turns bf16 off"
        return False, True, f"bf16 on {device.name} (compute capability {capability})"
    if bf16:
        raise PreferansError(
            f"bf16: true, but {device.name} (compute capability {capability}) only emulates bf16, which starts with 8.0. Write "
            "fp16: true and dtype: float16, or leave both out for fp32."
        )
    return (
        False,
        False,
        f"fp32, because {device.name} (compute capability {capability}) has no bf16 and the recipe does not ask for fp16",
    )


def peak_memory() -> int:
    """Most memory this process has held so far, in bytes: on the card if it used one, else of the machine."""
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        import psutil

        return psutil.Process().memory_info().peak_wset
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB
