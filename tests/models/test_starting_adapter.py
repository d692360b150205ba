"""Runs that start from an adapter: it is the reference, and the run is one like any other."""

import json
import math
import shutil

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from preferans.errors import PreferansError
from preferans.files import read_json, read_jsonl, write_json, write_jsonl
from preferans.hub_names import split_revision
from preferans.models.starting_adapter import find_adapter, with_revision

from ..support.runs import call, command, make_pairs
from ..support.tiny import make_llama


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return make_pairs(tmp_path_factory.mktemp("data") / "pairs")


@pytest.fixture(scope="module")
def first_run(tiny_llama, pairs, tmp_path_factory):
    """A run of the ordinary kind; its adapter is where the others start."""
    run = tmp_path_factory.mktemp("runs") / "first"
    call(*command("dpo", tiny_llama, pairs, run, learning_rate="1e-2"))
    return run


def log(run) -> list[dict]:
    return [entry for entry in read_json(run / "trainer_state.json")["log_history"] if "loss" in entry]


def test_the_reference_is_the_adapter(first_run, pairs, tmp_path):
    run = tmp_path / "second"
    call(*command("dpo", first_run, pairs, run, lora_r=16))
    assert log(run)[0]["loss"] == pytest.approx(math.log(2), abs=1e-7)
    assert log(run)[0]["rewards/chosen"] == log(run)[0]["rewards/rejected"] == 0
    assert log(run)[1]["loss"] < math.log(2) - 1e-5
    earlier, later = (read_json(folder / "test_log_probs.json") for folder in (first_run, run))
    for was, now, base in zip(earlier["after"], later["before"], earlier["before"], strict=True):
        assert now["chosen_logp"] == pytest.approx(was["chosen_logp"], abs=1e-4)
        assert abs(now["chosen_logp"] - base["chosen_logp"]) > 0.01

    origin = read_json(run / "provenance.json")
    assert origin["started_from"]["adapter"] == str(first_run)
    assert origin["keys"]["lora_r"] == 4, "the adapter's own shape"
    assert (
        origin["keys"]["model_name_or_path"] == read_json(first_run / "provenance.json")["keys"]["model_name_or_path"]
    )


def test_the_result_is_one_adapter(first_run, pairs, tiny_llama, tmp_path):
    run = tmp_path / "second"
    call(*command("dpo", first_run, pairs, run))
    for folder in (run, run / "checkpoint-3"):
        assert not (folder / "ref").exists()
        weights = load_file(folder / "adapter_model.safetensors")
        assert weights.keys() == load_file(first_run / "adapter_model.safetensors").keys()
    started = load_file(first_run / "adapter_model.safetensors")
    assert all(not torch.equal(weights[name], started[name]) for name in weights if "lora_B" in name)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_llama), run)
    assert list(model.peft_config) == ["default"]
    call("scripts/merge.py", run, "--output_dir", tmp_path / "merged")
    write_jsonl(tmp_path / "prompts.jsonl", [{"id": "1", "prompt": [{"role": "user", "content": "Как дела?"}]}])
    words = ["--adapter", run, "--prompts", tmp_path / "prompts.jsonl", "--output", tmp_path / "answers.jsonl"]
    call("scripts/generate.py", *words, "--use_cpu", "--max_new_tokens", "4")
    assert len(read_jsonl(tmp_path / "answers.jsonl")) == 1
    ids = torch.arange(20)[None]
    with torch.no_grad():
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(ids).logits
        torch.testing.assert_close(merged, model.eval()(ids).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("four_bits", ["false", "true"])
@pytest.mark.parametrize("layout", ["padded", "packed", "separate"])
def test_with_precomputed_references(first_run, pairs, tmp_path, four_bits, layout):
    """A cache that were not keyed by the adapter would give the second run the first one's references."""
    keys = {"load_in_4bit": four_bits, "precompute_ref_log_probs": "true", "pair_layout": layout, "max_steps": 1}
    one, two = tmp_path / "one", tmp_path / "two"
    call(*command("dpo", first_run, pairs, one, learning_rate="1e-2", **keys))
    call(*command("dpo", one, pairs, two, **keys))
    for run in (one, two):
        assert log(run)[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
        assert log(run)[0]["rewards/margins"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("four_bits", ["false", "true"])
def test_a_stopped_run_resumes_exactly(first_run, pairs, tmp_path, four_bits):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    call(*command("dpo", first_run, pairs, whole, load_in_4bit=four_bits))
    shutil.copytree(whole, stopped)
    for name in ("checkpoint-2", "checkpoint-3"):
        shutil.rmtree(stopped / name)
    for name in ("all_results.json", "adapter_model.safetensors", "trainer_state.json", "test_log_probs.json"):
        (stopped / name).unlink()
    origin = read_json(stopped / "provenance.json")
    write_json(stopped / "provenance.json", origin | {"keys": origin["keys"] | {"output_dir": str(stopped)}})
    call(*command("dpo", first_run, pairs, stopped, load_in_4bit=four_bits))
    expected, found = (load_file(run / "adapter_model.safetensors") for run in (whole, stopped))
    assert expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)
    assert log(stopped)[-1]["loss"] == log(whole)[-1]["loss"]
    assert log(stopped)[-1]["rewards/chosen"] == log(whole)[-1]["rewards/chosen"]


def test_another_adapter_of_that_name_is_another_run(first_run, pairs, tmp_path):
    start, run = tmp_path / "start", tmp_path / "run"
    shutil.copytree(first_run, start)
    keys = {"max_steps": 1}
    call(*command("dpo", start, pairs, run, **keys))
    shutil.copyfile(first_run / "checkpoint-1" / "adapter_model.safetensors", start / "adapter_model.safetensors")
    with pytest.raises(PreferansError, match="the adapter it starts from: the content has changed"):
        call(*command("dpo", start, pairs, run, **keys))


def test_rejects_unsupported_adapters(first_run, pairs, tmp_path):
    start = tmp_path / "start"
    shutil.copytree(first_run, start)
    config = read_json(start / "adapter_config.json")
    write_json(start / "adapter_config.json", config | {"peft_type": "PREFIX_TUNING"})
    with pytest.raises(PreferansError, match="an adapter of the kind PREFIX_TUNING"):
        call(*command("dpo", start, pairs, tmp_path / "run"))
    for key, value in {"trainable_token_indices": [3, 4], "bias": "all"}.items():
        write_json(start / "adapter_config.json", config | {key: value})
        with pytest.raises(PreferansError, match=f"its adapter_config.json has {key}, and training can continue LoRA"):
            call(*command("dpo", start, pairs, tmp_path / "run"))
    write_json(start / "adapter_config.json", config | {"base_model_name_or_path": None})
    with pytest.raises(PreferansError, match="has no base_model_name_or_path"):
        call(*command("dpo", start, pairs, tmp_path / "run"))
    write_json(start / "adapter_config.json", config)
    with pytest.raises(PreferansError, match=r"is an adapter, and scripts/sft\.py starts from a model"):
        call(*command("sft", start, pairs, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_rejects_a_base_with_other_weights(first_run, pairs, tiny_llama, tmp_path):
    base, start = tmp_path / "base", tmp_path / "start"
    make_llama(base)
    shutil.copytree(first_run, start)
    config, origin = read_json(start / "adapter_config.json"), read_json(start / "provenance.json")
    write_json(start / "adapter_config.json", config | {"base_model_name_or_path": str(base)})
    origin["model"]["weights_sha256"] = {"model.safetensors": "0" * 64}
    write_json(start / "provenance.json", origin)
    with pytest.raises(PreferansError, match="model_name_or_path .*start: it was trained on the base model"):
        call(*command("dpo", start, pairs, tmp_path / "run"))


def test_revisions():
    assert split_revision("anna/model@v2") == ("anna/model", "v2")
    assert split_revision("anna/model") == ("anna/model", None)
    keys = {"model_name_or_path": "anna/model@v2"}
    assert with_revision(keys, "r.yaml") == {"model_name_or_path": "anna/model", "model_revision": "v2"}
    with pytest.raises(PreferansError, match="has revision v2, but model_revision is v1"):
        with_revision(keys | {"model_revision": "v1"}, "r.yaml")


def test_a_folder_name_can_contain_an_at_sign(tmp_path, tiny_llama):
    shutil.copytree(tiny_llama, tmp_path / "model@home")
    assert split_revision(str(tmp_path / "model@home")) == (str(tmp_path / "model@home"), None)
    assert find_adapter(str(tmp_path / "model@home")) is None


def test_the_memory_plan_is_that_of_the_base(first_run, pairs, tiny_llama, tmp_path, capsys):
    keys = ["--dataset_name", str(pairs), "--hardware_profile", "gtx1650", "--json", "--lengths", "128"]
    shape = ["--lora_r", "4", "--lora_alpha", "8", "--lora_target_modules", "all-linear", "--bf16", "false"]
    plans = []
    for name in (first_run, tiny_llama):
        call("scripts/plan.py", "--model_name_or_path", name, *keys, *shape)
        plans.append(json.loads(capsys.readouterr().out))
    for plan in plans:
        del plan[0]["settings"]  # which name the adapter's modules one by one
    assert plans[0] == plans[1]
