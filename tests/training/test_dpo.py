"""TRL's DPO trainer with our changes."""

import math

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from preferans.training.dpo import PreferenceTrainer, pair_lengths
from preferans.training.recipe import CHOICES

from ..support.rows import preference
from ..support.trainers import adapter_weights, first_batch, gradients


def test_an_evaluation_does_not_change_later_gradients(make_trainer, monkeypatch):
    packed = []
    # as on a CPU with AVX512-BF16, also if this one does not have it
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)
    monkeypatch.setattr(
        "bitsandbytes.nn.modules._convert_weight_packed_for_cpu", lambda *args: packed.append(1) or args
    )
    trainer = make_trainer()
    batch = first_batch(trainer)
    before = gradients(trainer, batch)
    trainer.completion_log_probs(trainer.train_dataset, use_reference=False, description="test")
    assert packed == []
    after = gradients(trainer, batch)
    for name, gradient in before.items():
        assert torch.equal(gradient, after[name]), name


@pytest.mark.parametrize("loss_type", CHOICES["loss_type"])
def test_every_loss_takes_a_finite_step(loss_type, make_trainer):
    smoothing = 0.1 if loss_type in ("exo_pair", "robust") else 0.0
    trainer = make_trainer(max_steps=1, loss_type=loss_type, label_smoothing=smoothing, learning_rate=1e-3)
    before = adapter_weights(trainer)
    trainer.train()
    moved = [name for name, weight in adapter_weights(trainer).items() if not torch.equal(weight, before[name])]
    assert len(moved) == len(before) / 2  # A's gradient is zero while B is
    assert all("lora_B" in name for name in moved)
    assert math.isfinite(trainer.state.log_history[0]["loss"])


def test_log_probs_equal_those_of_the_plain_model(make_trainer, tiny_llama):
    trainer = make_trainer(load_in_4bit=False)
    first_batch(trainer)
    rows = trainer.train_dataset.select([5, 2, 7])
    scored = trainer.completion_log_probs(rows, use_reference=True, description="test")
    tokenizer, model = AutoTokenizer.from_pretrained(tiny_llama), AutoModelForCausalLM.from_pretrained(tiny_llama)
    for row, score in zip(rows, scored, strict=True):
        for side in ("chosen", "rejected"):
            prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"]
            whole = tokenizer.apply_chat_template(row["prompt"] + row[side])["input_ids"]
            with torch.no_grad():
                log_probs = model(torch.tensor([whole])).logits[0, :-1].log_softmax(-1)
            targets = torch.tensor(whole[1:])
            expected = log_probs.gather(1, targets[:, None])[len(prompt) - 1 :].sum().item()
            assert score[f"{side}_logp"] == pytest.approx(expected, rel=1e-5)
            assert score[f"{side}_tokens"] == len(whole) - len(prompt)
    trained = trainer.completion_log_probs(rows, use_reference=False, description="test")
    assert all(a["chosen_logp"] != b["chosen_logp"] for a, b in zip(scored, trained, strict=True))


def test_trying_the_longest_pairs_changes_nothing(make_trainer):
    settings = {"max_steps": 3, "learning_rate": 1e-3, "precompute_ref_log_probs": True}
    plain = make_trainer(**settings)
    plain.train()
    sizes = []
    tried = make_trainer(ours={"on_longest": sizes.append}, **settings)
    tried.train()
    assert len(sizes) == 1 and sizes[0] > 1 << 20
    for name, weights in adapter_weights(plain).items():
        assert torch.equal(weights, adapter_weights(tried)[name]), name
    for ours, trls in zip(tried.state.log_history[:-1], plain.state.log_history[:-1], strict=True):
        assert ours.pop("peak_memory_bytes") >= trls.pop("peak_memory_bytes") > 1 << 20
        assert ours == trls


def test_the_longest_pairs_are_tried(make_trainer, monkeypatch):
    trainer = make_trainer(per_device_train_batch_size=1, max_length=None)
    seen = []
    step = trainer.training_step
    monkeypatch.setattr(trainer, "training_step", lambda model, batch: seen.append(batch) or step(model, batch))
    trainer.try_longest()
    longest = max(max(pair) for pair in zip(*pair_lengths(trainer.train_dataset, None), strict=True))
    assert seen[0]["input_ids"].shape == (2, longest)


def test_batches_can_be_grouped_by_length(make_trainer):
    answers = [{"chosen": [{"role": "assistant", "content": "Да. " * (1 + number * 7 % 30)}]} for number in range(30)]
    rows = Dataset.from_list([preference(number, **answer) for number, answer in enumerate(answers)])
    trainer = make_trainer(train_sampling_strategy="group_by_length", rows=rows, max_length=None)
    lengths = trainer.train_dataset["length"]
    assert lengths == [sum(pair) for pair in zip(*pair_lengths(trainer.train_dataset, None), strict=True)]
    order = list(trainer._get_train_sampler())
    assert sorted(order) == list(range(30))

    def padding(order):
        return sum(abs(lengths[a] - lengths[b]) for a, b in zip(order[::2], order[1::2], strict=True))

    assert padding(order) < 0.6 * padding(range(30))
    assert trainer.train().metrics["train_loss"] > 0


def test_a_resumed_run_grouped_by_length_continues_with_the_remaining_pairs(make_trainer, tmp_path):
    answers = [{"chosen": [{"role": "assistant", "content": "Да. " * (1 + number * 7 % 20)}]} for number in range(12)]
    rows = Dataset.from_list([preference(number, **answer) for number, answer in enumerate(answers)])
    settings = {
        "rows": rows,
        "train_sampling_strategy": "group_by_length",
        "max_steps": 9,  # into the second epoch
        "learning_rate": 1e-3,
        "save_strategy": "steps",
        "save_steps": 4,
    }
    plain = make_trainer(**settings)
    plain.completion_log_probs(rows, True, "draws random numbers, as a first session does")
    plain.train()
    again = make_trainer(**settings)
    again.train_from(str(tmp_path / "run" / "checkpoint-4"))
    for name, weights in adapter_weights(plain).items():
        assert torch.equal(weights, adapter_weights(again)[name]), name


def test_each_ld_alpha_has_its_own_reference(make_trainer, tmp_path):
    Dataset.from_list([preference(number) for number in range(8)]).save_to_disk(tmp_path / "rows")

    def trainer(**changes):
        rows = Dataset.load_from_disk(tmp_path / "rows")
        return make_trainer(rows=rows, precompute_ref_log_probs=True, load_in_4bit=False, **changes)

    plain, weighted = trainer(), trainer(ld_alpha=0.5)
    assert plain.train_dataset["ref_chosen_logps"][:] != weighted.train_dataset["ref_chosen_logps"][:]
    rows = plain.train_dataset
    for ours, theirs in zip(
        plain.completion_log_probs(rows, True, "plain"),
        weighted.completion_log_probs(rows, True, "weighted"),
        strict=True,
    ):
        assert ours == pytest.approx(theirs)


def test_the_reference_is_computed_once_for_all_ranks_and_seeds(make_trainer, tmp_path, monkeypatch):
    rows = Dataset.from_list([preference(number) for number in range(8)])
    rows.save_to_disk(tmp_path / "rows")
    asked = []
    real = PreferenceTrainer.compute_ref_log_probs
    monkeypatch.setattr(
        PreferenceTrainer, "compute_ref_log_probs", lambda self, *args: asked.append(1) or real(self, *args)
    )

    def reference(**changes):
        trainer = make_trainer(
            rows=Dataset.load_from_disk(tmp_path / "rows"), precompute_ref_log_probs=True, **changes
        )
        return trainer.train_dataset["ref_chosen_logps"][:], trainer.train_dataset["ref_rejected_logps"][:]

    first = reference()
    number = len(asked)
    assert number > 0
    assert reference(lora_r=8, seed=7) == first
    assert len(asked) == number, "the reference was computed again"
    assert reference(max_length=50) != first
    assert len(asked) > number
