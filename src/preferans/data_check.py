"""
What is wrong with a preference dataset before a model is trained on it, and a repaired copy.

A dataset in any of TRL's preference formats is read as pairs: an explicit prompt (`prompt`, `chosen`, `rejected`) or
an implicit one (`chosen` and `rejected` hold the whole conversation and begin alike), as lists of messages or as plain
texts. The majority of the rows decides which format a dataset is in; a row in another one is broken.

Errors would harm the training. [`fix_dataset`] repairs or drops such rows, unless template or language are at fault:

- `schema`: a column is missing or null, of a wrong type, or there is no common prompt.
- `roles`: a role unknown to TRL; a prompt that ends with neither user nor tool; an answer that is not one message of
  the assistant.
- `empty`: a message, prompt or answer without text.
- `equal`: chosen and rejected are the same text.
- `prompt_echo`: an answer begins with the question (of at least `ECHO_LENGTH` characters) or with the whole
  conversation, or has a question of at least `LONG_ECHO` characters anywhere in it.
- `tree_leakage`, `prompt_leakage`: a training row whose conversation tree, or nearly the same prompt, stands in
  another split. Splits whose name begins with `train` are training splits.
- `no_training_split`: no row stands in a split whose name begins with `train`.
- `contradiction`: a split says of the same prompt that A beats B and that B beats A.
- `language`: fewer than half of the chosen answers are in Russian, where they should be.
- `chat_template`: the template refuses the row.
- `double_bos`, `double_eos`, `missing_eos`: what TRL's tokens begin and end with. Any special token of the tokenizer
  ends an answer, since Gemma ends its turns with another one than `eos_token`; white space after it counts for
  nothing.
- `prompt_too_long`: the prompt alone fills `max_length`, and TRL drops the row without a word.

Warnings ask for a look:

- `tools`: tool messages, which TRL takes and `scripts/dpo.py` does not.
- `prompt_cut`: an implicit text prompt ends within a word, because both answers begin alike.
- `repeated_id`: a split has an id twice, with different contents. `duplicate`: it has the same pair twice.
- `length_bias`: of at least `SHARE_PAIRS` pairs, chosen is longer in at least `LENGTH_BIAS` or at most 1 -
  `LENGTH_BIAS`.
- `language`: less than `RUSSIAN_SHARE` of the chosen answers are in Russian. Answers without letters are left out.
- `foreign_words`: of at least `SHARE_PAIRS` chosen answers, at least `FOREIGN_SHARE` have intruding words of
  other languages.
- `template_tokens`: tokens of a chat template within a text. Plain prompts may have them.
- `truncated`: an answer's end lies beyond `max_length`, and the loss does not see it.
- `prompt_prefix`: the tokenized prompt is not the beginning of the tokenized prompt with its answer.
"""

import dataclasses
import itertools
import json
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from .cards import dataset_card, describe_source
from .duplicates import find_leaks
from .errors import PreferansError
from .files import iter_jsonl, read_json
from .language import cyrillic_share, foreign_words
from .preferences import ECHO_LENGTH, ROLES, ROW_COLUMNS, check_output_dir, load_preferences, write_dataset

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LONG_ECHO = 100
SHARE_PAIRS, LENGTH_BIAS = 20, 0.7
BOILERPLATE = 3  # different prompts that have a line in common
RUSSIAN_SHARE, FOREIGN_SHARE = 0.9, 0.3
FINDING_ROWS, EXAMPLE_ROWS = 5, 10
PROMPT_SHOWN, ANSWER_SHOWN = 240, 480
# Columns beyond the contract that a repaired dataset keeps: texts, truth values and numbers.
SIMPLE = (
    (lambda value: isinstance(value, str) and _is_unicode(value), pl.String),
    (lambda value: isinstance(value, bool), pl.Boolean),
    (lambda value: type(value) is int and -(2**31) <= value < 2**31, pl.Int32),
    (lambda value: type(value) is int and -(2**63) <= value < 2**63, pl.Int64),
    (lambda value: type(value) in (int, float) and abs(value) < 2**53, pl.Float64),
)
COLUMNS = ("prompt", "chosen", "rejected")
ANSWERS = ("chosen", "rejected")
JSON_ENDINGS = (".jsonl", ".json")
FILE_ENDINGS = (*JSON_ENDINGS, ".parquet")

_TEMPLATE_TOKEN = (
    r"<\|[\w ]{1,40}\|>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>|</s>|\[/?INST\]|<</?SYS>>|<｜[^｜\n]{1,40}｜>"
    r"|(?:^|(?<=\n))#{2,3} ?(?:Assistant|Human|User|System|Instruction|Response|Input|Prompter) ?:"
)
# What a line of a plain prompt begins with: «Вопрос:», "Human:", "### Instruction:".
_LABEL = re.compile(r"(?m)^[ \t#*]*[\w-]{1,20}(?: [\w-]{1,20})?:[ \t]*")

# For each check: whether its findings are errors, and the cure.
CHECKS = {
    "schema": (
        "error",
        "Mend these rows at their source. --fix drops what cannot be read, and mends a text prompt beside messages.",
    ),
    "roles": (
        "error",
        "A prompt is messages of system, user and assistant that end with one of the user; an answer is one message "
        "of the assistant. Mend the rows or let --fix drop them.",
    ),
    "empty": ("error", "Drop these rows; --fix does."),
    "equal": ("error", "Drop these rows; --fix does. There is nothing to prefer."),
    "prompt_echo": (
        "error",
        "Cut the prompt out of the answer: --fix cuts it at the beginning and drops the other rows.",
    ),
    "tree_leakage": ("error", "Split by message_tree_id, or let --fix drop these training rows."),
    "prompt_leakage": ("error", "Keep like prompts in one split, or let --fix drop these training rows."),
    "no_training_split": ("error", "Rename a split to train, or build the dataset again with more varied prompts."),
    "contradiction": ("error", "Decide which answer is better, or let --fix drop both rows."),
    "language": (
        "error",
        "Drop answers in other languages. If the dataset is meant to be in another one, say so: --language en.",
    ),
    "chat_template": (
        "error",
        "Bring the rows into the order that the template wants, or name another --chat_template_path.",
    ),
    "double_bos": ("error", "Take the beginning-of-text token out of the chat template, or out of a plain prompt."),
    "double_eos": (
        "error",
        "Take the end token out of the chat template or of the answers; --fix cuts it from answers.",
    ),
    "missing_eos": (
        "error",
        "Let the chat template write eos_token after each answer: a model that never sees one does not learn to end.",
    ),
    "prompt_too_long": ("error", "Raise --max_length and the recipe's max_length, or let --fix drop these rows."),
    "tools": ("warning", "scripts/dpo.py refuses such rows and --fix drops them; TRL itself can train on them."),
    "prompt_cut": ("warning", "Give the prompt a column of its own; --fix does, and moves the words to the answers."),
    "repeated_id": ("warning", "Give each row an id of its own, so that a row named in a report can be found."),
    "duplicate": ("warning", "Keep one of them, as --fix does: a pair that stands there twice weighs double."),
    "length_bias": (
        "warning",
        "Balance the pairs by length (data_builders/oasst1_ru.py has --max_length_ratio), or the model learns length.",
    ),
    "foreign_words": ("warning", "Look at these rows: a model learns to mix languages from its chosen answers."),
    "template_tokens": (
        "warning",
        "Cut them out, as the template adds its own; --fix cuts those at the end of answers.",
    ),
    "truncated": (
        "warning",
        "Raise max_length if the memory allows it, or shorten the answers: the loss never sees their end.",
    ),
    "prompt_prefix": (
        "warning",
        "Use a chat template that renders a prompt alike alone and with an answer; end a plain one before a space.",
    ),
}

# Why a row is left out of a repaired dataset, in the order of asking.
DROP_REASONS = {
    "broken": "broken (columns, types or roles)",
    "tools": "has tool messages",
    "empty": "no text left in the prompt or an answer",
    "equal": "chosen and rejected are the same text",
    "prompt_echo": "an answer repeats the prompt",
    "chat_template": "the chat template refuses it",
    "prompt_too_long": "the prompt alone fills max_length",
    "duplicate": "stands there already",
    "contradiction": "contradicts another row",
    "tree_leakage": "training row whose conversation tree stands in another split",
    "prompt_leakage": "training row whose prompt nearly stands in another split",
}
REPAIRS = {
    "prompt": "given an explicit prompt",
    "echo": "with the prompt cut from an answer's beginning",
    "tokens": "with template tokens cut from an answer's end",
    "stripped": "with white space cut around an answer",
}
RULE = """The rows of the source, repaired: each has an explicit prompt, and answers lose the white space around them,
a prompt repeated at their beginning, and tokens of a chat template at their end. Rows that cannot be repaired, repeat
or contradict another one, or whose conversation or prompt (at least 0.7 of the five-letter pieces in common) stands in
another split are left out, as counted below. Where a tokenizer is named, so are rows that its chat template refuses
and those whose prompt alone fills `max_length`."""


@dataclasses.dataclass
class Finding:
    """
    One thing that is wrong with a dataset.

    Attributes:
        check (`str`): Name of the check, a key of `CHECKS`.
        severity (`str`): `"error"` or `"warning"`.
        count (`int`), share (`float`): How many rows, and their share of all rows that the check looked at.
        rows (`list[str]`): Up to five of them, by id, or by split and number.
        problem (`str`), cure (`str`): What is wrong and what to do, a sentence or two each.
    """

    check: str
    severity: str
    count: int
    share: float
    rows: list[str]
    problem: str
    cure: str


@dataclasses.dataclass
class Report:
    """
    What [`check_dataset`] found.

    Attributes:
        splits (`dict[str, int]`): Rows by split.
        format (`str`): `"conversational"` or `"text"`.
        prompt (`str`): `"explicit"` or `"implicit"`.
        findings (`list[Finding]`): Errors first.
        lengths (`dict`): Unit, statistics and histogram of the lengths; empty without a readable pair.
        examples (`list[dict]`): Rows as the trainer sees them.
    """

    splits: dict[str, int]
    format: str
    prompt: str
    findings: list[Finding]
    lengths: dict
    examples: list[dict]

    @property
    def harmful(self) -> bool:
        return any(finding.severity == "error" for finding in self.findings)

    def as_json(self, dataset: str) -> dict:
        plain = dataclasses.asdict(self)
        return {"dataset": dataset} | plain | {"harmful": self.harmful}


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
    from datasets import load_dataset_builder

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
        from trl.data_utils import extract_prompt

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


def template_pattern(tokenizer: "PreTrainedTokenizerBase | None" = None) -> re.Pattern:
    """Pattern of the chat templates' tokens, those of `tokenizer` among them."""
    own = [] if tokenizer is None else sorted({token for token in tokenizer.all_special_tokens if len(token) > 2})
    return re.compile("|".join([_TEMPLATE_TOKEN, *map(re.escape, own)]))


def load_checked_tokenizer(
    name: str, chat_template_path: str | None, conversational: bool
) -> "PreTrainedTokenizerBase":
    """
    Load the tokenizer of a model, without its weights.

    Args:
        name (`str`):
            Folder or id on the Hub.
        chat_template_path (`str`, *optional*):
            Jinja file that replaces the tokenizer's own chat template.
        conversational (`bool`):
            Whether a chat template is needed.

    Raises:
        [`PreferansError`]: when it cannot be read, lacks a chat template that is needed, or a token that ends a text.
    """
    from .training import check_model_exists, load_tokenizer

    if not Path(name).is_dir():
        check_model_exists(name)
    tokenizer = load_tokenizer(name, "main", chat_template_path, chat=conversational)
    if tokenizer.eos_token is None:
        raise PreferansError(
            f"model_name_or_path {name}: its tokenizer has no eos_token, and TRL needs one. Set it there."
        )
    return tokenizer


def tokenize_pair(pair: Pair, tokenizer: "PreTrainedTokenizerBase") -> dict[str, list[int]]:
    """
    Tokenize a pair as the step of [`~trl.DPOTrainer`] that prepares a dataset does.

    Args:
        pair (`Pair`):
            A pair that can be read.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer, with a chat template for a conversational pair.

    Returns:
        `dict[str, list[int]]`: TRL's `prompt_ids`, `chosen_ids` and `rejected_ids`, and `lost_ids`, the end of the
        tokenized prompt that is not in the training sequence.
    """
    from trl.data_utils import _tokenize, common_prefix_length

    if isinstance(pair.prompt, str):
        options, prompt_options = {}, {}
        ended = [
            text if text.endswith(tokenizer.eos_token) else text + tokenizer.eos_token
            for text in (pair.chosen, pair.rejected)
        ]
    else:
        tools = pair.row.get("tools")
        tools = json.loads(tools) if isinstance(tools, str) else tools
        options = {"tools": tools, **pair.row.get("chat_template_kwargs", {})}
        prompt_options, ended = {"add_generation_prompt": True}, [pair.chosen, pair.rejected]
    prompt = list(_tokenize(tokenizer, pair.prompt, **prompt_options, **options)["input_ids"])
    whole = [list(_tokenize(tokenizer, pair.prompt + answer, **options)["input_ids"]) for answer in ended]
    length = min(common_prefix_length(prompt, ids) for ids in whole)
    return {
        "prompt_ids": prompt[:length],
        "chosen_ids": whole[0][length:],
        "rejected_ids": whole[1][length:],
        "lost_ids": prompt[length:],
    }


def tokenize_pairs(
    pairs: list[Pair], tokenizer: "PreTrainedTokenizerBase", max_length: int
) -> tuple[list[dict[str, list[int]] | None], list[tuple[Pair, Problem]]]:
    """
    Tokenize pairs, and look at the tokens.

    Args:
        pairs (`list[Pair]`):
            Pairs that can be read.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer, with a chat template for conversational pairs.
        max_length (`int`):
            Tokens of prompt and answer together.

    Returns:
        `tuple[list[dict | None], list[tuple[Pair, Problem]]]`: the tokens of each pair, or `None` where the chat
        template refuses it, and the problems.
    """
    from tqdm.auto import tqdm

    ends = end_tokens(tokenizer)
    tokens, problems = [], []
    for pair in tqdm(pairs, desc="Tokenizing", unit="pair", disable=None):
        try:
            tokens.append(tokenize_pair(pair, tokenizer))
        except Exception as error:  # a template is a program of its own, and fails in its own ways
            tokens.append(None)
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            problems.append((pair, Problem("chat_template", "the chat template refuses the row", reason)))
        else:
            problems += [(pair, found) for found in _token_problems(tokens[-1], tokenizer, max_length, ends)]
    return tokens, problems


def end_tokens(tokenizer: "PreTrainedTokenizerBase") -> set[int]:
    """Tokens that may end an answer: the end of text, and other special ones, such as Gemma's `<end_of_turn>`."""
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    return special - {tokenizer.bos_token_id, tokenizer.unk_token_id} | {tokenizer.eos_token_id}


def _token_problems(
    tokens: dict[str, list[int]], tokenizer: "PreTrainedTokenizerBase", max_length: int, ends: set[int]
) -> Iterator[Problem]:
    prompt = tokens["prompt_ids"]
    if tokens["lost_ids"]:
        lost = f"{tokenizer.decode(tokens['lost_ids'])!r:.100} is lost"
        yield Problem("prompt_prefix", "the tokenized prompt is not the beginning of prompt and answer", lost)
    begin = (prompt + tokens["chosen_ids"])[:2]
    if tokenizer.bos_token_id is not None and begin == [tokenizer.bos_token_id] * 2:
        yield Problem("double_bos", f"the tokens begin with {tokenizer.bos_token} twice")
    endings = [_last_tokens(tokens[f"{column}_ids"], tokenizer, ends) for column in ANSWERS]
    if any(not ending or ending[0] not in ends for ending in endings):
        yield Problem("missing_eos", f"the tokens of an answer end without an end token such as {tokenizer.eos_token}")
    for ending in endings:
        if len(ending) == 2 and ending[0] == ending[1] and ending[0] in ends:
            yield Problem("double_eos", f"the tokens of an answer end with {tokenizer.decode(ending[0])} twice")
            break
    longest = len(prompt) + max(len(tokens[f"{column}_ids"]) for column in ANSWERS)
    if len(prompt) >= max_length:
        words = f"the prompt alone fills max_length {max_length}"
        yield Problem("prompt_too_long", words, f"one of {len(prompt)} tokens")
    elif longest > max_length:
        words = f"the end of an answer lies beyond max_length {max_length}"
        yield Problem("truncated", words, f"{longest} tokens with the prompt")


def _last_tokens(ids: list[int], tokenizer: "PreTrainedTokenizerBase", ends: set[int]) -> list[int]:
    """The last token and the one before it, without the white space that a template may write after its end token."""
    marks = []
    for token in reversed(ids):
        if token in ends or tokenizer.decode([token]).strip():
            marks.append(token)
            if len(marks) == 2:
                break
    return marks


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


def _row_problems(pair: Pair, template_token: re.Pattern) -> Iterator[Problem]:
    """What can be said of a pair by itself."""
    for column in ANSWERS:
        problem = _echo(pair, column)
        if problem:
            yield problem
    if pair.mixed:
        yield Problem("schema", "'prompt' is a text, while 'chosen' and 'rejected' are lists of messages")
    if pair.has_tools:
        yield Problem("tools", "the row has messages of or for a tool")
    plain = isinstance(pair.prompt, str)
    # a plain prompt may well be one that a template has rendered
    texts = {} if plain else {"prompt": "\n".join(map(_content, pair.prompt))}
    for column, text in (texts | {column: pair.text(column) for column in ANSWERS}).items():
        found = template_token.search(text)
        if found:
            yield Problem("template_tokens", f"'{column}' has tokens of a chat template", found[0].strip())
    if plain and "prompt" not in pair.row and _within_word(pair.prompt, pair.chosen, pair.rejected):
        words = "the common beginning of both answers ends within a word"
        yield Problem("prompt_cut", words, repr(pair.prompt[-20:]))


def _within_word(prompt: str, *answers: str) -> bool:
    return bool(re.search(r"\w$", prompt)) and any(re.match(r"\w", answer) for answer in answers)


def _repetitions(pairs: list[Pair]) -> Iterator[tuple[Pair, Problem]]:
    """Pairs that say within a split what another one has said, or its contrary."""
    first: dict[tuple, str] = {}
    identities: dict[tuple, tuple] = {}
    contents = [(pair.split, *(pair.key(column) for column in COLUMNS)) for pair in pairs]
    for pair, content in zip(pairs, contents, strict=True):
        if content in first:
            yield pair, Problem("duplicate", "the same pair stands earlier in the split", f"in {first[content]}")
        first.setdefault(content, pair.label)
        identity = pair.row.get("id")
        if isinstance(identity, str | int) and identities.setdefault((pair.split, identity), content) != content:
            yield pair, Problem("repeated_id", "the id stands earlier in the split, with other contents")
    words = "the same prompt has the same answers the other way round"
    for pair, (split, prompt, chosen, rejected) in zip(pairs, contents, strict=True):
        contrary = first.get((split, prompt, rejected, chosen))
        if contrary is not None:
            yield pair, Problem("contradiction", words, f"in {contrary}")


def _leaks(pairs: list[Pair]) -> Iterator[tuple[Pair, Problem]]:
    """Training pairs whose tree, or nearly the same prompt, stands in another split."""
    splits: dict[str, list[Pair]] = {}
    for pair in pairs:
        splits.setdefault(pair.split, []).append(pair)
    training = {name for name in splits if is_training(name)}
    asked = _asked(pairs)
    for name, other in itertools.product(sorted(training), sorted(splits.keys() - training)):
        trees = {_tree(pair) for pair in splits[other]} - {None}
        leaks = find_leaks(*([asked[id(pair)] for pair in splits[part]] for part in (name, other)))
        tree_words = f"the conversation tree also stands in the split {other}"
        prompt_words = f"nearly the same prompt stands in the split {other}"
        for pair, leak in zip(splits[name], leaks, strict=True):
            if _tree(pair) in trees:
                yield pair, Problem("tree_leakage", tree_words, _tree(pair))
            if leak is not None:
                yield pair, Problem("prompt_leakage", prompt_words, f"in {splits[other][leak].label}")


def _asked(pairs: list[Pair]) -> dict[int, tuple[str, str]]:
    """
    What each pair asks, its opening and all of it. Lines that several different prompts share are those of a template or an
    instruction, and would make all prompts alike.
    """
    asked = [(pair.opening, pair.asked) for pair in pairs]
    shared = [
        Counter(line for text in set(part) for line in set(text.splitlines())) for part in zip(*asked, strict=True)
    ]

    def own(text: str, lines: Counter) -> str:
        return "\n".join(line for line in text.splitlines() if lines[line] < BOILERPLATE) or text

    return {
        id(pair): tuple(own(text, lines) for text, lines in zip(said, shared, strict=True))
        for pair, said in zip(pairs, asked, strict=True)
    }


def is_training(split: str) -> bool:
    return split.startswith("train")


def _tree(pair: Pair) -> str | None:
    tree = pair.row.get("message_tree_id")
    return str(tree) if isinstance(tree, str | int) else None


def _length_bias(pairs: list[Pair]) -> Finding | None:
    if len(pairs) < SHARE_PAIRS:
        return None
    longer = sum(len(pair.text("chosen").strip()) > len(pair.text("rejected").strip()) for pair in pairs)
    share = longer / len(pairs)
    if 1 - LENGTH_BIAS < share < LENGTH_BIAS:
        return None
    problem = f"'chosen' is the longer answer in {share:.0%} of the pairs"
    return _finding("length_bias", longer, len(pairs), [], problem)


def _language(pairs: list[Pair]) -> Iterator[Finding]:
    """Findings on chosen answers that are not in Russian, or not in it alone."""
    shares = {column: [cyrillic_share(pair.text(column)) for pair in pairs] for column in ANSWERS}
    russian = {column: [share > 0.5 for share in found if share is not None] for column, found in shares.items()}
    chosen = russian["chosen"]
    if chosen and statistics.fmean(chosen) < RUSSIAN_SHARE:
        labelled = zip(pairs, shares["chosen"], strict=True)
        strangers = [pair.label for pair, share in labelled if share is not None and share <= 0.5]
        means = {column: statistics.fmean(found) if found else 0 for column, found in russian.items()}
        problem = (
            f"{means['chosen']:.0%} of the chosen and {means['rejected']:.0%} of the rejected answers are in Russian"
        )
        severity = "error" if means["chosen"] < 0.5 else "warning"
        yield _finding("language", len(strangers), len(chosen), strangers, problem, severity)
    if len(pairs) < SHARE_PAIRS or (chosen and statistics.fmean(chosen) < 0.5):
        return
    mixed = {
        column: [pair.label for pair in pairs if foreign_words(pair.text(column), pair.asked)] for column in ANSWERS
    }
    share = {column: len(labels) / len(pairs) for column, labels in mixed.items()}
    if share["chosen"] >= FOREIGN_SHARE:
        problem = (
            f"{share['chosen']:.0%} of the chosen and {share['rejected']:.0%} of the rejected answers have "
            "intruding words of other languages"
        )
        yield _finding("foreign_words", len(mixed["chosen"]), len(pairs), mixed["chosen"], problem)


def _finding(check: str, count: int, of: int, rows: list[str], problem: str, severity: str | None = None) -> Finding:
    usual, cure = CHECKS[check]
    return Finding(check, severity or usual, count, count / of, rows[:FINDING_ROWS], _capital(problem) + ".", cure)


def _grouped(problems: Iterable[tuple[str, Problem]], of: int, of_training: int) -> Iterator[Finding]:
    """One finding for each kind of problem that rows have."""
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for label, problem in problems:
        groups.setdefault((problem.check, problem.words), []).append((label, problem.detail))
    for (check, words), members in groups.items():
        detail = next((detail for _, detail in members if detail), "")
        example = ", for example " if len(members) > 1 else ": "
        sentence = f"{words}{example}{detail}" if detail else words
        total = of_training if check.endswith("_leakage") else of
        yield _finding(check, len(members), total, [label for label, _ in members], sentence)


def check_dataset(
    splits: dict[str, list],
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    max_length: int = 1024,
    language: str = "ru",
) -> Report:
    """
    Check a preference dataset.

    Args:
        splits (`dict[str, list]`):
            Rows by split, see [`read_dataset`]. They may be anything.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            Tokenizer of the model to train. Without it lengths are in characters, and tokens are not checked.
        max_length (`int`, *optional*, defaults to `1024`):
            Tokens of prompt and answer together, as in the recipe.
        language (`str`, *optional*, defaults to `"ru"`):
            Language that the answers should be in. Only Russian can be checked.

    Returns:
        [`Report`]: the findings, errors before warnings and those with most rows first, lengths, and rows as the
        trainer sees them.
    """
    pairs, problems = read_pairs(splits)
    template_token = template_pattern(tokenizer)
    found = [(pair, problem) for pair in pairs for problem in _row_problems(pair, template_token)]
    found += [*_repetitions(pairs), *_leaks(pairs)]
    tokens: list[dict | None] = [None] * len(pairs)
    if tokenizer is not None:
        tokens, faults = tokenize_pairs(pairs, tokenizer, max_length)
        found += faults
    problems += [(pair.label, problem) for pair, problem in found]
    rows = {name: len(part) for name, part in splits.items()}
    training = sum(number for name, number in rows.items() if is_training(name))
    findings = list(_grouped(problems, sum(rows.values()), training))
    if rows and not training:
        names = ", ".join(rows)
        problem = (
            f"no split has rows to train on: its splits are {names}, and a training split's name begins with train"
        )
        findings.append(_finding("no_training_split", sum(rows.values()), max(1, sum(rows.values())), [], problem))
    if bias := _length_bias(pairs):
        findings.append(bias)
    if language == "ru":
        findings += _language(pairs)
    findings.sort(key=lambda finding: (finding.severity != "error", -finding.count))
    if not pairs:
        for finding in findings:
            finding.cure = (
                "A pair has the columns prompt, chosen and rejected: build such rows first, see data_builders/."
            )
    conversational, implicit = dataset_format(splits)
    shown = [(pair, ids) for pair, ids in zip(pairs, tokens, strict=True) if tokenizer is None or ids is not None]
    return Report(
        rows,
        "conversational" if conversational else "text",
        "implicit" if implicit else "explicit",
        findings,
        _lengths(shown, tokenizer, max_length) if shown else {},
        [_example(pair, ids, tokenizer, max_length) for pair, ids in _examples(shown)],
    )


def _examples(shown: list[tuple[Pair, dict | None]]) -> list[tuple[Pair, dict | None]]:
    """Rows to show: of the training splits if there are any, evenly spread."""
    shown = [entry for entry in shown if is_training(entry[0].split)] or shown
    number = min(EXAMPLE_ROWS, len(shown))
    return [shown[i * len(shown) // number] for i in range(number)]


def _example(pair: Pair, ids: dict | None, tokenizer: "PreTrainedTokenizerBase | None", max_length: int) -> dict:
    example = {"row": pair.label, "split": pair.split}
    if ids is None:
        return example | {column: getattr(pair, column) for column in COLUMNS}
    for column in ANSWERS:
        prompt, answer = ids["prompt_ids"], ids[f"{column}_ids"]
        kept = answer[: max(0, max_length - len(prompt))]
        masked = tokenizer.decode(prompt)
        whole = tokenizer.decode(prompt + kept)
        # A token may be decoded otherwise at the beginning of a text than within it.
        scored = whole[len(masked) :] if whole.startswith(masked) else tokenizer.decode(kept)
        example[column] = {
            "masked": masked,
            "scored": scored,
            "masked_tokens": len(prompt),
            "scored_tokens": len(kept),
            "cut_tokens": len(answer) - len(kept),
        }
    return example


def _lengths(
    shown: list[tuple[Pair, dict | None]], tokenizer: "PreTrainedTokenizerBase | None", max_length: int
) -> dict:
    lengths: dict[str, list[int]] = {column: [] for column in COLUMNS}
    for pair, ids in shown:
        for column in COLUMNS:
            if ids is not None:
                lengths[column].append(len(ids[f"{column}_ids"]))
            elif column == "prompt":
                lengths[column].append(
                    len(pair.prompt if isinstance(pair.prompt, str) else "".join(map(_content, pair.prompt)))
                )
            else:
                lengths[column].append(len(pair.text(column)))
    pairs = [prompt + max(answers) for prompt, *answers in zip(*lengths.values(), strict=True)]
    table = {"unit": "characters" if tokenizer is None else "tokens"}
    if tokenizer is not None:
        table["max_length"] = max_length
    for name, values in {"pair": pairs, **lengths}.items():
        table[name] = {
            "mean": round(statistics.fmean(values), 1),
            "median": statistics.median_low(values),
            "p95": sorted(values)[(len(values) - 1) * 95 // 100],
            "longest": max(values),
        }
    return table | {"histogram": _histogram(pairs, table["pair"]["p95"])}


def _histogram(values: list[int], usual: int) -> list[dict[str, int | None]]:
    """About eight steps up to what 95 % do not exceed, from the first that is not empty, and one for the rest."""
    step = next(
        size * power
        for power in (10**exponent for exponent in range(20))
        for size in (1, 2, 5)
        if 8 * size * power > usual
    )
    last = usual // step + 1
    counts = Counter(min(value // step, last) for value in values)
    bars = [{"from": i * step, "below": (i + 1) * step, "rows": counts[i]} for i in range(last)]
    if counts[last]:
        bars.append({"from": last * step, "below": None, "rows": counts[last]})
    return list(itertools.dropwhile(lambda bar: not bar["rows"], bars))


def report_text(report: Report, dataset: str) -> str:
    """
    A report for a person.

    Args:
        report ([`Report`]):
            What [`check_dataset`] found.
        dataset (`str`):
            What the dataset is called.

    Returns:
        `str`: rows as the trainer sees them, lengths, findings, and the verdict last.
    """
    described = f"; {report.format}, {report.prompt} prompt" if report.lengths else ""
    lines = [f"{dataset}: {_sizes(report)}{described}.", ""]
    if report.examples:
        lines += _example_lines(report)
    if report.lengths:
        lines += _length_lines(report.lengths)
    for finding in report.findings:
        lines += _finding_lines(finding)
    return "\n".join([*lines, verdict(report)])


def _sizes(report: Report) -> str:
    return ", ".join(f"{_rows(number)} in {split}" for split, number in report.splits.items())


def _rows(number: int) -> str:
    return f"{number:,} row{'s' if number != 1 else ''}"


def verdict(report: Report) -> str:
    """The findings in one line."""
    if not report.lengths:
        refused = any(finding.check == "chat_template" for finding in report.findings)
        return "The chat template refuses every row." if refused else "Not one row can be read as a preference pair."
    named = {"error": "no errors", "warning": "no warnings"}
    for severity in named:
        checks = Counter(finding.check for finding in report.findings if finding.severity == severity)
        if checks:
            number = sum(checks.values())
            named[severity] = f"{number} {severity}{'s' if number > 1 else ''} ({', '.join(checks)})"
    advice = "Training on it would be harmed." if report.harmful else "It can be trained on."
    return _capital(f"{named['error']}, {named['warning']}. {advice}")


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _finding_lines(finding: Finding) -> list[str]:
    rows = ", ".join(finding.rows) + (", …" if finding.count > len(finding.rows) else "")
    number = f"{_rows(finding.count)}, {finding.share:.1%}"
    return [
        f"{finding.severity.upper()} {finding.check} ({number}): {_one_line(finding.problem)}",
        f"  {finding.cure}",
        *([f"  Rows: {rows}"] if finding.rows else []),
        "",
    ]


def _example_lines(report: Report) -> list[str]:
    tokens = report.lengths["unit"] == "tokens"
    what = "as the trainer sees them; the loss counts what is between ⟦ and ⟧" if tokens else "of the training split"
    lines = [f"{len(report.examples)} rows {what} (↵ is a line break, […] is left out here):", ""]
    for number, example in enumerate(report.examples, start=1):
        lines.append(f"{number}. {example['row']}")
        if not tokens:
            lines += [f"  {column + ':':<9} {_shown_text(example[column], column)}" for column in COLUMNS]
        for column in ANSWERS if tokens else ():
            part = example[column]
            cut = f" ✂ {part['cut_tokens']} tokens beyond max_length" if part["cut_tokens"] else ""
            lines.append(
                f"  {column + ':':<9} {_shown(part['masked'], PROMPT_SHOWN)}⟦{_shown(part['scored'], ANSWER_SHOWN)}⟧"
                f"{cut} ({part['masked_tokens']} + {part['scored_tokens']} tokens)"
            )
        lines.append("")
    return lines


def _shown_text(value: list[dict] | str, column: str) -> str:
    limit = PROMPT_SHOWN if column == "prompt" else ANSWER_SHOWN
    if isinstance(value, str):
        return _shown(value, limit)
    if column != "prompt":
        return _shown(_content(value[0]), limit)
    return " ".join(f"[{message['role']}] {_shown(_content(message), limit)}" for message in value)


def _one_line(text: str) -> str:
    # other control characters would command the terminal
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "�", text.replace("\r", "").replace("\n", "↵").replace("\t", " "))


def _shown(text: str, limit: int) -> str:
    """A text on one line, shortened in the middle."""
    text = _one_line(text)
    return text if len(text) <= limit else f"{text[: limit // 2]} […] {text[-(limit // 2) :]}"


def _length_lines(lengths: dict) -> list[str]:
    unit, pair = lengths["unit"], lengths["pair"]
    lines = [
        f"Length of the prompt with the longer answer, in {unit}: mean {pair['mean']:.0f}, median {pair['median']}, "
        f"95 % up to {pair['p95']}, longest {pair['longest']}.",
        f"Alone, mean: prompt {lengths['prompt']['mean']:.0f}, chosen {lengths['chosen']['mean']:.0f}, rejected "
        f"{lengths['rejected']['mean']:.0f}.",
        "",
    ]
    most = max(bar["rows"] for bar in lengths["histogram"])
    for bar in lengths["histogram"]:
        label = f"{bar['from']} and more" if bar["below"] is None else f"{bar['from']} to {bar['below'] - 1}"
        full = "█" * -(-40 * bar["rows"] // most)
        lines.append(f"  {label:>16} {bar['rows']:>7,} {full}".rstrip())
    return [*lines, ""]


def fix_dataset(
    splits: dict[str, list], tokenizer: "PreTrainedTokenizerBase | None" = None, max_length: int = 1024
) -> tuple[dict[str, pl.DataFrame], dict[str, list[tuple[str, int | str]]]]:
    """
    Repair what can be repaired in a preference dataset, and drop the other rows.

    Args:
        splits (`dict[str, list]`):
            Rows by split, see [`read_dataset`].
        tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            Tokenizer of the model to train. With it, rows that it cannot take are dropped as well.
        max_length (`int`, *optional*, defaults to `1024`):
            Tokens of prompt and answer together.

    Returns:
        `tuple[dict[str, pl.DataFrame], dict[str, list[tuple]]]`: the repaired rows by split, without empty splits, and
        tables of counts for a card. Every row read is either kept or counted under one of `DROP_REASONS`.
    """
    pairs, problems = read_pairs(splits)
    dropped = Counter(problem.check if problem.check in DROP_REASONS else "broken" for _, problem in problems)
    template_token = template_pattern(tokenizer)
    trailing = re.compile(f"(?:{template_token.pattern})\\Z")
    mended = [_repaired(pair, trailing) for pair in pairs]
    repairs = {(pair.split, pair.number): done for pair, done in mended}
    kept = [pair for pair, _ in mended]
    left = ((pair, found) for pair in kept for found in (*_left_problems(pair), *_row_problems(pair, template_token)))
    kept = _without(kept, left, dropped)
    if tokenizer is not None:
        kept = _without(kept, tokenize_pairs(kept, tokenizer, max_length)[1], dropped)
    kept = _without(kept, _repetitions(kept), dropped)
    kept = _without(kept, _leaks(kept), dropped)
    repaired = Counter(repair for pair in kept for repair in repairs[pair.split, pair.number])
    frame, left_out = _pair_frame(kept)
    counts = {
        "rows": [
            ("read", sum(map(len, splits.values()))),
            *((f"dropped: {words}", dropped[reason]) for reason, words in DROP_REASONS.items() if dropped[reason]),
            ("kept", len(kept)),
        ],
        "repairs": [(f"rows {words}", repaired[repair]) for repair, words in REPAIRS.items() if repaired[repair]],
    }
    if left_out:
        counts["columns"] = [("left out, being neither texts nor numbers", ", ".join(left_out))]
    names = pl.Series([pair.split for pair in kept], dtype=pl.String)
    frames = {split: frame.filter(names == split) for split in splits}
    frames = {split: rows for split, rows in frames.items() if len(rows)}
    return frames, {name: table for name, table in counts.items() if table}


def _left_problems(pair: Pair) -> Iterator[Problem]:
    """What may come to light when answers lose their prompt and tokens."""
    for column in ANSWERS:
        if not pair.text(column).strip():
            yield _empty(column)
    if pair.key("chosen") == pair.key("rejected"):
        yield _equal()


def _without(pairs: list[Pair], problems: Iterable[tuple[Pair, Problem]], dropped: Counter) -> list[Pair]:
    """Pairs without a problem of `DROP_REASONS`; the others are counted under the first of them."""
    checks: dict[tuple[str, int], set[str]] = {}
    for pair, problem in problems:
        checks.setdefault((pair.split, pair.number), set()).add(problem.check)
    kept = []
    for pair in pairs:
        found = checks.get((pair.split, pair.number), set())
        reason = next((reason for reason in DROP_REASONS if reason in found), None)
        if reason is None:
            kept.append(pair)
        else:
            dropped[reason] += 1
    return kept


def _repaired(pair: Pair, trailing: re.Pattern) -> tuple[Pair, set[str]]:
    """A pair with an explicit prompt and clean answers, and the `REPAIRS` this took."""
    repairs = {"prompt"} if pair.mixed or "prompt" not in pair.row else set()
    if pair.echoes:
        repairs.add("echo")
    prompt, texts = pair.prompt, {column: pair.text(column) for column in ANSWERS}
    if isinstance(prompt, str) and "prompt" not in pair.row and _within_word(prompt, *texts.values()):
        begun = re.search(r" ?\w+$", prompt)[0]
        if len(begun) < len(prompt):
            prompt = prompt.removesuffix(begun)
            texts = {column: begun + text for column, text in texts.items()}
    pair = dataclasses.replace(pair, prompt=prompt, echoes=(), mixed=False, **texts)
    questions = [question for question in pair.questions if len(question) >= ECHO_LENGTH]
    for column, text in texts.items():
        # the white space between a plain prompt and its answer belongs to the text
        space = text[: len(text) - len(text.lstrip())] if isinstance(prompt, str) else ""
        clean = text.strip()
        if space + clean != text:
            repairs.add("stripped")
        while True:
            shorter = trailing.sub("", clean).rstrip()
            if shorter != clean:
                repairs.add("tokens")
            question = next((question for question in questions if shorter.startswith(question)), None)
            if question:
                shorter = shorter.removeprefix(question).strip()
                repairs.add("echo")
            if shorter == clean:
                break
            clean = shorter
        answer = space + clean
        texts[column] = answer if isinstance(prompt, str) else [{"role": "assistant", "content": answer}]
    return dataclasses.replace(pair, **texts), repairs


def _pair_frame(pairs: list[Pair]) -> tuple[pl.DataFrame, list[str]]:
    """Pairs as a table for [`~preferences.write_dataset`], and the columns that it cannot hold."""
    conversational = not pairs or not isinstance(pairs[0].prompt, str)
    columns = {"id": pl.Series([pair.label for pair in pairs], dtype=pl.String)}
    for column in COLUMNS:
        values = [getattr(pair, column) for pair in pairs]
        if conversational:
            values = [
                [{"role": message["role"], "content": message["content"]} for message in messages]
                for messages in values
            ]
        columns[column] = pl.Series(values, dtype=ROW_COLUMNS[column] if conversational else pl.String)
    names = dict.fromkeys([*ROW_COLUMNS, *(name for pair in pairs for name in pair.row)])
    left_out = []
    for name in names:
        values = [pair.row.get(name) for pair in pairs]
        if name in columns or all(value is None for value in values):
            continue
        kind = next((kind for simple, kind in SIMPLE if all(value is None or simple(value) for value in values)), None)
        if kind is None or not _is_unicode(name):
            left_out.append(name)
        else:
            columns[name] = pl.Series(values, dtype=kind)
    return pl.DataFrame(columns), left_out


def write_fixed(
    output_dir: str | Path,
    dataset: str,
    splits: dict[str, list],
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    max_length: int = 1024,
    language: str = "ru",
    command: str = "",
) -> tuple[dict[str, list[tuple[str, int | str]]], Report]:
    """
    Write a repaired dataset folder with its card, and check it again as it stands there.

    Args:
        output_dir (`str` or `Path`):
            Folder to make, see [`~preferences.write_dataset`].
        dataset (`str`):
            What was read, see [`read_dataset`].
        splits (`dict[str, list]`):
            Its rows.
        tokenizer, max_length, language:
            As for [`check_dataset`].
        command (`str`, *optional*):
            Command for the card.

    Returns:
        `tuple[dict, Report]`: tables of counts, and what is found in the repaired dataset.

    Raises:
        [`PreferansError`]: when no row is left, or `output_dir` holds something else.
    """
    frames, counts = fix_dataset(splits, tokenizer, max_length)
    if not frames:
        raise PreferansError(
            f"--fix {output_dir}: not one row of {dataset} can be kept ({_in_words(counts['rows'][1:-1])}), so "
            "nothing is written. Build preference pairs first, see data_builders/."
        )
    source, licence = describe_source(dataset)
    options = {} if tokenizer is None else {"tokenizer": Path(tokenizer.name_or_path).name, "max_length": max_length}
    rows = sum(map(len, frames.values()))
    card = dataset_card(
        "Repaired preference pairs",
        f"{rows:,} preference pairs, repaired by Preferans: see what was cut and left out below.",
        RULE,
        frames,
        language=language,
        licence=licence,
        tags=[],
        source=source,
        options={"repaired": "yes", **options},
        command=command,
        counts=counts,
    )
    write_dataset(output_dir, frames, card)
    return counts, check_dataset(read_dataset(str(output_dir)), tokenizer, max_length, language)


def check_fix_dir(output_dir: str, dataset: str) -> None:
    """
    Check that a repaired dataset may be written to `output_dir`.

    Raises:
        [`PreferansError`]: when it holds something else, or the dataset that is to be repaired.
    """
    if Path(dataset).exists() and Path(output_dir).resolve() in (
        Path(dataset).resolve(),
        *Path(dataset).resolve().parents,
    ):
        raise PreferansError(
            f"--fix {output_dir}: the dataset itself is there and would be replaced. Name a new folder."
        )
    try:
        check_output_dir(output_dir)
    except PreferansError as error:
        raise PreferansError(str(error).replace("--output_dir", "--fix", 1)) from None


def fixed_text(output_dir: str, counts: dict[str, list[tuple[str, int | str]]], report: Report) -> str:
    """What was repaired and how the repaired dataset fares, for a person."""
    lines = [f"\nRepaired dataset in {output_dir}: {_sizes(report)}."]
    for table in counts.values():
        lines += [
            f"  {value:>8,}  {label}" if isinstance(value, int) else f"  {label}: {value}" for label, value in table
        ]
    for finding in report.findings:
        if finding.severity == "error":
            lines += ["", *_finding_lines(finding)[:-1]]
    return "\n".join([*lines, "", f"Checked again: {verdict(report)}"])


def _in_words(table: list[tuple[str, int | str]]) -> str:
    return ", ".join(f"{number} {label}" for label, number in table)
