"""Write a repaired copy of a preference dataset."""

import argparse
import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ..errors import PreferansError
from ..text.characters import THINKING, repair_characters
from ..utf8 import is_unicode, normal_form
from .answer_problems import column_damage, content_problems
from .card import CardContent, dataset_card
from .check import Report, check_dataset
from .check_tokens import template_pattern, tokenize_pairs
from .formats import read_dataset
from .pair_problems import leaks, problems_alone, repetitions
from .pairs import ANSWERS, COLUMNS, Pair, Problem, empty_problem, equal_problem, is_labelled, message_text, read_pairs
from .preferences import ECHO_LENGTH
from .source import describe_source
from .tables import ROW_COLUMNS, check_output_dir, write_dataset

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_Counts = dict[str, list[tuple[str, int | str]]]

# Types of the columns beyond the contract that a repaired dataset keeps.
_SIMPLE_TYPES = (
    (lambda value: isinstance(value, str) and is_unicode(value), pl.String),
    (lambda value: isinstance(value, bool), pl.Boolean),
    (lambda value: type(value) is int and -(2**31) <= value < 2**31, pl.Int32),
    (lambda value: type(value) is int and -(2**63) <= value < 2**63, pl.Int64),
    (lambda value: type(value) in (int, float) and abs(value) < 2**53, pl.Float64),
)

# Why a row is dropped. The first reason that applies is counted.
REPAIR_DROP_REASONS = {
    "broken": "invalid columns, types or roles",
    "tools": "has tool messages",
    "empty": "no text left in the prompt or an answer",
    "equal": "chosen and rejected are the same text",
    "near_equal": "chosen and rejected differ only in case, spaces or punctuation",
    "encoding": "a text in a wrong encoding",
    "html": "HTML tags",
    "padded": "an answer padded to many times the other's length",
    "refusal": "the chosen answer is a refusal",
    "loops": "the chosen answer loops",
    "cut_answer": "the chosen answer ends in mid-sentence",
    "foreign_roles": "the chosen answer has the name of a role",
    "judge_comment": "a judge's comment",
    "personal_data": "personal data",
    "copied_answer": "an answer of another prompt",
    "prompt_echo": "an answer repeats the prompt",
    "chat_template": "the chat template refuses it",
    "prompt_too_long": "the prompt alone fills max_length",
    "equal_after_cut": "chosen and rejected differ only beyond max_length",
    "duplicate": "repeats another row",
    "contradiction": "contradicts another row",
    "tree_leakage": "training row with a conversation tree of another split",
    "prompt_leakage": "training row with nearly the same prompt as in another split",
}
REPAIRS = {
    "prompt": "given an explicit prompt",
    "messages": "turned from texts into messages",
    "characters": "with damaged characters replaced",
    "space": "with a space moved from the end of the prompt to the answers",
    "thinking": "with thinking blocks removed from an answer",
    "echo": "with the prompt removed from an answer's beginning",
    "tokens": "with template tokens removed from an answer's end",
    "stripped": "with white space removed around an answer",
}
RULE = """The rows of the source, repaired: each gets an explicit prompt; white space around answers, a prompt repeated at their beginning, and
tokens of a chat template at their end and thinking blocks are removed; lookalike letters, HTML entities, invisible and decomposed characters are replaced. Rows that
cannot be repaired, that repeat or contradict another one, or that share their
conversation or prompt (at least 0.7 of the five-letter pieces in common) with another split are dropped, as counted below. With a tokenizer,
rows that its chat template refuses are dropped too, and rows with a prompt that alone fills `max_length`."""


def fix_dataset(
    splits: dict[str, list], tokenizer: "PreTrainedTokenizerBase | None" = None, max_length: int = 1024
) -> tuple[dict[str, pl.DataFrame], _Counts]:
    """
    Repair the rows of a preference dataset, and drop those that cannot be repaired.

    Args:
        splits (`dict[str, list]`): Rows by split, see [`~preferans.data.formats.read_dataset`].
        tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            Tokenizer of the model to train. With it, rows that it cannot tokenize are dropped too.
        max_length (`int`, *optional*, defaults to `1024`): Tokens of prompt and answer together.

    Returns:
        `tuple[dict[str, pl.DataFrame], dict[str, list[tuple]]]`: the repaired rows by split, without empty splits, and tables of counts for
        a card. Every row is either kept or counted under one of `REPAIR_DROP_REASONS`.
    """
    pairs, problems = read_pairs(splits)
    dropped = Counter(problem.check if problem.check in REPAIR_DROP_REASONS else "broken" for _, problem in problems)
    template_token = template_pattern(tokenizer)
    trailing = re.compile(f"(?:{template_token.pattern})\\Z")
    kept, repairs = [], {}
    for pair in pairs:
        repaired_pair, repairs[pair.split, pair.number] = _repair(pair, trailing)
        kept.append(repaired_pair)
    alone = (
        (pair, problem)
        for pair in kept
        for problem in (*_problems_after_repair(pair), *problems_alone(pair, template_token))
    )
    kept = _without(kept, alone, dropped)
    kept = _without(kept, content_problems(kept), dropped)
    if tokenizer is not None and tokenizer.chat_template and 2 * sum(map(is_labelled, kept)) < len(kept):
        kept = [_with_messages(pair, repairs[pair.split, pair.number]) for pair in kept]
    if tokenizer is not None:
        kept = _without(kept, tokenize_pairs(kept, tokenizer, max_length)[1], dropped)
    kept = _without(kept, repetitions(kept), dropped)
    kept = _without(kept, leaks(kept), dropped)
    repaired = Counter(repair for pair in kept for repair in repairs[pair.split, pair.number])

    frame, left_out = _pair_frame(kept)
    names = pl.Series([pair.split for pair in kept], dtype=pl.String)
    frames = {split: frame.filter(names == split) for split in splits}
    reasons = [(f"dropped: {words}", dropped[name]) for name, words in REPAIR_DROP_REASONS.items() if dropped[name]]
    counts: _Counts = {
        "rows": [("read", sum(map(len, splits.values()))), *reasons, ("kept", len(kept))],
        "repairs": [(f"rows {words}", repaired[name]) for name, words in REPAIRS.items() if repaired[name]],
        "columns": [("left out, because they are neither texts nor numbers", ", ".join(left_out))] if left_out else [],
    }
    return (
        {split: rows for split, rows in frames.items() if len(rows)},
        {name: table for name, table in counts.items() if table},
    )


def _problems_after_repair(pair: Pair) -> Iterator[Problem]:
    """Find answers that are empty or equal without their prompt and tokens."""
    for column in ANSWERS:
        if not pair.text(column).strip():
            yield empty_problem(column)
    if normal_form(pair.text("chosen")).strip() == normal_form(pair.text("rejected")).strip():
        yield equal_problem()


def _with_messages(pair: Pair, repairs: set[str]) -> Pair:
    """Return a pair of plain texts as messages."""
    if not isinstance(pair.prompt, str):
        return pair
    repairs.add("messages")
    prompt = [{"role": "user", "content": pair.prompt.strip()}]
    answers: dict[str, Any] = {
        column: [{"role": "assistant", "content": pair.text(column).strip()}] for column in ANSWERS
    }
    return dataclasses.replace(pair, prompt=prompt, **answers)


def _without(pairs: list[Pair], problems: Iterable[tuple[Pair, Problem]], dropped: Counter) -> list[Pair]:
    """Drop pairs with a problem of `REPAIR_DROP_REASONS`, and count them by the first that applies."""
    checks: dict[tuple[str, int], set[str]] = {}
    for pair, problem in problems:
        checks.setdefault((pair.split, pair.number), set()).add(problem.check)
    kept = []
    for pair in pairs:
        failed = checks.get((pair.split, pair.number), set())
        reason = next((reason for reason in REPAIR_DROP_REASONS if reason in failed), None)
        if reason is None:
            kept.append(pair)
        else:
            dropped[reason] += 1
    return kept


def _repair(pair: Pair, trailing: re.Pattern) -> tuple[Pair, set[str]]:
    """Return a pair with an explicit prompt and clean texts, and the `REPAIRS` made."""
    repairs = {"messages"} if pair.mixed else {"prompt"} if pair.implicit else set()
    if pair.echoes:
        repairs.add("echo")
    pair = _with_right_characters(pair, repairs)
    prompt, texts = pair.prompt, {column: pair.text(column) for column in ANSWERS}
    if isinstance(prompt, str) and (space := prompt[len(prompt.rstrip(" \t")) :]):
        # The tokens of a prompt with a final space are not the beginning of those with the answer.
        repairs.add("space")
        prompt = prompt.removesuffix(space)
        texts = {column: space + text for column, text in texts.items()}
    questions = [
        question for question in dataclasses.replace(pair, prompt=prompt).questions if len(question) >= ECHO_LENGTH
    ]
    answers: dict[str, Any] = {}
    for column, text in texts.items():
        if THINKING.search(text):
            repairs.add("thinking")
            text = THINKING.sub("", text)
        # the white space between a plain prompt and its answer belongs to the text
        space = text[: len(text) - len(text.lstrip())] if isinstance(prompt, str) else ""
        if space + text.strip() != text:
            repairs.add("stripped")
        clean, cuts = _clean(text.strip(), questions, trailing)
        repairs |= cuts
        answers[column] = space + clean if isinstance(prompt, str) else [{"role": "assistant", "content": clean}]
    return dataclasses.replace(pair, prompt=prompt, echoes=(), implicit=False, mixed="", **answers), repairs


def _with_right_characters(pair: Pair, repairs: set[str]) -> Pair:
    """Return a pair with its damaged characters replaced where only one replacement is possible."""
    changes: dict[str, Any] = {}
    for column in COLUMNS:
        value = getattr(pair, column)
        if not column_damage(pair, column).keys() - {"encoding"}:
            continue
        repairs.add("characters")
        asked = "" if column == "prompt" else pair.user_text
        if isinstance(value, str):
            changes[column] = repair_characters(value, asked)
        else:
            texts = [message_text(message) for message in value]
            changes[column] = [
                message | {"content": repair_characters(text, asked)} if text else message
                for message, text in zip(value, texts, strict=True)
            ]
    return dataclasses.replace(pair, **changes) if changes else pair


def _clean(text: str, questions: list[str], trailing: re.Pattern) -> tuple[str, set[str]]:
    """Remove repeated questions from an answer's beginning, and template tokens from its end; return also the `REPAIRS` made."""
    repairs = set()
    while True:
        shorter = trailing.sub("", text).rstrip()
        if shorter != text:
            repairs.add("tokens")
        question = next((question for question in questions if shorter.startswith(question)), None)
        if question:
            shorter = shorter.removeprefix(question).strip()
            repairs.add("echo")
        if shorter == text:
            return text, repairs
        text = shorter


def _pair_frame(pairs: list[Pair]) -> tuple[pl.DataFrame, list[str]]:
    """Convert pairs to a table for [`~preferans.data.tables.write_dataset`], and list the columns that it cannot contain."""
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
    left_out = []
    for name in dict.fromkeys([*ROW_COLUMNS, *(name for pair in pairs for name in pair.row)]):
        values = [pair.row.get(name) for pair in pairs]
        present = [value for value in values if value is not None]
        if name in columns or not present:
            continue
        dtype = next((dtype for is_type, dtype in _SIMPLE_TYPES if all(map(is_type, present))), None)
        if dtype is None or not is_unicode(name):
            left_out.append(name)
        else:
            columns[name] = pl.Series(values, dtype=dtype)
    return pl.DataFrame(columns), left_out


def write_fixed(
    args: argparse.Namespace,
    splits: dict[str, list],
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    language: str = "ru",
) -> tuple[_Counts, Report]:
    """
    Write a repaired dataset folder with its card, and check it again.

    Args:
        args (`argparse.Namespace`): `dataset`, `fix` (the folder to write), `max_length` in tokens, and `command` for the card.
        splits (`dict[str, list]`), tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*), language (`str`, *optional*):
            As for [`~preferans.data.check.check_dataset`].

    Returns:
        `tuple[dict, Report]`: tables of counts, and the results of the check.

    Raises:
        [`PreferansError`]: if no row is left, or the folder holds something else.
    """
    frames, counts = fix_dataset(splits, tokenizer, args.max_length)
    if not frames:
        reasons = ", ".join(f"{number} {label}" for label, number in counts["rows"][1:-1])
        raise PreferansError(
            f"--fix {args.fix}: no row of {args.dataset} can be kept ({reasons}), so nothing is written. Build preference pairs first, see "
            "data_builders/."
        )
    source, licence = describe_source(args.dataset)
    options: dict[str, Any] = {"repaired": "yes"}
    if tokenizer is not None:
        options |= {"tokenizer": Path(tokenizer.name_or_path).name, "max_length": args.max_length}
    content = CardContent(
        title="Repaired preference pairs",
        summary=f"{sum(map(len, frames.values())):,} preference pairs, repaired by Preferans as described below.",
        rule=RULE,
        language=language,
        source=source,
        licence=licence,
        options=options,
        command=args.command,
        counts=counts,
    )
    write_dataset(args.fix, frames, dataset_card(content, frames))
    return counts, check_dataset(read_dataset(args.fix), tokenizer, args.max_length, language)


def check_fix_dir(output_dir: str, dataset: str) -> None:
    """
    Check that a repaired dataset may be written to `output_dir`.

    Raises:
        [`PreferansError`]: if it holds something else, or the dataset to repair.
    """
    path = Path(dataset).resolve()
    if path.exists() and Path(output_dir).resolve() in (path, *path.parents):
        raise PreferansError(
            f"--fix {output_dir}: this folder contains the dataset itself, which would be replaced. Name a new folder."
        )
    check_output_dir(output_dir, "--fix")
