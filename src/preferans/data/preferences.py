"""
The contract of preference rows, and the fingerprint of a dataset.

A row has `prompt` (a list of messages), `chosen` and `rejected` (one assistant message each, as lists): TRL's conversational preference
format with an explicit prompt. For models without a chat template, the three columns may be plain texts instead. Our builders add `id`,
`message_tree_id`, `lang`, `source`, `chosen_rank` and `rejected_rank`.
"""

import ast
import hashlib
import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..errors import PreferansError
from ..utf8 import HALF_CHARACTER, is_unicode, normal_form

if TYPE_CHECKING:
    from datasets import Dataset


ROLES = ("system", "user", "assistant")
# An answer that begins with at least this many characters of the question was not cut cleanly out of a model's output.
ECHO_LENGTH = 20
FORMATS = ("conversational", "text")
# Names of the prompt in other datasets, most likely first.
_PROMPT_COLUMNS = (
    "question",
    "instruction",
    "query",
    "input",
    "context",
    "user",
    "вопрос",
    "запрос",
    "инструкция",
    "промпт",
)
_LIST_IN_TEXT = re.compile(r"\s*\[\s*\{\s*[\"'](?:role|content|from|value)[\"']")


def row_problem(row: dict) -> str | None:
    """
    Find the first violation of the contract in one preference row.

    Returns:
        `str` or `None`: the problem as a sentence that begins with the column's name, or `None` for a valid row.
    """
    columns = ("prompt", "chosen", "rejected")
    for column in columns:
        if row.get(column) in (None, [], ""):
            return _missing(column, row)
    for column in columns:
        if isinstance(row[column], str) and messages_in_text(row[column]):
            return f"'{column}' contains a list of messages as a text; scripts/check_data.py --fix FOLDER turns it into a list"
    texts = all(isinstance(row[column], str) for column in columns)
    for column in columns:
        problem = _text_problem(row[column], column) if texts else _messages_problem(row[column], column)
        if problem:
            return problem
    if texts:
        question, chosen, rejected = (normal_form(row[column]).strip() for column in columns)
    else:
        if problem := prompt_problem(row["prompt"]):
            return problem
        for column in ("chosen", "rejected"):
            if len(row[column]) != 1 or row[column][0]["role"] != "assistant":
                return f"'{column}' must be exactly one message of the assistant"
        question, chosen, rejected = (normal_form(row[column][-1]["content"]).strip() for column in columns)
    if chosen == rejected:
        return "'chosen' and 'rejected' are the same text"
    for column, answer in (("chosen", chosen), ("rejected", rejected)):
        if len(question) >= ECHO_LENGTH and answer.startswith(question):
            return f"'{column}' repeats the prompt; an answer begins after it"
    return None


def _missing(column: str, row: dict) -> str:
    if column != "prompt" or "prompt" in row:
        return f"'{column}' is missing"
    if likely := likely_prompt_column(row):
        return f"'prompt' is missing, and '{likely}' looks like it: rename the column"
    return (
        "'prompt' is missing; if 'chosen' and 'rejected' begin with it, scripts/check_data.py DATASET --fix FOLDER writes a dataset with "
        "the column"
    )


def likely_prompt_column(row: dict) -> str | None:
    """Find the column of a row without `prompt` that probably contains it, by its name."""
    names = {str(name).lower(): str(name) for name, value in row.items() if isinstance(value, str | list) and value}
    return next((names[name] for name in _PROMPT_COLUMNS if name in names), None)


def messages_in_text(text: str) -> list[dict] | None:
    """Read a list of messages that a text contains as JSON or as Python's `repr`, for example from a CSV file."""
    if not _LIST_IN_TEXT.match(text):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            return value
    return None


def prompt_problem(prompt: Any) -> str | None:
    """
    Find the first violation of the contract in a prompt: a text, or messages with known roles and text, the last of which is the user's.

    Returns:
        `str` or `None`: as for [`row_problem`].
    """
    if prompt in (None, [], ""):
        return "'prompt' is missing"
    if isinstance(prompt, str):
        return _text_problem(prompt, "prompt")
    if problem := _messages_problem(prompt, "prompt"):
        return problem
    return None if prompt[-1]["role"] == "user" else "'prompt' must end with a message of the user"


def _text_problem(text: str, column: str) -> str | None:
    if not is_unicode(text):
        return f"'{column}' {HALF_CHARACTER}"
    return None if text.strip() else f"'{column}' has no text"


def _messages_problem(messages: Any, column: str) -> str | None:
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        return (
            f"'{column}' must be a list of messages such as [{{'role': 'user', 'content': '…'}}], or text if 'prompt', 'chosen' and "
            "'rejected' all are"
        )
    for message in messages:
        if message.get("role") not in ROLES:
            return f"'{column}' has a message with the role {message.get('role')!r}; roles are {', '.join(ROLES)}"
        content = message.get("content")
        if not isinstance(content, str) or not content.strip():
            return f"'{column}' has a message without text"
        if problem := _text_problem(content, column):
            return problem
    return None


def check_rows(rows: Iterable[dict], name: str) -> None:
    """
    Check every row against the contract.

    Args:
        rows (`Iterable[dict]`): Preference rows: a list, a [`~datasets.Dataset`], or `frame.iter_rows(named=True)`.
        name (`str`): The dataset and its split, for messages.

    Raises:
        [`PreferansError`]: names the first invalid row and its id, and counts the invalid rows; also if there are no rows.
    """
    first, invalid, number = "", 0, 0
    for number, row in enumerate(rows, start=1):
        if problem := row_problem(row):
            invalid += 1
            first = first or f"row {number}" + (f" (id {row['id']})" if row.get("id") else "") + f": {problem}."
    if not number:
        raise PreferansError(f"{name}: the dataset is empty.")
    if first:
        more = f" {invalid} rows of {number} are invalid." if invalid > 1 else ""
        raise PreferansError(f"{name}, {first}{more} Fix or drop such rows and start again.")


def check_leakage(train: "Dataset", test: "Dataset", name: str) -> None:
    """
    Check that no conversation tree is in both splits.

    Raises:
        [`PreferansError`]: names one tree that is.
    """
    if "message_tree_id" not in train.column_names or "message_tree_id" not in test.column_names:
        return
    shared = (set(train["message_tree_id"]) & set(test["message_tree_id"])) - {None}
    if shared:
        raise PreferansError(
            f"{name}: {len(shared)} conversation trees are in both the training and the test split (such as message_tree_id {min(shared)}), "
            "so test results would be too good. Split by message_tree_id."
        )


def fingerprint(splits: dict[str, Iterable[dict]]) -> str:
    """Compute the SHA-256 of the rows of every split, as hexadecimal digits: the same on every machine for the same rows."""
    digest = hashlib.sha256()
    for name in sorted(splits):
        digest.update(f"{name}\n".encode())
        for row in splits[name]:
            line = json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n"
            digest.update(line.encode("utf-8", "surrogatepass"))  # any row has a fingerprint, even an invalid one
    return digest.hexdigest()


def column_or_numbers(rows: "Dataset", column: str) -> list[str]:
    """Return a column of a dataset as texts. A missing value, or every value without the column, is the number of its row."""
    if column not in rows.column_names:
        return [str(number) for number in range(len(rows))]
    return [f"row {number}" if value is None else str(value) for number, value in enumerate(rows[column])]
