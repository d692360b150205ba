"""
Recipes: one YAML file is one run, and the command line has the last word.

TRL's own parser lets several mistakes pass in silence: a key given twice, an abbreviated key, a value of the wrong type or
outside its choices. Here each is refused in one paragraph, before anything is loaded.
"""

import dataclasses
import enum
import json
import math
import textwrap
import types
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from ..errors import PreferansError, did_you_mean
from ..files import read_yaml

MISSING = object()

# TRL and transformers check these only when they use them, long after a model is loaded.
CHOICES = {
    "loss_type": (
        "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
        "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
    ),
    "f_divergence_type": ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"),
    "report_to": (
        "none", "all", "azure_ml", "clearml", "codecarbon", "comet_ml", "dagshub", "dvclive", "flyte", "kubeflow", "mlflow", "neptune", "swanlab",
        "tensorboard", "trackio", "wandb",
    ),
}  # fmt: skip
# Keys of TRL's own script that this one would pass over in silence.
REFUSED = {
    "hub_always_push": "a push that is still under way is waited for at the end, and told",
    "hub_revision": "the adapter goes to the repository's main branch",
    "hub_token": "it would be written into files; sign in with hf auth login, or set HF_TOKEN",
    "activation_checkpointing": "gradient_checkpointing, which means the same, is the name that the memory plan reads",
    "activation_checkpointing_kwargs": "the memory plan knows checkpointing of whole layers only",
    "assistant_only_loss": "only the chosen answer is learned in any case",
    "completion_only_loss": "only the chosen answer is learned in any case",
    "dataset_kwargs": "the dataset is checked and prepared as a whole",
    "dataset_streaming": "the dataset is checked as a whole before training",
    "ignore_bias_buffers": "it serves models that are not trained here",
    "eos_token": "the tokenizer's own end token is learned",
    "eval_packing": "it needs FlashAttention 2, which cards before Ampere do not have",
    "model_init_kwargs": "use dtype, attn_implementation, model_revision and the quantization keys",
    "packing": "it needs FlashAttention 2, which cards before Ampere do not have, and without it answers see their neighbours",
    "padding_free": "it needs FlashAttention 2, which cards before Ampere do not have",
    "resume_from_checkpoint": "the same command goes on from the newest complete checkpoint by itself",
    "save_only_model": "a run could not go on from such a checkpoint",
    "trust_remote_code": "code from a model repository is never run",
}


def convert(value: Any, kind: Any) -> Any:
    """
    Fit a YAML value to the type of a key.

    Args:
        value (`Any`):
            What YAML made of the text.
        kind (`Any`):
            Annotation of the dataclass field.

    Returns:
        `Any`: the value, converted where nothing is lost (an integer for a float, `1e-5`, which YAML 1.1 reads as text, a
        single value for a list), or `MISSING` when it does not fit.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        # The exact type first: 5 for `int | float` shall stay an integer.
        for member in sorted(arguments, key=lambda member: type(value) is not member):
            fitted = convert(value, member)
            if fitted is not MISSING:
                return fitted
        return MISSING
    if origin is typing.Literal:
        return value if value in arguments else MISSING
    if kind is type(None):
        return None if value is None else MISSING
    if kind is bool:
        return value if isinstance(value, bool) else MISSING
    if kind is int:
        return value if isinstance(value, int) and not isinstance(value, bool) else MISSING
    if kind is float:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return MISSING
        try:
            number = float(value)
        except (ValueError, OverflowError):
            return MISSING
        return number if math.isfinite(number) else MISSING
    if kind is str:
        return value if isinstance(value, str) else MISSING
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return value if value in [member.value for member in kind] else MISSING
    if kind is list or origin is list:
        items = value if isinstance(value, list) else [value]
        if value is None or isinstance(value, dict):
            return MISSING
        fitted = [convert(item, arguments[0]) if arguments else item for item in items]
        return MISSING if any(item is MISSING for item in fitted) else fitted
    if kind is dict or origin is dict:
        return value if isinstance(value, dict) else MISSING
    return value


def _kind_in_words(kind: Any) -> str:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(kind) if member is not type(None)]
        # `IntervalStrategy | str`: the enumeration says it all
        members = [
            member for member in members if isinstance(member, type) and issubclass(member, enum.Enum)
        ] or members
        return " or ".join(_kind_in_words(member) for member in members)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return "one of " + ", ".join(str(member.value) for member in kind)
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(kind)))
    if typing.get_origin(kind) is list or kind is list:
        inside = typing.get_args(kind)
        return "a list" + (f", each being {_kind_in_words(inside[0])}" if inside else "")
    names = {int: "an integer", float: "a number", bool: "true or false", str: "text", dict: "a mapping"}
    return names.get(kind, getattr(kind, "__name__", str(kind)))


def _enumerations(kind: Any) -> list[type[enum.Enum]]:
    members = typing.get_args(kind) or (kind,)
    return [member for member in members if isinstance(member, type) and issubclass(member, enum.Enum)]


class Keys:
    """
    The keys that a recipe may have, gathered from dataclasses.

    Args:
        dataclass_types (`tuple[type, ...]`):
            Dataclasses whose fields are keys. A key that two of them define belongs to the first.
    """

    def __init__(self, dataclass_types: tuple[type, ...]):
        self.fields: dict[str, dataclasses.Field] = {}
        self.kinds: dict[str, Any] = {}
        for dataclass_type in dataclass_types:
            hints = typing.get_type_hints(dataclass_type)
            for field in dataclasses.fields(dataclass_type):
                if field.init and field.name not in self.fields:
                    self.fields[field.name] = field
                    self.kinds[field.name] = hints[field.name]

    def check(self, key: str, value: Any, place: str) -> Any:
        """
        Check one key and its value.

        Args:
            key (`str`): Key as written.
            value (`Any`): Value as YAML reads it.
            place (`str`): What to call the place in a message, such as `"recipes/x.yaml, line 3"`.

        Returns:
            `Any`: the value in the key's type.

        Raises:
            [`PreferansError`]: names the place, the key and what to write instead.
        """
        if key not in self.fields:
            raise PreferansError(f"{place}: there is no key '{key}'.{did_you_mean(key, self.fields)}")
        if key in REFUSED:
            raise PreferansError(f"{place}: the key '{key}' is not used here: {REFUSED[key]}. Remove the line.")
        kind, field = self.kinds[key], self.fields[key]
        choices = (
            field.metadata.get("choices")
            or CHOICES.get(key)
            or [member.value for enumeration in _enumerations(kind) for member in enumeration]
        )
        optional = type(None) in typing.get_args(kind) or field.default is None
        # YAML 1.1 reads an unquoted no as false
        if choices and isinstance(value, bool) and value not in choices:
            word = "no" if value is False else "yes"
            raise PreferansError(
                f"{place}: {key} must be one of {', '.join(map(str, choices))}, got {str(value).lower()}. YAML reads an "
                f'unquoted {word} as {str(value).lower()}: write "{word}" in quotes if you mean the word.'
            )
        fitted = value if value is None and optional else convert(value, kind)
        if fitted is MISSING:
            quotes = (
                " Put it in quotes."
                if isinstance(value, int | float) and convert(str(value), kind) is not MISSING
                else ""
            )
            raise PreferansError(f"{place}: {key} must be {_kind_in_words(kind)}, got {value!r}.{quotes}")
        for word in fitted if isinstance(fitted, list) else [fitted]:
            if choices and isinstance(word, str) and word not in choices:
                raise PreferansError(
                    f"{place}: {key} must be one of {', '.join(map(str, choices))}, got {word!r}."
                    f"{did_you_mean(word, map(str, choices))}"
                )
        return fitted


def read_command_line(argv: list[str], keys: Keys) -> tuple[str | None, dict[str, Any]]:
    """
    Read `[RECIPE.yaml] [--config RECIPE.yaml] [--key value …]`.

    Args:
        argv (`list[str]`):
            Command line without the program's name. `--key value`, `--key=value`, `--flag` for a true, several values for a
            list. Values are read as YAML reads them.
        keys ([`Keys`]):
            Known keys.

    Returns:
        `tuple`: path of the recipe or `None`, and the checked values by key.

    Raises:
        [`PreferansError`]: on an unknown, abbreviated or repeated key and on a value that does not fit.
    """
    recipe, values = None, {}
    words = list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            if recipe is not None or not word.endswith((".yaml", ".yml")):
                raise PreferansError(
                    f"Command line: '{word}' is out of place. The order is: a recipe ending in .yaml, then --key value …"
                )
            recipe = word
            continue
        key, equals, text = word[2:].partition("=")
        given = [text] if equals else []
        while not equals and words and not words[0].startswith("--"):
            given.append(words.pop(0))
        if key == "config":
            if recipe is not None or len(given) != 1:
                raise PreferansError("Command line: name one recipe, once: RECIPE.yaml or --config RECIPE.yaml.")
            recipe = given[0]
            continue
        if key in values:
            raise PreferansError(f"Command line: --{key} is given twice. Keep one of the two.")
        values[key] = keys.check(key, _read_words(given, keys.kinds.get(key)), "Command line")
    return recipe, values


def _read_words(given: list[str], kind: Any) -> Any:
    if not given:
        return True
    read = []
    for text in given:
        # A text stays as typed: `--run_name 007` and `--eval_strategy no` are words.
        if (
            kind is not None
            and convert(True, kind) is MISSING
            and convert(text, kind) is not MISSING
            and kind is not float
        ):
            members = typing.get_args(kind) or (kind,)
            if (
                str in members
                and not {int, float, dict} & set(members)
                and not any(typing.get_origin(m) for m in members)
            ):
                read.append(None if text in ("null", "None") and type(None) in members else text)
                continue
        try:
            read.append(json.loads(text) if text.startswith("{") else yaml.safe_load(text))
        except (ValueError, yaml.YAMLError):
            read.append(text)
    return read[0] if len(read) == 1 else read


def read_recipe(dataclass_types: tuple[type, ...], argv: list[str]) -> tuple[dict[str, Any], str | None]:
    """
    Read what a run is told: the recipe, overridden by the command line.

    Args:
        dataclass_types (`tuple[type, ...]`):
            Dataclasses whose fields are the keys.
        argv (`list[str]`):
            See [`read_command_line`].

    Returns:
        `tuple`: the checked values by key, and the recipe's path or `None`.

    Raises:
        [`PreferansError`]: in one paragraph, on everything a person can mistype.
    """
    keys = Keys(dataclass_types)
    recipe, overrides = read_command_line(argv, keys)
    recipe_keys = {}
    if recipe is not None:
        values, lines = read_yaml(recipe)
        recipe_keys = {key: keys.check(key, value, f"{recipe}, line {lines[key]}") for key, value in values.items()}
    return recipe_keys | overrides, recipe


def fill(dataclass_types: tuple[type, ...], recipe_keys: dict[str, Any], recipe: str | None) -> list[Any]:
    """
    Make the dataclasses of a run. What `recipe_keys` leaves out keeps the dataclass's default.

    Raises:
        [`PreferansError`]: with the dataclass's own words, when it refuses a combination of values.
    """
    filled = []
    for dataclass_type in dataclass_types:
        own = {field.name for field in dataclasses.fields(dataclass_type) if field.init}
        try:
            filled.append(dataclass_type(**{key: value for key, value in recipe_keys.items() if key in own}))
        except (ValueError, TypeError, ImportError) as error:
            raise PreferansError(f"{recipe or 'Command line'}: {' '.join(str(error).split())}") from None
    return filled


@contextmanager
def recipe_errors(recipe_name: str) -> Iterator[None]:
    """Report a ValueError of TRL or PEFT, such as `lora_target_modules` that the model does not have, under the recipe's name."""
    try:
        yield
    except ValueError as error:
        raise PreferansError(f"{recipe_name}: {' '.join(str(error).split())}") from error


def list_keys(dataclass_types: tuple[type, ...]) -> str:
    """Every key with its type, default and meaning, for `--help_keys`."""

    keys = Keys(dataclass_types)
    blocks = []
    for name, field in keys.fields.items():
        if name in REFUSED:
            continue
        if field.default is not dataclasses.MISSING:
            default = field.default
        elif field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        else:
            default = "required"
        meaning = " ".join(str(field.metadata.get("help", "")).replace("%%", "%").split())
        head = f"{name}: {_kind_in_words(keys.kinds[name])} (default: {default})"
        blocks.append(
            head
            + ("\n" + textwrap.fill(meaning, 100, initial_indent="    ", subsequent_indent="    ") if meaning else "")
        )
    return "\n".join(blocks)
