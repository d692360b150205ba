"""Read preference rows in any of TRL's formats, broken ones included."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import polars as pl
from datasets import load_dataset_builder
from trl.data_utils import extract_prompt

from ..errors import PreferansError
from ..files import iter_jsonl, read_json
from .folder import load_preferences
from .preferences import ECHO_LENGTH, ROLES

LONG_ECHO = 100
COLUMNS = ("prompt", "chosen", "rejected")
ANSWERS = ("chosen", "rejected")
JSON_ENDINGS = (".jsonl", ".json")
FILE_ENDINGS = (*JSON_ENDINGS, ".parquet")
# What a line of a plain prompt begins with: «Вопрос:», "Human:", "### Instruction:".
_LABEL = re.compile(r"(?m)^[ \t#*]*[\w-]{1,20}(?: [\w-]{1,20})?:[ \t]*")


@dataclasses.dataclass
class Problem:
    """What is wrong with one row: the check, the words that findings are grouped by, and what it is in this row."""

    check: str
    words: str
    detail: str = ""


@dataclasses.dataclass
class Pair:
    """A row that could be read, with the prompt that TRL would give it."""

    split: str
    number: int
    row: dict
    prompt: list[dict] | str
    chosen: list[dict] | str
    rejected: list[dict] | str
    echoes: tuple[str, ...] = ()  # answers that held the whole conversation; it is cut here already
    mixed: bool = False  # the prompt was a text and the answers were messages; it is a message here

    @property
    def label(self) -> str:
        return row_label(self.row, self.split, self.number)

    def text(self, column: str) -> str:
        """An answer as a text."""
        answer = getattr(self, column)
        return answer if isinstance(answer, str) else answer[0]["content"]

    @property
    def asked(self) -> str:
        """What the person says in the prompt, without labels such as «Вопрос:»."""
        if isinstance(self.prompt, str):
            return _LABEL.sub("", self.prompt).strip()
        return "\n".join(_content(message) for message in self.prompt if message["role"] == "user")

    @property
    def opening(self) -> str:
        """How the person opens the conversation; all of a plain prompt."""
        if isinstance(self.prompt, str):
            return self.asked
        return next((_content(message) for message in self.prompt if message["role"] == "user"), "")

    @property
    def questions(self) -> list[str]:
        """What no answer should begin with: the last message of the user, or the plain prompt and its last line."""
        if isinstance(self.prompt, str):
            lines = [line.strip() for line in self.asked.splitlines() if line.strip()]
            return [self.prompt.strip(), *lines[-1:]]
        return [_content(message).strip() for message in self.prompt if message["role"] == "user"][-1:]

    @property
    def has_tools(self) -> bool:
        if isinstance(self.prompt, str):
            return False
        messages = [*self.prompt, *self.chosen, *self.rejected]
        return any(message["role"] == "tool" or message.get("tool_calls") for message in messages)

    def key(self, column: str) -> Any:
        """A column's content for comparison."""
        value = getattr(self, column)
        if isinstance(value, str):
            return value.strip()
        return tuple(
            (message["role"], _content(message).strip(), repr(message.get("tool_calls"))) for message in value
        )


def _content(message: dict) -> str:
    """Text of a message; one that calls a tool may have none."""
    return message.get("content") or ""


def row_label(row: Any, split: str, number: int) -> str:
    """What to call a row: its id, or split and number, counted from 1."""
    identity = row.get("id") if isinstance(row, dict) else None
    usable = isinstance(identity, str) and _is_unicode(identity) and identity.strip()
    return identity if usable else f"{split}:{number}"


def read_dataset(name: str, config: str | None = None) -> dict[str, list]:
    """
    Read the rows of a dataset, broken ones included.

    Args:
        name (`str`):
            Folder, `.jsonl`, `.json` or `.parquet` file, or id of a dataset on the Hub. JSON lines are read one by
            one, so that a value of another type than in the row before it does not hide the rest.
        config (`str`, *optional*):
            Configuration of the dataset.

    Returns:
        `dict[str, list]`: the rows by split. A single file is the split `train`.

    Raises:
        [`PreferansError`]: when there is no such dataset, it cannot be read, or has no rows.
    """
    path = Path(name)
    if path.is_file():
        splits = {"train": _file_rows(path)}
    elif path.is_dir():
        splits = _folder_rows(name, config)
    elif path.suffix in (*FILE_ENDINGS, ".csv") or path.is_absolute() or name.startswith(".") or name.count("/") > 1:
        raise PreferansError(f"DATASET {name}: there is no such file or folder. Correct the path.")
    else:
        splits = _loaded_rows(name, config)
    if not any(splits.values()):
        raise PreferansError(f"DATASET {name}: there is not one row in it.")
    return splits


def _file_rows(path: Path) -> list:
    if path.suffix in JSON_ENDINGS:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            is_list = file.read(1000).lstrip().startswith("[")
        if not is_list:
            return list(iter_jsonl(path))
        return read_json(path)
    if path.suffix == ".parquet":
        try:
            return pl.read_parquet(path).to_dicts()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise PreferansError(f"DATASET {path}: this is no readable parquet file ({error}).") from None
    raise PreferansError(
        f"DATASET {path}: a file must end in {', '.join(FILE_ENDINGS[:-1])} or {FILE_ENDINGS[-1]}. Convert it to JSON "
        "lines with prompt, chosen and rejected in each."
    )


def _folder_rows(name: str, config: str | None) -> dict[str, list]:

    try:
        data_files = load_dataset_builder(name, name=config).config.data_files
    except Exception:  # load_preferences says what is the matter
        data_files = None
    files = [Path(file) for part in (data_files or {}).values() for file in part]
    saved = Path(name, "state.json").exists() or Path(name, "dataset_dict.json").exists()
    if files and not saved and all(file.suffix in JSON_ENDINGS for file in files):
        return {
            str(split): [row for file in part for row in _file_rows(Path(file))] for split, part in data_files.items()
        }
    return _loaded_rows(name, config)


def _loaded_rows(name: str, config: str | None) -> dict[str, list]:
    return {split: rows.to_list() for split, rows in load_preferences(name, config).items()}


def _is_unicode(text: str) -> bool:
    """Whether a text can be written down: JSON may hold halves of characters that cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: Any) -> str:
    return {str: "a text", list: "a list", dict: "an object", bool: "true or false"}.get(type(value), "a number")


def dataset_format(splits: dict[str, list]) -> tuple[bool, bool]:
    """
    Which of TRL's formats most rows are in.

    Returns:
        `tuple[bool, bool]`: whether the answers are lists of messages, and whether the prompt is implicit.
    """
    rows = [row for part in splits.values() for row in part if isinstance(row, dict)]
    lists = sum(isinstance(row.get("chosen"), list) for row in rows)
    texts = sum(isinstance(row.get("chosen"), str) for row in rows)
    return lists >= texts, 2 * sum("prompt" in row for row in rows) < len(rows)


def dataset_language(splits: dict[str, list]) -> str:
    """Language tag that all rows carry in `lang`, or `"ru"`, which this project is for."""
    tags = {row.get("lang") if isinstance(row, dict) else None for rows in splits.values() for row in rows}
    tag = tags.pop() if len(tags) == 1 else None
    return tag if isinstance(tag, str) and re.fullmatch(r"[a-z]{2,3}([-_]\w+)?", tag) else "ru"


def read_pairs(splits: dict[str, list]) -> tuple[list[Pair], list[tuple[str, Problem]]]:
    """
    Read rows as pairs.

    Args:
        splits (`dict[str, list]`):
            Rows by split, see [`read_dataset`].

    Returns:
        `tuple[list[Pair], list[tuple[str, Problem]]]`: the pairs that can be read, and label and problem of every
        other row.
    """
    conversational, implicit = dataset_format(splits)
    pairs, problems = [], []
    for split, rows in splits.items():
        for number, row in enumerate(rows, start=1):
            found = _read_row(row, conversational, implicit)
            if isinstance(found, Problem):
                problems.append((row_label(row, split, number), found))
            else:
                pairs.append(Pair(split, number, row, **found))
    return pairs, problems


def _read_row(row: Any, conversational: bool, implicit: bool) -> dict | Problem:
    """Fields of a [`Pair`], or what keeps the row from being one."""
    if not isinstance(row, dict):
        return Problem("schema", "the row is no object with columns", _kind(row))
    if implicit and "prompt" in row:
        return Problem("schema", "there is a column 'prompt', and most rows have none")
    mixed = conversational and not implicit and isinstance(row.get("prompt"), str)
    for column in COLUMNS[1:] if implicit else COLUMNS:
        problem = _value_problem(column, row, conversational and not (mixed and column == "prompt"))
        if problem:
            return problem
    values = {column: row.get(column) for column in COLUMNS}
    if mixed and len(row["chosen"]) == len(row["rejected"]) == 1:
        values["prompt"] = [{"role": "user", "content": row["prompt"]}]
    elif implicit or mixed:
        # extract_prompt takes for granted that there is one
        same = row["chosen"][0] == row["rejected"][0]
        values = extract_prompt({column: row[column] for column in ANSWERS}) if same else {"prompt": ""}
        if not values["prompt"] or (not conversational and not values["prompt"].strip()):
            return Problem("schema", "'chosen' and 'rejected' do not begin with the same prompt")
    if conversational:
        prompt, echoes = values["prompt"], []
        for column in ANSWERS:
            if len(values[column]) > len(prompt) and _same_messages(values[column][: len(prompt)], prompt):
                values[column] = values[column][len(prompt) :]
                echoes.append(column)
        values |= {"echoes": tuple(echoes), "mixed": mixed}
        problem = _order_problem(prompt, values["chosen"], values["rejected"])
    else:
        problem = next((_empty(column) for column in ANSWERS if not values[column].strip()), None)
    if problem:
        return problem
    if _stripped(values["chosen"]) == _stripped(values["rejected"]):
        return _equal()
    return values


def _empty(column: str) -> Problem:
    return Problem("empty", f"'{column}' has no text")


def _equal() -> Problem:
    return Problem("equal", "'chosen' and 'rejected' are the same text")


def _stripped(answer: list[dict] | str) -> str:
    return answer.strip() if isinstance(answer, str) else answer[0]["content"].strip()


def _same_messages(some: list[dict], others: list[dict]) -> bool:
    return [(message["role"], _content(message)) for message in some] == [
        (message["role"], _content(message)) for message in others
    ]


def _value_problem(column: str, row: dict, conversational: bool) -> Problem | None:
    """What is wrong with one column of a row, whatever the others hold."""
    if column not in row:
        others = ", ".join([*map(str, row)][:8]) + (f" and {len(row) - 8} more" if len(row) > 8 else "")
        return Problem("schema", f"the column '{column}' is missing", f"beside {others}" if row else "")
    value = row[column]
    if value is None:
        return Problem("schema", f"'{column}' is null")
    if not isinstance(value, list if conversational else str):
        wanted = "a list of messages" if conversational else "a text"
        return Problem("schema", f"'{column}' is {_kind(value)} and not {wanted}")
    if not conversational:
        if not _is_unicode(value):
            return Problem("schema", f"'{column}' holds half a character (a lone surrogate)")
        return None if value.strip() else _empty(column)
    if not value:
        return Problem("empty", f"'{column}' has no message")
    for message in value:
        problem = _message_problem(column, message)
        if problem:
            return problem
    return None


def _message_problem(column: str, message: Any) -> Problem | None:
    if not isinstance(message, dict):
        return Problem("schema", f"'{column}' is a list of something else than messages", _kind(message))
    role, content = message.get("role"), message.get("content")
    if role is None or (content is None and not message.get("tool_calls")):
        keys = ", ".join(map(str, message)) or "none"
        return Problem("schema", f"a message of '{column}' lacks its 'role' or 'content'", f"one with {keys:.80}")
    if role not in (*ROLES, "tool"):
        return Problem("roles", f"'{column}' has a message whose role is not {', '.join(ROLES)} or tool", repr(role))
    if content is None:
        return None
    if not isinstance(content, str):
        return Problem("schema", f"the content of a message of '{column}' is {_kind(content)} and not a text")
    if not _is_unicode(content):
        return Problem("schema", f"'{column}' holds half a character (a lone surrogate)")
    return None if content.strip() else Problem("empty", f"'{column}' has a message without text")


def _order_problem(prompt: list[dict], chosen: list[dict], rejected: list[dict]) -> Problem | None:
    if prompt[-1]["role"] not in ("user", "tool"):
        return Problem("roles", "'prompt' does not end with a message of the user", f"one of {prompt[-1]['role']}")
    for column, messages in zip(ANSWERS, (chosen, rejected), strict=True):
        if len(messages) != 1 or messages[0]["role"] != "assistant":
            roles = ", ".join(message["role"] for message in messages)
            return Problem("roles", f"'{column}' is not exactly one message of the assistant", f"those of {roles:.80}")
        if not _content(messages[0]):
            return Problem("empty", f"'{column}' has a message without text")
    return None


def _echo(pair: Pair, column: str) -> Problem | None:
    if column in pair.echoes:
        return Problem("prompt_echo", f"'{column}' begins with the whole conversation")
    text = pair.text(column).strip()
    for question in pair.questions:
        if len(question) >= ECHO_LENGTH and text.startswith(question):
            return Problem("prompt_echo", f"'{column}' begins with the prompt")
        if len(question) >= LONG_ECHO and question in text:
            return Problem("prompt_echo", f"'{column}' has the prompt in the middle")
    return None


def _within_word(prompt: str, *answers: str) -> bool:
    return bool(re.search(r"\w$", prompt)) and any(re.match(r"\w", answer) for answer in answers)
