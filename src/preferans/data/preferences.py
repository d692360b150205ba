"""
The preference dataset: its contract, its splits, its fingerprint, and the folder it lives in.

A row holds `prompt` (a list of messages), `chosen` and `rejected` (one assistant message each, as lists): what TRL calls a
conversational preference dataset with an explicit prompt. The same three columns may hold plain texts instead, for models
without a chat template. Our builders add `id`, `message_tree_id`, `lang`, `source`, `chosen_rank` and `rejected_rank`.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..errors import PreferansError

if TYPE_CHECKING:
    from datasets import Dataset


ROLES = ("system", "user", "assistant")
# A chosen answer that opens with this many characters of the question has been cut out of a model's output carelessly.
ECHO_LENGTH = 20
FORMATS = ("conversational", "text")


def row_problem(row: dict) -> str | None:
    """
    Find the first violation of the contract in one preference row.

    Returns:
        `str` or `None`: the problem as a sentence that begins with the column's name, or `None` for a valid row.
    """
    columns = ("prompt", "chosen", "rejected")
    for column in columns:
        if row.get(column) in (None, [], ""):
            return f"'{column}' is missing"
    texts = all(isinstance(row[column], str) for column in columns)
    for column in columns:
        problem = _text_problem(row[column], column) if texts else _messages_problem(row[column], column)
        if problem:
            return problem
    if texts:
        question, chosen, rejected = (row[column].strip() for column in columns)
    else:
        if problem := prompt_problem(row["prompt"]):
            return problem
        for column in ("chosen", "rejected"):
            if len(row[column]) != 1 or row[column][0]["role"] != "assistant":
                return f"'{column}' must be exactly one message of the assistant"
        question, chosen, rejected = (row[column][-1]["content"].strip() for column in columns)
    if chosen == rejected:
        return "'chosen' and 'rejected' are the same text"
    if len(question) >= ECHO_LENGTH and chosen.startswith(question):
        return "'chosen' repeats the prompt; an answer begins after it"
    return None


def prompt_problem(prompt: Any) -> str | None:
    """Find the first violation of the contract in a prompt: messages with a known role and text, of which the last is the user's."""
    if prompt in (None, [], ""):
        return "'prompt' is missing"
    if isinstance(prompt, str):
        return _text_problem(prompt, "prompt")
    if problem := _messages_problem(prompt, "prompt"):
        return problem
    return None if prompt[-1]["role"] == "user" else "'prompt' must end with a message of the user"


def _text_problem(text: str, column: str) -> str | None:
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
        if not isinstance(message.get("content"), str) or not message["content"].strip():
            return f"'{column}' has a message without text"
    return None


def check_rows(rows: Iterable[dict], origin: str) -> None:
    """
    Check every row against the contract.

    Args:
        rows (`Iterable[dict]`):
            Preference rows: a list, a [`~datasets.Dataset`], or `frame.iter_rows(named=True)`.
        origin (`str`):
            What to call the rows in a message: the dataset and its split.

    Raises:
        [`PreferansError`]: names the first broken row by its id and how many are broken in all.
    """
    first, broken, number = None, 0, 0
    for number, row in enumerate(rows, start=1):
        problem = row_problem(row)
        if problem:
            broken += 1
            first = first or (f"row {number}" + (f" (id {row['id']})" if row.get("id") else ""), problem)
    if not number:
        raise PreferansError(f"{origin}: there is not one row in it.")
    if first:
        more = f" {broken} rows of {number} are broken in all." if broken > 1 else ""
        raise PreferansError(f"{origin}, {first[0]}: {first[1]}.{more} Mend or drop such rows and start again.")


def check_leakage(train: "Dataset", test: "Dataset", origin: str) -> None:
    """
    Check that no conversation tree stands in both splits.

    Raises:
        [`PreferansError`]: names one tree that does.
    """
    if "message_tree_id" not in train.column_names or "message_tree_id" not in test.column_names:
        return
    shared = (set(train["message_tree_id"]) & set(test["message_tree_id"])) - {None}
    if shared:
        raise PreferansError(
            f"{origin}: {len(shared)} conversation trees stand both in the training and in the test split (such as "
            f"message_tree_id {min(shared)}), so the test would flatter the model. Split by message_tree_id."
        )


def fingerprint(splits: dict[str, Iterable[dict]]) -> str:
    """SHA-256 over the rows of every split, as hexadecimal digits: the same on every machine for the same rows."""
    digest = hashlib.sha256()
    for name in sorted(splits):
        digest.update(f"{name}\n".encode())
        for row in splits[name]:
            # surrogatepass: a lone surrogate from a broken source must not stop the count
            line = json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n"
            digest.update(line.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def column_or_numbers(rows: "Dataset", column: str) -> list[str]:
    """A column of a dataset, or the numbers of the rows where it has no such column."""
    return list(rows[column]) if column in rows.column_names else [str(number) for number in range(len(rows))]
