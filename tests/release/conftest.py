"""A trained run and one of each kind that can be published."""

import shutil

import pytest

from preferans.files import write_jsonl
from preferans.models.vocabulary import trim_vocabulary

from ..support import mixed
from ..support.merges import DTYPES, make_run
from ..support.runs import REPORT, call, command, make_pairs
from ..support.tiny import make_tokenizer


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    return make_pairs(tmp_path_factory.mktemp("data") / "pairs")


@pytest.fixture(scope="session")
def run(tiny_llama, pairs, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "tiny_run"
    call(*command("dpo", tiny_llama, pairs, run))
    return run


@pytest.fixture(scope="session")
def things(run, pairs, tmp_path_factory):
    """One of each kind that can be published."""
    folder = tmp_path_factory.mktemp("things")
    call("scripts/merge.py", run, "--output_dir", folder / "merged")
    for config, number in (("default", 4), ("more", 3)):
        make_pairs(folder / "two" / config, number, 1)
    (folder / "two" / "README.md").write_text(
        "---\nlicense: apache-2.0\nconfigs:\n"
        + "".join(
            f"- config_name: {config}\n  data_files:\n  - {{split: train, path: {config}/data/train-*}}\n  - {{split: test, path: {config}/data/test-*}}\n"
            for config in ("default", "more")
        )
        + '---\n# Two\n\nload_dataset("FOLDER_OR_HUB_ID", "more")\n'
    )
    for config in ("default", "more"):
        (folder / "two" / config / "README.md").unlink()
    answers = [
        {
            "id": str(number),
            "prompt": [{"role": "user", "content": "Как дела?"}],
            "answer": f"Хорошо, {number}.",
            "model": "tiny",
        }
        for number in range(3)
    ]
    write_jsonl(folder / "answers.jsonl", answers)
    (folder / "report").mkdir()
    for name, text in REPORT.items():
        (folder / "report" / name).write_text(text)
    return {
        "run": run,
        "merged": folder / "merged",
        "two": folder / "two",
        "answers": folder / "answers.jsonl",
        "report": folder / "report",
    }


@pytest.fixture(scope="session", params=list(DTYPES))
def full(request, tmp_path_factory):
    folder = getattr(mixed, f"make_{request.param}")(tmp_path_factory.mktemp("full") / request.param)
    (folder / "NOTICE").write_text("Terms of the base model.", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def cut(full, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut") / full.name
    trim_vocabulary(full, folder, latin_cutoff=500)
    return folder


@pytest.fixture(scope="session")
def trained(full, cut, tmp_path_factory):
    return make_run(cut, tmp_path_factory.mktemp("run") / cut.name, DTYPES[full.name])


@pytest.fixture
def llama_run(tiny_llama, tmp_path):
    """A run on a base model of its own, and that base model."""
    base = shutil.copytree(tiny_llama, tmp_path / "base")
    (base / "NOTICE").write_text("Terms of the base model.", encoding="utf-8")
    return base, make_run(base, tmp_path / "run")


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()
