"""Reading recipes and the command line."""

import enum
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferans.errors import PreferansError
from preferans.files import read_yaml
from preferans.training.recipe import MISSING, Keys, convert, fill, list_keys, read_recipe


class Strategy(enum.Enum):
    NO = "no"
    STEPS = "steps"


@dataclass
class Settings:
    beta: float = field(default=0.1, metadata={"help": "How near to the reference."})
    max_length: int | None = 1024
    learning_rate: float = 1e-6
    dtype: str | None = field(default="float32", metadata={"choices": ["float16", "float32"]})
    loss_type: list[str] = field(default_factory=lambda: ["sigmoid"])
    eval_strategy: Strategy | str = "no"
    fp16: bool = False
    output_dir: str | None = None
    extra: dict | str | None = None

    def __post_init__(self):
        if self.beta < 0:
            raise ValueError("`beta` must not be negative")


def read(tmp_path: Path, text: str, *argv: str) -> dict:
    recipe = tmp_path / "x.yaml"
    recipe.write_text(text, encoding="utf-8")
    return read_recipe((Settings,), [str(recipe), *argv])[0]


def refused(tmp_path: Path, text: str, *argv: str) -> str:
    with pytest.raises(PreferansError) as caught:
        read(tmp_path, text, *argv)
    return str(caught.value)


def test_the_command_line_overrides_the_recipe_and_the_recipe_the_default(tmp_path):
    values = read(
        tmp_path, "beta: 0.2\nmax_length: 512\n", "--max_length", "256", "--loss_type", "sigmoid", "sft", "--fp16"
    )
    assert values == {"beta": 0.2, "max_length": 256, "loss_type": ["sigmoid", "sft"], "fp16": True}
    (settings,) = fill((Settings,), values, "x.yaml")
    assert settings == Settings(beta=0.2, max_length=256, loss_type=["sigmoid", "sft"], fp16=True)


def test_the_recipe_is_a_positional_argument_or_config(tmp_path):
    recipe = tmp_path / "x.yaml"
    recipe.write_text("beta: 0.3", encoding="utf-8")
    by_config = read_recipe((Settings,), ["--fp16", "--config", str(recipe)])
    assert by_config == ({"beta": 0.3, "fp16": True}, str(recipe))
    assert read_recipe((Settings,), [str(recipe), "--fp16=true"]) == by_config
    assert read_recipe((Settings,), []) == ({}, None)
    with pytest.raises(PreferansError, match="one recipe, once"):
        read_recipe((Settings,), [str(recipe), "--config", str(recipe)])


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-5", 1e-5), ("5", 5.0), ("5.0e-7", 5e-7)],
)
def test_numbers_in_every_notation_reach_a_float(tmp_path, text, value):
    assert read(tmp_path, f"learning_rate: {text}")["learning_rate"] == value
    assert read_recipe((Settings,), ["--learning_rate", text])[0] == {"learning_rate": value}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("beta: abc", ["line 1", "beta must be a number", "'abc'"]),
        ("\nlearning_rat: 1e-5", ["line 2", "the key 'learning_rat' is unknown", "Did you mean 'learning_rate'?"]),
        ("beta: 0.1\nfp16: true\nbeta: 0.2", ["line 3", "'beta' is already set in line 1"]),
        ("max_len: 5", ["the key 'max_len' is unknown", "Write 'max_length: 5'"]),
        ("max_length: [1, 2]", ["max_length must be an integer", "[1, 2]"]),
        ("max_length: 1.5", ["max_length must be an integer"]),
        ("beta: true", ["beta must be a number", "True"]),
        ("dtype: float8", ["dtype must be one of float16, float32", "Did you mean 'float32'?"]),
        ("eval_strategy: no", ["must be one of no, steps", 'write "no" in quotes']),
        ("eval_strategy: stepz", ["one of no, steps", "Did you mean 'steps'?"]),
        ("fp16: 1", ["fp16 must be true or false"]),
        ("output_dir: 7", ["output_dir must be text", "Put it in quotes"]),
        ("loss_type: {a: 1}", ["loss_type must be a list"]),
        ("beta:", ["beta must be a number", "None"]),
        ("- beta", ["'key: value'"]),
        ("", ["'key: value'"]),
        ("beta: [0.1", ["not valid YAML"]),
        ("when: 2026-13-45", ["not valid YAML"]),
        ("no: 5", ["line 1", "a key must be a plain word", "'no'"]),
        ("1: 2", ["a key must be a plain word", "'1'"]),
        ("? [a]\n: 1", ["a key must be a plain word"]),
        ("beta: .nan", ["beta must be a number"]),
        ("loss_type: [sigmoid, sigmoyd]", ["loss_type must be one of sigmoid", "Did you mean 'sigmoid'?"]),
    ],
)
def test_rejects_mistakes_in_a_recipe_with_the_fix(tmp_path, text, words):
    paragraph = refused(tmp_path, text)
    for word in ["x.yaml", *words]:
        assert word in paragraph
    assert "\n" not in paragraph


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--beta", "abc"], ["beta must be a number"]),
        (["--beta", "0.1", "--beta=0.2"], ["--beta is given twice"]),
        (["--bet", "0.1"], ["the key 'bet' is unknown", "'beta'"]),
        (["--bet", "0.1", "--max_length", "x"], ["2 mistakes", "'beta'", "max_length must be an integer"]),
        (["--max_length", "1", "2"], ["max_length must be an integer"]),
        (["--dtype", "float8"], ["one of float16, float32"]),
        (["0.1"], ["'0.1' is out of place"]),
        (["-beta", "0.1"], ["'-beta' is out of place", "Write --beta."]),
        (["beta=0.1"], ["'beta=0.1' is out of place", "Write --beta."]),
    ],
)
def test_rejects_mistakes_on_the_command_line(argv, words):
    with pytest.raises(PreferansError) as caught:
        read_recipe((Settings,), argv)
    for word in ["Command line", *words]:
        assert word in str(caught.value)


def test_words_on_the_command_line_stay_words():
    argv = ["--eval_strategy", "no", "--output_dir", "007", "--extra", '{"a": 1}', "--max_length", "null"]
    assert read_recipe((Settings,), argv)[0] == {
        "eval_strategy": "no",
        "output_dir": "007",
        "extra": {"a": 1},
        "max_length": None,
    }


def test_a_single_value_becomes_a_list(tmp_path):
    assert read(tmp_path, "loss_type: sft")["loss_type"] == ["sft"]


def test_errors_of_the_dataclass_are_reported():
    with pytest.raises(PreferansError, match="x.yaml: `beta` must not be negative"):
        fill((Settings,), {"beta": -1.0}, "x.yaml")


def test_rejects_a_missing_recipe(tmp_path):
    with pytest.raises(PreferansError, match="there is no such recipe"):
        read_yaml(tmp_path / "absent.yaml")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_value_is_converted_or_rejected(value):
    for name, kind in Keys((Settings,)).kinds.items():
        fitted = convert(value, kind)
        if fitted is not MISSING and value is not None:
            Settings(**({name: fitted} if name != "beta" else {}))
    assert convert(True, int) is MISSING and convert(True, float) is MISSING


def test_the_list_of_keys_has_type_default_and_meaning():
    listed = list_keys((Settings,))
    assert "beta: a number (default: 0.1)\n    How near to the reference." in listed
    assert "eval_strategy: one of no, steps (default: no)" in listed


def test_trls_keys_are_allowed():
    from trl import DPOConfig, ModelConfig, ScriptArguments

    kinds = (ScriptArguments, ModelConfig, DPOConfig)
    argv = [
        "--beta",
        "0.2",
        "--lora_target_modules",
        "q_proj",
        "v_proj",
        "--lr_scheduler_type",
        "cosine",
        "--optim",
        "adamw_torch",
    ]
    values, _ = read_recipe(kinds, [*argv, "--warmup_steps", "0.1", "--report_to", "none", "--save_strategy", "no"])
    assert values["lora_target_modules"] == ["q_proj", "v_proj"]
    assert (values["warmup_steps"], values["save_strategy"], values["report_to"]) == (0.1, "no", "none")
    _, _, training_args = fill(kinds, values | {"output_dir": "x", "use_cpu": True, "bf16": False}, None)
    assert training_args.beta == 0.2
    with pytest.raises(
        PreferansError, match="'trust_remote_code' is not supported: code of a model repository is never run"
    ):
        read_recipe(kinds, ["--trust_remote_code"])
    assert "trust_remote_code" not in list_keys(kinds)
    with pytest.raises(PreferansError, match="Did you mean 'wandb'"):
        read_recipe(kinds, ["--report_to", "wandbb"])
    with pytest.raises(PreferansError, match="lr_scheduler_kwargs must be a mapping"):
        read_recipe(kinds, ["--lr_scheduler_kwargs", "min_lr"])
    with pytest.raises(PreferansError, match="Did you mean 'cosine'"):
        read_recipe(kinds, ["--lr_scheduler_type", "cosin"])
