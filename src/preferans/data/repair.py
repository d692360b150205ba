"""A repaired copy of a preference dataset."""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from ..errors import PreferansError
from .card import dataset_card
from .check import Report, _leaks, _repetitions, _row_problems, check_dataset
from .check_tokens import template_pattern, tokenize_pairs
from .formats import (
    ANSWERS,
    COLUMNS,
    Pair,
    Problem,
    _empty,
    _equal,
    _is_unicode,
    _within_word,
    read_dataset,
    read_pairs,
)
from .preferences import ECHO_LENGTH
from .source import describe_source
from .tables import ROW_COLUMNS, check_output_dir, write_dataset

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


# Columns beyond the contract that a repaired dataset keeps: texts, truth values and numbers.
SIMPLE = (
    (lambda value: isinstance(value, str) and _is_unicode(value), pl.String),
    (lambda value: isinstance(value, bool), pl.Boolean),
    (lambda value: type(value) is int and -(2**31) <= value < 2**31, pl.Int32),
    (lambda value: type(value) is int and -(2**63) <= value < 2**63, pl.Int64),
    (lambda value: type(value) in (int, float) and abs(value) < 2**53, pl.Float64),
)

# Why a row is left out of a repaired dataset, in the order of asking.
REPAIR_DROP_REASONS = {
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
        tables of counts for a card. Every row read is either kept or counted under one of `REPAIR_DROP_REASONS`.
    """
    pairs, problems = read_pairs(splits)
    dropped = Counter(problem.check if problem.check in REPAIR_DROP_REASONS else "broken" for _, problem in problems)
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
            *(
                (f"dropped: {words}", dropped[reason])
                for reason, words in REPAIR_DROP_REASONS.items()
                if dropped[reason]
            ),
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
    """Pairs without a problem of `REPAIR_DROP_REASONS`; the others are counted under the first of them."""
    checks: dict[tuple[str, int], set[str]] = {}
    for pair, problem in problems:
        checks.setdefault((pair.split, pair.number), set()).add(problem.check)
    kept = []
    for pair in pairs:
        found = checks.get((pair.split, pair.number), set())
        reason = next((reason for reason in REPAIR_DROP_REASONS if reason in found), None)
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
    """Pairs as a table for [`~preferans.data.tables.write_dataset`], and the columns that it cannot hold."""
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
            Folder to make, see [`~preferans.data.tables.write_dataset`].
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


def _in_words(table: list[tuple[str, int | str]]) -> str:
    return ", ".join(f"{number} {label}" for label, number in table)
