"""A file of answers that grows during generation and can be resumed."""

from pathlib import Path
from typing import Any

from ..errors import PreferansError
from ..resumable import ResumableRows
from ..text.thinking import without_thinking


class AnswersFile(ResumableRows):
    """
    Answers of one system as JSON lines: `id`, `prompt` (messages), `answer`, and how it was generated. Earlier answers are kept.

    Args:
        output (`str` or `Path`): The file.
        prompts (`list[dict]`): `id` and `prompt` of all prompts.
        constant (`dict`):
            Keys of every answer: `model` (name of the system), `weights`, `sampling` and others. A key with the value `None` is not
            written, and answers in the file must not have it.

    Attributes:
        missing (`list[dict]`): The prompts that have no answer yet.

    Raises:
        [`PreferansError`]: if the file has answers of another system, with other settings or to other prompts.
    """

    def __init__(self, output: str | Path, prompts: list[dict], constant: dict[str, Any]):
        # Readers of answers support messages only: a plain text counts as one of the user's.
        self.prompts = {
            row["id"]: [{"role": "user", "content": row["prompt"]}]
            if isinstance(row["prompt"], str)
            else row["prompt"]
            for row in prompts
        }
        self.constant = constant
        super().__init__(output, self._checked_id, "answer")
        self.missing = [row for row in prompts if row["id"] not in self.rows]

    def _checked_id(self, row: dict, location: str) -> str:
        name, prompt, _ = row["id"], row["prompt"], row["answer"]
        for key, value in self.constant.items():
            if row.get(key) != value:
                raise PreferansError(
                    f"{location}: this answer has {key} {row.get(key)!r}, but the command has {value!r}. Name another file, or delete it."
                )
        if self.prompts.get(name) != prompt:
            raise PreferansError(
                f"{location}: this answer is to a prompt ({name}) that the command does not have. Name another file, or delete it."
            )
        return name

    def complete(self, row: dict) -> dict[str, Any]:
        """
        Add prompt and constant keys to an answer: `id`, `answer`, `finish_reason` and others.

        Thinking blocks are removed from the answer, which then has the key `thinking`.
        """
        constant = {key: value for key, value in self.constant.items() if value is not None}
        answer = without_thinking(row["answer"])
        row = row | {"answer": answer} | ({"thinking": True} if answer != row["answer"].strip() else {})
        return {"id": row["id"], "prompt": self.prompts[row["id"]], "answer": answer} | constant | row

    def finish(self) -> list[dict]:
        """Rewrite the file in the order of the prompts, and return all answers."""
        return self.in_order(self.prompts)
