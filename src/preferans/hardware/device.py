"""The card or CPU of this machine, and profiles of cards for planning without one."""

import importlib.util
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from ..errors import PreferansError, did_you_mean

MIB = 1 << 20
# Memory of CUDA's context before the first tensor: 150 to 300 MiB, depending on driver and card.
CONTEXT_BYTES = 300 * MIB
# Memory of a desktop on the same card: 200 to 600 MiB on Windows and WSL. A Linux machine can run without one.
DESKTOP_BYTES = {"Windows": 500 * MIB, "WSL": 500 * MIB}


def system_name() -> str:
    """Return `"Linux"`, `"WSL"` for Linux inside Windows, `"Windows"` or `"Darwin"`."""
    system = platform.system()
    return "WSL" if system == "Linux" and "microsoft" in platform.release().lower() else system


class Device(NamedTuple):
    """
    The device of a run.

    Attributes:
        kind (`str`): `"cuda"` or `"cpu"`.
        name (`str`): Name of the card, or `"CPU"`.
        capability (`tuple[int, int]`): CUDA compute capability, `(0, 0)` on the CPU. Turing is (7, 5).
        memory (`int`): Total memory of the card in bytes, 0 on the CPU.
        free_memory (`int`): Free bytes for PyTorch, without CUDA's context, 0 on the CPU.
        system (`str`): `"Linux"`, `"WSL"`, `"Windows"` or `"Darwin"`.
        triton (`bool`): Whether a Triton kernel compiled and ran.
        grouped_heads (`str`):
            Kernel of causal attention with fewer key heads than query heads and `enable_gqa`: `"flash"`, `"cudnn"`, `"efficient"` or
            `"math"`, which stores the complete matrix of scores; `"unknown"` if it was not probed.
        profile (`str`, *optional*): Name of the smaller card that this one imitates.
        notes (`tuple[str, ...]`): Explanations of the probes' results.
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
        """Whether the card has bf16 units; `torch.cuda.is_bf16_supported()` is also true for emulation, as on Turing."""
        return self.capability >= (8, 0)

    @property
    def belongs_to_windows(self) -> bool:
        """
        Whether Windows manages the card's memory, natively or under WSL. Then the desktop uses some of it, a full card can spill into
        the computer's memory instead of failing, and managed memory, such as a paged optimizer's, cannot be paged out.
        """
        return self.kind == "cuda" and self.system in ("Windows", "WSL")

    @property
    def in_words(self) -> str:
        """Return name and compute capability, such as `"GTX 1650 SUPER (compute capability 7.5)"`."""
        return self.name if self.kind == "cpu" else f"{self.name} (compute capability {_dotted(self.capability)})"


class CardProfile(NamedTuple):
    """
    A common card.

    Attributes:
        name (`str`)
        capability (`tuple[int, int]`): CUDA compute capability.
        memory (`int`): Bytes that CUDA reports on Linux, which is less than the nominal size.
    """

    name: str
    capability: tuple[int, int]
    memory: int


# Memory from PyTorch's out-of-memory messages on Linux ("total capacity of 3.81 GiB").
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
    Return a card by its name, for planning without it.

    Args:
        name (`str`): Key of [`PROFILES`].
        system (`str`, *optional*): See [`system_name`]; by default this machine's.

    Returns:
        [`Device`]: the card with only CUDA's context and, on Windows, a desktop in its memory.

    Raises:
        [`PreferansError`]: if there is no profile with this name.
    """
    if name not in PROFILES:
        raise PreferansError(
            f"hardware_profile {name}: the profile is unknown.{did_you_mean(name, PROFILES)} Choose from {', '.join(PROFILES)}."
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
        # Triton supports 8.0 and above; older cards may run it but are planned without it. The kernels for grouped heads also need
        # 8.0 (transformers#48633).
        triton=modern and system in ("Linux", "WSL"),
        grouped_heads="flash" if modern else "math",
        profile=name,
    )


def find_device(use_cpu: bool = False, profile: str | None = None, triton: bool = True) -> Device:
    """
    Find the device of this machine and probe it.

    Args:
        use_cpu (`bool`, *optional*, defaults to `False`): Ignore a card, as for `accelerate launch --cpu`.
        profile (`str`, *optional*): Smaller card of [`PROFILES`] to imitate; [`apply_profile`] enforces its limits.
        triton (`bool`, *optional*, defaults to `True`): Whether to try Triton, which takes some seconds.

    Raises:
        [`PreferansError`]: if the card does not respond, or is smaller than that of the profile.
    """
    import torch

    wanted = profile_device(profile) if profile else None
    use_cpu = use_cpu or os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "on")
    if use_cpu or not torch.cuda.is_available():
        if wanted:
            raise PreferansError(
                f"hardware_profile {profile}: a profile makes a larger card imitate a smaller one, but this run computes on the "
                "CPU. Remove hardware_profile; scripts/plan.py accepts it without a card."
            )
        return Device("cpu", "CPU", (0, 0), 0)
    index = local_card()
    try:
        properties = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
    except RuntimeError as error:
        raise PreferansError(
            f"The card does not respond ({' '.join(str(error).split()):.200}). Close other programs that use it, restart the machine or "
            "update the driver; --use_cpu true works without it."
        ) from None
    device = Device("cuda", properties.name, (properties.major, properties.minor), total, free)
    if wanted:
        device = as_profile(device, wanted)
    older = wanted if wanted and not device.has_bf16 else None
    if not triton:
        runs, triton_note = False, "not tried"
    elif older:
        runs, triton_note = False, f"not used as {older.name}, because it supports 8.0 and above"
    else:
        runs, triton_note = probe_triton(index)
    if older:
        grouped, attention_note = older.grouped_heads, f"the {older.grouped_heads} kernel on {older.name}"
    else:
        grouped, attention_note = probe_grouped_heads("cuda")
    notes = (f"Triton: {triton_note}.", f"Attention with grouped heads: {attention_note}.")
    return device._replace(triton=runs, grouped_heads=grouped, notes=notes)


def local_card() -> int:
    """Return the index of this process's card: that of its local rank."""
    import torch

    rank = os.environ.get("LOCAL_RANK", "0")
    return int(rank) % max(torch.cuda.device_count(), 1) if rank.isdigit() else 0


def as_profile(device: Device, wanted: Device) -> Device:
    """
    Return a card with the memory and capability of a smaller one.

    Args:
        device ([`Device`]): The real card.
        wanted ([`Device`]): The smaller card, see [`profile_device`].

    Raises:
        [`PreferansError`]: if the real card is smaller.
    """
    # The memory of one card differs by a few MiB between drivers.
    if device.memory < 0.95 * wanted.memory:
        raise PreferansError(
            f"hardware_profile {wanted.profile}: {wanted.name} has {_gib(wanted.memory)}, but {device.name} has only "
            f"{_gib(device.memory)}. A profile can only make a card smaller: remove it, or choose a smaller one."
        )
    return device._replace(
        name=f"{wanted.name}, imitated by {device.name}",
        capability=min(device.capability, wanted.capability),
        memory=min(device.memory, wanted.memory),
        free_memory=min(device.free_memory, wanted.free_memory),
        profile=wanted.profile,
    )


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"


def apply_profile(device: Device) -> None:
    """
    Enforce the limits of the device's profile in this process.

    PyTorch gets no more memory than on that card, and a card before Ampere has no flash attention. cuBLAS gets the workspaces of cards
    before Hopper, a quarter of Hopper's. Memory that PyTorch does not manage, such as a paged optimizer's, is not limited.
    """
    if device.profile is None:
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:2:16:8")  # read at the first matrix product
    import torch

    index = local_card()
    total = torch.cuda.get_device_properties(index).total_memory
    torch.cuda.set_per_process_memory_fraction(device.free_memory / total, index)
    if not device.has_bf16:
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cuda.enable_cudnn_sdp(False)


def probe_triton(index: int = 0, timeout: float = 180) -> tuple[bool, str]:
    """
    Compile and run a small Triton kernel in a separate process, which may crash.

    Args:
        index (`int`, *optional*, defaults to 0): Index of the card.
        timeout (`float`, *optional*, defaults to 180): Seconds to wait.

    Returns:
        `tuple[bool, str]`: whether its result was right, and an explanation.
    """
    if importlib.util.find_spec("triton") is None:
        return False, "it is not installed"
    # The package may be on the path of this process only. -P prevents imports from the working directory.
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
        return False, f"its process could not be started ({error})"
    if done.returncode == 0:
        return True, "a small kernel compiled and gave the right result"
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return False, f"a small kernel failed ({lines[-1] if lines else f'exit status {done.returncode}'})"


def probe_grouped_heads(kind: str) -> tuple[str, str]:
    """
    Find the kernel of causal attention in half precision (fp32 on `"cpu"`) in which four query heads share a key head.

    Returns:
        `tuple[str, str]`: `"flash"`, `"cudnn"`, `"efficient"`, `"math"` or `"unknown"`, and an explanation.
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
        # PyTorch's own choice; allowing only that kernel shows that it supports the call and its gradient.
        chosen = SDPBackend(torch._fused_sdp_choice(query, key, key, is_causal=True, enable_gqa=True))
        with sdpa_kernel(chosen):
            output = torch.nn.functional.scaled_dot_product_attention(query, key, key, is_causal=True, enable_gqa=True)
        output.float().sum().backward()
    except Exception as error:  # a probe never stops the run
        return "unknown", f"unknown ({' '.join(str(error).split()):.120})"
    name = names.get(chosen, chosen.name.lower())
    return name, f"the {name} kernel"


def peak_memory() -> int:
    """Return this process's peak memory in bytes: on the card if it used one, otherwise of the machine."""
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        import psutil

        return psutil.Process().memory_info().peak_wset  # type: ignore[attr-defined]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB
