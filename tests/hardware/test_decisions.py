"""Precision and kernels, decided from a device."""

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
from preferans.hardware.device import Device

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
def test_rejects_unsupported_precision_with_the_fix(device, fp16, bf16, dtype, cure):
    with pytest.raises(PreferansError, match=cure):
        decide_precision(device, fp16, bf16, dtype)


@pytest.mark.parametrize("model_type", sorted(FP16_OVERFLOWS))
def test_rejects_fp16_for_models_that_overflow(model_type):
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


def test_never_suggests_fp16_for_a_model_that_overflows():
    with pytest.raises(PreferansError) as caught:
        decide_precision(TURING, False, True, "float32", "gemma3_text")
    assert "dtype: float32" in str(caught.value) and "fp16: true" not in str(caught.value)


def test_llama_can_use_fp16():
    assert decide_precision(TURING, True, False, "float16", "llama")[:2] == (True, False)


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


def test_applied_kernels_are_used_with_the_same_result(tiny_llama, monkeypatch, restored):
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


def test_triton_is_disabled_and_restored(monkeypatch, restored):
    kernels = trl.kernels.chunked_logprob
    monkeypatch.setattr(kernels, "_TRITON_AVAILABLE", True)
    grouped, tile = sdpa_attention.use_gqa_in_sdpa, trl.trainer.utils._CHUNKED_LOGPROB_CHUNK_SIZE
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
        assert (sdpa_attention.use_gqa_in_sdpa, trl.trainer.utils._CHUNKED_LOGPROB_CHUNK_SIZE) == (grouped, tile)
