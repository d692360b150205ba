"""The builder of pairs from ranked conversations, as a command."""

import os
import subprocess
import sys
import urllib.request

import pytest

from preferans.errors import PreferansError
from preferans.files import checksums

from ..support.commands import run_command
from ..support.tiny import ROOT, SAMPLE


def test_the_dataset_does_not_depend_on_the_working_directory(tmp_path):
    """The folder is equal to the byte, card included, on every machine and however the command is written."""
    builder, sample = str(ROOT / "data_builders" / "oasst1_ru.py"), ROOT / "samples" / "oasst1_ru_sample.jsonl"
    here = tmp_path / "here"
    here.mkdir()
    calls = {
        ROOT: [
            "data_builders/oasst1_ru.py",
            "--source",
            "samples/oasst1_ru_sample.jsonl",
            "--output_dir",
            here / "a" / "x",
        ],
        here: [builder, f"--source={sample}", "--output_dir=b/x"],
        ROOT / "data_builders": [
            "oasst1_ru.py",
            "--output_dir",
            here / "c" / "x",
            "--source",
            f"../samples/{sample.name}",
        ],
    }
    for folder, call in calls.items():
        subprocess.run([sys.executable, *map(str, call)], cwd=folder, check=True, capture_output=True)
    a, b, c = (checksums(here / name / "x") for name in "abc")
    assert a == b == c
    card = (here / "a" / "x" / "README.md").read_text(encoding="utf-8")
    command = "python data_builders/oasst1_ru.py --source samples/oasst1_ru_sample.jsonl --output_dir x"
    assert f"`{command}`" in card


def test_rewrites_a_damaged_dataset_folder(tmp_path, call_script, capsys):
    command = ["data_builders/oasst1_ru.py", "--source", SAMPLE, "--output_dir", tmp_path / "x"]
    call_script(*command)
    whole = checksums(tmp_path / "x")
    (tmp_path / "x" / "data" / "train-00000-of-00001.parquet").write_bytes(b"junk")
    (tmp_path / "x" / "data" / "test-00000-of-00001.parquet").unlink()
    capsys.readouterr()
    call_script(*command)
    assert "Written to" in capsys.readouterr().out
    assert checksums(tmp_path / "x") == whole
    call_script(*command)
    assert "already in" in capsys.readouterr().out


def test_killed_while_it_writes_it_leaves_a_complete_dataset_or_none(tmp_path, call_script):
    def build(folder: str, turns: str) -> list:
        return ["data_builders/oasst1_ru.py", "--source", SAMPLE, "--turns", turns, "--output_dir", tmp_path / folder]

    call_script(*build("first", "first"))
    call_script(*build("all", "all"))
    contents = {
        turns: {path.name: path.read_bytes() for path in (tmp_path / turns / "data").iterdir()}
        for turns in ("first", "all")
    }
    (tmp_path / "here").mkdir()
    call_script(*build("here/pairs", "first"))
    for write in range(1, 4):  # while README.md is written, and while the old and the new folder are moved
        done = run_command(sys.executable, "tests/support/killed.py", write, *build("here/pairs", "all"), check=False)
        assert done.returncode == 137
        folder = tmp_path / "here" / "pairs" / "data"
        if folder.exists():
            assert {path.name: path.read_bytes() for path in folder.iterdir()} == contents["first"]
    call_script(*build("here/pairs", "all"))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == contents["all"]
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["pairs"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--max_length_ratio", "0"], "--max_length_ratio 0.0: it must be above 0"),
        (["--keep_long_prob", "1.5", "--max_length_ratio", "2"], "--keep_long_prob 1.5: it must be a probability"),
        (["--keep_long_prob", "0.5"], "add --max_length_ratio"),
        (["--min_quality_margin", "2"], "--min_quality_margin 2.0"),
        (["--layout", "prototype", "--turns", "all", "--format", "text"], "leave out --turns, --format"),
        (["--test_size", "1"], "--test_size 1.0"),
        (["--revision", "main"], "is a local source; leave --revision out"),
        (["--lang", "xx"], "no pair is left for --lang xx. Its languages are .*ru"),
        (["--layout", "prototype", "--lang", "xx"], "no opening prompt has the language --lang xx"),
    ],
)
def test_refuses_mistakes_and_writes_nothing(call_script, tmp_path, options, words):
    with pytest.raises(PreferansError, match=words):
        call_script("data_builders/oasst1_ru.py", "--source", SAMPLE, "--output_dir", tmp_path / "x", *options)
    assert not (tmp_path / "x").exists()


@pytest.mark.hub
def test_the_prototype_has_its_known_size_on_the_real_dataset(tmp_path):
    try:
        urllib.request.urlopen("https://huggingface.co", timeout=10).close()
    except OSError as error:
        pytest.skip(f"the Hub cannot be reached ({error})")
    command = [
        sys.executable,
        "data_builders/oasst1_ru.py",
        "--layout",
        "prototype",
        "--output_dir",
        tmp_path / "table",
    ]
    online = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    done = subprocess.run(command, cwd=ROOT, env=online, capture_output=True, text=True, encoding="utf-8")
    assert "1,948 rows in `train`, 105 rows in `validation`" in done.stdout, done.stderr
