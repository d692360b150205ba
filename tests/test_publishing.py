"""Publishing to a Hub on this machine with the unmodified clients, through faults."""

import json
import runpy
import shutil
import sys

import pytest
import yaml

from preferans.errors import PreferansError
from preferans.files import write_json
from preferans.model_card import model_card, portable
from preferans.publishing import check_no_secret, kind_of, pack

from .support.rows import preference
from .support.tiny import ROOT

ARGUMENTS = {
    "max_steps": 2, "save_steps": 1, "logging_steps": 1, "per_device_train_batch_size": 1, "lora_target_modules": "all-linear",
    "bf16": "false", "use_cpu": "true", "use_peft": "true", "load_in_4bit": "true", "report_to": "none", "learning_rate": "1e-3",
    "lora_r": 4, "lora_alpha": 8,
}  # fmt: skip


def command(model, data, run, **changes) -> list[str]:
    keys = ARGUMENTS | {"model_name_or_path": model, "dataset_name": data, "output_dir": run} | changes
    return ["scripts/dpo.py", *(word for key, value in keys.items() for word in (f"--{key}", str(value)))]


def call(*words: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(sys, "argv", list(map(str, words)))
        runpy.run_path(words[0])["main"]()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    from datasets import Dataset, DatasetDict

    from preferans.files import write_jsonl

    source = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_jsonl(source, [preference(number) for number in range(8)])
    folder = tmp_path_factory.mktemp("data") / "pairs"
    splits = DatasetDict(
        train=Dataset.from_list([preference(number) for number in range(6)]),
        test=Dataset.from_list([preference(number) for number in range(6, 8)]),
    )
    for split, rows in splits.items():
        rows.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    (folder / "README.md").write_text(
        "---\nlicense: apache-2.0\nconfigs:\n- config_name: default\n  data_files:\n  - {split: train, path: data/train-*}\n"
        '  - {split: test, path: data/test-*}\n---\n# Pairs\n\nload_dataset("FOLDER_OR_HUB_ID")\n'
    )
    return folder


@pytest.fixture(scope="module")
def finished_run(tiny_llama, pairs, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "tiny_run"
    call(*command(tiny_llama, pairs, run))
    return run


@pytest.mark.parametrize("xet", [True, False])
def test_a_run_goes_up_and_comes_back(hub, finished_run, xet):
    done = hub.run(["scripts/publish.py", finished_run, "--repo_id", "alice/tiny"], xet=xet)
    assert "read back and equal" in done.stdout
    files = hub.files("model", "alice/tiny")
    assert files["adapter_model.safetensors"] == (finished_run / "adapter_model.safetensors").read_bytes()
    assert not [name for name in files if "checkpoint" in name or name.endswith((".bin", ".pt"))]
    assert hub.repositories["model", "alice/tiny"].private
    commits = len(hub.repositories["model", "alice/tiny"].history())
    again = hub.run(["scripts/publish.py", finished_run, "--repo_id", "alice/tiny"], xet=xet)
    assert "nothing to send" in again.stdout
    assert len(hub.repositories["model", "alice/tiny"].history()) == commits
    secret = hub.token("alice").encode()
    assert not [content for content in hub.everything() if secret in content]
    assert secret.decode() not in done.stdout + done.stderr
    assert str(finished_run.parent).encode() not in b"".join(files.values()), "folders of this machine are nobody's business"
