"""
Read rows as pairs with an explicit prompt, and name the problems of the other rows.

- `schema`: a column is missing, null or of a wrong type, or there is no common prompt. The implicit prompt of plain texts ends with the last
  label of the assistant that both have in common, such as "Assistant:", «Ответ:» or `<|im_start|>assistant`.
- `roles`: TRL does not support a role, a prompt ends with another message than one of user or tool, or an answer is not exactly one message
  of the assistant.
- `empty`: a message, prompt or answer has no text.
- `equal`: chosen and rejected are the same text.
"""

import dataclasses
import itertools
import re
from typing import Any

from trl.data_utils import extract_prompt

from ..text.characters import comparable
from ..utf8 import HALF_CHARACTER, is_unicode, normal_form
from .formats import dataset_format
from .preferences import ROLES, likely_prompt_column, messages_in_text

COLUMNS = ("prompt", "chosen", "rejected")
ANSWERS = ("chosen", "rejected")
# Labels at the beginning of a line of a plain prompt: «Вопрос:», "Human:", "### Instruction:".
_LABEL = re.compile(r"(?m)^[ \t#*]*[\w-]{1,20}(?: [\w-]{1,20})?:[ \t]*")
# Labels after which an answer begins in a plain conversation.
_ASSISTANT_LABEL = re.compile(
    r"(?mi)^[ \t#*]*(?:assistant|response|answer|output|bot|ai|gpt|model|ассистент|ответ|помощник|бот|модель)\b[ \t*]*:[ \t*]*\n?"
    r"|<\|im_start\|>assistant\n?|<\|assistant\|>\n?|<start_of_turn>model\n?|\[/INST\]"
    r"|<\|start_header_id\|>assistant<\|end_header_id\|>\n*"
)


@dataclasses.dataclass
class Problem:
    """A problem of one row: the check that found it, words that are equal for all rows with this problem, and details of this row."""

    check: str
    words: str
    detail: str = ""


@dataclasses.dataclass
class Pair:
    """A row that could be read, with the prompt and answers that TRL would use."""

    split: str
    number: int
    row: dict
    prompt: list[dict] | str
    chosen: list[dict] | str
    rejected: list[dict] | str
    echoes: tuple[str, ...] = ()  # answers that contained the whole conversation, which is removed here
    implicit: bool = False  # the prompt was the common beginning of the answers
    mixed: str = ""  # the columns were of different types, as described; here all are messages

    @property
    def label(self) -> str:
        return row_label(self.row, self.split, self.number)

    def text(self, column: str) -> str:
        """Return a column as a text."""
        value = getattr(self, column)
        return value if isinstance(value, str) else "\n".join(map(message_text, value))

    @property
    def user_text(self) -> str:
        """All messages of the user, or a plain prompt without labels such as «Вопрос:»."""
        if isinstance(self.prompt, str):
            return _LABEL.sub("", self.prompt).strip()
        return "\n".join(self._user_messages)

    @property
    def first_user_text(self) -> str:
        """The first message of the user, or a plain prompt as in `user_text`."""
        return self.user_text if isinstance(self.prompt, str) else next(iter(self._user_messages), "")

    @property
    def questions(self) -> list[str]:
        """Texts that no answer should begin with: the user's last message, or a plain prompt and its last line."""
        if isinstance(self.prompt, str):
            lines = [line.strip() for line in self.user_text.splitlines() if line.strip()]
            return [self.prompt.strip(), *lines[-1:]]
        return [text.strip() for text in self._user_messages[-1:]]

    @property
    def _user_messages(self) -> list[str]:
        messages = self.prompt if isinstance(self.prompt, list) else []
        return [message_text(message) for message in messages if message["role"] == "user"]

    @property
    def has_tools(self) -> bool:
        if isinstance(self.prompt, str):
            return False
        messages = [*self.prompt, *self.chosen, *self.rejected]
        return any(message["role"] == "tool" or message.get("tool_calls") for message in messages)

    @property
    def conversation(self) -> str:
        """The conversation tree, or without one the prompt."""
        tree = self.row.get("message_tree_id")
        return str(self.key("prompt") if tree is None else tree)

    def key(self, column: str) -> Any:
        """Return a column's content for comparison, without differences of case, punctuation and spaces."""
        value = getattr(self, column)
        if isinstance(value, str):
            return comparable(value)
        return tuple(
            (message["role"], comparable(message_text(message)), repr(message.get("tool_calls"))) for message in value
        )


def message_text(message: dict) -> str:
    """Return the text of a message. A message that calls a tool may have none."""
    return message.get("content") or ""


def is_labelled(pair: Pair) -> bool:
    """Check whether a plain prompt ends with a label such as «Ответ:», and so cannot be used as a message."""
    return isinstance(pair.prompt, str) and bool(re.search(r"(?:[:>\]]|<\|[^|]*\|>)\s*\Z", pair.prompt))


def row_label(row: Any, split: str, number: int) -> str:
    """Return a row's id, or else its split and number, counted from 1."""
    name = row.get("id") if isinstance(row, dict) else None
    return name if isinstance(name, str) and is_unicode(name) and name.strip() else f"{split}:{number}"


def is_training(split: str) -> bool:
    """Check whether a split is for training."""
    return split.startswith("train")


def read_pairs(splits: dict[str, list]) -> tuple[list[Pair], list[tuple[str, Problem]]]:
    """
    Read rows as pairs.

    Args:
        splits (`dict[str, list]`): Rows by split, see [`~preferans.data.formats.read_dataset`].

    Returns:
        `tuple[list[Pair], list[tuple[str, Problem]]]`: the pairs that can be read, and the label and problem of every other row.
    """
    conversational, implicit = dataset_format(splits)
    pairs, problems = [], []
    for split, rows in splits.items():
        for number, row in enumerate(rows, start=1):
            fields = _read_row(row, conversational, implicit)
            if isinstance(fields, Problem):
                problems.append((row_label(row, split, number), fields))
            else:
                pairs.append(Pair(split, number, row, **fields))
    return pairs, problems


def _read_row(row: Any, conversational: bool, implicit: bool) -> dict[str, Any] | Problem:
    """Return the contents of a [`Pair`], or the row's problem."""
    if not isinstance(row, dict):
        return Problem("schema", "the row is not an object", _type_in_words(row))
    if implicit and "prompt" in row:
        return Problem("schema", "the row has a column 'prompt', but most rows do not")
    row, mixed = _as_messages(row) if conversational else (row, "")
    for column in ANSWERS if implicit else COLUMNS:
        if problem := _column_problem(column, row, conversational):
            return problem
    fields: dict[str, Any] = {column: row.get(column) for column in COLUMNS}
    whole = mixed == _TEXT_PROMPT and max(len(row[column]) for column in ANSWERS) > 1
    if implicit or whole:
        fields = _split_messages(row) if conversational else _split_texts(row)
        if not fields:
            return _no_prompt(row, conversational)
    fields |= {"implicit": implicit, "mixed": mixed}
    if conversational:
        length, prompt = len(fields["prompt"]), _roles_and_texts(fields["prompt"])
        echoes = tuple(
            column
            for column in ANSWERS
            if len(fields[column]) > length and _roles_and_texts(fields[column][:length]) == prompt
        )
        fields |= {column: fields[column][length:] for column in echoes}
        fields |= {"echoes": echoes}
        problem = _order_problem(fields)
    else:
        problem = next((empty_problem(column) for column in ANSWERS if not fields[column].strip()), None)
    if problem:
        return problem
    chosen, rejected = (
        normal_form(fields[column][0]["content"] if conversational else fields[column]) for column in ANSWERS
    )
    return equal_problem() if chosen.strip() == rejected.strip() else fields


_TEXT_PROMPT = "'prompt' is a text, but 'chosen' and 'rejected' are lists of messages"


def _as_messages(row: dict) -> tuple[dict, str]:
    """Turn columns that are texts beside lists of messages, or texts of such lists, into messages; describe what was wrong."""
    found = {column: messages_in_text(row[column]) for column in COLUMNS if isinstance(row.get(column), str)}
    parsed = {column: messages for column, messages in found.items() if messages is not None}
    texts = [column for column, messages in found.items() if messages is None and row[column].strip()]
    mixed = f"lists of messages are texts in {', '.join(map(repr, parsed))}" if parsed else ""
    if texts == ["prompt"]:
        mixed = mixed or _TEXT_PROMPT
        parsed["prompt"] = [{"role": "user", "content": row["prompt"]}]
    elif texts == ["chosen", "rejected"] and "prompt" in row:
        mixed = mixed or "'chosen' and 'rejected' are texts, but 'prompt' is a list of messages"
        parsed |= {column: [{"role": "assistant", "content": row[column]}] for column in texts}
    return row | parsed, mixed


def _split_messages(row: dict) -> dict[str, Any]:
    """Split conversations with a common beginning into the prompt and the answers; empty without one."""
    if row["chosen"][0] != row["rejected"][0]:
        return {}
    fields = extract_prompt({column: row[column] for column in ANSWERS})
    return fields if fields["prompt"] else {}


def _split_texts(row: dict) -> dict[str, Any]:
    """Split texts with a common beginning after the assistant's last label in it; empty without one."""
    length = sum(
        1 for _ in itertools.takewhile(lambda both: both[0] == both[1], zip(*map(row.get, ANSWERS), strict=False))
    )
    # white space after the label may already differ
    labels = (
        match for match in _ASSISTANT_LABEL.finditer(row["chosen"]) if match.start() + len(match[0].rstrip()) <= length
    )
    end = max((min(match.end(), length) for match in labels), default=0)
    prompt = row["chosen"][:end].rstrip(" \t")
    if not prompt.strip():
        return {}
    return {"prompt": prompt} | {column: row[column][len(prompt) :] for column in ANSWERS}


def _no_prompt(row: dict, conversational: bool) -> Problem:
    if column := likely_prompt_column(row):
        return Problem("schema", f"the column 'prompt' is missing, and '{column}' looks like it: rename it")
    label = "" if conversational else " that ends with a label such as 'Assistant:' or «Ответ:»"
    return Problem("schema", f"'chosen' and 'rejected' do not begin with the same prompt{label}")


def empty_problem(column: str) -> Problem:
    return Problem("empty", f"'{column}' has no text")


def equal_problem() -> Problem:
    return Problem("equal", "'chosen' and 'rejected' are the same text")


def _roles_and_texts(messages: list[dict]) -> list[tuple[str, str]]:
    return [(message["role"], message_text(message)) for message in messages]


def _type_in_words(value: Any) -> str:
    return {str: "a text", list: "a list", dict: "an object", bool: "true or false"}.get(type(value), "a number")


def _column_problem(column: str, row: dict, conversational: bool) -> Problem | None:
    """Find the problem of one column, whatever the other columns contain."""
    if column not in row:
        if column == "prompt" and (likely := likely_prompt_column(row)):
            return Problem("schema", f"the column 'prompt' is missing, and '{likely}' looks like it: rename it")
        others = ", ".join([*map(str, row)][:8]) + (f" and {len(row) - 8} more" if len(row) > 8 else "")
        return Problem("schema", f"the column '{column}' is missing", f"in a row with {others}" if row else "")
    value = row[column]
    if value is None:
        return Problem("schema", f"'{column}' is null")
    if conversational and isinstance(value, list):
        if not value:
            return Problem("empty", f"'{column}' has no message")
        return next(filter(None, (_message_problem(column, message) for message in value)), None)
    if not conversational and isinstance(value, str):
        if not is_unicode(value):
            return Problem("schema", f"'{column}' {HALF_CHARACTER}")
        return None if value.strip() else empty_problem(column)
    expected = "a list of messages" if conversational else "a text"
    return Problem("schema", f"'{column}' is {_type_in_words(value)} and not {expected}")


def _message_problem(column: str, message: Any) -> Problem | None:
    if not isinstance(message, dict):
        return Problem("schema", f"'{column}' is a list of something other than messages", _type_in_words(message))
    role, content = message.get("role"), message.get("content")
    if role is None or (content is None and not message.get("tool_calls")):
        keys = ", ".join(map(str, message)) or "no keys"
        return Problem("schema", f"a message of '{column}' has no 'role' or no 'content'", f"one with {keys:.80}")
    if role not in (*ROLES, "tool"):
        words = f"'{column}' has a message with a role other than {', '.join(ROLES)} or tool"
        return Problem("roles", words, repr(role))
    if content is None:
        return None
    if not isinstance(content, str):
        return Problem("schema", f"the content of a message of '{column}' is {_type_in_words(content)} and not a text")
    if not is_unicode(content):
        return Problem("schema", f"'{column}' {HALF_CHARACTER}")
    return None if content.strip() else Problem("empty", f"'{column}' has a message without text")


def _order_problem(fields: dict[str, list[dict]]) -> Problem | None:
    last_role = fields["prompt"][-1]["role"]
    if last_role not in ("user", "tool"):
        return Problem("roles", "'prompt' ends with a message of another role than user or tool", last_role)
    for column in ANSWERS:
        messages = fields[column]
        if len(messages) != 1 or messages[0]["role"] != "assistant":
            roles = ", ".join(message["role"] for message in messages)
            words = f"'{column}' is not exactly one message of the assistant"
            return Problem("roles", words, f"messages of {roles:.80}")
        if not message_text(messages[0]):
            return Problem("empty", f"'{column}' has a message without text")
    return None
