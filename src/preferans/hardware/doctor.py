"""Check whether training can work on this machine, with a remedy for each problem."""

import configparser
import importlib
import importlib.metadata
import math
import os
import platform
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import PreferansError
from .decisions import decide_kernels, decide_precision
from .device import Device, apply_profile, find_device, profile_device, system_name

ROOT = Path(__file__).parents[3]
GIB = 1 << 30
TESTED_PYTHON = (3, 11)
# A base model, a few checkpoints and the Hub's cache; a Llama-3.2-3B alone is 6.4 GB.
WANTED_DISK = 10 * GIB
NEEDED_DISK = 1 * GIB
# Loading reads a model's complete file into memory that Windows must reserve.
WANTED_COMMIT = 16 * GIB
# Half of the widest gap between two values of NF4, as a share of the largest weight of a block (bitsandbytes' table).
NF4_BOUND = (1 - 0.6961928009986877) / 2


class Diagnosis(NamedTuple):
    """
    The result of one check.

    Attributes:
        name (`str`): What was checked.
        state (`str`): `"ok"`, `"note"`, `"warning"`, `"problem"`, which stops training, or `"skipped"`.
        text (`str`): The result.
        cure (`str`): The remedy; empty if there is nothing to do.
    """

    name: str
    state: str
    text: str
    cure: str = ""


def examine(profile: str | None = None) -> tuple[dict[str, Any], Iterator[Diagnosis]]:
    """
    Check the machine.

    Args:
        profile (`str`, *optional*):
            Card to imitate, see [`~preferans.hardware.device.profile_device`]. On a machine without a card, the decisions are those of
            the profile, and the checks run on the CPU.

    Returns:
        `tuple[dict, Iterator[Diagnosis]]`: the decisions for a run as JSON, and the results of the checks as they finish.

    Raises:
        [`PreferansError`]: if the profile is unknown.
    """
    if profile:
        profile_device(profile)
    try:
        device, findings = _look(profile)
    except Exception as error:  # PyTorch may be missing or broken
        device, findings = None, [_broken("Device", error)]
    shown = profile_device(profile) if profile and device and device.kind == "cpu" else device
    return decisions(shown) if shown else {}, _findings(findings, device)


def _findings(findings: list[Diagnosis], device: Device | None) -> Iterator[Diagnosis]:
    yield from findings
    for name, check in CHECKS.items():
        try:
            yield from check(device)
        except Exception as error:  # it would also break training
            yield _broken(name, error)


def _broken(name: str, error: Exception) -> Diagnosis:
    words = " ".join(str(error).split())
    if isinstance(error, PreferansError):
        return Diagnosis(name, "problem", words)
    if isinstance(error, ImportError):
        cure = "python -m pip install -c constraints.txt -e . in the project's folder"
        return Diagnosis(name, "problem", f"{error.name or 'A package'} cannot be imported ({words:.300})", cure)
    if "no kernel image" in words:
        cure = "This PyTorch was not built for the card: choose another CUDA version on https://pytorch.org/get-started/locally/."
    else:
        cure = "docs/windows.md lists the usual causes on Windows; otherwise report it with this line."
    return Diagnosis(name, "problem", f"{type(error).__name__}: {words:.300}", cure)


def _look(profile: str | None) -> tuple[Device, list[Diagnosis]]:
    """Return the device and its diagnoses."""
    import torch

    device = find_device(profile=profile if torch.cuda.is_available() else None)
    if device.kind == "cpu":
        return device, [_no_card(torch.version.cuda, profile)]
    apply_profile(device)
    free, total = device.free_memory / GIB, device.memory / GIB
    text = f"{device.in_words}, {free:.1f} of {total:.1f} GiB free, PyTorch for CUDA {torch.version.cuda}"
    findings = [Diagnosis("Device", "ok", text), *(Diagnosis("Probe", "note", note) for note in device.notes)]
    if not profile and total - free > 1:
        cure = "Close browsers, games and other programs that use the card, or move the desktop to another card."
        findings.append(Diagnosis("Device", "warning", f"{total - free:.1f} GiB of the card are in use", cure))
    if device.capability < (7, 5):
        cure = "The recipes need compute capability 7.5 or above (GTX 16, RTX 20, T4)."
        findings.append(Diagnosis("Device", "warning", f"{device.name} is older than the libraries support", cure))
    return device, findings


def _no_card(cuda: str | None, profile: str | None) -> Diagnosis:
    """Return the diagnosis of a machine without a card for PyTorch."""
    imitated = f"; the decisions are those of {profile}, the checks run here" if profile else ""
    if shutil.which("nvidia-smi") and cuda is None:
        return Diagnosis(
            "Device",
            "warning",
            f"CPU: the machine has an NVIDIA driver, but this PyTorch is built without CUDA{imitated}",
            "Choose your system and CUDA version on https://pytorch.org/get-started/locally/ and run its command with --force-reinstall.",
        )
    if cuda is not None:
        return Diagnosis(
            "Device",
            "warning",
            f"CPU: this PyTorch is built for CUDA {cuda}, but no card responds{imitated}",
            "Run nvidia-smi: if it shows the card, update the driver; if not, install one. Check that CUDA_VISIBLE_DEVICES does not hide it.",
        )
    return Diagnosis(
        "Device",
        "note",
        f"CPU with {os.cpu_count()} cores; there is no CUDA card{imitated}",
        "Llama's recipes need a card; recipes/gemma270m_ru.yaml is for the CPU.",
    )


def decisions(device: Device) -> dict[str, Any]:
    """Return the device, and the decisions for a run on it with their reasons, as JSON."""
    precision = {"a recipe that leaves it open": decide_precision(device, False, None, "float32")[-1]}
    if device.kind == "cuda":
        precision["a recipe with fp16: true"] = decide_precision(device, True, None, "float16")[-1]
        try:
            decide_precision(device, True, None, "float16", "gemma3_text")
        except PreferansError as error:
            precision["Gemma with fp16: true"] = f"refused: {error}"
    precision["Gemma, left open"] = decide_precision(device, False, None, "float32", "gemma3_text")[-1]
    kernels = decide_kernels(device)
    return {
        "device": device._asdict() | {"has_bf16": device.has_bf16},
        "precision": precision,
        "kernels": kernels._asdict(),
    }


def check_python(device: Device | None) -> Iterator[Diagnosis]:
    """Check Python's version."""
    version = platform.python_version()
    if sys.version_info[:2] < TESTED_PYTHON:
        yield Diagnosis("Python", "problem", f"{version} is too old", "Create an environment with Python 3.11.")
    elif sys.version_info[:2] > TESTED_PYTHON:
        cure = "If a package cannot be installed, create an environment with Python 3.11."
        yield Diagnosis("Python", "note", f"{version}; the tests run with 3.11", cure)
    else:
        yield Diagnosis("Python", "ok", f"{version} on {platform.system()} {platform.release()}")


def check_versions(device: Device | None) -> Iterator[Diagnosis]:
    """Compare the installed versions with `constraints.txt` and the requirements of `setup.cfg`."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    path = ROOT / "constraints.txt"
    if not path.is_file():
        yield Diagnosis(
            "Versions", "skipped", "there is no constraints.txt, because this is not a clone of the project"
        )
        return
    different, missing = compare_versions(path.read_text(encoding="utf-8"), _installed_versions())
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    required: dict[str, Requirement] = {
        canonicalize_name(requirement.name): requirement
        for requirement in map(Requirement, config["options"]["install_requires"].split())
    }
    lacking = [name for name in missing if name in required]
    too_old = [
        name for name, (there, _) in different.items() if name in required and there not in required[name].specifier
    ]
    if not different and not lacking:
        yield Diagnosis("Versions", "ok", "all installed packages have the tested versions")
        return
    words = [f"{name} {there} instead of {wanted}" for name, (there, wanted) in different.items()]
    words += [f"{name} is missing" for name in lacking]
    pins = [f"{name}=={wanted}" for name, (_, wanted) in different.items() if name != "torch"]
    pins += [f"{name}=={missing[name]}" for name in lacking if name != "torch"]
    cures = [f"python -m pip install {' '.join(pins)}"] if pins else []
    if "torch" in different or "torch" in lacking:
        wanted = missing["torch"] if "torch" in lacking else different["torch"][1]
        cures.append(f"torch=={wanted} with the command for your card on https://pytorch.org/get-started/locally/")
    cure = "; ".join(cures)
    yield Diagnosis("Versions", "problem" if lacking or too_old else "warning", ", ".join(words), cure)


def _installed_versions() -> dict[str, str]:
    from packaging.utils import canonicalize_name

    # A folder left by a broken installation has no name.
    return {
        canonicalize_name(distribution.name): distribution.version
        for distribution in importlib.metadata.distributions()
        if distribution.name
    }


def compare_versions(constraints: str, installed: dict[str, str]) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """
    Compare installed packages with pinned ones.

    Args:
        constraints (`str`): Text of a constraints file with `name==version` lines.
        installed (`dict[str, str]`): Versions of installed packages by canonical name: lower-case letters and hyphens.

    Returns:
        `tuple[dict, dict]`: installed and pinned version of packages that differ, and the pinned versions of missing packages. A
        build's label, such as `+cpu`, is ignored.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name
    from packaging.version import Version

    different: dict[str, tuple[str, str]] = {}
    missing: dict[str, str] = {}
    for line in constraints.splitlines():
        line = line.partition("#")[0].strip()
        if not line:
            continue
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        wanted = next(iter(requirement.specifier)).version
        if name not in installed:
            missing[name] = wanted
        elif Version(installed[name]).public != Version(wanted).public:
            different[name] = (installed[name], wanted)
    return different, missing


def check_imports(device: Device | None) -> Iterator[Diagnosis]:
    """Import the trainer's modules, which load every library that training needs."""
    importlib.import_module("trl.trainer.dpo_trainer")
    importlib.import_module("peft")
    yield Diagnosis("Libraries", "ok", "the trainer and its libraries can be imported")


def check_matrix_product(device: Device | None) -> Iterator[Diagnosis]:
    """Compare a matrix product in each supported precision with a more exact one on the CPU."""
    if device is None:
        return
    import torch

    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(256, 512, generator=generator, dtype=torch.float64) for _ in range(2))
    exact = left @ right.T
    if device.kind == "cpu":
        yield Diagnosis("Matrix product in fp16", "skipped", "half precision is for cards; the CPU uses fp32")
        kinds = [torch.float32]
    else:
        kinds = [torch.float16, *([torch.bfloat16] if device.has_bf16 else []), torch.float32]
    bounds = {torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.float32: 2e-3}  # TF32 rounds the inputs as fp16 does
    for dtype in kinds:
        name = f"Matrix product in {str(dtype).removeprefix('torch.')}"
        result = (left.to(device.kind, dtype) @ right.to(device.kind, dtype).T).cpu().double()
        error = ((result - exact).norm() / exact.norm()).item()
        if not math.isfinite(error) or error > bounds[dtype]:
            cure = "The results of the card are wrong: update the driver, and undo any overclocking."
            yield Diagnosis(name, "problem", f"relative error {error:.1e}, more than {bounds[dtype]:.0e}", cure)
        else:
            yield Diagnosis(name, "ok", f"finite, relative error {error:.1e}")


def try_4bit(device: Device | None) -> Iterator[Diagnosis]:
    """Quantize a layer's weights to NF4 and back, and run it forward and backward."""
    if device is None:
        return
    import bitsandbytes
    import torch
    from bitsandbytes.functional import dequantize_4bit

    name, place = "4-bit weights", device.kind
    dtype = torch.float16 if place == "cuda" else torch.float32
    cure = "Run python -m bitsandbytes for details; the usual cause is a driver that is older than PyTorch's CUDA."
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(256, 128, generator=generator)
    layer = bitsandbytes.nn.Linear4bit(128, 256, bias=False, compute_dtype=dtype, quant_type="nf4")
    layer.weight = bitsandbytes.nn.Params4bit(weights, requires_grad=False, quant_type="nf4")
    layer = layer.to(place)
    back = dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
    largest = weights.view(-1, 64).abs().amax(-1, keepdim=True)
    error = ((back.cpu() - weights).view(-1, 64).abs() / largest).max().item()
    # The blocks' largest weights are quantized too, as in the recipes, which adds less than 0.01.
    if not error <= NF4_BOUND + 0.01:
        yield Diagnosis(name, "problem", f"NF4 is off by {error:.3f} of a block's largest weight", cure)
        return
    inputs = torch.randn(8, 128, generator=generator).to(place, dtype).requires_grad_()
    outputs = layer(inputs)
    outputs.float().square().sum().backward()
    exact = inputs.detach().float() @ back.T
    exact_gradient = 2 * exact @ back
    pairs = ((outputs.detach(), exact), (inputs.grad, exact_gradient))
    errors = [((found.float() - wanted).norm() / wanted.norm()).item() for found, wanted in pairs]
    if not all(error <= (5e-3 if dtype == torch.float16 else 1e-4) for error in errors):
        text = f"a 4-bit layer is off by {errors[0]:.1e}, its gradient by {errors[1]:.1e}"
        yield Diagnosis(name, "problem", text, cure)
        return
    text = f"NF4 within {error:.3f} of a block's largest weight; a layer's result is off by {errors[0]:.0e}, its gradient by {errors[1]:.0e}"
    yield Diagnosis(name, "ok", text)


def check_attention(device: Device | None) -> Iterator[Diagnosis]:
    """Find the attention kernels that support a causal call and its gradient, with grouped and with repeated heads."""
    if device is None:
        return
    kernels = {form: attention_kernels(device.kind, form == "grouped") for form in ("grouped", "repeated")}
    text = "; ".join(f"{form} heads: {', '.join(names) or 'none'}" for form, names in kernels.items())
    if kernels["repeated"] in ([], ["math"]):
        cure = "Attention then stores every score, and memory grows with the square of max_length: keep it short, or update PyTorch."
        yield Diagnosis("Attention kernels", "warning", text, cure)
    else:
        yield Diagnosis("Attention kernels", "ok", text)


def attention_kernels(kind: str, grouped: bool) -> list[str]:
    """
    Try PyTorch's attention kernels one by one, and return the names of those that are enabled and support the call.

    Args:
        kind (`str`): `"cuda"` for fp16, or `"cpu"` for fp32.
        grouped (`bool`): Whether four query heads share a key head, or key heads are repeated.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    backends = torch.backends.cuda
    kernels = {
        "flash": (SDPBackend.FLASH_ATTENTION, backends.flash_sdp_enabled()),
        "cudnn": (SDPBackend.CUDNN_ATTENTION, backends.cudnn_sdp_enabled()),
        "efficient": (SDPBackend.EFFICIENT_ATTENTION, backends.mem_efficient_sdp_enabled()),
        "math": (SDPBackend.MATH, backends.math_sdp_enabled()),
    }
    options = {"device": kind, "dtype": torch.float16 if kind == "cuda" else torch.float32, "requires_grad": True}
    query, key = torch.randn(1, 8, 128, 64, **options), torch.randn(1, 2 if grouped else 8, 128, 64, **options)
    supported = []
    for name, (kernel, enabled) in kernels.items():
        try:
            with warnings.catch_warnings(), sdpa_kernel(kernel):
                warnings.simplefilter("ignore")  # each unsupported kernel warns
                output = torch.nn.functional.scaled_dot_product_attention(
                    query, key, key, is_causal=True, enable_gqa=grouped
                )
            output.float().sum().backward()
        except RuntimeError:
            continue
        if enabled:
            supported.append(name)
    return supported


def check_disk(device: Device | None) -> Iterator[Diagnosis]:
    """Check free space and write access for runs and the Hub's cache."""
    from huggingface_hub.constants import HF_HUB_CACHE

    for name, folder, move in (
        ("Disk for runs", Path.cwd(), "give output_dir a folder on another disk"),
        ("Disk for the Hub's cache", Path(HF_HUB_CACHE), "set HF_HOME to a folder on another disk"),
    ):
        existing = next((path for path in (folder, *folder.parents) if path.exists()), None)
        if existing is None:
            yield Diagnosis(name, "problem", f"the disk of {folder} does not exist", f"Connect it, or {move}.")
            continue
        free = shutil.disk_usage(existing).free
        text = f"{free / GIB:.0f} GiB free in {folder}"
        if not os.access(existing, os.W_OK):
            yield Diagnosis(name, "problem", f"{existing} is not writable", f"Change its permissions, or {move}.")
        elif free < WANTED_DISK:
            cure = f"Free at least {WANTED_DISK // GIB} GiB, or {move}."
            yield Diagnosis(name, "problem" if free < NEEDED_DISK else "warning", text, cure)
        else:
            yield Diagnosis(name, "ok", text)


def check_token(device: Device | None) -> Iterator[Diagnosis]:
    """Check whether there is a Hub token, without showing or using it."""
    from huggingface_hub import get_token

    if get_token():
        yield Diagnosis("Hub token", "ok", "found (not tried, because that needs the network)")
    else:
        cure = "Run hf auth login with a token from https://huggingface.co/settings/tokens."
        yield Diagnosis(
            "Hub token", "note", "not found: Llama's models and pushing to the Hub need one, the demo does not", cure
        )


def check_system(device: Device | None) -> Iterator[Diagnosis]:
    """Check what is specific to Windows and WSL."""
    system = system_name()
    if system == "Windows":
        yield from _check_windows()
    if device and device.belongs_to_windows:
        yield Diagnosis(
            "Shared memory",
            "note",
            "the driver may use the computer's memory when the card is full, which cannot be detected; such a run does not stop but becomes "
            "many times slower",
            "NVIDIA Control Panel, Manage 3D settings, CUDA - Sysmem Fallback Policy: Prefer No Sysmem Fallback (docs/windows.md).",
        )
    if system == "WSL":
        yield Diagnosis(
            "WSL", "note", "WSL uses half of the computer's memory by default", "Change it with memory= in .wslconfig."
        )


def _check_windows() -> Iterator[Diagnosis]:
    import psutil

    if _long_paths():
        yield Diagnosis("Long paths", "ok", "on")
    else:
        cure = (
            "In an administrator's terminal: reg add HKLM\\SYSTEM\\CurrentControlSet\\Control\\FileSystem /v LongPathsEnabled "
            "/t REG_DWORD /d 1 /f; or keep the project near the root of a disk."
        )
        yield Diagnosis(
            "Long paths", "warning", "off: paths longer than 260 characters fail, as in the Hub's cache", cure
        )
    total = psutil.virtual_memory().total + psutil.swap_memory().total
    text = f"{total / GIB:.0f} GiB of memory and page file together"
    if total < WANTED_COMMIT:
        cure = "Let Windows manage the page file's size (Advanced system settings, Performance, Virtual memory), because loading a model can fail with WinError 1455."
        yield Diagnosis("Page file", "warning", text, cure)
    else:
        yield Diagnosis("Page file", "ok", text)


def _long_paths() -> bool:
    import winreg

    try:
        path = r"SYSTEM\CurrentControlSet\Control\FileSystem"
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path) as key:  # type: ignore[attr-defined]
            return bool(winreg.QueryValueEx(key, "LongPathsEnabled")[0])  # type: ignore[attr-defined]
    except OSError:
        return False


CHECKS: dict[str, Callable[[Device | None], Iterator[Diagnosis]]] = {
    "Python": check_python,
    "Versions": check_versions,
    "Libraries": check_imports,
    "Matrix product": check_matrix_product,
    "4-bit weights": try_4bit,
    "Attention kernels": check_attention,
    "Disk": check_disk,
    "Hub token": check_token,
    "System": check_system,
}
