import os
import sys
from pathlib import Path

import pytest

from preferans.errors import PreferansError
from preferans.files import read_json, read_jsonl, write_jsonl

from ..support.commands import run_command
from ..support.runs import KEYS
from ..support.tiny import ROOT, SAMPLE

GOOD = "Рис лучше промыть в холодной воде, тогда он не слипнется. Варите его на слабом огне под крышкой, номер {}."
LOOP = "Рис лучше промыть в воде. " * 12


def answers(path, model: str, texts: list[str]):
    write_jsonl(
        path,
        [
            {
                "id": f"q{number:02}",
                "prompt": [{"role": "user", "content": f"Почему рис слипается, вопрос номер {number}?"}],
                "answer": text,
                "model": model,
                "sampling": {},
                "finish_reason": "stop",
            }
            for number, text in enumerate(texts)
        ],
    )


@pytest.fixture
def folder(tmp_path):
    """Answers of a base that loops, and of a first round that does not."""
    answers(tmp_path / "answers" / "base.jsonl", "base", [LOOP] * 12)
    answers(tmp_path / "answers" / "round0.jsonl", "round0", [GOOD.format(number) for number in range(12)])
    return tmp_path


def compare(call_script, folder, *rounds):
    options = ["--answers", folder / "answers", "--output_dir", folder / "report"]
    status = call_script("scripts/rounds.py", *(folder / name for name in rounds), *options)
    return status, read_json(folder / "report" / "rounds.json")


def test_a_better_round_is_the_best(call_script, folder):
    _, record = compare(call_script, folder, "round0")
    assert (record["best"], record["stopped"]) == ("round0", False)
    (only,) = record["rounds"]
    assert only["against_base"]["loops"]["value"] == -1.0
    assert only["against_base"]["loops"]["verdict"] == "better"
    assert only["regressions"] == []
    page = (folder / "report" / "rounds.html").read_text(encoding="utf-8")
    assert "round0 (best)" in page


def test_a_planted_regression_stops_the_loop(folder):
    answers(folder / "answers" / "round1.jsonl", "round1", [LOOP] * 9 + [GOOD.format(number) for number in range(3)])
    answers(folder / "answers" / "round2.jsonl", "round2", [GOOD.format(number) for number in range(12)])
    runs = [folder / f"round{number}" for number in range(3)]
    command = [
        sys.executable,
        "scripts/rounds.py",
        *runs,
        "--answers",
        folder / "answers",
        "--output_dir",
        folder / "out",
    ]
    done = run_command(*command, check=False)
    assert done.returncode == 1
    assert "significantly worse: loops" in done.stdout and "The best round is round0." in done.stdout
    record = read_json(folder / "out" / "rounds.json")
    assert [one["name"] for one in record["rounds"]] == ["round0", "round1"]
    assert "loops" in record["rounds"][1]["regressions"]
    assert (record["best"], record["stopped"]) == ("round0", True)
    assert "The loop stopped at a regression" in (folder / "out" / "rounds.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("rounds", "extra", "words"),
    [
        (["round0", "round9"], None, "there are no answers of round9"),
        (["round0"], "other", "one system, the base, must be no round; got base, other"),
    ],
)
def test_mistakes_are_one_message(call_script, folder, rounds, extra, words):
    if extra:
        answers(folder / "answers" / f"{extra}.jsonl", extra, [LOOP] * 12)
    with pytest.raises(PreferansError) as caught:
        compare(call_script, folder, *rounds)
    assert words in str(caught.value)


@pytest.mark.timeout(1800)  # some twenty processes one after another, three of which train
def test_two_rounds_that_stop_and_resume(tiny_llama, tmp_path):
    """A random model has no good answer, so every round stops at its pairs; it is given some, and the same command continues."""
    for name in ("scripts", "data_builders", "accelerate_configs", "recipes"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "self_align.sh").write_bytes((ROOT / "runs" / "self_align.sh").read_bytes())
    build = [
        "data_builders/oasst1_ru.py",
        "--source",
        SAMPLE,
        "--test_size",
        "0.1",
        "--output_dir",
        tmp_path / "pairs",
    ]
    run_command(sys.executable, *build)
    keys = KEYS | {"model_name_or_path": tiny_llama, "dataset_name": tmp_path / "pairs"}
    keys |= {"output_dir": "unused", "max_steps": 1}
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text("".join(f"{name}: {value}\n" for name, value in keys.items()), encoding="utf-8")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "GENERATE_ARGS": "--use_cpu --max_new_tokens 4 --max_prompts 8",
    }

    def align(check: bool):
        return run_command(
            "sh", tmp_path / "runs" / "self_align.sh", recipe, tmp_path / "pairs", check=check, env=environment
        )

    for number in (1, 2):
        stopped = align(check=False)
        assert stopped.returncode == 2 and "no prompt makes a pair" in stopped.stderr
        path = tmp_path / "answers" / "tiny_self" / f"several_{number}.jsonl"
        rows = read_jsonl(path)
        assert len(rows) == 4 * 8
        for order, row in enumerate(rows):
            row["answer"] = GOOD.format(order) if order % 4 else LOOP
            row["finish_reason"] = "stop"
        write_jsonl(path, rows)
    finished = align(check=False)
    record = read_json(tmp_path / "reports" / "tiny_self" / "rounds.json")
    assert finished.returncode == int(record["stopped"]), finished.stderr
    assert [one["name"] for one in record["rounds"]] == [f"tiny_self_round{number}" for number in range(3)]
    adapters = [(tmp_path / "runs" / f"tiny_self_round{number}" / "adapter_model.safetensors") for number in range(3)]
    assert len({adapter.read_bytes() for adapter in adapters}) == 3
    started = read_json(tmp_path / "runs" / "tiny_self_round2" / "provenance.json")["started_from"]
    assert "tiny_self_round1" in str(started)
