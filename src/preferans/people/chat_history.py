"""The conversation of a chat: its messages, the part that fits the context window, and its file."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import field_validator

from ..errors import PreferansError
from ..files import read_json, write_json
from ..typed_rows import AnyText, Message, Row, check_row


class _ChatFile(Row):
    started_at: str
    models: list[str]
    persona: str | None = None
    system: AnyText | None = None
    sampling: dict[str, Any]
    messages: list[Message]

    @field_validator("messages")
    @classmethod
    def _check_turns(cls, messages: list[Message]) -> list[Message]:
        for number, message in enumerate(messages):
            expected = ("user", "assistant")[number % 2]
            if message.role != expected:
                raise ValueError(
                    f"has the role '{message.role}' in message {number + 1}; '{expected}' is needed there"
                )
        if len(messages) % 2:
            raise ValueError("ends with a question; add the answer, or remove the question")
        return messages


@dataclass
class ChatHistory:
    """
    The finished turns of a conversation.

    Args:
        messages (`list[dict]`, *optional*): Questions and answers in turn, the last one an answer.
        system (`str`, *optional*): The user's own instruction, put before the conversation.
        started_at (`str`, *optional*): Local time in ISO 8601; the present by default.
        persona (`str`, *optional*): Character that answered when the conversation was saved.
    """

    messages: list[dict] = field(default_factory=list)
    system: str | None = None
    started_at: str = field(default_factory=lambda: datetime.now().astimezone().isoformat(timespec="seconds"))
    persona: str | None = field(default=None, compare=False)

    def prompt(self, question: str, without_last: bool = False) -> list[dict]:
        """Return the messages with the instruction and a question, as a model gets them, perhaps without the last turn."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        messages = self.messages[:-2] if without_last else self.messages
        return [*system, *messages, {"role": "user", "content": question}]

    def add(self, question: str, answer: str) -> None:
        """Add a finished turn."""
        self.messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]

    def undo(self) -> tuple[str, str] | None:
        """Remove the last turn, and return its question and answer; `None` if there is none."""
        if not self.messages:
            return None
        question, answer = (message["content"] for message in self.messages[-2:])
        del self.messages[-2:]
        return question, answer

    def save(self, path: str | Path, models: list[str], persona: str | None, sampling: dict[str, Any]) -> None:
        """Write the conversation as JSON, with what answered it."""
        about = {"started_at": self.started_at, "models": models, "persona": persona, "system": self.system}
        write_json(path, about | {"sampling": sampling, "messages": self.messages})

    @classmethod
    def load(cls, path: str | Path) -> "ChatHistory":
        """
        Read a saved conversation.

        Raises:
            [`PreferansError`]: names the file and the key that is wrong.
        """
        saved = check_row(_ChatFile, read_json(path), str(path))
        return cls([message.model_dump() for message in saved.messages], saved.system, saved.started_at, saved.persona)


def is_chat(path: str | Path) -> bool:
    """Check whether a file is a saved conversation."""
    try:
        ChatHistory.load(path)
    except PreferansError:
        return False
    return True


def fit_window(prompt: list[dict], length: Callable[[list[dict]], int], limit: int | None) -> tuple[list[dict], int]:
    """
    Drop the oldest turns until a prompt fits the context window. The instruction and the last question always stay.

    Args:
        prompt (`list[dict]`): Messages, perhaps starting with the system's.
        length (`Callable`): Number of tokens of messages.
        limit (`int`, *optional*): Tokens that the prompt may have; no limit by default.

    Returns:
        `tuple[list[dict], int]`: the messages, and the number of dropped turns. They may still be too long.
    """
    start = 1 if prompt[0]["role"] == "system" else 0
    dropped = 0
    while limit is not None and len(prompt) > start + 2 and length(prompt) > limit:
        prompt = [*prompt[:start], *prompt[start + 2 :]]
        dropped += 1
    return prompt, dropped
