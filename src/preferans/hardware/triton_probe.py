"""
Compile and run a small Triton kernel on the card.

[`~preferans.hardware.device.probe_triton`] runs this as a separate process, because a compiler that does not support the card can crash.
The exit status is 0 if the result is right. The kernel uses what TRL's kernels use: masked loads, exponentials and sums, but no matrix product.
"""

import sys

import torch
import triton
import triton.language as tl


@triton.jit
def log_sum_exp(row, result, size, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    values = tl.load(row + offsets, mask=offsets < size, other=-float("inf")).to(tl.float32)
    highest = tl.max(values, axis=0)
    tl.store(result, highest + tl.log(tl.sum(tl.exp(values - highest), axis=0)))


def main(index: int) -> None:
    torch.cuda.set_device(index)
    row = torch.linspace(-3, 3, 1000, device="cuda", dtype=torch.float16)
    result = torch.zeros((), device="cuda")
    log_sum_exp[(1,)](row, result, row.numel(), BLOCK=1024)
    expected = row.float().logsumexp(0).item()
    if abs(result.item() - expected) > 1e-3:
        sys.exit(f"the kernel ran, but gave {result.item():.6f} instead of {expected:.6f}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
