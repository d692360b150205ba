"""Keys of a recipe that TRL does not have."""

import dataclasses

from trl import DPOConfig, ModelConfig, ScriptArguments, SFTConfig

from preferans.training.arguments import PreferansArguments, SharedArguments


def test_every_key_has_a_help_text_and_a_default():
    for field in dataclasses.fields(PreferansArguments):
        assert field.metadata["help"].endswith(".") and field.default is not dataclasses.MISSING


def test_no_key_hides_one_of_trl():
    def names(*types) -> set[str]:
        return {field.name for kind in types for field in dataclasses.fields(kind)}

    assert not names(PreferansArguments) & names(ScriptArguments, ModelConfig, DPOConfig)
    assert not names(SharedArguments) & names(ScriptArguments, ModelConfig, SFTConfig)
