"""What looks at the card, and what is decided from what was seen. No card is needed: a decision takes a value."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import trl.kernels.chunked_logprob
import trl.trainer.utils
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM
from transformers.integrations import sdpa_attention
from trl.trainer.utils import add_fused_lm_head

from preferans.errors import PreferansError
from preferans.hardware.decisions import (
    FP16_OVERFLOWS,
    Decisions,
    apply_kernels,
    decide_kernels,
    decide_precision,
    restore_kernels,
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
    probe_triton,
    profile_device,
)

CPU = Device("cpu", "CPU", (0, 0), 0)
TURING = Device("cuda", "GTX 1650 SUPER", (7, 5), 4 << 30, grouped_heads="math")
AMPERE = Device("cuda", "RTX 3060", (8, 6), 12 << 30, triton=True, grouped_heads="flash")


@pytest.mark.parametrize(
    ("device", "fp16", "bf16", "decided"),
    [
        (CPU, False, None, (False, False)),
        (CPU, False, True, (False, True)),
        (TURING, True, False, (True, False)),
        (TURING, True, None, (True, False)),
        (TURING, False, None, (False, False)),  # TRL's own default would be bf16
        (AMPERE, False, None, (False, True)),
        (AMPERE, False, False, (False, False)),
        (AMPERE, True, None, (True, False)),
    ],
)
def test_precision(device, fp16, bf16, decided):
    *flags, reason = decide_precision(device, fp16, bf16, "float32")
    assert tuple(flags) == decided
    assert "fp16" in reason if fp16 else reason


@pytest.mark.parametrize(
    ("device", "fp16", "bf16", "dtype", "cure"),
    [
        (CPU, True, None, "float16", "--fp16 false --dtype float32"),
        (CPU, False, None, "float16", "--dtype float32"),
        (TURING, False, True, "float32", "fp16: true and dtype: float16"),
        (AMPERE, True, True, "float32", "choose one"),
        (AMPERE, True, None, "bfloat16", "dtype: float16"),
        (TURING, False, None, "bfloat16", "only emulates bf16"),
        (TURING, False, None, "auto", "only emulates bf16"),
    ],
)
def test_what_the_device_cannot_do_is_refused_with_the_cure(device, fp16, bf16, dtype, cure):
    with pytest.raises(PreferansError, match=cure):
        decide_precision(device, fp16, bf16, dtype)


def test_turing_has_no_bf16_of_its_own():
    assert not TURING.has_bf16
    assert AMPERE.has_bf16


@pytest.mark.parametrize("model_type", sorted(FP16_OVERFLOWS))
def test_a_model_that_overflows_is_not_computed_in_fp16(model_type):
    with pytest.raises(PreferansError, match="fp16: false and dtype: float32") as caught:
        decide_precision(TURING, True, None, "float16", model_type)
    assert model_type in str(caught.value) and FP16_OVERFLOWS[model_type] in str(caught.value)
    with pytest.raises(PreferansError, match="^dtype: float16, but"):
        decide_precision(TURING, False, None, "float16", model_type)
    with pytest.raises(PreferansError, match="bf16: true, fp16: false and dtype: bfloat16"):
        decide_precision(AMPERE, True, None, "float32", model_type)
    fp16, bf16, reason = decide_precision(TURING, False, None, "float32", model_type)
    assert (fp16, bf16) == (False, False)
    assert model_type in reason
    assert decide_precision(AMPERE, False, None, "float32", model_type)[:2] == (False, True)


def test_refusing_bf16_offers_no_fp16_to_a_model_that_overflows():
    with pytest.raises(PreferansError) as caught:
        decide_precision(TURING, False, True, "float32", "gemma3_text")
    assert "dtype: float32" in str(caught.value) and "fp16: true" not in str(caught.value)


def test_llama_is_computed_in_fp16():
    assert decide_precision(TURING, True, False, "float16", "llama")[:2] == (True, False)


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


def test_profiles_decide_as_their_cards_do():
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
    """A machine whose `torch.cuda` tells of an 80 GB card. Its kernels cannot be tried here."""
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


def test_a_big_card_plays_a_small_one(big_card):
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
    finally:
        torch.backends.cuda.enable_flash_sdp(flash)
        torch.backends.cuda.enable_cudnn_sdp(cudnn)


def test_without_a_profile_nothing_is_capped(big_card):
    device = find_device(triton=False)
    assert (device.name, device.free_memory, device.triton) == ("H100", (80 << 30) - MIB, False)
    assert "Triton: not asked for." in device.notes
    assert device.grouped_heads == "unknown"  # this machine's PyTorch has no kernels for cards, and that is no crash
    assert any("not found out" in note for note in device.notes)
    apply_profile(device)
    assert not big_card


def test_a_profile_keeps_what_the_real_card_lacks(big_card, monkeypatch):
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda index: (1 << 30, 15 << 30))
    turing = SimpleNamespace(name="T4", major=7, minor=5, total_memory=15 << 30)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda index: turing)
    device = find_device(profile="rtx3060", triton=False)
    assert (device.capability, device.free_memory) == ((7, 5), 1 << 30)
    with pytest.raises(PreferansError, match="A profile makes a card smaller, never bigger"):
        find_device(profile="a100")


def test_a_card_that_does_not_answer(big_card, monkeypatch):
    def broken(index):
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr("torch.cuda.mem_get_info", broken)
    with pytest.raises(PreferansError, match=r"does not answer \(CUDA error: unspecified launch failure\)"):
        find_device()


def test_every_process_looks_at_its_own_card(big_card, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda index: (index + 1, 80 << 30))
    assert find_device(triton=False).free_memory == 2


def test_this_machine(monkeypatch):
    assert find_device(use_cpu=True) == CPU
    with pytest.raises(PreferansError, match="scripts/plan.py takes it without a card"):
        find_device(use_cpu=True, profile="gtx1650")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert find_device() == CPU
    assert peak_memory() > 50 << 20


# Probes


def test_the_cpu_takes_grouped_heads_by_its_flash_kernel():
    assert probe_grouped_heads("cpu") == ("flash", "the flash kernel takes it")


@pytest.fixture
def stand_in_triton(tmp_path, monkeypatch):
    """A package named triton that can be imported and whose kernels do what `body` says."""

    def make(body: str) -> None:
        folder = tmp_path / "triton"
        folder.mkdir()
        (folder / "__init__.py").write_text(f"def jit(function):\n    {body}\n", encoding="utf-8")
        (folder / "language.py").write_text("constexpr = int\n", encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return make


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise RuntimeError('sm_75 is not supported')", "(RuntimeError: sm_75 is not supported)"),
        ("import os; os.abort()", "a small kernel failed ("),
        ("return function", "a small kernel failed ("),  # it goes on to the card, and there is none
    ],
)
def test_a_triton_that_fails_is_an_answer(stand_in_triton, body, words):
    stand_in_triton(body)
    works, reason = probe_triton()
    assert not works
    assert words in reason


def test_a_triton_that_hangs_is_an_answer(stand_in_triton):
    stand_in_triton("while True: pass")
    assert probe_triton(timeout=0.2) == (False, "a small kernel was not ready after 0.2 seconds")


def test_no_triton(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    assert probe_triton() == (False, "it is not installed")


# Decisions


@pytest.mark.parametrize(
    ("device", "half", "decided"),
    [
        (TURING, True, (False, 4096, "repeated")),
        (AMPERE, True, (True, 32768, "grouped")),
        (AMPERE, False, (True, 32768, "repeated")),  # no flash kernel for fp32
        (AMPERE._replace(triton=False), True, (False, 4096, "grouped")),
        (AMPERE._replace(grouped_heads="math"), True, (True, 32768, "repeated")),
        (AMPERE._replace(grouped_heads="unknown"), True, (True, 32768, "repeated")),
        (CPU, False, (False, 32768, "grouped")),
        (CPU._replace(triton=True), False, (False, 32768, "grouped")),
    ],
)
def test_kernels(device, half, decided):
    kernels = decide_kernels(device, half=half)
    assert kernels[:3] == decided
    assert f"{decided[1]:,}" in kernels.reason and decided[2] in kernels.reason


@given(st.sampled_from([TURING, AMPERE, CPU]), st.integers(1, 300_000))
def test_a_tile_is_never_wider_than_the_vocabulary(device, vocab_size):
    assert decide_kernels(device, vocab_size).tile == min(decide_kernels(device).tile, vocab_size)


@pytest.fixture
def restored():
    """Undoes what a test applies."""
    yield
    restore_kernels()


def scores(folder, monkeypatch) -> tuple[torch.Tensor, list[bool], set[int]]:
    """Log-probabilities by TRL's head, how attention was called, and how wide the head's tiles were."""
    calls, widths = [], set()
    attend, multiply = torch.nn.functional.scaled_dot_product_attention, torch.mm

    def watched(query, key, *args, enable_gqa=False, **kwargs):
        assert enable_gqa or key.shape[1] == query.shape[1]
        calls.append(enable_gqa)
        return attend(query, key, *args, enable_gqa=enable_gqa, **kwargs)

    def counted(left, right, **kwargs):
        widths.add(right.shape[1])
        return multiply(left, right, **kwargs)

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    add_fused_lm_head(model)
    ids = torch.arange(40).view(2, 20)
    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr("torch.nn.functional.scaled_dot_product_attention", watched)
        patch.setattr("torch.mm", counted)
        return model(input_ids=ids, labels=ids, fused_lm_head=True).log_probs, calls, widths


def test_applied_kernels_are_used_and_change_no_result(tiny_llama, monkeypatch, restored):
    plain, calls, widths = scores(tiny_llama, monkeypatch)
    assert calls == [True, True]
    assert widths == {600}
    apply_kernels(Decisions(False, 256, "repeated", "as on Turing"))
    small, calls, widths = scores(tiny_llama, monkeypatch)
    assert calls == [False, False]
    assert widths == {256, 600 - 2 * 256}
    torch.testing.assert_close(small, plain, rtol=1e-5, atol=1e-5)
    apply_kernels(Decisions(False, 300, "grouped", "another time"))
    other, calls, widths = scores(tiny_llama, monkeypatch)
    assert (calls, widths) == ([True, True], {300})
    torch.testing.assert_close(other, plain, rtol=1e-5, atol=1e-5)
    restore_kernels()
    again, calls, widths = scores(tiny_llama, monkeypatch)
    assert (calls, widths) == ([True, True], {600})
    assert torch.equal(again, plain)


def test_triton_that_does_not_work_is_switched_off_and_on_again(monkeypatch, restored):
    kernels = trl.kernels.chunked_logprob
    monkeypatch.setattr(kernels, "_TRITON_AVAILABLE", True)
    asked, tile = sdpa_attention.use_gqa_in_sdpa, trl.trainer.utils._CHUNKED_LOGPROB_CHUNK_SIZE
    card = torch.device("cuda")
    for _ in range(2):
        apply_kernels(decide_kernels(TURING))
        assert not kernels._use_triton(card)
        assert trl.trainer.utils._CHUNKED_LOGPROB_CHUNK_SIZE == 4096
    apply_kernels(decide_kernels(AMPERE))
    assert kernels._use_triton(card)
    for _ in range(2):
        restore_kernels()
        assert kernels._use_triton(card)
        assert (sdpa_attention.use_gqa_in_sdpa, trl.trainer.utils._CHUNKED_LOGPROB_CHUNK_SIZE) == (asked, tile)
