"""fp32 adapters, stops at NaN, and Ctrl-C."""

import contextlib
import math
import shutil
import signal

import pytest
import torch
from trl import DPOTrainer

from preferans.errors import PreferansError, TrainingDiverged
from preferans.training.run_folder import last_checkpoint

from ..support.full_disk import files_limited_to
from ..support.trainers import adapter_weights


def moved_share(trainer, kind: str) -> float:
    before = adapter_weights(trainer)
    trainer.train()
    after = adapter_weights(trainer)
    changed = [(after[name] != before[name]).float().mean().item() for name in before if kind in name]
    return sum(changed) / len(changed)


def test_adapters_train_in_fp32_and_every_element_changes(make_trainer):
    trainer = make_trainer(max_steps=6, lr_scheduler_type="constant")
    assert {weight.dtype for weight in adapter_weights(trainer).values()} == {torch.float32}
    assert moved_share(trainer, "lora_A") > 0.99
    assert moved_share(trainer, "lora_B") > 0.99


def test_trl_alone_loses_most_updates_in_bf16(make_trainer):
    """The reason for fp32 adapters; if TRL stops casting, our cast can be removed."""
    trainer = make_trainer(DPOTrainer, max_steps=6, lr_scheduler_type="constant")
    assert {weight.dtype for weight in adapter_weights(trainer).values()} == {torch.bfloat16}
    assert moved_share(trainer, "lora_A") < 0.3


@pytest.mark.parametrize(
    ("value", "words"), [(math.nan, "loss is nan in step 3"), (math.inf, "loss is inf"), (0.0, "exactly 0 in step 3")]
)
def test_a_nan_or_zero_loss_stops_the_run_and_keeps_the_last_good_state(make_trainer, monkeypatch, value, words):
    trainer = make_trainer(max_steps=5)
    plain, calls = DPOTrainer.compute_loss, []

    def poisoned(self, *args, **kwargs):
        calls.append(1)
        loss = plain(self, *args, **kwargs)
        return loss * value if len(calls) == 3 else loss

    monkeypatch.setattr(DPOTrainer, "compute_loss", poisoned)
    with pytest.raises(TrainingDiverged, match=words) as caught:
        trainer.train()
    checkpoint = last_checkpoint(trainer.args.output_dir)
    assert checkpoint.endswith("checkpoint-2")
    assert checkpoint in str(caught.value)
    # the run resumes from it
    monkeypatch.setattr(DPOTrainer, "compute_loss", plain)
    trainer = make_trainer(max_steps=5)
    trainer.train(resume_from_checkpoint=checkpoint)
    assert trainer.state.global_step == 5
    assert all(torch.isfinite(weight).all() for weight in adapter_weights(trainer).values())


def test_a_nan_gradient_stops_the_run(make_trainer):
    trainer = make_trainer()
    weight = next(parameter for name, parameter in trainer.model.named_parameters() if "lora_B" in name)
    weight.register_hook(lambda gradient: gradient * math.nan)
    with pytest.raises(TrainingDiverged, match="gradient is NaN or infinite in step 1.*No step was completed"):
        trainer.train()
    assert all(torch.isfinite(weight).all() for weight in adapter_weights(trainer).values())


def test_skipped_steps_are_counted_and_printed(make_trainer, monkeypatch, capsys):
    trainer = make_trainer(max_steps=3)
    weight = next(parameter for name, parameter in trainer.model.named_parameters() if "lora_B" in name)
    weight.register_hook(
        lambda gradient: gradient * math.inf if trainer.state.global_step < 2 else gradient
    )  # as fp16 overflows
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    real = trainer.create_optimizer

    def create_optimizer(*args):
        trainer.accelerator.scaler = scaler
        return real(*args)

    monkeypatch.setattr(trainer, "create_optimizer", create_optimizer)
    trainer.train()
    assert trainer.skipped_steps == 2 and scaler.get_scale() == 1.0
    assert [entry["skipped_steps"] for entry in trainer.state.log_history[:3]] == [1, 2, 2]
    assert "Step 2 is skipped (2 so far)" in capsys.readouterr().out


def test_nan_weights_never_reach_a_checkpoint(make_trainer):
    """As in the notebook: AdamW's epsilon of 1e-8 is 0 in fp16, so the update of a zero gradient is 0/0."""
    trainer = make_trainer(save_strategy="steps", save_steps=1)
    trainer.create_optimizer()
    step = trainer.optimizer.step

    def poisoned(*args, **kwargs):
        step(*args, **kwargs)
        if trainer.state.global_step == 1:
            next(iter(trainer.optimizer.param_groups[0]["params"])).data.fill_(math.nan)

    trainer.optimizer.step = poisoned
    with pytest.raises(TrainingDiverged, match="NaN or infinite after step 2"):
        trainer.train()
    assert last_checkpoint(trainer.args.output_dir).endswith("checkpoint-1")


def test_a_resumed_run_ends_in_the_same_weights(make_trainer):
    settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2, "learning_rate": 1e-3}
    complete = make_trainer(**settings)
    complete.train()
    shutil.rmtree(f"{complete.args.output_dir}/checkpoint-6")
    resumed = make_trainer(**settings)
    resumed.train(resume_from_checkpoint=last_checkpoint(complete.args.output_dir))
    expected = adapter_weights(complete)
    for name, weight in adapter_weights(resumed).items():
        assert torch.equal(weight, expected[name]), name


def test_ctrl_c_saves_a_checkpoint_and_stops(make_trainer, monkeypatch):
    trainer = make_trainer(max_steps=50)
    plain = DPOTrainer.compute_loss
    calls = []

    def interrupted(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(DPOTrainer, "compute_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert last_checkpoint(trainer.args.output_dir).endswith("checkpoint-3")


def test_a_checkpoint_of_the_last_step_is_not_trained_further(make_trainer):
    settings = {
        "max_steps": 3,
        "save_strategy": "steps",
        "save_steps": 3,
        "lr_scheduler_type": "constant",
        "learning_rate": 1e-3,
    }
    complete = make_trainer(**settings)
    complete.train_from(None)
    again = make_trainer(**settings)
    again.train_from(last_checkpoint(complete.args.output_dir))
    expected = adapter_weights(complete)
    assert all(torch.equal(weight, expected[name]) for name, weight in adapter_weights(again).items())
    assert again.state.global_step == 3


def test_a_full_disk_is_one_message_and_the_older_checkpoint_resumes(make_trainer):
    trainer = make_trainer(max_steps=2, save_strategy="steps", save_steps=1)
    plain = trainer._save_checkpoint

    def save_checkpoint(*args, **kwargs):
        with files_limited_to(10_000) if trainer.state.global_step == 2 else contextlib.nullcontext():
            plain(*args, **kwargs)

    trainer._save_checkpoint = save_checkpoint
    with pytest.raises(PreferansError, match="checkpoint-2: the disk is full"):
        trainer.train()
    assert last_checkpoint(trainer.args.output_dir).endswith("checkpoint-1")
    with files_limited_to(10_000), pytest.raises(PreferansError, match=f"{trainer.args.output_dir}: the disk is full"):
        trainer.save_model()


def test_an_unknown_metric_is_named_with_the_known_ones(make_trainer):
    trainer = make_trainer(metric_for_best_model="nope")
    with pytest.raises(PreferansError, match="metric_for_best_model: .*'eval_nope', .* not found .*'eval_loss'"):
        trainer._determine_best_metric({"eval_loss": 1.0}, None)
