"""Read prompts from a split of a dataset, or from a file."""

import json
from collections.abc import Iterator
from pathlib import Path

from ..errors import PreferansError
from ..files import decode_utf8, numbered_jsonl
from ..utf8 import HALF_CHARACTER, is_unicode
from .folder import load_preferences, missing_splits
from .preferences import prompt_problem
from .tables import read_parquet_rows

PROMPT_FILES = (".jsonl", ".jsonl.gz", ".txt", ".parquet")


def is_prompt_file(name: str) -> bool:
    """Check whether a name is that of a prompt file, and not of a dataset."""
    return name.lower().endswith(PROMPT_FILES)


def read_prompts(path: str | Path) -> list[dict]:
    """
    Read a file of prompts.

    Args:
        path (`str` or `Path`):
            `.txt`: one question per line. `.jsonl`, `.jsonl.gz` or `.parquet`: rows with `prompt`, a question or a list of messages, and
            optionally `id`.

    Returns:
        `list[dict]`: the rows with all their keys. `prompt` is a list of messages; a question becomes one message of the user. `id` is a
        text. A row without an id gets the number of its line, and is dropped if the same prompt occurs before.

    Raises:
        [`PreferansError`]: names the line of the first row that cannot be read, has an invalid prompt, or repeats an id.
    """
    path = Path(path)
    if not is_prompt_file(path.name):
        raise PreferansError(f"{path}: a file of prompts must end in {', '.join(PROMPT_FILES)}.")
    if path.is_dir():
        raise PreferansError(f"{path}: this is a folder; a file is needed. For a dataset, use --dataset_name.")
    if not path.is_file():
        raise PreferansError(f"{path}: there is no such file.")
    rows, seen = [], set()
    lines: dict[str, int] = {}
    for number, row in _numbered_rows(path):
        location = f"{path}, line {number}"
        prompt, name = _read_prompt(row, location), _read_id(row, location)
        key = json.dumps(prompt, ensure_ascii=False)
        if name is None and key in seen:
            continue
        seen.add(key)
        name = name or str(number)
        if name in lines:
            raise PreferansError(
                f"{location}: the prompt in line {lines[name]} already has the id '{name}'. Give each prompt its own id, or leave all "
                "ids out."
            )
        lines[name] = number
        rows.append(row | {"id": name, "prompt": prompt})
    if not rows:
        raise PreferansError(f"{path}: the file has no prompts.")
    return rows


def _read_prompt(row: dict, location: str) -> list[dict]:
    if "prompt" not in row:
        raise PreferansError(
            f"{location}: 'prompt' is missing; the row has {', '.join(map(repr, row)) or 'no keys'}. Rename the key of the question to "
            "'prompt'."
        )
    prompt = row["prompt"]
    if isinstance(prompt, str):
        if not prompt.strip():
            raise PreferansError(f"{location}: 'prompt' is empty. Write a question, or drop the row.")
        prompt = [{"role": "user", "content": prompt.strip()}]
    if problem := prompt_problem(prompt):
        raise PreferansError(f"{location}: {problem}.")
    return [{"role": message["role"], "content": message["content"]} for message in prompt]


def _read_id(row: dict, location: str) -> str | None:
    name = row.get("id")
    if name is not None and (isinstance(name, bool) or not isinstance(name, str | int) or not str(name).strip()):
        raise PreferansError(f"{location}: 'id' must be a text or an integer, got {name!r:.60}.")
    if name is not None and not is_unicode(str(name)):
        raise PreferansError(f"{location}: 'id' {HALF_CHARACTER}. Correct it, or leave all ids out.")
    return None if name is None else str(name)


def _numbered_rows(path: Path) -> Iterator[tuple[int, dict]]:
    """Read the rows of a prompt file with the number of their line or, in a `.parquet` file, of their row."""
    if path.suffix.lower() == ".parquet":
        yield from enumerate(read_parquet_rows(path), start=1)
    elif path.suffix.lower() == ".txt":
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            if text := decode_utf8(line, f"{path}, line {number}").strip():
                yield number, {"prompt": text}
    else:
        yield from numbered_jsonl(path)


def split_rows(name: str, split: str) -> list[dict]:
    """
    Load the rows of one split of a dataset, with valid prompts.

    Args:
        name (`str`): Folder, or id of a dataset on the Hub, with the column `prompt`: messages, or texts that a template has formatted.
        split (`str`): The split.

    Raises:
        [`PreferansError`]: if there is no such split, it is empty, or a prompt is invalid.
    """
    dataset = load_preferences(name)
    if missing := missing_splits({"--split": split}, dataset, "{} {}"):
        raise PreferansError(f"--split {split}: {name}: {missing}")
    rows = dataset[split].to_list()
    if not rows:
        raise PreferansError(f"{name}, split {split}: the split is empty.")
    for number, row in enumerate(rows, start=1):
        if problem := prompt_problem(row.get("prompt")):
            raise PreferansError(f"{name}, split {split}, row {number}: {problem}.")
    return rows


def distinct_prompts(rows: list[dict]) -> list[dict]:
    """
    List the prompts of a preference dataset, each once.

    Args:
        rows (`list[dict]`): Rows with `prompt` and optionally `id`.

    Returns:
        `list[dict]`: `id` and `prompt` of the first pair of each prompt, in the order of the rows.

    Raises:
        [`PreferansError`]: if two prompts have the same id, which identifies answers.
    """
    prompts: dict[str, dict] = {}
    names = set()
    for number, row in enumerate(rows):
        key = json.dumps(row["prompt"], ensure_ascii=False)
        if key in prompts:
            continue
        name = str(row.get("id") or number)
        if name in names:
            raise PreferansError(
                f"Row {number + 1}: another prompt already has the id '{name}'. Give each prompt its own id."
            )
        names.add(name)
        prompts[key] = {"id": name, "prompt": row["prompt"]}
    return list(prompts.values())
