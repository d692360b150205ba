"""Turn messages into a model's text with its chat template, also if it has no system role."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import PreferansError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

TRIED = [{"role": "user", "content": "Вопрос"}, {"role": "assistant", "content": "Ответ"}]


def prompt_text(prompt: list[dict] | str, tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return a prompt as the model's input text, with special tokens, up to the start of the answer."""
    if isinstance(prompt, str):
        bos = tokenizer.bos_token_id
        return (tokenizer.bos_token if bos is not None and tokenizer("")["input_ids"][:1] == [bos] else "") + prompt
    return tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)


def pair_texts(row: dict[str, Any], tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """Return the texts of a preference row: the prompt with the chosen and with the rejected answer."""
    sequences = [row["prompt"] + row[side] for side in ("chosen", "rejected")]
    if isinstance(row["prompt"], str):
        return sequences
    return [tokenizer.apply_chat_template(messages, tokenize=False) for messages in sequences]


def with_variables(template: str, variables: Mapping[str, Any]) -> str:
    """
    Write variables into a chat template, so that training, generation and exported models use the same ones.

    Variables that are passed to the template win. A template that starts with these variables, as that of a continued run, is not changed.

    Args:
        template (`str`): The template.
        variables (`Mapping[str, Any]`): Values by name, such as `{"enable_thinking": False}`.

    Raises:
        [`PreferansError`]: if the template does not use a variable.
    """
    for name in variables:
        if not name.isidentifier() or not re.search(rf"\b{name}\b", template):
            raise PreferansError(
                f"chat_template_kwargs: the chat template has no variable '{name}'. Remove it, or write a name that the template has "
                "(chat_template.jinja or tokenizer_config.json in the model's folder)."
            )
    header = "".join(
        f"{{%- if {n} is not defined %}}{{%- set {n} = {value!r} %}}{{%- endif %}}" for n, value in variables.items()
    )
    return template if template.startswith(header) else header + template


def check_template(tokenizer: "PreTrainedTokenizerBase", location: str) -> None:
    """
    Check that a chat template can write a question and an answer.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): Tokenizer with a chat template.
        location (`str`): Location for messages.

    Raises:
        [`PreferansError`]: if it cannot be parsed, raises an error, or leaves out a message.
    """
    try:
        text = tokenizer.apply_chat_template(TRIED, tokenize=False)
        prompt_text(TRIED[:1], tokenizer)
        missing = [message["role"] for message in TRIED if message["content"] not in text]
        problem = f"it leaves out the message of the role '{missing[0]}'" if missing else ""
    except Exception as error:  # a template is a program, and may raise anything
        problem = one_line(error)
    if problem:
        raise PreferansError(
            f"{location}: the chat template is broken ({problem}). Fix it, or name another one with chat_template_path."
        )


def one_line(error: Exception) -> str:
    """Describe an error of a chat template in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split()):.200}"


def fold_system(messages: list[dict], tokenizer: "PreTrainedTokenizerBase") -> list[dict]:
    """Move the system message to the start of the user's first message if the chat template has no system role (Gemma)."""
    if messages[0]["role"] != "system" or len(messages) < 2:
        return messages
    try:
        text = tokenizer.apply_chat_template(messages[:2], tokenize=False)
    except Exception:  # a template is a program, and may raise anything
        text = ""
    if messages[0]["content"].strip() in text:
        return messages
    system, first, *others = messages
    return [{"role": "user", "content": f"{system['content']}\n\n{first['content']}"}, *others]


def fit_to_template(rows: "Dataset", tokenizer: "PreTrainedTokenizerBase", rows_name: str) -> "Dataset":
    """
    Fold the system messages of preference rows as [`fold_system`] does, and check that the chat template accepts every row.

    Args:
        rows ([`~datasets.Dataset`]): Preference rows; rows of plain texts are returned unchanged.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): Tokenizer with a chat template.
        rows_name (`str`): Name of the rows for messages.

    Raises:
        [`PreferansError`]: names the first row that the template rejects.
    """
    if isinstance(rows[0]["prompt"], str):
        return rows
    prompts = []
    for number, row in enumerate(rows):
        prompts.append(fold_system(row["prompt"], tokenizer))
        try:
            pair_texts(row | {"prompt": prompts[-1]}, tokenizer)
        except Exception as error:
            raise PreferansError(
                f"{rows_name}, row {number} ({row.get('id')}): the chat template rejects it ({one_line(error)}). Fix or remove the "
                "row, or name another template with chat_template_path."
            ) from None
    folded = sum(len(prompt) < len(row["prompt"]) for prompt, row in zip(prompts, rows, strict=True))
    if not folded:
        return rows
    print(
        f"{rows_name}: the chat template has no system role, so {folded} system messages are put before the first question."
    )
    changed: Any = rows.remove_columns("prompt")
    return changed.add_column("prompt", prompts, feature=rows.features["prompt"])
