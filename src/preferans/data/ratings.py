"""
People's ratings of answers: the export format of a rating studio, and the way from ratings to preference pairs.

An export is JSON lines, one judgement a line: what one rater thinks of the answers of several systems to one prompt.
The format is shown and explained in docs/ratings.md; [`read_ratings`] checks it strictly, [`build_rating_pairs`] turns
judgements into pairs.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import polars as pl

from ..errors import PreferansError, did_you_mean
from ..files import iter_jsonl
from .preferences import row_problem
from .tables import preference_frame

CRITERIA = ("relevance", "clarity", "completeness", "originality", "style")
LOWEST, HIGHEST = 1, 5
TIE = "tie"
BY = ("verdict", "totals")
RATING_KEYS = ("rater", "prompt_id", "prompt", "answers", "verdict", "scores", "rated_at")
OPTIONAL_KEYS = ("message_tree_id", "comment")

# What becomes of two answers to one prompt, in the order in which the question is asked. Each pair has one outcome.
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
            `"verdict"` takes a rater's vote from the answer named best: it beats every other answer of that judgement,
            and a tie is a vote for neither. `"totals"` takes it from the sums of the five scores; equal sums are a
            vote for neither.
        min_margin (`float`, *optional*):
            By how much the total of chosen must exceed that of rejected, mean over the raters who scored both.
            Defaults to 1 with `"totals"`, and to no such condition with `"verdict"`.
        min_raters (`int`, *optional*, defaults to `1`):
            Least number of raters with a vote.
        min_agreement (`float`, *optional*, defaults to `0.6`):
            Least share, from 0 to 1, of the votes, those for neither included, that go to chosen. More than half is
            always needed.
        lang (`str`, *optional*, defaults to `"ru"`):
            Language tag that the pairs are given.
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


def export_files(sources: Sequence[str | Path]) -> list[Path]:
    """
    The files that sources stand for.

    Args:
        sources (`Sequence[str]`):
            Files, and folders of `.jsonl` files.

    Returns:
        `list[Path]`: each file once; those of a folder in the order of their names.

    Raises:
        [`PreferansError`]: when a source is not there, or a folder holds no `.jsonl` file.
    """
    files: dict[Path, Path] = {}
    for source in sources:
        path = Path(source)
        if not path.exists():
            raise PreferansError(f"--source {source}: there is no such file or folder.")
        found = sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]
        if not found:
            raise PreferansError(f"--source {source}: the folder holds no .jsonl file.")
        for file in found:
            files.setdefault(file.resolve(), file)
    return list(files.values())


def read_ratings(files: Sequence[str | Path]) -> list[dict]:
    """
    Read exports of a rating studio and check every line.

    Args:
        files (`Sequence[str]`):
            Files of JSON lines, see [`export_files`].

    Returns:
        `list[dict]`: the judgements as they stand in the files, in the order of the lines.

    Raises:
        [`PreferansError`]: names the file, the line and the key that breaks the format, or the two lines that
        contradict each other; also when there is no judgement at all.
    """
    judgements: list[dict] = []
    seen: dict[tuple[str, str], tuple[Any, str]] = {}
    for file in files:
        for judgement, number in zip(iter_jsonl(file), _line_numbers(file), strict=True):
            place = f"{file}, line {number}"
            _check_judgement(judgement, place)
            _check_consistent(judgement, place, seen)
            judgements.append(judgement)
    if not judgements:
        raise PreferansError(f"{', '.join(map(str, files))}: there is not one judgement in it.")
    return judgements


def _line_numbers(path: str | Path) -> Iterator[int]:
    # iter_jsonl passes over empty lines, and an editor counts them
    with open(path, encoding="utf-8-sig") as file:
        yield from (number for number, line in enumerate(file, start=1) if line.strip())


def _check_judgement(judgement: dict, place: str) -> None:
    _check_keys(judgement, RATING_KEYS, OPTIONAL_KEYS, place)
    for key in ("rater", "prompt_id"):
        _check_text(judgement[key], key, place)
    for key in OPTIONAL_KEYS:
        if judgement.get(key) is not None:
            _check_text(judgement[key], key, place, may_be_empty=key == "comment")
    _check_prompt(judgement["prompt"], place)
    ids = _checked_answers(judgement["answers"], place)
    verdict = judgement["verdict"]
    if verdict is not None and verdict not in [*ids, TIE]:
        near = did_you_mean(str(verdict), [*ids, TIE])
        raise PreferansError(
            f"{place}: 'verdict' is {verdict!r:.60}, which is no answer of this line.{near} Write the id of the best "
            f"answer ({', '.join(ids)}), '{TIE}', or null for not judged."
        )
    _check_scores(judgement["scores"], ids, place)
    try:
        _time(judgement)
    except (TypeError, ValueError):
        raise PreferansError(
            f"{place}: 'rated_at' must be a time as ISO 8601 writes it, such as '2026-03-14T18:05:00+03:00', got "
            f"{judgement['rated_at']!r:.60}."
        ) from None


def _check_keys(value: Any, required: Sequence[str], optional: Sequence[str], place: str) -> None:
    known = [*required, *optional]
    if not isinstance(value, dict):
        raise PreferansError(f"{place}: expected an object with the keys {', '.join(known)}, got {value!r:.60}.")
    for key in value:
        # refused, not passed over: an optional key with a slip in its name would be lost in silence
        if key not in known:
            raise PreferansError(
                f"{place}: there is no key '{key:.60}'.{did_you_mean(key, known)} The keys are {', '.join(known)}."
            )
    for key in required:
        if key not in value:
            raise PreferansError(f"{place}: '{key}' is missing. The keys are {', '.join(known)}.")


def _check_text(value: Any, key: str, place: str, may_be_empty: bool = False) -> None:
    if not isinstance(value, str):
        raise PreferansError(f"{place}: '{key}' must be a text, got {value!r:.60}.")
    if not may_be_empty and not value.strip():
        raise PreferansError(f"{place}: '{key}' is empty.")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise PreferansError(
            f"{place}: '{key}' holds half of a character (a lone surrogate), which no file in UTF-8 can keep. Mend or "
            "drop the line."
        )


def _check_prompt(prompt: Any, place: str) -> None:
    if not isinstance(prompt, list):
        raise PreferansError(
            f'{place}: \'prompt\' must be a list of messages such as [{{"role": "user", "content": "…"}}], got '
            f"{prompt!r:.60}."
        )
    for number, message in enumerate(prompt, start=1):
        _check_keys(message, ("role", "content"), (), f"{place}, 'prompt', message {number}")
        _check_text(message["content"], "content", f"{place}, 'prompt', message {number}")
    # the contract of a preference row, with answers that cannot break it
    answers = {
        column: [{"role": "assistant", "content": text}] for column, text in (("chosen", "+"), ("rejected", "-"))
    }
    problem = row_problem({"prompt": prompt} | answers)
    if problem:
        raise PreferansError(f"{place}: {problem}.")


def _checked_answers(answers: Any, place: str) -> list[str]:
    if not isinstance(answers, list) or len(answers) < 2:
        raise PreferansError(
            f"{place}: 'answers' must be a list of two or more answers such as "
            f'{{"id": "a1", "model": "base", "text": "…"}}, '
            f"got {answers!r:.60}."
        )
    ids: list[str] = []
    for number, answer in enumerate(answers, start=1):
        here = f"{place}, answer {number}"
        _check_keys(answer, ("id", "model", "text"), (), here)
        _check_text(answer["id"], "id", here)
        _check_text(answer["model"], "model", here)
        _check_text(answer["text"], "text", here, may_be_empty=True)
        if answer["id"] in ids:
            raise PreferansError(
                f"{here}: the id '{answer['id']}' stands in this line already. Give each answer its own."
            )
        # the id of a pair is prompt_id:chosen:rejected, and must tell which is which
        if answer["id"] == TIE or ":" in answer["id"]:
            raise PreferansError(
                f"{here}: 'id' is '{answer['id']}'. It may hold no colon and may not be '{TIE}', which is a verdict."
            )
        ids.append(answer["id"])
    return ids


def _check_scores(scores: Any, ids: list[str], place: str) -> None:
    if scores is None:
        return
    if not isinstance(scores, dict):
        raise PreferansError(
            f'{place}: \'scores\' must be null or an object such as {{"{ids[0]}": {{"relevance": 4, …}}}}, got '
            f"{scores!r:.60}."
        )
    for answer, values in scores.items():
        if answer not in ids:
            raise PreferansError(
                f"{place}: 'scores' names '{answer:.60}', which is no answer of this line.{did_you_mean(answer, ids)} "
                f"The answers are {', '.join(ids)}."
            )
        here = f"{place}, 'scores' of {answer}"
        if not isinstance(values, dict):
            raise PreferansError(
                f"{here}: expected an object with the criteria {', '.join(CRITERIA)}, got {values!r:.60}."
            )
        for criterion, score in values.items():
            if criterion not in CRITERIA:
                raise PreferansError(
                    f"{here}: there is no criterion '{criterion:.60}'.{did_you_mean(criterion, CRITERIA)} The "
                    f"criteria are {', '.join(CRITERIA)}."
                )
            # type, not isinstance: true is an int to Python
            if type(score) is not int or not LOWEST <= score <= HIGHEST:
                raise PreferansError(
                    f"{here}: '{criterion}' is {score!r:.60}; a score is a whole number from {LOWEST} to {HIGHEST}. "
                    "Leave out a criterion that was not rated."
                )


def _check_consistent(judgement: dict, place: str, seen: dict[tuple[str, str], tuple[Any, str]]) -> None:
    prompt_id = judgement["prompt_id"]
    parts = {"prompt": judgement["prompt"]}
    if judgement.get("message_tree_id") is not None:
        parts["message_tree_id"] = judgement["message_tree_id"]
    for answer in judgement["answers"]:
        parts |= {f"{key} of answer '{answer['id']}'": answer[key] for key in ("text", "model")}
    for what, value in parts.items():
        earlier, earlier_place = seen.setdefault((prompt_id, what), (value, place))
        if earlier != value:
            raise PreferansError(
                f"{place}: under prompt_id '{prompt_id}' the {what} is not the same as in {earlier_place}. One "
                "prompt_id stands for one prompt and its answers: give a changed prompt a new prompt_id, and a "
                "changed answer a new id."
            )


def _time(judgement: dict) -> datetime:
    time = datetime.fromisoformat(judgement["rated_at"])
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def latest(judgements: Iterable[dict]) -> list[dict]:
    """
    Judgements that count: of those by one rater of the same prompt and the same set of answers, the last one.

    Args:
        judgements (`Iterable[dict]`):
            Judgements, see [`read_ratings`].

    Returns:
        `list[dict]`: by `rated_at`, then in the order given.
    """
    last = {}
    for judgement in sorted(judgements, key=_time):
        ids = frozenset(answer["id"] for answer in judgement["answers"])
        key = (judgement["rater"], judgement["prompt_id"], ids)
        last.pop(key, None)  # so that the last one takes its own place in the order
        last[key] = judgement
    return list(last.values())


def build_rating_pairs(judgements: Iterable[dict], rule: VotingRule) -> tuple[pl.DataFrame, dict]:
    """
    Turn judgements into preference pairs, and account for every two answers to one prompt. A pure function.

    Args:
        judgements (`Iterable[dict]`):
            Judgements, see [`read_ratings`].
        rule ([`VotingRule`]):
            What makes a pair.

    Returns:
        `tuple[pl.DataFrame, dict]`: the pairs, sorted by `prompt_id` and the ids of their answers, and the counts:
        `judgements` (read), `replaced` (by a later one), `skipped` (of those left, without a verdict), `raters`,
        `prompts`, `outcomes` (by the keys of `OUTCOMES`; they add up to the pairs of answers considered), `shared`
        (pairs of answers with the votes of two or more raters) and `unanimous` (those among them whose votes are all
        the same).
    """
    judgements = list(judgements)
    standing = latest(judgements)
    by_prompt = _by_prompt(standing)
    rows, outcomes, shared, unanimous = [], Counter(), 0, 0
    for prompt_id, group in sorted(by_prompt.items()):
        texts = {answer["id"]: answer["text"].strip() for judgement in group for answer in judgement["answers"]}
        trees = (judgement.get("message_tree_id") for judgement in group)
        tree = next((tree for tree in trees if tree is not None), prompt_id)
        for first, second in combinations(sorted(texts), 2):
            votes, differences = _votes(group, first, second, rule.by)
            if len(votes) > 1:
                shared += 1
                unanimous += len(set(votes.values())) == 1
            tally = Counter(votes.values())
            chosen, rejected = (first, second) if tally[first] >= tally[second] else (second, first)
            row = {
                "id": f"{prompt_id}:{chosen}:{rejected}",
                "prompt": group[0]["prompt"],
                "chosen": [{"role": "assistant", "content": texts[chosen]}],
                "rejected": [{"role": "assistant", "content": texts[rejected]}],
                "message_tree_id": tree,
                "lang": rule.lang,
                "source": "ratings",
            }
            margin = None
            if differences:
                margin = sum(differences.values()) / len(differences) * (1 if chosen == first else -1)
            if texts[first] == texts[second]:
                outcome = "equal_texts"
            else:
                outcome = _objection_to_votes(tally, chosen, margin, rule) or _objection_to_texts(row) or "pair"
            outcomes[outcome] += 1
            if outcome == "pair":
                rows.append(row)
    return preference_frame(rows), {
        "judgements": len(judgements),
        "replaced": len(judgements) - len(standing),
        "skipped": sum(judgement["verdict"] is None for judgement in standing),
        "raters": len({judgement["rater"] for judgement in standing}),
        "prompts": len(by_prompt),
        "outcomes": {outcome: outcomes[outcome] for outcome in OUTCOMES},
        "shared": shared,
        "unanimous": unanimous,
    }


def pairwise_votes(judgements: Iterable[dict]) -> Iterator[tuple[dict, dict, dict, float]]:
    """
    What each rater's verdict says of each two answers to a prompt.

    Args:
        judgements (`Iterable[dict]`):
            Judgements, see [`read_ratings`].

    Yields:
        `tuple[dict, dict, dict, float]`: a judgement of the prompt, two of its answers as they stand there, and what the first of them
        gets from one rater: 1 when it is the better one, 0 when the other is, 0.5 for a tie.
    """
    for _, group in sorted(_by_prompt(latest(judgements)).items()):
        answers = {answer["id"]: answer for judgement in group for answer in judgement["answers"]}
        for first, second in combinations(sorted(answers), 2):
            votes, _ = _votes(group, first, second, "verdict")
            for _, vote in sorted(votes.items()):
                yield group[0], answers[first], answers[second], {first: 1.0, second: 0.0, TIE: 0.5}[vote]


def _by_prompt(judgements: Iterable[dict]) -> dict[str, list[dict]]:
    by_prompt: dict[str, list[dict]] = {}
    for judgement in judgements:
        by_prompt.setdefault(judgement["prompt_id"], []).append(judgement)
    return by_prompt


def _votes(group: list[dict], first: str, second: str, by: str) -> tuple[dict[str, str], dict[str, int]]:
    """Each rater's vote on two answers (an id, or a tie), and the difference of their totals."""
    verdicts, differences = {}, {}
    for (
        judgement
    ) in group:  # in the order of time: where a rater saw both answers in several sets, the last one counts
        if not {first, second} <= {answer["id"] for answer in judgement["answers"]}:
            continue
        rater, verdict = judgement["rater"], judgement["verdict"]
        if verdict in (first, second, TIE):
            verdicts[rater] = verdict
        totals = _totals(judgement)
        if first in totals and second in totals:
            differences[rater] = totals[first] - totals[second]
    if by == "verdict":
        return verdicts, differences
    return {rater: first if d > 0 else second if d < 0 else TIE for rater, d in differences.items()}, differences


def _complete_scores(judgement: dict) -> dict[str, dict[str, int]]:
    """Scores of the answers that have all five."""
    return {answer: scores for answer, scores in (judgement["scores"] or {}).items() if len(scores) == len(CRITERIA)}


def _totals(judgement: dict) -> dict[str, int]:
    return {answer: sum(scores.values()) for answer, scores in _complete_scores(judgement).items()}


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
    # the texts differ and none is empty: of the contract, only this can be broken
    return "echo" if row_problem(row) else None


def mean_scores(judgements: Iterable[dict]) -> dict[str, dict[str, float]]:
    """
    Mean scores of each system, over the answers that a rater gave all five.

    Args:
        judgements (`Iterable[dict]`):
            Judgements, see [`read_ratings`]. Those that a later one replaces are left out.

    Returns:
        `dict[str, dict[str, float]]`: for each system, in the order of their names, `answers` (how many were scored,
        each by each rater), the mean of each criterion, and `total`, the mean of the sums. Empty where nothing was
        scored.
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
