"""Changes that save memory."""

from transformers import LlamaConfig

from preferans.memory.changes import keys_in_words, possible_changes
from preferans.memory.settings import StepSettings

SHAPE = {
    "vocab_size": 3000,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}


def test_every_change_changes_the_step():
    config = LlamaConfig(num_hidden_layers=3, **(SHAPE | {"vocab_size": 128_256}))
    settings = StepSettings(pairs=2, evaluated_pairs=4, gradient_checkpointing=False, lora_r=8)
    options = possible_changes(config, settings, accumulation=4)
    keys = [key for option in options for key in option.keys]
    assert {"head_tile", "optim", "pair_layout", "activation_offloading", "lora_r", "max_length"} <= set(keys)
    assert next(o.keys for o in options if "gradient_accumulation_steps" in o.keys) == {
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 8,
        "per_device_eval_batch_size": 1,
        "precompute_ref_batch_size": 1,
    }
    for option in options:
        changed_config, changed = option.apply(config, settings)
        assert (changed_config.vocab_size, changed) != (config.vocab_size, settings), option.keys


def test_formats_keys_as_a_recipe_has_them():
    assert keys_in_words({"pair_layout": "separate", "lora_r": 8}) == "pair_layout: separate, lora_r: 8"
