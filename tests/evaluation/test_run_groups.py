import pytest

from preferans.errors import PreferansError
from preferans.evaluation.run_groups import expand_sweeps, group_runs
from preferans.files import write_json

TREES = 8


def make_run(folder, seed: int, won: int, fingerprint: str = "0" * 64, **keys) -> str:
    """Write what group_runs reads: before training the rejected answer is likelier, after it the chosen one in `won` of 8 pairs."""
    before = [pair(-12, -10)] * TREES
    after = [pair(-8 if number < won else -12, -10) for number in range(TREES)]
    groups = [f"tree{number}" for number in range(TREES)]
    tested = {"before": before, "after": after, "beta": 0.1, "per_token": False, "groups": groups, "ids": groups}
    write_json(folder / "test_log_probs.json", tested)
    write_json(
        folder / "provenance.json",
        {"keys": keys | {"seed": seed}, "seed": seed, "dataset": {"fingerprint": fingerprint}},
    )
    write_json(folder / "all_results.json", {})
    return str(folder)


def pair(chosen: float, rejected: float) -> dict[str, float]:
    return {"chosen_logp": chosen, "rejected_logp": rejected, "chosen_tokens": 5, "rejected_tokens": 5}


def test_groups_have_means_over_seeds_and_paired_differences(tmp_path):
    folders = [
        make_run(tmp_path / "swapped2", 2, 0, control="swapped_labels"),
        make_run(tmp_path / "run1", 1, 8),
        make_run(tmp_path / "run2", 2, 6),
        make_run(tmp_path / "swapped1", 1, 0, control="swapped_labels"),
    ]
    found = group_runs(folders, ["control"])
    assert [(group["name"], group["seeds"]) for group in found["groups"]] == [
        ("no control", [1, 2]),
        ("control swapped_labels", [1, 2]),
    ]
    run, swapped = found["groups"]
    assert run["by_seed"] == [1.0, 0.75]
    assert run["scores"]["test_normalised_accuracy_gain"]["value"] == 0.875
    assert swapped["scores"]["test_normalised_accuracy_gain"]["value"] == 0.0
    (compared,) = found["comparisons"]
    assert (compared["system"], compared["against"]) == ("control swapped_labels", "no control")
    gain, reward = compared["differences"].values()
    assert (gain["value"], gain["verdict"]) == (-0.875, "worse")
    assert (reward["value"], reward["verdict"]) == (-0.4375, "worse")  # a pair whose rewards are equal counts a half
    assert compared["seeds"] == [1, 2]
    low, high = (gain[end] for end in ("low", "high"))
    assert -1 <= low < -0.875 < high < 0


def test_seeds_that_disagree_widen_the_interval(tmp_path):
    alike = [make_run(tmp_path / f"a{seed}", seed, 4, beta=0.1) for seed in (1, 2)]
    apart = [make_run(tmp_path / f"b{seed}", seed, won, beta=0.2) for seed, won in ((1, 0), (2, 8))]
    groups = group_runs(alike + apart, ["beta"])["groups"]
    gains = [group["scores"]["test_normalised_accuracy_gain"] for group in groups]
    assert [gain["value"] for gain in gains] == [0.5, 0.5]
    assert (gains[1]["low"], gains[1]["high"]) == (0.0, 1.0)
    assert gains[0]["high"] - gains[0]["low"] < 1


@pytest.mark.parametrize(
    ("second", "group_by", "words"),
    [
        ({"seed": 2, "beta": 0.2}, ["bta"], "no run sets this key. Did you mean 'beta'"),
        ({"seed": 1, "beta": 0.1}, ["beta"], "two runs of the group 'beta 0.1' have the same seed"),
        (
            {"seed": 2, "beta": 0.2, "lora_r": 8},
            ["beta"],
            "also differ in lora_r (None, 8). Add this key to --group_by",
        ),
    ],
)
def test_groups_that_mean_nothing_are_an_error(tmp_path, second, group_by, words):
    folders = [make_run(tmp_path / "a", 1, 8, beta=0.1), make_run(tmp_path / "b", won=4, **second)]
    with pytest.raises(PreferansError) as caught:
        group_runs(folders, group_by)
    assert words in str(caught.value)


def test_runs_on_different_test_pairs_are_not_compared(tmp_path):
    folders = [make_run(tmp_path / "a", 1, 8), make_run(tmp_path / "b", 2, 8, fingerprint="1" * 64)]
    with pytest.raises(PreferansError, match="were scored on different test pairs"):
        group_runs(folders, ["control"])


def test_a_sweep_stands_for_its_finished_runs(tmp_path):
    folders = [make_run(tmp_path / "sweep" / name, 1, 8) for name in ("a", "b")]
    (tmp_path / "sweep" / "unfinished").mkdir()
    single = make_run(tmp_path / "single", 1, 8)
    assert expand_sweeps([str(tmp_path / "sweep"), single, "answers"]) == [*folders, single, "answers"]
