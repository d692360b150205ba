"""Devices and card profiles; no card is needed."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from preferans.errors import PreferansError
from preferans.hardware.decisions import (
    decide_kernels,
    decide_precision,
)
from preferans.hardware.device import (
    CONTEXT_BYTES,
    MIB,
    PROFILES,
    Device,
    apply_profile,
    find_device,
    peak_memory,
    probe_grouped_heads,
    profile_device,
)

CPU = Device("cpu", "CPU", (0, 0), 0)
TURING = Device("cuda", "GTX 1650 SUPER", (7, 5), 4 << 30, grouped_heads="math")
AMPERE = Device("cuda", "RTX 3060", (8, 6), 12 << 30, triton=True, grouped_heads="flash")


def test_turing_has_no_bf16_units():
    assert not TURING.has_bf16
    assert AMPERE.has_bf16


# Cards known by name


def test_a_profile_needs_no_card():
    device = profile_device("gtx1650", system="Linux")
    assert (device.kind, device.capability, device.has_bf16, device.triton) == ("cuda", (7, 5), False, False)
    assert 3.7 * 1024 * MIB < device.memory < 4 * 1024 * MIB
    assert device.free_memory == device.memory - CONTEXT_BYTES
    at_home = profile_device("gtx1650", system="Windows")
    assert 2.8 * 1024 * MIB < at_home.free_memory < 3.2 * 1024 * MIB
    assert at_home.belongs_to_windows and not device.belongs_to_windows
    assert profile_device("gtx1650", system="WSL").free_memory == at_home.free_memory
    with pytest.raises(PreferansError, match=r"Did you mean 'gtx1650'\?.*Choose from gtx1650,"):
        profile_device("gtx1660")


def test_profiles_give_the_decisions_of_their_cards():
    for name, card in PROFILES.items():
        decided = decide_kernels(profile_device(name, "Linux"))
        modern = card.capability >= (8, 0)
        assert (decided.triton, decided.attention) == (modern, "grouped" if modern else "repeated")
    assert not profile_device("rtx3060", "Windows").triton


def test_planning_needs_no_torch():
    program = (
        "import sys; from preferans.hardware.device import profile_device; from preferans.hardware.decisions import decide_kernels, decide_precision;"
        "device = profile_device('gtx1650'); decide_kernels(device, 128256); decide_precision(device, True, None, 'float16');"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


@pytest.fixture
def big_card(monkeypatch):
    """A machine whose `torch.cuda` reports an 80 GB card. Its kernels cannot be run here."""
    total = 80 << 30
    properties = SimpleNamespace(name="H100", major=9, minor=0, total_memory=total)
    capped = {}
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda index: properties)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda index: (total - MIB, total))
    monkeypatch.setattr(
        "torch.cuda.set_per_process_memory_fraction", lambda share, index: capped.update({index: share})
    )
    return capped


def test_a_large_card_imitates_a_small_one(big_card, monkeypatch):
    environment = {name: value for name, value in os.environ.items() if name != "CUBLAS_WORKSPACE_CONFIG"}
    monkeypatch.setattr(os, "environ", environment)
    device = find_device(profile="gtx1650")
    small = profile_device("gtx1650")
    assert (device.capability, device.memory, device.free_memory) == ((7, 5), small.memory, small.free_memory)
    assert (device.has_bf16, device.triton, device.profile) == (False, False, "gtx1650")
    assert "H100" in device.name
    assert decide_kernels(device).attention == "repeated"
    with pytest.raises(PreferansError, match="only emulates bf16"):
        decide_precision(device, False, True, "float32")
    flash, cudnn = torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.cudnn_sdp_enabled()
    try:
        apply_profile(device)
        assert big_card[0] * (80 << 30) == pytest.approx(small.free_memory)
        assert not torch.backends.cuda.flash_sdp_enabled()
        assert environment["CUBLAS_WORKSPACE_CONFIG"] == ":4096:2:16:8"
    finally:
        torch.backends.cuda.enable_flash_sdp(flash)
        torch.backends.cuda.enable_cudnn_sdp(cudnn)


def test_without_a_profile_nothing_is_limited(big_card):
    device = find_device(triton=False)
    assert (device.name, device.free_memory, device.triton) == ("H100", (80 << 30) - MIB, False)
    assert "Triton: not tried." in device.notes
    assert device.grouped_heads == "unknown"  # this machine's PyTorch has no kernels for cards, and that is no crash
    assert any("unknown (" in note for note in device.notes)
    apply_profile(device)
    assert not big_card


def test_a_profile_adds_nothing_to_the_real_card(big_card, monkeypatch):
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda index: (1 << 30, 15 << 30))
    turing = SimpleNamespace(name="T4", major=7, minor=5, total_memory=15 << 30)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda index: turing)
    device = find_device(profile="rtx3060", triton=False)
    assert (device.capability, device.free_memory) == ((7, 5), 1 << 30)
    with pytest.raises(PreferansError, match="A profile can only make a card smaller"):
        find_device(profile="a100")


def test_a_card_that_does_not_respond_is_one_message(big_card, monkeypatch):
    def broken(index):
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr("torch.cuda.mem_get_info", broken)
    with pytest.raises(PreferansError, match=r"does not respond \(CUDA error: unspecified launch failure\)"):
        find_device()


def test_every_process_uses_its_own_card(big_card, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda index: (index + 1, 80 << 30))
    assert find_device(triton=False).free_memory == 2


def test_this_machine(monkeypatch):
    assert find_device(use_cpu=True) == CPU
    with pytest.raises(PreferansError, match="scripts/plan.py accepts it without a card"):
        find_device(use_cpu=True, profile="gtx1650")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert find_device() == CPU
    assert peak_memory() > 50 << 20


# Probes


def test_the_cpu_supports_grouped_heads_with_its_flash_kernel():
    assert probe_grouped_heads("cpu") == ("flash", "the flash kernel")
