"""Supervised fine-tuning: what is learned, the scores, and DPO afterwards."""

import json
import math
import shutil
import signal

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import ModelConfig, SFTConfig, SFTTrainer

from preferans.errors import PreferansError, TrainingDiverged
from preferans.files import read_json, read_jsonl
from preferans.models.loading import load_model, load_tokenizer
from preferans.release.model_card import card_metadata
from preferans.training.run_folder import last_checkpoint
from preferans.training.sft import ImitationTrainer, completions

from ..support.rows import preference
from ..support.tiny import ROOT, make_gpt2, make_llama
from ..support.trainers import CPU, build_trainer, randomize

TEMPLATE = "recipes/chat_templates/plain_ru.jinja"
ON_CPU = ["--use_cpu", "true", "--fp16", "false", "--dtype", "float32", "--optim", "adamw_torch", "--disable_tqdm"]


def rows(number: int = 8) -> Dataset:
    return Dataset.from_list([preference(index) for index in range(number)])


def make_trainer(folder, output_dir, **changes) -> ImitationTrainer:
    return build_trainer(
        folder, output_dir, ImitationTrainer, config_class=SFTConfig, rows=completions(rows()), **changes
    )


def test_learns_only_the_answer_and_its_end(tiny_llama, tmp_path):
    trainer = make_trainer(tiny_llama, tmp_path / "run")
    tokenizer = trainer.processing_class
    for row, learned in zip(rows(), trainer.train_dataset, strict=True):
        kept = [token for token in learned["labels"] if token != -100]
        assert tokenizer.decode(kept) == row["chosen"][0]["content"] + tokenizer.eos_token
        assert learned["input_ids"][-len(kept) :] == kept


def test_learns_the_end_of_plain_texts_padded_with_the_end_token(tmp_path):
    folder = make_llama(tmp_path / "base", chat_template=None)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    texts = [{"prompt": f"Вопрос: {n}?\nОтвет:", "chosen": " Да." * (n + 1), "rejected": " Нет."} for n in range(4)]
    model_args = ModelConfig(str(folder), load_in_4bit=True, dtype="float32")
    trainer = ImitationTrainer(
        model=load_model(model_args, CPU),
        args=SFTConfig(str(tmp_path / "run"), use_cpu=True, bf16=False, report_to="none", disable_tqdm=True),
        train_dataset=completions(Dataset.from_list(texts)),
        processing_class=load_tokenizer(str(folder), "main", None, chat=False),
        peft_config=LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    assert trainer.processing_class.pad_token == trainer.processing_class.eos_token
    batch = trainer.data_collator([trainer.train_dataset[0], trainer.train_dataset[3]])
    ends = (batch["labels"] == trainer.processing_class.eos_token_id).sum(dim=1)
    assert ends.tolist() == [1, 1]


def test_adapters_train_in_fp32_with_the_loss_of_the_plain_model(tiny_llama, tmp_path):
    trainer = make_trainer(tiny_llama, tmp_path / "run", load_in_4bit=False)
    weights = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
    assert {weight.dtype for weight in weights} == {torch.float32}
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    loss = trainer.compute_loss(trainer.model, dict(batch)).item()
    with torch.no_grad():
        plain = AutoModelForCausalLM.from_pretrained(tiny_llama)(**batch).loss.item()
    assert loss == pytest.approx(plain, rel=1e-5)


def test_log_probs_equal_those_of_the_plain_model(tiny_llama, tmp_path):
    trainer = make_trainer(tiny_llama, tmp_path / "run", load_in_4bit=False)
    randomize(trainer)
    pairs = rows().select([5, 2, 7, 0])
    scored = trainer.pair_log_probs(pairs, use_base=True, description="test")
    tokenizer, model = AutoTokenizer.from_pretrained(tiny_llama), AutoModelForCausalLM.from_pretrained(tiny_llama)
    for row, score in zip(pairs, scored, strict=True):
        for side in ("chosen", "rejected"):
            prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"]
            whole = tokenizer.apply_chat_template(row["prompt"] + row[side])["input_ids"]
            with torch.no_grad():
                log_probs = model(torch.tensor([whole])).logits[0, :-1].log_softmax(-1)
            expected = log_probs.gather(1, torch.tensor(whole[1:])[:, None])[len(prompt) - 1 :].sum().item()
            assert score[f"{side}_logp"] == pytest.approx(expected, rel=1e-5)
            assert score[f"{side}_tokens"] == len(whole) - len(prompt)
            # the answer's last token ends it
            end = log_probs[-1, tokenizer.eos_token_id].item()
            assert whole[-1] == tokenizer.eos_token_id
            assert score[f"{side}_end_logp"] == pytest.approx(end, rel=1e-5)
            assert score[f"{side}_words_logp"] == pytest.approx(expected - end, rel=1e-5)
            assert score[f"{side}_words_tokens"] == len(whole) - len(prompt) - 1
    trained = trainer.pair_log_probs(pairs, use_base=False, description="test")
    assert all(a["chosen_logp"] != b["chosen_logp"] for a, b in zip(scored, trained, strict=True))


def test_template_text_after_the_end_is_not_counted_as_words(tiny_llama, tmp_path):
    trainer = make_trainer(tiny_llama, tmp_path / "run")
    trainer.processing_class.chat_template = (ROOT / TEMPLATE).read_text(encoding="utf-8")
    scored = trainer.completion_log_probs(completions(rows(2)), use_base=True, description="test")
    for row, score in zip(rows(2), scored, strict=True):
        words = trainer.processing_class(" " + row["chosen"][0]["content"], add_special_tokens=False)["input_ids"]
        assert score["words_tokens"] == len(words)
        assert score["tokens"] == len(words) + 2  # the end, and the line's
    trainer.args.max_length = 30  # the prompt fits, the answer's end does not
    cut = trainer.completion_log_probs(completions(rows(2)), use_base=True, description="test")
    assert [score["end_logp"] for score in cut] == [None, None]
    assert all(score["words_tokens"] == score["tokens"] > 0 for score in cut)


def gpt2_sft(base, data, output_dir, *more) -> list:
    return [
        "scripts/sft.py", "recipes/rugpt3medium_sft_ru.yaml", *ON_CPU, "--model_name_or_path", base, "--dataset_name", data,
        "--output_dir", output_dir, "--gradient_accumulation_steps", "1", "--learning_rate", "1e-2", "--lr_scheduler_type", "constant", *more,
    ]  # fmt: skip


def test_from_sft_to_dpo(tmp_path, preference_folder, call_script, capsys):
    base, run, merged = make_gpt2(tmp_path / "base"), tmp_path / "run", tmp_path / "merged"
    model = AutoModelForCausalLM.from_pretrained(base)
    model.transformer.ln_f.weight.data *= 20  # with random weights alone, no token is likely
    model.save_pretrained(base)
    # as in ruGPT-3's configuration
    for name in ("config.json", "generation_config.json"):
        config = read_json(base / name) | {"eos_token_id": 590}
        (base / name).write_text(json.dumps(config), encoding="utf-8")
    command = gpt2_sft(base, preference_folder, run, "--max_steps", "30")
    call_script(*command)
    results, origin = read_json(run / "all_results.json"), read_json(run / "provenance.json")
    assert results["test_chosen_loss_after"] < results["test_chosen_loss_before"] - 1
    assert results["test_end_probability_before"] < 0.1
    assert results["test_end_probability_after"] > 0.9
    assert origin["measured"]["world_size"] == 1
    assert origin["measured"]["kernels"].startswith("the head in tiles of")
    assert origin["dataset"]["train_pairs"] == 6
    card = (run / "README.md").read_text(encoding="utf-8")
    assert card_metadata(card)["tags"][:2] == ["sft", "lora"]
    assert "it does not mean that answers are true" in " ".join(card.split())
    capsys.readouterr()
    call_script(*command)
    assert "finished" in capsys.readouterr().out

    # the run is scored like a DPO run, and answers
    call_script("scripts/score.py", run, "--output_dir", tmp_path / "report")
    scores = read_json(tmp_path / "report" / "scores.json")["runs"][0]["pairs"]
    tested = read_json(run / "test_log_probs.json")
    gained = [
        (now["chosen_logp"] - was["chosen_logp"]) / was["chosen_tokens"]
        for was, now in zip(tested["before"], tested["after"], strict=True)
    ]
    assert scores["test_chosen_reward"]["value"] == pytest.approx(sum(gained) / len(gained))
    answers = tmp_path / "answers.jsonl"
    call_script(
        "scripts/generate.py", "--adapter", run, "--dataset_name", preference_folder, "--max_new_tokens", "60",
        "--temperature", "0", "--output", answers,
    )  # fmt: skip
    assert {row["finish_reason"] for row in read_jsonl(answers)} == {"stop"}  # the end was learned

    call_script("scripts/merge.py", run, "--output_dir", merged)
    tokenizer, whole = AutoTokenizer.from_pretrained(merged), AutoModelForCausalLM.from_pretrained(merged)
    assert tokenizer.chat_template == (ROOT / TEMPLATE).read_text(encoding="utf-8").rstrip("\n")
    assert whole.config.eos_token_id == whole.generation_config.eos_token_id == tokenizer.eos_token_id
    adapter = load_file(run / "adapter_model.safetensors")
    prefix = "base_model.model.transformer.h.0.attn.c_attn"
    factors = [adapter[f"{prefix}.lora_{side}.weight"] for side in "BA"]
    plain = AutoModelForCausalLM.from_pretrained(base).transformer.h[0].attn.c_attn.weight
    expected = plain + (factors[0] @ factors[1]).T * 2  # lora_alpha / lora_r, and Conv1D stores weights transposed
    assert torch.allclose(whole.transformer.h[0].attn.c_attn.weight, expected, atol=1e-6)
    capsys.readouterr()
    call_script("scripts/merge.py", run, "--output_dir", merged)
    assert "already in" in capsys.readouterr().out

    dpo = tmp_path / "dpo"
    call_script(
        "scripts/dpo.py", "recipes/rugpt3medium_ru.yaml", *ON_CPU, "--model_name_or_path", merged, "--dataset_name", preference_folder,
        "--max_steps", "1", "--output_dir", dpo,
    )  # fmt: skip
    assert (
        read_json(dpo / "provenance.json")["model"]["weights_sha256"]
        == (read_json(merged / "preferans_merge.json")["weights_sha256"])
    )
    # DPO starts where SFT ended, except for rounding to 4 bits
    start = [pair["chosen_logp"] for pair in read_json(dpo / "test_log_probs_before.json")]
    end = [pair["chosen_logp"] for pair in read_json(run / "test_log_probs.json")["after"]]
    never = [pair["chosen_logp"] for pair in read_json(run / "test_log_probs_before.json")]
    for begun, ended, base_value in zip(start, end, never, strict=True):
        assert abs(begun - ended) < 0.2 * abs(base_value - ended)


def test_a_killed_run_resumes_and_ends_the_same(tmp_path, preference_folder, call_script, capsys):
    base, whole, cut = make_gpt2(tmp_path / "base"), tmp_path / "whole", tmp_path / "cut"
    more = ["--max_steps", "4", "--save_steps", "1", "--save_total_limit", "10"]
    call_script(*gpt2_sft(base, preference_folder, whole, *more))
    # as left by a kill after step 2, with an incomplete checkpoint
    shutil.copytree(whole, cut)
    for name in ("all_results.json", "adapter_model.safetensors", "test_log_probs.json", "trainer_state.json"):
        (cut / name).unlink()
    shutil.rmtree(cut / "checkpoint-4")
    (cut / "checkpoint-3" / "trainer_state.json").unlink()
    origin = read_json(cut / "provenance.json")
    origin["keys"]["output_dir"] = str(cut)
    (cut / "provenance.json").write_text(json.dumps(origin), encoding="utf-8")
    capsys.readouterr()
    call_script(*gpt2_sft(base, preference_folder, cut, *more))
    assert f"Resuming from {cut / 'checkpoint-2'}" in capsys.readouterr().out
    expected, found = (load_file(folder / "adapter_model.safetensors") for folder in (whole, cut))
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
    assert read_json(cut / "test_log_probs.json")["before"] == read_json(whole / "test_log_probs.json")["before"]


def test_ctrl_c_saves_a_checkpoint_and_stops(tiny_llama, tmp_path, monkeypatch):
    trainer, plain, calls = make_trainer(tiny_llama, tmp_path / "run", max_steps=50), SFTTrainer.compute_loss, []

    def interrupted(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(SFTTrainer, "compute_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.train_from(None)
    assert last_checkpoint(tmp_path / "run") == str(tmp_path / "run" / "checkpoint-3")


def test_a_nan_loss_stops_the_run(tiny_llama, tmp_path, monkeypatch):
    trainer, plain = make_trainer(tiny_llama, tmp_path / "run"), SFTTrainer.compute_loss
    monkeypatch.setattr(
        SFTTrainer, "compute_loss", lambda self, *args, **kwargs: plain(self, *args, **kwargs) * math.nan
    )
    with pytest.raises(TrainingDiverged, match="loss is nan in step 1"):
        trainer.train_from(None)


def test_an_answer_that_is_chosen_twice_is_learned_once(tmp_path, call_script, capsys, preference_folder):
    lines = (preference_folder / "train.jsonl").read_text(encoding="utf-8").splitlines()
    again = json.dumps(
        json.loads(lines[0]) | {"id": "again", "rejected": [{"role": "assistant", "content": "Иначе."}]}
    )
    (preference_folder / "train.jsonl").write_text("\n".join([*lines, again]), encoding="utf-8")
    more = ["--max_steps", "1", "--eval_strategy", "steps", "--eval_steps", "1"]
    call_script(*gpt2_sft(make_gpt2(tmp_path / "base"), preference_folder, tmp_path / "run", *more))
    assert "7 training pairs have 6 different chosen answers" in " ".join(capsys.readouterr().out.split())
    logged = read_json(tmp_path / "run" / "trainer_state.json")["log_history"]
    assert any(0 < row.get("eval_loss", 0) < 10 for row in logged)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--packing", "true"], "FlashAttention"),
        (["--completion_only_loss", "false"], "only the chosen answer is learned"),
        (["--loss_type", "sigmoid"], "loss_type must be one of nll, dft"),
        (["--beta", "0.1"], "the key 'beta' is unknown"),
        (["--use_peft", "false"], "use_peft must be true"),
        (
            ["--lora_target_modules", "q_proj"],
            "rugpt3medium_sft_ru.yaml: lora_target_modules: 'q_proj' is not in the model",
        ),
    ],
)
def test_rejects_mistakes(words, expected, tmp_path, preference_folder, call_script):
    base = make_gpt2(tmp_path / "base")
    with pytest.raises(PreferansError) as caught:
        call_script(*gpt2_sft(base, preference_folder, tmp_path / "run", *words))
    assert expected in str(caught.value)
    assert not (tmp_path / "run" / "provenance.json").exists()
