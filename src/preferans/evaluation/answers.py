"""Read the answers of several systems, and align them prompt by prompt."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, field_validator

from ..data.folder import load_preferences
from ..data.preferences import ROLES, check_rows
from ..data.ratings import TIE
from ..errors import PreferansError, did_you_mean
from ..files import numbered_jsonl
from ..typed_rows import AnyText, Row, Text, check_row
from .probes import read_probes

# Name of the system whose answers are human replies.
HUMAN = "human"
# Keys that scripts/generate.py writes about how an answer was generated.
PROVENANCE_KEYS = ("weights", "sampling", "persona")


class _AnswerMessage(Row):
    model_config = ConfigDict(extra="allow", strict=True)

    role: str
    content: AnyText

    @field_validator("role")
    @classmethod
    def _check_role(cls, role: str) -> str:
        if role not in ROLES:
            raise ValueError(f"is {role!r:.60}; the known roles are {', '.join(ROLES)}. Remove such messages")
        return role


class _AnswerRow(Row):
    model_config = ConfigDict(extra="allow", strict=True)

    id: Text
    prompt: list[_AnswerMessage]
    answer: AnyText
    model: Text
    finish_reason: str | None

    @field_validator("prompt")
    @classmethod
    def _check_prompt(cls, prompt: list[_AnswerMessage]) -> list[_AnswerMessage]:
        if all(message.role == "system" for message in prompt):
            raise ValueError("has no message other than the system's")
        return prompt

    @field_validator("model")
    @classmethod
    def _check_model(cls, model: str) -> str:
        if model == TIE:
            raise ValueError(f"must not be '{TIE}', which is the verdict if no answer is better. Set another --label")
        return model


@dataclass
class System:
    """
    A system and its answers.

    Args:
        name (`str`): Its name, the `model` of its answers.
        source (`str`): File or dataset of the answers.
        rows (`dict[str, dict]`): Answers by id: `prompt` (messages), `answer` and `finish_reason`.
        kind (`str`, *optional*, defaults to `"answers"`): `"answers"` of a model, or `"human"`.
        weights (`dict`, *optional*), sampling (`dict`, *optional*), persona (`dict`, *optional*):
            How the answers were generated, as `scripts/generate.py` wrote it; `None` if it did not, or if not all answers agree.
    """

    name: str
    source: str
    rows: dict[str, dict]
    kind: str = "answers"
    weights: dict[str, Any] | None = None
    sampling: dict[str, Any] | None = None
    persona: dict[str, Any] | None = None


def read_systems(path: str) -> list[System]:
    """
    Read the systems of an answers file.

    Args:
        path (`str`):
            JSON lines as `scripts/generate.py` writes them; rows with different `model`s are different systems.

    Returns:
        `list[System]`: in the order of their first answers.

    Raises:
        [`PreferansError`]: if there is no answer, a row is invalid, or a system has two answers to one prompt.
    """
    by_name: dict[str, dict[str, dict]] = {}
    for number, row in numbered_jsonl(path):
        location = f"{path}, line {number}"
        check_row(_AnswerRow, row, location)
        rows = by_name.setdefault(row["model"], {})
        if row["id"] in rows:
            raise PreferansError(
                f"{location}: '{row['model']}' has a second answer to {row['id']}. Keep one of the two, or give the other another 'model'."
            )
        rows[row["id"]] = row
    if not by_name:
        raise PreferansError(f"{path}: there are no answers in this file.")
    return [
        System(name, Path(path).as_posix(), rows, **{key: _common_value(rows, key) for key in PROVENANCE_KEYS})
        for name, rows in by_name.items()
    ]


def _common_value(rows: dict[str, dict], key: str) -> Any:
    values = [row.get(key) for row in rows.values()]
    return values[0] if all(value == values[0] for value in values) else None


def without_system(prompt: Iterable[dict]) -> list[dict]:
    """Return a prompt's messages without the system's, which makes prompts with and without a persona equal."""
    return [
        {"role": message["role"], "content": message["content"]} for message in prompt if message["role"] != "system"
    ]


def prompt_key(prompt: Iterable[dict]) -> str:
    """Return a text that is equal for prompts with equal messages, apart from the system's."""
    return json.dumps(without_system(prompt), ensure_ascii=False)


def prompts_sha256(prompts: dict[str, list[dict]]) -> str:
    """Hexadecimal SHA-256 of the prompts and their ids, the same in every order."""
    text = json.dumps([[name, without_system(prompts[name])] for name in sorted(prompts)], ensure_ascii=False)
    return _sha256(text)


def answers_sha256(texts: Iterable[str]) -> list[str]:
    """Hexadecimal SHA-256 of each answer."""
    return [_sha256(text) for text in texts]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def line_up(systems: Sequence[System]) -> dict[str, list[dict]]:
    """
    Check that the systems answered the same prompts, and return the prompts.

    Args:
        systems (`Sequence[System]`): At least one.

    Returns:
        `dict[str, list[dict]]`: messages by id, in the order of the ids. A system message is left out if it differs between answers.

    Raises:
        [`PreferansError`]: if two systems have the same name, or did not answer the same prompts.
    """
    by_name: dict[str, System] = {}
    for system in systems:
        if system.name in by_name:
            source = by_name[system.name].source
            if same_file(source, system.source):
                raise PreferansError(f"{system.source}: the file is named twice. Name it once.")
            raise PreferansError(
                f"{source} and {system.source} both have a system '{system.name}'. Set a different --label when you generate."
            )
        by_name[system.name] = system
    first, *others = systems
    for other in others:
        _check_same_prompts(first, other)
    prompts = {}
    for name in sorted(first.rows):
        prompt = [{key: message[key] for key in ("role", "content")} for message in first.rows[name]["prompt"]]
        same = all(other.rows[name]["prompt"] == first.rows[name]["prompt"] for other in others)
        prompts[name] = prompt if same else without_system(prompt)
    return prompts


def _check_same_prompts(first: System, other: System) -> None:
    names = " and ".join(f"{system.source} ('{system.name}')" for system in (first, other))
    missing, extra = first.rows.keys() - other.rows.keys(), other.rows.keys() - first.rows.keys()
    if missing and extra:
        raise PreferansError(
            f"{names} answer different prompts ({min(missing | extra)} is not in both), so they cannot be compared. Generate both with "
            "the same dataset, split and --max_prompts."
        )
    if missing or extra:
        short = other if missing else first
        raise PreferansError(
            f"{names} have {len(first.rows)} and {len(other.rows)} answers. If {short.source} is unfinished, run its generate command "
            "again to resume it; otherwise generate both with the same --max_prompts."
        )
    for name in sorted(first.rows):
        if without_system(first.rows[name]["prompt"]) != without_system(other.rows[name]["prompt"]):
            raise PreferansError(
                f"{names} answer different prompts (the id {name} has different messages), so they cannot be compared. Generate both with "
                "the same dataset and split."
            )


def pick(name: str, systems: Sequence[System]) -> System:
    """
    Find the baseline among the systems.

    Args:
        name (`str`): Name of a system, or the file of its answers.
        systems (`Sequence[System]`): The systems.

    Raises:
        [`PreferansError`]: if there is no such system, or the file has several.
    """
    matches = [system for system in systems if system.kind == "answers" and same_file(system.source, name)]
    matches = matches or [system for system in systems if system.name == name]
    known = [system.name for system in matches or systems]
    if not matches:
        raise PreferansError(
            f"--baseline {name}: there is no such file, and no such system among {', '.join(known)}.{did_you_mean(name, known)}"
        )
    if len(matches) > 1:
        raise PreferansError(f"--baseline {name}: the file has several systems. Name one of them: {', '.join(known)}.")
    return matches[0]


def same_file(first: str, second: str) -> bool:
    """Whether two paths lead to the same file."""
    return Path(first).resolve() == Path(second).resolve()


def human_replies(dataset_name: str, prompts: dict[str, list[dict]]) -> tuple[System, dict[str, list[str]]]:
    """
    Find human replies to the prompts: the `chosen` answers of a preference dataset.

    Args:
        dataset_name (`str`): Folder, or id of a dataset on the Hub; all splits are searched.
        prompts (`dict[str, list[dict]]`): Messages by id, see [`line_up`]. They are matched by their messages, not by the id.

    Returns:
        `tuple[System, dict[str, list[str]]]`: the replies as a system (the one with the best `chosen_rank` if a prompt has several,
        otherwise the first), and all different replies by id.

    Raises:
        [`PreferansError`]: if the dataset has no reply to a prompt.
    """
    replies = _ranked_replies(dataset_name)
    missing = [name for name in prompts if prompt_key(prompts[name]) not in replies]
    if missing:
        raise PreferansError(
            f"--human {dataset_name}: it has no reply to {len(missing)} of the {len(prompts)} prompts (such as {missing[0]}). Name the "
            "dataset of the answered prompts."
        )
    rows, references = {}, {}
    for name, prompt in prompts.items():
        ranked = replies[prompt_key(prompt)]
        best = min(ranked, key=lambda reply: reply[0])[1]
        rows[name] = {"id": name, "prompt": prompt, "answer": best, "finish_reason": None}
        references[name] = list(dict.fromkeys(text for _, text in ranked))
    return System(HUMAN, dataset_name, rows, kind="human"), references


def _ranked_replies(dataset_name: str) -> dict[str, list[tuple[float, str]]]:
    """Ranks and texts of the chosen replies, by [`prompt_key`]."""
    replies: dict[str, list[tuple[float, str]]] = {}
    for split, dataset in load_preferences(dataset_name).items():
        rows = dataset.to_list()
        check_rows(rows, f"{dataset_name}, split {split}")
        for row in rows:
            plain = isinstance(row["prompt"], str)
            prompt = [{"role": "user", "content": row["prompt"]}] if plain else row["prompt"]
            reply = row["chosen"] if plain else row["chosen"][0]["content"]
            rank = row.get("chosen_rank")
            replies.setdefault(prompt_key(prompt), []).append((float("inf") if rank is None else rank, reply.strip()))
    return replies


def probes_of(files: Sequence[str], prompts: dict[str, list[dict]]) -> dict[str, dict]:
    """
    Select the probes that were answered.

    Args:
        files (`Sequence[str]`): Files of probes, see [`~preferans.evaluation.probes.read_probes`].
        prompts (`dict[str, list[dict]]`): Messages by id, see [`line_up`].

    Returns:
        `dict[str, dict]`: probes by id.

    Raises:
        [`PreferansError`]: if no prompt is a probe of these files, or the prompt with a probe's id has other messages.
    """
    probes = {name: probe for path in files for name, probe in read_probes(path).items() if name in prompts}
    names = ", ".join(files)
    if not probes:
        raise PreferansError(
            f"--probes {names}: none of the answered prompts is in it. First generate answers with this file as --prompts of "
            "scripts/generate.py."
        )
    for name, probe in probes.items():
        if without_system(probe["prompt"]) != without_system(prompts[name]):
            raise PreferansError(
                f"--probes {names}: the prompt {name} differs from the answered one. Generate the answers again, or name the file that "
                "was used to generate them."
            )
    return probes
