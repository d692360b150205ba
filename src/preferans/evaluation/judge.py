"""
Judge answers with a served model: scores, and verdicts on two answers.

[`~preferans.evaluation.judge_run.agreement_with_people`] measures how far the judge agrees with people.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from ..data.ratings import CRITERIA, HIGHEST, LOWEST, TIE
from ..models.endpoint import Endpoint, GarbledReply, Reply, seed_of
from ..text.thinking import without_thinking
from ..utf8 import writable
from .answers import System, answers_sha256

SCALE = range(LOWEST, HIGHEST + 1)
# An unreadable reply is requested again, sampled and with another seed: greedy decoding would give the same reply.
ATTEMPTS = 4
RETRY_TEMPERATURE = 0.7
MAX_TOKENS = 1024
FIRST, SECOND = "first", "second"
# Accepted names of the answers, in lower case, Russian or Latin.
CHOICE_WORDS = {"а": FIRST, "a": FIRST, "б": SECOND, "b": SECOND, "ничья": TIE, "tie": TIE}

SCORES_SCHEMA = {
    "type": "object",
    "properties": {
        criterion: {
            "type": "object",
            "properties": {
                "reason": {"type": "string"},
                "score": {"type": "integer", "enum": list(SCALE)},
            },
            "required": ["reason", "score"],
            "additionalProperties": False,
        }
        for criterion in CRITERIA
    },
    "required": list(CRITERIA),
    "additionalProperties": False,
}
PAIR_SCHEMA = {
    "type": "object",
    "properties": {"reason": {"type": "string"}, "better": {"type": "string", "enum": ["А", "Б", "ничья"]}},
    "required": ["reason", "better"],
    "additionalProperties": False,
}


class Unreadable(ValueError):
    """A reply without a verdict; the message is the reason."""


class Question(NamedTuple):
    """
    A question for the judge.

    Attributes:
        kind (`str`): `"scores"` of one answer, or `"pair"`.
        id (`str`): The prompt.
        systems (`tuple[System, ...]`): The systems of the answers: one or two.
    """

    kind: str
    id: str
    systems: tuple[System, ...]

    @property
    def key(self) -> tuple:
        return (self.kind, self.id, *(system.name for system in self.systems))

    @property
    def texts(self) -> list[str]:
        return [system.rows[self.id]["answer"].strip() for system in self.systems]


class JudgeReply(NamedTuple):
    """The judge's reply to one question in one order, and all attempts. `value` is `None` if no attempt was readable."""

    value: Any
    reason: Any
    problem: str | None
    attempts: list[Reply]


def question_text(prompt: list[dict], answers: Sequence[str]) -> str:
    """
    Write the judge's prompt: the rubric, the conversation, and one or two answers, without names of systems.

    Args:
        prompt (`list[dict]`): Messages of the conversation.
        answers (`Sequence[str]`): One answer to score, or two in the order in which they are shown.
    """
    template, rubric, _ = _wording()
    return template.render(prompt=prompt, answers=answers, rubric=rubric, criteria=CRITERIA)


@cache
def _wording() -> tuple[jinja2.Template, str, str]:
    """Load the template, the rubric, and the SHA-256 of both, because other words give other verdicts."""
    texts = [(Path(__file__).parent / name).read_text(encoding="utf-8") for name in ("judge_ru.jinja", "rubric_ru.md")]
    template = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(texts[0])
    return template, texts[1], hashlib.sha256("".join(texts).encode()).hexdigest()


def _objects(text: str) -> list[dict]:
    """Find the JSON objects in a reply, without the text around them: thoughts, a code fence, an explanation."""
    text = without_thinking(text)
    decoder, position, objects = json.JSONDecoder(strict=False), 0, []
    while (start := text.find("{", position)) >= 0:
        try:
            value, position = decoder.raw_decode(text, start)
            objects.append(value)
        except (ValueError, RecursionError):
            position = start + 1
    if not objects:
        raise Unreadable("the reply has no JSON object")
    return objects


def _single_verdict(text: str, read: Callable[[dict], tuple]) -> tuple:
    """Read the objects of a reply, which must all have the same verdict."""
    problem: Unreadable | None = None
    verdicts = []
    for value in _objects(text):
        try:
            verdicts.append(read(value))
        except Unreadable as error:
            problem = problem or error
    if not verdicts:
        raise problem or Unreadable("the reply has no verdict")
    if any(other[0] != verdicts[0][0] for other in verdicts):
        raise Unreadable("the reply has different verdicts")
    return verdicts[0]


def _reason(value: dict) -> str:
    return writable(str(value.get("reason", "")))  # an escape in JSON may be half a character


def read_scores(text: str) -> tuple[dict[str, int], dict[str, str]]:
    """
    Read the scores in a reply, with or without a code fence or words around its JSON.

    Returns:
        `tuple[dict, dict]`: integers from 1 to 5 and reasons, by criterion.

    Raises:
        [`Unreadable`]: if a criterion has no such score.
    """

    def read(value: dict) -> tuple[dict[str, int], dict[str, str]]:
        scores, reasons = {}, {}
        for criterion in CRITERIA:
            entry = value.get(criterion)
            score = entry.get("score") if isinstance(entry, dict) else entry
            if isinstance(score, str) and re.fullmatch(r"\s*[0-9]\s*", score):
                score = int(score)
            # true is an int in Python, and 3.0 is in the scale
            if isinstance(score, bool) or not isinstance(score, int | float) or score not in SCALE:
                raise Unreadable(f"no score from {LOWEST} to {HIGHEST} for {criterion}")
            scores[criterion] = int(score)
            reasons[criterion] = _reason(entry) if isinstance(entry, dict) else ""
        return scores, reasons

    return _single_verdict(text, read)


def read_choice(text: str) -> tuple[str, str]:
    """
    Read which answer is better in a reply, with or without a code fence or words around its JSON.

    Returns:
        `tuple[str, str]`: `"first"`, `"second"` or `"tie"`, and the reason.

    Raises:
        [`Unreadable`]: if it names neither answer.
    """

    def read(value: dict) -> tuple[str, str]:
        choice = " ".join(re.findall(r"\w+", str(value.get("better")).casefold())).removeprefix("ответ ")
        if choice not in CHOICE_WORDS:
            raise Unreadable("the reply names neither answer as the better one")
        return CHOICE_WORDS[choice], _reason(value)

    return _single_verdict(text, read)


@dataclass
class Judge:
    """
    A served model as judge.

    Args:
        endpoint ([`~preferans.models.endpoint.Endpoint`]): The model.
        seed (`int`, *optional*, defaults to `42`): Seed from which each question's own seed is derived.
        max_tokens (`int`, *optional*, defaults to `1024`): Maximum length of a reply. A reasoning model needs more.
    """

    endpoint: Endpoint
    seed: int = 42
    max_tokens: int = MAX_TOKENS

    @property
    def described(self) -> dict[str, Any]:
        """All settings that affect verdicts; a file never mixes verdicts of different settings."""
        return {
            "model": self.endpoint.model,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
            "wording_sha256": _wording()[2],
        }

    def settle(self) -> list[str]:
        """Detect the options that the server supports, see [`~preferans.models.endpoint.Endpoint.settle`]."""
        return self.endpoint.settle(
            optional=("schema", "temperature", "seed"), schema=PAIR_SCHEMA, temperature=0.0, seed=self.seed
        )

    def verdict(self, question: Question, prompt: list[dict]) -> dict[str, Any]:
        """
        Judge one or two answers.

        An empty answer is not shown to the model: it gets the lowest scores and loses. Two equal answers are a tie.

        Args:
            question ([`Question`]): The answers to judge.
            prompt (`list[dict]`): The conversation.

        Returns:
            `dict`: a row of the verdict file, see docs/judge.md.

        Raises:
            [`~preferans.models.endpoint.RequestRefused`]: if the server refuses the question.
        """
        texts = question.texts
        if question.kind == "scores":
            replies, verdict = self._scores(question, prompt, texts)
        else:
            replies, verdict = self._pair(question, prompt, texts)
        attempts = [attempt for reply in replies for attempt in reply.attempts]
        return (
            {"kind": question.kind, "id": question.id}
            | verdict
            | {
                "problem": next((reply.problem for reply in replies if reply.problem), None),
                "replies": len(attempts),
                "prompt_tokens": _total(attempt.prompt_tokens for attempt in attempts),
                "completion_tokens": _total(attempt.completion_tokens for attempt in attempts),
                "structured": self.endpoint.takes_schema if replies else None,
                "answers_sha256": answers_sha256(texts),
                "endpoint": self.endpoint.host,
                "judge": self.described,
            }
        )

    def _scores(self, question: Question, prompt: list[dict], texts: list[str]) -> tuple[list[JudgeReply], dict]:
        verdict: dict[str, Any] = {"system": question.systems[0].name}
        if not texts[0]:
            return [], verdict | {"scores": dict.fromkeys(CRITERIA, LOWEST)}
        reply = self._ask(question, prompt, texts, read_scores, SCORES_SCHEMA)
        return [reply], verdict | {"scores": reply.value, "reasons": reply.reason}

    def _pair(self, question: Question, prompt: list[dict], texts: list[str]) -> tuple[list[JudgeReply], dict]:
        names = [system.name for system in question.systems]
        if texts[0] == texts[1]:
            return [], {"systems": names, "verdict": TIE}
        if not all(texts):
            return [], {"systems": names, "verdict": names[texts.index("") ^ 1]}
        replies = [self._ask(question, prompt, shown, read_choice, PAIR_SCHEMA) for shown in (texts, texts[::-1])]
        orders = [
            reply.value if reply.value in (None, TIE) else shown[reply.value == SECOND]
            for reply, shown in zip(replies, (names, names[::-1]), strict=True)
        ]
        verdict = None if None in orders else orders[0] if orders[0] == orders[1] else TIE
        reasons = [reply.reason for reply in replies]
        return replies, {"systems": names, "verdict": verdict, "orders": orders, "reasons": reasons}

    def _ask(
        self, question: Question, prompt: list[dict], shown: list[str], read: Callable, schema: dict
    ) -> JudgeReply:
        attempts, problem = [], None
        messages = [{"role": "user", "content": question_text(prompt, shown)}]
        for number in range(ATTEMPTS):
            try:
                attempt = self.endpoint.ask(
                    messages,
                    max_tokens=self.max_tokens,
                    temperature=RETRY_TEMPERATURE if number else 0.0,
                    seed=seed_of(self.seed, *question.key, *shown, number),
                    schema=schema,
                )
            except GarbledReply:
                problem = "the server did not return a chat completion"
                continue
            attempts.append(attempt)
            try:
                value, reason = read(attempt.text)
            except Unreadable as error:
                cut = f"cut off at {self.max_tokens} tokens, " if attempt.finish_reason == "length" else ""
                problem = f"{cut}{error}: {attempt.text[:200]!r}"
                continue
            return JudgeReply(value, reason, None, attempts)
        return JudgeReply(None, None, problem, attempts)


def _total(counts: Iterable[int | None]) -> int | None:
    counts = list(counts)
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
