"""
TRL's fused LM head, faster on a CPU: completion tokens only, and in blocks of rows.

The values are TRL's. On a CPU, each of TRL's operations on a tile of logits writes a new tensor of tens of MiB, and that takes longer than
the operation. A few rows stay in the processor's cache.
"""

import math

import torch
import trl.kernels.chunked_logprob as chunked
import trl.trainer.utils

ROWS = 16
TRL_FORWARD, TRL_BACKWARD = chunked._forward_tile, chunked._backward_tile


def use_fast_lm_head() -> None:
    """
    Make TRL's fused LM head score completion tokens only, on every device, and in blocks of rows on a CPU.

    Without Triton, TRL also scores prompt and padding and discards the result, so that tile shapes stay constant for devices that
    compile. On a CPU that is most of the head's work, and the head is most of a small model's step.
    """
    # The head's module calls this function to choose the positions; the kernels call their own copy and keep using torch.
    trl.trainer.utils._use_triton = lambda device: True
    chunked._forward_tile, chunked._backward_tile = forward_tile, backward_tile


def _is_plain(tile: torch.Tensor, logit_scale: float, inv_t: float, HAS_SOFTCAP: bool) -> bool:
    return tile.device.type == "cpu" and logit_scale == inv_t == 1 and not HAS_SOFTCAP


def forward_tile(
    tile,
    tile_stride,
    targets,
    running_max,
    sum_exp,
    x_sum_exp,
    sq_sum_exp,
    z_sum,
    max_before_target,
    target_logit,
    vocab_start,
    n_cols,
    logit_scale,
    softcap,
    inv_t,
    HAS_SOFTCAP,
    BLOCK_SIZE,
    **outputs,
) -> None:
    """Add a tile of logits to the statistics of its rows, as TRL's function of this name does."""
    state = (running_max, sum_exp, x_sum_exp, sq_sum_exp, z_sum, max_before_target, target_logit)
    if not _is_plain(tile, logit_scale, inv_t, HAS_SOFTCAP):
        TRL_FORWARD(
            *(tile, tile_stride, targets, *state, vocab_start, n_cols, logit_scale, softcap, inv_t, HAS_SOFTCAP),
            BLOCK_SIZE=BLOCK_SIZE,
            **outputs,
        )
        return
    blocks = zip(*(rows.split(ROWS) for rows in (tile, targets - vocab_start, *state)), strict=True)
    for logits, target, largest, total, x_total, sq_total, z_total, before, target_z in blocks:
        z = logits.float()
        inside = (target >= 0) & (target < n_cols)
        found = z.gather(-1, target.clamp(0, n_cols - 1)[:, None])[:, 0]
        target_z.copy_(torch.where(inside, found, target_z))
        if outputs["HAS_MEAN_LOGITS"]:
            z_total += z.sum(-1)
        top, place = z.max(-1)
        # This only decides whether a target with the largest logit is the first of equal ones, and `place` is the first.
        before.copy_(torch.maximum(before, torch.where(place < target, top, -math.inf)))
        top = torch.maximum(largest, top)
        rescale = torch.exp(largest - top)
        e = torch.exp(z - top[:, None])
        total.mul_(rescale).add_(e.sum(-1))
        if outputs["HAS_ENTROPY"]:
            x_total.mul_(rescale).add_(torch.linalg.vecdot(e, z))
        if outputs["HAS_LOG_SUM_SQ_PROBS"]:
            sq_total.mul_(rescale * rescale).add_(torch.linalg.vecdot(e, e))
        largest.copy_(top)


def backward_tile(
    tile,
    tile_stride,
    targets,
    log_z,
    entropy,
    grad_logprobs,
    grad_entropy,
    vocab_start,
    n_cols,
    logit_scale,
    softcap,
    inv_t,
    HAS_SOFTCAP,
    HAS_LOGPROB_GRAD,
    HAS_ENTROPY_GRAD,
    BLOCK_SIZE,
) -> None:
    """Turn a tile of logits into their gradients, as TRL's function of this name does."""
    if HAS_ENTROPY_GRAD or not HAS_LOGPROB_GRAD or not _is_plain(tile, logit_scale, inv_t, HAS_SOFTCAP):
        TRL_BACKWARD(
            *(tile, tile_stride, targets, log_z, entropy, grad_logprobs, grad_entropy, vocab_start, n_cols),
            *(logit_scale, softcap, inv_t, HAS_SOFTCAP, HAS_LOGPROB_GRAD, HAS_ENTROPY_GRAD, BLOCK_SIZE),
        )
        return
    blocks = zip(*(rows.split(ROWS) for rows in (tile, targets - vocab_start, log_z, grad_logprobs)), strict=True)
    for logits, target, log_total, gradient in blocks:
        z = logits.float()  # the tile's own rows if it is in fp32
        z.sub_(log_total[:, None]).exp_().mul_(-gradient[:, None])
        inside = (target >= 0) & (target < n_cols)
        z.scatter_add_(-1, target.clamp(0, n_cols - 1)[:, None], torch.where(inside, gradient, 0.0)[:, None])
        logits.copy_(z)
