"""Exit statuses, messages, and `--help` before heavy imports."""

import argparse
import subprocess
import sys

import polars
import pytest
import torch
from safetensors.torch import save_file

from preferans.errors import PreferansError, did_you_mean, disk_errors, help_first, run

from .support.full_disk import files_limited_to
from .support.tiny import ROOT


def failing(error: BaseException):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (PreferansError("--beta x: not a number."), 2, "\nError: --beta x: not a number.\n"),
        (
            FileExistsError(17, "File exists", "a.txt"),
            2,
            "a.txt: this is a file or is below one, and a folder is needed",
        ),
        (NotADirectoryError(20, "Not a directory", "a.txt/run"), 2, "a.txt/run: this is a file or is below one"),
        (IsADirectoryError(21, "Is a directory", "runs"), 2, "runs: this is a folder, and a file is needed"),
        (PermissionError(13, "Permission denied", "locked.json"), 2, "locked.json: no permission to read or write it"),
        (KeyboardInterrupt(), 130, "the same command resumes from there"),
    ],
)
def test_an_error_becomes_a_message_and_an_exit_status(error, status, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(failing(error))
    assert stopped.value.code == status
    assert message in capsys.readouterr().err


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run(failing(ZeroDivisionError()))


def test_the_status_of_main_is_the_exit_status():
    for returned, status in ((None, 0), (0, 0), (1, 1)):
        with pytest.raises(SystemExit) as stopped:
            run(lambda returned=returned: returned)
        assert stopped.value.code == status


def test_other_processes_of_a_run_print_no_output(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # restored afterwards
    with pytest.raises(SystemExit):
        run(lambda: print("from process 1"))
    assert capsys.readouterr().out == ""


def test_the_nearest_known_word_is_suggested():
    assert did_you_mean("learning_rat", ["beta", "learning_rate"]) == " Did you mean 'learning_rate'?"
    assert did_you_mean("xyz", ["beta", "learning_rate"]) == ""


@pytest.mark.parametrize("arguments", [["--help"], ["-h", "more"], []])
def test_a_docstring_is_printed_as_help(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["script.py", *arguments])
    with pytest.raises(SystemExit) as stopped:
        help_first("\nTrain.\n\n    python script.py\n")
    assert stopped.value.code == 0 and capsys.readouterr().out == "Train.\n\n    python script.py\n"


def test_a_parsers_help_has_its_options(monkeypatch, capsys):
    parser = argparse.ArgumentParser(prog="script.py")
    parser.add_argument("--seed", help="seed of the draw")
    monkeypatch.setattr(sys, "argv", ["script.py", "--help"])
    with pytest.raises(SystemExit):
        help_first(parser)
    assert "seed of the draw" in capsys.readouterr().out


def test_without_help_the_script_continues(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["script.py", "--seed", "1"])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # restored afterwards
    help_first("Train.")


def test_ctrl_c_during_the_imports_ends_with_one_line(monkeypatch):
    code = "import sys; sys.argv = ['x', 'y']; from preferans.errors import help_first; help_first('Train.'); raise KeyboardInterrupt"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == "\nStopped.\n" and done.returncode != 0


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b"x" * 10000),
        lambda path: torch.save(torch.ones(10000), path),
        lambda path: save_file({"x": torch.ones(10000)}, path),
        lambda path: polars.DataFrame({"x": [str(number**9) for number in range(9999)]}).write_parquet(path),
    ],
)
def test_a_full_disk_is_one_message_whatever_writes(write, tmp_path, capsys):
    path = tmp_path / "weights"
    with files_limited_to(4096), pytest.raises(PreferansError, match=f"{path}: the disk is full"), disk_errors(path):
        write(path)
    with files_limited_to(4096), pytest.raises(SystemExit) as stopped:
        run(lambda: write(path))
    assert stopped.value.code == 2 and "the disk is full" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError), disk_errors(path):
        1 / 0  # noqa: B018
