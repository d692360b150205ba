"""Keys and values of other tools and of older versions of TRL, and what to write instead."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from ..errors import did_you_mean

_TABLE = yaml.safe_load((Path(__file__).parent / "foreign_keys.yaml").read_text(encoding="utf-8"))
FOREIGN_KEYS: dict[str, str] = _TABLE["keys"]
# Other tools separate the values of these keys by commas in one text.
LIST_KEYS = (
    "loss_type",
    "loss_weights",
    "lora_modules_to_save",
    "lora_target_modules",
    "optim_target_modules",
    "report_to",
)
FOREIGN_VALUES: dict[str, dict[str, str]] = _TABLE["values"]


def key_remedy(key: str, value: Any, known: Collection[str], line: str) -> str:
    """
    Return what to write instead of an unknown key.

    Args:
        key (`str`), value (`Any`): The key and its value as YAML reads it.
        known (`Collection[str]`): Allowed keys.
        line (`str`): Form of a line, such as `"{}: {}"`.

    Returns:
        `str`: one sentence.
    """
    plain = key.strip().lower().replace("-", "_").replace(" ", "_")
    remedy = FOREIGN_KEYS.get(plain, plain if plain in known else None)
    if remedy is None:
        beginning = [name for name in known if name.startswith(plain)]
        near = f" Did you mean '{beginning[0]}'?" if len(beginning) == 1 else did_you_mean(plain, known)
        return near.strip() or "Remove it; --help_keys lists every key."
    if " " in remedy:
        return remedy
    if remedy not in known:
        return "Remove it: this script does not have it."
    if instead := value_remedy(remedy, value):
        return f"Its name is '{remedy}'. {instead}"
    if value is None or isinstance(value, dict):
        return f"Its name is '{remedy}'."
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1000).split("\n")[0]
    return f"Write '{line.format(remedy, text)}'."


def value_remedy(key: str, value: Any) -> str | None:
    """Return what to write instead of a value that other tools have, or `None` for other values."""
    if key in LIST_KEYS and isinstance(value, str) and re.fullmatch(r"[\w.-]+( *, *[\w.-]+)+", value):
        return f"Write '{key}: [{', '.join(word.strip() for word in value.split(','))}]'."
    words = value if isinstance(value, list) else [value]
    remedies = FOREIGN_VALUES.get(key, {})
    return next((remedies[word] for word in words if isinstance(word, str) and word in remedies), None)
