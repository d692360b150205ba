"""What raters rate: one answer, or two answers to one prompt, in an order of each rater's own."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class RatedAnswer:
    """
    An answer as raters see it.

    Attributes:
        id (`str`): Id that does not reveal the system.
        model (`str`): Name of the system, which raters do not see.
        text (`str`): The answer.
        finish_reason (`str` or `None`): `"stop"`, `"length"`, or `None` if unknown.
    """

    id: str
    model: str
    text: str
    finish_reason: str | None = None


@dataclass(frozen=True)
class Item:
    """
    One task of a rater.

    Attributes:
        id (`str`): Depends on the mode, the prompt's id and the answers, so that the same item is found again.
        mode (`str`): `"score"` (one answer) or `"compare"` (two).
        prompt_id (`str`), prompt (`list[dict]`): The prompt and its messages.
        answers (`tuple[RatedAnswer, ...]`): In the order of their ids.
        message_tree_id (`str`): Conversation of the prompt.
        reference (`str` or `None`): A human reply, shown after the rating.
    """

    id: str
    mode: str
    prompt_id: str
    prompt: list[dict]
    answers: tuple[RatedAnswer, ...]
    message_tree_id: str
    reference: str | None = None


def short_digest(*parts: str) -> str:
    """Return an id of twelve hexadecimal digits that depends only on the parts."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _draw(*parts: object) -> float:
    """A number in [0, 1) that depends only on the parts."""
    digest = hashlib.sha256(":".join(map(str, parts)).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / (1 << 48)


def queue(
    items: Iterable[Item], rater: str, rated_by: Mapping[str, Collection[str]], seed: int, overlap: float
) -> list[Item]:
    """
    List what a rater has to rate, in the rater's own order.

    A share of the items goes to every rater, so that their agreement can be measured. Each other item is for the first who rates it.

    Args:
        items (`Iterable[Item]`): All items.
        rater (`str`): Name of the rater.
        rated_by (`Mapping[str, Collection[str]]`): Names of those who rated an item, by its id.
        seed (`int`): Seed of the order and of the choice of the shared items.
        overlap (`float`): Share of the items that all raters rate, from 0 to 1.

    Returns:
        `list[Item]`: with the items that the rater has already rated.
    """
    own = [
        item
        for item in items
        if not (by := rated_by.get(item.id, ())) or rater in by or _draw(seed, "shared", item.id) < overlap
    ]
    return sorted(own, key=lambda item: _draw(seed, "order", rater, item.id))


def shown_answers(item: Item, rater: str, seed: int) -> tuple[RatedAnswer, ...]:
    """Return an item's answers in the order in which a rater sees them: from left to right, drawn with `seed`."""
    return item.answers[::-1] if _draw(seed, "sides", rater, item.id) < 0.5 else item.answers
