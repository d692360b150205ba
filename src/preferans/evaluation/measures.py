"""Measures of an answer, in the order of the report."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from ..text.form_kept import keeps_format
from ..text.intrusions import Confusion, confusion
from ..text.known_words import known_words
from ..text.measures import chrf, distinct, is_complete, repetition, rouge
from .probes import PROBE_MEASURES


class Measure(NamedTuple):
    """
    A measure of every answer.

    Attributes:
        function (`Callable[[dict], float | None]`): Maps a row to a number, or to `None` if the measure does not apply. A row has
            `prompt` (messages), `answer` and `finish_reason`, and optionally `references` (human replies) and `probed`, see
            [`~preferans.evaluation.probes.probe_measures`].
        better (`str` or `None`): `"higher"`, `"lower"`, or `None` if neither is better.
        unit (`str`): `"share"` (from 0 to 1), `"characters"`, or `"points"` (from 0 to 100).
    """

    function: Callable[[dict], float | None]
    better: str | None
    unit: str


def _of_text(function: Callable[[dict], float | None]) -> Callable[[dict], float | None]:
    """Make a measure that does not apply to empty answers."""

    def measured(row: dict) -> float | None:
        value = function(row) if row["answer"].strip() else None
        return None if value is None else float(value)

    return measured


def _of_russian(function: Callable[[Confusion], float]) -> Callable[[dict], float | None]:
    """Make a measure that applies only to answers in Russian."""

    def measured(row: dict) -> float | None:
        languages = confused(row)
        return float(function(languages)) if languages.in_russian else None

    return _of_text(measured)


@lru_cache(maxsize=1)  # six measures use it for the same answer, one after the other
def _confused(answer: str, prompt: str) -> Confusion:
    return confusion(answer, prompt)


def confused(row: dict) -> Confusion:
    """Find the languages in an answer; words of the prompt do not count as intruders."""
    return _confused(row["answer"], _asked(row))


def _asked(row: dict) -> str:
    return "\n".join(message["content"] for message in row["prompt"])


def _known_words(row: dict) -> float | None:
    return known_words(row["answer"], _asked(row)) if confused(row).in_russian else None


def _probed(name: str) -> Callable[[dict], float | None]:
    return lambda row: row.get("probed", {}).get(name)


def _against(row: dict, function: Callable[[str, list[str]], float]) -> float | None:
    return function(row["answer"], row["references"]) if row.get("references") else None


# In the order of the tables.
MEASURES: dict[str, Measure] = {
    "empty": Measure(lambda row: float(not row["answer"].strip()), "lower", "share"),
    "finished": Measure(
        lambda row: None if row["finish_reason"] is None else float(row["finish_reason"] == "stop"), "higher", "share"
    ),
    "complete": Measure(_of_text(lambda row: is_complete(row["answer"], row["finish_reason"])), "higher", "share"),
    "loops": Measure(_of_text(lambda row: repetition(row["answer"]).loops), "lower", "share"),
    "repeated_share": Measure(_of_text(lambda row: repetition(row["answer"]).repeated_share), "lower", "share"),
    "distinct_2": Measure(_of_text(lambda row: distinct(row["answer"], 2)), None, "share"),
    "in_russian": Measure(_of_text(lambda row: confused(row).in_russian), "higher", "share"),
    "known_words": Measure(_of_text(_known_words), "higher", "share"),
    "intrusion": Measure(_of_russian(lambda languages: languages.intrudes), "lower", "share"),
    "hard_intrusion": Measure(
        _of_russian(lambda languages: any(word.hard for word in languages.intruders)), "lower", "share"
    ),
    "foreign_word_share": Measure(
        _of_russian(lambda languages: sum(not word.jargon for word in languages.intruders) / max(1, languages.words)),
        "lower",
        "share",
    ),
    "jargon": Measure(_of_russian(lambda languages: any(word.jargon for word in languages.intruders)), None, "share"),
    "template_leak": Measure(_of_text(lambda row: bool(confused(row).leaks)), "lower", "share"),
    "keeps_format": Measure(
        _of_text(lambda row: keeps_format(row["prompt"][-1]["content"], row["answer"])), "higher", "share"
    ),
    "chrf": Measure(_of_text(lambda row: _against(row, chrf)), "higher", "points"),
    "rougeL": Measure(
        _of_text(lambda row: _against(row, lambda answer, others: rouge(answer, others)["rougeL"])), "higher", "share"
    ),
    "length": Measure(lambda row: float(len(row["answer"])), None, "characters"),
} | {name: Measure(_probed(name), better, "share") for name, better in PROBE_MEASURES.items()}


def measure(row: dict) -> dict[str, float | None]:
    """Compute all [`MEASURES`] of one answer."""
    return {name: measure.function(row) for name, measure in MEASURES.items()}
