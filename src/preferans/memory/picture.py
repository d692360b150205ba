"""A picture of where the bytes of a planned run go."""

import io
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt

from ..files import write_bytes
from ..hardware.device import MIB
from .plan import Plan
from .report import PlanRequest, verdict_in_words

# Okabe and Ito's colours, which colour-blind people tell apart as well. What is not in the list is the rest.
PARTS = {
    "weights in 4 bits": ("#0072B2", ("weights in 4 bits",)),
    "other weights": ("#56B4E9", ("other weights",)),
    "embeddings and head": ("#009E73", ("embeddings and head",)),
    "adapter, gradients, optimizer": ("#CC79A7", ("adapter weights", "adapter gradients", "optimizer state")),
    "activations kept": ("#E69F00", ("activations kept",)),
    "one layer's backward pass": ("#D55E00", ("one layer's backward pass",)),
    "tiles of the LM head": ("#F0E442", ("tiles of the LM head",)),
}
REST = ("kernels' scratch and the rest", "#999999")
GAPS = "gaps between blocks"
RESERVED = ("//", "..", "\\\\")
LEAST_SHARE = 0.004  # of the picture's width: what is thinner goes into the rest
LABEL_SHARE = 0.03  # what is thinner has no room for its figure


def bars(plan: Plan, width: int) -> dict[str, tuple[int, str, str]]:
    """
    The pieces of a plan's bar.

    Args:
        plan ([`~preferans.memory.plan.Plan`]):
            What to show.
        width (`int`):
            Bytes across the whole picture.

    Returns:
        `dict[str, tuple[int, str, str]]`: bytes, colour and hatching of each piece by its name, from left to right: tensors,
        gaps between blocks, and what else is reserved.
    """
    pieces, rest = {}, plan.trace.peak
    for name, (colour, categories) in PARTS.items():
        count = sum(plan.trace.by.get(category, 0) for category in categories)
        if count >= LEAST_SHARE * width:
            pieces[name] = (count, colour, "")
            rest -= count
    if rest >= MIB / 2:
        pieces[REST[0]] = (rest, REST[1], "")
    reserve = sorted(plan.reserve.items(), key=lambda item: item[0] != GAPS)
    for (name, count), hatch in zip(reserve, RESERVED, strict=False):
        if count:
            pieces[name] = (count, "white", hatch)
    return pieces


def draw(path: str | Path, request: PlanRequest, plans: list[tuple[int | None, str, Plan]]) -> None:
    """
    Write a picture of the plans, one bar each, with the card's end as a line.

    Args:
        path (`str` or `Path`):
            File that ends in `.svg` or `.png`. The same plans give the same file.
        request ([`~preferans.memory.report.PlanRequest`]):
            What was planned.
        plans (`list[tuple]`):
            See [`~preferans.memory.report.sweep`].
    """

    matplotlib.use("Agg")

    first = plans[0][2]
    end = first.usable + sum(count for name, count in first.reserve.items() if name != GAPS)
    width = int(1.02 * max(end, *(plan.trace.peak + sum(plan.reserve.values()) for _, _, plan in plans)))
    where = request.device.name + (f", {request.device.system}" if request.device.kind == "cuda" else "")
    style = {"svg.fonttype": "none", "svg.hashsalt": "preferans", "font.size": 9, "hatch.linewidth": 0.5}
    with plt.rc_context(style):
        figure, axis = plt.subplots(figsize=(10, 1.9 + 0.5 * len(plans)), layout="constrained")
        handles: dict[str, tuple] = {}
        for row, (_, _, plan) in enumerate(plans):
            left = 0
            for name, (count, colour, hatch) in bars(plan, width).items():
                (bar,) = axis.barh(
                    row, count / MIB, 0.7, left / MIB, color=colour, hatch=hatch, edgecolor="#333333", lw=0.5
                )
                if count >= LABEL_SHARE * width:
                    dark = colour in ("#0072B2", "#009E73", "#D55E00")
                    axis.text(
                        (left + count / 2) / MIB,
                        row,
                        f"{count / MIB:,.0f}",
                        ha="center",
                        va="center",
                        color="white" if dark else "black",
                        bbox=None if not hatch else {"facecolor": "white", "edgecolor": "none", "pad": 1},
                    )
                handles.setdefault(name, (bar, count))
                left += count
        axis.axvline(end / MIB, color="black", linewidth=2)
        axis.text(end / MIB, -0.45, f"{end / MIB:,.0f} MiB ", ha="right", va="bottom", weight="bold")
        axis.set_yticks(range(len(plans)), [_name(*item) for item in plans])
        axis.set_ylim(len(plans) - 0.5, -0.75)
        axis.set_xlim(0, width / MIB)
        axis.set_xlabel("MiB; the thick line is the card's end" if request.device.kind == "cuda" else "MiB")
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_title(f"{request.recipe_keys['model_name_or_path']} on {where}", loc="left", fontsize=10)
        order = [*PARTS, REST[0], GAPS, *first.reserve]
        names = sorted(handles, key=order.index)
        # One bar has its figures beside the names, where the thin pieces have room too.
        words = [f"{name}, {handles[name][1] / MIB:,.0f} MiB" if len(plans) == 1 else name for name in names]
        figure.legend([handles[name][0] for name in names], words, loc="outside lower center", ncols=3, frameon=False)
        picture, suffix = io.BytesIO(), Path(path).suffix.lower()[1:]
        metadata = {"Date": None, "Creator": None} if suffix == "svg" else {"Software": None}
        figure.savefig(picture, format=suffix, dpi=150, facecolor="white", metadata=metadata)
        plt.close(figure)
    write_bytes(path, picture.getvalue())


def _name(length: int | None, variant: str, plan: Plan) -> str:
    settings = plan.settings
    tokens = length or settings.prompt_tokens + max(settings.chosen_tokens, settings.rejected_tokens)
    return f"{tokens:,} tokens" + (f", {variant}" if variant else "") + f"\n{verdict_in_words(plan)}"
