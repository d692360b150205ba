"""Whether training can work on this machine: one finding after another, each with what to do about it."""

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
# Loading reads a model's whole file into memory that Windows has to promise beforehand.
WANTED_COMMIT = 16 * GIB
# Half of the widest gap between two values of NF4, as a share of the largest weight of a block (bitsandbytes' table).
NF4_BOUND = (1 - 0.6961928009986877) / 2


class Diagnosis(NamedTuple):
    """
    One thing looked at.

    Attributes:
        name (`str`): What was looked at.
        state (`str`): `"ok"`, `"note"`, `"warning"`, `"problem"`, which stops a training, or `"skipped"`.
        text (`str`): What was found.
        cure (`str`): What to do about it; empty when there is nothing to do.
    """

    name: str
    state: str
    text: str
    cure: str = ""


def examine(profile: str | None = None) -> tuple[dict[str, Any], Iterator[Diagnosis]]:
    """
    Look at the machine.

    Args:
        profile (`str`, *optional*):
            Card to behave like, see [`~preferans.hardware.device.profile_device`]. On a machine without a card its decisions are
            shown all the same, and the checks compute on the CPU.

    Returns:
        `tuple[dict, Iterator[Finding]]`: what would be decided here, ready for JSON, and the findings, one by one as they
        are made.

    Raises:
        [`PreferansError`]: when there is no such profile.
    """
    if profile:
        profile_device(profile)
    try:
        device, findings = _look(profile)
    except Exception as error:  # PyTorch may be absent or broken: that is a finding
        device, findings = None, [_broken("Device", error)]
    shown = profile_device(profile) if profile and device and device.kind == "cpu" else device
    decided = decisions(shown) if shown else {}
    return decided, _findings(findings, device)


def _findings(findings: list[Diagnosis], device: Device | None) -> Iterator[Diagnosis]:
    yield from findings
    for name, check in CHECKS.items():
        try:
            yield from check(device)
        except Exception as error:  # whatever breaks here would break the training
            yield _broken(name, error)


def _broken(name: str, error: Exception) -> Diagnosis:
    words = " ".join(str(error).split())
    if isinstance(error, PreferansError):
        return Diagnosis(name, "problem", words)
    if isinstance(error, ImportError):
        cure = "python -m pip install -c constraints.txt -e . in the project's folder"
        return Diagnosis(name, "problem", f"{error.name or 'A package'} cannot be imported ({words:.300})", cure)
    if "no kernel image" in words:
        cure = (
            "This PyTorch was not built for the card: choose another CUDA on https://pytorch.org/get-started/locally/."
        )
    else:
        cure = "docs/windows.md tells the usual causes on Windows; else report it with this line."
    return Diagnosis(name, "problem", f"{type(error).__name__}: {words:.300}", cure)


def _look(profile: str | None) -> tuple[Device, list[Diagnosis]]:
    """The device that would be used, and what is to say of it."""
    import torch

    device = find_device(profile=profile if torch.cuda.is_available() else None)
    if device.kind == "cpu":
        return device, [_no_card(torch.version.cuda, profile)]
    apply_profile(device)
    free, total = device.free_memory / GIB, device.memory / GIB
    text = f"{device.in_words}, {free:.1f} of {total:.1f} GiB free, PyTorch for CUDA {torch.version.cuda}"
    findings = [Diagnosis("Device", "ok", text), *(Diagnosis("Probe", "note", note) for note in device.notes)]
    if not profile and total - free > 1:
        cure = (
            "Close browsers, games and other programs that draw or compute on it, or move the desktop to another card."
        )
        findings.append(Diagnosis("Device", "warning", f"{total - free:.1f} GiB of the card are taken already", cure))
    if device.capability < (7, 5):
        cure = "The recipes begin with compute capability 7.5 (GTX 16, RTX 20, T4)."
        findings.append(
            Diagnosis("Device", "warning", f"{device.name} is older than what the stack is built for", cure)
        )
    return device, findings


def _no_card(cuda: str | None, profile: str | None) -> Diagnosis:
    """What to say where PyTorch sees no card."""
    played = f"; the decisions shown are those of {profile}, the checks compute here" if profile else ""
    if shutil.which("nvidia-smi") and cuda is None:
        return Diagnosis(
            "Device",
            "warning",
            f"CPU: the machine has an NVIDIA driver, but this PyTorch is built without CUDA{played}",
            "Choose your system and CUDA on PyTorch's start page (https://pytorch.org/get-started/locally/) and run the command it "
            "gives, with --force-reinstall.",
        )
    if cuda is not None:
        return Diagnosis(
            "Device",
            "warning",
            f"CPU: this PyTorch is built for CUDA {cuda}, but no card answers{played}",
            "Run nvidia-smi: if it shows the card, update the driver; if not, install one. CUDA_VISIBLE_DEVICES must not hide it.",
        )
    return Diagnosis(
        "Device",
        "note",
        f"CPU, with {os.cpu_count()} cores; there is no card for CUDA{played}",
        "Llama's recipes want a card; recipes/gemma270m_ru.yaml is made for the CPU.",
    )


def decisions(device: Device) -> dict[str, Any]:
    """
    What would be decided for a run here, in words.

    Args:
        device ([`~preferans.hardware.device.Device`]):
            Where it would run.

    Returns:
        `dict`: device and decisions, ready for JSON.
    """
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
    """Python's version."""
    version = platform.python_version()
    if sys.version_info[:2] < TESTED_PYTHON:
        yield Diagnosis("Python", "problem", f"{version} is too old", "Make an environment with Python 3.11.")
    elif sys.version_info[:2] > TESTED_PYTHON:
        cure = "When a package does not install, make an environment with Python 3.11."
        yield Diagnosis("Python", "note", f"{version}; the stack is tested with 3.11", cure)
    else:
        yield Diagnosis("Python", "ok", f"{version} on {platform.system()} {platform.release()}")


def check_versions(device: Device | None) -> Iterator[Diagnosis]:
    """Installed versions against `constraints.txt`, and against what `setup.cfg` requires."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    path = ROOT / "constraints.txt"
    if not path.is_file():
        yield Diagnosis(
            "Versions", "skipped", "constraints.txt lies in the project's folder, and this is no clone of it"
        )
        return
    different, missing = compare_versions(path.read_text(encoding="utf-8"), _installed_versions())
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    required = {
        canonicalize_name(requirement.name): requirement
        for requirement in map(Requirement, config["options"]["install_requires"].split())
    }
    lacking = [name for name in missing if name in required]
    too_old = [
        name for name, (there, _) in different.items() if name in required and there not in required[name].specifier
    ]
    if not different and not lacking:
        yield Diagnosis("Versions", "ok", "all that is installed has the tested version")
        return
    words = [f"{name} {there} instead of {wanted}" for name, (there, wanted) in different.items()]
    words += [f"{name} is missing" for name in lacking]
    pins = [f"{name}=={wanted}" for name, (_, wanted) in different.items() if name != "torch"]
    pins += [f"{name}=={missing[name]}" for name in lacking if name != "torch"]
    cures = [f"python -m pip install {' '.join(pins)}"] if pins else []
    if "torch" in different or "torch" in lacking:
        wanted = missing["torch"] if "torch" in lacking else different["torch"][1]
        cures.append(f"torch=={wanted} with the command that PyTorch's start page gives for your card")
    cure = "; ".join(cures)
    yield Diagnosis("Versions", "problem" if lacking or too_old else "warning", ", ".join(words), cure)


def _installed_versions() -> dict[str, str]:
    from packaging.utils import canonicalize_name

    # A folder that a broken installation left behind has no name.
    return {
        canonicalize_name(distribution.name): distribution.version
        for distribution in importlib.metadata.distributions()
        if distribution.name
    }


def compare_versions(constraints: str, installed: dict[str, str]) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """
    Compare installed packages with pinned ones.

    Args:
        constraints (`str`):
            Text of a constraints file with `name==version` lines.
        installed (`dict[str, str]`):
            Version of every installed package, by its canonical name: small letters and hyphens.

    Returns:
        `tuple[dict, dict]`: of packages in another version the one that is there and the one wanted, and the wanted versions
        of those that are not there. A build's mark, such as `+cpu`, makes no difference.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name
    from packaging.version import Version

    different, missing = {}, {}
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
    """The trainer's modules, which load every library a training needs."""
    importlib.import_module("trl.trainer.dpo_trainer")
    importlib.import_module("peft")
    yield Diagnosis("Libraries", "ok", "the trainer and all it needs can be imported")


def check_matrix_product(device: Device | None) -> Iterator[Diagnosis]:
    """A matrix product in each precision the device computes in, against a more exact one on the CPU."""
    if device is None:
        return
    import torch

    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(256, 512, generator=generator, dtype=torch.float64) for _ in range(2))
    exact = left @ right.T
    if device.kind == "cpu":
        yield Diagnosis("Matrix product in fp16", "skipped", "half precision is for cards; the CPU computes in fp32")
        kinds = [torch.float32]
    else:
        kinds = [torch.float16, *([torch.bfloat16] if device.has_bf16 else []), torch.float32]
    bounds = {torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.float32: 2e-3}  # TF32 rounds the inputs as fp16 does
    for dtype in kinds:
        name = f"Matrix product in {str(dtype).removeprefix('torch.')}"
        result = (left.to(device.kind, dtype) @ right.to(device.kind, dtype).T).cpu().double()
        error = ((result - exact).norm() / exact.norm()).item()
        if not math.isfinite(error) or error > bounds[dtype]:
            cure = "The card or its driver computes wrongly: update the driver, and take back any overclocking."
            yield Diagnosis(name, "problem", f"relative error {error:.1e}, more than {bounds[dtype]:.0e}", cure)
        else:
            yield Diagnosis(name, "ok", f"finite, relative error {error:.1e}")


def try_4bit(device: Device | None) -> Iterator[Diagnosis]:
    """bitsandbytes: a layer's weights to NF4 and back, and a forward and backward pass through it."""
    if device is None:
        return
    import bitsandbytes
    import torch
    from bitsandbytes.functional import dequantize_4bit

    name, place = "4-bit weights", device.kind
    dtype = torch.float16 if place == "cuda" else torch.float32
    cure = "python -m bitsandbytes tells more; a driver older than the CUDA of PyTorch is the usual cause."
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(256, 128, generator=generator)
    layer = bitsandbytes.nn.Linear4bit(128, 256, bias=False, compute_dtype=dtype, quant_type="nf4")
    layer.weight = bitsandbytes.nn.Params4bit(weights, requires_grad=False, quant_type="nf4")
    layer = layer.to(place)
    back = dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
    largest = weights.view(-1, 64).abs().amax(-1, keepdim=True)
    error = ((back.cpu() - weights).view(-1, 64).abs() / largest).max().item()
    # The blocks' largest weights are quantized as well, as in the recipes; that adds less than a hundredth.
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
    """Which of PyTorch's attention kernels take a causal call and its gradient, with grouped and with repeated heads."""
    if device is None:
        return
    takers = {form: attention_kernels(device.kind, form == "grouped") for form in ("grouped", "repeated")}
    text = "; ".join(f"{form} heads: {', '.join(names) or 'none'}" for form, names in takers.items())
    if takers["repeated"] in ([], ["math"]):
        cure = "Attention then holds every score, and memory grows with the square of max_length: keep it short, or update PyTorch."
        yield Diagnosis("Attention kernels", "warning", text, cure)
    else:
        yield Diagnosis("Attention kernels", "ok", text)


def attention_kernels(kind: str, grouped: bool) -> list[str]:
    """
    Try PyTorch's attention kernels one by one.

    Args:
        kind (`str`):
            `"cuda"`, in fp16, or `"cpu"`, in float32.
        grouped (`bool`):
            Whether four query heads share a key head, or key heads are repeated.

    Returns:
        `list[str]`: names of those that are switched on and take the call.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    switched = torch.backends.cuda
    kernels = {
        "flash": (SDPBackend.FLASH_ATTENTION, switched.flash_sdp_enabled()),
        "cudnn": (SDPBackend.CUDNN_ATTENTION, switched.cudnn_sdp_enabled()),
        "efficient": (SDPBackend.EFFICIENT_ATTENTION, switched.mem_efficient_sdp_enabled()),
        "math": (SDPBackend.MATH, switched.math_sdp_enabled()),
    }
    options = {"device": kind, "dtype": torch.float16 if kind == "cuda" else torch.float32, "requires_grad": True}
    query, key = torch.randn(1, 8, 128, 64, **options), torch.randn(1, 2 if grouped else 8, 128, 64, **options)
    takers = []
    for name, (kernel, on) in kernels.items():
        try:
            with warnings.catch_warnings(), sdpa_kernel(kernel):
                warnings.simplefilter("ignore")  # each kernel that declines tells why
                output = torch.nn.functional.scaled_dot_product_attention(
                    query, key, key, is_causal=True, enable_gqa=grouped
                )
            output.float().sum().backward()
        except RuntimeError:
            continue
        if on:
            takers.append(name)
    return takers


def check_disk(device: Device | None) -> Iterator[Diagnosis]:
    """Room and the right to write where runs and the Hub's cache go."""
    from huggingface_hub.constants import HF_HUB_CACHE

    for name, folder, move in (
        ("Disk for runs", Path.cwd(), "give output_dir a folder on another disk"),
        ("Disk for the Hub's cache", Path(HF_HUB_CACHE), "set HF_HOME to a folder on another disk"),
    ):
        there = next((place for place in (folder, *folder.parents) if place.exists()), None)
        if there is None:
            yield Diagnosis(name, "problem", f"the disk of {folder} is not there", f"Connect it, or {move}.")
            continue
        free = shutil.disk_usage(there).free
        text = f"{free / GIB:.0f} GiB free in {folder}"
        if not os.access(there, os.W_OK):
            yield Diagnosis(name, "problem", f"{there} may not be written", f"Change its rights, or {move}.")
        elif free < WANTED_DISK:
            cure = f"Free at least {WANTED_DISK // GIB} GiB, or {move}."
            yield Diagnosis(name, "problem" if free < NEEDED_DISK else "warning", text, cure)
        else:
            yield Diagnosis(name, "ok", text)


def check_token(device: Device | None) -> Iterator[Diagnosis]:
    """Whether there is a token of the Hub. It is neither shown nor tried."""
    from huggingface_hub import get_token

    if get_token():
        yield Diagnosis("Hub token", "ok", "there is one (not tried: that would need the network)")
    else:
        cure = "hf auth login; it takes a token from https://huggingface.co/settings/tokens"
        yield Diagnosis(
            "Hub token", "note", "none: Llama's models and pushing to the Hub need one, Gemma's demo does not", cure
        )


def check_system(device: Device | None) -> Iterator[Diagnosis]:
    """What Windows and WSL add."""
    system = system_name()
    if system == "Windows":
        yield from _check_windows()
    if device and device.belongs_to_windows:
        yield Diagnosis(
            "Shared memory",
            "note",
            "whether the driver spills into the computer's memory when the card is full cannot be asked; a run that spills does not "
            "stop, it becomes many times slower",
            "NVIDIA Control Panel, Manage 3D settings, CUDA - Sysmem Fallback Policy: Prefer No Sysmem Fallback (docs/windows.md).",
        )
    if system == "WSL":
        yield Diagnosis(
            "WSL", "note", "WSL takes half of the computer's memory by default", "memory= in .wslconfig changes it."
        )


def _check_windows() -> Iterator[Diagnosis]:
    import psutil

    if _long_paths():
        yield Diagnosis("Long paths", "ok", "on")
    else:
        cure = (
            "In a terminal of the administrator: reg add HKLM\\SYSTEM\\CurrentControlSet\\Control\\FileSystem /v LongPathsEnabled "
            "/t REG_DWORD /d 1 /f; or keep the project near the root of a disk."
        )
        yield Diagnosis(
            "Long paths", "warning", "off: paths longer than 260 characters fail, and the Hub's cache has such", cure
        )
    total = psutil.virtual_memory().total + psutil.swap_memory().total
    text = f"{total / GIB:.0f} GiB of memory and page file together"
    if total < WANTED_COMMIT:
        cure = "Let Windows manage the page file's size (Advanced system settings, Performance, Virtual memory), or WinError 1455 may stop the loading of a model."
        yield Diagnosis("Page file", "warning", text, cure)
    else:
        yield Diagnosis("Page file", "ok", text)


def _long_paths() -> bool:
    import winreg

    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SYSTEM\CurrentControlSet\Control\FileSystem") as key:
            return bool(winreg.QueryValueEx(key, "LongPathsEnabled")[0])
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
