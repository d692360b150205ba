"""Publishing to a Hub on this machine with the unmodified clients: what goes, what stays at home, and what is refused first."""

import errno
import json
import math
import re
import shutil
import time
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
import yaml

from preferans.errors import PreferansError
from preferans.files import read_json, sha256_of, write_json, write_jsonl
from preferans.release.bundle import check_no_secret, kind_of, pack, warnings_for
from preferans.release.model_card import card_metadata, licence_of, model_card, portable, recipe_of
from preferans.release.push import CheckpointPusher

from ..support.loophub.cards import check_card
from ..support.runs import call, command, make_pairs

REPORT = {"report.html": "<p>Report</p>", "report.md": "## Report\n\nAll is well.\n", "scores.json": "{}\n"}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return make_pairs(tmp_path_factory.mktemp("data") / "pairs")


@pytest.fixture(scope="module")
def run(tiny_llama, pairs, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "tiny_run"
    call(*command("dpo", tiny_llama, pairs, run))
    return run


@pytest.fixture(scope="module")
def things(run, pairs, tmp_path_factory):
    """One of each kind that can be published."""
    folder = tmp_path_factory.mktemp("things")
    call("scripts/merge.py", run, "--output_dir", folder / "merged")
    for config, number in (("default", 4), ("more", 3)):
        make_pairs(folder / "two" / config, number, 1)
    (folder / "two" / "README.md").write_text(
        "---\nlicense: apache-2.0\nconfigs:\n"
        + "".join(
            f"- config_name: {config}\n  data_files:\n  - {{split: train, path: {config}/data/train-*}}\n  - {{split: test, path: {config}/data/test-*}}\n"
            for config in ("default", "more")
        )
        + '---\n# Two\n\nload_dataset("FOLDER_OR_HUB_ID", "more")\n'
    )
    for config in ("default", "more"):
        (folder / "two" / config / "README.md").unlink()
    answers = [
        {
            "id": str(number),
            "prompt": [{"role": "user", "content": "Как дела?"}],
            "answer": f"Хорошо, {number}.",
            "model": "tiny",
        }
        for number in range(3)
    ]
    write_jsonl(folder / "answers.jsonl", answers)
    (folder / "report").mkdir()
    for name, text in REPORT.items():
        (folder / "report" / name).write_text(text)
    return {
        "run": run,
        "merged": folder / "merged",
        "two": folder / "two",
        "answers": folder / "answers.jsonl",
        "report": folder / "report",
    }


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
def test_round_trips(hub, things, tiny_llama, transport, tmp_path):
    """Published, pulled into an empty cache by the libraries, and equal; the second time nothing is sent."""
    xet, home = transport == "xet", tmp_path / "home"
    log = ""
    for name in ("run", "merged", "two", "answers"):
        words = ["scripts/publish.py", things[name], "--repo_id", f"alice/{name}"]
        words += ["--report", things["report"], "--collection", "Русские предпочтения"] if name == "run" else []
        done = hub.run(words, xet=xet, home=home)
        assert "read back and equal" in done.stdout and not re.search("Traceback|Error", done.stderr)
        log += done.stdout + done.stderr
        kind = "dataset" if name in ("two", "answers") else "model"
        commits = len(hub.repositories[kind, f"alice/{name}"].history())
        assert hub.repositories[kind, f"alice/{name}"].private and commits == 2
        if name in ("run", "two"):
            again = hub.run(words, xet=xet, home=home).stdout
            assert "nothing to send, it was all there" in again
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
    assert "Would go to alice/run, a private model" in done.stdout
    assert "adapter_model.safetensors" in done.stdout and "training_args.bin" not in done.stdout
    assert "# run" in done.stdout and "base_model" not in card_metadata(done.stdout.split("The card:\n\n")[1])
    assert "The base model is a folder of yours" in done.stdout
    assert not hub.requests


class TestRefusedBeforeTheWork:
    """In seconds, and before a model is loaded: the model's folder does not even hold weights."""

    @pytest.fixture
    def commands(self, things, tiny_llama, pairs, tmp_path):
        model = tmp_path / "model"
        shutil.copytree(tiny_llama, model, ignore=shutil.ignore_patterns("*.safetensors"))
        keys = {"push_to_hub": "true"}

        def make(repo_id: str) -> dict[str, list]:
            out = tmp_path / "out"
            return {
                "dpo": command("dpo", model, pairs, out, hub_model_id=repo_id, **keys),
                "builder": [
                    "data_builders/oasst1_ru.py",
                    "--source",
                    "none.jsonl",
                    "--output_dir",
                    out,
                    "--push_to_hub",
                    "--repo_id",
                    repo_id,
                ],
                "publish": ["scripts/publish.py", things["run"], "--repo_id", repo_id],
            }

        return make

    CASES: ClassVar = {
        "a read-only token": ("alice/new", ("alice", "read"), "the token 'read token' may not write there"),
        "a fine-grained token for another repository": (
            "alice/new",
            ("alice", "fineGrained", (("model alice/other", "repo.write"), ("dataset alice/other", "repo.write"))),
            "the token 'fineGrained token' may not write there",
        ),
        "a foreign namespace": ("bob/new", ("alice",), "you may push to alice, lab, and not to bob"),
        "an organisation that one only reads": ("lab/new", ("bob",), "in lab you may only read"),
        "no token": ("alice/new", None, "you are not signed in"),
        "a revoked token": ("alice/new", "hf_" + "x" * 34, "The Hub does not accept the token"),
        "a public repository": ("alice/public", ("alice",), "this repository is public already"),
        "no namespace": ("new", ("alice",), "name the repository as NAMESPACE/NAME"),
        "a name that the Hub does not take": ("alice/new--", ("alice",), "the Hub does not take this name"),
    }

    @pytest.mark.parametrize("case", CASES)
    def test_by_the_check_itself(self, hub, case):
        repo_id, who, message = self.CASES[case]
        for kind in ("model", "dataset"):
            hub.seed(kind, "alice/public", {})
        token = who if who is None or isinstance(who, str) else hub.token(*who)
        code = "from preferans.errors import run; from preferans.release.hub import check_can_push; import os; "
        code += "run(lambda: check_can_push(os.environ['REPO'], os.environ['KIND']))"
        for kind in ("model", "dataset"):
            done = hub.run(code, token=token, check=False, REPO=repo_id, KIND=kind)
            shown = " ".join(done.stderr.split())
            assert done.returncode == 2 and message in shown and repo_id in shown, shown
            assert not token or token not in done.stdout + done.stderr
        assert not hub.asked("POST|PUT|DELETE")

    @pytest.mark.parametrize("script", ["dpo", "builder", "publish"])
    def test_by_every_script(self, hub, commands, script, tmp_path):
        token = hub.token("alice", "read")
        start = time.perf_counter()
        done = hub.run(commands("alice/new")[script], token=token, check=False)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "the token 'read token' may not write there" in " ".join(done.stderr.split())
        assert time.perf_counter() - start < 40, "seconds, on a machine that is busy"
        assert not (tmp_path / "out").exists() and not hub.asked("POST|PUT|DELETE")

    def test_a_fine_grained_token_for_the_repository_or_the_namespace_may(self, hub):
        hub.seed("model", "alice/there", {}, private=True)
        code = "from preferans.release.hub import check_can_push; check_can_push('alice/there', 'model')"
        for scope in ("model alice/there", "alice"):
            hub.run(code, token=hub.token("alice", "fineGrained", ((scope, "repo.write"),)))

    def test_a_contributor_may_push_to_their_own_only(self, hub):
        hub.add_organisation("press", alice="contributor", bob="admin")
        hub.seed("model", "press/of-bob", {}, private=True)
        code = "from preferans.release.hub import check_can_push; from preferans.errors import run; run(lambda: check_can_push('press/of-bob', 'model'))"
        done = hub.run(code, check=False)
        assert done.returncode == 2 and "You may not do this there" in " ".join(done.stderr.split())

    def test_public_is_said(self, hub, things):
        hub.seed("dataset", "alice/public", {})
        words = ["scripts/publish.py", things["answers"], "--repo_id", "alice/public"]
        assert "public already" in " ".join(hub.run(words, check=False).stderr.split())
        assert "read back and equal" in hub.run([*words, "--public"]).stdout
        hub.seed("dataset", "alice/private", {}, private=True)
        assert "is a private repository and stays one" in hub.run([*words[:3], "alice/private", "--public"]).stdout
        assert hub.repositories["dataset", "alice/private"].private


class TestWhatGoes:
    def test_a_token_in_a_file_stops_it(self, things, tmp_path):
        run = tmp_path / "run"
        shutil.copytree(things["run"], run)
        state = read_json(run / "trainer_state.json")
        write_json(run / "trainer_state.json", state | {"note": "hf_" + "Ab1" * 12})
        with (
            pytest.raises(PreferansError, match=r"trainer_state\.json: a token of the Hub stands in it"),
            pack(run, "alice/run"),
        ):
            pass

    def test_folders_of_this_machine_are_told_as_any_system_writes_them(self, things, tmp_path, monkeypatch):
        row = {"id": "1", "prompt": [], "answer": "Да.", "model": "C:\\Users\\anna\\runs\\x"}
        write_jsonl(tmp_path / "answers, two.jsonl", [row])
        monkeypatch.setattr(Path, "home", lambda: PureWindowsPath("C:\\Users\\anna"))
        with pack(tmp_path / "answers, two.jsonl", "alice/answers") as parcel:
            told = warnings_for(parcel, "alice/answers")
            assert any("answers, two.jsonl names folders of this machine" in warning for warning in told)
            [config] = card_metadata(parcel.card)["configs"]
            assert config["data_files"] == [{"split": "train", "path": "answers, two.jsonl"}]

    def test_a_row_that_is_no_answer(self, tmp_path):
        row = {"id": "1", "prompt": [], "answer": "Да.", "model": "m"}
        for rows, number in (([row, {"id": "2"}], 2), ([], 1)):
            write_jsonl(tmp_path / "answers.jsonl", rows)
            with (
                pytest.raises(PreferansError, match=f"answer {number} is none"),
                pack(tmp_path / "answers.jsonl", "a/b"),
            ):
                pass

    def test_the_state_names_no_folder(self, run, tmp_path):
        folder = tmp_path / "run"
        shutil.copytree(run, folder)
        state = read_json(folder / "trainer_state.json")
        write_json(folder / "trainer_state.json", state | {"best_model_checkpoint": "/home/anna/run/checkpoint-2"})
        with pack(folder, "alice/run") as parcel:
            told = read_json(parcel.files["trainer_state.json"])
        assert told == state | {"best_model_checkpoint": "checkpoint-2"}

    def test_a_report_of_another_run_is_told(self, run, tmp_path):
        for name, text in REPORT.items():
            (tmp_path / name).write_text(text)
        own = sha256_of(run / "adapter_model.safetensors")
        for checksum, told in (("0" * 64, True), (own, False)):
            write_json(tmp_path / "scores.json", {"systems": [{"weights": None}, {"weights": {"sha256": [checksum]}}]})
            with pack(run, "alice/run", tmp_path) as parcel:
                found = [warning for warning in warnings_for(parcel, "alice/run") if "another run" in warning]
                assert bool(found) is told

    @pytest.mark.parametrize("head", ["license: [mit", "license: a: b", "- mit", "just words", ""])
    def test_a_card_that_a_person_wrote(self, things, tmp_path, head):
        """Its head may be anything; what is no YAML is said in one paragraph."""
        model = tmp_path / "model"
        shutil.copytree(things["merged"], model)
        (model / "README.md").write_text(f"---\n{head}\n---\n# Mine\n", encoding="utf-8")
        try:
            with pack(model, "alice/model") as parcel:
                assert warnings_for(parcel, "alice/model") == [] and head in ("- mit", "just words", "")
        except PreferansError as error:
            assert "not valid YAML" in str(error) and head.startswith("license")

    def test_what_else_lies_in_the_folder_of_a_dataset_stays_at_home(self, pairs, tmp_path):
        data = tmp_path / "my data"
        shutil.copytree(pairs, data)
        for name in ("notes.txt", "raw/people.jsonl", "optimizer.pt", "LICENSE"):
            (data / name).parent.mkdir(exist_ok=True)
            (data / name).write_text("mine")
        with pack(data, "alice/pairs") as parcel:
            there = {path.relative_to(pairs).as_posix() for path in pairs.rglob("*") if path.is_file()}
            assert set(parcel.files) == there | {"LICENSE"}

    def test_the_notice_goes_along(self, run, tmp_path):
        with pack(on_base(run, tmp_path / "run", "google/gemma-3-270m"), "alice/run") as parcel:
            assert "Gemma Terms of Use" in parcel.files["NOTICE"].read_text(encoding="utf-8")
        with pack(run, "alice/run") as parcel:
            assert "NOTICE" not in parcel.files

    def test_a_token_over_the_edge_of_a_block_is_found(self, tmp_path):
        (tmp_path / "big").write_bytes(b" " * ((1 << 24) - 10) + b"hf_" + b"Ab1" * 12)
        with pytest.raises(PreferansError, match="a token"):
            check_no_secret({"big": tmp_path / "big"})

    @pytest.mark.parametrize("name", ["pytorch_model.bin", "training_args.bin", "optimizer.pt"])
    def test_pickles_do_not_go(self, things, tmp_path, name):
        model = tmp_path / "model"
        shutil.copytree(things["merged"], model)
        (model / name).write_bytes(b"pickle")
        with pytest.raises(PreferansError, match=f"{name} is a pickle"), pack(model, "alice/model"):
            pass

    def test_what_is_not_finished_or_nothing_at_all(self, things, tmp_path):
        run = tmp_path / "run"
        shutil.copytree(things["run"], run)
        (run / "all_results.json").unlink()
        for path, message in (
            (run, "the run is not finished"),
            (tmp_path, "this is no run"),
            (tmp_path / "x", "no such file"),
        ):
            with pytest.raises(PreferansError, match=message):
                kind_of(path)

    def test_older_shards_go_and_other_things_stay(self, hub, things):
        there = {
            "default/data/train-00000-of-00002.parquet": b"PAR1old",
            "other/train-0.parquet": b"PAR1",
            "notes.txt": b"mine",
        }
        hub.seed("dataset", "alice/two", there, private=True)
        done = hub.run(["scripts/publish.py", things["two"], "--repo_id", "alice/two"])
        assert "taken out: default/data/train-00000-of-00002.parquet" in done.stdout
        kept = hub.files("dataset", "alice/two")
        assert "notes.txt" in kept and "other/train-0.parquet" in kept, (
            "another configuration is nobody's older version"
        )
        hub.run(["scripts/publish.py", things["answers"], "--repo_id", "alice/two"])
        assert len([name for name in hub.files("dataset", "alice/two") if name.endswith(".parquet")]) == 5

    @pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="asks Linux what is mapped")
    def test_no_file_is_mapped_when_its_folder_goes(self, hub, things, monkeypatch):
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

    def test_the_recipe_as_it_ran(self, things):
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

    def test_llamas_name(self, things, tmp_path):
        run = on_base(things["run"], tmp_path / "run", "meta-llama/Llama-3.2-1B-Instruct")
        with pack(run, "alice/mine") as parcel:
            assert any("Llama-mine" in told for told in warnings_for(parcel, "alice/mine"))
            assert (
                read_json(parcel.files["adapter_config.json"])["base_model_name_or_path"]
                == "meta-llama/Llama-3.2-1B-Instruct"
            )
        with pack(run, "alice/Llama-mine") as parcel:
            assert warnings_for(parcel, "alice/Llama-mine") == []


def on_base(run, folder, base: str, dataset: str = "alice/pairs@v1"):
    """The run as if its base model had been one of the Hub's."""
    shutil.copytree(run, folder)
    origin = read_json(folder / "provenance.json")
    origin["model"] |= {"name": base, "revision": "a" * 40, "weights_sha256": {}}
    origin["dataset"]["name"] = dataset
    origin["keys"] |= {"model_name_or_path": base, "dataset_name": dataset}
    write_json(folder / "provenance.json", origin)
    return folder


class TestCards:
    @pytest.mark.parametrize(
        "base, licence, notice",
        [
            ("meta-llama/Llama-3.2-1B-Instruct", "llama3.2", "Built with Llama."),
            ("google/gemma-3-270m", "gemma", "Gemma Terms of Use"),
            ("ai-forever/rugpt3medium_based_on_gpt2", "other", ""),
        ],
    )
    def test_what_the_hub_reads(self, things, tmp_path, base, licence, notice):
        text = model_card(on_base(things["run"], tmp_path / "run", base), "alice/run")
        assert check_card(text, "model") == ([], [])
        head = card_metadata(text)
        assert (head["license"], head["base_model"], head["datasets"]) == (licence, base, ["alice/pairs"])
        assert (head["library_name"], head["base_model_relation"]) == ("peft", "adapter")
        [result] = head["model-index"][0]["results"]
        tested = read_json(things["run"] / "all_results.json")
        values = {metric["type"]: metric["value"] for metric in result["metrics"]}
        assert values["test_normalised_accuracy_after"] == pytest.approx(
            tested["test_normalised_accuracy_after"], abs=1e-4
        )
        assert notice in text and f'from_pretrained("{base}"' in text and 'from_pretrained(base, "alice/run")' in text
        assert licence_of(base)[0] == licence
        assert "revision `" + "a" * 40 in text

    @pytest.mark.parametrize(
        "base, licence",
        [
            ("unsloth/Llama-3.2-1B-Instruct", "llama3.2"),
            ("meta-llama/Meta-Llama-3.1-8B", "llama3.1"),
            ("Vikhrmodels/Vikhr-Llama-3.2-1B-Instruct", "llama3.2"),
            ("unsloth/gemma-3-1b-it", "gemma"),
            ("google/gemma-2b", "gemma"),
            ("google/gemma-3n-E2B", "gemma"),
            ("google/gemma-4-E2B-it", "other"),  # Apache 2.0
            ("meta-llama/Meta-Llama-3-8B", "other"),
            (None, "other"),
        ],
    )
    def test_terms_go_with_the_model_and_not_with_its_place(self, base, licence):
        assert licence_of(base)[0] == licence

    def test_its_own_lines_of_code_run(self, things, tiny_llama, tmp_path):
        """The first block of the card's code, on this machine's folders."""
        text = model_card(things["run"])
        code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
        code = code.replace('from_pretrained("' + tiny_llama.name, f'from_pretrained("{tiny_llama}').replace(
            "max_new_tokens=150", "max_new_tokens=3"
        )
        exec(compile(code, "card", "exec"), {})

    @pytest.mark.parametrize("nested", [True, False])
    def test_its_lines_for_4_bits_are_those_of_the_run(self, run, tmp_path, nested):
        folder = on_base(run, tmp_path / "run", "meta-llama/Llama-3.2-1B-Instruct")
        origin = read_json(folder / "provenance.json")
        origin["keys"] |= {"load_in_4bit": True, "dtype": "float16", "use_bnb_nested_quant": nested}
        write_json(folder / "provenance.json", origin)
        code = re.search(r"```python\n(.*?)```", model_card(folder, "alice/run"), re.DOTALL)[1]
        lines = code[: code.index("tokenizer = ")]
        names = {}
        exec(compile(lines, "card", "exec"), names)
        assert names["quantization"].bnb_4bit_compute_dtype == torch.float16
        assert names["quantization"].bnb_4bit_use_double_quant is nested
        assert "inputs.to(model.device)" in code, "weights in 4 bits lie on the card, and the question does not"

    def test_lines_of_code_of_a_run_on_a_trimmed_model(self, run, tmp_path):
        """The card in the run's folder reads the folder, that on the Hub the Hub."""
        base, folder = tmp_path / "base", tmp_path / "run"
        base.mkdir()
        write_json(base / "trimmed_vocabulary.json", {"source": "org/full", "tokens_before": 9, "tokens_after": 3})
        on_base(run, folder, str(base))
        shown = [re.search(r"tokenizer.chat_template = (.*)", model_card(folder, name))[1] for name in (None, "a/b")]
        assert eval(shown[0]) == (run / "chat_template.jinja").read_text(encoding="utf-8")
        assert 'hf_hub_download("a/b", "chat_template.jinja")' in shown[1]

    def test_its_limits(self, run, tmp_path):
        """No figures are claimed that are not there, and rounded weights are told."""
        base, folder = tmp_path / "base", tmp_path / "run"
        base.mkdir()
        write_json(base / "preferans_base.json", {"base_model": "google/gemma-3-270m", "gguf_sha256": "f" * 64})
        on_base(run, folder, str(base))
        write_json(
            folder / "test_log_probs.json", read_json(run / "test_log_probs.json") | {"before": [], "after": []}
        )
        text = model_card(folder, "alice/run")
        assert "nothing was measured on the adapter" in text and "figures above" not in text and "0 pairs" not in text
        assert "GGUF file (SHA-256 `" + "f" * 64 in text and "GGUF" not in model_card(run, "alice/run")

    def test_of_a_merged_model(self, things):
        text = (things["merged"] / "README.md").read_text()
        assert check_card(text, "model")[0] == []
        assert (
            card_metadata(text)["library_name"] == "transformers" and "| On held-out pairs | before | after |" in text
        )

    def test_portable(self):
        told = portable(
            {
                "a": ["/home/anna/x", "C:\\Users\\anna\\y", "~/z", "\\\\server\\v", "org/name", "data/x"],
                "b": "/a\n/b",
                "c": 1,
            }
        )
        assert told == {"a": ["x", "y", "z", "v", "org/name", "data/x"], "b": "/a\n/b", "c": 1}


class TestWhileTraining:
    def test_failing_pushes_are_told_and_stop_nothing(self, hub, tiny_llama, pairs, tmp_path):
        run = tmp_path / "run"
        words = command("dpo", tiny_llama, pairs, run, push_to_hub="true", hub_model_id="alice/run")
        hub.fault("POST", "/alice/run/commit/", status=403)
        done = hub.run(words)
        shown = " ".join(done.stdout.split())
        assert re.search(r"\*\*\* Step \d was not pushed: .*You may not do this there.* Training goes on\.", shown), (
            shown
        )
        assert re.search(r"Not pushed while training: step \d\. Published, read back and equal", shown)
        files = hub.files("model", "alice/run")
        assert files["adapter_model.safetensors"] == (run / "adapter_model.safetensors").read_bytes()
        assert "README.md" in files and "training_args.bin" not in files
        secret = hub.token("alice")
        assert secret not in done.stdout + done.stderr
        assert not [path for path in run.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
        assert not [place for place, content in hub.everything() if secret.encode() in content]
        commits = len(hub.repositories["model", "alice/run"].history())
        again = hub.run(words).stdout
        assert "This run is finished" in again and "Published, read back and equal" in again
        assert len(hub.repositories["model", "alice/run"].history()) == commits

    def test_a_full_disk_stops_nothing(self, run, monkeypatch, capsys, tmp_path):
        def write(*arguments, **options):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("preferans.release.push.shutil.copyfile", write)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        pusher = CheckpointPusher("alice/run", private=True, each_save=True)
        pusher.on_save(
            SimpleNamespace(output_dir=str(run)), SimpleNamespace(global_step=2, is_world_process_zero=True), None
        )
        pusher.wait()
        assert pusher.failed == [2] and list(tmp_path.iterdir()) == []
        assert (
            "*** Step 2 was not pushed: [Errno 28] No space left on device Training goes on. ***"
            in capsys.readouterr().out
        )

    def test_imitation_is_published_too(self, hub, tiny_llama, pairs, tmp_path):
        run = tmp_path / "run"
        done = hub.run(command("sft", tiny_llama, pairs, run, push_to_hub="true", hub_model_id="alice/imitation"))
        assert "Published, read back and equal" in done.stdout
        text = hub.files("model", "alice/imitation")["README.md"].decode()
        assert check_card(text, "model")[0] == []
        assert "| Perplexity of the chosen answers |" in text and "imitate the chosen answers" in text
        assert "sft" in card_metadata(text)["tags"]

    def test_a_revoked_token_loses_nothing(self, hub, tiny_llama, pairs, tmp_path):
        run = tmp_path / "run"
        keys = {"push_to_hub": "true", "hub_model_id": "alice/run", "hub_strategy": "end"}
        token = hub.token("alice", scopes=(("of", "its own"),))
        hub.fault("POST", "/api/repos/create", then=lambda: hub.revoke(token))
        done = hub.run(command("dpo", tiny_llama, pairs, run, **keys), token=token, check=False)
        shown = " ".join(done.stderr.split())
        assert done.returncode == 2 and "Training is done and safe in" in shown and "scripts/publish.py" in shown, (
            shown
        )
        assert (run / "all_results.json").exists() and math.isfinite(
            read_json(run / "all_results.json")["test_reward_margin"]
        )
        assert "Published" in hub.run(command("dpo", tiny_llama, pairs, run, **keys)).stdout

    @pytest.mark.parametrize(
        "keys, message",
        [
            ({"hub_strategy": "checkpoint"}, "hub_strategy checkpoint is not used here"),
            ({"hub_model_id": ""}, "push_to_hub needs hub_model_id"),
            ({"hub_token": "hf_x"}, "it would be written into files"),
        ],
    )
    def test_keys_that_are_refused(self, tiny_llama, pairs, tmp_path, keys, message):
        with pytest.raises(PreferansError, match=message):
            call(
                *command(
                    "dpo",
                    tiny_llama,
                    pairs,
                    tmp_path / "run",
                    **({"push_to_hub": "true", "hub_model_id": "alice/run"} | keys),
                )
            )
        assert not (tmp_path / "run").exists()


def test_names_of_the_hub_in_a_recipe(hub, tiny_llama, pairs, run, tmp_path):
    """A model, an adapter and a dataset at a revision each; then all of it offline, and what is not in the cache is named at once."""
    model = hub.seed("model", "meta/tiny", {path.name: path.read_bytes() for path in tiny_llama.iterdir()})
    hub.add_tag(model, "v1", "main")
    model.add_commit("main", {}, "Emptied", "", "meta")
    config = read_json(run / "adapter_config.json") | {"base_model_name_or_path": "meta/tiny", "revision": "v1"}
    files = {
        name: (run / name).read_bytes()
        for name in ("adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json")
    }
    files |= {
        "chat_template.jinja": (run / "chat_template.jinja").read_bytes(),
        "adapter_config.json": json.dumps(config).encode(),
    }
    adapter = hub.seed("model", "alice/adapter", files, private=True)
    hub.add_tag(adapter, "v2", "main")
    adapter.add_commit("main", {}, "Emptied", "", "alice")
    data = {path.relative_to(pairs).as_posix(): path.read_bytes() for path in pairs.rglob("*") if path.is_file()}
    dataset = hub.seed("dataset", "alice/pairs", data, private=True)
    hub.add_tag(dataset, "v3", "main")
    dataset.add_commit("main", {}, "Emptied", "", "alice")

    home = tmp_path / "home"
    words = {"max_steps": 1}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model_name_or_path: meta/tiny@v1\ndataset_name: alice/pairs@v3\n")
    plain = [word for word in command("dpo", "M", "D", tmp_path / "plain", **words)]
    for key in ("--model_name_or_path", "--dataset_name"):
        del plain[plain.index(key) : plain.index(key) + 2]
    hub.run([plain[0], recipe, *plain[1:]], home=home)
    origin = read_json(tmp_path / "plain" / "provenance.json")
    assert origin["model"]["revision"] == model.tags["v1"] and origin["dataset"]["name"] == "alice/pairs@v3"

    done = hub.run(command("dpo", "alice/adapter@v2", "alice/pairs@v3", tmp_path / "more", **words), home=home)
    assert "Starting from the adapter alice/adapter on meta/tiny" in done.stdout
    [first] = [
        entry for entry in read_json(tmp_path / "more" / "trainer_state.json")["log_history"] if "loss" in entry
    ]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-7)
    before = read_json(tmp_path / "more" / "test_log_probs_before.json")
    assert before != read_json(tmp_path / "plain" / "test_log_probs_before.json")

    with hub.down():
        offline = {"home": home, "HF_HUB_OFFLINE": "1", "check": False}
        again = hub.run(command("dpo", "alice/adapter@v2", "alice/pairs@v3", tmp_path / "again", **words), **offline)
        assert again.returncode == 0, again.stderr
        start = time.perf_counter()
        no_model = hub.run(command("dpo", "meta/other", "alice/pairs@v3", tmp_path / "none", **words), **offline)
        no_data = hub.run(command("dpo", "meta/tiny@v1", "alice/other", tmp_path / "none", **words), **offline)
        assert time.perf_counter() - start < 60
    for done, name in ((no_model, "model_name_or_path meta/other"), (no_data, "dataset_name alice/other")):
        shown = " ".join(done.stderr.split())
        assert done.returncode == 2 and name in shown and "HF_HUB_OFFLINE is set" in shown, shown


def test_a_gated_model_says_how_to_get_access(hub, pairs, tmp_path):
    hub.seed("model", "meta/llama", {"config.json": b"{}"}, gated="manual")
    done = hub.run(command("dpo", "meta/llama", pairs, tmp_path / "run"), check=False)
    shown = " ".join(done.stderr.split())
    assert done.returncode == 2 and "Ask for access on its page" in shown and "meta/llama" in shown, shown
