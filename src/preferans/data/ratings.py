"""
Read people's ratings of answers, and turn them into preference pairs.

Each row is one judgement: what one rater thinks of one or several answers to one prompt. docs/ratings.md explains the format;
[`read_ratings`] checks it strictly, [`build_rating_pairs`] turns judgements into pairs.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import ValidationInfo, field_validator

from ..errors import PreferansError, did_you_mean
from ..files import files_below, numbered_jsonl
from ..typed_rows import AnyText, Message, Row, Text, check_row
from .preferences import prompt_problem, row_problem
from .tables import preference_frame

CRITERIA = ("relevance", "clarity", "completeness", "originality", "style")
LOWEST, HIGHEST = 1, 5
TIE = "tie"
THUMBS = ("up", "down")
BY = ("verdict", "totals")
# In a table, such as CSV, the cells of these keys are JSON.
NESTED = ("prompt", "answers", "scores", "thumbs")
TABLES = (".csv", ".parquet")
_SQLITE = b"SQLite format 3"

# What becomes of two answers to one prompt. The first outcome that applies is counted.
OUTCOMES = {
    "equal_texts": "equal texts",
    "not_judged": "not judged",
    "too_few_raters": "too few raters",
    "tie": "tie",
    "raters_disagree": "raters disagree",
    "margin": "margin too small, or not scored",
    "chosen_empty": "chosen is empty",
    "rejected_empty": "rejected is empty",
    "echo": "chosen repeats the prompt",
    "pair": "pair made",
}


@dataclass
class VotingRule:
    """
    What makes a pair.

    Args:
        by (`str`, *optional*, defaults to `"verdict"`):
            `"verdict"`: a rater votes for the answer named best, against every other answer of that judgement; without such a judgement,
            for an answer with the thumb up against one with the thumb down. `"totals"`: a rater votes for the answer with the higher sum
            of the five scores. A tie, equal thumbs or equal sums are a vote for neither.
        min_margin (`float`, *optional*):
            Minimum difference of the totals of chosen and rejected, mean over the raters who scored both. Defaults to 1 with `"totals"`,
            and to no minimum with `"verdict"`.
        min_raters (`int`, *optional*, defaults to `1`):
            Minimum number of raters with a vote.
        min_agreement (`float`, *optional*, defaults to `0.6`):
            Minimum share, from 0 to 1, of the votes (including those for neither) that go to chosen. More than half is always needed.
        lang (`str`, *optional*, defaults to `"ru"`):
            Language tag of the pairs.
    """

    by: str = "verdict"
    min_margin: float | None = None
    min_raters: int = 1
    min_agreement: float = 0.6
    lang: str = "ru"

    def __post_init__(self):
        if self.by not in BY:
            raise ValueError(f"by must be one of {BY}, got {self.by!r}")
        if self.min_margin is None and self.by == "totals":
            self.min_margin = 1.0


class _Answer(Row):
    id: Text
    model: Text
    text: AnyText

    @field_validator("id")
    @classmethod
    def _check_id(cls, name: str) -> str:
        if name == TIE or ":" in name:  # a pair's id is prompt_id:chosen:rejected
            raise ValueError(f"is '{name}'; it must not contain a colon and must not be '{TIE}', which is a verdict")
        return name


class _Judgement(Row):
    rater: Text
    prompt_id: Text
    prompt: list[Message]
    message_tree_id: Text | None = None
    answers: list[_Answer]
    verdict: str | None
    scores: dict[str, dict[str, int]] | None
    thumbs: dict[str, str] | None = None
    rated_at: str
    comment: AnyText | None = None
    seconds: float | None = None
    marks: bool | None = None

    @field_validator("prompt")
    @classmethod
    def _check_prompt(cls, prompt: list[Message]) -> list[Message]:
        if problem := prompt_problem([message.model_dump() for message in prompt]):
            raise ValueError(problem.removeprefix("'prompt' "))
        return prompt

    @field_validator("answers")
    @classmethod
    def _check_answers(cls, answers: list[_Answer]) -> list[_Answer]:
        if not answers:
            raise ValueError("must be a list of one or more answers")
        (name, count), *_ = Counter(answer.id for answer in answers).most_common()
        if count > 1:
            raise ValueError(f"has the id '{name}' twice; give each answer its own id")
        return answers

    @field_validator("verdict")
    @classmethod
    def _check_verdict(cls, verdict: str | None, info: ValidationInfo) -> str | None:
        ids = [answer.id for answer in info.data.get("answers", [])]
        if verdict is not None and len(ids) == 1:
            raise ValueError("must be null if there is one answer; rate it with 'scores' or 'thumbs'")
        if verdict is not None and verdict not in (*ids, TIE):
            raise ValueError(
                f"is {verdict!r:.60}, which is no answer of this line.{did_you_mean(verdict, [*ids, TIE])} Write the id of the best answer "
                f"({', '.join(ids)}), '{TIE}', or null for not judged"
            )
        return verdict

    @field_validator("scores")
    @classmethod
    def _check_scores(cls, scores: dict | None, info: ValidationInfo) -> dict | None:
        ids = [answer.id for answer in info.data.get("answers", [])]
        for answer, values in (scores or {}).items():
            _check_answer_id(answer, ids)
            for criterion, score in values.items():
                if criterion not in CRITERIA:
                    raise ValueError(
                        f"of {answer}: the criterion '{criterion:.60}' is unknown.{did_you_mean(criterion, CRITERIA)} The criteria are "
                        f"{', '.join(CRITERIA)}"
                    )
                if not LOWEST <= score <= HIGHEST:
                    raise ValueError(f"of {answer}: '{criterion}' is {score}; a score is from {LOWEST} to {HIGHEST}")
        return scores

    @field_validator("thumbs")
    @classmethod
    def _check_thumbs(cls, thumbs: dict | None, info: ValidationInfo) -> dict | None:
        ids = [answer.id for answer in info.data.get("answers", [])]
        for answer, thumb in (thumbs or {}).items():
            _check_answer_id(answer, ids)
            if thumb not in THUMBS:
                raise ValueError(
                    f"of {answer} is {thumb!r:.60}; it must be 'up' or 'down'. Leave out answers without a thumb"
                )
        return thumbs

    @field_validator("seconds")
    @classmethod
    def _check_seconds(cls, seconds: float | None) -> float | None:
        if seconds is not None and not 0 <= seconds < float("inf"):
            raise ValueError(f"is {seconds}; it must be a time in seconds, 0 or more")
        return seconds

    @field_validator("rated_at")
    @classmethod
    def _check_time(cls, time: str) -> str:
        try:
            _parsed(time)
        except ValueError:
            raise ValueError(
                f"must be a time in ISO 8601, such as '2026-03-14T18:05:00+03:00', got {time!r:.60}"
            ) from None
        return time


def _check_answer_id(answer: str, ids: list[str]) -> None:
    if answer not in ids:
        raise ValueError(
            f"names '{answer:.60}', which is no answer of this line.{did_you_mean(answer, ids)} The answers are {', '.join(ids)}"
        )


def _parsed(time: str) -> datetime:
    parsed = datetime.fromisoformat(time)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def export_files(sources: Sequence[str | Path]) -> list[Path]:
    """
    List the files of ratings in files and folders of `.jsonl`, `.csv` and `.parquet` files.

    Returns:
        `list[Path]`: each file once; the files of a folder are in the order of their names.

    Raises:
        [`PreferansError`]: if a source does not exist, or a folder has no such file.
    """
    files: dict[Path, Path] = {}
    for source in sources:
        path = Path(source)
        if not path.exists():
            raise PreferansError(f"--source {source}: no such file or folder.")
        matches = (
            [file for file in files_below(path) if file.suffix in (".jsonl", *TABLES)] if path.is_dir() else [path]
        )
        if not matches:
            raise PreferansError(f"--source {source}: the folder has no .jsonl, .csv or .parquet file.")
        for file in matches:
            files.setdefault(file.resolve(), file)
    return list(files.values())


def read_ratings(files: Sequence[str | Path]) -> list[dict]:
    """
    Read files of ratings and check every line.

    Returns:
        `list[dict]`: the judgements, in the order of the lines.

    Raises:
        [`PreferansError`]: names the file, the line and the key that breaks the format, or the two lines that contradict each other; also
        if there is no judgement.
    """
    judgements: list[dict] = []
    seen: dict[tuple[str, str], tuple[Any, str]] = {}
    for file in files:
        for number, judgement in numbered_ratings(file):
            location = f"{file}, line {number}"
            check_row(_Judgement, judgement, location)
            _check_consistent(judgement, location, seen)
            judgements.append(judgement)
    if not judgements:
        raise PreferansError(f"{', '.join(map(str, files))}: there is no judgement.")
    return judgements


def numbered_ratings(file: str | Path) -> Iterator[tuple[int, dict]]:
    """
    Read the rows of a file of ratings without checking them.

    Args:
        file (`str` or `Path`): JSON lines, or a table in CSV or parquet with the same keys, in which the `NESTED` cells are JSON.

    Yields:
        `tuple[int, dict]`: the number of a line or row, from 1, and the row. In a table, empty cells count as missing keys.

    Raises:
        [`PreferansError`]: if the file cannot be read, or a cell is not JSON; the message names the row and the column.
    """
    suffix = Path(file).suffix.lower()
    if Path(file).is_file():
        with open(file, "rb") as opened:
            if opened.read(len(_SQLITE)) == _SQLITE:
                raise PreferansError(
                    f"{file}: this is the database of scripts/rate.py. Export it first: python scripts/rate.py --ratings {file} --export "
                    "ratings.jsonl"
                )
    if suffix not in TABLES:
        yield from numbered_jsonl(file)
        return
    try:
        table = pl.read_parquet(file) if suffix == ".parquet" else pl.read_csv(file, infer_schema=False)
    except FileNotFoundError:
        raise PreferansError(f"{file}: there is no such file.") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise PreferansError(f"{file}: this table cannot be read ({' '.join(str(error).split()):.200}).") from None
    for number, cells in enumerate(table.iter_rows(named=True), start=1):
        yield number, _without_cells(cells, f"{file}, row {number}")


def _without_cells(cells: dict[str, Any], location: str) -> dict[str, Any]:
    """Return a table's row as a judgement: JSON cells parsed, CSV texts as numbers, and keys without a value left out."""
    row: dict[str, Any] = {"verdict": None, "scores": None}
    for key, cell in cells.items():
        if cell in (None, ""):
            continue
        row[key] = cell
        if isinstance(cell, str) and key in (*NESTED, "seconds", "marks"):
            try:
                row[key] = json.loads(cell)
            except ValueError as error:
                raise PreferansError(f"{location}: the cell '{key}' is not JSON ({error}).") from None
    return row


def _check_consistent(judgement: dict, location: str, seen: dict[tuple[str, str], tuple[Any, str]]) -> None:
    prompt_id = judgement["prompt_id"]
    parts = {"prompt": judgement["prompt"]}
    if judgement.get("message_tree_id") is not None:
        parts["message_tree_id"] = judgement["message_tree_id"]
    for answer in judgement["answers"]:
        parts |= {f"{key} of answer '{answer['id']}'": answer[key] for key in ("text", "model")}
    for part, value in parts.items():
        earlier, earlier_location = seen.setdefault((prompt_id, part), (value, location))
        if earlier != value:
            raise PreferansError(
                f"{location}: for prompt_id '{prompt_id}', the {part} differs from {earlier_location}. Give a changed prompt a new "
                "prompt_id, and a changed answer a new id."
            )


def latest(judgements: Iterable[dict]) -> list[dict]:
    """
    Keep the last judgement of each rater on the same prompt and the same set of answers.

    Returns:
        `list[dict]`: by `rated_at`, then in the order given.
    """
    last: dict[tuple, dict] = {}
    for judgement in sorted(judgements, key=lambda judgement: _parsed(judgement["rated_at"])):
        ids = frozenset(answer["id"] for answer in judgement["answers"])
        key = (judgement["rater"], judgement["prompt_id"], ids)
        last.pop(key, None)  # the dictionary stays in the order of time
        last[key] = judgement
    return list(last.values())


def build_rating_pairs(judgements: Iterable[dict], rule: VotingRule) -> tuple[pl.DataFrame, dict]:
    """
    Turn judgements into preference pairs, and account for every two answers to one prompt.

    Returns:
        `tuple[pl.DataFrame, dict]`: the pairs, sorted by `prompt_id` and the ids of their answers, and the counts: `judgements` (read),
        `replaced` (by a later one), `skipped` (of the others, without a verdict), `raters`, `prompts`, `outcomes` (by the keys of
        `OUTCOMES`; they add up to the pairs of answers considered), `shared` (pairs of answers with the votes of two or more raters) and
        `unanimous` (those of them whose votes are all the same).
    """
    judgements = list(judgements)
    current = latest(judgements)
    by_prompt = _by_prompt(current)
    outcomes: Counter[str] = Counter()
    rows, shared, unanimous = [], 0, 0
    for _, group in sorted(by_prompt.items()):
        for first, second in combinations(_answers(group), 2):
            votes, differences = _votes(group, first, second, rule.by)
            if len(votes) > 1:
                shared += 1
                unanimous += len(set(votes.values())) == 1
            row, outcome = _decide(group, (first, second), Counter(votes.values()), list(differences.values()), rule)
            outcomes[outcome] += 1
            if outcome == "pair":
                rows.append(row)
    return preference_frame(rows), {
        "judgements": len(judgements),
        "replaced": len(judgements) - len(current),
        "skipped": sum(judgement["verdict"] is None for judgement in current),
        "raters": len({judgement["rater"] for judgement in current}),
        "prompts": len(by_prompt),
        "outcomes": {outcome: outcomes[outcome] for outcome in OUTCOMES},
        "shared": shared,
        "unanimous": unanimous,
    }


def pairwise_votes(judgements: Iterable[dict]) -> Iterator[tuple[dict, dict, dict, float]]:
    """
    Turn each rater's verdicts into votes on every two answers to a prompt.

    Yields:
        `tuple[dict, dict, dict, float]`: a judgement of the prompt, two of its answers, and one rater's vote: 1 if the first answer is
        better, 0 if the second is, 0.5 for a tie.
    """
    for _, group in sorted(_by_prompt(latest(judgements)).items()):
        answers = _answers(group)
        for first, second in combinations(answers, 2):
            votes, _ = _votes(group, first, second, "verdict")
            for _, vote in sorted(votes.items()):
                yield group[0], answers[first], answers[second], {first: 1.0, second: 0.0, TIE: 0.5}[vote]


def _by_prompt(judgements: Iterable[dict]) -> dict[str, list[dict]]:
    by_prompt: dict[str, list[dict]] = {}
    for judgement in judgements:
        by_prompt.setdefault(judgement["prompt_id"], []).append(judgement)
    return by_prompt


def _answers(group: list[dict]) -> dict[str, dict]:
    answers = {answer["id"]: answer for judgement in group for answer in judgement["answers"]}
    return dict(sorted(answers.items()))


def _votes(group: list[dict], first: str, second: str, by: str) -> tuple[dict[str, str], dict[str, int]]:
    """Return each rater's vote on two answers (an id, or a tie), and the difference of their totals."""
    verdicts: dict[str, str] = {}
    totals: dict[str, dict[str, int]] = {}
    thumbs: dict[str, dict[str, int]] = {}
    # In the order of time: if a rater saw an answer several times, the last judgement counts.
    for judgement in group:
        rater, verdict = judgement["rater"], judgement["verdict"]
        if verdict in (first, second, TIE) and {first, second} <= {answer["id"] for answer in judgement["answers"]}:
            verdicts[rater] = verdict
        totals.setdefault(rater, {}).update(
            {answer: sum(scores.values()) for answer, scores in _complete_scores(judgement).items()}
        )
        thumbs.setdefault(rater, {}).update(
            {answer: THUMBS[::-1].index(thumb) for answer, thumb in (judgement.get("thumbs") or {}).items()}
        )
    differences = _differences(totals, first, second)
    if by == "totals":
        return _signs(differences, first, second), differences
    return _signs(_differences(thumbs, first, second), first, second) | verdicts, differences


def _differences(values: dict[str, dict[str, int]], first: str, second: str) -> dict[str, int]:
    """Return the first answer's value minus the second's, for each rater who gave both."""
    return {rater: own[first] - own[second] for rater, own in values.items() if first in own and second in own}


def _signs(differences: dict[str, int], first: str, second: str) -> dict[str, str]:
    return {rater: first if d > 0 else second if d < 0 else TIE for rater, d in differences.items()}


def _complete_scores(judgement: dict) -> dict[str, dict[str, int]]:
    """Return the scores of the answers that have all five."""
    return {answer: scores for answer, scores in (judgement["scores"] or {}).items() if len(scores) == len(CRITERIA)}


def _decide(
    group: list[dict], ids: tuple[str, str], tally: Counter, differences: list[int], rule: VotingRule
) -> tuple[dict, str]:
    """Return the preference row of two answers, and the outcome: used, or the reason why not."""
    first, second = ids
    chosen, rejected = (first, second) if tally[first] >= tally[second] else (second, first)
    margin = sum(differences) / len(differences) * (1 if chosen == first else -1) if differences else None
    texts = {name: answer["text"].strip() for name, answer in _answers(group).items()}
    prompt_id = group[0]["prompt_id"]
    trees = (judgement.get("message_tree_id") for judgement in group)
    row = {
        "id": f"{prompt_id}:{chosen}:{rejected}",
        "prompt": group[0]["prompt"],
        "chosen": [{"role": "assistant", "content": texts[chosen]}],
        "rejected": [{"role": "assistant", "content": texts[rejected]}],
        "message_tree_id": next((tree for tree in trees if tree is not None), prompt_id),
        "lang": rule.lang,
        "source": "ratings",
    }
    if texts[first] == texts[second]:
        return row, "equal_texts"
    return row, _objection_to_votes(tally, chosen, margin, rule) or _objection_to_texts(row) or "pair"


def _objection_to_votes(tally: Counter, chosen: str, margin: float | None, rule: VotingRule) -> str | None:
    number = tally.total()
    if not number:
        return "not_judged"
    if number < rule.min_raters:
        return "too_few_raters"
    if tally[TIE] == number:
        return "tie"
    if 2 * tally[chosen] <= number or tally[chosen] / number < rule.min_agreement:
        return "raters_disagree"
    if rule.min_margin is not None and (margin is None or margin < rule.min_margin):
        return "margin"
    return None


def _objection_to_texts(row: dict) -> str | None:
    for column in ("chosen", "rejected"):
        if not row[column][0]["content"]:
            return f"{column}_empty"
    # The texts differ and are not empty: this is the only violation of the contract that is left.
    return "echo" if row_problem(row) else None


def mean_scores(judgements: Iterable[dict]) -> dict[str, dict[str, float]]:
    """
    Average the scores of each system, over the answers that a rater gave all five. Judgements that a later one replaces do not count.

    Returns:
        `dict[str, dict[str, float]]`: for each system, in the order of their names, `answers` (how many were scored, counted per rater), the
        mean of each criterion, and `total`, the mean of the sums. Empty if nothing was scored.
    """
    scored: dict[str, list[dict[str, int]]] = {}
    for judgement in latest(judgements):
        models = {answer["id"]: answer["model"] for answer in judgement["answers"]}
        for answer, scores in _complete_scores(judgement).items():
            scored.setdefault(models[answer], []).append(scores | {"total": sum(scores.values())})
    return {
        model: {"answers": len(rows)}
        | {name: sum(row[name] for row in rows) / len(rows) for name in (*CRITERIA, "total")}
        for model, rows in sorted(scored.items())
    }
