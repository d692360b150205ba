"""The page of a model that improves itself: one line for each round."""

from pathlib import Path
from typing import Any

import jinja2

from ..measures import MEASURES
from .words import Words, digits, printable


def rounds_page(record: dict[str, Any]) -> str:
    """
    Write the page of rounds.

    Args:
        record (`dict`): See [`~preferans.evaluation.rounds.compare_rounds`].

    Returns:
        `str`: HTML with a row for the base and for each round, and a column for each guard, the length and each of `eval_pairs`. A figure
        that is significantly worse than in the round before or than the base is marked.
    """
    words = Words("en")
    columns = [(name, MEASURES[name].unit) for name in [*record["guards"], "length"]]
    pairs = list(dict.fromkeys(name for one in record["rounds"] for name in one["pairs"]))
    rows = []
    for one in [record["base"] | {"regressions": [], "pairs": {}}, *record["rounds"]]:
        cells = [_cell(one["scores"].get(name), unit, name in one["regressions"], words) for name, unit in columns]
        cells += [_cell(one["pairs"].get(name), "share", name in one["regressions"], words, True) for name in pairs]
        rows.append({"name": one["name"], "best": one["name"] == record["best"], "cells": cells})
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    titles = [*(words.title(name) for name, _ in columns), *(words("gain_on_pairs", dataset=name) for name in pairs)]
    return printable(environment.get_template("rounds.html.jinja").render(titles=titles, rows=rows, record=record))


def _cell(
    score: dict[str, Any] | None, unit: str, worse: bool, words: Words, difference: bool = False
) -> dict[str, Any]:
    if score is None:
        return {"text": "", "interval": "", "worse": worse}
    places = digits(unit, [score])
    text, interval = (
        words.measure(score["value"], unit, places, difference),
        words.interval(score, unit, places, difference),
    )
    return {"text": text, "interval": interval, "worse": worse}
