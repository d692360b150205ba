import pytest

from preferans.errors import PreferansError
from preferans.files import read_json, read_jsonl, write_jsonl

from ..support.merges import make_run
from ..support.rows import preference


@pytest.fixture(scope="module")
def runs(tiny_llama, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return [
        make_run(tiny_llama, folder / name, targets=targets)
        for name, targets in (("a", ["q_proj"]), ("b", ["v_proj"]))
    ]


@pytest.fixture
def evaluate(call_script, runs, preference_folder, tmp_path):
    def call(*arguments, adapters=runs, datasets=(preference_folder,)):
        options = ["--output_dir", tmp_path / "out", "--use_cpu", *(["--adapter", *adapters] if adapters else [])]
        call_script("scripts/evaluate_pairs.py", *datasets, *options, *arguments)
        return read_json(tmp_path / "out" / "pairs.json")

    return call


def test_two_adapters_on_two_datasets(evaluate, preference_folder, tmp_path, capsys):
    write_jsonl(tmp_path / "other.jsonl", [preference(number, category=str(number % 2)) for number in range(20, 26)])
    found = evaluate("--by", "category", datasets=(preference_folder, tmp_path / "other.jsonl"))
    assert found["base"] == "llama" and found["max_length"] is None
    first, second = found["datasets"]
    assert [record["pairs"] for record in (first, second)] == [2, 6]
    assert [system["name"] for system in second["systems"]] == ["a", "b"]
    assert set(second["systems"][0]["subsets"]) == {"0", "1"} and len(second["comparisons"]) == 1
    printed = capsys.readouterr().out
    assert "other.jsonl: 6 pairs" in printed and "likelier per token, after" in printed
    assert "Next: python scripts/score.py" in printed


def test_the_same_command_resumes(evaluate, tmp_path):
    complete = evaluate()
    files = sorted((tmp_path / "out").glob("*.jsonl"))
    assert len(files) == 3  # two adapters and their base
    kept = read_jsonl(files[0])
    write_jsonl(files[0], [kept[0] | {"chosen_logp": -1e6}])  # a finished row is not computed again
    files[1].unlink()
    resumed = evaluate()
    assert read_jsonl(files[0])[0]["chosen_logp"] == -1e6 and len(read_jsonl(files[0])) == len(kept)
    assert resumed["datasets"][0]["systems"][0] != complete["datasets"][0]["systems"][0]
    assert resumed["datasets"][0]["systems"][1] == complete["datasets"][0]["systems"][1]


def test_rows_of_other_settings_are_an_error(evaluate):
    evaluate()
    with pytest.raises(
        PreferansError, match=r"line 1: this row has max_length None, and the command 64\. Name another --output_dir"
    ):
        evaluate("--max_length", "64")


@pytest.mark.parametrize(
    ("arguments", "adapters", "words"),
    [
        ([], [], "--adapter is missing"),
        ([], ["runs/none"], "this folder has no adapter"),
        (["--split", "none"], None, "has the splits train, test"),
        (["--max_length", "2"], None, "every prompt alone fills --max_length 2"),
    ],
)
def test_mistakes_are_one_message(evaluate, runs, arguments, adapters, words):
    with pytest.raises(PreferansError) as caught:
        evaluate(*arguments, adapters=runs if adapters is None else adapters)
    assert words in str(caught.value)
