"""Checks and decisions before a model is loaded."""

import shutil

import pytest
import trl.trainer.utils
from datasets import Dataset
from transformers import AutoTokenizer
from trl import DPOConfig, ModelConfig, ScriptArguments, SFTConfig

import preferans.training.prepare
from preferans.errors import PreferansError
from preferans.files import write_jsonl
from preferans.hardware.decisions import restore_kernels
from preferans.hardware.device import profile_device
from preferans.training.arguments import PreferansArguments, SharedArguments
from preferans.training.prepare import drop_long_prompts, prepare

from ..support.rows import preference
from ..support.tiny import CHAT_TEMPLATE, make_gemma3

DPO = (PreferansArguments, ScriptArguments, ModelConfig, DPOConfig)
SFT = (SharedArguments, ScriptArguments, ModelConfig, SFTConfig)


@pytest.fixture
def recipe_keys(tiny_llama, preference_folder, tmp_path):
    yield {
        "model_name_or_path": str(tiny_llama),
        "dataset_name": str(preference_folder),
        "output_dir": str(tmp_path / "run"),
        "use_peft": True,
        "use_cpu": True,
    }
    restore_kernels()


@pytest.mark.parametrize("kinds", [DPO, SFT])
def test_prints_and_applies_its_decisions(kinds, recipe_keys, capsys):
    prepared = prepare(kinds, recipe_keys, None)
    assert isinstance(prepared.training_args, kinds[-1]) and isinstance(prepared.model_args, ModelConfig)
    assert prepared.device.kind == "cpu" and prepared.tokenizer.padding_side == "left"
    printed = capsys.readouterr().out
    assert f"Precision: {prepared.precision}; adapters in fp32." in printed
    assert f"Kernels: {prepared.kernels.reason}." in printed
    words = len(prepared.tokenizer)
    assert f"tiles of {words:,} words by PyTorch" in prepared.kernels.reason
    assert words == trl.trainer.utils._CHUNKED_LOGPROB_CHUNK_SIZE


@pytest.mark.parametrize("kinds", [DPO, SFT])
@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"activation_offloading": True}, "on the CPU. Add --activation_offloading false"),
        ({"hardware_profile": "gtx165"}, "Did you mean 'gtx1650'"),
        ({"hardware_profile": "gtx1650"}, "this run computes on the CPU"),
        ({"model_name_or_path": "nobody/nothing"}, "model_name_or_path nobody/nothing: HF_HUB_OFFLINE is set"),
        ({"model_name_or_path": "./absent"}, "there is no such folder"),
        ({"output_dir": ""}, "Command line: the key 'output_dir' is missing"),
        ({"learning_rate": 0}, "Command line: learning_rate is 0, but must be above 0."),
        ({"lora_target_modules": ["q_proj", "typo"]}, "Command line: lora_target_modules: 'typo' is not in the model"),
        ({"report_to": "wandb"}, "Command line: report_to wandb: WandbCallback requires wandb"),
        ({"optim": "galore_adamw"}, "Command line: optim galore_adamw: You need to install"),
        ({"lora_r": 0}, "Command line: lora_r is 0, but must be above 0."),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size is 0"),
    ],
)
def test_rejects_mistakes(kinds, keys, words, recipe_keys):
    with pytest.raises(PreferansError) as caught:
        prepare(kinds, recipe_keys | keys, None)
    assert words in str(caught.value)


@pytest.mark.parametrize("kinds", [DPO, SFT])
def test_a_folder_that_is_a_file_is_rejected(kinds, recipe_keys, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PreferansError, match="output_dir .*file is a file. Name a folder"):
        prepare(kinds, recipe_keys | {"output_dir": str(tmp_path / "file")}, None)


def test_rejects_a_model_that_overflows_in_fp16(recipe_keys, tmp_path, monkeypatch):
    monkeypatch.setattr(preferans.training.prepare, "find_device", lambda *args: profile_device("gtx1650"))
    keys = {"model_name_or_path": str(make_gemma3(tmp_path / "gemma")), "fp16": True, "dtype": "float16"}
    with pytest.raises(PreferansError, match="inside models of the type gemma3_text exceed 65,504"):
        prepare(DPO, recipe_keys | keys, None)


def test_drops_and_counts_prompts_that_fill_max_length(tiny_llama, capsys):
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    long = preference(1, prompt=[{"role": "user", "content": "Очень длинный вопрос. " * 40}])
    rows = Dataset.from_list([preference(0), long, preference(2)])
    assert list(drop_long_prompts(rows, tokenizer, 100, "x")["id"]) == ["c0:r0", "c2:r2"]
    assert "x: dropped 1 pairs whose prompt alone fills max_length 100" in capsys.readouterr().out
    assert drop_long_prompts(rows, tokenizer, None, "x") is rows
    with pytest.raises(PreferansError, match="x: every prompt alone is longer than max_length 5 .* Raise max_length"):
        drop_long_prompts(rows, tokenizer, 5, "x")


@pytest.mark.parametrize("kinds", [DPO, SFT])
def test_names_a_token_that_the_model_does_not_have(kinds, recipe_keys, tiny_llama, tmp_path):
    base = shutil.copytree(tiny_llama, tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["Вопрос"])
    tokenizer.save_pretrained(base)
    with pytest.raises(PreferansError, match="model_name_or_path .*base: its tokenizer has the token 'Вопрос'"):
        prepare(kinds, recipe_keys | {"model_name_or_path": str(base)}, None)


@pytest.mark.parametrize("kinds", [DPO, SFT])
def test_folds_system_messages_as_generation_does(kinds, recipe_keys, tmp_path):
    template = tmp_path / "template.jinja"
    template.write_text(
        "{%- if messages[0].role == 'system' -%}{{- raise_exception('no') -}}{%- endif -%}" + CHAT_TEMPLATE
    )
    prompt = [{"role": "system", "content": "Кратко."}, {"role": "user", "content": "Почему?"}]
    folder = tmp_path / "system"
    folder.mkdir()
    for split in ("train", "test"):
        write_jsonl(folder / f"{split}.jsonl", [preference(0 if split == "train" else 1, prompt=prompt)])
    keys = recipe_keys | {"dataset_name": str(folder), "chat_template_path": str(template)}
    prepared = prepare(kinds, keys, None)
    assert prepared.train_rows["prompt"][0] == [{"role": "user", "content": "Кратко.\n\nПочему?"}]
