"""
A served model as judge of answers: scores by five criteria, and verdicts on two answers that hold only in both orders.

Two people rarely judge alike, and a model is no better than how far it agrees with them: [`agreement`] says so where there are ratings.
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
from ..files import writable
from ..models.endpoint import Endpoint, GarbledReply, Reply, seed_of
from .answers import System

SCALE = range(LOWEST, HIGHEST + 1)
# A reply that cannot be read is asked for again: not with the likeliest tokens, which would be the same, and with another seed.
ATTEMPTS = 4
RETRY_TEMPERATURE = 0.7
MAX_TOKENS = 1024
FIRST, SECOND = "first", "second"
# What a judge may call the answers, in small letters, Russian or Latin.
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
    """A reply in which no verdict can be found, with the reason."""


class Question(NamedTuple):
    """
    One thing to judge.

    Attributes:
        kind (`str`): `"scores"` of one answer, or `"pair"`.
        id (`str`): The prompt.
        systems (`tuple[System, ...]`): Whose answers: one, or two.
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


class Said(NamedTuple):
    """What a judge said of one question in one order, and what it took. `value` is `None` where no reply could be read."""

    value: Any
    reason: Any
    problem: str | None
    replies: list[Reply]


def question_text(prompt: list[dict], answers: Sequence[str]) -> str:
    """
    What the judge is asked: the rubric, the conversation, and one answer or two. Nothing in it says whose answers they are.

    Args:
        prompt (`list[dict]`):
            Messages of the conversation so far.
        answers (`Sequence[str]`):
            One answer, to be scored, or two in the order in which they are shown.
    """
    template, rubric, _ = _wording()
    return template.render(prompt=prompt, answers=answers, rubric=rubric, criteria=CRITERIA)


@cache
def _wording() -> tuple[jinja2.Template, str, str]:
    """How a judge is asked: the template, the rubric, and the SHA-256 of both, for other words would get other verdicts."""
    texts = [(Path(__file__).parent / name).read_text(encoding="utf-8") for name in ("judge_ru.jinja", "rubric_ru.md")]
    template = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(texts[0])
    return template, texts[1], hashlib.sha256("".join(texts).encode()).hexdigest()


def _objects(text: str) -> list[dict]:
    """JSON objects in a reply, whatever stands around them: thoughts, a fence, an explanation."""
    text = re.sub(r"<think>.*?(</think>|\Z)", "", text, flags=re.DOTALL)
    decoder, position, found = json.JSONDecoder(strict=False), 0, []
    while (start := text.find("{", position)) >= 0:
        try:
            value, position = decoder.raw_decode(text, start)
            found.append(value)
        except (ValueError, RecursionError):
            position = start + 1
    if not found:
        raise Unreadable("no JSON object in it")
    return found


def _only(text: str, read: Callable[[dict], tuple]) -> tuple:
    """What the objects of a reply say, as long as they all say the same."""
    problem, found = None, []
    for value in _objects(text):
        try:
            found.append(read(value))
        except Unreadable as error:
            problem = problem or error
    if not found:
        raise problem
    if any(other[0] != found[0][0] for other in found):
        raise Unreadable("it says different things at once")
    return found[0]


def _reason(said: dict) -> str:
    return writable(str(said.get("reason", "")))  # an escape in JSON may be half of a character


def read_scores(text: str) -> tuple[dict[str, int], dict[str, str]]:
    """
    Read scores out of a reply.

    Args:
        text (`str`):
            The reply, with or without a fence or words around its JSON.

    Returns:
        `tuple[dict, dict]`: whole numbers from 1 to 5 and reasons, by criterion.

    Raises:
        [`Unreadable`]: when a criterion has no such score.
    """

    def read(value: dict) -> tuple[dict[str, int], dict[str, str]]:
        scores, reasons = {}, {}
        for criterion in CRITERIA:
            said = value.get(criterion)
            figure = said.get("score") if isinstance(said, dict) else said
            if isinstance(figure, str) and re.fullmatch(r"\s*[0-9]\s*", figure):
                figure = int(figure)
            # true is an int to Python, and 3.0 is in the scale
            if isinstance(figure, bool) or not isinstance(figure, int | float) or figure not in SCALE:
                raise Unreadable(f"no score from {LOWEST} to {HIGHEST} for {criterion}")
            scores[criterion] = int(figure)
            reasons[criterion] = _reason(said) if isinstance(said, dict) else ""
        return scores, reasons

    return _only(text, read)


def read_choice(text: str) -> tuple[str, str]:
    """
    Read out of a reply which answer is better.

    Args:
        text (`str`):
            The reply, with or without a fence or words around its JSON.

    Returns:
        `tuple[str, str]`: `"first"`, `"second"` or `"tie"`, and the reason.

    Raises:
        [`Unreadable`]: when it names neither answer.
    """

    def read(value: dict) -> tuple[str, str]:
        said = " ".join(re.findall(r"\w+", str(value.get("better")).casefold())).removeprefix("ответ ")
        if said not in CHOICE_WORDS:
            raise Unreadable("it names neither answer as the better one")
        return CHOICE_WORDS[said], _reason(value)

    return _only(text, read)


@dataclass
class Judge:
    """
    A served model that judges.

    Args:
        endpoint ([`~preferans.models.endpoint.Endpoint`]):
            The model.
        seed (`int`, *optional*, defaults to `42`):
            Seed; every question has its own, made of it.
        max_tokens (`int`, *optional*, defaults to `1024`):
            Longest reply. A model that thinks aloud first needs more.
    """

    endpoint: Endpoint
    seed: int = 42
    max_tokens: int = MAX_TOKENS

    @property
    def described(self) -> dict[str, Any]:
        """What decides the verdicts; verdicts of two judges never mix in a file."""
        return {
            "model": self.endpoint.model,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
            "wording_sha256": _wording()[2],
        }

    def settle(self) -> list[str]:
        """Find out what the server takes, see [`~preferans.models.endpoint.Endpoint.settle`]."""
        return self.endpoint.settle(
            optional=("schema", "temperature", "seed"), schema=PAIR_SCHEMA, temperature=0.0, seed=self.seed
        )

    def verdict(self, question: Question, prompt: list[dict]) -> dict[str, Any]:
        """
        Judge one answer, or two.

        Args:
            question ([`Question`]):
                What is judged. An empty answer is not shown to the model: it gets the lowest scores and loses. Two equal answers are a tie.
            prompt (`list[dict]`):
                The conversation.

        Returns:
            `dict`: a row of the verdict file, see docs/judge.md.

        Raises:
            [`~preferans.models.endpoint.RequestRefused`]: when the server refuses the question.
        """
        texts = question.texts
        row: dict[str, Any] = {"kind": question.kind, "id": question.id}
        if question.kind == "scores":
            row["system"] = question.systems[0].name
            if texts[0]:
                said = [self._ask(question, prompt, texts, read_scores, SCORES_SCHEMA)]
                row |= {"scores": said[0].value, "reasons": said[0].reason}
            else:
                said, row["scores"] = [], dict.fromkeys(CRITERIA, LOWEST)
        else:
            names = [system.name for system in question.systems]
            row["systems"] = names
            if all(texts) and texts[0] != texts[1]:
                said = [self._ask(question, prompt, shown, read_choice, PAIR_SCHEMA) for shown in (texts, texts[::-1])]
                row |= self._both_orders(said, names)
            else:
                said, row["verdict"] = [], TIE if texts[0] == texts[1] else names[texts.index("") ^ 1]
        replies = [reply for one in said for reply in one.replies]
        return row | {
            "problem": next((one.problem for one in said if one.problem), None),
            "replies": len(replies),
            "prompt_tokens": _total(reply.prompt_tokens for reply in replies),
            "completion_tokens": _total(reply.completion_tokens for reply in replies),
            "structured": self.endpoint.takes_schema if said else None,
            "answers_sha256": _digests(texts),
            "endpoint": self.endpoint.host,
            "judge": self.described,
        }

    @staticmethod
    def _both_orders(said: list[Said], names: list[str]) -> dict[str, Any]:
        meant = [
            one.value if one.value in (None, TIE) else order[one.value == SECOND]
            for one, order in zip(said, (names, names[::-1]), strict=True)
        ]
        verdict = None if None in meant else meant[0] if meant[0] == meant[1] else TIE
        return {"verdict": verdict, "orders": meant, "reasons": [one.reason for one in said]}

    def _ask(self, question: Question, prompt: list[dict], shown: list[str], read: Callable, schema: dict) -> Said:
        replies, problem = [], None
        messages = [{"role": "user", "content": question_text(prompt, shown)}]
        for attempt in range(ATTEMPTS):
            try:
                reply = self.endpoint.ask(
                    messages,
                    max_tokens=self.max_tokens,
                    temperature=RETRY_TEMPERATURE if attempt else 0.0,
                    seed=seed_of(self.seed, *question.key, *shown, attempt),
                    schema=schema,
                )
            except GarbledReply:
                problem = "no chat completion came back"
                continue
            replies.append(reply)
            try:
                value, reason = read(reply.text)
            except Unreadable as error:
                cut = f"cut off at {self.max_tokens} tokens, " if reply.finish_reason == "length" else ""
                problem = f"{cut}{error}: {reply.text[:200]!r}"
                continue
            return Said(value, reason, None, replies)
        return Said(None, None, problem, replies)


def _digests(texts: Sequence[str]) -> list[str]:
    return [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts]


def _total(counts: Iterable[int | None]) -> int | None:
    counts = list(counts)
    return None if None in counts else sum(counts)
