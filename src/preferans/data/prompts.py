"""What is asked: prompts of a dataset's split, or of a file that anybody can write."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import PreferansError
from ..files import numbered_jsonl
from .folder import load_preferences
from .preferences import row_problem

PROMPT_FILES = (".jsonl", ".jsonl.gz", ".txt", ".parquet")


def is_prompt_file(name: str) -> bool:
    """Whether a name is that of a prompt file, and not of a dataset."""
    return name.endswith(PROMPT_FILES)


def prompt_problem(prompt: Any) -> str | None:
    """What is wrong with a prompt, which is a text or a list of messages that ends with one of the user; `None` for a sound one."""
    answers = {
        column: column if isinstance(prompt, str) else [{"role": "assistant", "content": column}]
        for column in ("chosen", "rejected")
    }
    problem = row_problem({"prompt": prompt} | answers)
    if problem is None:
        try:
            json.dumps(prompt, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            problem = "'prompt' holds half of a character (a lone surrogate)"
    return problem


def read_prompts(path: str | Path) -> list[dict]:
    """
    Read a file of prompts.

    Args:
        path (`str` or `Path`):
            `.txt`: one question a line. `.jsonl`, `.jsonl.gz` or `.parquet`: rows with `prompt`, a question or a list of messages, and
            `id` where they have one.

    Returns:
        `list[dict]`: the rows with all their keys. `prompt` is a list of messages; a question is one message of the user. `id` is a
        text; a row without one is called by the number of its line, and falls out where the same prompt stood before.

    Raises:
        [`PreferansError`]: names the line of the first row that is cut short, has no sound prompt, or has the id of another one.
    """
    path = Path(path)
    if not is_prompt_file(path.name):
        raise PreferansError(f"{path}: a file of prompts ends in {', '.join(PROMPT_FILES)}; this is another kind.")
    if not path.is_file():
        raise PreferansError(f"{path}: there is no such file.")
    rows, lines, seen = [], {}, set()
    for number, row in _rows(path):
        place = f"{path}, line {number}"
        if "prompt" not in row:
            raise PreferansError(
                f"{place}: 'prompt' is missing; the row has {', '.join(map(repr, row)) or 'nothing'}. Call what is asked 'prompt'."
            )
        prompt, name = row["prompt"], row.get("id")
        if isinstance(prompt, str) and prompt.strip():
            prompt = [{"role": "user", "content": prompt.strip()}]
        elif isinstance(prompt, str):
            raise PreferansError(f"{place}: 'prompt' is empty. Write what is asked, or drop the row.")
        problem = prompt_problem(prompt)
        if problem:
            raise PreferansError(f"{place}: {problem}.")
        if name is not None and (isinstance(name, bool) or not isinstance(name, str | int) or not str(name).strip()):
            raise PreferansError(f"{place}: 'id' must be a text or a whole number, got {name!r:.60}.")
        prompt = [{"role": message["role"], "content": message["content"]} for message in prompt]
        key = json.dumps(prompt, ensure_ascii=False)
        if name is None and key in seen:
            continue
        seen.add(key)
        name = str(number if name is None else name)
        if name in lines:
            raise PreferansError(
                f"{place}: the prompt in line {lines[name]} has the id '{name}' already. Give each its own, or leave all ids out."
            )
        lines[name] = number
        rows.append(row | {"id": name, "prompt": prompt})
    if not rows:
        raise PreferansError(f"{path}: there is not one prompt in it.")
    return rows


def _rows(path: Path) -> Iterator[tuple[int, dict]]:
    """Rows of a prompt file with the number of their line, or, in a .parquet file, of their row."""
    if path.suffix == ".parquet":
        import polars as pl

        try:
            rows = pl.read_parquet(path).to_dicts()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise PreferansError(
                f"{path}: this is no whole parquet file ({' '.join(str(error).split()):.200}). Fetch or write it again."
            ) from None
        yield from enumerate(rows, start=1)
    elif path.suffix == ".txt":
        for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
            try:
                text = line.decode("utf-8").strip()
            except UnicodeDecodeError as error:
                raise PreferansError(
                    f"{path}, line {number}: this is not UTF-8 text ({error}). Save it as UTF-8."
                ) from None
            if text:
                yield number, {"prompt": text}
    else:
        yield from numbered_jsonl(path)


def split_rows(name: str, split: str) -> list[dict]:
    """
    Rows of one split of a dataset, with sound prompts.

    Args:
        name (`str`):
            Folder, or id of a dataset on the Hub, with the column `prompt`: messages, or texts with the marks of a template in them.
        split (`str`):
            The split.

    Raises:
        [`PreferansError`]: when there is no such split, or a prompt is not sound.
    """
    dataset = load_preferences(name)
    if split not in dataset:
        raise PreferansError(f"--split {split}: {name} has only {', '.join(dataset)}.")
    rows = dataset[split].to_list()
    if not rows:
        raise PreferansError(f"{name}, split {split}: there is not one row in it.")
    for number, row in enumerate(rows, start=1):
        problem = prompt_problem(row.get("prompt"))
        if problem:
            raise PreferansError(f"{name}, split {split}, row {number}: {problem}.")
    return rows


def distinct_prompts(rows: list[dict]) -> list[dict]:
    """
    Prompts of a preference dataset, each once.

    Args:
        rows (`list[dict]`):
            Rows with `prompt` and, if there is one, `id`.

    Returns:
        `list[dict]`: `id` and `prompt`, in the order of the rows; several pairs of one prompt give one entry.

    Raises:
        [`PreferansError`]: when two prompts have the same id, by which answers are told apart.
    """
    seen, names, prompts = set(), set(), []
    for number, row in enumerate(rows):
        key = json.dumps(row["prompt"], ensure_ascii=False)
        if key in seen:
            continue
        name = str(row.get("id") or number)
        if name in names:
            raise PreferansError(
                f"Row {number + 1}: another prompt has the id '{name}' already. Give each row its own."
            )
        seen.add(key)
        names.add(name)
        prompts.append({"id": name, "prompt": row["prompt"]})
    return prompts
