import pytest

from preferans.data.pairs import read_pairs
from preferans.errors import PreferansError
from preferans.evaluation.other_pairs import (
    PairSet,
    ScoredPairs,
    dataset_record,
    has_training_pairs,
    read_pair_records,
    read_pair_set,
)
from preferans.files import write_json, write_jsonl

from ..support.rows import preference


def log_probs(chosen: float, rejected: float, chosen_tokens: int = 10, rejected_tokens: int = 10) -> dict:
    return {
        "chosen_logp": chosen,
        "rejected_logp": rejected,
        "chosen_tokens": chosen_tokens,
        "rejected_tokens": rejected_tokens,
    }


def pair_set(count: int = 8, **changes) -> PairSet:
    rows = [preference(number, category=("a", "b")[number % 2]) | changes for number in range(count)]
    return PairSet("pairs", read_pairs({"test": rows})[0])


WRONG, RIGHT = log_probs(-20, -10), log_probs(-10, -20)


def test_all_figures_of_an_adapter_and_its_subsets():
    scored = ScoredPairs([WRONG] * 8, {"tuned": [RIGHT, WRONG] * 4}, {"tuned": 0.5})
    record = dataset_record(pair_set(), scored, "category")
    (system,) = record["systems"]
    values = {name: score["value"] for name, score in system["scores"].items()}
    assert values["test_normalised_accuracy_before"] == values["test_summed_accuracy_before"] == 0
    assert values["test_normalised_accuracy_gain"] == values["test_summed_accuracy_after"] == 0.5
    assert values["test_reward_margin"] == 0.5 * 20 / 2
    assert {name: scores["test_normalised_accuracy_gain"]["value"] for name, scores in system["subsets"].items()} == {
        "a": 1.0,
        "b": 0.0,
    }
    assert 0.3 < system["smallest_gain"] < 0.7
    assert (record["pairs"], record["surface"]["chosen_longer"]) == (8, 1.0)
    assert record["comparisons"] == []


def test_summed_and_per_token_accuracy_differ_with_the_length():
    short_wins = log_probs(-30, -20, 20, 10)  # -1.5 and -2 per token
    scored = ScoredPairs([short_wins] * 2, {"tuned": [short_wins] * 2})
    values = dataset_record(pair_set(2), scored)["systems"][0]["scores"]
    assert values["test_normalised_accuracy_after"]["value"] == 1
    assert values["test_summed_accuracy_after"]["value"] == 0


def test_adapters_are_compared_pair_by_pair():
    scored = ScoredPairs([WRONG] * 8, {"first": [WRONG] * 8, "second": [RIGHT] * 7 + [WRONG]})
    (comparison,) = dataset_record(pair_set(), scored)["comparisons"]
    assert (comparison["system"], comparison["against"], comparison["verdict"]) == ("second", "first", "better")
    assert comparison["difference"]["value"] == 7 / 8


def test_reads_a_split_or_all_of_a_dataset(preference_folder):
    assert len(read_pair_set(str(preference_folder), "test").pairs) == 2
    everything = read_pair_set(str(preference_folder), "all")
    assert len(everything.pairs) == 8 and has_training_pairs(everything)
    assert not has_training_pairs(read_pair_set(str(preference_folder), "test"))
    with pytest.raises(
        PreferansError,
        match=r"--split tets: .* has the splits train, test\. Did you mean 'test'\? Name one, or write 'all'",
    ):
        read_pair_set(str(preference_folder), "tets")
    assert len(read_pair_set(str(preference_folder / "train.jsonl"), "test").pairs) == 6  # a single split


def test_rows_that_are_no_pairs_are_counted_or_an_error(tmp_path):
    broken = preference(1) | {"chosen": None}
    write_jsonl(tmp_path / "some.jsonl", [preference(0), broken])
    assert read_pair_set(str(tmp_path / "some.jsonl"), "test").unreadable == 1
    write_jsonl(tmp_path / "none.jsonl", [broken])
    with pytest.raises(PreferansError, match=r"none\.jsonl: no row is a preference pair; c1:r1: "):
        read_pair_set(str(tmp_path / "none.jsonl"), "test")
    write_jsonl(tmp_path / "twice.jsonl", [preference(0), preference(1) | {"id": "c0:r0"}])
    with pytest.raises(PreferansError, match="two rows have the same id"):
        read_pair_set(str(tmp_path / "twice.jsonl"), "test")


def test_reads_the_files_of_the_command(tmp_path):
    scored = ScoredPairs([WRONG] * 8, {"tuned": [RIGHT] * 8}, in_domain={"tuned"})
    record = dataset_record(pair_set(), scored)
    assert record["systems"][0]["in_domain"]
    for name in ("one.json", "two.json"):
        write_json(tmp_path / name, {"schema": 1, "datasets": [record]})
    assert read_pair_records([str(tmp_path / "one.json"), str(tmp_path / "two.json")]) == [record, record]
    write_json(tmp_path / "scores.json", {"schema": 2})
    with pytest.raises(PreferansError, match=r"scores\.json: this is no pairs\.json of scripts/evaluate_pairs\.py"):
        read_pair_records([str(tmp_path / "scores.json")])
