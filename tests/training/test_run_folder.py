"""Checkpoints, lock and provenance of a run's folder."""

import shutil
from dataclasses import fields

import pytest
import torch
from safetensors.torch import save_file
from trl import DPOConfig

from preferans.errors import PreferansError
from preferans.files import write_json
from preferans.training.arguments import PreferansArguments
from preferans.training.run_folder import (
    LOCK_NAME,
    WITHOUT_EFFECT,
    check_run_dir,
    kept_scores,
    last_checkpoint,
    only_process,
    provenance,
)


@pytest.fixture
def checkpoints(tmp_path):
    """Two complete checkpoints."""
    for step in (9, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        save_file({"weight": torch.ones(100)}, folder / "adapter_model.safetensors")
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
            torch.save({"state": torch.ones(100)}, folder / name)
        write_json(folder / "trainer_state.json", {"global_step": step, "log_history": []})
    return tmp_path


def test_the_newest_checkpoint_is_used(checkpoints):
    assert last_checkpoint(checkpoints) == str(checkpoints / "checkpoint-10")
    assert last_checkpoint(checkpoints / "absent") is None


@pytest.mark.parametrize(
    "name",
    ["adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"],
)
@pytest.mark.parametrize("damage", ["missing", "empty", "cut"])
def test_a_damaged_checkpoint_is_ignored_for_an_older_one(checkpoints, name, damage, capsys):
    file = checkpoints / "checkpoint-10" / name
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: 0 if damage == "empty" else -1 - file.stat().st_size // 4])
    assert last_checkpoint(checkpoints) == str(checkpoints / "checkpoint-9")
    assert f"{file.parent} is incomplete or damaged, and is ignored." in capsys.readouterr().out


def test_a_second_process_cannot_use_a_run_folder(tmp_path):
    with only_process(tmp_path):
        with pytest.raises(PreferansError, match="another process is training in this folder"), only_process(tmp_path):
            pass
    assert not list(tmp_path.iterdir())
    (tmp_path / LOCK_NAME).touch()  # left by a kill
    with only_process(tmp_path):
        pass


def test_a_folder_has_one_run(tmp_path, tiny_llama):
    dataset = {"name": "x", "fingerprint": "1", "train_pairs": 1, "test_pairs": 1}
    recipe_keys = {"model_name_or_path": str(tiny_llama), "beta": 0.1}
    run = provenance("x.yaml", recipe_keys, dataset, 1)
    assert run["model"]["weights_sha256"]["model.safetensors"]
    check_run_dir(tmp_path / "run", run)
    assert not (tmp_path / "run").exists()
    write_json(tmp_path / "run" / "provenance.json", run)
    check_run_dir(tmp_path / "run", run)
    with pytest.raises(PreferansError, match=r"beta: 0.1 there, 0.2 here"):
        check_run_dir(tmp_path / "run", provenance("x.yaml", recipe_keys | {"beta": 0.2}, dataset, 1))
    with pytest.raises(PreferansError, match="dataset_name: the content has changed"):
        check_run_dir(tmp_path / "run", provenance("x.yaml", recipe_keys, dataset | {"fingerprint": "2"}, 1))
    file = tmp_path / "run" / "provenance.json"
    for output_dir in (file, file / "below"):
        with pytest.raises(PreferansError, match=f"output_dir {output_dir}: {file} is a file. Name a folder"):
            check_run_dir(output_dir, run)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    with pytest.raises(PreferansError, match="not empty and is not a run"):
        check_run_dir(tmp_path / "other", run)


def test_a_run_resumes_in_another_place_and_with_other_logging(tmp_path, tiny_llama):
    moved = tmp_path / "llama"
    shutil.copytree(tiny_llama, moved)
    dataset = {"name": "x", "fingerprint": "1", "train_pairs": 1, "test_pairs": 1}
    recipe_keys = {
        "model_name_or_path": str(tiny_llama),
        "dataset_name": "data/x",
        "output_dir": "runs/x",
        "beta": 0.1,
    }
    write_json(tmp_path / "run" / "provenance.json", provenance("x.yaml", recipe_keys, dataset, 1))
    changes = {
        "model_name_or_path": str(moved),
        "dataset_name": "elsewhere/x",
        "output_dir": str(tmp_path / "run"),
        "logging_steps": 1,
        "save_steps": 5,
        "eval_strategy": "steps",
        "per_device_eval_batch_size": 4,
        "report_to": ["tensorboard"],
    }
    check_run_dir(tmp_path / "run", provenance("x.yaml", recipe_keys | changes, dataset, 1))
    for key, value in {"learning_rate": 1e-4, "max_steps": 5, "per_device_train_batch_size": 2, "seed": 1}.items():
        with pytest.raises(PreferansError, match=rf"{key}: None there, {value} here"):
            check_run_dir(tmp_path / "run", provenance("x.yaml", recipe_keys | {key: value}, dataset, 1))
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / ".DS_Store").touch()
    check_run_dir(tmp_path / "new", provenance("x.yaml", recipe_keys, dataset, 1))


def test_scores_before_training_are_computed_once(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return [{"chosen_logp": -1.5}]

    assert kept_scores(tmp_path, compute) == kept_scores(tmp_path, compute) == [{"chosen_logp": -1.5}]
    assert len(calls) == 1


def test_keys_without_effect_exist():
    assert set(WITHOUT_EFFECT) <= {field.name for kind in (DPOConfig, PreferansArguments) for field in fields(kind)}
