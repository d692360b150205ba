"""Loading the models of command-line options."""

import argparse
import json
import shutil

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from preferans.data.check_tokens import tokenize_pair
from preferans.data.pairs import read_pairs
from preferans.files import read_json, write_json
from preferans.models.load_samplers import check_sampling_arguments, load_sampler, load_samplers
from preferans.models.sampling_options import PROTOTYPE_SAMPLING, add_sampling_arguments

from ..support.rows import preference
from ..support.runs import call, command, make_pairs
from ..support.tiny import ROOT, make_gpt2, make_qwen3

PLAIN_RU = str(ROOT / "recipes" / "chat_templates" / "plain_ru.jinja")


def options_of(*words) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_sampling_arguments(parser)
    args = parser.parse_args([str(word) for word in words])
    args.max_prompts, args.seed = None, 1
    check_sampling_arguments(args)
    return args


def test_single_values_override_a_preset(tiny_llama):
    model = ["--model_name_or_path", tiny_llama]
    names = ("max_new_tokens", "top_k", "top_p", "temperature")
    values = {
        options: [getattr(options_of(*model, *options), name) for name in names]
        for options in (
            (),
            ("--sampling", "greedy"),
            ("--sampling", "greedy", "--max_new_tokens", "9"),
            ("--top_p", "0.5"),
        )
    }
    assert list(values.values()) == [[512, 60, 0.9, 0.7], [512, 0, 1.0, 0], [9, 0, 1.0, 0], [512, 60, 0.5, 0.7]]


def test_a_base_model_answers_as_long_as_in_the_notebook(tiny_llama):
    assert (
        options_of("--model_name_or_path", tiny_llama, "--chat_template_path", PLAIN_RU).max_new_tokens
        == PROTOTYPE_SAMPLING["max_new_tokens"]
    )


def test_generation_settings_of_a_model_are_ignored(tmp_path, tiny_llama):
    changed = shutil.copytree(tiny_llama, tmp_path / "changed")
    config = read_json(changed / "generation_config.json")
    write_json(
        changed / "generation_config.json", config | {"repetition_penalty": 9.0, "temperature": 0.1, "do_sample": True}
    )
    prompts = [{"id": str(i), "prompt": [{"role": "user", "content": f"Вопрос {i}"}]} for i in range(3)]
    answers = [
        [
            json.dumps([row["answer"] for row in load_sampler(options_of("--model_name_or_path", base, "--use_cpu", "--max_new_tokens", "20", *more)).answer(prompts, tmp_path / f"{base.name}{len(more)}.jsonl")])
            for base in (tiny_llama, changed)
        ]
        for more in ((), ("--sampling", "greedy"))
    ]  # fmt: skip
    assert all(plain == with_settings for plain, with_settings in answers)


@pytest.fixture
def run_with_template(tmp_path):
    """A run on a base model without a chat template, with a template in its own tokenizer only."""
    base = make_gpt2(tmp_path / "gpt2")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=2, target_modules=["c_attn"]))
    model.save_pretrained(tmp_path / "run")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }}, отвечай: {% endfor %}"
    tokenizer.save_pretrained(tmp_path / "run")
    return tmp_path / "run"


def test_an_adapter_answers_with_its_own_tokenizer(run_with_template):
    sampler = load_sampler(options_of("--adapter", run_with_template, "--use_cpu"))
    assert sampler.input_text({"id": "1", "prompt": [{"role": "user", "content": "Почему"}]}) == "Почему, отвечай: "
    sampler = load_sampler(options_of("--adapter", run_with_template, "--use_cpu", "--chat_template_path", PLAIN_RU))
    assert "Вопрос: Почему" in sampler.input_text({"id": "1", "prompt": [{"role": "user", "content": "Почему"}]})


def test_adapters_of_one_base_keep_their_own_templates(run_with_template, tmp_path):
    other = shutil.copytree(run_with_template, tmp_path / "other")
    (other / "chat_template.jinja").write_text(
        "{% for message in messages %}{{ message.content }}: {% endfor %}", encoding="utf-8"
    )
    args = options_of("--adapter", run_with_template, "--use_cpu")
    args.adapter = [str(run_with_template), str(other)]
    one, two = load_samplers(args)
    row = {"id": "1", "prompt": [{"role": "user", "content": "Почему"}]}
    assert (one.input_text(row), two.input_text(row)) == ("Почему, отвечай: ", "Почему: ")
    assert one.weights["chat_template_sha256"] != two.weights["chat_template_sha256"]


def test_the_template_of_a_run_is_used_without_a_tokenizer_in_its_folder(run_with_template):
    for name in ("tokenizer_config.json", "tokenizer.json", "chat_template.jinja"):
        (run_with_template / name).unlink()
    base = read_json(run_with_template / "adapter_config.json")["base_model_name_or_path"]
    keys = {"model_name_or_path": base, "chat_template_path": PLAIN_RU}
    model = {"name": base, "weights_sha256": {}}
    write_json(run_with_template / "provenance.json", {"keys": keys, "model": model})
    options = options_of("--adapter", run_with_template, "--use_cpu")
    assert options.max_new_tokens == PROTOTYPE_SAMPLING["max_new_tokens"]
    sampler = load_sampler(options)
    assert "Вопрос: Почему" in sampler.input_text({"id": "1", "prompt": [{"role": "user", "content": "Почему"}]})


@pytest.mark.parametrize("with_tokenizer", [True, False])
def test_thinking_is_off_in_training_and_generation(tmp_path, with_tokenizer):
    """The prompt as generated must be the beginning of the prompt as trained."""
    base, pairs, run = make_qwen3(tmp_path / "qwen3"), make_pairs(tmp_path / "pairs"), tmp_path / "run"
    call(*command("dpo", base, pairs, run, max_steps=1, chat_template_kwargs='{"enable_thinking": false}'))
    assert read_json(run / "provenance.json")["keys"]["chat_template_kwargs"] == {"enable_thinking": False}
    if not with_tokenizer:
        for name in ("tokenizer_config.json", "tokenizer.json", "chat_template.jinja"):
            (run / name).unlink()
    sampler = load_sampler(options_of("--adapter", run, "--use_cpu"))
    row = preference(3)
    text = sampler.input_text(row)
    assert text.endswith("<think>\n\n</think>\n\n")
    ids = tokenize_pair(read_pairs({"train": [row]})[0][0], sampler.tokenizer)
    assert ids["prompt_ids"] == sampler.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert not ids["lost_ids"] and "think" not in sampler.tokenizer.decode(ids["chosen_ids"])
    thinking = ["--chat_template_kwargs", '{"enable_thinking": true}']
    on = load_sampler(options_of("--adapter", run, "--use_cpu", *thinking)).input_text(row)
    assert "think" not in on


def test_variables_of_the_template_must_be_an_object(tiny_llama, capsys):
    with pytest.raises(SystemExit):
        options_of("--model_name_or_path", tiny_llama, "--chat_template_kwargs", "enable_thinking=false")
    assert "write a JSON object in quotes" in capsys.readouterr().err
