"""The builder of human replies against a model's own answers, as a command with a tiny model."""

import sys
from collections import Counter

import pytest
from datasets import load_dataset

from preferans.errors import PreferansError
from preferans.files import read_jsonl, write_jsonl

from ..support.commands import run_command
from ..support.rows import message
from ..support.tiny import SAMPLE, make_parrot


@pytest.fixture
def command(tmp_path, tiny_llama):
    def make(folder: str, *options) -> list:
        return [
            "data_builders/oasst1_ru_sampled.py",
            *["--source", SAMPLE, "--max_prompts", "6", "--model_name_or_path", tiny_llama, "--use_cpu"],
            *["--batch_size", "4", "--max_new_tokens", "8", "--answers", tmp_path / folder / "answers.jsonl"],
            *["--output_dir", tmp_path / folder / "pairs", *options],
        ]

    return make


def rows_of(folder, cache) -> list[dict]:
    splits = load_dataset(str(folder), cache_dir=str(cache))
    return sorted((row for split in splits.values() for row in split.to_list()), key=lambda row: row["id"])


def test_resumes_after_every_kill_and_gives_the_same_dataset(tmp_path, command, call_script):
    call_script(*command("whole"))
    # killed while it saves the first batch, the whole file of answers, and the finished dataset
    for write, answers in ((2, 4), (3, 6), (4, 6)):
        done = run_command(sys.executable, "tests/support/killed.py", write, *command("killed"), check=False)
        assert done.returncode == 137
        assert (tmp_path / "killed" / "answers.jsonl").read_text(encoding="utf-8").count("\n") == answers
        assert not (tmp_path / "killed" / "pairs").exists()
    call_script(*command("killed"))
    for name in ("answers.jsonl", "pairs/data/train-00000-of-00001.parquet", "pairs/data/test-00000-of-00001.parquet"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    ids = [row["id"] for row in read_jsonl(tmp_path / "killed" / "answers.jsonl")]
    assert len(ids) == len(set(ids)) == 6
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == ["answers.jsonl", "pairs"]


def test_picks_among_several_samples(tmp_path, command, call_script, capsys):
    picked = {}
    for pick in ("all", "closest_length", "random"):
        # the samples are the same, only the choice differs
        options = ["--num_samples", "3", "--pick", pick, "--answers", tmp_path / "answers.jsonl"]
        call_script(*command(pick, *options))
        picked[pick] = {row["id"]: row for row in rows_of(tmp_path / pick / "pairs", tmp_path / "cache" / pick)}
    by_reply = Counter(name.split(":")[0] for name in picked["all"])
    assert len(by_reply) == 6
    assert max(by_reply.values()) == 3
    for pick in ("closest_length", "random"):
        assert picked[pick].keys() <= picked["all"].keys()
        assert set(Counter(name.split(":")[0] for name in picked[pick]).values()) == {1}
    for name, row in picked["closest_length"].items():
        chosen = len(row["chosen"][0]["content"])
        lengths = [
            abs(len(other["rejected"][0]["content"]) - chosen)
            for other_name, other in picked["all"].items()
            if other_name.split(":")[0] == name.split(":")[0]
        ]
        assert abs(len(row["rejected"][0]["content"]) - chosen) == min(lengths)
        assert row["source"] == "oasst+llama"
        assert row["rejected_rank"] is None
    card = (tmp_path / "all" / "pairs" / "README.md").read_text(encoding="utf-8")
    assert "| sampled | 18 |" in card
    assert "max_new_tokens `8`" in card
    assert str(tmp_path) not in card


def test_more_samples_keep_the_finished_ones(tmp_path, command, call_script):
    answers = tmp_path / "answers.jsonl"
    call_script(*command("x", "--num_samples", "2", "--answers", answers))
    before = {row["id"]: row["answer"] for row in read_jsonl(answers)}
    call_script(*command("x", "--num_samples", "3", "--max_prompts", "9", "--answers", answers))
    after = {row["id"]: row["answer"] for row in read_jsonl(answers)}
    assert len(after) == 27
    assert before.items() <= after.items()


def test_the_random_pick_depends_on_the_seed(tmp_path, command, call_script):
    picked = {}
    for seed in (1, 2, 1):
        rows = command(f"s{seed}", "--num_samples", "4", "--seed", seed, "--test_size", "0")
        call_script(*rows)
        ids = [row["id"] for row in rows_of(tmp_path / f"s{seed}" / "pairs", tmp_path / "cache" / str(seed))]
        assert picked.setdefault(seed, ids) == ids
    assert picked[1] != picked[2]
    assert {name[-1] for name in picked[1] + picked[2]} != {"0"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--num_samples", "0"], "--num_samples 0"),
        (["--num_samples", "2", "--temperature", "0"], "gives the same sample every time"),
        (["--lang", "ca"], "no prompt with a valid reply is left for --lang ca"),
        (["--model_name_or_path", "absent/model/folder"], "there is no such folder"),
        (["--adapter", "absent"], "this folder has no adapter"),
    ],
)
def test_refuses_mistakes_before_a_model_is_loaded(command, call_script, options, words):
    with pytest.raises(PreferansError, match=words):
        call_script(*command("x", *options))


def test_empty_samples_make_no_dataset(tmp_path, command, call_script, monkeypatch):
    rows = [message("q", text="Кто ты?"), message("a", "q", rank=0)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    monkeypatch.setattr(
        "preferans.models.sampler.Sampler.answer",
        lambda *_: [
            {
                "id": "a#0",
                "prompt": [{"role": "user", "content": "Кто ты?"}],
                "answer": "",
                "finish_reason": "stop",
                "model": "x",
            }
        ],
    )
    with pytest.raises(PreferansError, match="No sample can be a rejected answer"):
        call_script(*command("x", "--source", tmp_path / "rows.jsonl"))


def test_a_models_thinking_is_not_in_rejected_answers(tmp_path, command, call_script):
    thinker = make_parrot(tmp_path / "thinker", "<think>Хм, спрашивают.</think>Не знаю.")
    call_script(*command("thinker", "--model_name_or_path", thinker))
    rejected = {row["rejected"][0]["content"] for row in rows_of(tmp_path / "thinker" / "pairs", tmp_path / "cache")}
    assert rejected == {"Не знаю."}
