"""Scores and a run for the tests of the report."""

from pathlib import Path

import pytest

from preferans.files import write_json
from preferans.training.run_folder import provenance

from ...support.reports import AFTER, BEFORE, pair, scored, system


@pytest.fixture
def two() -> dict:
    return scored(system("before", *BEFORE, finish_reason="length"), system("after", *AFTER))


@pytest.fixture
def run_folder(tmp_path) -> Path:
    """The files of a finished run that the report reads."""
    folder = tmp_path / "run"
    dataset = {"name": "data/x", "fingerprint": "f" * 64, "train_pairs": 1_234, "test_pairs": 4}
    recipe_keys = {"model_name_or_path": "org/model", "beta": 0.1, "loss_type": ["sigmoid"]}
    measured = {"device": "CPU", "train_seconds": 3_725.4, "tokens_per_second": 1_234.5, "epochs": 2.0}
    measured |= {"peak_memory_bytes": 3 << 29, "planned_peak_bytes": 700 << 20, "resumed_from": "run/checkpoint-1"}
    write_json(
        folder / "provenance.json", provenance("recipes/x.yaml", recipe_keys, dataset, 42) | {"measured": measured}
    )
    log = [
        {"step": step, "loss": 0.7 - step / 100, "grad_norm": float("nan") if step == 2 else 1.5}
        | {"rewards/margins": step / 10, "rewards/accuracies": 0.5, "logps/chosen": -50.0, "logps/rejected": -60.0}
        | {"peak_memory_bytes": step << 30}
        for step in range(1, 5)
    ]
    write_json(folder / "trainer_state.json", {"log_history": [*log, {"step": 4, "train_loss": 0.6}]})
    before = [pair(-10, -9), pair(-10, -9), pair(-10, -9), pair(-9, -10)]
    after = [pair(-9, -11)] * 4
    write_json(
        folder / "test_log_probs.json",
        {"before": before, "after": after, "beta": 0.1, "per_token": False, "groups": ["a", "b", "c", "d"]},
    )
    write_json(folder / "all_results.json", {})
    return folder
