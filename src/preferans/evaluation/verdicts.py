"""Read the verdicts of judges, both models and people, as votes and scores."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ConfigDict, ValidationInfo, field_validator

from ..data.ratings import CRITERIA, HIGHEST, LOWEST, TIE, numbered_ratings, read_ratings
from ..errors import PreferansError, did_you_mean
from ..typed_rows import Row, check_row
from .answers import System, answers_sha256, prompt_key
from .people_votes import conversation, votes_and_scores
from .ranking import Vote


class _PairRow(Row):
    model_config = ConfigDict(extra="allow", strict=True)

    id: str
    systems: list[str]
    verdict: str | None

    @field_validator("systems")
    @classmethod
    def _check_systems(cls, systems: list[str]) -> list[str]:
        if len(systems) != 2 or systems[0] == systems[1]:
            raise ValueError(f"must name two different systems, got {systems!r:.80}")
        return systems

    @field_validator("verdict")
    @classmethod
    def _check_verdict(cls, verdict: str | None, info: ValidationInfo) -> str | None:
        allowed = [*info.data.get("systems", []), TIE]
        if verdict is not None and verdict not in allowed:
            names = ", ".join(f"'{name}'" for name in allowed)
            raise ValueError(f"is {verdict!r:.60}; it must be {names}, or null for an unreadable reply")
        return verdict


class _ScoresRow(Row):
    model_config = ConfigDict(extra="allow", strict=True)

    id: str
    system: str
    scores: dict[str, int] | None

    @field_validator("scores")
    @classmethod
    def _check_scores(cls, scores: dict[str, int] | None) -> dict[str, int] | None:
        if scores and not all(key in CRITERIA and LOWEST <= value <= HIGHEST for key, value in scores.items()):
            raise ValueError(
                f"must have integers from {LOWEST} to {HIGHEST} for {', '.join(CRITERIA)}, got {scores!r:.80}"
            )
        return scores


_ROW_TYPES: dict[str, type[Row]] = {"pair": _PairRow, "scores": _ScoresRow}


@dataclass
class Verdicts:
    """
    All verdicts of one kind, of models or of people.

    Attributes:
        votes (`list[Vote]`): Verdicts on two systems.
        scores (`list[tuple[str, str, dict | None]]`): System, conversation, and scores by criterion; `None` if the judge's reply was
            unreadable.
        sources (`list[dict]`): `source` and `verdicts` (their number) of each file.
    """

    votes: list[Vote] = field(default_factory=list)
    scores: list[tuple[str, str, dict[str, int] | None]] = field(default_factory=list)
    sources: list[dict] = field(default_factory=list)


def read_verdicts(
    files: Sequence[str], systems: Sequence[System], prompts: dict[str, list[dict]]
) -> dict[str, Verdicts]:
    """
    Read verdicts on the systems' answers.

    Args:
        files (`Sequence[str]`):
            Files of `scripts/judge.py`, and people's ratings (docs/ratings.md) of the same texts; their keys distinguish them.
        systems (`Sequence[System]`): The compared systems.
        prompts (`dict[str, list[dict]]`): The answered prompts by id.

    Returns:
        `dict[str, Verdicts]`: of `"people"` and of the `"judge"`, if they have verdicts; votes in an order that does not depend on the
        order of the lines.

    Raises:
        [`PreferansError`]: names the file and the line of an invalid verdict, or of one on another system, prompt or text.
    """
    by_name = {system.name: system for system in systems}
    by_kind = {"people": Verdicts(), "judge": Verdicts()}
    seen: set[Path] = set()
    judged: dict[tuple, str] = {}
    for path in files:
        if Path(path).resolve() in seen:
            raise PreferansError(f"--verdicts {path}: the file is named twice, and its verdicts would count twice.")
        seen.add(Path(path).resolve())
        rows = list(numbered_ratings(path))
        if not rows:
            raise PreferansError(f"--verdicts {path}: there are no verdicts in this file.")
        if "kind" in rows[0][1]:
            kind = "judge"
            for number, row in rows:
                location = f"{path}, line {number}"
                _add_judged(row, location, by_name, prompts, by_kind[kind])
                _check_not_repeated(row, location, judged)
        elif "rater" in rows[0][1]:
            kind = "people"
            _add_rated(path, by_name, prompts, by_kind[kind])
        else:
            raise PreferansError(
                f"--verdicts {path}: this is neither a file of scripts/judge.py, whose rows have a 'kind', nor an export of ratings "
                "(docs/ratings.md), whose rows have a 'rater'."
            )
        by_kind[kind].sources.append({"source": Path(path).as_posix(), "verdicts": len(rows)})
    for verdicts in by_kind.values():
        verdicts.votes.sort(key=str)
        verdicts.scores.sort(key=str)
    return {kind: verdicts for kind, verdicts in by_kind.items() if verdicts.sources}


def _add_judged(
    row: dict, location: str, systems: dict[str, System], prompts: dict[str, list[dict]], verdicts: Verdicts
) -> None:
    kind = row.get("kind")
    if not isinstance(kind, str) or kind not in _ROW_TYPES:
        raise PreferansError(f"{location}: 'kind' must be 'pair' or 'scores', got {kind!r:.60}.")
    check_row(_ROW_TYPES[kind], row, location)
    if row["id"] not in prompts:
        raise PreferansError(
            f"{location}: no system here answered the prompt {row['id']!r:.60}. Judge the same answers that you score."
        )
    names = row["systems"] if kind == "pair" else [row["system"]]
    for name in names:
        _check_known(name, systems, location)
    texts = [systems[name].rows[row["id"]]["answer"].strip() for name in names]
    digests = answers_sha256(texts)
    if row.get("answers_sha256", digests) != digests:
        raise PreferansError(
            f"{location}: the answers of {' and '.join(names)} to the prompt {row['id']!r:.60} have changed since this verdict. Judge them "
            "again, into a new file."
        )
    about = conversation(prompts[row["id"]])
    if kind == "scores":
        verdicts.scores.append((row["system"], about, row["scores"]))
    else:
        first, second = names
        share = {first: 1.0, second: 0.0, TIE: 0.5, None: None}[row["verdict"]]
        verdicts.votes.append(Vote(about, (first, second), share, (len(texts[0]), len(texts[1]))))


def _check_not_repeated(row: dict, location: str, judged: dict[tuple, str]) -> None:
    """A judge with equal settings gives equal verdicts, so a second verdict on the same question is a copy."""
    if row.get("judge") is None:
        return
    names = sorted(row["systems"]) if row["kind"] == "pair" else [row["system"]]
    key = (json.dumps(row["judge"], sort_keys=True), row["kind"], row["id"], *names)
    if key in judged:
        raise PreferansError(
            f"{location}: this judge's verdict on {' and '.join(names)}, prompt {row['id']!r:.60}, is already in {judged[key]}, and would "
            "count twice. Name only one of the files, or remove the line."
        )
    judged[key] = location


def _add_rated(path: str, systems: dict[str, System], prompts: dict[str, list[dict]], verdicts: Verdicts) -> None:
    judgements = read_ratings([path])
    ids = {prompt_key(prompt): name for name, prompt in prompts.items()}
    for number, judgement in enumerate(judgements, start=1):
        location = f"{path}, judgement {number}"
        name = ids.get(prompt_key(judgement["prompt"]))
        if name is None:
            raise PreferansError(
                f"{location}: no system here answered its prompt, {judgement['prompt_id']!r:.60}. Score the answers that were rated."
            )
        for answer in judgement["answers"]:
            _check_known(answer["model"], systems, location)
            if answer["text"].strip() != systems[answer["model"]].rows[name]["answer"].strip():
                raise PreferansError(
                    f"{location}: the answer of {answer['model']} to the prompt {name!r:.60} has changed since it was rated. Score the answers "
                    "that were rated, or have the new ones rated."
                )
    votes, scores = votes_and_scores(judgements)
    verdicts.votes += votes
    verdicts.scores += scores


def _check_known(name: str, systems: dict[str, System], location: str) -> None:
    if name not in systems:
        raise PreferansError(
            f"{location}: the system {name!r:.60} is not among those compared ({', '.join(systems)}).{did_you_mean(name, systems)} Also "
            "name the file of its answers."
        )
