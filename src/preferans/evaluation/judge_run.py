"""Judge all answers, resume a stopped run, and sum up the verdicts."""

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from ..data.ratings import CRITERIA, TIE, latest, pairwise_votes
from ..errors import PreferansError
from ..files import write_jsonl
from ..models.endpoint import RequestRefused
from .agreement import cohen_kappa, krippendorff_alpha, with_interval
from .answers import System, without_system
from .judge import SCALE, Judge, Question, _digests
from .statistics import Score

QUESTION_KINDS = ("scores", "pair")
# A server that refuses so many questions and has answered none would refuse them all.
REFUSALS_TO_STOP = 10


def questions(
    systems: Sequence[System], prompts: dict[str, list[dict]], kinds: Sequence[str] = QUESTION_KINDS
) -> list[Question]:
    """
    All that is to be judged: each answer by itself, and each two answers to one prompt.

    Args:
        systems (`Sequence[System]`):
            Systems that answered the same prompts.
        prompts (`dict[str, list[dict]]`):
            The prompts by id, see [`~preferans.evaluation.answers.line_up`].
        kinds (`Sequence[str]`, *optional*, defaults to both):
            Which of `QUESTION_KINDS`.
    """
    groups = {"scores": [(system,) for system in systems], "pair": list(combinations(systems, 2))}
    return [Question(kind, name, group) for kind in kinds for group in groups[kind] for name in prompts]


def read_finished_verdicts(path: Path, judge: Judge, known: dict[tuple, Question]) -> dict[tuple, dict]:
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
    kinds: Sequence[str] = QUESTION_KINDS,
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
            Which of `QUESTION_KINDS` to ask for.
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
    finished = read_finished_verdicts(output, judge, known)
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
        pairs ([`~preferans.evaluation.statistics.Score`]): Cohen's kappa of verdicts on two answers (the one, the other, a tie); each person's verdict is a case.
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
            People's ratings, see [`~preferans.data.ratings.read_ratings`].

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
    return json.dumps(without_system(prompt), ensure_ascii=False)
