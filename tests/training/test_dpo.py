import math
import shutil

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOTrainer, ModelConfig

import preferans.training.guards
from preferans.errors import PreferansError, TrainingDiverged
from preferans.files import write_json
from preferans.models.loading import check_4bit, check_model_exists, load_model, load_tokenizer
from preferans.training.dpo import PreferenceTrainer, pair_lengths
from preferans.training.prepare import drop_long_prompts
from preferans.training.recipe import CHOICES
from preferans.training.run_folder import LOCK_NAME, check_run_dir, last_checkpoint, only_process, provenance

from ..support.rows import preference
from ..support.tiny import make_llama
from ..support.trainers import CPU, first_batch


def adapter_weights(trainer) -> dict[str, torch.Tensor]:
    return {
        name: parameter.detach().clone()
        for name, parameter in trainer.model.named_parameters()
        if parameter.requires_grad
    }


def moved_share(trainer, kind: str) -> float:
    before = adapter_weights(trainer)
    trainer.train()
    after = adapter_weights(trainer)
    changed = [(after[name] != before[name]).float().mean().item() for name in before if kind in name]
    return sum(changed) / len(changed)


def test_adapters_train_in_fp32_and_every_element_moves(make_trainer):
    trainer = make_trainer(max_steps=6, lr_scheduler_type="constant")
    assert {weight.dtype for weight in adapter_weights(trainer).values()} == {torch.float32}
    assert moved_share(trainer, "lora_A") > 0.99
    assert moved_share(trainer, "lora_B") > 0.99


def test_trl_alone_would_lose_most_updates_in_bf16(make_trainer):
    """Shows what the fp32 adapters are for; if TRL stops casting, our cast can go."""
    trainer = make_trainer(DPOTrainer, max_steps=6, lr_scheduler_type="constant")
    assert {weight.dtype for weight in adapter_weights(trainer).values()} == {torch.bfloat16}
    assert moved_share(trainer, "lora_A") < 0.3


def test_every_linear_layer_is_in_4_bits(tiny_llama):
    model = load_model(ModelConfig(str(tiny_llama), load_in_4bit=True, dtype="float32"), CPU)
    assert check_4bit(model) == 2 * 7
    plain = AutoModelForCausalLM.from_pretrained(tiny_llama)
    with pytest.raises(
        PreferansError, match=r"14 of 14 linear layers are not in 4 bits \(model.layers.0.self_attn.q_proj"
    ):
        check_4bit(plain)
    model.model.layers[1].mlp.up_proj = torch.nn.Linear(64, 128)
    with pytest.raises(PreferansError, match=r"1 of 14 .*layers.1.mlp.up_proj"):
        check_4bit(model)


def gradients(trainer, batch) -> dict[str, torch.Tensor]:
    trainer.model.train()
    trainer.model.zero_grad()
    trainer.compute_loss(trainer.model, batch).backward()
    return {
        name: parameter.grad.clone() for name, parameter in trainer.model.named_parameters() if parameter.requires_grad
    }


def test_an_evaluation_does_not_change_later_gradients(make_trainer, monkeypatch):
    packed = []
    # as on a CPU with AVX512-BF16, whatever this one has
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


def test_scoring_completions_only_gives_trls_loss_and_gradients(make_trainer, monkeypatch):
    trainer = make_trainer(load_in_4bit=False, loss_type=["sigmoid", "sft"])
    batch = first_batch(trainer)
    ours = trainer.compute_loss(trainer.model, batch).item()
    our_gradients = gradients(trainer, batch)
    monkeypatch.setattr(preferans.training.guards.trl.trainer.utils, "_use_triton", lambda device: False)
    assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(ours, rel=1e-6)
    for name, gradient in gradients(trainer, batch).items():
        assert torch.allclose(gradient, our_gradients[name], rtol=1e-5, atol=1e-7), name


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


def test_log_probs_are_those_of_the_plain_model(make_trainer, tiny_llama):
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


def test_prompts_that_fill_max_length_are_dropped_and_counted(tiny_llama, capsys):
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    long = preference(1, prompt=[{"role": "user", "content": "Очень длинный вопрос. " * 40}])
    rows = Dataset.from_list([preference(0), long, preference(2)])
    assert list(drop_long_prompts(rows, tokenizer, 100, "x")["id"]) == ["c0:r0", "c2:r2"]
    assert "x: 1 pairs dropped" in capsys.readouterr().out
    assert drop_long_prompts(rows, tokenizer, None, "x") is rows
    with pytest.raises(PreferansError, match="x: every prompt alone is longer than max_length 5 .* Raise max_length"):
        drop_long_prompts(rows, tokenizer, 5, "x")


@pytest.mark.parametrize(
    ("value", "words"), [(math.nan, "loss is nan in step 3"), (math.inf, "loss is inf"), (0.0, "exactly 0 in step 3")]
)
def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_state(make_trainer, monkeypatch, value, words):
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
    # what was kept is sound: the run goes on from it
    monkeypatch.setattr(DPOTrainer, "compute_loss", plain)
    trainer = make_trainer(max_steps=5)
    trainer.train(resume_from_checkpoint=checkpoint)
    assert trainer.state.global_step == 5
    assert all(torch.isfinite(weight).all() for weight in adapter_weights(trainer).values())


def test_a_gradient_that_is_no_number_stops_the_run(make_trainer):
    trainer = make_trainer()
    weight = next(parameter for name, parameter in trainer.model.named_parameters() if "lora_B" in name)
    weight.register_hook(lambda gradient: gradient * math.nan)
    with pytest.raises(TrainingDiverged, match="gradient is not a number in step 1.*No step was completed"):
        trainer.train()
    assert all(torch.isfinite(weight).all() for weight in adapter_weights(trainer).values())


def test_steps_that_the_scaler_skips_are_counted_and_shown(make_trainer, monkeypatch, capsys):
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


def test_weights_that_are_no_numbers_never_reach_a_checkpoint(make_trainer):
    """The notebook's failure: AdamW's epsilon of 1e-8 is 0 in fp16, and 0/0 is the update of a zero gradient."""
    trainer = make_trainer(save_strategy="steps", save_steps=1)
    trainer.create_optimizer()
    step = trainer.optimizer.step

    def poisoned(*args, **kwargs):
        step(*args, **kwargs)
        if trainer.state.global_step == 1:
            next(iter(trainer.optimizer.param_groups[0]["params"])).data.fill_(math.nan)

    trainer.optimizer.step = poisoned
    with pytest.raises(TrainingDiverged, match="no longer numbers after step 2"):
        trainer.train()
    assert last_checkpoint(trainer.args.output_dir).endswith("checkpoint-1")


def test_a_resumed_run_ends_in_the_same_weights(make_trainer):
    settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2, "learning_rate": 1e-3}
    whole = make_trainer(**settings)
    whole.train()
    shutil.rmtree(f"{whole.args.output_dir}/checkpoint-6")
    resumed = make_trainer(**settings)
    resumed.train(resume_from_checkpoint=last_checkpoint(whole.args.output_dir))
    expected = adapter_weights(whole)
    for name, weight in adapter_weights(resumed).items():
        assert torch.equal(weight, expected[name]), name


def test_ctrl_c_saves_the_step_and_stops(make_trainer, monkeypatch):
    trainer = make_trainer(max_steps=50)
    plain = DPOTrainer.compute_loss
    calls = []

    def interrupted(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            import signal

            signal.raise_signal(signal.SIGINT)
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(DPOTrainer, "compute_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert last_checkpoint(trainer.args.output_dir).endswith("checkpoint-3")


def test_half_written_checkpoints_are_passed_over(tmp_path):
    for step in (2, 10, 9):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        for name in (
            "adapter_model.safetensors",
            "optimizer.pt",
            "scheduler.pt",
            "rng_state.pth",
            "trainer_state.json",
        ):
            if not (step == 10 and name == "trainer_state.json"):
                (folder / name).touch()
    assert last_checkpoint(tmp_path) is None  # an empty trainer_state.json is one that a kill cut short
    for step in (2, 9):
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}", encoding="utf-8")
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-9")
    assert (tmp_path / "checkpoint-10").exists()
    assert last_checkpoint(tmp_path / "absent") is None


def test_a_model_that_is_not_there_is_refused(tmp_path):
    for name in (str(tmp_path / "absent"), "./models/x", "cache/gemma-3-270m-ru-absent"):
        with pytest.raises(PreferansError, match="there is no such folder"):
            check_model_exists(name)
    with pytest.raises(PreferansError, match=r"no config\.json"):
        check_model_exists(str(tmp_path))
    with pytest.raises(PreferansError, match="is missing"):
        check_model_exists(None)
    check_model_exists("meta-llama/Llama-3.2-1B-Instruct")


def test_a_base_model_needs_a_chat_template(tmp_path):
    folder = str(make_llama(tmp_path / "base", chat_template=None))
    with pytest.raises(PreferansError, match="no chat template.*plain_ru.jinja"):
        load_tokenizer(folder, "main", None)
    with pytest.raises(PreferansError, match="chat_template_path absent.jinja: cannot be read"):
        load_tokenizer(folder, "main", "absent.jinja")


def test_the_plain_russian_template_asks_and_answers(tiny_llama):
    tokenizer = load_tokenizer(str(tiny_llama), "main", "recipes/chat_templates/plain_ru.jinja")
    talk = [
        {"role": "system", "content": "Отвечай кратко."},
        {"role": "user", "content": "Сколько будет 2 + 2? "},
        {"role": "assistant", "content": "Четыре."},
        {"role": "user", "content": "А 3 + 3?"},
    ]
    prompt = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
    assert prompt == (
        "<|begin_of_text|>Отвечай кратко.\n\nВопрос: Сколько будет 2 + 2?\nОтвет: Четыре.<|eot_id|>\nВопрос: А 3 + 3?\nОтвет:"
    )
    answered = tokenizer.apply_chat_template([*talk, {"role": "assistant", "content": "Шесть."}], tokenize=False)
    assert answered == prompt + " Шесть.<|eot_id|>\n"


def test_the_plain_spanish_template_is_the_russian_one_in_spanish(tiny_llama):
    tokenizer = load_tokenizer(str(tiny_llama), "main", "recipes/chat_templates/plain_es.jinja")
    talk = [{"role": "user", "content": "¿Cuánto es 2 + 2?"}, {"role": "assistant", "content": "Cuatro."}]
    assert tokenizer.apply_chat_template(talk, tokenize=False) == (
        "<|begin_of_text|>Pregunta: ¿Cuánto es 2 + 2?\nRespuesta: Cuatro.<|eot_id|>\n"
    )
    prompt = tokenizer.apply_chat_template(talk[:1], tokenize=False, add_generation_prompt=True)
    assert prompt == "<|begin_of_text|>Pregunta: ¿Cuánto es 2 + 2?\nRespuesta:"


def test_a_finished_checkpoint_is_loaded_and_not_trained_on(make_trainer):
    settings = {
        "max_steps": 3,
        "save_strategy": "steps",
        "save_steps": 3,
        "lr_scheduler_type": "constant",
        "learning_rate": 1e-3,
    }
    whole = make_trainer(**settings)
    whole.train_from(None)
    again = make_trainer(**settings)
    again.train_from(last_checkpoint(whole.args.output_dir))
    expected = adapter_weights(whole)
    assert all(torch.equal(weight, expected[name]) for name, weight in adapter_weights(again).items())
    assert again.state.global_step == 3


def test_two_processes_never_share_a_run(tmp_path):
    with only_process(tmp_path):
        with pytest.raises(PreferansError, match="another process is training in this folder"), only_process(tmp_path):
            pass
    assert not list(tmp_path.iterdir())
    (tmp_path / LOCK_NAME).touch()  # as a kill leaves it
    with only_process(tmp_path):
        pass


def test_a_folder_holds_one_run(tmp_path, tiny_llama):
    dataset = {"name": "x", "fingerprint": "1", "train_pairs": 1, "test_pairs": 1}
    said = {"model_name_or_path": str(tiny_llama), "beta": 0.1}
    run = provenance("x.yaml", said, dataset, 1)
    assert run["model"]["weights_sha256"]["model.safetensors"]
    check_run_dir(tmp_path / "run", run)
    assert not (tmp_path / "run").exists()
    write_json(tmp_path / "run" / "provenance.json", run)
    check_run_dir(tmp_path / "run", run)
    with pytest.raises(PreferansError, match=r"beta: 0.1 there, 0.2 here"):
        check_run_dir(tmp_path / "run", provenance("x.yaml", said | {"beta": 0.2}, dataset, 1))
    with pytest.raises(PreferansError, match="dataset_name: another content"):
        check_run_dir(tmp_path / "run", provenance("x.yaml", said, dataset | {"fingerprint": "2"}, 1))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    with pytest.raises(PreferansError, match="not empty and holds no run"):
        check_run_dir(tmp_path / "other", run)


def test_trying_the_longest_pairs_first_changes_nothing(make_trainer):
    settings = {"max_steps": 3, "learning_rate": 1e-3, "precompute_ref_log_probs": True}
    plain = make_trainer(**settings)
    plain.train()
    told = []
    tried = make_trainer(ours={"on_longest": told.append}, **settings)
    tried.train()
    assert len(told) == 1 and told[0] > 1 << 20
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


def test_a_run_grouped_by_length_goes_on_with_the_pairs_it_had_left(make_trainer, tmp_path):
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


def test_ld_alpha_has_a_reference_of_its_own(make_trainer, tmp_path):
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
