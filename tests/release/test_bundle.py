"""Publishing to a loopback Hub with the unmodified clients: which files are uploaded, and what is rejected."""

import json
import re
import shutil
from pathlib import Path, PureWindowsPath

import pytest
import yaml

from preferans.errors import PreferansError
from preferans.files import read_json, sha256_of, write_json, write_jsonl
from preferans.release.bundle import check_no_secret, kind_of, pack, warnings_for
from preferans.release.model_card import card_metadata, recipe_of

from ..support.runs import REPORT, on_base

PULL = """
import json, os, sys
from pathlib import Path
import torch
from datasets import get_dataset_config_names, load_dataset
from huggingface_hub import constants
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

things = json.loads(os.environ["THINGS"])
constants.HF_HUB_DISABLE_XET = os.environ["TRANSPORT"] == "lfs"
ids = torch.arange(30)[None]
with torch.no_grad():
    base = AutoModelForCausalLM.from_pretrained(things["base"])
    plain = base(ids).logits
    here = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(things["base"]), things["run"])(ids).logits
    there = PeftModel.from_pretrained(base, "alice/run")(ids).logits
    assert torch.equal(here, there) and not torch.equal(plain, there)
    merged = AutoModelForCausalLM.from_pretrained("alice/merged")(ids).logits
    assert torch.equal(merged, AutoModelForCausalLM.from_pretrained(things["merged"])(ids).logits)
    assert torch.allclose(merged, here, atol=1e-4)
for name in ("run", "merged"):
    assert AutoTokenizer.from_pretrained(f"alice/{name}")("Привет").input_ids == AutoTokenizer.from_pretrained(things[name])("Привет").input_ids
assert sorted(get_dataset_config_names("alice/two")) == ["default", "more"]
for config in ("default", "more"):
    there, here = load_dataset("alice/two", config), load_dataset(things["two"], config, cache_dir=os.environ["HF_HOME"] + "/other")
    assert {split: rows.to_list() for split, rows in there.items()} == {split: rows.to_list() for split, rows in here.items()}
assert [row["answer"] for row in load_dataset("alice/answers", split="train")] == [f"Хорошо, {number}." for number in range(3)]
"""


@pytest.mark.parametrize("transport", ["xet", "lfs"])
def test_published_files_load_with_the_public_clients(hub, things, tiny_llama, transport, tmp_path):
    """Published, pulled into an empty cache by the libraries, and equal; the second time nothing is sent."""
    xet, home = transport == "xet", tmp_path / "home"
    log = ""
    for name in ("run", "merged", "two", "answers"):
        words = ["scripts/publish.py", things[name], "--repo_id", f"alice/{name}"]
        words += ["--report", things["report"], "--collection", "Русские предпочтения"] if name == "run" else []
        done = hub.run(words, xet=xet, home=home)
        assert "again and equal" in done.stdout and not re.search("Traceback|Error", done.stderr)
        log += done.stdout + done.stderr
        kind = "dataset" if name in ("two", "answers") else "model"
        commits = len(hub.repositories[kind, f"alice/{name}"].history())
        assert hub.repositories[kind, f"alice/{name}"].private and commits == 2
        if name in ("run", "two"):
            again = hub.run(words, xet=xet, home=home).stdout
            assert "nothing to upload, all files were there" in again
            assert len(hub.repositories[kind, f"alice/{name}"].history()) == commits
    places = {name: str(path) for name, path in things.items()} | {"base": str(tiny_llama)}
    hub.run(PULL, xet=xet, THINGS=json.dumps(places), TRANSPORT=transport)

    files = hub.files("model", "alice/run")
    assert sorted(files) == sorted(
        [
            ".gitattributes",
            "README.md",
            "adapter_config.json",
            "adapter_model.safetensors",
            "all_results.json",
            "chat_template.jinja",
        ]
        + [
            "provenance.json",
            "recipe.yaml",
            "test_log_probs.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "trainer_state.json",
        ]
        + [f"report/{name}" for name in REPORT]
    )
    assert "All is well." in files["README.md"].decode()
    [collection] = hub.collections.values()
    assert [item["id"] for item in collection.items] == ["alice/run"] and collection.private
    secret = hub.token("alice").encode()
    for place, content in hub.everything():
        assert secret not in content, place
    assert secret not in log.encode()
    assert not [path for path in home.rglob("*") if path.is_file() and secret in path.read_bytes()]
    assert str(things["run"].parent).encode() not in b"".join(files.values()), "folders of this machine"


def test_a_dry_run_needs_no_network_and_no_token(hub, things):
    with hub.down():
        done = hub.run(["scripts/publish.py", things["run"], "--repo_id", "alice/run", "--dry_run"], token=None)
    assert "Would be uploaded to alice/run, a private model" in done.stdout
    assert "adapter_model.safetensors" in done.stdout and "training_args.bin" not in done.stdout
    assert "# run" in done.stdout and "base_model" not in card_metadata(done.stdout.split("The card:\n\n")[1])
    assert "The base model is a local folder" in done.stdout
    assert not hub.requests


class TestPublishedFiles:
    def test_a_token_in_a_file_stops_the_publication(self, things, tmp_path):
        run = tmp_path / "run"
        shutil.copytree(things["run"], run)
        state = read_json(run / "trainer_state.json")
        write_json(run / "trainer_state.json", state | {"note": "hf_" + "Ab1" * 12})
        with (
            pytest.raises(PreferansError, match=r"trainer_state\.json: it contains an access token of the Hub"),
            pack(run, "alice/run"),
        ):
            pass

    def test_local_folders_are_reported_in_every_spelling(self, things, tmp_path, monkeypatch):
        row = {"id": "1", "prompt": [], "answer": "Да.", "model": "C:\\Users\\anna\\runs\\x"}
        write_jsonl(tmp_path / "answers, two.jsonl", [row])
        monkeypatch.setattr(Path, "home", lambda: PureWindowsPath("C:\\Users\\anna"))
        with pack(tmp_path / "answers, two.jsonl", "alice/answers") as parcel:
            found = warnings_for(parcel, "alice/answers")
            assert any("answers, two.jsonl contains folders of this machine" in warning for warning in found)
            [config] = card_metadata(parcel.card)["configs"]
            assert config["data_files"] == [{"split": "train", "path": "answers, two.jsonl"}]

    def test_a_row_without_an_answer_is_named(self, tmp_path):
        row = {"id": "1", "prompt": [], "answer": "Да.", "model": "m"}
        for rows, number in (([row, {"id": "2"}], 2), ([], 1)):
            write_jsonl(tmp_path / "answers.jsonl", rows)
            with (
                pytest.raises(PreferansError, match=f"answer {number} has no id"),
                pack(tmp_path / "answers.jsonl", "a/b"),
            ):
                pass

    def test_the_trainer_state_contains_no_local_folder(self, run, tmp_path):
        folder = tmp_path / "run"
        shutil.copytree(run, folder)
        state = read_json(folder / "trainer_state.json")
        write_json(folder / "trainer_state.json", state | {"best_model_checkpoint": "/home/anna/run/checkpoint-2"})
        with pack(folder, "alice/run") as parcel:
            published = read_json(parcel.files["trainer_state.json"])
        assert published == state | {"best_model_checkpoint": "checkpoint-2"}

    def test_a_report_of_another_run_is_reported(self, run, tmp_path):
        for name, text in REPORT.items():
            (tmp_path / name).write_text(text)
        own = sha256_of(run / "adapter_model.safetensors")
        for checksum, is_warned in (("0" * 64, True), (own, False)):
            write_json(tmp_path / "scores.json", {"systems": [{"weights": None}, {"weights": {"sha256": [checksum]}}]})
            with pack(run, "alice/run", tmp_path) as parcel:
                found = [warning for warning in warnings_for(parcel, "alice/run") if "another run" in warning]
                assert bool(found) is is_warned

    @pytest.mark.parametrize("head", ["license: [mit", "license: a: b", "- mit", "just words", ""])
    def test_a_hand_written_card_is_kept(self, things, tmp_path, head):
        """A card's head may be anything; a head that is not YAML gets a message of one paragraph."""
        model = tmp_path / "model"
        shutil.copytree(things["merged"], model)
        (model / "README.md").write_text(f"---\n{head}\n---\n# Mine\n", encoding="utf-8")
        try:
            with pack(model, "alice/model") as parcel:
                assert warnings_for(parcel, "alice/model") == [] and head in ("- mit", "just words", "")
        except PreferansError as error:
            assert "not valid YAML" in str(error) and head.startswith("license")

    def test_other_files_in_a_dataset_folder_are_not_published(self, pairs, tmp_path):
        data = tmp_path / "my data"
        shutil.copytree(pairs, data)
        for name in ("notes.txt", "raw/people.jsonl", "optimizer.pt", "LICENSE"):
            (data / name).parent.mkdir(exist_ok=True)
            (data / name).write_text("mine")
        with pack(data, "alice/pairs") as parcel:
            there = {path.relative_to(pairs).as_posix() for path in pairs.rglob("*") if path.is_file()}
            assert set(parcel.files) == there | {"LICENSE"}

    def test_the_notice_is_published_with_the_weights(self, run, tmp_path):
        with pack(on_base(run, tmp_path / "run", "google/gemma-3-270m"), "alice/run") as parcel:
            assert "Gemma Terms of Use" in parcel.files["NOTICE"].read_text(encoding="utf-8")
        with pack(run, "alice/run") as parcel:
            assert "NOTICE" not in parcel.files

    def test_a_token_across_two_blocks_is_found(self, tmp_path):
        (tmp_path / "big").write_bytes(b" " * ((1 << 24) - 10) + b"hf_" + b"Ab1" * 12)
        with pytest.raises(PreferansError, match="an access token"):
            check_no_secret({"big": tmp_path / "big"})

    @pytest.mark.parametrize("name", ["pytorch_model.bin", "training_args.bin", "optimizer.pt"])
    def test_pickles_are_rejected(self, things, tmp_path, name):
        model = tmp_path / "model"
        shutil.copytree(things["merged"], model)
        (model / name).write_bytes(b"pickle")
        with pytest.raises(PreferansError, match=f"{name} is a pickle"), pack(model, "alice/model"):
            pass

    def test_unfinished_runs_and_unknown_folders_are_rejected(self, things, tmp_path):
        run = tmp_path / "run"
        shutil.copytree(things["run"], run)
        (run / "all_results.json").unlink()
        for path, message in (
            (run, "the run is not finished"),
            (tmp_path, "this is neither a run"),
            (tmp_path / "x", "no such file"),
        ):
            with pytest.raises(PreferansError, match=message):
                kind_of(path)

    def test_older_shards_are_removed_and_other_files_stay(self, hub, things):
        there = {
            "default/data/train-00000-of-00002.parquet": b"PAR1old",
            "other/train-0.parquet": b"PAR1",
            "notes.txt": b"mine",
        }
        hub.seed("dataset", "alice/two", there, private=True)
        done = hub.run(["scripts/publish.py", things["two"], "--repo_id", "alice/two"])
        assert "removed: default/data/train-00000-of-00002.parquet" in done.stdout
        kept = hub.files("dataset", "alice/two")
        assert "notes.txt" in kept and "other/train-0.parquet" in kept, (
            "another configuration is nobody's older version"
        )
        hub.run(["scripts/publish.py", things["answers"], "--repo_id", "alice/two"])
        assert len([name for name in hub.files("dataset", "alice/two") if name.endswith(".parquet")]) == 5

    @pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads the memory map, which only Linux has")
    def test_no_file_is_mapped_when_its_folder_is_removed(self, hub, things, monkeypatch):
        """Windows would refuse to remove it, and the publication would end in an error."""
        code = """
import os, tempfile
from preferans.release.bundle import pack, publish
class Folder(tempfile.TemporaryDirectory):
    def __exit__(self, *how):
        print("mapped:", [line for line in open("/proc/self/maps") if self.name in line])
        return super().__exit__(*how)
tempfile.TemporaryDirectory = Folder
for source, name in ((os.environ["DATASET"], "alice/two"), (os.environ["RUN"], "alice/run")):
    with pack(source, name) as parcel:
        publish(parcel, name)
"""
        shown = hub.run(code, DATASET=str(things["two"]), RUN=str(things["run"])).stdout
        assert shown.count("mapped: []") == shown.count("mapped:") == 5, shown

    def test_the_published_recipe_has_every_key_of_the_run(self, things):
        with pack(things["run"], "alice/run") as parcel:
            keys = yaml.safe_load(parcel.files["recipe.yaml"].read_text())
            assert keys["max_steps"] == 3 and keys["lora_r"] == 4
            assert keys["dataset_name"] == "pairs", "the folder's name, not where it lies"
            assert parcel.files["adapter_model.safetensors"] == things["run"] / "adapter_model.safetensors"
        run = {
            "keys": {"model_name_or_path": "org/base", "model_revision": "v0"},
            "started_from": {"adapter": "anna/a", "revision": "v2"},
        }
        assert yaml.safe_load(recipe_of(run)) == {"model_name_or_path": "anna/a@v2"}

    def test_the_name_of_a_llama_model_is_checked(self, things, tmp_path):
        run = on_base(things["run"], tmp_path / "run", "meta-llama/Llama-3.2-1B-Instruct")
        with pack(run, "alice/mine") as parcel:
            assert any("Llama-mine" in warning for warning in warnings_for(parcel, "alice/mine"))
            assert (
                read_json(parcel.files["adapter_config.json"])["base_model_name_or_path"]
                == "meta-llama/Llama-3.2-1B-Instruct"
            )
        with pack(run, "alice/Llama-mine") as parcel:
            assert warnings_for(parcel, "alice/Llama-mine") == []
