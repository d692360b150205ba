"""
Read a recipe: one YAML file for one run, overridden by the command line.

TRL's parser accepts several mistakes silently: repeated and abbreviated keys, and values of the wrong type or outside the choices. Here
each is reported in one short message before anything is loaded.
"""

import dataclasses
import enum
import json
import math
import textwrap
import types
import typing
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from ..errors import PreferansError, did_you_mean
from ..files import read_yaml
from .foreign_keys import FOREIGN_KEYS, key_remedy, value_remedy

MISSING = object()
COMMAND_LINE = "Command line"

# TRL and transformers check these only when they use them, long after the model is loaded.
CHOICES = {
    "loss_type": (
        "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
        "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
    ),
    "f_divergence_type": ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"),
    "lora_task_type": ("CAUSAL_LM",),
    "report_to": (
        "none", "all", "azure_ml", "clearml", "codecarbon", "comet_ml", "dagshub", "dvclive", "flyte", "kubeflow", "mlflow", "neptune", "swanlab",
        "tensorboard", "trackio", "wandb",
    ),
}  # fmt: skip
# Keys of TRL's script that would be ignored silently here.
UNSUPPORTED = {
    "hub_always_push": "a running push is always completed at the end, and reported",
    "hub_revision": "the adapter goes to the repository's main branch",
    "hub_token": "it would be written to files; log in with hf auth login, or set HF_TOKEN",
    "activation_checkpointing": "use gradient_checkpointing, which means the same and is read by the memory plan",
    "activation_checkpointing_kwargs": "the memory plan supports checkpointing of whole layers only",
    "assistant_only_loss": "only the chosen answer is learned in any case",
    "completion_only_loss": "only the chosen answer is learned in any case",
    "dataset_kwargs": "the whole dataset is checked and prepared",
    "dataset_streaming": "the whole dataset is checked before training",
    "ignore_bias_buffers": "it is for models that are not trained here",
    "eos_token": "the tokenizer's end token is learned",
    "eval_packing": "it needs FlashAttention 2, which cards before Ampere do not support",
    "model_init_kwargs": "use dtype, attn_implementation, model_revision and the quantization keys",
    "packing": "it needs FlashAttention 2, which cards before Ampere do not support, and without it answers attend to their neighbours",
    "padding_free": "it needs FlashAttention 2, which cards before Ampere do not have",
    "liger_kernel_config": "TRL's fused head already saves the memory of the logits",
    "resume_from_checkpoint": "the same command resumes from the newest complete checkpoint",
    "save_only_model": "a run cannot resume from such a checkpoint",
    "sync_ref_model": "the reference is the model without its adapter, or the adapter that training continues",
    "trust_remote_code": "code of a model repository is never run",
    "use_liger_kernel": "TRL's fused head already saves the memory of the logits",
}


def convert(value: Any, kind: Any) -> Any:
    """
    Convert a YAML value to the type of a key.

    Args:
        value (`Any`): Value as YAML reads it.
        kind (`Any`): Annotation of the dataclass field.

    Returns:
        `Any`: the value, converted if nothing is lost (an integer for a float; `1e-5`, which YAML 1.1 reads as text; a single value
        for a list), or `MISSING` if it has the wrong type.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        # The exact type first, so that 5 stays an integer for `int | float`.
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
        return _to_float(value)
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


def _to_float(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return MISSING
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return MISSING
    return number if math.isfinite(number) else MISSING


def _kind_in_words(kind: Any) -> str:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(kind) if member is not type(None)]
        # for `IntervalStrategy | str` the enumeration is enough
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
    The allowed keys of a recipe.

    Args:
        dataclass_types (`tuple[type, ...]`): Dataclasses with the keys as fields. A key of two of them belongs to the first.
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

    def check(self, key: str, value: Any, location: str) -> Any:
        """
        Check one key and its value.

        Args:
            key (`str`)
            value (`Any`): Value as YAML reads it.
            location (`str`): Location for messages, such as `"recipes/x.yaml, line 3"`.

        Returns:
            `Any`: the value in the key's type.

        Raises:
            [`PreferansError`]: names the location, the key and what to write instead.
        """
        if key in UNSUPPORTED:
            raise PreferansError(f"{location}: the key '{key}' is not supported: {UNSUPPORTED[key]}. Remove the line.")
        if key not in self.fields:
            line = "--{} {}" if location == COMMAND_LINE else "{}: {}"
            raise PreferansError(
                f"{location}: the key '{key}' is unknown. {key_remedy(key, value, self.fields, line)}"
            )
        if remedy := value_remedy(key, value):
            raise PreferansError(f"{location}: {key} cannot be {value!r}. {remedy}")
        return self._check_value(key, value, location)

    def _check_value(self, key: str, value: Any, location: str) -> Any:
        kind, field = self.kinds[key], self.fields[key]
        choices = (
            field.metadata.get("choices")
            or CHOICES.get(key)
            or [member.value for enumeration in _enumerations(kind) for member in enumeration]
        )
        optional = type(None) in typing.get_args(kind) or field.default is None
        # YAML 1.1 reads an unquoted no as false
        if choices and isinstance(value, bool) and value not in choices:
            unquoted = "no" if value is False else "yes"
            raise PreferansError(
                f"{location}: {key} must be one of {', '.join(map(str, choices))}, got {str(value).lower()}. YAML reads an "
                f'unquoted {unquoted} as {str(value).lower()}: write "{unquoted}" in quotes if you mean the word.'
            )
        fitted = value if value is None and optional else convert(value, kind)
        if key.endswith("_kwargs") and isinstance(fitted, str):
            raise PreferansError(f"{location}: {key} must be a mapping such as {{name: value}}, got {value!r}.")
        if fitted is MISSING:
            quotes = (
                " Put it in quotes."
                if isinstance(value, int | float) and convert(str(value), kind) is not MISSING
                else ""
            )
            raise PreferansError(f"{location}: {key} must be {_kind_in_words(kind)}, got {value!r}.{quotes}")
        for word in fitted if isinstance(fitted, list) else [fitted]:
            if choices and isinstance(word, str) and word not in choices:
                raise PreferansError(
                    f"{location}: {key} must be one of {', '.join(map(str, choices))}, got {word!r}."
                    f"{did_you_mean(word, map(str, choices))}"
                )
        return fitted

    def check_all(self, values: Iterable[tuple[str, Any, str]], name: str) -> dict[str, Any]:
        """
        Check several keys and their values, and report every mistake at once.

        Args:
            values (`Iterable[tuple[str, Any, str]]`): Key, value and location of each.
            name (`str`): The recipe or the command line, for messages.

        Returns:
            `dict[str, Any]`: see [`Keys.check`].
        """
        checked: dict[str, Any] = {}
        problems: list[str] = []
        for key, value, location in self._without_sections(values, problems):
            try:
                checked[key] = self.check(key, value, location)
            except PreferansError as error:
                problems.append(str(error))
        if len(problems) == 1:
            raise PreferansError(problems[0])
        if problems:
            lines = [problem.removeprefix(f"{name}, ").removeprefix(f"{name}: ") for problem in problems]
            raise PreferansError(f"{name}: {len(problems)} mistakes.\n" + "\n".join(f"- {line}" for line in lines))
        return checked

    def _without_sections(
        self, values: Iterable[tuple[str, Any, str]], problems: list[str]
    ) -> Iterator[tuple[str, Any, str]]:
        """Yield the keys inside sections, such as `training_arguments:`, in place of the sections."""
        for key, value, location in values:
            if not isinstance(value, dict) or key in {*self.fields, *UNSUPPORTED, *FOREIGN_KEYS}:
                yield key, value, location
                continue
            problems.append(
                f"{location}: '{key}' is a section, and a recipe has none. Remove this line and the indentation below it."
            )
            inside = [(str(name), inner, f"{location}, {key}") for name, inner in value.items()]
            yield from self._without_sections(inside, problems)


def read_command_line(argv: list[str], keys: Keys) -> tuple[str | None, dict[str, Any]]:
    """
    Read `[RECIPE.yaml] [--config RECIPE.yaml] [--key value …]`.

    Args:
        argv (`list[str]`):
            Command line without the program's name: `--key value`, `--key=value`, `--flag` for true, several values for a list. Values
            are read as YAML.
        keys ([`Keys`]): Allowed keys.

    Returns:
        `tuple`: path of the recipe or `None`, and the checked values by key.

    Raises:
        [`PreferansError`]: for an unknown, abbreviated or repeated key, or an invalid value.
    """
    recipe: str | None = None
    values: dict[str, Any] = {}
    words = list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            if recipe is not None or not word.lower().endswith((".yaml", ".yml")):
                raise PreferansError(
                    f"Command line: '{word}' is out of place. The order is: a recipe ending in .yaml, then --key value …"
                    + _order_remedy(word)
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
        values[key] = _read_words(given, keys.kinds.get(key))
    return recipe, keys.check_all(((key, value, COMMAND_LINE) for key, value in values.items()), COMMAND_LINE)


def _order_remedy(word: str) -> str:
    if word.lower().endswith(".json"):
        return " JSON is valid YAML: rename the file."
    key = word.lstrip("-").partition("=")[0]
    return f" Write --{key}." if word.startswith("-") or "=" in word else ""


def _read_words(given: list[str], kind: Any) -> Any:
    if not given:
        return True
    read = []
    for text in given:
        members = typing.get_args(kind) or (kind,)
        if _is_text_only(kind, text, members):
            read.append(None if text in ("null", "None") and type(None) in members else text)
            continue
        try:
            read.append(json.loads(text) if text.startswith("{") else yaml.safe_load(text))
        except (ValueError, yaml.YAMLError):
            read.append(text)
    return read[0] if len(read) == 1 else read


def _is_text_only(kind: Any, text: str, members: tuple) -> bool:
    """Check whether a key's value stays as typed: `--run_name 007` and `--eval_strategy no` are words."""
    if kind is None or kind is float or convert(True, kind) is not MISSING or convert(text, kind) is MISSING:
        return False
    plain = not any(typing.get_origin(member) for member in members)
    return str in members and not {int, float, dict} & set(members) and plain


def read_recipe(dataclass_types: tuple[type, ...], argv: list[str]) -> tuple[dict[str, Any], str | None]:
    """
    Read a recipe and the command line, which overrides it.

    Args:
        dataclass_types (`tuple[type, ...]`): Dataclasses with the keys as fields.
        argv (`list[str]`): See [`read_command_line`].

    Returns:
        `tuple`: the checked values by key, and the recipe's path or `None`.
    """
    keys = Keys(dataclass_types)
    recipe, overrides = read_command_line(argv, keys)
    recipe_keys = {}
    if recipe is not None:
        values, lines = read_yaml(recipe)
        recipe_keys = keys.check_all(
            ((key, value, f"{recipe}, line {lines[key]}") for key, value in values.items()), recipe
        )
    return recipe_keys | overrides, recipe


def fill(dataclass_types: tuple[type, ...], recipe_keys: dict[str, Any], recipe: str | None) -> list[Any]:
    """
    Create the dataclasses of a run from its keys.

    Raises:
        [`PreferansError`]: with the dataclass's own message, if it rejects a combination of values.
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
    """Turn a ValueError of TRL or PEFT, such as for unknown `lora_target_modules`, into an error with the recipe's name."""
    try:
        yield
    except ValueError as error:
        raise PreferansError(f"{recipe_name}: {' '.join(str(error).split())}") from error


def list_keys(dataclass_types: tuple[type, ...]) -> str:
    """Return every key with its type, default and meaning, for `--help_keys`."""
    keys = Keys(dataclass_types)
    blocks = []
    for name, field in keys.fields.items():
        if name in UNSUPPORTED:
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
