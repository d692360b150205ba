"""Judge all answers, resume, and compare the verdicts with people."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from ..data.ratings import CRITERIA, TIE, latest, pairwise_votes
from ..errors import PreferansError
from ..models.endpoint import RequestRefused
from ..resumable import ResumableRows
from .agreement import cohen_kappa, krippendorff_alpha, with_interval
from .answers import System, answers_sha256, prompt_key
from .judge import SCALE, Judge, Question
from .statistics import Score

QUESTION_KINDS = ("scores", "pair")
# If the server refuses this many questions and has answered none, judging stops.
REFUSALS_TO_STOP = 10


@dataclass
class TokenPrices:
    """Prices of a million tokens read (`prompt`) and written (`completion`), if known."""

    prompt: float | None = None
    completion: float | None = None

    def in_words(self, prompt_tokens: int, completion_tokens: int) -> str:
        """Return the number of tokens, and their cost if a price is known, as text."""
        words = f"{prompt_tokens:,} tokens read, {completion_tokens:,} written"
        if self.prompt is None and self.completion is None:
            return words
        cost = (prompt_tokens * (self.prompt or 0) + completion_tokens * (self.completion or 0)) / 1e6
        return f"{words}, cost {cost:.4g}"


@dataclass
class JudgeTask:
    """
    Answers to judge.

    Args:
        systems (`Sequence[System]`): Systems that answered the same prompts.
        prompts (`dict[str, list[dict]]`): The prompts by id, see [`~preferans.evaluation.answers.line_up`].
        kinds (`Sequence[str]`, *optional*, defaults to both): Which of `QUESTION_KINDS` to ask.
    """

    systems: Sequence[System]
    prompts: dict[str, list[dict]]
    kinds: Sequence[str] = QUESTION_KINDS

    def questions(self, kinds: Sequence[str] | None = None) -> list[Question]:
        """List the questions: each answer alone, and every two answers to one prompt."""
        groups: dict[str, list[tuple[System, ...]]] = {
            "scores": [(system,) for system in self.systems],
            "pair": list(combinations(self.systems, 2)),
        }
        return [
            Question(kind, name, group)
            for kind in kinds or self.kinds
            for group in groups[kind]
            for name in self.prompts
        ]


def judge_answers(
    judge: Judge,
    task: JudgeTask,
    output: str | Path,
    log: Callable[[str], None] = print,
    prices: TokenPrices | None = None,
) -> tuple[list[dict], list[str]]:
    """
    Judge all answers, and save each verdict at once.

    Args:
        judge ([`Judge`]): The judge.
        task ([`JudgeTask`]): The answers to judge.
        output (`str` or `Path`): The verdict file. Verdicts that an earlier call wrote are kept, and not requested again.
        log (`Callable`, *optional*, defaults to `print`): Receives a sentence for each option that the server does not support.
        prices ([`TokenPrices`], *optional*): Prices of tokens, to show the cost so far beside the progress bar.

    Returns:
        `tuple[list[dict], list[str]]`: all rows of the file, in the order of the questions, and the server's message for each refused
        question. Refused questions have no row, and the next call requests them again.

    Raises:
        [`PreferansError`]: if the server cannot be used or refuses the first questions, or the file has something else, verdicts of
        another judge, or verdicts on other answers.
    """
    known = {question.key: question for question in task.questions(QUESTION_KINDS)}
    finished = ResumableRows(output, _key_reader(judge, known), "verdict")
    missing = [question for question in task.questions() if question.key not in finished.rows]
    if missing:
        for note in judge.settle():
            log(note)
    refused = _judge_missing(judge, task.prompts, missing, finished, prices)
    return finished.in_order(known), refused


def _key_reader(judge: Judge, known: dict[tuple, Question]) -> Callable[[dict, str], tuple]:
    """Make the function that checks a finished row and returns the key of its question."""

    def key_of(row: dict, location: str) -> tuple:
        systems = [row["system"]] if row["kind"] == "scores" else row["systems"]
        key = (row["kind"], row["id"], *systems)
        digests, settings = row["answers_sha256"], row["judge"]
        cure = "Name another file, or delete it."
        if settings != judge.described:
            raise PreferansError(
                f"{location}: verdicts of the judge {settings!r}, but the settings of this one are {judge.described!r}. {cure}"
            )
        if key not in known:
            raise PreferansError(
                f"{location}: this verdict is on {' and '.join(map(str, systems))}, prompt {row['id']}, which is not among the named "
                f"answers. Name all files of answers, in the same order. Or: {cure.lower()}"
            )
        if digests != answers_sha256(known[key].texts):
            raise PreferansError(
                f"{location}: the answers to prompt {row['id']} have changed since this verdict. {cure}"
            )
        return key

    return key_of


def _judge_missing(
    judge: Judge,
    prompts: dict[str, list[dict]],
    missing: list[Question],
    finished: ResumableRows,
    prices: TokenPrices | None,
) -> list[str]:
    """Judge the missing questions, append their rows, and return the messages of refusals."""

    def work(question: Question) -> dict | RequestRefused:
        try:
            return judge.verdict(question, prompts[question.id])
        except RequestRefused as refusal:
            return refusal

    refused: list[str] = []
    done = len(finished.rows)
    answered, spent = 0, Counter(tokens(finished.rows.values()))
    with (
        tqdm(total=len(missing) + done, initial=done, desc="Verdicts", unit="verdict") as bar,
        finished.appending() as append,
    ):
        for question, row in judge.endpoint.map(work, missing):
            if isinstance(row, RequestRefused):
                refused.append(str(row))
                if not answered and len(refused) == REFUSALS_TO_STOP:
                    raise row
                continue
            answered += row["replies"] > 0
            append({question.key: row})
            bar.update()
            spent.update(tokens([row]))
            if prices:
                bar.set_postfix_str(prices.in_words(**spent))
    return refused


def tokens(rows: Iterable[dict]) -> dict[str, int]:
    """Sum the tokens read and written for verdicts, as the server counted them."""
    rows = list(rows)
    return {name: sum(row[name] or 0 for row in rows) for name in ("prompt_tokens", "completion_tokens")}


def summary(rows: Sequence[dict]) -> dict[str, Any]:
    """
    Summarize verdicts as counts and means. `scripts/score.py --verdicts` adds intervals.

    Args:
        rows (`Sequence[dict]`): Rows of a verdict file.

    Returns:
        `dict`: `pairs`, for every two systems a `Counter` of `wins` (of the first), `losses`, `ties` (in both orders, or equal texts),
        `split` (the orders disagree, which counts as a tie), `unreadable`, and of the split ones `shown_first` and `shown_second` (the
        answer at the same position won both times); `scores`, for each system the mean of each criterion, `answers` and `unreadable`.
    """
    pairs: dict[tuple, Counter] = {}
    scored: dict[str, list[dict | None]] = {}
    for row in rows:
        if row["kind"] == "scores":
            scored.setdefault(row["system"], []).append(row["scores"])
        else:
            _count(row, pairs.setdefault(tuple(row["systems"]), Counter()))
    means = {}
    for system, all_scores in scored.items():
        readable = [scores for scores in all_scores if scores is not None]
        means[system] = {
            criterion: sum(scores[criterion] for scores in readable) / len(readable) if readable else math.nan
            for criterion in CRITERIA
        } | {"answers": len(all_scores), "unreadable": len(all_scores) - len(readable)}
    return {"pairs": pairs, "scores": means}


def _count(row: dict, count: Counter) -> None:
    first, second = row["systems"]
    orders = row.get("orders")
    if row["verdict"] is None:
        count["unreadable"] += 1
    elif row["verdict"] == TIE and orders and orders[0] != orders[1]:
        count["split"] += 1
        count["shown_first"] += orders == [first, second]
        count["shown_second"] += orders == [second, first]
    else:
        count[{first: "wins", second: "losses", TIE: "ties"}[row["verdict"]]] += 1


def summary_in_words(rows: Sequence[dict]) -> list[str]:
    """Return the [`summary`] of verdicts as lines of text."""
    counts, lines = summary(rows), []
    for system, scores in counts["scores"].items():
        readable = scores["answers"] > scores["unreadable"]
        means = ", ".join(f"{name} {scores[name]:.2f}" for name in CRITERIA) if readable else "no scores"
        lines.append(f"{system}: {means} ({scores['answers']} answers, {scores['unreadable']} unreadable)")
    for (first, second), count in counts["pairs"].items():
        lines.append(
            f"{first} better {count['wins']}, {second} better {count['losses']}, tie {count['ties']}, tie because the orders disagree "
            f"{count['split']} (the answer shown first won twice {count['shown_first']}, the one shown second {count['shown_second']}), "
            f"unreadable {count['unreadable']}"
        )
    return lines


class Agreement(NamedTuple):
    """
    Agreement of a judge with people.

    Attributes:
        pairs ([`~preferans.evaluation.statistics.Score`]): Cohen's kappa of verdicts on two answers (first, second, tie); each
            person's verdict is a case.
        same (`float`): Share of those cases in which both verdicts are equal.
        criteria (`dict[str, Score]`): By criterion, Cohen's kappa with quadratic weights; each person's score is a case.
        people (`dict[str, float]`): Krippendorff's alpha (ordinal) among people only.
        together (`dict[str, float]`): The same with the judge as another rater.
    """

    pairs: Score
    same: float
    criteria: dict[str, Score]
    people: dict[str, float]
    together: dict[str, float]

    def in_words(self) -> list[str]:
        """Return the agreement as lines of text."""
        return [
            f"Agreement with people on pairs: Cohen's kappa {self.pairs.in_words()}; the same verdict in {self.same:.0%}",
            *(
                f"  {name:<13} quadratic kappa {kappa.in_words()}; Krippendorff's alpha among people {self.people[name]:.3f}, "
                f"with the judge {self.together[name]:.3f}"
                for name, kappa in self.criteria.items()
            ),
        ]


def agreement_with_people(rows: Sequence[dict], task: JudgeTask, judgements: Sequence[dict]) -> Agreement:
    """
    Compare a judge's verdicts with people's ratings of the same answers.

    Answers are matched by the prompt and the text, not by names and ids. Unreadable verdicts are left out.

    Args:
        rows (`Sequence[dict]`): Rows of a verdict file.
        task ([`JudgeTask`]): The judged answers.
        judgements (`Sequence[dict]`): People's ratings, see [`~preferans.data.ratings.read_ratings`].

    Returns:
        [`Agreement`]: intervals draw whole prompts.

    Raises:
        [`PreferansError`]: if no rated answer matches a judged one.
    """
    shares, scores = _by_text(rows, task)
    votes = _matched_votes(shares, judgements)
    ratings = _matched_ratings(scores, judgements)
    if not votes and not ratings:
        raise PreferansError(
            "--human: no rated answer matches a judged one. Prompts and answers must be equal word for word."
        )
    criteria, people, together = {}, {}, {}
    raters = sorted({rater for by_rater in ratings.values() for rater in by_rater})
    for criterion in CRITERIA:
        cases, units = [], []
        for key, by_rater in sorted(ratings.items()):
            cases += [
                (key[0], scores[key][criterion], rating[criterion])
                for rating in by_rater.values()
                if criterion in rating
            ]
            units.append([by_rater.get(rater, {}).get(criterion) for rater in raters])
        criteria[criterion] = _kappa(cases, list(SCALE), "quadratic")
        people[criterion] = krippendorff_alpha(units)
        judged = [scores[key][criterion] for key in sorted(ratings)]
        together[criterion] = krippendorff_alpha([[*unit, own] for unit, own in zip(units, judged, strict=True)])
    same = sum(own == other for _, own, other in votes) / len(votes) if votes else math.nan
    return Agreement(_kappa(votes, [1.0, 0.5, 0.0], None), same, criteria, people, together)


def _by_text(rows: Sequence[dict], task: JudgeTask) -> tuple[dict, dict]:
    """The judge's verdicts by prompt and two texts, and its scores by prompt and text."""
    texts = {
        system.name: {name: row["answer"].strip() for name, row in system.rows.items()} for system in task.systems
    }
    shares, scores = {}, {}
    for row in rows:
        prompt = prompt_key(task.prompts[row["id"]])
        if row["kind"] == "scores" and row["scores"] is not None:
            scores[prompt, texts[row["system"]][row["id"]]] = row["scores"]
        elif row["kind"] == "pair" and row["verdict"] is not None:
            first, second = row["systems"]
            one, other = texts[first][row["id"]], texts[second][row["id"]]
            if one != other:
                shares[prompt, one, other] = {first: 1.0, TIE: 0.5, second: 0.0}[row["verdict"]]
    return shares, scores


def _matched_votes(shares: dict[tuple, float], judgements: Sequence[dict]) -> list[tuple[str, float, float]]:
    """Prompt, the judge's vote and the person's vote for each person's vote on judged answers."""
    votes = []
    for judgement, one, other, share in pairwise_votes(judgements):
        prompt, first, second = prompt_key(judgement["prompt"]), one["text"].strip(), other["text"].strip()
        if (prompt, first, second) in shares:
            votes.append((prompt, shares[prompt, first, second], share))
        elif (prompt, second, first) in shares:
            votes.append((prompt, shares[prompt, second, first], 1 - share))
    return votes


def _matched_ratings(scores: dict[tuple, dict], judgements: Sequence[dict]) -> dict[tuple, dict[str, dict]]:
    """People's scores of judged answers, by prompt and text, then by rater."""
    ratings: dict[tuple, dict[str, dict]] = {}
    for judgement in latest(judgements):
        for answer in judgement["answers"]:
            key = (prompt_key(judgement["prompt"]), answer["text"].strip())
            rating = (judgement["scores"] or {}).get(answer["id"])
            if key in scores and rating:
                ratings.setdefault(key, {})[judgement["rater"]] = rating
    return ratings


def _kappa(cases: list[tuple], categories: list, weights: str | None) -> Score:
    def statistic(drawn: list[tuple]) -> float:
        return cohen_kappa([case[1] for case in drawn], [case[2] for case in drawn], categories, weights)

    return with_interval(statistic, cases, [case[0] for case in cases])
