"""Words of the rating page and its results, in Russian and English."""

from pathlib import Path

from ..evaluation.report.words import Words


def people_words(language: str) -> Words:
    """Return the words of the rating page and its results in `"ru"` or `"en"`."""
    return Words(language, Path(__file__).parent)
