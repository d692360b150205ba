"""Controls of a DPO run: the same run with labels or a learning rate that teach nothing about preferences."""

from typing import Any

import numpy as np
from datasets import Dataset

CONTROLS = ("swapped_labels", "shuffled_labels", "zero_learning_rate")


def for_control(recipe_keys: dict[str, Any]) -> dict[str, Any]:
    """
    Return the keys of a run's control: it has its own folder beside the run, and is not published.

    Args:
        recipe_keys (`dict`): Keys that the recipe or the command line sets; without `control`, they are returned unchanged.
    """
    control = recipe_keys.get("control")
    if control is None or not recipe_keys.get("output_dir"):
        return recipe_keys
    folder = str(recipe_keys["output_dir"]).rstrip("/\\")
    return recipe_keys | {"output_dir": f"{folder}_{control}", "push_to_hub": False}


def control_rows(rows: Dataset, control: str | None, seed: int) -> Dataset:
    """
    Return the training rows of a control.

    Args:
        rows ([`~datasets.Dataset`]): Preference rows.
        control (`str`, *optional*):
            `"swapped_labels"`: chosen and rejected change places in every row. `"shuffled_labels"`: they do in half of the rows, drawn at
            random. Otherwise the rows stay as they are.
        seed (`int`): Seed of the draw.
    """
    if control == "swapped_labels":
        swapped = np.arange(len(rows))
    elif control == "shuffled_labels":
        swapped = np.random.default_rng(seed).permutation(len(rows))[: len(rows) // 2]
    else:
        return rows
    chosen, rejected = list(rows["chosen"]), list(rows["rejected"])
    for number in swapped:
        chosen[number], rejected[number] = rejected[number], chosen[number]
    features = rows.features
    others: Any = rows.remove_columns(["chosen", "rejected"])
    with_chosen = others.add_column("chosen", chosen, feature=features["chosen"])
    return with_chosen.add_column("rejected", rejected, feature=features["rejected"])
