"""Names of modules in the LoRA keys."""

import pytest
from transformers import AutoConfig

from preferans.errors import PreferansError
from preferans.models.lora_modules import check_lora_modules, lora_targets

from ..support.tiny import make_gpt2


@pytest.fixture
def config(tiny_llama):
    return AutoConfig.from_pretrained(tiny_llama)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {"lora_target_modules": ["q_proj", "v_projj"]},
            "r.yaml: lora_target_modules: 'v_projj' is not in the model. Did you mean 'v_proj'? The model has q_proj, k_proj, v_proj, "
            "o_proj, gate_proj, up_proj, down_proj, lm_head.",
        ),
        ({"lora_target_modules": ["typo"]}, "lora_target_modules: 'typo' is not in the model"),
        ({"lora_target_modules": "q_proj|v_proj"}, "matches no module's whole name, such as lm_head"),
        ({"lora_target_modules": "(q_proj"}, "is not a valid regular expression"),
        ({"lora_target_modules": ["q_proj", "all-linear"]}, "'all-linear' is not in the model"),
        ({"lora_modules_to_save": ["lm_head", "embed"]}, "lora_modules_to_save: 'embed' is not in the model"),
        ({"lora_target_parameters": ["experts.gate"]}, "lora_target_parameters: 'experts.gate' is not in the model"),
    ],
)
def test_rejects_a_name_that_the_model_does_not_have(config, keys, words):
    with pytest.raises(PreferansError) as caught:
        check_lora_modules(keys, config, "r.yaml")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"lora_target_modules": None},
        {"lora_target_modules": ["all-linear"]},
        {"lora_target_modules": ["q_proj", "layers.1.mlp.up_proj"]},
        {"lora_target_modules": [r".*\.q_proj"]},
        {"lora_target_modules": ["q_proj"]},
        {"lora_modules_to_save": ["lm_head", "embed_tokens"]},
    ],
)
def test_accepts_names_as_peft_does(config, keys):
    check_lora_modules(keys, config, "r.yaml")


def test_finds_the_layers_of_gpt2(tmp_path):
    config = AutoConfig.from_pretrained(make_gpt2(tmp_path))
    check_lora_modules({"lora_target_modules": ["c_attn", "c_proj"]}, config, "r.yaml")
    with pytest.raises(PreferansError, match="The model has c_attn, c_proj, c_fc, lm_head"):
        check_lora_modules({"lora_target_modules": ["q_proj", "c_attn"]}, config, "r.yaml")


def test_one_name_is_a_name_and_no_regular_expression():
    assert lora_targets(["q_proj"]) == lora_targets("q_proj") == ["q_proj"]
    assert lora_targets(["all-linear"]) == "all-linear"
    assert lora_targets([r".*\.q_proj"]) == r".*\.q_proj"
    assert lora_targets(None) is None
