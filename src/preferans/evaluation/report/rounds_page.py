"""The page of a model that improves itself: one line for each round."""

from pathlib import Path
from typing import Any

import jinja2

from .words import Words, digits, printable


def rounds_page(record: dict[str, Any]) -> str:
    """
    Write the page of rounds.

    Args:
        record (`dict`): See [`~preferans.evaluation.rounds.compare_rounds`].

    Returns:
        `str`: HTML with a row for the base and for each round. A figure that is significantly worse than in the round before or than
        the base is marked.
    """
    words = Words("en")
    units = {"chrf": "points"}
    rows = []
    for one in [record["base"] | {"regressions": []}, *record["rounds"]]:
        cells = []
        for name in record["guards"]:
            score = one["scores"].get(name)
            unit = units.get(name, "share")
            text = "" if score is None else words.measure(score["value"], unit, digits(unit, [score]))
            interval = "" if score is None else words.interval(score, unit, digits(unit, [score]))
            cells.append({"text": text, "interval": interval, "worse": name in one["regressions"]})
        pairs = [name for name in one["regressions"] if name not in record["guards"]]
        rows.append({"name": one["name"], "best": one["name"] == record["best"], "cells": cells, "pairs": pairs})
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    titles = [words.title(name) for name in record["guards"]]
    return printable(environment.get_template("rounds.html.jinja").render(titles=titles, rows=rows, record=record))
