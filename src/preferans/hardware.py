"""
What the machine can compute with, looked at and decided in one place, and said aloud with its reason.

Two halves: what looks ([`find_device`] and the probes, which give a reason where they fail) and what decides
([`decide_precision`], [`decide_kernels`]), which takes a [`Device`] and needs no card.
"""

import importlib.util
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from .errors import PreferansError, did_you_mean

MIB = 1 << 20
# What CUDA's context takes before the first tensor: 150 to 300 MiB, by driver and card.
CONTEXT_BYTES = 300 * MIB
# What a desktop on the same card takes: 200 to 600 MiB on Windows, also under WSL. A Linux machine can do without.
DESKTOP_BYTES = {"Windows": 500 * MIB, "WSL": 500 * MIB}

# TRL's own tile of the vocabulary, and the one that keeps PyTorch's tiles near Triton's in size.
TRITON_TILE = 32768
TORCH_TILE = 4096


def system_name() -> str:
    """`"Linux"`, `"WSL"` for Linux inside Windows, `"Windows"` or `"Darwin"`."""
    system = platform.system()
    return "WSL" if system == "Linux" and "microsoft" in platform.release().lower() else system


class Device(NamedTuple):
    """
    The device a run computes on.

    Attributes:
        kind (`str`): `"cuda"` or `"cpu"`.
        name (`str`): Name of the card, or `"CPU"`.
        capability (`tuple[int, int]`): CUDA compute capability, `(0, 0)` on the CPU. Turing is (7, 5).
        memory (`int`): Total memory of the card in bytes, 0 on the CPU.
        free_memory (`int`): Bytes that PyTorch could still take when the card was looked at, 0 on the CPU. CUDA's context is
            already taken off.
        system (`str`): `"Linux"`, `"WSL"`, `"Windows"` or `"Darwin"`.
        triton (`bool`): Whether a Triton kernel really compiled and ran.
        grouped_heads (`str`): Kernel that causal attention takes with fewer key heads than query heads and `enable_gqa`:
            `"flash"`, `"cudnn"`, `"efficient"` or `"math"`, which holds the whole matrix of scores; `"unknown"` when nobody
            looked.
        profile (`str`, *optional*): Name of the smaller card this one is made to be.
        notes (`tuple[str, ...]`): Why a probe found what it found.
    """

    kind: str
    name: str
    capability: tuple[int, int]
    memory: int
    free_memory: int = 0
    system: str = system_name()
    triton: bool = False
    grouped_heads: str = "unknown"
    profile: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def has_bf16(self) -> bool:
        """
        Whether the card computes in bf16 itself. `torch.cuda.is_bf16_supported()` also says yes where bf16 is emulated, as
        on Turing; the compute capability does not.
        """
        return self.capability >= (8, 0)

    @property
    def belongs_to_windows(self) -> bool:
        """
        Whether Windows manages the card's memory, natively or under WSL: then the desktop takes its share, a full card may spill
        into the computer's memory instead of failing, and managed memory, such as a paged optimizer's, cannot be paged out.
        """
        return self.kind == "cuda" and self.system in ("Windows", "WSL")

    @property
    def in_words(self) -> str:
        """Name and compute capability, such as `"GTX 1650 SUPER (compute capability 7.5)"`."""
        return self.name if self.kind == "cpu" else f"{self.name} (compute capability {_dotted(self.capability)})"


class CardProfile(NamedTuple):
    """
    A card that people have at home or rent.

    Attributes:
        name (`str`): Its name.
        capability (`tuple[int, int]`): CUDA compute capability.
        memory (`int`): Bytes that CUDA reports on Linux, which is less than the box says.
    """

    name: str
    capability: tuple[int, int]
    memory: int


# Memory as PyTorch's out-of-memory messages on Linux tell it ("total capacity of 3.81 GiB").
PROFILES = {
    "gtx1650": CardProfile("GTX 1650 4 GB", (7, 5), int(3.81 * 1024) * MIB),
    "rtx2060": CardProfile("RTX 2060 6 GB", (7, 5), int(5.79 * 1024) * MIB),
    "rtx3060": CardProfile("RTX 3060 12 GB", (8, 6), int(11.75 * 1024) * MIB),
    "t4": CardProfile("T4 16 GB", (7, 5), int(14.56 * 1024) * MIB),
    "rtx4090": CardProfile("RTX 4090 24 GB", (8, 9), int(23.64 * 1024) * MIB),
    "a100": CardProfile("A100 80 GB", (8, 0), int(79.15 * 1024) * MIB),
}

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


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))


def profile_device(name: str, system: str | None = None) -> Device:
    """
    A card known by name, for planning without it. Neither PyTorch nor a card is needed.

    Args:
        name (`str`):
            Key of [`PROFILES`].
        system (`str`, *optional*):
            See [`system_name`]; by default this machine's. On Windows a desktop shares the card.

    Returns:
        [`Device`]: the card with nothing on it but CUDA's context and, on Windows, the desktop.

    Raises:
        [`PreferansError`]: when there is no profile of this name.
    """
    if name not in PROFILES:
        raise PreferansError(
            f"hardware_profile {name}: there is no such profile.{did_you_mean(name, PROFILES)} Choose from {', '.join(PROFILES)}."
        )
    card = PROFILES[name]
    system = system or system_name()
    modern = card.capability >= (8, 0)
    return Device(
        kind="cuda",
        name=card.name,
        capability=card.capability,
        memory=card.memory,
        free_memory=card.memory - CONTEXT_BYTES - DESKTOP_BYTES.get(system, 0),
        system=system,
        # Triton supports 8.0 and above; an older card may still run it, and is planned without. The kernels that take grouped
        # heads start with 8.0 as well (transformers#48633).
        triton=modern and system in ("Linux", "WSL"),
        grouped_heads="flash" if modern else "math",
        profile=name,
    )


def find_device(use_cpu: bool = False, profile: str | None = None, triton: bool = True) -> Device:
    """
    Look at the machine.

    Args:
        use_cpu (`bool`, *optional*, defaults to `False`):
            Pass over a card, as is also done when `accelerate launch` was told so.
        profile (`str`, *optional*):
            Card of [`PROFILES`] that a bigger one shall behave like; [`apply_profile`] then holds it to that.
        triton (`bool`, *optional*, defaults to `True`):
            Whether to try Triton, which takes some seconds. Without, the device counts as one that cannot.

    Returns:
        [`Device`]: the device, with the notes of the probes.

    Raises:
        [`PreferansError`]: when the card does not answer, or the profile asks for a bigger one.
    """
    import torch

    wanted = profile_device(profile) if profile else None
    use_cpu = use_cpu or os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "on")
    if use_cpu or not torch.cuda.is_available():
        if wanted:
            raise PreferansError(
                f"hardware_profile {profile}: a profile makes a bigger card behave like a smaller one, and this run computes on "
                "the CPU. Leave hardware_profile out here; scripts/plan.py takes it without a card."
            )
        return Device("cpu", "CPU", (0, 0), 0)
    index = local_card()
    try:
        properties = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
    except RuntimeError as error:
        raise PreferansError(
            f"The card does not answer ({' '.join(str(error).split()):.200}). Close what else uses it, restart the machine or update "
            "the driver; --use_cpu true works without it."
        ) from None
    device = Device("cuda", properties.name, (properties.major, properties.minor), total, free)
    if wanted:
        device = as_profile(device, wanted)
    if not triton:
        runs, triton_note = False, "not asked for"
    elif wanted and not device.has_bf16:
        runs, triton_note = False, f"not used as {wanted.name}, because it supports 8.0 and above"
    else:
        runs, triton_note = probe_triton(index)
    if wanted and not device.has_bf16:
        grouped, attention_note = wanted.grouped_heads, f"the {wanted.grouped_heads} kernel takes it on {wanted.name}"
    else:
        grouped, attention_note = probe_grouped_heads("cuda")
    return device._replace(
        triton=runs,
        grouped_heads=grouped,
        notes=(f"Triton: {triton_note}.", f"Attention with grouped heads: {attention_note}."),
    )


def local_card() -> int:
    """Index of the card this process uses: that of its local rank when several processes were launched."""
    import torch

    rank = os.environ.get("LOCAL_RANK", "0")
    return int(rank) % max(torch.cuda.device_count(), 1) if rank.isdigit() else 0


def as_profile(device: Device, wanted: Device) -> Device:
    """
    A card seen as a smaller one.

    Args:
        device ([`Device`]):
            The real card.
        wanted ([`Device`]):
            See [`profile_device`].

    Returns:
        [`Device`]: has the wanted card's memory and abilities, as far as the real one has them too.

    Raises:
        [`PreferansError`]: when the real card is the smaller one.
    """
    # The same card differs by a few MiB from driver to driver.
    if device.memory < 0.95 * wanted.memory:
        raise PreferansError(
            f"hardware_profile {wanted.profile}: {wanted.name} has {_gib(wanted.memory)}, and {device.name} has only "
            f"{_gib(device.memory)}. A profile makes a card smaller, never bigger: leave it out, or choose a smaller one."
        )
    return device._replace(
        name=f"{wanted.name}, played by {device.name}",
        capability=min(device.capability, wanted.capability),
        memory=min(device.memory, wanted.memory),
        free_memory=min(device.free_memory, wanted.free_memory),
        profile=wanted.profile,
    )


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"


def apply_profile(device: Device) -> None:
    """
    Hold this process to the card of its profile: PyTorch may take no more memory than that card would leave, and a card
    before Ampere has no flash attention. Without a profile nothing is changed. Memory that PyTorch does not manage, such as a paged
    optimizer's, is not held.

    Args:
        device ([`Device`]):
            See [`find_device`].
    """
    if device.profile is None:
        return
    import torch

    index = local_card()
    total = torch.cuda.get_device_properties(index).total_memory
    torch.cuda.set_per_process_memory_fraction(device.free_memory / total, index)
    if not device.has_bf16:
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cuda.enable_cudnn_sdp(False)


def probe_triton(index: int = 0, timeout: float = 180) -> tuple[bool, str]:
    """
    Compile and run a small Triton kernel, in a process of its own so that a crash there is only an answer here.

    Args:
        index (`int`, *optional*, defaults to 0):
            Which card.
        timeout (`float`, *optional*, defaults to 180):
            Seconds to wait.

    Returns:
        `tuple[bool, str]`: whether its result was right, and what happened in words.
    """
    if importlib.util.find_spec("triton") is None:
        return False, "it is not installed"
    # This package may be found through the path of this process alone. -P: the folder one stands in is no place to import from.
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "preferans.triton_probe", str(index)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return False, f"a small kernel was not ready after {timeout:g} seconds"
    except OSError as error:
        return False, f"a process to try it could not be started ({error})"
    if done.returncode == 0:
        return True, "a small kernel compiled and gave the right result"
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return False, f"a small kernel failed ({lines[-1] if lines else f'exit status {done.returncode}'})"


def probe_grouped_heads(kind: str) -> tuple[str, str]:
    """
    Which kernel causal attention in half precision takes when four query heads share a key head.

    Args:
        kind (`str`):
            `"cuda"`, or `"cpu"`, where float32 is tried.

    Returns:
        `tuple[str, str]`: `"flash"`, `"cudnn"`, `"efficient"`, `"math"` or `"unknown"`, and what happened in words.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    names = {
        SDPBackend.FLASH_ATTENTION: "flash",
        SDPBackend.CUDNN_ATTENTION: "cudnn",
        SDPBackend.EFFICIENT_ATTENTION: "efficient",
        SDPBackend.MATH: "math",
    }
    try:
        dtype = torch.float16 if kind == "cuda" else torch.float32
        place = torch.device(kind, local_card()) if kind == "cuda" else torch.device(kind)
        query = torch.randn(1, 8, 128, 64, device=place, dtype=dtype, requires_grad=True)
        key = torch.randn(1, 2, 128, 64, device=place, dtype=dtype, requires_grad=True)
        # PyTorch's own choice; asking for that kernel alone shows that it really takes the call, and its gradient.
        chosen = SDPBackend(torch._fused_sdp_choice(query, key, key, is_causal=True, enable_gqa=True))
        with sdpa_kernel(chosen):
            output = torch.nn.functional.scaled_dot_product_attention(query, key, key, is_causal=True, enable_gqa=True)
        output.float().sum().backward()
    except Exception as error:  # a probe answers; it never stops the run
        return "unknown", f"not found out ({' '.join(str(error).split()):.120})"
    name = names.get(chosen, chosen.name.lower())
    return name, f"the {name} kernel takes it"


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
