"""Ratings that are given during a chat, in the format of docs/ratings.md."""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ..errors import PreferansError, disk_errors
from .items import RatedAnswer, short_digest


def chat_rating(
    rater: str, prompt: list[dict], answers: Sequence[RatedAnswer], verdict: str | None, thumbs: dict[str, str] | None
) -> dict:
    """
    Return a judgement of one or two answers to the last message of a chat.

    Args:
        rater (`str`): Name of the rater.
        prompt (`list[dict]`): Messages before the answers. Prompts with the same opening question are one conversation.
        answers (`Sequence[RatedAnswer]`): In the order in which they were shown.
        verdict (`str`, *optional*), thumbs (`dict[str, str]`, *optional*): As in docs/ratings.md.
    """
    opening = next(message["content"] for message in prompt if message["role"] != "system")
    row = {
        "rater": rater,
        "prompt_id": short_digest(json.dumps(prompt, ensure_ascii=False)),
        "prompt": prompt,
        "message_tree_id": short_digest(opening),
        "answers": [{"id": answer.id, "model": answer.model, "text": answer.text} for answer in answers],
        "verdict": verdict,
        "scores": None,
        "rated_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    return row | ({"thumbs": thumbs} if thumbs else {})


def append_rating(path: str | Path, row: dict) -> None:
    """
    Add a line to a file of ratings. It is on the disk when the function returns.

    A last line that a killed process cut is removed first. A whole one that only lacks its line break, as editors leave it, is kept.

    Raises:
        [`PreferansError`]: if the path is a folder or the disk is full.
    """
    path = Path(path)
    if path.is_dir():
        raise PreferansError(f"--ratings {path}: this is a folder; name a file, such as ratings/chat.jsonl.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with disk_errors(path), open(path, "a+b") as file:
        file.seek(0)
        content = file.read()
        start = content.rfind(b"\n") + 1
        if _is_json(content[start:]):
            file.write(b"\n")
        else:
            file.truncate(start)
        file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
        file.flush()
        os.fsync(file.fileno())


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
