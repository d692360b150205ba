"""
Check a preference dataset before a model is trained on it.

A dataset in any of TRL's preference formats is read as pairs. The prompt is explicit (`prompt`, `chosen`, `rejected`) or implicit (`chosen`
and `rejected` contain the whole conversation and begin alike), and all are lists of messages or plain texts. The format of most rows is the
format of the dataset; a row in another one is invalid.

Errors would harm the training. [`~preferans.data.repair.fix_dataset`] repairs or drops such rows, unless the template or the language is
the cause:

- `schema`, `roles`, `empty`, `equal`: the row is not a pair, see [`~preferans.data.pairs`].
- `implicit_prompt`: there is no column `prompt`, which `scripts/dpo.py` needs.
- `tools`: there are messages of tools, which TRL supports and `scripts/dpo.py` does not.
- `near_equal`, `equal_after_cut`: the answers differ only in case, spaces or punctuation, or only beyond `max_length`.
- `prompt_echo`: an answer begins with the question (of at least `ECHO_LENGTH` characters) or with the whole conversation, or contains a
  question of at least `LONG_ECHO` characters.
- `encoding`: a text was decoded with the wrong encoding, or characters were lost.
- `tree_leakage`, `prompt_leakage`: the conversation tree of a training row, or nearly the same prompt, is in another split.
- `no_training_split`: no split with a name that begins with `train` has rows.
- `contradiction`: for the same prompt, a split has both A better than B and B better than A.
- `language`: fewer than half of the chosen answers are in Russian, although they should be.
- `chat_template`: the template refuses the row.
- `double_bos`, `double_eos`, `missing_eos`: TRL's tokens begin or end wrongly. Any special token of the tokenizer may end an answer, because
  Gemma ends its turns with another token than `eos_token`; white space after it is ignored.
- `prompt_too_long`: the prompt alone fills `max_length`, so TRL drops the row without a message.

Warnings may be harmless:

- `homoglyphs`, `html`, `invisible`, `decomposed`: damaged characters, see [`~preferans.text.characters`].
- `padded`, `copied_answer`, `refusal`, `loops`, `cut_answer`, `foreign_roles`, `judge_comment`, `personal_data`: an answer that
  should not be trained on, see [`~preferans.data.answer_problems`].
- `thinking`: an answer has a thinking block.
- `repeated_id`, `duplicate`: a split has the same id with different contents, or the same pair, twice.
- `plain_text`: the rows are plain texts, but the model has a chat template.
- `length_bias`: of at least `SHARE_PAIRS` pairs, chosen is longer in at least `LENGTH_BIAS` or at most 1 - `LENGTH_BIAS`.
- `shortcut`: of at least `SHORTCUT_PAIRS` pairs, a linear model on words recognizes the chosen answer more often than `SHORTCUT_SHARE` and than
  the length does, see [`~preferans.data.shortcuts`].
- `language`: a chosen answer is not in Russian, see [`~preferans.text.intrusions.confusion`]. Answers without prose are left out.
- `foreign_words`: of at least `SHARE_PAIRS` chosen answers, at least `FOREIGN_SHARE` have intruding words of other languages.
- `template_tokens`: a text contains tokens of a chat template. They are allowed in plain prompts.
- `truncated`: the end of an answer is beyond `max_length`, so that it does not affect the loss.
- `prompt_prefix`: the tokenized prompt is not the beginning of the tokenized prompt with its answer.
"""

import dataclasses
import re
import statistics
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from ..text.intrusions import Confusion, confusion
from .answer_problems import content_problems
from .check_tokens import template_pattern, tokenize_pairs
from .formats import dataset_format
from .pair_problems import leaks, problems_alone, repetitions
from .pairs import ANSWERS, Pair, Problem, is_training, read_pairs
from .shortcuts import find_shortcuts
from .trainer_view import length_statistics, view_examples

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


SHARE_PAIRS, LENGTH_BIAS = 20, 0.7
FOREIGN_SHARE = 0.3
SHORTCUT_PAIRS, SHORTCUT_SHARE = 100, 0.65
# A title or name of several words, such as "The Lord of the Rings", has no Russian form that would be better.
_TITLE = re.compile(r"[«\"]?[A-Z][\w'’-]*(?: (?:(?:of|the|and|in|on|a|to|for|de|la) )*[A-Z][\w'’-]*){1,6}[»\"]?[.!]?")

_ERROR_CURES = {
    "schema": "Fix these rows in their source. --fix turns texts beside messages, and lists of messages in texts, into messages, and drops rows that cannot be read.",
    "roles": "End a prompt with a message of the user, and write an answer as one message of the assistant, or drop the rows with --fix.",
    "empty": "Drop these rows, for example with --fix.",
    "equal": "Drop these rows, for example with --fix: neither answer is better.",
    "implicit_prompt": "scripts/dpo.py needs the column: write a dataset with it with --fix.",
    "tools": "scripts/dpo.py stops at such rows, and --fix drops them; TRL itself can train on them.",
    "near_equal": "Drop these rows, for example with --fix: neither answer is better.",
    "equal_after_cut": "Raise --max_length and the recipe's max_length, or drop these rows with --fix: nothing is learned from them.",
    "encoding": "Decode the source with its own encoding, or drop these rows with --fix.",
    "prompt_echo": "Remove the prompt from the answer. --fix removes it from the beginning, and drops the other rows.",
    "tree_leakage": "Split by message_tree_id, or drop these training rows with --fix.",
    "prompt_leakage": "Keep similar prompts in one split, or drop these training rows with --fix.",
    "no_training_split": "Rename a split to train, or build the dataset again with more varied prompts.",
    "contradiction": "Decide which answer is better, or drop both rows with --fix.",
    "language": "Drop answers in other languages. If the dataset should be in another language, add --language, such as --language en.",
    "chat_template": "Change the messages to the order that the template expects, or use another --chat_template_path.",
    "double_bos": "Remove the beginning-of-text token from the chat template, or from a plain prompt.",
    "double_eos": "Remove the end token from the chat template or from the answers; --fix removes it from answers.",
    "missing_eos": "Add eos_token after each answer in the chat template: without it, the model does not learn to stop.",
    "prompt_too_long": "Raise --max_length and the recipe's max_length, or drop these rows with --fix.",
}
_WARNING_CURES = {
    "homoglyphs": "Replace them, as --fix does: the words look right, but the model sees other tokens.",
    "html": "Remove the markup. --fix replaces entities, and drops rows with tags.",
    "invisible": "Remove them, as --fix does.",
    "decomposed": "Compose them, as --fix does (Unicode NFC): the model sees other tokens.",
    "padded": "Drop these rows, for example with --fix: the model would learn length.",
    "copied_answer": "Look at these rows: an answer of another prompt may have slipped in. --fix drops them.",
    "refusal": "Drop these rows, for example with --fix, unless the model should refuse such requests.",
    "loops": "Drop these rows, for example with --fix: the model would learn to loop.",
    "cut_answer": "Complete these answers, or drop them with --fix: the model would learn to stop in mid-sentence.",
    "foreign_roles": "Cut the answer before the next turn, or drop these rows with --fix.",
    "judge_comment": "Remove the comments of people or models who compared the answers, or drop these rows with --fix.",
    "personal_data": "Look at these rows before you publish the dataset; --fix drops them.",
    "thinking": "Remove the blocks, as --fix does: the model would learn to write them, and answers would be cut before they begin.",
    "plain_text": "The model expects messages. --fix with --model_name_or_path turns the texts into messages.",
    "shortcut": "Vary the style on both sides, or evaluate on pairs from another source: the model may learn style alone.",
    "repeated_id": "Give each row its own id, so that a row in a report can be found.",
    "duplicate": "Keep one of them, as --fix does: a pair that occurs twice has twice the weight.",
    "length_bias": "Balance the pairs by length (see --max_length_ratio of data_builders/oasst1_ru.py), or the model learns length.",
    "foreign_words": "Look at these rows: a model learns to mix languages from its chosen answers.",
    "template_tokens": "Remove them, because the template adds its own. --fix removes those at the end of answers.",
    "truncated": "Raise max_length if the memory allows it, or shorten the answers: the loss does not include their end.",
    "prompt_prefix": "Use a chat template that formats a prompt alike with and without an answer. End a plain prompt before a space.",
}
# Severity and cure of each check's findings.
CHECKS = {check: ("error", cure) for check, cure in _ERROR_CURES.items()} | {
    check: ("warning", cure) for check, cure in _WARNING_CURES.items()
}


@dataclasses.dataclass
class Finding:
    """
    A problem of a dataset.

    Attributes:
        check (`str`): Name of the check, a key of `CHECKS`.
        severity (`str`): `"error"` or `"warning"`.
        count (`int`), share (`float`): Number of rows with the problem, and their share of all checked rows.
        rows (`list[str]`): All of them, by id, or by split and number.
        problem (`str`), cure (`str`): What is wrong and what to do, in one or two sentences.
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
    Results of [`check_dataset`].

    Attributes:
        splits (`dict[str, int]`): Number of rows by split.
        format (`str`): `"conversational"` or `"text"`.
        prompt (`str`): `"explicit"` or `"implicit"`.
        findings (`list[Finding]`): Errors first.
        lengths (`dict`): See [`~preferans.data.trainer_view.length_statistics`]; empty if no row could be read.
        examples (`list[dict]`): See [`~preferans.data.trainer_view.view_examples`].
    """

    splits: dict[str, int]
    format: str
    prompt: str
    findings: list[Finding]
    lengths: dict[str, Any]
    examples: list[dict]

    @property
    def harmful(self) -> bool:
        return any(finding.severity == "error" for finding in self.findings)

    def as_json(self, dataset: str) -> dict[str, Any]:
        return {"dataset": dataset, **dataclasses.asdict(self), "harmful": self.harmful}


def check_dataset(
    splits: dict[str, list],
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    max_length: int = 1024,
    language: str = "ru",
) -> Report:
    """
    Check a preference dataset.

    Args:
        splits (`dict[str, list]`): Rows by split, of any content, see [`~preferans.data.formats.read_dataset`].
        tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            Tokenizer of the model to train. Without it, lengths are in characters, and tokens are not checked.
        max_length (`int`, *optional*, defaults to `1024`): Tokens of prompt and answer together, as in the recipe.
        language (`str`, *optional*, defaults to `"ru"`): Language that the answers should be in. Only Russian is checked.
    """
    pairs, problems = read_pairs(splits)
    template_token = template_pattern(tokenizer)
    pair_problems = [(pair, problem) for pair in pairs for problem in problems_alone(pair, template_token)]
    pair_problems += [*content_problems(pairs), *repetitions(pairs), *leaks(pairs)]
    tokens: list[dict | None] = [None] * len(pairs)
    if tokenizer is not None:
        tokens, token_problems = tokenize_pairs(pairs, tokenizer, max_length)
        pair_problems += token_problems
    problems += [(pair.label, problem) for pair, problem in pair_problems]
    sizes = {name: len(rows) for name, rows in splits.items()}
    findings = [*_grouped(problems, sizes), *_dataset_findings(pairs, sizes)]
    if tokenizer is not None and tokenizer.chat_template and pairs and isinstance(pairs[0].prompt, str):
        labels = [pair.label for pair in pairs]
        findings.append(
            _finding(
                "plain_text", len(pairs), len(pairs), "the rows are texts without the model's chat template", labels
            )
        )
    if language == "ru":
        findings += _language_findings(pairs)
    findings.sort(key=lambda finding: (finding.severity != "error", -finding.count))
    if not pairs:
        for finding in findings:
            finding.cure = (
                "A pair has the columns prompt, chosen and rejected: build such rows first, see data_builders/."
            )
    conversational, implicit = dataset_format(splits)
    shown = [(pair, ids) for pair, ids in zip(pairs, tokens, strict=True) if tokenizer is None or ids is not None]
    return Report(
        sizes,
        "conversational" if conversational else "text",
        "implicit" if implicit else "explicit",
        findings,
        length_statistics(shown, max_length) if shown else {},
        view_examples(shown, tokenizer, max_length),
    )


def _finding(
    check: str, count: int, total: int, problem: str, rows: list[str] | None = None, severity: str | None = None
) -> Finding:
    usual_severity, cure = CHECKS[check]
    problem = f"{problem[0].upper()}{problem[1:]}."
    return Finding(check, severity or usual_severity, count, count / total, rows or [], problem, cure)


def _grouped(problems: Iterable[tuple[str, Problem]], sizes: dict[str, int]) -> Iterator[Finding]:
    """Make one finding of all rows with the same problem."""
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for label, problem in problems:
        groups.setdefault((problem.check, problem.words), []).append((label, problem.detail))
    for (check, words), members in groups.items():
        labels = [label for label, _ in members]
        detail = next((detail for _, detail in members if detail), "")
        example = ", for example " if len(members) > 1 else ": "
        sentence = f"{words}{example}{detail}" if detail else words
        total = _training_rows(sizes) if check.endswith("_leakage") else sum(sizes.values())
        yield _finding(check, len(members), total, sentence, labels)


def _training_rows(sizes: dict[str, int]) -> int:
    return sum(size for name, size in sizes.items() if is_training(name))


def _dataset_findings(pairs: list[Pair], sizes: dict[str, int]) -> Iterator[Finding]:
    if sizes and not _training_rows(sizes):
        total = sum(sizes.values())
        problem = f"no split has rows to train on: the splits are {', '.join(sizes)}, and the name of a training split begins with train"
        yield _finding("no_training_split", total, max(1, total), problem)
    if len(pairs) >= SHARE_PAIRS:
        longer = sum(len(pair.text("chosen").strip()) > len(pair.text("rejected").strip()) for pair in pairs)
        share = longer / len(pairs)
        if not 1 - LENGTH_BIAS < share < LENGTH_BIAS:
            problem = f"'chosen' is the longer answer in {share:.0%} of the pairs"
            yield _finding("length_bias", longer, len(pairs), problem)
    if len(pairs) >= SHORTCUT_PAIRS:
        yield from _shortcut_finding(pairs)


def _shortcut_finding(pairs: list[Pair]) -> Iterator[Finding]:
    found = find_shortcuts(pairs)
    if found.interval[0] <= max(SHORTCUT_SHARE, found.longer):
        return
    features = ", ".join(f"{name!r} {chosen}:{rejected}" for name, chosen, rejected in found.features)
    problem = (
        f"the words alone reveal which answer is preferred: a linear model recognizes {found.accuracy:.0%} of the chosen answers "
        f"[{found.interval[0]:.0%}, {found.interval[1]:.0%}] in unseen conversations; chance is 50%, and length alone gives {found.longer:.0%}. "
        f"Strongest features (pairs in which chosen:rejected has more): {features}"
    )
    yield _finding("shortcut", round(found.accuracy * found.pairs), found.pairs, problem)


def _language_findings(pairs: list[Pair]) -> Iterator[Finding]:
    """Find chosen answers that are not in Russian, or mixed with other languages."""
    judged: dict[str, list[Confusion]] = {column: [] for column in ANSWERS}
    for pair in tqdm(pairs, desc="Judging languages", unit="pair", disable=None):
        for column in ANSWERS:
            judged[column].append(confusion(pair.text(column), pair.user_text))
    prose = {
        column: [one.in_russian for one in results if one.in_russian is not None] for column, results in judged.items()
    }
    means = {column: statistics.fmean(values) if values else 0 for column, values in prose.items()}
    others = [
        pair.label
        for pair, one in zip(pairs, judged["chosen"], strict=True)
        if one.in_russian is False and not _TITLE.fullmatch(pair.text("chosen").strip())
    ]
    if others:
        problem = (
            f"{means['chosen']:.0%} of the chosen and {means['rejected']:.0%} of the rejected answers are in Russian"
        )
        severity = "error" if means["chosen"] < 0.5 else "warning"
        yield _finding("language", len(others), len(prose["chosen"]), problem, others, severity)
        if severity == "error":
            return
    if len(pairs) < SHARE_PAIRS:
        return
    mixed = {
        column: [pair.label for pair, one in zip(pairs, results, strict=True) if one.intrudes]
        for column, results in judged.items()
    }
    shares = {column: len(labels) / len(pairs) for column, labels in mixed.items()}
    if shares["chosen"] >= FOREIGN_SHARE:
        problem = (
            f"{shares['chosen']:.0%} of the chosen and {shares['rejected']:.0%} of the rejected answers have intruding words of "
            "other languages"
        )
        yield _finding("foreign_words", len(mixed["chosen"]), len(pairs), problem, mixed["chosen"])
