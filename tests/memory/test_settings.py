"""The settings of a step, from a recipe."""

import dataclasses

import pytest
from trl import DPOConfig, ModelConfig, ScriptArguments

from preferans.errors import PreferansError
from preferans.hardware.device import profile_device
from preferans.memory.settings import Switches, load_shape, settings_of
from preferans.training.arguments import PreferansArguments
from preferans.training.recipe import read_recipe

from ..support.tiny import ROOT

LLAMA_1B = "meta-llama/Llama-3.2-1B-Instruct"


def keys_of(recipe: str) -> dict:
    return read_recipe((PreferansArguments, ScriptArguments, ModelConfig, DPOConfig), [str(ROOT / recipe)])[0]


def test_settings_have_the_recipes_keys():
    recipe_keys = keys_of("recipes/llama1b_ru.yaml") | {
        "max_length": 300,
        "lora_target_modules": ["q_proj"],
        "head_tile": 2048,
    }
    settings = settings_of(recipe_keys, load_shape(LLAMA_1B), profile_device("gtx1650", "Linux"))
    assert dataclasses.asdict(settings) | {} == dataclasses.asdict(settings)
    assert (settings.prompt_tokens, settings.chosen_tokens, settings.rejected_tokens) == (32, 268, 267)
    assert settings.lora_target_modules == ("q_proj",) and settings.head_tile == 2048
    assert settings.fp16 and settings.optim == "paged_adamw_8bit" and not settings.grouped_heads
    assert settings_of(recipe_keys, load_shape(LLAMA_1B), profile_device("gtx1650"), (5, 7, 6)).chosen_tokens == 7


def test_needs_a_length():
    with pytest.raises(PreferansError, match="max_length is not set"):
        settings_of({"max_length": None}, load_shape(LLAMA_1B), profile_device("gtx1650"))


def test_a_model_that_cannot_be_read_is_one_message(tmp_path):
    with pytest.raises(PreferansError, match="configuration cannot be read.*Known without the Hub"):
        load_shape(str(tmp_path))


def test_a_smaller_tile_is_a_quarter_but_not_tiny():
    tiles = [Switches(True, True, False, tile).with_smaller_tile().head_tile for tile in (32768, 4096, 2048)]
    assert tiles == [8192, 1024, 1024]
