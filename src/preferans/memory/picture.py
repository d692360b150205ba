"""A plot of the memory of planned runs."""

import io
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from ..files import write_bytes
from ..hardware.device import MIB
from .plan import Plan
from .report import PlanRequest, verdict_in_words

# Okabe and Ito's colours, which are safe for colour-blind people. Other categories are drawn as the rest.
PARTS = {
    "weights in 4 bits": ("#0072B2", ("weights in 4 bits",)),
    "other weights": ("#56B4E9", ("other weights",)),
    "embeddings and head": ("#009E73", ("embeddings and head",)),
    "adapter, gradients, optimizer": ("#CC79A7", ("adapter weights", "adapter gradients", "optimizer state")),
    "activations kept": ("#E69F00", ("activations kept",)),
    "one layer's backward pass": ("#D55E00", ("one layer's backward pass",)),
    "tiles of the LM head": ("#F0E442", ("tiles of the LM head",)),
}
DARK = ("#0072B2", "#009E73", "#D55E00")
REST = ("kernels' scratch and the rest", "#999999")
GAPS = "gaps between blocks"
RESERVED = ("//", "..", "\\\\")
LEAST_SHARE = 0.004  # of the plot's width: thinner pieces are drawn as the rest
LABEL_SHARE = 0.03  # thinner pieces have no space for their figure


def bars(plan: Plan, width: int) -> dict[str, tuple[int, str, str]]:
    """
    Return the pieces of a plan's bar.

    Args:
        plan ([`~preferans.memory.plan.Plan`])
        width (`int`): Bytes across the plot.

    Returns:
        `dict[str, tuple[int, str, str]]`: bytes, colour and hatching of each piece by name, from left to right: tensors, gaps between
        blocks, and other reserves.
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
    Plot the plans, one bar each, with the end of the card's memory as a line.

    Args:
        path (`str` or `Path`): File that ends in `.svg` or `.png`. The same plans give the same file.
        request ([`~preferans.memory.report.PlanRequest`]): The request of the plans.
        plans (`list[tuple]`): See [`~preferans.memory.report.sweep`].
    """
    matplotlib.use("Agg")
    first, device = plans[0][2], request.device
    end = first.usable + sum(count for name, count in first.reserve.items() if name != GAPS)
    width = int(1.02 * max(end, *(plan.trace.peak + sum(plan.reserve.values()) for _, _, plan in plans)))
    where = device.name + (f", {device.system}" if device.kind == "cuda" else "")
    style = {"svg.fonttype": "none", "svg.hashsalt": "preferans", "font.size": 9, "hatch.linewidth": 0.5}
    with plt.rc_context(style):
        figure, axis = plt.subplots(figsize=(10, 1.9 + 0.5 * len(plans)), layout="constrained")
        handles: dict[str, tuple] = {}
        for row, (_, _, plan) in enumerate(plans):
            _draw_bar(axis, row, bars(plan, width), LABEL_SHARE * width, handles)
        axis.axvline(end / MIB, color="black", linewidth=2)
        axis.text(end / MIB, -0.45, f"{end / MIB:,.0f} MiB ", ha="right", va="bottom", weight="bold")
        axis.set_yticks(range(len(plans)), [_name(*item) for item in plans])
        axis.set_ylim(len(plans) - 0.5, -0.75)
        axis.set_xlim(0, width / MIB)
        axis.set_xlabel("MiB; the thick line is the end of the card's memory" if device.kind == "cuda" else "MiB")
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_title(f"{request.recipe_keys['model_name_or_path']} on {where}", loc="left", fontsize=10)
        names = sorted(handles, key=[*PARTS, REST[0], GAPS, *first.reserve].index)
        # With a single bar, the legend has the figures, so that thin pieces have theirs too.
        labels = [f"{name}, {handles[name][1] / MIB:,.0f} MiB" if len(plans) == 1 else name for name in names]
        figure.legend([handles[name][0] for name in names], labels, loc="outside lower center", ncols=3, frameon=False)
        picture, suffix = io.BytesIO(), Path(path).suffix.lower()[1:]
        metadata = {"Date": None, "Creator": None} if suffix == "svg" else {"Software": None}
        figure.savefig(picture, format=suffix, dpi=150, facecolor="white", metadata=metadata)
        plt.close(figure)
    write_bytes(path, picture.getvalue())


def _draw_bar(axis: Axes, row: int, pieces: dict[str, tuple[int, str, str]], labelled: float, handles: dict) -> None:
    left = 0
    for name, (count, colour, hatch) in pieces.items():
        (bar,) = axis.barh(row, count / MIB, 0.7, left / MIB, color=colour, hatch=hatch, edgecolor="#333333", lw=0.5)
        if count >= labelled:
            axis.text(
                (left + count / 2) / MIB,
                row,
                f"{count / MIB:,.0f}",
                ha="center",
                va="center",
                color="white" if colour in DARK else "black",
                bbox=None if not hatch else {"facecolor": "white", "edgecolor": "none", "pad": 1},
            )
        handles.setdefault(name, (bar, count))
        left += count


def _name(length: int | None, variant: str, plan: Plan) -> str:
    settings = plan.settings
    tokens = length or settings.prompt_tokens + max(settings.chosen_tokens, settings.rejected_tokens)
    return f"{tokens:,} tokens" + (f", {variant}" if variant else "") + f"\n{verdict_in_words(plan)}"
