"""The measures of an answer, in the order of the report."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from ..text.form_kept import keeps_format
from ..text.intrusions import Confusion, confusion
from ..text.measures import chrf, distinct, is_complete, repetition, rouge
from .probes import PROBE_MEASURES


class Measure(NamedTuple):
    """
    Something that is measured of every answer.

    Attributes:
        function (`Callable[[dict], float | None]`): From a row (`prompt`, a list of messages; `answer`; `finish_reason`; `references`,
            replies of people, and `probed`, see [`~preferans.evaluation.probes.probe_measures`], where there are any) to a number, or to `None` where the question does not arise.
        better (`str` or `None`): `"higher"`, `"lower"`, or `None` where neither is.
        unit (`str`): `"share"` (from 0 to 1), `"characters"`, or `"points"` (from 0 to 100).
    """

    function: Callable[[dict], float | None]
    better: str | None
    unit: str


def _of_text(function: Callable[[dict], float | None]) -> Callable[[dict], float | None]:
    """A measure that an empty answer does not have."""

    def measured(row: dict) -> float | None:
        value = function(row) if row["answer"].strip() else None
        return None if value is None else float(value)

    return measured


def _of_russian(function: Callable[[Confusion], float]) -> Callable[[dict], float | None]:
    """A measure that only an answer in Russian has: words of another language can intrude into nothing else."""

    def measured(row: dict) -> float | None:
        found = confused(row)
        return float(function(found)) if found.in_russian else None

    return _of_text(measured)


@lru_cache(maxsize=1)  # five measures ask for the same answer one after the other
def _confused(answer: str, prompt: str) -> Confusion:
    return confusion(answer, prompt)


def confused(row: dict) -> Confusion:
    """Languages in an answer, where words of the prompt are no intruders."""
    return _confused(row["answer"], "\n".join(message["content"] for message in row["prompt"]))


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
    "intrusion": Measure(_of_russian(lambda found: bool(found.intruders)), "lower", "share"),
    "hard_intrusion": Measure(_of_russian(lambda found: any(word.hard for word in found.intruders)), "lower", "share"),
    "foreign_word_share": Measure(
        _of_russian(lambda found: len(found.intruders) / max(1, found.words)), "lower", "share"
    ),
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
    """All of [`MEASURES`] of one answer."""
    return {name: measure.function(row) for name, measure in MEASURES.items()}
