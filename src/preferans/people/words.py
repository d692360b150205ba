"""Words of the rating page, its results and the chat, in Russian and English."""

from pathlib import Path

from ..evaluation.report.words import Words


def people_words(language: str) -> Words:
    """Return the words of the room in `"ru"` or `"en"`."""
    return Words(language, Path(__file__).parent)
