"""Answers of several systems to the same prompts: read, checked, and lined up prompt by prompt."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.folder import load_preferences
from ..data.preferences import ROLES, check_rows
from ..data.ratings import TIE
from ..errors import PreferansError, did_you_mean
from ..files import read_jsonl, writable
from .probes import read_probes

# Name of the system whose answers are people's.
HUMAN = "human"
# What scripts/generate.py says of where answers come from.
ORIGIN_KEYS = ("weights", "sampling", "persona")
ANSWER_KEYS = ("id", "prompt", "answer", "model", "finish_reason")


@dataclass
class System:
    """
    One system and what it answered.

    Args:
        name (`str`):
            Its name, the `model` of its answers.
        source (`str`):
            File or dataset that the answers come from.
        rows (`dict[str, dict]`):
            Answers by id: `prompt` (messages), `answer` and `finish_reason`.
        kind (`str`, *optional*, defaults to `"answers"`):
            `"answers"` of a model, or `"human"`.
        weights (`dict`, *optional*), sampling (`dict`, *optional*), persona (`dict`, *optional*):
            Where the answers come from, as `scripts/generate.py` wrote it; `None` where it did not, or not the same in all of them.
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
        [`PreferansError`]: when there is no answer, one is not sound, or a system has two answers to one prompt.
    """
    by_name: dict[str, dict[str, dict]] = {}
    for number, row in enumerate(read_jsonl(path), start=1):
        problem = _row_problem(row)
        if problem:
            raise PreferansError(f"{path}, answer {number}: {problem}. Answers are made by scripts/generate.py.")
        rows = by_name.setdefault(row["model"], {})
        if row["id"] in rows:
            raise PreferansError(
                f"{path}, answer {number}: '{row['model']}' has answered {row['id']} already. Keep one of the two answers, or give the "
                "other its own 'model'."
            )
        rows[row["id"]] = row
    if not by_name:
        raise PreferansError(f"{path}: there is not one answer in it.")
    return [
        System(name, Path(path).as_posix(), rows, **{key: _common(rows, key) for key in ORIGIN_KEYS})
        for name, rows in by_name.items()
    ]


def _row_problem(row: dict) -> str | None:
    for key in ANSWER_KEYS:
        if key not in row:
            return f"'{key}' is missing"
    for key in ("id", "model"):
        if not isinstance(row[key], str) or not row[key].strip():
            return f"'{key}' must be a text that is not empty, got {row[key]!r:.60}"
    if not isinstance(row["answer"], str):
        return f"'answer' must be a text, got {row['answer']!r:.60}"
    if not isinstance(row["finish_reason"], str | None):
        return f"'finish_reason' must be a text such as 'stop' or 'length', or null, got {row['finish_reason']!r:.60}"
    prompt = row["prompt"]
    if not isinstance(prompt, list) or not all(
        isinstance(message, dict) and all(isinstance(message.get(key), str) for key in ("role", "content"))
        for message in prompt
    ):
        return (
            f'\'prompt\' must be a list of messages such as [{{"role": "user", "content": "…"}}], got {prompt!r:.60}'
        )
    if row["model"] == TIE:
        return f"'model' must not be '{TIE}', which is what a verdict says where no answer is better: give it another --label"
    strange = {message["role"] for message in prompt} - set(ROLES)
    if strange:
        return f"'prompt' has a message of the role {min(strange)!r:.60}; known are {', '.join(ROLES)}: leave out such messages"
    for text in (row["id"], row["model"], row["answer"], *(message["content"] for message in prompt)):
        if writable(text) != text:
            return (
                f"it holds half of a character (a lone surrogate), which no file in UTF-8 can keep: mend {text!r:.60}"
            )
    return None if without_system(prompt) else "'prompt' has no message but the system's"


def _common(rows: dict[str, dict], key: str) -> Any:
    values = [row.get(key) for row in rows.values()]
    return values[0] if all(value == values[0] for value in values) else None


def without_system(prompt: list[dict]) -> list[dict]:
    """
    A prompt's messages without the system's: what is asked is the same, whether or not a persona stands in front of it.
    """
    return [
        {"role": message["role"], "content": message["content"]} for message in prompt if message["role"] != "system"
    ]


def line_up(systems: Sequence[System]) -> dict[str, list[dict]]:
    """
    The prompts that the systems answered.

    Args:
        systems (`Sequence[System]`):
            At least one.

    Returns:
        `dict[str, list[dict]]`: messages by id, in the order of the ids. Messages of the system are left out where it is not the same
        in all answers.

    Raises:
        [`PreferansError`]: when two systems have one name, or did not answer the same prompts.
    """
    by_name: dict[str, System] = {}
    for system in systems:
        if system.name in by_name:
            if same_file(by_name[system.name].source, system.source):
                raise PreferansError(f"{system.source}: the file is named twice. Name it once.")
            places = f"{by_name[system.name].source} and {system.source}"
            raise PreferansError(
                f"{places} name the same system '{system.name}' twice: give each a --label when generating."
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
    names = f"{_called(first)} and {_called(other)}"
    missing, strange = first.rows.keys() - other.rows.keys(), other.rows.keys() - first.rows.keys()
    if missing and strange:
        raise PreferansError(
            f"{names} answer different prompts ({min(missing | strange)} is not in both), so they cannot be compared. "
            "Make both with the same prompts: the same dataset, split and --max_prompts."
        )
    if missing or strange:
        short = other if missing else first
        raise PreferansError(
            f"{names} have {len(first.rows)} and {len(other.rows)} answers. If {short.source} is not finished, give its generate command "
            "again, and it goes on where it stopped; else make both with the same --max_prompts."
        )
    for name in sorted(first.rows):
        if without_system(first.rows[name]["prompt"]) != without_system(other.rows[name]["prompt"]):
            raise PreferansError(
                f"{names} answer different prompts (under the id {name} they were not asked the same), so they cannot be compared. "
                "Make both with the same dataset and split."
            )


def _called(system: System) -> str:
    return f"{system.source} ('{system.name}')"


def pick(name: str, systems: Sequence[System]) -> System:
    """
    The baseline among the systems.

    Args:
        name (`str`):
            Name of a system, or the file of its answers.
        systems (`Sequence[System]`):
            The systems.

    Raises:
        [`PreferansError`]: when there is no such system, or several are in the file.
    """
    found = [system for system in systems if system.kind == "answers" and same_file(system.source, name)]
    found = found or [system for system in systems if system.name == name]
    known = [system.name for system in found or systems]
    if not found:
        raise PreferansError(
            f"--baseline {name}: there is no such file, and no such system among {', '.join(known)}.{did_you_mean(name, known)}"
        )
    if len(found) > 1:
        raise PreferansError(
            f"--baseline {name}: the file holds several systems. Name one of them: {', '.join(known)}."
        )
    return found[0]


def same_file(first: str, second: str) -> bool:
    """Whether two paths are of one file."""
    return Path(first).resolve() == Path(second).resolve()


def human_replies(dataset_name: str, prompts: dict[str, list[dict]]) -> tuple[System, dict[str, list[str]]]:
    """
    What people answered to the prompts: the `chosen` of a preference dataset.

    Args:
        dataset_name (`str`):
            Folder, or id of a dataset on the Hub; all of its splits are searched.
        prompts (`dict[str, list[dict]]`):
            Messages by id, see [`line_up`]. They are matched by what is asked, not by the id.

    Returns:
        `tuple[System, dict[str, list[str]]]`: the replies as a system (of several to one prompt the one of the best `chosen_rank`, or
        else the first), and all different ones by id.

    Raises:
        [`PreferansError`]: when the dataset does not answer a prompt.
    """
    replies: dict[str, list[tuple[float, str]]] = {}
    for split, dataset in load_preferences(dataset_name).items():
        rows = dataset.to_list()
        check_rows(rows, f"{dataset_name}, split {split}")
        for row in rows:
            plain = isinstance(row["prompt"], str)
            prompt = [{"role": "user", "content": row["prompt"]}] if plain else row["prompt"]
            reply = row["chosen"] if plain else row["chosen"][0]["content"]
            rank = row.get("chosen_rank")
            replies.setdefault(_key(prompt), []).append((float("inf") if rank is None else rank, reply.strip()))
    missing = [name for name in prompts if _key(prompts[name]) not in replies]
    if missing:
        raise PreferansError(
            f"--human {dataset_name}: it has no reply to {len(missing)} of the {len(prompts)} prompts (such as {missing[0]}). Name the "
            "dataset whose prompts were answered."
        )
    found = {name: replies[_key(prompt)] for name, prompt in prompts.items()}
    rows = {
        name: {
            "id": name,
            "prompt": prompts[name],
            "answer": min(texts, key=lambda ranked: ranked[0])[1],
            "finish_reason": None,
        }
        for name, texts in found.items()
    }
    references = {name: list(dict.fromkeys(text for _, text in texts)) for name, texts in found.items()}
    return System(HUMAN, dataset_name, rows, kind="human"), references


def probes_of(files: Sequence[str], prompts: dict[str, list[dict]]) -> dict[str, dict]:
    """
    The probes that were answered.

    Args:
        files (`Sequence[str]`):
            Files of probes, see [`~preferans.evaluation.probes.read_probes`].
        prompts (`dict[str, list[dict]]`):
            Messages by id, see [`line_up`].

    Returns:
        `dict[str, dict]`: probes by id.

    Raises:
        [`PreferansError`]: when no prompt is a probe of these files, or one with a probe's id asks something else.
    """
    probes = {name: probe for path in files for name, probe in read_probes(path).items() if name in prompts}
    places = ", ".join(files)
    if not probes:
        raise PreferansError(
            f"--probes {places}: none of the prompts that were answered is in it. Answer the probes first: they are a file of prompts "
            "for scripts/generate.py."
        )
    for name, probe in probes.items():
        if without_system(probe["prompt"]) != without_system(prompts[name]):
            raise PreferansError(
                f"--probes {places}: the prompt {name} is not the one that was answered. Generate the answers anew, or name the file "
                "that they were made with."
            )
    return probes


def _key(prompt: Iterable[dict]) -> str:
    return json.dumps(without_system(list(prompt)), ensure_ascii=False)


def prompts_sha256(prompts: dict[str, list[dict]]) -> str:
    """SHA-256 over the prompts and their ids, as hexadecimal digits: the same in every order."""
    text = json.dumps([[name, without_system(prompts[name])] for name in sorted(prompts)], ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
