"""The doctor on this machine, and its messages if something is wrong."""

import json
import os
import re
import subprocess
import sys
import time
from collections import namedtuple

import pytest
import torch

from preferans.errors import PreferansError
from preferans.hardware import doctor

from ..support.tiny import ROOT


def by_name(findings) -> dict[str, doctor.Diagnosis]:
    return {finding.name: finding for finding in findings}


def examine(profile: str | None = None) -> dict[str, doctor.Diagnosis]:
    return by_name(doctor.examine(profile)[1])


@pytest.fixture
def no_card(monkeypatch):
    """The tests see no card of this machine."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "scripts/doctor.py", *arguments],
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""} | environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )


def test_checks_this_machine(tmp_path):
    secret = "hf_" + "x" * 34
    done = call("--json", HF_TOKEN=secret, HF_HOME=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert secret not in done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["can_train"] is True
    assert report["device"]["kind"] == "cpu"
    assert report["precision"]["a recipe that leaves it open"] == "fp32 on the CPU"
    states = {finding["name"]: finding["state"] for finding in report["findings"]}
    assert states["Hub token"] == "ok"
    assert states["Matrix product in fp16"] == "skipped"
    for name in ("Python", "Libraries", "Matrix product in float32", "4-bit weights", "Attention kernels"):
        assert states[name] in ("ok", "note"), name
    assert list(tmp_path.iterdir()) == []  # looking leaves nothing behind


def test_shows_the_decisions_of_a_profile_without_its_card(no_card, call_script, capsys):
    assert call_script("scripts/doctor.py", "--hardware_profile", "gtx1650") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "GTX 1650 4 GB (compute capability 7.5) has no bf16" in shown
    assert "Gemma with fp16: true: refused" in shown
    assert "tiles of 4,096 words by PyTorch" in shown
    assert "attention with repeated heads" in shown
    assert "Training can work here" in shown


def test_rejects_an_unknown_profile(call_script):
    with pytest.raises(PreferansError, match="Did you mean 'gtx1650'"):
        call_script("scripts/doctor.py", "--hardware_profile", "gtx165")


def test_help_is_quick():
    call("--help")
    start = time.perf_counter()
    done = call("--help", PYTHONPROFILEIMPORTTIME="1")
    assert time.perf_counter() - start < 2
    assert "python scripts/doctor.py" in done.stdout and "gtx1650" in done.stdout
    assert not re.search(r"\| +(torch|transformers|numpy)$", done.stderr, re.MULTILINE)


def test_problems_are_marked_and_counted(no_card, call_script, capsys, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(1 << 40, 0, 100 << 20))
    assert call_script("scripts/doctor.py") == 1
    shown = capsys.readouterr().out
    assert "STOP Disk for runs: 0 GiB free" in shown
    assert "-> Free at least 10 GiB" in shown
    assert "Training cannot work here: fix the 2 problems marked STOP" in shown


@pytest.mark.parametrize(("free", "state"), [(100 << 20, "problem"), (5 << 30, "warning"), (50 << 30, "ok")])
def test_disk(free, state, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(1 << 40, 0, free))
    assert {finding.state for finding in doctor.check_disk(None)} == {state}


def test_reports_a_missing_disk(monkeypatch):
    monkeypatch.setattr("pathlib.Path.exists", lambda path: False)
    assert all("does not exist" in finding.text for finding in doctor.check_disk(None))


def test_compares_public_versions():
    constraints = "# pinned\ntorch==2.13.0\ntrl==1.16.0\nHuggingface_Hub==2.4.0  # the client\n\npeft==0.21.2\n"
    installed = {"torch": "2.13.0+cpu", "trl": "1.9", "huggingface-hub": "2.4.0", "other": "1"}
    assert doctor.compare_versions(constraints, installed) == ({"trl": ("1.9", "1.16.0")}, {"peft": "0.21.2"})


def versions(monkeypatch, **changes: str | None) -> doctor.Diagnosis:
    installed = doctor._installed_versions() | {name.replace("_", "-"): version for name, version in changes.items()}
    installed = {name: version for name, version in installed.items() if version}
    monkeypatch.setattr(doctor, "_installed_versions", lambda: installed)
    (finding,) = doctor.check_versions(None)
    return finding


def test_other_versions_have_the_command_that_fixes_them(monkeypatch):
    assert versions(monkeypatch).state == "ok"
    newer = versions(monkeypatch, tqdm="99.0")
    assert (newer.state, newer.cure) == ("warning", "python -m pip install tqdm==4.70.1")
    assert newer.text == "tqdm 99.0 instead of 4.70.1"


def test_missing_and_old_packages_are_problems(monkeypatch):
    assert versions(monkeypatch, trl="1.9").state == "problem"
    without = versions(monkeypatch, trl="1.16.0", peft=None, gguf=None)  # gguf is for the demo alone
    assert (without.state, without.text, without.cure) == (
        "problem",
        "peft is missing",
        "python -m pip install peft==0.21.2",
    )
    without_torch = versions(monkeypatch, torch=None, peft="0.21.2")
    assert (
        without_torch.cure
        == "torch==2.13.0 with the command for your card on https://pytorch.org/get-started/locally/"
    )


def test_reports_a_driver_without_a_cuda_build(no_card, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: "C:/Windows/System32/nvidia-smi.exe")
    finding = next(doctor.examine()[1])
    assert finding.state == "warning"
    assert "built without CUDA" in finding.text and "pytorch.org" in finding.cure
    monkeypatch.setattr("torch.version.cuda", "13.0")
    finding = next(doctor.examine()[1])
    assert "built for CUDA 13.0, but no card responds" in finding.text and "nvidia-smi" in finding.cure


def test_a_failing_check_does_not_stop_the_others(no_card, monkeypatch):
    def absent(name):
        raise ModuleNotFoundError("No module named 'peft'", name="peft")

    monkeypatch.setattr("importlib.import_module", absent)
    found = examine()
    assert found["Libraries"].state == "problem"
    assert "peft cannot be imported" in found["Libraries"].text
    assert "pip install -c constraints.txt" in found["Libraries"].cure
    assert found["4-bit weights"].state == "ok"


def test_reports_a_broken_pytorch(monkeypatch):
    def broken():
        raise OSError("[WinError 1455] The paging file is too small")

    monkeypatch.setattr("torch.cuda.is_available", broken)
    decided, findings = doctor.examine()
    device = by_name(findings)["Device"]
    assert decided == {}
    assert device.state == "problem" and "1455" in device.text and "docs/windows.md" in device.cure


def test_reports_a_pytorch_without_kernels_for_the_card():
    error = RuntimeError("CUDA error: no kernel image is available for execution on the device")
    assert "choose another CUDA" in doctor._broken("Matrix product", error).cure


def test_detects_wrong_matrix_products(no_card, monkeypatch):
    from preferans.hardware.device import find_device

    right = torch.Tensor.__matmul__
    monkeypatch.setattr(
        "torch.Tensor.__matmul__", lambda a, b: right(a, b) * (float("nan") if a.dtype == torch.float32 else 1)
    )
    *_, finding = doctor.check_matrix_product(find_device())
    assert (finding.name, finding.state) == ("Matrix product in float32", "problem")
    assert "relative error nan" in finding.text


def test_detects_wrong_4bit_kernels(no_card, monkeypatch):
    import bitsandbytes.functional

    from preferans.hardware.device import find_device

    right = bitsandbytes.functional.dequantize_4bit
    monkeypatch.setattr("bitsandbytes.functional.dequantize_4bit", lambda *args, **kwargs: -right(*args, **kwargs))
    (finding,) = doctor.try_4bit(find_device())
    assert finding.state == "problem" and "NF4 is off by" in finding.text


def test_checks_windows(monkeypatch):
    memory = namedtuple("memory", "total")
    monkeypatch.setattr("platform.system", lambda: "Windows")
    monkeypatch.setattr(doctor, "_long_paths", lambda: False)
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory(8 << 30))
    monkeypatch.setattr("psutil.swap_memory", lambda: memory(1 << 30))
    card = doctor.profile_device("gtx1650", "Windows")
    found = by_name(doctor.check_system(card))
    assert (found["Long paths"].state, found["Page file"].state, found["Shared memory"].state) == (
        "warning",
        "warning",
        "note",
    )
    assert "LongPathsEnabled" in found["Long paths"].cure
    assert "9 GiB" in found["Page file"].text
    assert "Prefer No Sysmem Fallback" in found["Shared memory"].cure


def test_distinguishes_wsl_from_linux(monkeypatch):
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.release", lambda: "6.6.87.2-microsoft-standard-WSL2")
    card = doctor.profile_device("gtx1650")
    assert (card.system, card.belongs_to_windows) == ("WSL", True)
    assert set(by_name(doctor.check_system(card))) == {"WSL", "Shared memory"}
    monkeypatch.setattr("platform.release", lambda: "6.8.0-45-generic")
    assert not doctor.profile_device("gtx1650").belongs_to_windows
    assert list(doctor.check_system(doctor.profile_device("gtx1650"))) == []
