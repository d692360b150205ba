"""
Where the memory of a run on a card is: the code that allocated it, at the peak of each batch and before it.

    python benchmarks/allocations.py allocations.json recipes/llama1b_ru.yaml --max_steps 2 --hardware_profile gtx1650

The arguments after the file are those of `scripts/dpo.py`. The file lists, for each batch (the trial of the longest pairs is the first),
the bytes by call stack, largest first.
"""

import runpy
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from preferans.files import write_json

ROOT = Path(__file__).resolve().parents[1]
FRAMES = 8  # innermost frames of a stack
STACKS = 40


def code_of(frames: list[dict[str, Any]]) -> str:
    """Return the innermost Python frames of a stack, for example `"linear.py:130 forward < bnb.py:513 forward"`."""
    python = [frame for frame in frames if frame["filename"].endswith(".py")]
    return " < ".join(f"{Path(frame['filename']).name}:{frame['line']} {frame['name']}" for frame in python[:FRAMES])


def peak_of(events: list[dict[str, Any]], live: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """
    Follow allocations and releases to the highest use.

    Args:
        events (`list[dict]`): Events of PyTorch's allocator, in order, see [`torch.cuda.memory._snapshot`].
        live (`dict[int, dict]`): Allocations before them by address, which are brought up to date.

    Returns:
        `dict[int, dict]`: the allocations at the highest use.
    """
    used = highest = sum(event["size"] for event in live.values())
    at_peak = dict(live)
    for event in events:
        if event["action"] == "alloc":
            live[event["addr"]] = event
            used += event["size"]
        elif event["action"] == "free_completed" and event["addr"] in live:
            used -= live.pop(event["addr"])["size"]
        if used > highest:
            highest, at_peak = used, dict(live)
    return at_peak


def by_code(live: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the bytes and the number of allocations by call stack, largest first."""
    sizes: Counter[str] = Counter()
    numbers: Counter[str] = Counter()
    for event in live.values():
        code = code_of(event.get("frames", []))
        sizes[code] += event["size"]
        numbers[code] += 1
    return [{"bytes": size, "number": numbers[code], "code": code} for code, size in sizes.most_common(STACKS)]


def main() -> None:
    if "--help" in sys.argv or len(sys.argv) < 3:
        raise SystemExit(__doc__)
    import torch

    from preferans.training.dpo import PreferenceTrainer

    if not torch.cuda.is_available():
        raise SystemExit(
            "This machine has no card that PyTorch can use, and the allocations of a CPU are not recorded."
        )
    output = Path(sys.argv[1])
    torch.cuda.memory._record_memory_history(context="alloc", stacks="python", max_entries=1_000_000)
    live: dict[int, dict[str, Any]] = {}
    batches: list[dict[str, Any]] = []
    seen = 0
    real = PreferenceTrainer.training_step

    def events() -> list[dict[str, Any]]:
        nonlocal seen
        torch.cuda.synchronize()
        new = torch.cuda.memory._snapshot()["device_traces"][0][seen:]
        seen += len(new)
        return new

    def training_step(self, *args, **kwargs):
        peak_of(events(), live)
        before = {"bytes": torch.cuda.memory_allocated(), "by_code": by_code(live)}
        torch.cuda.reset_peak_memory_stats()
        try:
            return real(self, *args, **kwargs)
        finally:
            highest = torch.cuda.max_memory_allocated()
            batches.append({"before": before, "peak": {"bytes": highest, "by_code": by_code(peak_of(events(), live))}})
            write_json(output, {"batches": batches})

    PreferenceTrainer.training_step = training_step
    sys.argv = [str(ROOT / "scripts" / "dpo.py"), *sys.argv[2:]]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
