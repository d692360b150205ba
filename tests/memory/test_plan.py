import dataclasses
import json

import pytest
from transformers import GPT2Config, LlamaConfig

from preferans.errors import PreferansError
from preferans.hardware.device import MIB, profile_device
from preferans.memory.changes import possible_changes
from preferans.memory.plan import make_plan, room, verdict_of
from preferans.memory.settings import StepSettings, load_shape, settings_of
from preferans.memory.trace import trace, walk
from preferans.training.recipe import read_recipe

from ..support.tiny import ROOT

LLAMA_1B = "meta-llama/Llama-3.2-1B-Instruct"
SHAPE = {
    "vocab_size": 3000,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}


def keys_of(recipe: str) -> dict:
    from trl import DPOConfig, ModelConfig, ScriptArguments

    from preferans.training.arguments import PreferansArguments

    return read_recipe((PreferansArguments, ScriptArguments, ModelConfig, DPOConfig), [str(ROOT / recipe)])[0]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"separate_passes": True, "lora_r": 64, "chosen_tokens": 30, "rejected_tokens": 20},
        {"gradient_checkpointing": False},
        {"separate_passes": True, "gradient_checkpointing": False, "optim": "paged_adamw_8bit"},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(num_hidden_layers=7, **SHAPE),
        GPT2Config(n_layer=6, n_embd=64, n_head=4, n_positions=512, vocab_size=3000),
    ],
    ids=["llama", "gpt2"],
)
def test_counting_on_from_three_and_four_layers_is_exact(config, settings):
    settings = StepSettings(**({"prompt_tokens": 20, "chosen_tokens": 100, "rejected_tokens": 90} | settings))
    whole = max(peak.total() for peak in walk(config, settings).values())
    assert trace(config, settings).peak == whole


def test_llama_takes_what_its_weights_take():
    """Written out by hand from the shapes: 4 bits, 8-bit scales of 64 weights, and scales of those of 256 in fp32."""
    settings = StepSettings(prompt_tokens=32, chosen_tokens=480, rejected_tokens=479, head_tile=4096)
    found = trace(load_shape(LLAMA_1B), settings)
    linear = 16 * (2 * 2048 * 2048 + 2 * 2048 * 512 + 3 * 2048 * 8192)
    assert found.by["weights in 4 bits"] == pytest.approx(linear * (0.5 + 1 / 64 + 4 / (64 * 256)), rel=1e-3)
    assert found.by["embeddings and head"] == 128256 * 2048 * 2
    lora = 16 * 16 * (2 * 2 * 2048 + 2 * (2048 + 512) + 3 * (2048 + 8192))
    assert found.by["adapter weights"] == 4 * lora
    assert found.by["optimizer state"] == 8 * lora


def planned(recipe: str, system: str, **changes):
    recipe_keys = keys_of(recipe) | changes
    config = load_shape(recipe_keys["model_name_or_path"])
    device = profile_device("gtx1650", system)
    return make_plan(config, settings_of(recipe_keys, config, device), device)


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        ("recipes/llama1b_ru.yaml", {"max_length": 1024}),
        ("recipes/llama1b_ru.yaml", {"max_length": 2048}),
        ("recipes/llama3b_ru.yaml", {"max_length": 1024, "separate_passes": True}),
        ("recipes/rugpt3medium_ru.yaml", {}),
        ("recipes/rugpt3large_ru.yaml", {}),
    ],
)
def test_the_notebooks_models_fit_four_gigabytes_even_beside_a_desktop(recipe, changes):
    assert planned(recipe, "Windows", **changes).verdict == "fits"


def test_where_it_does_not_fit_the_cheapest_change_is_named():
    plan = planned("recipes/llama3b_ru.yaml", "Windows", max_length=1024, separate_passes=False)
    assert plan.verdict == "does_not_fit"
    (chosen,) = [change for change in plan.changes if change.chosen]
    assert chosen.keys == {"separate_passes": True, "precompute_ref_log_probs": True}
    assert chosen.verdict == "fits" and chosen.equal
    assert chosen.time == pytest.approx(1 + 0.5 / 3)
    assert chosen.peak == plan.together.peak < plan.trace.peak
    as_json = plan.as_json()
    assert {"verdict", "peak_bytes", "reserve_bytes", "usable_bytes", "changes"} <= set(as_json)
    assert sum(as_json["peak_bytes"]["by_category"].values()) == as_json["peak_bytes"]["total"]
    json.dumps(as_json)


def test_a_model_far_too_big_has_no_cure():
    device = profile_device("gtx1650", "Linux")._replace(free_memory=1 * MIB)
    settings = StepSettings(prompt_tokens=20, chosen_tokens=20, rejected_tokens=20)
    plan = make_plan(LlamaConfig(num_hidden_layers=2, **SHAPE), settings, device)
    assert plan.verdict == "does_not_fit" and plan.together is None
    assert not any(change.chosen for change in plan.changes)


def test_every_change_that_is_offered_changes_the_step():
    config = LlamaConfig(num_hidden_layers=3, **(SHAPE | {"vocab_size": 128_256}))
    settings = StepSettings(pairs=2, evaluated_pairs=4, gradient_checkpointing=False, lora_r=8)
    options = possible_changes(config, settings, accumulation=4)
    keys = [key for option in options for key in option.keys]
    assert {"head_tile", "optim", "separate_passes", "activation_offloading", "lora_r", "max_length"} <= set(keys)
    assert next(o.keys for o in options if "gradient_accumulation_steps" in o.keys) == {
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 8,
        "per_device_eval_batch_size": 1,
        "precompute_ref_batch_size": 1,
    }
    for option in options:
        changed_config, changed = option.apply(config, settings)
        assert (changed_config.vocab_size, changed) != (config.vocab_size, settings), option.keys


@pytest.mark.parametrize(
    ("peak", "usable", "verdict"),
    [(1000, 1100, "fits"), (1000, 1099, "tight"), (1000, 1050, "tight"), (1000, 1049, "does_not_fit")],
)
def test_the_verdict_leaves_room_for_gaps(peak, usable, verdict):
    assert verdict_of(peak, usable) == verdict


def test_what_the_card_keeps_is_reserved():
    usable, reserve = room(profile_device("gtx1650", "Windows"))
    assert reserve == {"CUDA context": 300 * MIB, "desktop": 500 * MIB}
    assert usable + sum(reserve.values()) == profile_device("gtx1650", "Windows").memory
    real = profile_device("gtx1650", "Linux")._replace(profile=None, free_memory=2000 * MIB)
    usable, reserve = room(real)
    assert usable == 2000 * MIB and sum(reserve.values()) == real.memory - usable


def test_the_recipes_keys_reach_the_step():
    recipe_keys = keys_of("recipes/llama1b_ru.yaml") | {
        "max_length": 300,
        "lora_target_modules": ["q_proj"],
        "head_tile": 2048,
    }
    settings = settings_of(recipe_keys, load_shape(LLAMA_1B), profile_device("gtx1650", "Linux"))
    assert dataclasses.asdict(settings) | {} == dataclasses.asdict(settings)
    assert (settings.prompt_tokens, settings.chosen_tokens, settings.rejected_tokens) == (32, 268, 267)
    assert settings.lora_target_modules == "q_proj" and settings.head_tile == 2048
    assert settings.fp16 and settings.optim == "paged_adamw_8bit" and not settings.grouped_heads
    assert settings_of(recipe_keys, load_shape(LLAMA_1B), profile_device("gtx1650"), (5, 7, 6)).chosen_tokens == 7


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["recipes/llama1b_ru.yaml", "--hardware_profile", "gtx1660"], "Did you mean 'gtx1650'"),
        (["recipes/llama1b_ru.yaml", "--hardware_profile", "gtx1650", "--lengths", "512;1024"], "with commas"),
        (["recipes/llama1b_ru.yaml", "--hardware_profile", "gtx1650", "--max_lenght", "512"], "max_length"),
        (["recipes/rugpt3large_ru.yaml", "--hardware_profile", "gtx1650", "--max_length", "4096"], "beyond 2048"),
        (["recipes/llama1b_ru.yaml"], "this machine has none. Choose a card with --hardware_profile"),
        (["recipes/gemma270m_ru.yaml", "--hardware_profile", "gtx1650", "--fp16", "true"], "gemma3_text grow beyond"),
        (["recipes/nope.yaml", "--hardware_profile", "gtx1650"], "no such recipe"),
    ],
)
def test_what_a_newcomer_mistypes_is_told_in_a_paragraph(call_script, arguments, words):
    with pytest.raises(PreferansError, match=words):
        call_script("scripts/plan.py", *arguments)


def test_plan_answers_programs_and_people(call_script, capsys):
    arguments = ("recipes/llama1b_ru.yaml", "--hardware_profile", "gtx1650", "--system", "Windows")
    assert call_script("scripts/plan.py", *arguments, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "fits" and found["changes"] == []
    assert call_script("scripts/plan.py", *arguments, "--lengths", "256,4096,9000") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3].split()[0] == "256" and lines[-3].endswith(" fits")
    assert lines[-2].split()[0] == "4,096" and lines[-2].endswith(" fits  (dpo.py then chooses separate passes)")
    assert lines[-1].split()[0] == "9,000" and "does not fit" in lines[-1]
    assert call_script("scripts/plan.py", *arguments) == 0
    printed = capsys.readouterr().out
    assert "weights in 4 bits" in printed and "Verdict: fits" in printed
    assert f"{found['peak_bytes']['total'] / MIB:,.0f} MiB" in printed
