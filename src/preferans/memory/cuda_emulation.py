"""CUDA's memory behaviour on a machine without a card."""

import types
from contextlib import AbstractContextManager
from unittest import mock

import peft.tuners.lora.dora
import torch
import torch.nn.functional as F
import trl.kernels.chunked_logprob as chunked
import trl.trainer.utils
from bitsandbytes.functional import dequantize_4bit
from torch.utils._pytree import tree_map_only

from ..training.lm_head import TRL_BACKWARD, TRL_FORWARD, backward_tile, forward_tile
from .live_bytes import LiveBytes
from .settings import StepSettings

HEAD = "tiles of the LM head"


class _Grid:
    """Replace a Triton kernel, which writes to its arguments and allocates nothing."""

    def __getitem__(self, grid):
        return lambda *args, **kwargs: None


def patches(settings: StepSettings, counter: LiveBytes) -> list[AbstractContextManager]:
    """Return the patches under which a step allocates what it would allocate on the planned device."""
    function = chunked.ChunkedLogProbFunction
    head_forward, head_backward = function.forward, function.backward

    def forward(ctx, *args):
        with counter.counted_as(HEAD):
            return head_forward(ctx, *args)

    def backward(ctx, *gradients):
        with counter.counted_as(HEAD):
            return head_backward(ctx, *gradients)

    replaced: list[AbstractContextManager] = [
        mock.patch.object(trl.trainer.utils, "_use_triton", lambda device: True),  # score completions only
        mock.patch.object(trl.trainer.utils, "_CHUNKED_LOGPROB_CHUNK_SIZE", settings.head_tile),
        mock.patch.object(function, "forward", staticmethod(forward)),
        mock.patch.object(function, "backward", staticmethod(backward)),
        mock.patch.object(chunked, "_forward_tile", TRL_FORWARD if settings.emulate_cuda else forward_tile),
        mock.patch.object(chunked, "_backward_tile", TRL_BACKWARD if settings.emulate_cuda else backward_tile),
        # All full tiles of positions and of words need the same memory, one after another: a few are enough.
        mock.patch.object(chunked, "range", _few_steps, create=True),
        # DoRA unpacks the 4-bit weights of a copy, and tensors without content are no Params4bit and cannot be copied.
        mock.patch.object(peft.tuners.lora.dora, "deepcopy", lambda layer: layer),
        mock.patch.object(peft.tuners.lora.dora, "dequantize_module_weight", _unpacked),
        mock.patch(
            "transformers.integrations.sdpa_attention.use_gqa_in_sdpa",
            lambda mask, key, value: settings.grouped_heads and mask is None,
        ),
    ]
    if settings.emulate_cuda:
        replaced.append(mock.patch.object(F, "scaled_dot_product_attention", _efficient_attention))
        replaced.append(mock.patch.object(chunked, "_addmm_fp32", _addmm_in_place))
        for owner, name in ((F, "layer_norm"), (torch, "pow")):
            replaced.append(mock.patch.object(owner, name, _in_fp32_under_autocast(getattr(owner, name))))
    if settings.emulate_cuda and settings.triton:
        replaced += [
            mock.patch.object(chunked, "_use_triton", lambda device: True),
            mock.patch.object(chunked, "_forward_kernel", _Grid()),
            mock.patch.object(chunked, "_backward_kernel", _Grid()),
            mock.patch.object(chunked, "triton", types.SimpleNamespace(cdiv=lambda a, b: -(-a // b)), create=True),
        ]
    return replaced


def _few_steps(*bounds: int) -> list[int]:
    """Return the first two steps of a range and the last one."""
    steps = range(*bounds)
    return sorted({*steps[:2], *steps[-1:]})


def _unpacked(layer: torch.nn.Module) -> torch.Tensor:
    state = getattr(layer.weight, "quant_state", None)
    return layer.weight if state is None else dequantize_4bit(layer.weight.data, state)


def _addmm_in_place(accumulator: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
    if a.dtype == torch.float32:
        accumulator.addmm_(a, b)


def _efficient_attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **options):
    """Run CUDA's memory-efficient attention, which cards before Ampere use; FlashAttention on later ones needs no more memory."""
    if options.get("enable_gqa"):
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:  # the kernel needs an additive mask
            attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(~attn_mask, float("-inf"))
        attn_mask = attn_mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
    with_gradient = torch.is_grad_enabled() and query.requires_grad
    return torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, attn_mask, with_gradient, dropout_p, is_causal, scale=options.get("scale")
    )[0]


def cuda_scratch() -> dict:
    """Return the bytes that CUDA operations allocate internally, as functions of their arguments."""

    def dequantized(args) -> int:  # a batched product unpacks the weights, and their scales twice
        inputs, (rows, columns) = args[0], args[2]
        return rows * columns * inputs.element_size() + 2 * 4 * (rows * columns // 64)

    def attention_backward(args) -> int:  # one number per query and the query's gradient, in fp32
        query = args[1]
        return 4 * query.numel() // query.shape[-1] + 4 * query.numel()

    return {
        torch.ops.bitsandbytes.gemm_4bit.default: dequantized,
        torch.ops.aten._scaled_dot_product_efficient_attention_backward.default: attention_backward,
    }


def _in_fp32_under_autocast(function):
    """Compute in fp32 under autocast as CUDA does and the CPU does not: GPT-2's norms and activation."""

    def wide(*args, **kwargs):
        if torch.is_autocast_enabled("cpu"):
            args, kwargs = tree_map_only(torch.Tensor, lambda tensor: tensor.float(), (args, kwargs))
        return function(*args, **kwargs)

    return wide
