"""What judges said of the answers, models' verdicts and people's ratings alike, as votes and scores."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..data.ratings import CRITERIA, HIGHEST, LOWEST, TIE, latest, pairwise_votes, read_ratings
from ..errors import PreferansError, did_you_mean
from ..files import read_jsonl
from .answers import System, without_system
from .ranking import Vote


@dataclass
class Verdicts:
    """
    All that was said in some files.

    Attributes:
        votes (`list[Vote]`): On two systems at a time.
        scores (`list[tuple[str, str, dict | None]]`): System, conversation, and scores by criterion; `None` where the judge's reply
            could not be read.
        sources (`list[dict]`): `source`, `kind` (`"judge"` or `"people"`) and `verdicts` (how many) of each file.
    """

    votes: list[Vote] = field(default_factory=list)
    scores: list[tuple[str, str, dict[str, int] | None]] = field(default_factory=list)
    sources: list[dict] = field(default_factory=list)


def conversation(prompt: list[dict]) -> str:
    """What prompts of one conversation have in common: its opening question."""
    return without_system(prompt)[0]["content"]


def read_verdicts(files: Sequence[str], systems: Sequence[System], prompts: dict[str, list[dict]]) -> Verdicts:
    """
    Read verdicts on the systems' answers.

    Args:
        files (`Sequence[str]`):
            Files of `scripts/judge.py`, and exports of people's ratings (docs/ratings.md); their keys tell them apart.
        systems (`Sequence[System]`):
            The systems that are compared.
        prompts (`dict[str, list[dict]]`):
            The prompts that they answered, by id.

    Returns:
        [`Verdicts`]: votes in an order that does not depend on that of the lines.

    Raises:
        [`PreferansError`]: names the file and the line of a verdict that is not sound, or on another system or prompt.
    """
    by_name = {system.name: system for system in systems}
    found = Verdicts()
    seen: set[Path] = set()
    judged: dict[tuple, str] = {}
    for path in files:
        if Path(path).resolve() in seen:
            raise PreferansError(f"--verdicts {path}: the file is named twice, and its verdicts would count twice.")
        seen.add(Path(path).resolve())
        rows = read_jsonl(path)
        if not rows:
            raise PreferansError(f"--verdicts {path}: there is not one verdict in it.")
        if "kind" in rows[0]:
            kind = "judge"
            for number, row in enumerate(rows, start=1):
                place = f"{path}, verdict {number}"
                _take_judged(row, place, by_name, prompts, found)
                _check_new(row, place, judged)
        elif "rater" in rows[0]:
            kind = "people"
            _take_rated(path, by_name, found)
        else:
            raise PreferansError(
                f"--verdicts {path}: this is neither a file of scripts/judge.py, whose rows have a 'kind', nor an export of ratings as "
                "docs/ratings.md shows it, whose rows have a 'rater'."
            )
        found.sources.append({"source": Path(path).as_posix(), "kind": kind, "verdicts": len(rows)})
    found.votes.sort(key=str)
    found.scores.sort(key=str)
    return found


def _take_judged(
    row: dict, place: str, systems: dict[str, System], prompts: dict[str, list[dict]], found: Verdicts
) -> None:
    kinds = {"pair": ("id", "systems", "verdict"), "scores": ("id", "system", "scores")}
    keys = kinds.get(row["kind"]) if isinstance(row.get("kind"), str) else None
    if keys is None:
        raise PreferansError(f"{place}: 'kind' must be 'pair' or 'scores', got {row.get('kind')!r:.60}.")
    for key in keys:
        if key not in row:
            raise PreferansError(f"{place}: '{key}' is missing. Verdicts are made by scripts/judge.py.")
    if not isinstance(row["id"], str) or row["id"] not in prompts:
        raise PreferansError(
            f"{place}: it is on the prompt {row['id']!r:.60}, which none of the systems here answered. Judge the answers that are scored."
        )
    about = conversation(prompts[row["id"]])
    if row["kind"] == "scores":
        _check_known(row["system"], systems, place)
        _check_same_answers(row, [row["system"]], systems, place)
        given = row["scores"]
        if given is not None and not (
            isinstance(given, dict)
            and all(
                type(value) is int and LOWEST <= value <= HIGHEST and key in CRITERIA for key, value in given.items()
            )
        ):
            raise PreferansError(
                f"{place}: 'scores' must hold whole numbers from {LOWEST} to {HIGHEST} for {', '.join(CRITERIA)}, got "
                f"{given!r:.80}."
            )
        found.scores.append((row["system"], about, given))
        return
    pair = row["systems"]
    if not isinstance(pair, list) or len(pair) != 2 or pair[0] == pair[1]:
        raise PreferansError(f"{place}: 'systems' must name two different systems, got {pair!r:.80}.")
    for name in pair:
        _check_known(name, systems, place)
    shares = {pair[0]: 1.0, pair[1]: 0.0, TIE: 0.5, None: None}
    if not isinstance(row["verdict"], str | None) or row["verdict"] not in shares:
        raise PreferansError(
            f"{place}: 'verdict' is {row['verdict']!r:.60}; it must be '{pair[0]}', '{pair[1]}', '{TIE}', or null for a reply that "
            "could not be read."
        )
    _check_same_answers(row, pair, systems, place)
    lengths = tuple(len(systems[name].rows[row["id"]]["answer"].strip()) for name in pair)
    found.votes.append(Vote(about, tuple(pair), shares[row["verdict"]], lengths))


def _check_new(row: dict, place: str, judged: dict[tuple, str]) -> None:
    """A judge with the same settings says the same again, so that a verdict that stands twice is a copy."""
    if row.get("judge") is None:
        return
    names = sorted(row["systems"]) if row["kind"] == "pair" else [row["system"]]
    key = (json.dumps(row["judge"], sort_keys=True), row["kind"], row["id"], *names)
    if key in judged:
        raise PreferansError(
            f"{place}: this judge's verdict on {' and '.join(names)}, prompt {row['id']!r:.60}, stands in {judged[key]} already, and "
            "would count twice. Name only one of the files, or remove the line."
        )
    judged[key] = place


def _take_rated(path: str, systems: dict[str, System], found: Verdicts) -> None:
    judgements = read_ratings([path])
    for number, judgement in enumerate(judgements, start=1):
        for answer in judgement["answers"]:
            _check_known(answer["model"], systems, f"{path}, judgement {number}")
    for judgement, first, second, share in pairwise_votes(judgements):
        if first["model"] != second["model"]:
            pair, lengths = (
                (first["model"], second["model"]),
                (len(first["text"].strip()), len(second["text"].strip())),
            )
            found.votes.append(Vote(conversation(judgement["prompt"]), pair, share, lengths))
    for judgement in latest(judgements):
        models = {answer["id"]: answer["model"] for answer in judgement["answers"]}
        for answer, scores in (judgement["scores"] or {}).items():
            found.scores.append((models[answer], conversation(judgement["prompt"]), scores))


def _check_same_answers(row: dict, names: Sequence[str], systems: dict[str, System], place: str) -> None:
    texts = [systems[name].rows[row["id"]]["answer"].strip() for name in names]
    digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts]
    if row.get("answers_sha256", digests) != digests:
        raise PreferansError(
            f"{place}: it is on other answers of {' and '.join(names)} to the prompt {row['id']!r:.60} than those scored here; they have "
            "been generated anew since. Judge them again, into a new file."
        )


def _check_known(name: object, systems: dict[str, System], place: str) -> None:
    if not isinstance(name, str) or name not in systems:
        raise PreferansError(
            f"{place}: it is on the system {name!r:.60}, which is none of those compared here ({', '.join(systems)})."
            f"{did_you_mean(str(name), systems)} Name the file of its answers too."
        )
