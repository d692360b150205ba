"""What raters rate: one answer, or two answers to one prompt, in an order of each rater's own."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from ..evaluation.answers import System
from ..evaluation.verdicts import conversation

MODES = ("score", "compare")


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


def make_items(
    systems: Sequence[System],
    prompts: Mapping[str, list[dict]],
    mode: str,
    references: Mapping[str, list[str]] | None = None,
) -> list[Item]:
    """
    List what the systems' answers give to rate.

    Args:
        systems (`Sequence[System]`): Systems that answered the same prompts.
        prompts (`Mapping[str, list[dict]]`): The prompts by id, see [`~preferans.evaluation.answers.line_up`].
        mode (`str`): `"score"`: each answer alone. `"compare"`: every two different answers to one prompt.
        references (`Mapping[str, list[str]]`, *optional*): Human replies by id.

    Returns:
        `list[Item]`: in the order of the prompts. Empty answers are rated as well; equal ones are not compared.
    """
    items = []
    for prompt_id, prompt in prompts.items():
        rows = [(system, system.rows[prompt_id]) for system in systems]
        answers = sorted((_rated_answer(system.name, row) for system, row in rows), key=lambda answer: answer.id)
        trees = [tree for _, row in rows if isinstance(tree := row.get("message_tree_id"), str) and tree]
        # without a known tree, prompts with the same opening question are one conversation
        tree = trees[0] if trees else _digest(conversation(prompt))
        reference = next(iter((references or {}).get(prompt_id, [])), None)
        groups: Iterable[tuple[RatedAnswer, ...]] = combinations(answers, 2 if mode == "compare" else 1)
        for group in groups:
            if len({answer.text.strip() for answer in group}) == len(group):
                identifier = _digest(mode, prompt_id, *(answer.id for answer in group))
                items.append(Item(identifier, mode, prompt_id, prompt, group, tree, reference))
    return items


def _rated_answer(model: str, row: dict[str, Any]) -> RatedAnswer:
    return RatedAnswer(_digest(model, row["answer"]), model, row["answer"], row["finish_reason"])


def _digest(*parts: str) -> str:
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
