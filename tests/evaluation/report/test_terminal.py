"""The comparison as text for the terminal."""

from preferans.evaluation.report.terminal import TABLE_COLUMNS, score_table
from preferans.evaluation.report.words import MINUS

from ...support.reports import AFTER, BEFORE, judged, scored, system


def test_shows_figures_then_differences(two):
    lines = score_table(two).splitlines()
    assert lines[0] == "The answers in figures, on 8 prompts"
    assert lines[1].split() == ["before", "after"]
    finished = next(line for line in lines if "Ended by the model itself" in line)
    assert finished.split("itself")[1].split("  ")[-1].strip() == "100% [100, 100]"
    assert "after against before" in lines
    better = next(line for line in lines if line.startswith("  significantly better: Ended by the model itself"))
    assert better.endswith("+100\u00a0pp [+100, +100]")


def test_the_number_of_cases_is_shown_if_it_differs_from_the_number_of_prompts(two):
    cases = two["systems"][1]["scores"]["loops"]["cases"]
    assert cases < 8
    row = next(line for line in score_table(two).splitlines() if "Answers that loop" in line)
    assert row.endswith(f"n={cases}")


def test_splits_many_systems_into_tables():
    systems = [system(f"system {number}", *(AFTER if number % 2 else BEFORE)) for number in range(TABLE_COLUMNS + 1)]
    assert score_table(scored(*systems)).count("The answers in figures, on 8 prompts") == 2


def test_shows_runs_and_verdicts(run_folder, two):
    scores = two | {"runs": scored(runs=[run_folder])["runs"], "verdicts": [judged(["before", "after"])]}
    text = score_table(scores)
    assert text.startswith("run, on 4 held-out pairs\n")
    ranking = [line.split() for line in text.splitlines() if line.startswith(("  1. ", "  2. "))]
    assert ranking[:2] == [
        ["1.", "after", "+44", "[+10,", "+80]"],
        ["2.", "before", f"{MINUS}44", f"[{MINUS}80,", f"{MINUS}10]"],
    ]


def test_is_in_russian(two):
    text = score_table(two, "ru")
    assert "Ответы в\u00a0числах, на\u00a08 запросах" in text and "prompts" not in text


def test_shows_pairs_of_other_datasets(two):
    gain = {"value": -0.06, "low": -0.12, "high": 0.0, "cases": 16}
    scored_pairs = {
        "name": "tuned",
        "in_domain": False,
        "per_token": False,
        "scores": {"test_balanced_accuracy_gain": gain},
    }
    text = score_table(two | {"pairs": [{"name": "other", "systems": [scored_pairs], "surface": None}]})
    assert text.startswith("tuned on other, on 16 held-out pairs\n  Length-balanced gain")
    assert f"{MINUS}6\u00a0pp [{MINUS}12, 0]" in text
