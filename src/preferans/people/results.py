"""What people's ratings show: means, win rates, agreement, side bias, time, and disputed items."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

import numpy as np

from ..data.ratings import CRITERIA, TIE, latest
from ..evaluation.agreement import alpha_with_interval
from ..evaluation.people_votes import conversation, votes_and_scores
from ..evaluation.ranking import between, bradley_terry, win_rate
from ..evaluation.statistics import Score, bootstrap, mean_of

DISPUTED = 10


@dataclass
class PairResult:
    """Votes on two systems: `win_rate` of the first, and its `wins`, `losses` and `ties`."""

    systems: tuple[str, str]
    win_rate: Score
    wins: int
    losses: int
    ties: int


@dataclass
class Dispute:
    """
    An item on which raters disagree.

    Attributes:
        prompt (`str`): Last message of the prompt.
        answers (`list[dict]`): `model` and `text` of each answer.
        opinions (`list[tuple[str, str]]`): Each rater with the name of the system that they preferred, `"tie"`, or the total of their scores.
        comments (`list[tuple[str, str]]`): Raters and their comments.
        spread (`float`): Variance of the votes or totals, as a share of the largest possible one.
    """

    prompt: str
    answers: list[dict]
    opinions: list[tuple[str, str]]
    comments: list[tuple[str, str]]
    spread: float


@dataclass
class RatingResults:
    """
    Figures of people's ratings; all intervals draw whole conversations.

    Attributes:
        judgements (`int`), raters (`int`): Numbers of judgements that count, and of raters.
        means (`dict[str, dict[str, Score]]`): For each system, its mean score by criterion, and `total` of all five.
        pairs (`list[PairResult]`): Win rates of every two systems that were compared.
        ranking (`dict[str, Score]`): Strengths of more than two compared systems, the strongest first.
        agreement (`dict[str, Score]`): Krippendorff's alpha (ordinal) by criterion, and of the votes (`verdict`).
        left (`Score`): Share of the verdicts for one of two answers that are for the left one.
        seconds (`dict[str, tuple[float, int]]`): For each rater, the median time and the number of timed judgements.
        marked (`int`): Number of judgements of marked texts.
        disputed (`list[Dispute]`): The most disputed items, the most disputed first.
    """

    judgements: int
    raters: int
    means: dict[str, dict[str, Score]]
    pairs: list[PairResult]
    ranking: dict[str, Score]
    agreement: dict[str, Score]
    left: Score
    seconds: dict[str, tuple[float, int]]
    marked: int
    disputed: list[Dispute]


def rating_results(judgements: Iterable[dict]) -> RatingResults:
    """
    Compute the figures of judgements in the format of docs/ratings.md.

    Args:
        judgements (`Iterable[dict]`): Judgements; those that a later one replaces do not count, and skipped items neither.
    """
    rated = [row for row in latest(judgements) if row["verdict"] or row["scores"] or row.get("thumbs")]
    votes, scores = votes_and_scores(rated)
    systems = sorted({answer["model"] for row in rated for answer in row["answers"]})
    pairs = []
    for first, second in combinations(systems, 2):
        cast = between(votes, first, second)
        shares = [vote.share for vote in cast]
        if cast:
            pairs.append(
                PairResult((first, second), win_rate(cast), shares.count(1.0), shares.count(0.0), shares.count(0.5))
            )
    compared = sorted({name for pair in pairs for name in pair.systems})
    decided = [row for row in rated if row["verdict"] not in (None, TIE)]
    times: dict[str, list[float]] = {}
    for row in rated:
        if row.get("seconds") is not None:
            times.setdefault(row["rater"], []).append(row["seconds"])
    return RatingResults(
        judgements=len(rated),
        raters=len({row["rater"] for row in rated}),
        means=_means(systems, scores),
        pairs=pairs,
        ranking=bradley_terry(votes, compared) if len(compared) > 2 else {},
        agreement=_agreement(rated),
        left=bootstrap(
            [float(row["verdict"] == row["answers"][0]["id"]) for row in decided],
            [conversation(row["prompt"]) for row in decided],
        ),
        seconds={rater: (median(values), len(values)) for rater, values in sorted(times.items())},
        marked=sum(bool(row.get("marks")) for row in rated),
        disputed=_disputed(rated),
    )


def _means(systems: Sequence[str], scores: Sequence[tuple[str, str, dict | None]]) -> dict[str, dict[str, Score]]:
    means = {}
    for system in systems:
        rows = [(values, about) for name, about, values in scores if name == system and values]
        if rows:
            groups = [about for _, about in rows]
            means[system] = {name: mean_of([values.get(name) for values, _ in rows], groups) for name in CRITERIA}
            totals = [sum(values.values()) if len(values) == len(CRITERIA) else None for values, _ in rows]
            means[system]["total"] = mean_of(totals, groups)
    return means


def _units(rated: Iterable[dict]) -> dict[str, dict[tuple, dict[str, float]]]:
    """For each criterion and for verdicts, the raters' values of each answer or pair of answers."""
    units: dict[str, dict[tuple, dict[str, float]]] = {name: {} for name in (*CRITERIA, "verdict")}
    for row in rated:
        for answer, values in (row["scores"] or {}).items():
            key = (conversation(row["prompt"]), row["prompt_id"], answer)
            for name, value in values.items():
                units[name].setdefault(key, {})[row["rater"]] = value
        if row["verdict"] is not None and len(row["answers"]) == 2:
            first, second = sorted(answer["id"] for answer in row["answers"])
            pair = (conversation(row["prompt"]), row["prompt_id"], first, second)
            share = {first: 1.0, TIE: 0.5, second: 0.0}[row["verdict"]]
            units["verdict"].setdefault(pair, {})[row["rater"]] = share
    return units


def _agreement(rated: Sequence[dict]) -> dict[str, Score]:
    agreement = {}
    for name, units in _units(rated).items():
        shared = {key: list(values.values()) for key, values in units.items() if len(values) > 1}
        if shared:
            agreement[name] = alpha_with_interval(list(shared.values()), [key[0] for key in shared])
    return agreement


def _disputed(rated: Sequence[dict]) -> list[Dispute]:
    groups: dict[tuple, list[dict]] = {}
    for row in rated:
        groups.setdefault((row["prompt_id"], *sorted(answer["id"] for answer in row["answers"])), []).append(row)
    disputes = []
    for rows in groups.values():
        opinions = [opinion for row in rows if (opinion := _opinion(row))]
        values = [value for _, value, _ in opinions]
        if len(values) > 1 and (spread := float(np.var(values)) / 0.25) > 0:
            disputes.append(
                Dispute(
                    prompt=rows[0]["prompt"][-1]["content"],
                    answers=[{"model": answer["model"], "text": answer["text"]} for answer in rows[0]["answers"]],
                    opinions=sorted((rater, words) for rater, _, words in opinions),
                    comments=sorted((row["rater"], row["comment"]) for row in rows if row.get("comment")),
                    spread=spread,
                )
            )
    return sorted(disputes, key=lambda dispute: -dispute.spread)[:DISPUTED]


def _opinion(row: dict) -> tuple[str, float, str] | None:
    """The rater, a value from 0 to 1, and the same in words."""
    models = {answer["id"]: answer["model"] for answer in row["answers"]} | {TIE: TIE}
    if row["verdict"] is not None and len(row["answers"]) == 2:
        share = {min(models.keys() - {TIE}): 1.0, TIE: 0.5}.get(row["verdict"], 0.0)
        return row["rater"], share, models[row["verdict"]]
    totals = [sum(values.values()) for values in (row["scores"] or {}).values() if len(values) == len(CRITERIA)]
    if len(row["answers"]) == 1 and totals:
        return row["rater"], (totals[0] / len(CRITERIA) - 1) / 4, str(totals[0])
    return None
