"""The card or CPU that this machine computes on, and the profiles of cards that can be planned without one."""

import importlib.util
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from ..errors import PreferansError, did_you_mean

MIB = 1 << 20
# What CUDA's context takes before the first tensor: 150 to 300 MiB, by driver and card.
CONTEXT_BYTES = 300 * MIB
# What a desktop on the same card takes: 200 to 600 MiB on Windows, also under WSL. A Linux machine can do without.
DESKTOP_BYTES = {"Windows": 500 * MIB, "WSL": 500 * MIB}


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
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "preferans.hardware.triton_probe", str(index)],
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
