"""Exit statuses, messages, and `--help` before heavy imports."""

import argparse
import errno
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
        (PermissionError(13, "Permission denied", "locked.json"), 2, "locked.json: no permission to read or write it"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "x"), 2, "x: this is a folder, and a file is needed"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "x"), 2, "x: a part of this path is a file"),
        (FileExistsError(errno.EEXIST, "File exists", "x"), 2, "x: this is a file, and a folder is needed"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), 2, "x: there is no such file or folder"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x"), 2, "x: the name is too long"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            2,
            "the disk is full, or does not allow a file of this size",
        ),
        (ImportError("Using SOCKS proxy, but the 'socksio' package is not installed."), 2, "pip install socksio"),
        (KeyboardInterrupt(), 130, "the same command resumes from there"),
    ],
)
def test_an_error_becomes_a_message_and_an_exit_status(error, status, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(failing(error))
    assert stopped.value.code == status
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), OSError("no number"), ImportError("no module"), RuntimeError()]
)
def test_a_bug_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        run(failing(error))


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


@pytest.mark.parametrize(
    ("word", "known"),
    [
        ("torch_dtype", "torch_compile"),
        ("rpo_alpha", "lora_alpha"),
        ("dpo_beta", "do_eval"),
        ("base_model", "sync_ref_model"),
        ("kto_pair", "exo_pair"),
    ],
)
def test_a_word_that_shares_only_a_part_is_not_suggested(word, known):
    assert did_you_mean(word, [known]) == ""


def test_a_list_of_mistakes_keeps_its_lines(capsys):
    with pytest.raises(SystemExit):
        run(failing(PreferansError("x.yaml: 2 mistakes.\n- line 1: wrong.\n- line 2: also wrong.")))
    assert capsys.readouterr().err == "\nError: x.yaml: 2 mistakes.\n- line 1: wrong.\n- line 2: also wrong.\n"


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
