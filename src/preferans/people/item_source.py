"""Turn the answers of systems into items for raters."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from ..evaluation.answers import System
from ..evaluation.people_votes import conversation
from .items import Item, RatedAnswer, short_digest


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
        tree = trees[0] if trees else short_digest(conversation(prompt))
        reference = next(iter((references or {}).get(prompt_id, [])), None)
        groups: Iterable[tuple[RatedAnswer, ...]] = combinations(answers, 2 if mode == "compare" else 1)
        for group in groups:
            if len({answer.text.strip() for answer in group}) == len(group):
                identifier = short_digest(mode, prompt_id, *(answer.id for answer in group))
                items.append(Item(identifier, mode, prompt_id, prompt, group, tree, reference))
    return items


def _rated_answer(model: str, row: dict[str, Any]) -> RatedAnswer:
    return RatedAnswer(short_digest(model, row["answer"]), model, row["answer"], row["finish_reason"])
