"""Read the rows of a dataset in any of TRL's preference formats, invalid rows included."""

import re
from pathlib import Path
from typing import Any

from datasets import load_dataset_builder

from ..errors import PreferansError
from ..files import iter_jsonl, read_json
from .folder import load_preferences, readable_name
from .preferences import messages_in_text
from .tables import read_parquet_rows

_JSON_ENDINGS = (".jsonl", ".json")
LANGUAGE_TAG = re.compile(r"[a-z]{2,3}([-_]\w+)?")


def read_dataset(name: str, config: str | None = None) -> dict[str, list]:
    """
    Read the rows of a dataset, invalid rows included.

    Args:
        name (`str`):
            Folder, file (see [`~preferans.data.local_files.dataset_files`]), or id of a dataset on the Hub. JSON lines are read one by one, so that a value of
            another type than in the row before is read too.
        config (`str`, *optional*):
            Configuration of the dataset.

    Returns:
        `dict[str, list]`: the rows by split. A single file is the split `train`.

    Raises:
        [`PreferansError`]: if there is no such dataset, it cannot be read, or it has no rows.
    """
    path = Path(name)
    if path.is_file():
        splits = {"train": _file_rows(path)}
    elif path.is_dir():
        splits = _folder_rows(name, config)
    else:
        splits = _loaded_rows(name, config)
    if not any(splits.values()):
        raise PreferansError(f"DATASET {name}: the dataset is empty.")
    return splits


def _file_rows(path: Path) -> list:
    if path.suffix.lower() == ".parquet":
        return read_parquet_rows(path)
    if path.suffix.lower() not in _JSON_ENDINGS:  # such as CSV
        return _loaded_rows(str(path), None)["train"]
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        is_list = file.read(1000).lstrip().startswith("[")
    return read_json(path) if is_list else list(iter_jsonl(path))


def _folder_rows(name: str, config: str | None) -> dict[str, list]:
    folder, cache = readable_name(name)
    if folder != name:  # names that only a copy makes readable
        return _loaded_rows(name, config)
    try:
        data_files = load_dataset_builder(name, name=config, cache_dir=str(cache)).config.data_files
    except Exception:  # load_preferences reports the problem
        data_files = None
    files = [Path(file) for part in (data_files or {}).values() for file in part]
    saved = Path(name, "state.json").exists() or Path(name, "dataset_dict.json").exists()
    if files and not saved and all(file.suffix in _JSON_ENDINGS for file in files):
        return {
            str(split): [row for file in part for row in _file_rows(Path(file))] for split, part in data_files.items()
        }
    return _loaded_rows(name, config)


def _loaded_rows(name: str, config: str | None) -> dict[str, list]:
    return {split: rows.to_list() for split, rows in load_preferences(name, config).items()}


def dataset_format(splits: dict[str, list]) -> tuple[bool, bool]:
    """
    Find the format of most rows.

    Returns:
        `tuple[bool, bool]`: whether the answers are lists of messages, and whether the prompt is implicit.
    """
    rows = [row for part in splits.values() for row in part if isinstance(row, dict)]
    lists = [any(map(_is_messages, (row.get("prompt"), row.get("chosen")))) for row in rows]
    texts = [isinstance(row.get("chosen"), str) for row in rows]
    return 2 * sum(lists) >= sum(map(max, lists, texts)), 2 * sum("prompt" in row for row in rows) < len(rows)


def _is_messages(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, str) and messages_in_text(value) is not None)


def dataset_language(splits: dict[str, list]) -> str:
    """Return the language tag in `lang` if it is the same in all rows, and otherwise `"ru"`."""
    tags = [row.get("lang") if isinstance(row, dict) else None for rows in splits.values() for row in rows]
    tag = next(iter(tags), None)
    usable = isinstance(tag, str) and LANGUAGE_TAG.fullmatch(tag) and all(other == tag for other in tags)
    return str(tag) if usable else "ru"
