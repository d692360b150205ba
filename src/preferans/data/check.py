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
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ..text.language import cyrillic_share, foreign_words
from ..text.near_duplicates import find_leaks
from .check_tokens import template_pattern, tokenize_pairs
from .formats import ANSWERS, COLUMNS, Pair, Problem, _content, _echo, _within_word, dataset_format, read_pairs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


SHARE_PAIRS, LENGTH_BIAS = 20, 0.7
BOILERPLATE = 3  # different prompts that have a line in common
RUSSIAN_SHARE, FOREIGN_SHARE = 0.9, 0.3
FINDING_ROWS, EXAMPLE_ROWS = 5, 10

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


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
