import json

import pytest
from transformers import LlamaConfig

from preferans.hardware.device import MIB, profile_device
from preferans.memory.plan import make_plan, room, verdict_of
from preferans.memory.settings import StepSettings, load_shape, settings_of
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
        ("recipes/llama3b_ru.yaml", {"max_length": 1024, "pair_layout": "separate"}),
        ("recipes/rugpt3medium_ru.yaml", {}),
        ("recipes/rugpt3large_ru.yaml", {}),
    ],
)
def test_the_recipes_fit_four_gigabytes_beside_a_desktop(recipe, changes):
    assert planned(recipe, "Windows", **changes).verdict == "fits"


def test_names_the_cheapest_change_if_a_run_does_not_fit():
    plan = planned("recipes/llama3b_ru.yaml", "Windows", max_length=1024, pair_layout="padded")
    assert plan.verdict == "does_not_fit"
    (chosen,) = [change for change in plan.changes if change.chosen]
    assert chosen.keys == {"pair_layout": "separate", "precompute_ref_log_probs": True}
    assert chosen.verdict == "fits" and chosen.equal
    assert chosen.time == pytest.approx(1 + 0.5 / 3)
    assert chosen.peak == plan.together.peak < plan.trace.peak
    as_json = plan.as_json()
    assert {"verdict", "peak_bytes", "reserve_bytes", "usable_bytes", "changes"} <= set(as_json)
    assert sum(as_json["peak_bytes"]["by_category"].values()) == as_json["peak_bytes"]["total"]
    json.dumps(as_json)


def test_a_model_that_is_much_too_large_has_no_remedy():
    device = profile_device("gtx1650", "Linux")._replace(free_memory=1 * MIB)
    settings = StepSettings(prompt_tokens=20, chosen_tokens=20, rejected_tokens=20)
    plan = make_plan(LlamaConfig(num_hidden_layers=2, **SHAPE), settings, device)
    assert plan.verdict == "does_not_fit" and plan.together is None
    assert not any(change.chosen for change in plan.changes)


@pytest.mark.parametrize(
    ("peak", "usable", "verdict"),
    [(1000, 1100, "fits"), (1000, 1099, "tight"), (1000, 1050, "tight"), (1000, 1049, "does_not_fit")],
)
def test_the_verdict_reserves_memory_for_gaps(peak, usable, verdict):
    assert verdict_of(peak, usable) == verdict


def test_reserves_memory_for_context_and_desktop():
    usable, reserve = room(profile_device("gtx1650", "Windows"))
    assert reserve == {"CUDA context": 300 * MIB, "desktop": 500 * MIB}
    assert usable + sum(reserve.values()) == profile_device("gtx1650", "Windows").memory
    real = profile_device("gtx1650", "Linux")._replace(profile=None, free_memory=2000 * MIB)
    usable, reserve = room(real)
    assert usable == 2000 * MIB and sum(reserve.values()) == real.memory - usable
