"""
A served model as judge of answers: scores by five criteria, and verdicts on two answers that hold only in both orders.

Two people rarely judge alike, and a model is no better than how far it agrees with them: [`agreement`] says so where there are ratings.
"""

import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from tqdm import tqdm

from .agreement import cohen_kappa, krippendorff_alpha, with_interval
from .endpoint import Endpoint, GarbledReply, Reply, RequestRefused, seed_of
from .errors import PreferansError
from .files import write_jsonl
from .ratings import CRITERIA, HIGHEST, LOWEST, TIE, latest, pairwise_votes
from .scoring import Score
from .systems import System, asked

KINDS = ("scores", "pair")
SCALE = range(LOWEST, HIGHEST + 1)
# A reply that cannot be read is asked for again: not with the likeliest tokens, which would be the same, and with another seed.
ATTEMPTS = 4
RETRY_TEMPERATURE = 0.7
MAX_TOKENS = 1024
# A server that refuses so many questions and has answered none would refuse them all.
REFUSALS_TO_STOP = 10
FIRST, SECOND = "first", "second"
# What a judge may call the answers, in small letters, Russian or Latin.
CHOICES = {"а": FIRST, "a": FIRST, "б": SECOND, "b": SECOND, "ничья": TIE, "tie": TIE}

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


def questions(
    systems: Sequence[System], prompts: dict[str, list[dict]], kinds: Sequence[str] = KINDS
) -> list[Question]:
    """
    All that is to be judged: each answer by itself, and each two answers to one prompt.

    Args:
        systems (`Sequence[System]`):
            Systems that answered the same prompts.
        prompts (`dict[str, list[dict]]`):
            The prompts by id, see [`~systems.line_up`].
        kinds (`Sequence[str]`, *optional*, defaults to both):
            Which of `KINDS`.
    """
    groups = {"scores": [(system,) for system in systems], "pair": list(combinations(systems, 2))}
    return [Question(kind, name, group) for kind in kinds for group in groups[kind] for name in prompts]


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
            reasons[criterion] = str(said.get("reason", "")) if isinstance(said, dict) else ""
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
        if said not in CHOICES:
            raise Unreadable("it names neither answer as the better one")
        return CHOICES[said], str(value.get("reason", ""))

    return _only(text, read)


@dataclass
class Judge:
    """
    A served model that judges.

    Args:
        endpoint ([`~endpoint.Endpoint`]):
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
        """Find out what the server takes, see [`~endpoint.Endpoint.settle`]."""
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
            [`~endpoint.RequestRefused`]: when the server refuses the question.
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


def read_finished(path: Path, judge: Judge, known: dict[tuple, Question]) -> dict[tuple, dict]:
    """
    Verdicts that an earlier call has already written.

    Args:
        path (`Path`):
            The verdict file. A last line that a kill cut short is passed over.
        judge ([`Judge`]):
            The judge, whose verdicts they must be.
        known (`dict[tuple, Question]`):
            All that can be asked of these answers, by its key.

    Returns:
        `dict[tuple, dict]`: rows by the key of their question.

    Raises:
        [`PreferansError`]: when the file holds something else, or verdicts of another judge or on other answers.
    """
    if not path.exists():
        return {}
    cure = "Name another file, or delete it."
    lines = path.read_bytes().split(b"\n")
    finished: dict[tuple, dict] = {}
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            row = json.loads(line)
            systems = [row["system"]] if row["kind"] == "scores" else row["systems"]
            key = (row["kind"], row["id"], *systems)
            about, by = row["answers_sha256"], row["judge"]
        except (ValueError, KeyError, TypeError):
            if number == len(lines):  # not ended by a newline: the kill came while it was written
                continue
            raise PreferansError(f"{path}, line {number}: this is no verdict of this command. {cure}") from None
        if by != judge.described:
            raise PreferansError(
                f"{path}: it holds verdicts of the judge {by!r}, and this is {judge.described!r}. {cure}"
            )
        if key not in known:
            raise PreferansError(
                f"{path}, line {number}: this verdict is on {' and '.join(map(str, systems))}, prompt {row['id']}, which is not among the "
                f"answers named. Name all the files of answers, in the same order. Or: {cure.lower()}"
            )
        if about != _digests(known[key].texts):
            raise PreferansError(
                f"{path}, line {number}: since this verdict on prompt {row['id']} the answers have changed. {cure}"
            )
        finished[key] = row
    return finished


def judge_answers(
    judge: Judge,
    systems: Sequence[System],
    prompts: dict[str, list[dict]],
    output: str | Path,
    kinds: Sequence[str] = KINDS,
    tell: Callable[[str], None] = print,
    price: Callable[[int, int], str] | None = None,
) -> tuple[list[dict], list[str]]:
    """
    Judge all answers, and keep each verdict as soon as it is there.

    Args:
        judge ([`Judge`]):
            The judge.
        systems (`Sequence[System]`), prompts (`dict[str, list[dict]]`):
            The answers, lined up.
        output (`str` or `Path`):
            The verdict file. What an earlier call has written there is kept and not asked again.
        kinds (`Sequence[str]`, *optional*, defaults to both):
            Which of `KINDS` to ask for.
        tell (`Callable`, *optional*, defaults to `print`):
            Is given a sentence for each thing that the server does otherwise than asked.
        price (`Callable`, *optional*):
            From `prompt_tokens` and `completion_tokens` so far to a few words beside the progress bar.

    Returns:
        `tuple[list[dict], list[str]]`: all rows of the file, in the order of the questions, and what the server said to each question
        that it refused. Those have no row, and the same command asks them again.

    Raises:
        [`PreferansError`]: when the server cannot be used, or refuses the first questions one after the other.
    """
    output = Path(output)
    if output.is_dir():
        raise PreferansError(f"{output}: this is a folder, and a file for the verdicts is needed.")
    output.parent.mkdir(parents=True, exist_ok=True)
    known = {question.key: question for question in questions(systems, prompts)}
    finished = read_finished(output, judge, known)
    missing = [question for question in questions(systems, prompts, kinds) if question.key not in finished]
    if missing:
        for note in judge.settle():
            tell(note)
    write_jsonl(output, list(finished.values()))  # drops a line cut short before more is appended

    def work(question: Question) -> dict | RequestRefused:
        try:
            return judge.verdict(question, prompts[question.id])
        except RequestRefused as refusal:
            return refusal

    refused: list[str] = []
    answered, spent = 0, Counter(tokens(finished.values()))
    with (
        tqdm(total=len(missing) + len(finished), initial=len(finished), desc="Verdicts", unit="verdict") as bar,
        open(output, "a", encoding="utf-8", newline="\n") as file,
    ):
        for question, row in judge.endpoint.map(work, missing):
            if isinstance(row, RequestRefused):
                refused.append(str(row))
                if not answered and len(refused) == REFUSALS_TO_STOP:
                    raise row
                continue
            answered += row["replies"] > 0
            finished[question.key] = row
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
            bar.update()
            spent.update(tokens([row]))
            if price:
                bar.set_postfix_str(price(**spent))
    rows = [finished[key] for key in known if key in finished]
    write_jsonl(output, rows)
    return rows, refused


def tokens(rows: Iterable[dict]) -> dict[str, int]:
    """What verdicts took, `prompt_tokens` and `completion_tokens`, as far as the server counted them."""
    rows = list(rows)
    return {name: sum(row[name] or 0 for row in rows) for name in ("prompt_tokens", "completion_tokens")}


def summary(rows: Sequence[dict]) -> dict[str, Any]:
    """
    What verdicts say, as plain counts and means. `scripts/score.py --verdicts` gives them their intervals.

    Args:
        rows (`Sequence[dict]`):
            Rows of a verdict file.

    Returns:
        `dict`: `pairs`, for each two systems a `Counter` of `wins` (of the first), `losses`, `ties` (said in both orders, or equal texts),
        `split` (the orders disagreed, which counts as a tie), `unreadable`, and of the split ones `shown_first` and `shown_second` (the same
        place won both times); `scores`, for each system the mean of each criterion, `answers` and `unreadable`.
    """
    pairs: dict[tuple, Counter] = {}
    scored: dict[str, list[dict | None]] = {}
    for row in rows:
        if row["kind"] == "scores":
            scored.setdefault(row["system"], []).append(row["scores"])
            continue
        first, second = row["systems"]
        count = pairs.setdefault((first, second), Counter())
        orders = row.get("orders")
        if row["verdict"] is None:
            count["unreadable"] += 1
        elif row["verdict"] == TIE and orders and orders[0] != orders[1]:
            count["split"] += 1
            count["shown_first"] += orders == [first, second]
            count["shown_second"] += orders == [second, first]
        else:
            count[{first: "wins", second: "losses", TIE: "ties"}[row["verdict"]]] += 1
    means = {}
    for system, all_scores in scored.items():
        readable = [scores for scores in all_scores if scores is not None]
        means[system] = {
            criterion: sum(scores[criterion] for scores in readable) / len(readable) if readable else math.nan
            for criterion in CRITERIA
        } | {"answers": len(all_scores), "unreadable": len(all_scores) - len(readable)}
    return {"pairs": pairs, "scores": means}


class Agreement(NamedTuple):
    """
    How far a judge agrees with people.

    Attributes:
        pairs ([`~scoring.Score`]): Cohen's kappa of verdicts on two answers (the one, the other, a tie); each person's verdict is a case.
        same (`float`): Share of those cases in which both said the same.
        criteria (`dict[str, Score]`): By criterion, Cohen's kappa with quadratic weights; each person's score is a case.
        people (`dict[str, float]`): Krippendorff's alpha (ordinal) among the people alone, which is as far as they agree with each other.
        together (`dict[str, float]`): The same with the judge as one more rater.
    """

    pairs: Score
    same: float
    criteria: dict[str, Score]
    people: dict[str, float]
    together: dict[str, float]


def agreement(
    rows: Sequence[dict], systems: Sequence[System], prompts: dict[str, list[dict]], judgements: Sequence[dict]
) -> Agreement:
    """
    Compare a judge's verdicts with people's ratings of the same answers, found by the prompt and the text, whatever systems and prompts are
    called there. What the judge left unreadable is left out.

    Args:
        rows (`Sequence[dict]`):
            Rows of a verdict file.
        systems (`Sequence[System]`), prompts (`dict[str, list[dict]]`):
            The answers that were judged.
        judgements (`Sequence[dict]`):
            People's ratings, see [`~ratings.read_ratings`].

    Returns:
        [`Agreement`]: intervals draw whole prompts.

    Raises:
        [`PreferansError`]: when people rated none of the answers judged.
    """
    texts = {system.name: {name: row["answer"].strip() for name, row in system.rows.items()} for system in systems}
    shares, scores = {}, {}
    for row in rows:
        place = _asked_key(prompts[row["id"]])
        if row["kind"] == "scores" and row["scores"] is not None:
            scores[place, texts[row["system"]][row["id"]]] = row["scores"]
        elif row["kind"] == "pair" and row["verdict"] is not None:
            first, second = row["systems"]
            one, other = texts[first][row["id"]], texts[second][row["id"]]
            share = {first: 1.0, TIE: 0.5, second: 0.0}[row["verdict"]]
            if one != other:
                shares[place, one, other] = share
    votes = []
    for judgement, one, other, share in pairwise_votes(judgements):
        place, one, other = _asked_key(judgement["prompt"]), one["text"].strip(), other["text"].strip()
        if (place, one, other) in shares:
            votes.append((place, shares[place, one, other], share))
        elif (place, other, one) in shares:
            votes.append((place, shares[place, other, one], 1 - share))
    rated: dict[tuple, dict[str, dict]] = {}
    for judgement in latest(judgements):
        for answer in judgement["answers"]:
            key = (_asked_key(judgement["prompt"]), answer["text"].strip())
            given = (judgement["scores"] or {}).get(answer["id"])
            if key in scores and given:
                rated.setdefault(key, {})[judgement["rater"]] = given
    if not votes and not rated:
        raise PreferansError(
            "--human: the ratings are of none of the answers judged here. Prompts and answers must be the same word for word."
        )
    criteria, people, together = {}, {}, {}
    raters = sorted({rater for given in rated.values() for rater in given})
    for criterion in CRITERIA:
        cases, units = [], []
        for key, given in sorted(rated.items()):
            cases += [
                (key[0], scores[key][criterion], said[criterion]) for said in given.values() if criterion in said
            ]
            units.append([given.get(rater, {}).get(criterion) for rater in raters])
        criteria[criterion] = _kappa(cases, list(SCALE), "quadratic")
        people[criterion] = krippendorff_alpha(units)
        judged = [scores[key][criterion] for key in sorted(rated)]
        together[criterion] = krippendorff_alpha([[*unit, own] for unit, own in zip(units, judged, strict=True)])
    same = sum(own == theirs for _, own, theirs in votes) / len(votes) if votes else math.nan
    return Agreement(_kappa(votes, [1.0, 0.5, 0.0], None), same, criteria, people, together)


def _kappa(cases: list[tuple], categories: list, weights: str | None) -> Score:
    def statistic(drawn: list[tuple]) -> float:
        return cohen_kappa([case[1] for case in drawn], [case[2] for case in drawn], categories, weights)

    return with_interval(statistic, cases, [case[0] for case in cases])


def _asked_key(prompt: list[dict]) -> str:
    return json.dumps(asked(prompt), ensure_ascii=False)
