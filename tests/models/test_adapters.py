"""Adapters on base models."""

import copy

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from preferans.errors import PreferansError
from preferans.models.adapters import Base, base_of, load_adapter, run_keys


@pytest.fixture
def model(tiny_llama):
    return AutoModelForCausalLM.from_pretrained(tiny_llama)


def test_rejects_an_adapter_of_another_base(model, tmp_path):
    other = LlamaForCausalLM(
        LlamaConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, vocab_size=50)
    )
    get_peft_model(other, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path / "adapter")
    with pytest.raises(PreferansError, match="does not fit the base model"):
        load_adapter(model, tmp_path / "adapter")
    with pytest.raises(PreferansError, match="no adapter_config.json"):
        load_adapter(model, tmp_path)


def test_rejects_an_adapter_with_fewer_layers(model, tmp_path):
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = 1
    config.layer_types = None
    part = get_peft_model(LlamaForCausalLM(config), LoraConfig(r=2, target_modules=["q_proj"]))
    part.save_pretrained(tmp_path / "adapter")
    with pytest.raises(PreferansError, match=r"0 of its 2 tensors do not fit the model, 2 layers"):
        load_adapter(model, tmp_path / "adapter")


def test_bases_differ_by_weights_or_else_by_name():
    here, copied = Base("models/a", frozenset("1")), Base("elsewhere/b", frozenset("1"))
    assert not here.differs_from(copied)
    assert here.differs_from(Base("models/a", frozenset("2")))
    assert not Base("org/A", frozenset()).differs_from(Base("cache/a", frozenset("1")))
    assert Base("org/A", frozenset()).differs_from(Base("org/B", frozenset()))


def test_an_adapter_of_another_program_has_no_run_keys(model, tmp_path):
    get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path)
    assert run_keys(tmp_path) == {}
    assert base_of(tmp_path).name == model.name_or_path
