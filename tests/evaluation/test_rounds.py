from pathlib import Path

import pytest

from preferans.evaluation.answers import line_up
from preferans.evaluation.rounds import compare_rounds
from preferans.files import write_json

from ..support.reports import system

GOOD = [f"Рис лучше промыть в холодной воде, тогда он не слипнется, номер {number}." for number in range(12)]
LOOP = ["Рис лучше промыть в воде. " * 12] * 12


def rounds_of(folder: Path, *texts: list[str]):
    base, *rounds = (
        system(name, *answers) for name, answers in zip(["base", "first", "second", "third"], texts, strict=False)
    )
    prompts = line_up([base, *rounds])
    return compare_rounds(base, rounds, prompts, {}, [folder / one.name for one in rounds])


def test_the_last_round_without_a_regression_is_the_best(tmp_path):
    record = rounds_of(tmp_path, LOOP, GOOD, GOOD)
    assert (record["best"], record["stopped"]) == ("second", False)
    assert record["base"]["scores"]["loops"]["value"] == 1.0
    first, second = record["rounds"]
    assert first["against_previous"]["loops"]["value"] == second["against_base"]["loops"]["value"] == -1.0
    assert second["against_previous"]["loops"]["value"] == 0.0
    assert second["scores"]["length"]["value"] == pytest.approx(sum(map(len, GOOD)) / 12)


def test_a_first_round_worse_than_the_base_leaves_the_base(tmp_path):
    record = rounds_of(tmp_path, GOOD, LOOP, GOOD)
    assert (record["best"], record["stopped"]) == ("base", True)
    assert [one["name"] for one in record["rounds"]] == ["first"]
    assert {"loops", "distinct_2"} <= set(record["rounds"][0]["regressions"])


@pytest.mark.parametrize(("high", "regressions"), [(-0.01, ["other.jsonl"]), (0.01, [])])
def test_pairs_of_other_people_are_a_guard(tmp_path, high, regressions):
    gain = {"value": -0.1, "low": -0.2, "high": high, "cases": 20}
    pairs = {"name": "other.jsonl", "systems": [{"name": "first", "scores": {"test_normalised_accuracy_gain": gain}}]}
    write_json(tmp_path / "first" / "pairs.json", {"schema": 1, "datasets": [pairs]})
    record = rounds_of(tmp_path, GOOD, GOOD)
    assert record["rounds"][0]["regressions"] == regressions
    assert record["rounds"][0]["pairs"] == {"other.jsonl": gain}
    assert record["best"] == ("base" if regressions else "first")
