"""Recipes of other tools: every key to change is named at once, with what to write instead."""

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from trl import DPOConfig, ModelConfig, ScriptArguments, SFTConfig

from preferans.errors import PreferansError
from preferans.training.arguments import PreferansArguments, SharedArguments
from preferans.training.foreign_keys import FOREIGN_KEYS, FOREIGN_VALUES, LIST_KEYS, key_remedy, value_remedy
from preferans.training.recipe import Keys, read_recipe

DPO = (PreferansArguments, ScriptArguments, ModelConfig, DPOConfig)
SFT = (SharedArguments, ScriptArguments, ModelConfig, SFTConfig)

ALIGNMENT_HANDBOOK = """
model_name_or_path: alignment/base-model
torch_dtype: bfloat16
use_flash_attention_2: true
dataset_mixer:
  some/binarized: 1.0
dataset_splits: [train_prefs, test_prefs]
preprocessing_num_workers: 12
bf16: true
dpo_beta: 0.01
evaluation_strategy: steps
gradient_checkpointing_kwargs: {use_reentrant: false}
loss_type: kto_pair
max_length: 1024
max_prompt_length: 512
optim: paged_adamw_32bit
rpo_alpha: 1.0
warmup_ratio: 0.1
"""
AXOLOTL = """
base_model: some/base-model
model_type: LlamaForCausalLM
load_in_4bit: true
rl: dpo
rl_beta: 0.1
datasets:
  - path: some/pairs
    split: train
    type: chatml.intel
val_set_size: 0.05
output_dir: ./out
sequence_len: 2048
sample_packing: false
pad_to_sequence_len: false
adapter: qlora
lora_r: 32
lora_target_linear: true
wandb_project: mine
micro_batch_size: 2
num_epochs: 1
optimizer: paged_adamw_8bit
lr_scheduler: cosine
learning_rate: 0.0002
train_on_inputs: false
group_by_length: false
bf16: auto
flash_attention: true
evals_per_epoch: 4
special_tokens: {pad_token: "<pad>"}
"""
LLAMA_FACTORY = """
model_name_or_path: some/base-model
trust_remote_code: true
stage: dpo
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
pref_beta: 0.1
pref_loss: sigmoid
dataset: dpo_en_demo
template: llama3
cutoff_len: 2048
max_samples: 1000
overwrite_cache: true
preprocessing_num_workers: 16
plot_loss: true
overwrite_output_dir: true
quantization_bit: 4
learning_rate: 5.0e-6
warmup_ratio: 0.1
"""
OLD_TRL = """
model_name_or_path: some/base-model
torch_dtype: float16
use_peft: true
bnb_4bit_compute_dtype: float16
max_completion_length: 256
generate_during_eval: true
reference_free: false
per_gpu_train_batch_size: 1
no_cuda: true
label_pad_token_id: -100
"""


def refused(tmp_path, text: str, kinds=DPO, *argv: str) -> str:
    recipe = tmp_path / "x.yaml"
    recipe.write_text(text, encoding="utf-8")
    with pytest.raises(PreferansError) as caught:
        read_recipe(kinds, [str(recipe), *argv])
    return str(caught.value)


@pytest.mark.parametrize(
    ("recipe", "lines"),
    [
        (ALIGNMENT_HANDBOOK, ["Write 'dtype: bfloat16'", "dataset_train_split: NAME", "Write 'beta: 0.01'", "Write 'dataset_num_proc: 12'",
                              "Write 'eval_strategy: steps'", "loss_type: [sigmoid, sft]", "Write 'warmup_steps: 0.1'", "'apo_zero'"]),
        (AXOLOTL, ["Write 'model_name_or_path: some/base-model'", "Write 'max_length: 2048'", "Write 'per_device_train_batch_size: 2'",
                   "Write 'num_train_epochs: 1'", "Write 'optim: paged_adamw_8bit'", "Write 'lr_scheduler_type: cosine'", "Write 'beta: 0.1'",
                   "'lora_target_modules: all-linear'", "bf16 cannot be 'auto'"]),
        (LLAMA_FACTORY, ["Write 'lora_r: 8'", "Write 'beta: 0.1'", "Write 'loss_type: sigmoid'", "Write 'max_length: 2048'",
                         "'load_in_4bit: true'", "code of a model repository is never run", "Write 'lora_target_modules: all-linear'"]),
        (OLD_TRL, ["Write 'dtype: float16'", "Write 'per_device_train_batch_size: 1'", "Write 'use_cpu: true'"]),
    ],
)  # fmt: skip
def test_a_foreign_recipe_takes_one_round(recipe, lines, tmp_path):
    message = refused(tmp_path, recipe)
    for line in lines:
        assert line in message
    assert "Did you mean" not in message
    known, foreign = Keys(DPO).fields, yaml.safe_load(recipe)
    named = set(re.findall(r"the key '(\w+)' is", message))
    assert named >= set(foreign) - set(known)
    kept = {key: value for key, value in foreign.items() if f"'{key}'" not in message and f" {key} " not in message}
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(kept), encoding="utf-8")
    read_recipe(DPO, [str(tmp_path / "x.yaml")])


def test_every_replacement_is_a_key_and_no_key_of_today_is_replaced():
    dpo, sft = Keys(DPO).fields, Keys(SFT).fields
    assert len(FOREIGN_KEYS) > 100
    assert not set(FOREIGN_KEYS) & set(dpo)
    for key, remedy in FOREIGN_KEYS.items():
        if " " not in remedy:
            assert remedy in dpo or remedy in sft, key
        else:
            assert remedy.endswith(".")
            for written in re.findall(r"'(\w+): ", remedy):
                assert written in dpo, key
    assert set(FOREIGN_VALUES) <= set(dpo)


def test_every_value_to_write_is_allowed():
    keys = Keys(DPO)
    for remedies in FOREIGN_VALUES.values():
        for remedy in remedies.values():
            for line in re.findall(r"Write '([^.]+)'", remedy):
                for key, value in yaml.safe_load(line).items():
                    keys.check(key, value, "x.yaml")


@pytest.mark.parametrize(
    ("key", "value", "remedy"),
    [
        ("learning-rate", 1e-5, "Write 'learning_rate: 1.0e-05'."),
        ("Learning_Rate", 1e-5, "Write 'learning_rate: 1.0e-05'."),
        ("lora-rank", 8, "Write 'lora_r: 8'."),
        ("target_modules", ["q_proj", "v_proj"], "Write 'lora_target_modules: [q_proj, v_proj]'."),
        ("per_device_train", 1, "Did you mean 'per_device_train_batch_size'?"),
        ("learning_rat", 1, "Did you mean 'learning_rate'?"),
        (
            "lora_target",
            "q_proj, v_proj",
            "Its name is 'lora_target_modules'. Write 'lora_target_modules: [q_proj, v_proj]'.",
        ),
        ("zoo", 1, "Remove it; --help_keys lists every key."),
    ],
)
def test_dashes_capitals_and_short_forms(key, value, remedy):
    assert key_remedy(key, value, Keys(DPO).fields, "{}: {}") == remedy


def test_a_key_of_the_other_script_is_removed():
    assert key_remedy("pref_beta", 0.1, Keys(SFT).fields, "{}: {}") == "Remove it: this script does not have it."
    assert value_remedy("loss_type", ["sigmoid", "kto_pair"]) and value_remedy("loss_type", ["sigmoid"]) is None


def test_keys_inside_sections_are_checked_too(tmp_path):
    text = "training_arguments:\n  torch_dtype: float16\n  beta: 0.1\nlora:\n  r: 8\n"
    message = refused(tmp_path, text)
    assert message.splitlines() == [
        f"{tmp_path}/x.yaml: 4 mistakes.",
        "- line 1: 'training_arguments' is a section, and a recipe has none. Remove this line and the indentation below it.",
        "- line 1, training_arguments: the key 'torch_dtype' is unknown. Write 'dtype: float16'.",
        "- line 4: 'lora' is a section, and a recipe has none. Remove this line and the indentation below it.",
        "- line 4, lora: the key 'r' is unknown. Write 'lora_r: 8'.",
    ]


def test_the_command_line_is_corrected_in_its_own_form():
    with pytest.raises(PreferansError) as caught:
        read_recipe(DPO, ["--learning-rate", "1e-5", "--epochs=2", "--model", "base"])
    assert str(caught.value).splitlines() == [
        "Command line: 3 mistakes.",
        "- the key 'learning-rate' is unknown. Write '--learning_rate 1e-5'.",
        "- the key 'epochs' is unknown. Write '--num_train_epochs 2'.",
        "- the key 'model' is unknown. Write '--model_name_or_path base'.",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("- beta: 0.1\n", "is a list; remove the dashes"),
        ("[training]\nbeta = 0.1\n", "write a colon instead of each '='"),
        ("beta = 0.1\nmax_length = 512\n", "write a colon instead of each '='"),
        ("# Recipe\n\nTrain with a beta of 0.1.\n", "is plain text"),
        ("```yaml\nbeta: 0.1\n```\n", "not valid YAML"),
        ("beta:\t0.1\n\tmax_length: 5\n", "not valid YAML"),
    ],
)
def test_a_file_of_another_kind_is_named(text, words, tmp_path):
    assert words in refused(tmp_path, text)


@given(
    st.dictionaries(
        st.sampled_from([*FOREIGN_KEYS, "beta", "max_length", "loss_type"]) | st.text(min_size=1, max_size=5),
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.text(max_size=3)),
    )
)
def test_any_mixture_of_keys_names_each_wrong_one(recipe):
    keys = Keys(DPO)
    wrong = [key for key in recipe if key not in keys.fields]
    try:
        checked = keys.check_all([(key, value, "x.yaml, line 1") for key, value in recipe.items()], "x.yaml")
    except PreferansError as error:
        assert all(f"'{key}'" in str(error) for key in wrong)
    else:
        assert not wrong and set(checked) == set(recipe)


def test_values_separated_by_commas_are_a_list(tmp_path):
    assert "Write 'loss_type: [sigmoid, sft]'." in refused(tmp_path, "loss_type: sigmoid,sft\n")
    assert value_remedy("lora_target_modules", r".*\.(q|v)_proj") is None
    assert value_remedy("run_name", "a,b") is None
    assert set(LIST_KEYS) <= set(Keys(DPO).fields)


def test_json_is_a_recipe(tmp_path):
    recipe = tmp_path / "x.yaml"
    recipe.write_text('{\n  "beta": 0.2,\n  "max_length": 512\n}\n', encoding="utf-8")
    assert read_recipe(DPO, [str(recipe)])[0] == {"beta": 0.2, "max_length": 512}
    with pytest.raises(PreferansError, match="a recipe ending in .yaml.* rename the file"):
        read_recipe(DPO, [str(recipe.with_suffix(".json"))])
