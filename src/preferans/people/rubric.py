"""The rubric of the five criteria, which people and a judge share."""

import re
from functools import cache
from pathlib import Path

from ..data.ratings import CRITERIA

_FOLDER = Path(__file__).parents[1] / "evaluation"
_CRITERION = re.compile(r"\*\*(\w+): (.+?)\*\*\n((?:- \d: .+\n?)+)")
_LEVEL = re.compile(r"- (\d): (.+)")


@cache
def read_rubric(language: str) -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """
    Read the rubric in one language.

    Args:
        language (`str`): `"ru"` or `"en"`.

    Returns:
        `dict[str, tuple[str, list[tuple[str, str]]]]`: for each of the `CRITERIA` its question, and the described scores.
    """
    text = (_FOLDER / f"rubric_{language}.md").read_text(encoding="utf-8")
    found = {
        name: (question.rstrip(".?") + "?", _LEVEL.findall(levels))
        for name, question, levels in _CRITERION.findall(text)
    }
    return {criterion: found[criterion] for criterion in CRITERIA}
