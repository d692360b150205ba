"""Tiny runs of the training scripts in this process."""

import runpy
import shutil
import sys
from pathlib import Path

import pytest

from preferans.files import read_json, write_json
from preferans.hardware.decisions import restore_kernels

from .rows import preference
from .tiny import ROOT

KEYS = {
    "max_steps": 3, "save_steps": 1, "logging_steps": 1, "per_device_train_batch_size": 1, "lora_target_modules": "all-linear",
    "bf16": "false", "use_cpu": "true", "use_peft": "true", "report_to": "none", "learning_rate": "1e-3", "lora_r": 4, "lora_alpha": 8,
    "disable_tqdm": "true",
}  # fmt: skip


def command(script: str, model, data, run, **changes) -> list[str]:
    """Return the command line of a training script with the keys of a tiny run and `changes`."""
    keys = KEYS | {"model_name_or_path": model, "dataset_name": data, "output_dir": run} | changes
    return [f"scripts/{script}.py", *(word for key, value in keys.items() for word in (f"--{key}", str(value)))]


def call(*words) -> None:
    """Run a script's `main` in this process, from the repository's root."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(sys, "argv", list(map(str, words)))
        try:
            runpy.run_path(str(words[0]))["main"]()
        finally:
            restore_kernels()


def make_pairs(folder: Path, train: int = 6, test: int = 2) -> Path:
    """Write a dataset folder as a builder does: parquet files and a card."""
    from datasets import Dataset

    for split, numbers in {"train": range(train), "test": range(train, train + test)}.items():
        rows = Dataset.from_list([preference(number) for number in numbers])
        rows.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    (folder / "README.md").write_text(
        "---\nlicense: apache-2.0\nlanguage: [ru]\nconfigs:\n- config_name: default\n  data_files:\n  - {split: train, path: data/train-*}\n"
        '  - {split: test, path: data/test-*}\n---\n# Pairs\n\nload_dataset("FOLDER_OR_HUB_ID")\n'
    )
    return folder


REPORT = {"report.html": "<p>Report</p>", "report.md": "## Report\n\nAll is well.\n", "scores.json": "{}\n"}


def on_base(run, folder, base: str, dataset: str = "alice/pairs@v1"):
    """Copy a run and set a base model on the Hub."""
    shutil.copytree(run, folder)
    origin = read_json(folder / "provenance.json")
    origin["model"] |= {"name": base, "revision": "a" * 40, "weights_sha256": {}}
    origin["dataset"]["name"] = dataset
    origin["keys"] |= {"model_name_or_path": base, "dataset_name": dataset}
    write_json(folder / "provenance.json", origin)
    return folder
