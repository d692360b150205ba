"""The fast LM head against TRL's, on the same tiles."""

from unittest import mock

import pytest
import torch
import trl.kernels.chunked_logprob as chunked
import trl.trainer.utils
from hypothesis import given, settings
from hypothesis import strategies as st

from preferans.training import lm_head

from ..support.trainers import first_batch, gradients


def scores(fast, hidden, weight, targets, tile, outputs=chunked.OPTIONAL_OUTPUTS, softcap=None, entropy_share=0.0):
    """Return the head's outputs, and the gradients of hidden states and weights."""
    hidden, weight = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    forward = lm_head.forward_tile if fast else lm_head.TRL_FORWARD
    backward = lm_head.backward_tile if fast else lm_head.TRL_BACKWARD
    with mock.patch.multiple(chunked, _forward_tile=forward, _backward_tile=backward):
        found = chunked.ChunkedLogProbFunction.apply(hidden, weight, None, targets, 1.0, tile, softcap, 1.0, outputs)
        loss = (found[0] * torch.linspace(-1, 2, len(targets))).sum()
        (loss + entropy_share * found[1].sum() if entropy_share else loss).backward()
    return [*found, hidden.grad, weight.grad]


def assert_equal(*args, **options):
    fast, slow = (scores(way, *args, **options) for way in (True, False))
    for ours, theirs in zip(fast, slow, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def drawn(tokens, vocabulary, seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, 6, generator=generator).to(dtype)
    weight = torch.randn(vocabulary, 6, generator=generator).to(dtype)
    return hidden, weight, torch.randint(vocabulary, (tokens,), generator=generator)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 60), st.integers(0, 1000))
def test_the_fast_head_equals_trls(tokens, vocabulary, tile, seed):
    assert_equal(*drawn(tokens, vocabulary, seed), tile)


@pytest.mark.parametrize(
    "options", [{"softcap": 5.0}, {"entropy_share": 0.5}, {"outputs": ("entropy",)}, {"outputs": ()}]
)
def test_the_fast_head_equals_trls_with_other_options(options):
    assert_equal(*drawn(20, 30, 0), 16, **options)


def test_the_fast_head_equals_trls_in_bf16():
    hidden, weight, targets = drawn(20, 30, 0, torch.bfloat16)
    fast, slow = (scores(way, hidden, weight, targets, 16) for way in (True, False))
    for ours, theirs in zip(fast, slow, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-2)


def test_of_equal_logits_only_the_first_is_the_top():
    """As with argmax, also if the equal logits are in different tiles."""
    hidden, weight = torch.ones(6, 1), torch.tensor([[1.0], [3.0], [3.0], [0.0], [3.0]])
    for tile in (2, 5):
        top = scores(True, hidden[:5], weight, torch.arange(5), tile)[4]
        assert top.tolist() == [False, True, False, False, False]


def test_a_nan_stays_a_nan():
    hidden, weight, targets = drawn(4, 30, 0)
    hidden[1, 2] = float("nan")
    assert scores(True, hidden, weight, targets, 16)[0].isnan().tolist() == [False, True, False, False]


def test_a_step_keeps_trls_loss_and_gradients(make_trainer, monkeypatch):
    trainer = make_trainer(load_in_4bit=False, loss_type=["sigmoid", "sft"])
    batch = first_batch(trainer)
    ours = trainer.compute_loss(trainer.model, batch).item()
    our_gradients = gradients(trainer, batch)
    monkeypatch.setattr(trl.trainer.utils, "_use_triton", lambda device: False)
    monkeypatch.setattr(chunked, "_forward_tile", lm_head.TRL_FORWARD)
    monkeypatch.setattr(chunked, "_backward_tile", lm_head.TRL_BACKWARD)
    assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(ours, rel=1e-6)
    for name, gradient in gradients(trainer, batch).items():
        assert torch.allclose(gradient, our_gradients[name], rtol=1e-5, atol=1e-7), name
