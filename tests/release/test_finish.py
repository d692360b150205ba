"""The end of a training run: its files, and that a run is marked as finished only when everything is written."""

import dataclasses
import shutil

import pytest
from datasets import Dataset
from transformers import TrainingArguments

from preferans.errors import PreferansError
from preferans.evaluation.statistics import Score
from preferans.files import read_json
from preferans.release.finish import finish_run
from preferans.training.prepare import Prepared
from preferans.training.run_folder import FINISHED_FILE

SCORES = {"test_reward_accuracy": Score(0.5, 0.25, 0.75, 2)}


@pytest.fixture
def trained(run, tmp_path):
    """A run whose adapter is saved and whose last files are missing."""
    folder = shutil.copytree(run, tmp_path / "run")
    record = read_json(folder / "provenance.json")
    for name in ("provenance.json", "test_log_probs.json", "README.md", FINISHED_FILE):
        (folder / name).unlink()
    fields = {field.name: None for field in dataclasses.fields(Prepared)}
    fields |= {
        "training_args": TrainingArguments(output_dir=str(folder), use_cpu=True),
        "test_rows": Dataset.from_dict({"id": ["a:b", "c:d"]}),
    }
    return Prepared(**fields), record, folder


def test_a_finished_run_has_provenance_log_probs_card_and_figures(trained, run, capsys):
    prepared, record, folder = trained
    log_probs = read_json(run / "test_log_probs.json")
    finish_run(prepared, record, {"train_loss": 0.5}, SCORES, log_probs)
    assert read_json(folder / "provenance.json") == record
    assert read_json(folder / "test_log_probs.json") == log_probs | {"ids": ["a:b", "c:d"]}
    assert read_json(folder / FINISHED_FILE) == {"train_loss": 0.5, "test_reward_accuracy": 0.5}
    assert (folder / "README.md").read_text(encoding="utf-8").startswith("---\n")
    printed = capsys.readouterr().out
    assert f"- test_reward_accuracy: {SCORES['test_reward_accuracy'].in_words()}" in printed and str(folder) in printed


def test_a_run_without_a_card_is_not_marked_as_finished(trained):
    prepared, record, folder = trained
    del record["model"]
    with pytest.raises((PreferansError, KeyError)):
        finish_run(prepared, record, {}, SCORES, {})
    assert not (folder / FINISHED_FILE).exists() and list(folder.glob("adapter_model.safetensors"))
