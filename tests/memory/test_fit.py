import json

import pytest
import torch
from trl import DPOConfig, ModelConfig, ScriptArguments

import preferans.memory.plan
from preferans.errors import PreferansError
from preferans.files import read_json
from preferans.hardware.decisions import restore_kernels
from preferans.memory.fit import fit, longest_pair, retreat
from preferans.memory.settings import Switches
from preferans.training.arguments import PreferansArguments
from preferans.training.dpo import PreferenceTrainer, pair_lengths
from preferans.training.prepare import prepare

from ..support.trainers import build_trainer

KINDS = (PreferansArguments, ScriptArguments, ModelConfig, DPOConfig)


@pytest.fixture
def recipe_keys(tiny_llama, preference_folder, tmp_path):
    yield {
        "model_name_or_path": str(tiny_llama),
        "dataset_name": str(preference_folder),
        "output_dir": str(tmp_path / "run"),
        "use_peft": True,
        "use_cpu": True,
        "load_in_4bit": True,
        "precompute_ref_log_probs": True,
        "per_device_train_batch_size": 1,
        "per_device_eval_batch_size": 1,
    }
    restore_kernels()


def give_room(monkeypatch, count: int) -> None:
    monkeypatch.setattr(preferans.memory.plan, "room", lambda device: (count, {}))


def peaks_of(recipe_keys, monkeypatch) -> list[tuple[Switches, int]]:
    """Return the switches that are tried, with their peaks."""
    peaks = []
    real = preferans.memory.plan.make_plan

    def spy(config, settings, *args, **kwargs):
        plan = real(config, settings, *args, **kwargs)
        peaks.append((settings, plan.trace.peak))
        return plan

    monkeypatch.setattr(preferans.memory.plan, "make_plan", spy)
    give_room(monkeypatch, 1)
    with pytest.raises(PreferansError):
        fit(prepare(KINDS, recipe_keys, None))
    monkeypatch.setattr(preferans.memory.plan, "make_plan", real)
    return peaks[:-1]


def test_chooses_the_fastest_switches_that_fit(recipe_keys, monkeypatch, capsys):
    rungs = peaks_of(recipe_keys, monkeypatch)
    assert [(s.gradient_checkpointing, s.pair_layout) for s, _ in rungs] == [
        (False, "packed"),
        (False, "separate"),
        (True, "packed"),
        (True, "separate"),
    ]
    for number, (settings, peak) in enumerate(rungs):
        if peak >= min(earlier for _, earlier in [*rungs[:number], (None, peak + 1)]):
            continue  # a faster one fits as well
        give_room(monkeypatch, int(peak * 1.1) + 1)
        switches, plan = fit(prepare(KINDS, recipe_keys, None))
        assert plan.verdict == "fits"
        assert switches.gradient_checkpointing == settings.gradient_checkpointing
        assert switches.pair_layout == settings.pair_layout
    assert "separate passes, checkpointing" in capsys.readouterr().out


def test_keeps_the_switches_of_the_recipe(recipe_keys, monkeypatch):
    recipe_keys |= {"gradient_checkpointing": True, "pair_layout": "padded", "head_tile": 300}
    switches, _ = fit(prepare(KINDS, recipe_keys, None))
    assert switches == Switches(True, "padded", False, 300)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"attn_implementation": "eager"}, "packing needs attn_implementation: sdpa, and this run has eager"),
        ({"disable_dropout": False, "lora_dropout": 0.1}, "dropout would draw other numbers for packed pairs"),
    ],
)
def test_pairs_that_cannot_be_packed_are_padded(recipe_keys, keys, reason, capsys):
    assert fit(prepare(KINDS, recipe_keys | keys, None)).switches.pair_layout == "padded"
    assert f"Pairs are padded: {reason}." in capsys.readouterr().out
    assert fit(prepare(KINDS, recipe_keys | keys | {"pair_layout": "separate", "disable_dropout": True}, None))
    assert "Pairs are padded" not in capsys.readouterr().out


def test_stops_a_run_that_does_not_fit_unless_the_plan_is_ignored(recipe_keys, monkeypatch, capsys):
    give_room(monkeypatch, 1 << 17)
    with pytest.raises(PreferansError, match="use a smaller model.*--ignore_plan true"):
        fit(prepare(KINDS, recipe_keys | {"pair_layout": "separate", "gradient_checkpointing": True}, None))
    _, plan = fit(prepare(KINDS, recipe_keys | {"ignore_plan": True}, None))
    assert plan.verdict == "does_not_fit"
    assert "does not fit" in capsys.readouterr().out


def test_a_run_with_dora_is_planned(recipe_keys):
    lora, dora = (fit(prepare(KINDS, recipe_keys | {"use_dora": use_dora}, None)).plan for use_dora in (False, True))
    assert lora.trace.peak < dora.trace.peak


def test_a_run_whose_memory_cannot_be_planned_trains_if_the_plan_is_ignored(recipe_keys, monkeypatch, capsys):
    def trace(config, settings):
        raise RuntimeError("an operation without a rule for shapes")

    monkeypatch.setattr(preferans.memory.plan, "trace", trace)
    with pytest.raises(PreferansError, match="cannot be planned.*--ignore_plan true trains without a plan"):
        fit(prepare(KINDS, recipe_keys, None))
    switches, plan = fit(prepare(KINDS, recipe_keys | {"ignore_plan": True}, None))
    assert plan is None
    assert switches.gradient_checkpointing and switches.pair_layout == "separate"  # the least memory
    assert f"Training starts with {switches.in_words}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"attn_implementation": "flash_attention_2"}, "FlashAttention2"),
    ],
)
def test_an_error_of_the_recipe_is_not_blamed_on_the_plan(recipe_keys, keys, words):
    with pytest.raises(PreferansError, match=f"cannot be built with these keys .*{words}") as caught:
        fit(prepare(KINDS, recipe_keys | keys, None))
    assert "ignore_plan" not in str(caught.value)


def test_the_longest_pair_is_that_of_the_trainer(tiny_llama, tmp_path, recipe_keys):
    prepared = prepare(KINDS, recipe_keys, None)
    trainer = build_trainer(tiny_llama, tmp_path, rows=prepared.train_rows, max_length=None)
    chosen, rejected = pair_lengths(trainer.train_dataset, None)
    prompt, longest, second = longest_pair(prepared.train_rows, prepared.tokenizer, None)
    assert prompt + longest == max(chosen + rejected)
    assert prompt + second in chosen + rejected
    prompt, longest, second = longest_pair(prepared.train_rows, prepared.tokenizer, 40)
    assert prompt + longest == 40


def test_retreats_step_by_step_and_then_stops(recipe_keys, capsys):
    prepared = prepare(KINDS, recipe_keys, None)
    switches, seen = Switches(False, "packed", False, 4096), []
    with pytest.raises(PreferansError, match="no setting is left"):
        while True:
            switches = retreat(prepared, switches)
            seen.append(switches)
    assert seen == [
        Switches(True, "packed", False, 4096),
        Switches(True, "separate", False, 4096),
        Switches(True, "separate", False, 1024),
    ]
    assert capsys.readouterr().out.count("*** OUT OF MEMORY") == 3


ARGUMENTS = {
    "max_steps": 4,
    "save_steps": 1,
    "logging_steps": 1,
    "per_device_train_batch_size": 1,
    "lora_target_modules": "all-linear",
    "precompute_ref_log_probs": "true",
    "gradient_checkpointing": "true",
    "pair_layout": "padded",
    "bf16": "false",
    "use_cpu": "true",
    "use_peft": "true",
    "load_in_4bit": "true",
    "report_to": "none",
    "learning_rate": "1e-3",
}


def words(model, data, run, **changes) -> list[str]:
    keys = ARGUMENTS | {"model_name_or_path": model, "dataset_name": data, "output_dir": run} | changes
    return [word for key, value in keys.items() for word in (f"--{key}", str(value))]


def run_out_of_memory(monkeypatch, step: int) -> None:
    """Run out of memory in this step if both answers are in one pass."""
    real = PreferenceTrainer.training_step

    def training_step(self, model, inputs, *args):
        if self.state.global_step + 1 == step and self.pair_layout != "separate":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return real(self, model, inputs, *args)

    monkeypatch.setattr(PreferenceTrainer, "training_step", training_step)


@pytest.mark.parametrize("runs_out", [False, True])
def test_trains_with_the_chosen_switches(runs_out, tiny_llama, preference_folder, tmp_path, call_script, monkeypatch):
    """transformers reads `activation_checkpointing`, TRL its older name; the chosen value must reach both."""
    seen = []
    real = PreferenceTrainer.training_step

    def training_step(self, model, inputs, *args):
        seen.append(self.model.is_gradient_checkpointing)
        if runs_out and not seen[-1]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return real(self, model, inputs, *args)

    monkeypatch.setattr(PreferenceTrainer, "training_step", training_step)
    command = words(tiny_llama, preference_folder, tmp_path / "run", max_steps=1)
    left_open = command.index("--gradient_checkpointing")
    call_script("scripts/dpo.py", *command[:left_open], *command[left_open + 2 :])
    assert seen == ([False, True] if runs_out else [False])


def test_retries_once_after_running_out_of_memory_with_the_same_result(
    tiny_llama, preference_folder, tmp_path, call_script, monkeypatch, capsys
):
    call_script("scripts/dpo.py", *words(tiny_llama, preference_folder, tmp_path / "plain"))
    run_out_of_memory(monkeypatch, step=3)
    command = words(tiny_llama, preference_folder, tmp_path / "small")
    call_script("scripts/dpo.py", *command)
    printed = capsys.readouterr().out
    assert printed.count("*** OUT OF MEMORY") == 1 and "Resuming from" in printed
    origin = read_json(tmp_path / "small" / "provenance.json")
    assert origin["switches"]["pair_layout"] == "separate"
    assert origin["measured"]["planned_peak_bytes"] is None, "the plan was for other switches"
    assert read_json(tmp_path / "plain" / "provenance.json")["measured"]["planned_peak_bytes"] > 0
    plain, small = (
        json.loads((tmp_path / name / "trainer_state.json").read_text())["log_history"] for name in ("plain", "small")
    )
    for ours, theirs in zip(small[:4], plain[:4], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)


def test_a_started_run_can_ignore_the_plan(tiny_llama, preference_folder, tmp_path, call_script):
    command = words(tiny_llama, preference_folder, tmp_path / "run", max_steps=1)
    call_script("scripts/dpo.py", *command)
    (tmp_path / "run" / "all_results.json").unlink()
    call_script("scripts/dpo.py", *command, "--ignore_plan", "true", "--longest_first", "true")
    assert (tmp_path / "run" / "all_results.json").exists()


def test_running_out_of_memory_again_is_one_message(tiny_llama, preference_folder, tmp_path, call_script, monkeypatch):
    def training_step(self, *args):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(PreferenceTrainer, "training_step", training_step)
    with pytest.raises(PreferansError, match="out of memory again.*max_length"):
        call_script("scripts/dpo.py", *words(tiny_llama, preference_folder, tmp_path / "run"))


def test_a_resumed_run_keeps_its_switches(recipe_keys, monkeypatch):
    prepared = prepare(KINDS, recipe_keys, None)
    begun = Switches(True, "separate", False, 123)
    prepared.output_dir.mkdir()
    (prepared.output_dir / "provenance.json").write_text(json.dumps({"switches": begun._asdict()}))
    assert fit(prepared).switches == begun
    give_room(monkeypatch, 1 << 17)
    assert fit(prepared).switches == begun, "less free memory than before must not change or stop a started run"
    earlier = {name: value for name, value in begun._asdict().items() if name != "pair_layout"} | {
        "separate_passes": True
    }
    (prepared.output_dir / "provenance.json").write_text(json.dumps({"switches": earlier}))
    assert fit(prepared).switches == begun, "a run of an earlier version resumes"
