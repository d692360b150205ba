"""CUDA's behaviour emulated on the CPU."""

from contextlib import ExitStack

import torch
import torch.nn.functional as F

from preferans.memory.cuda_emulation import cuda_scratch, patches
from preferans.memory.live_bytes import LiveBytes
from preferans.memory.settings import StepSettings


def test_attention_with_grouped_heads_and_a_mask_has_the_shape_of_the_query():
    query, key, value = torch.empty(2, 8, 5, 16), torch.empty(2, 2, 5, 16), torch.empty(2, 2, 5, 16)
    mask = torch.ones(2, 1, 5, 5, dtype=torch.bool)
    with ExitStack() as stack:
        for patch in patches(StepSettings(), LiveBytes()):
            stack.enter_context(patch)
        with torch.device("meta"):
            tensors = [tensor.to("meta") for tensor in (query, key, value, mask)]
            out = F.scaled_dot_product_attention(*tensors[:3], attn_mask=tensors[3], enable_gqa=True)
    assert out.shape == query.shape


def test_patches_are_undone():
    before = F.scaled_dot_product_attention
    with ExitStack() as stack:
        for patch in patches(StepSettings(), LiveBytes()):
            stack.enter_context(patch)
        assert F.scaled_dot_product_attention is not before
    assert F.scaled_dot_product_attention is before


def test_a_4_bit_product_unpacks_its_weights_and_scales():
    scratch = cuda_scratch()[torch.ops.bitsandbytes.gemm_4bit.default]
    inputs = torch.empty(1, 64, dtype=torch.float16)
    assert scratch((inputs, None, (64, 128))) == 64 * 128 * 2 + 2 * 4 * 128
