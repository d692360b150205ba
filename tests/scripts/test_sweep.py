import sys

import pytest

from preferans.errors import PreferansError

from ..support.commands import run_command
from ..support.runs import KEYS, make_pairs


@pytest.fixture
def recipe(tiny_llama, tmp_path):
    keys = {name: value for name, value in KEYS.items() if name not in ("seed", "output_dir")}
    keys |= {"model_name_or_path": str(tiny_llama), "dataset_name": str(make_pairs(tmp_path / "data"))}
    path = tmp_path / "tiny.yaml"
    path.write_text("".join(f"{name}: {value}\n" for name, value in keys.items()), encoding="utf-8")
    return path


def test_a_sweep_trains_resumes_and_is_compared(recipe, tmp_path):
    folder = tmp_path / "sweep"
    sweep = [sys.executable, "scripts/sweep.py", recipe, "--beta", "0.1", "0.5", "--output_dir", folder]
    printed = run_command(*sweep).stdout
    assert sorted(path.name for path in folder.iterdir()) == ["beta-0.1", "beta-0.5"]
    assert f"Next: python scripts/score.py {folder} --group_by beta" in printed
    adapters = [(path / "adapter_model.safetensors").read_bytes() for path in sorted(folder.iterdir())]
    assert adapters[0] != adapters[1]
    assert run_command(*sweep).stdout.count("Finished before.") == 2
    score = [sys.executable, "scripts/score.py", folder, "--group_by", "beta", "--output_dir", tmp_path / "report"]
    scored = run_command(*score).stdout
    assert "Groups of runs by beta" in scored and "beta 0.5" in scored
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "Groups of runs by beta" in page and "Smallest difference of gains that this test shows" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bta", "0.1", "0.5"], "the key 'bta' is unknown. Did you mean 'beta'?"),
        (["--beta", "0.1", "0.1"], "Two combinations have the folder"),
        (["--beta"], "--beta has no value"),
        ([], "Name at least one key with its values"),
        (["--beta", "0.1", "--beta", "0.5"], "--beta is given twice"),
    ],
)
def test_mistakes_are_reported_before_the_first_run(recipe, call_script, words, message):
    with pytest.raises(PreferansError) as caught:
        call_script("scripts/sweep.py", recipe, *words)
    assert message in str(caught.value)
