"""A file of answers that grows while a model speaks, and with which a stopped command goes on."""

import json
import os
from pathlib import Path
from typing import Any

from ..errors import PreferansError
from ..files import write_jsonl


def read_finished(path: Path, expected: dict[str, Any]) -> dict[str, dict]:
    """
    Answers that an earlier call has already written.

    Args:
        path (`Path`):
            File of answers. A last line that a kill cut short is passed over.
        expected (`dict`):
            Values that every answer must carry, so that answers of two settings never mix; `None` for a key that it must not have.

    Returns:
        `dict[str, dict]`: answers by id.

    Raises:
        [`PreferansError`]: when the file holds answers of another model or other settings, or is no file of answers.
    """
    if not path.exists():
        return {}
    lines = path.read_bytes().split(b"\n")
    finished: dict[str, dict] = {}
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            row = json.loads(line)
            row["id"], row["prompt"], row["answer"]
        except (ValueError, KeyError, TypeError):
            if number == len(lines):  # not ended by a newline: the kill came while it was written
                continue
            raise PreferansError(
                f"{path}, line {number}: this is no answer. Name another file, or delete it."
            ) from None
        for key, value in expected.items():
            if row.get(key) != value:
                raise PreferansError(
                    f"{path}: it holds answers with {key} {row.get(key)!r}, and this command says {value!r}. Name another "
                    "file, or delete it."
                )
        finished[row["id"]] = row
    return finished


class AnswersFile:
    """
    Answers of one system in a file of JSON lines, one answer a line: `id`, `prompt` (messages), `answer`, and what says where it comes
    from. What an earlier call has written there is kept.

    Args:
        output (`str` or `Path`):
            The file.
        prompts (`list[dict]`):
            `id` and `prompt` of all that is asked.
        constant (`dict`):
            What every answer carries: `model` (name of the system), `weights`, `sampling` and the like. A key with the value `None` is not
            written; answers in the file must not have it either.

    Attributes:
        missing (`list[dict]`): Those of `prompts` that have no answer yet.

    Raises:
        [`PreferansError`]: when the file holds answers of another system, of other settings or to other prompts.
    """

    def __init__(self, output: str | Path, prompts: list[dict], constant: dict[str, Any]):
        self.output = Path(output)
        if self.output.is_dir():
            raise PreferansError(f"{output}: this is a folder, and a file for the answers is needed.")
        self.output.parent.mkdir(parents=True, exist_ok=True)
        # Readers of answers know messages only: a plain text counts as one of the user's.
        self.asked = {
            row["id"]: [{"role": "user", "content": row["prompt"]}]
            if isinstance(row["prompt"], str)
            else row["prompt"]
            for row in prompts
        }
        self.constant = {key: value for key, value in constant.items() if value is not None}
        self.finished = read_finished(self.output, constant)
        strangers = [row["id"] for row in self.finished.values() if self.asked.get(row["id"]) != row["prompt"]]
        if strangers:
            raise PreferansError(
                f"{output}: {len(strangers)} of the answers in it are to other prompts than this command asks (such as "
                f"{strangers[0]}). Name another file, or delete it."
            )
        self.missing = [row for row in prompts if row["id"] not in self.finished]
        write_jsonl(self.output, list(self.finished.values()))  # drops a line cut short before more is appended

    def keep(self, answers: list[dict]) -> None:
        """Write answers for good: `id`, `answer`, `finish_reason` and what else belongs to each of them."""
        with open(self.output, "a", encoding="utf-8", newline="\n") as file:
            for row in answers:
                start = {"id": row["id"], "prompt": self.asked[row["id"]], "answer": row["answer"]}
                self.finished[row["id"]] = answer = start | self.constant | row
                file.write(json.dumps(answer, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def finish(self) -> list[dict]:
        """All answers, in the order of the prompts, which is now that of the file too."""
        answers = [self.finished[name] for name in self.asked]
        write_jsonl(self.output, answers)
        return answers
