"""Rows of JSON and YAML files as typed objects, with one style of message."""

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from .errors import PreferansError, did_you_mean
from .utf8 import HALF_CHARACTER, is_unicode

_Row = TypeVar("_Row", bound=BaseModel)
_TYPES = {
    "string_type": "text",
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}


def _check_unicode(text: str) -> str:
    if not is_unicode(text):
        raise ValueError(f"{HALF_CHARACTER}. Fix or drop this row")
    return text


def _check_not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return text


# A text that UTF-8 can store, and one that is also not blank.
AnyText = Annotated[str, AfterValidator(_check_unicode)]
Text = Annotated[AnyText, AfterValidator(_check_not_blank)]


class Row(BaseModel):
    """
    Base class of typed rows. Unknown keys are an error: an optional key with a typo would otherwise be ignored without a message.

    A validator raises `ValueError` with the rest of a sentence that starts with the key, such as `"must be at least 2"`.
    """

    model_config = ConfigDict(extra="forbid", strict=True)


class Message(Row):
    """A message of a conversation."""

    role: Text
    content: Text


def check_row(row_type: type[_Row], row: Any, place: str) -> _Row:
    """
    Check one row against its type.

    Args:
        row_type (`type[BaseModel]`):
            The type, such as a subclass of [`Row`].
        row (`Any`):
            The row as JSON or YAML was read.
        place (`str`):
            File and line for messages.

    Returns:
        `BaseModel`: the typed row.

    Raises:
        [`PreferansError`]: names the place, the key and the problem.
    """
    try:
        return row_type.model_validate(row)
    except ValidationError as error:
        raise PreferansError(f"{place}: {row_problem_in_words(error, row_type)}") from None


def row_problem_in_words(error: ValidationError, row_type: type[BaseModel]) -> str:
    """The first problem of a row as one sentence, such as `"'scores' must be an object, got 3."`."""
    first = error.errors()[0]
    where = [f"'{part}'" if isinstance(part, str) else f"item {part + 1}" for part in first["loc"]]
    name, got, keys = ", ".join(where), f"got {first['input']!r:.60}", list(row_type.model_fields)
    match first["type"]:
        case "extra_forbidden":
            key = str(first["loc"][-1])
            known = keys if len(where) == 1 else []
            listed = f" The keys are {', '.join(known)}." if known else ""
            return f"the key {name:.80} is unknown.{did_you_mean(key, known)}{listed}"
        case "missing":
            return f"{name} is missing." + (f" The keys are {', '.join(keys)}." if len(where) == 1 else "")
        case "value_error":
            return f"{name} {first['ctx']['error']}.".strip()
        case kind if kind in _TYPES:
            return f"{name or 'the row'} must be {_TYPES[kind]}, {got}."
        case _:
            return f"{name} {first['msg'].removeprefix('Input ')}, {got}."
