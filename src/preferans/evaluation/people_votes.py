"""People's ratings as votes on two systems, and as scores of one."""

from collections.abc import Iterable

from ..data.ratings import latest, pairwise_votes
from .ranking import Vote


def conversation(prompt: list[dict]) -> str:
    """Return the opening question, which prompts of one conversation share."""
    return next(message["content"] for message in prompt if message["role"] != "system")


def votes_and_scores(judgements: Iterable[dict]) -> tuple[list[Vote], list[tuple[str, str, dict[str, int] | None]]]:
    """
    Return people's ratings as votes on two systems, and as scores of one, see [`~preferans.evaluation.verdicts.Verdicts`].

    Args:
        judgements (`Iterable[dict]`): Judgements in the format of docs/ratings.md; those that a later one replaces do not count.
    """
    judgements = latest(judgements)
    votes = [
        Vote(
            conversation(judgement["prompt"]),
            (first["model"], second["model"]),
            share,
            (len(first["text"].strip()), len(second["text"].strip())),
        )
        for judgement, first, second, share in pairwise_votes(judgements)
        if first["model"] != second["model"]
    ]
    scores: list[tuple[str, str, dict[str, int] | None]] = []
    for judgement in judgements:
        models = {answer["id"]: answer["model"] for answer in judgement["answers"]}
        for answer, values in (judgement["scores"] or {}).items():
            scores.append((models[answer], conversation(judgement["prompt"]), values))
    return votes, scores
