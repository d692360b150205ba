"""Rank several answers to one prompt without people: by measured faults, or by a judge's scores."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product

from ..data.ratings import CRITERIA
from ..errors import PreferansError
from ..files import numbered_jsonl
from .answers import answers_sha256, prompt_key
from .measures import MEASURES

# Faults of an answer, the most serious first: the measure that finds it, and the value that is a fault.
FAULTS: dict[str, tuple[str, float]] = {
    "not in Russian": ("in_russian", 0.0),
    "loops": ("loops", 1.0),
    "breaks off": ("complete", 0.0),
    "has an intruding foreign word": ("intrusion", 1.0),
    "has not the requested form": ("keeps_format", 0.0),
}
# The least serious fault, if people's answers to the prompt are known. Other faults exclude an answer from `chosen`; this one does not.
FAR_LENGTH, FARTHEST = "is less than half or more than twice as long as people's answers", 2.0
# What becomes of the answers to a prompt. The first outcome that applies is counted.
RANK_OUTCOMES = {
    "single": "fewer than two different answers with text",
    "unjudged": "an answer has no verdict of the judge",
    "no_good": "no answer without a fault",
    "tie": "all answers are equally good",
    "gap": "the gap is too small",
    "echo": "the better answer repeats the prompt",
    "pair": "pair made",
}


def faults_of(row: dict, lengths: Sequence[int] = ()) -> tuple[bool, ...]:
    """
    Check an answer for each of [`FAULTS`], and for `FAR_LENGTH`.

    Args:
        row (`dict`): `prompt` (messages), `answer` and `finish_reason`.
        lengths (`Sequence[int]`, *optional*): Lengths of people's answers to the same prompt, in characters; the closest one counts.

    Returns:
        `tuple[bool, ...]`: in the order of `FAULTS`, then `FAR_LENGTH`, so that a smaller tuple is a better answer.
    """
    length = len(row["answer"].strip())
    is_far = bool(lengths) and not any(near / FARTHEST <= length <= near * FARTHEST for near in lengths)
    return (*(MEASURES[name].function(row) == value for name, value in FAULTS.values()), is_far)


def pair_by_faults(
    rows: Sequence[dict], lengths: Mapping[str, Sequence[int]] | None = None
) -> tuple[dict, dict] | str:
    """
    Pair the answer with the least serious faults with one that has the most serious fault. The first has none of [`FAULTS`].

    Args:
        rows (`Sequence[dict]`): Answers to one prompt.
        lengths (`Mapping[str, Sequence[int]]`, *optional*): Lengths of people's answers by [`~preferans.evaluation.answers.prompt_key`].

    Returns:
        `tuple[dict, dict]` or `str`: the better and the worse answer, of all such pairs the two whose lengths are closest; or an outcome
        of `RANK_OUTCOMES`.
    """
    rows = _distinct(rows)
    if len(rows) < 2:
        return "single"
    near = (lengths or {}).get(prompt_key(rows[0]["prompt"]), ())
    faults = [faults_of(row, near) for row in rows]
    if any(min(faults)[:-1]):
        return "no_good"
    if min(faults) == max(faults):
        return "tie"
    return _closest(rows, faults, min(faults), max(faults))


def pair_by_scores(
    rows: Sequence[dict], score_of: Callable[[dict], float | None], min_gap: float
) -> tuple[dict, dict] | str:
    """
    Pair the answer with the highest score with the one with the lowest.

    Args:
        rows (`Sequence[dict]`): Answers to one prompt.
        score_of (`Callable`): Returns the score of a row, or `None`.
        min_gap (`float`): Smallest difference that makes a pair.

    Returns:
        `tuple[dict, dict]` or `str`: as [`pair_by_faults`].
    """
    rows = _distinct(rows)
    if len(rows) < 2:
        return "single"
    scores = [score_of(row) for row in rows]
    known = [score for score in scores if score is not None]
    if len(known) < len(scores):
        return "unjudged"
    if max(known) == min(known):
        return "tie"
    if max(known) - min(known) < min_gap:
        return "gap"
    return _closest(rows, known, max(known), min(known))


def _distinct(rows: Sequence[dict]) -> list[dict]:
    """Return the rows with different texts, without empty ones."""
    return list({text: row for row in reversed(rows) if (text := row["answer"].strip())}.values())[::-1]


def _closest(rows: Sequence[dict], ranks: Sequence, best: object, worst: object) -> tuple[dict, dict]:
    good = [row for row, rank in zip(rows, ranks, strict=True) if rank == best]
    bad = [row for row, rank in zip(rows, ranks, strict=True) if rank == worst]
    return min(product(good, bad), key=lambda pair: abs(len(pair[0]["answer"]) - len(pair[1]["answer"])))


def judge_totals(files: Sequence[str]) -> Callable[[dict], float | None]:
    """
    Read the scores of a judge's verdict files.

    Args:
        files (`Sequence[str]`): Files of `scripts/judge.py`; other rows than `scores` are ignored.

    Returns:
        `Callable`: maps an answer row to the sum of its five scores (5 to 25), the mean over judges; `None` if no judge scored this text.

    Raises:
        [`PreferansError`]: if a file has no scores.
    """
    totals: dict[str, list[int]] = {}
    for path in files:
        rows = [row for _, row in numbered_jsonl(path) if row.get("kind") == "scores"]
        if not rows:
            raise PreferansError(
                f"--verdicts {path}: this file has no scores of a judge. Run scripts/judge.py with --only scores."
            )
        for row in rows:
            scores, digests = row.get("scores") or {}, row.get("answers_sha256") or []
            if len(scores) == len(CRITERIA) and len(digests) == 1:
                totals.setdefault(f"{row['id']} {digests[0]}", []).append(sum(scores.values()))

    def total(row: dict) -> float | None:
        (digest,) = answers_sha256([row["answer"].strip()])
        found = totals.get(f"{row['id']} {digest}")
        return sum(found) / len(found) if found else None

    return total
