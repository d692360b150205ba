"""
Plots of the report as SVG.

Colours are the page's CSS variables, so the plots follow its light, dark and print themes; letters are text in the page's font.
Legends are in the page beside the plots, where long names fit.
"""

import io
import math
import re
import statistics
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


# matplotlib needs real colours; each of these is later replaced by a CSS variable of the page.
INK, SOFT, GOOD, BAD = "#010001", "#010002", "#010003", "#010004"
SERIES = tuple(f"#0200{number:02x}" for number in range(1, 9))
_VARIABLES = {INK: "--ink", SOFT: "--soft-ink", GOOD: "--good", BAD: "--bad"} | {
    colour: f"--series-{number}" for number, colour in enumerate(SERIES, start=1)
}
# In points. A plot is about as wide as a phone; wider screens show several side by side.
WIDTH, HEIGHT = 300, 170
FONT_SIZE = 9.5
BINS = 24
LONGEST_TITLE = 44


def series(number: int) -> str:
    """Return the colour of a system by its number, from 0."""
    return SERIES[number % len(SERIES)]


def running_mean(values: Sequence[float]) -> list[float]:
    """Return the trailing mean over a window of a sixth of the curve, because batches of few pairs are noisy."""
    window = max(1, len(values) // 6)
    return [statistics.fmean(values[max(0, i + 1 - window) : i + 1]) for i in range(len(values))]


@contextmanager
def _picture(name: str, label: str, height: float = HEIGHT) -> Iterator[tuple["Axes", list[str]]]:
    """Yield an empty plot and a list that gets its SVG at the end of the block."""
    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": f"preferans {name}",  # fixed, so that the same input gives the same file
        "font.size": FONT_SIZE,
        "text.color": INK,
        "axes.edgecolor": SOFT,
        "axes.labelcolor": INK,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.formatter.useoffset": False,
        "xtick.color": SOFT,
        "ytick.color": SOFT,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "grid.color": SOFT,
        "grid.alpha": 0.3,
        "grid.linewidth": 0.5,
    }
    with matplotlib.rc_context(style), warnings.catch_warnings():
        figure = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
        drawn: list[str] = []
        yield figure.add_subplot(), drawn
        buffer = io.StringIO()
        # The page's fonts draw the letters, so glyphs missing from matplotlib's font do not matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        drawn.append(_for_the_page(buffer.getvalue(), label))


def _for_the_page(svg: str, label: str) -> str:
    """Turn matplotlib's SVG file into an element of the page without addresses, metadata and unused identifiers."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", svg)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r"#0[12]00[0-9a-f]{2}", lambda match: f"var({_VARIABLES[match[0]]})", svg)
    svg = re.sub(r"<defs>\s*</defs>", "", svg)
    view = svg[svg.index("viewBox=") :].split('"')[1]
    opening = f'<svg viewBox="{view}" role="img" aria-label="{escape(label)}">'
    return re.sub(r"<svg[^>]*>", lambda _: opening, svg, count=1)  # a function, because a name may contain a backslash


def _numbers_on(axis: "Axes", words: Any, which: str = "both", percent: bool = False) -> None:
    """Format the axes' numbers in the report's language."""

    def formatted(value: float, _: int) -> str:
        value = 100 * value if percent else value
        places = next((places for places in range(4) if abs(value - round(value, places)) < 1e-9), 4)
        return words.number(value, places)

    for side in ("x", "y"):
        if which in ("both", side):
            getattr(axis, f"{side}axis").set_major_formatter(formatted)


def curve(name: str, lines: list[list[tuple[float, float]]], level: float | None, label: str, words: Any) -> str:
    """
    Draw a training curve.

    Args:
        name (`str`): Unique name of the plot on its page.
        lines (`list[list[tuple[float, float]]]`): (step, value) of each line.
        level (`float`, *optional*): Level of a dashed line to compare with.
        label (`str`): Description for screen readers.
        words ([`~preferans.evaluation.report.words.Words`])

    Returns:
        `str`: an `<svg>` element.
    """
    with _picture(name, label) as (axis, drawn):
        axis.grid(True)
        if level is not None:
            axis.axhline(level, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
        for number, (points, dashes) in enumerate(zip(lines, ("solid", (0, (5, 1.5))), strict=False)):
            steps, values = zip(*points, strict=True)
            axis.plot(steps, values, ".", color=series(number), markersize=4, alpha=0.45)
            axis.plot(steps, running_mean(values), color=series(number), linewidth=1.8, linestyle=dashes)
        axis.locator_params(axis="x", nbins=6, integer=True)
        axis.locator_params(axis="y", nbins=6)
        _numbers_on(axis, words)
    return drawn[0]


def intervals(
    name: str,
    rows: list[tuple[str, float, float, float]],
    label: str,
    words: Any,
    percent: bool = True,
    ends: tuple[str, str] | None = None,
) -> str:
    """
    Draw figures with their intervals, one below the other, around a line at zero.

    Args:
        name (`str`), label (`str`), words ([`~preferans.evaluation.report.words.Words`]): See [`curve`].
        rows (`list[tuple]`): Title, value, low and high, from top to bottom.
        percent (`bool`, *optional*, defaults to `True`): Whether the figures are shares.
        ends (`tuple[str, str]`, *optional*):
            Labels of the ends of the axis. With them, an interval right of zero is drawn as good and one left of it as bad.
    """
    with _picture(name, label, 40 + 25 * len(rows)) as (axis, drawn):
        axis.grid(True, axis="x")
        for y, (title, value, low, high) in enumerate(rows):
            if y % 2 == 0:
                axis.axhspan(y - 0.72, y + 0.28, color=SOFT, alpha=0.1, linewidth=0)
            axis.plot([0, 0], [y - 0.25, y + 0.28], color=SOFT, linewidth=1)
            colour = INK if ends is None else GOOD if low > 0 else BAD if high < 0 else SOFT
            axis.plot([low, high], [y, y], color=colour, linewidth=2, solid_capstyle="butt")
            axis.plot([value], [y], "o", color=colour, markersize=5)
            axis.text(
                0.01,
                y - 0.3,
                title if len(title) <= LONGEST_TITLE else title[: LONGEST_TITLE - 1] + "…",
                transform=axis.get_yaxis_transform(),
                va="bottom",
                size=9,
                parse_math=False,
                in_layout=False,
            )
        axis.set_ylim(len(rows) - 0.72, -0.72)
        axis.margins(x=0.04)
        axis.set_yticks([])
        axis.spines["left"].set_visible(False)
        axis.locator_params(axis="x", nbins=6)
        _numbers_on(axis, words, "x", percent)
        if ends:
            for x, side, text in ((0, "left", ends[0]), (1, "right", ends[1])):
                axis.annotate(
                    text, (x, 0), (0, -17), xycoords="axes fraction", textcoords="offset points", ha=side, va="top"
                )
            axis.set_xlabel(" ")  # reserves space
    return drawn[0]


def histograms(name: str, values: list[list[float]], label: str, words: Any, percent: bool) -> str:
    """
    Draw a histogram for each system, with a mark at the median.

    Args:
        name (`str`), label (`str`), words ([`~preferans.evaluation.report.words.Words`]): See [`curve`].
        values (`list[list[float]]`): Values by system.
        percent (`bool`): Whether they are shares.
    """
    everything = [value for row in values for value in row]
    low, high = min(0.0, *everything), max(everything)
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    with _picture(name, label, 34 + 32 * len(values)) as (axis, drawn):
        for number, row in enumerate(values):
            shares = np.histogram(row, edges)[0] / len(row) if row else np.zeros(BINS)
            base = len(values) - 1 - number
            tall = 0.8 * shares / (shares.max() or 1)
            axis.stairs(base + tall, edges, baseline=base, fill=True, color=series(number), alpha=0.55)
            axis.stairs(base + tall, edges, baseline=base, color=series(number), linewidth=1.2)
            if row:
                axis.plot([statistics.median(row)] * 2, [base - 0.12, base + 0.02], color=INK, linewidth=2.2)
        axis.set_ylim(-0.2, len(values))
        axis.set_yticks([])
        axis.spines["left"].set_visible(False)
        axis.locator_params(axis="x", nbins=6)
        _numbers_on(axis, words, "x", percent)
    return drawn[0]


def finite(points: list[tuple[float, Any]]) -> list[tuple[float, float]]:
    """Drop points that are not finite: a step skipped in fp16 logs NaN or infinity as gradient norm."""
    return [(step, value) for step, value in points if isinstance(value, (int, float)) and math.isfinite(value)]
