"""Human replies against a model's own answers: the library's part, and the builder with a tiny model."""

import sys
from collections import Counter

import pytest
from datasets import load_dataset
from hypothesis import given
from hypothesis import strategies as st

from preferans.data.oasst import best_replies
from preferans.data.oasst_rule import PairingRule
from preferans.data.oasst_source import OASST_COLUMNS, read_rows
from preferans.data.sampled import SAMPLE_DROP_REASONS, tidy_sample
from preferans.errors import PreferansError
from preferans.files import read_jsonl, write_jsonl

from ..scripts.test_pipeline import script
from ..support.rows import message
from ..support.tiny import SAMPLE

QUESTION = "Почему небо днём голубое?"


def sample(text: str, finish_reason: str = "stop") -> dict:
    return {"answer": text, "prompt": [{"role": "user", "content": QUESTION}], "finish_reason": finish_reason}


@pytest.mark.parametrize(
    ("answer", "text", "events"),
    [
        (sample(" Из-за рассеяния. "), "Из-за рассеяния.", []),
        (sample("Из-за рассе", "length"), "Из-за", ["word_cut"]),
        (sample("Это «рассе", "length"), "Это", ["word_cut"]),
        (sample("Рассеяние.", "length"), "Рассеяние.", []),
        (sample("Рассе", "length"), "Рассе", []),
        (sample(f"{QUESTION} Рассеяние."), "Рассеяние.", ["echo_cut"]),
        (sample(f"Вопрос: {QUESTION}\nОтвет: Рассеяние."), "Рассеяние.", ["echo_cut"]),
        (sample("Рассеяние.\nВопрос: А ночью?\nОтвет: Тем", "length"), "Рассеяние.", ["turn_cut"]),
        (sample(QUESTION), None, ["echo_cut", "only_echo"]),
        (sample(""), None, ["empty"]),
        (sample("…\n—"), None, ["empty"]),
        (sample("Хороший ответ."), None, ["equal"]),
        (sample(f"{QUESTION} Хороший ответ."), None, ["echo_cut", "equal"]),
    ],
)
def test_a_sample_is_mended_or_left_out(answer, text, events):
    assert tidy_sample(answer, "Хороший ответ.") == (text, events)


@given(st.text(), st.sampled_from(["stop", "length"]))
def test_whatever_a_model_says_is_used_or_counted(text, finish_reason):
    made, events = tidy_sample(sample(text, finish_reason), "Хороший ответ.")
    assert (made is None) == (bool(events) and events[-1] in SAMPLE_DROP_REASONS)
    assert made is None or (made.strip() and made in text)


def test_the_best_reply_has_the_lowest_rank_or_is_the_only_one():
    import polars as pl

    rows = [
        message("q"),
        message("b", "q", rank=1),
        message("a", "q", rank=0),
        message("unranked", "q"),
        message("q2"),
        message("only", "q2"),
        message("q3"),
        message("one", "q3"),
        message("two", "q3"),
        message("q4"),
        message("gone", "q4", rank=0, deleted=True),
        message("left", "q4", rank=1),
        message("a", "q4", rank=0),
    ]
    replies, counts = best_replies([pl.DataFrame(rows, schema=OASST_COLUMNS)], PairingRule())
    assert [reply["id"] for reply in replies] == ["a", "only", "left"]
    assert [reply["chosen_rank"] for reply in replies] == [0, None, 1]
    assert replies[0]["prompt"] == [{"role": "user", "content": "Текст сообщения q"}]
    assert (counts["rows"], counts["prompts"]) == (13, 4)
    found = {reason: number for reason, number in counts["dropped"].items() if number}
    assert found == {"duplicate_id": 1, "deleted": 1, "unranked": 3}


def test_the_best_replies_of_real_rows_are_those_of_the_pairs(shared_data):
    from preferans.data.oasst import build_oasst_pairs

    def rows():
        return read_rows(str(shared_data / "oasst1_en_validation.jsonl"))

    rule = PairingRule(lang="en", turns="all")
    replies = {reply["id"]: reply for reply in best_replies(rows(), rule)[0]}
    pairs = build_oasst_pairs(rows(), rule, "never/made")[0].to_dicts()
    assert len(pairs) == 415
    for pair in pairs:
        reply = replies[pair["id"].split(":")[0]]
        assert (reply["prompt"], reply["chosen"]) == (pair["prompt"], pair["chosen"])


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


def test_killed_again_and_again_it_ends_in_the_same_dataset(tmp_path, command, call_script):
    call_script(*command("whole"))
    # as the first batch, the whole file of answers, and the finished dataset are about to be there for good
    for write, answers in ((2, 4), (3, 6), (4, 6)):
        done = script(sys.executable, "tests/support/killed.py", write, *command("killed"), check=False)
        assert done.returncode == 137
        assert (tmp_path / "killed" / "answers.jsonl").read_text(encoding="utf-8").count("\n") == answers
        assert not (tmp_path / "killed" / "pairs").exists()
    call_script(*command("killed"))
    for name in ("answers.jsonl", "pairs/data/train-00000-of-00001.parquet", "pairs/data/test-00000-of-00001.parquet"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    ids = [row["id"] for row in read_jsonl(tmp_path / "killed" / "answers.jsonl")]
    assert len(ids) == len(set(ids)) == 6
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == ["answers.jsonl", "pairs"]


def test_several_samples_and_which_is_taken(tmp_path, command, call_script, capsys):
    made = {}
    for pick in ("all", "closest_length", "random"):
        # the samples are the same: only the choice among them differs
        options = ["--num_samples", "3", "--pick", pick, "--answers", tmp_path / "answers.jsonl"]
        call_script(*command(pick, *options))
        made[pick] = {row["id"]: row for row in rows_of(tmp_path / pick / "pairs", tmp_path / "cache" / pick)}
    by_reply = Counter(name.split(":")[0] for name in made["all"])
    assert len(by_reply) == 6
    assert max(by_reply.values()) == 3
    for pick in ("closest_length", "random"):
        assert made[pick].keys() <= made["all"].keys()
        assert set(Counter(name.split(":")[0] for name in made[pick]).values()) == {1}
    for name, row in made["closest_length"].items():
        chosen = len(row["chosen"][0]["content"])
        lengths = [
            abs(len(other["rejected"][0]["content"]) - chosen)
            for other_name, other in made["all"].items()
            if other_name.split(":")[0] == name.split(":")[0]
        ]
        assert abs(len(row["rejected"][0]["content"]) - chosen) == min(lengths)
        assert row["source"] == "oasst+llama"
        assert row["rejected_rank"] is None
    card = (tmp_path / "all" / "pairs" / "README.md").read_text(encoding="utf-8")
    assert "| sampled | 18 |" in card
    assert "max_new_tokens `8`" in card
    assert str(tmp_path) not in card


def test_more_samples_keep_those_that_are_there(tmp_path, command, call_script):
    answers = tmp_path / "answers.jsonl"
    call_script(*command("x", "--num_samples", "2", "--answers", answers))
    before = {row["id"]: row["answer"] for row in read_jsonl(answers)}
    call_script(*command("x", "--num_samples", "3", "--max_prompts", "9", "--answers", answers))
    after = {row["id"]: row["answer"] for row in read_jsonl(answers)}
    assert len(after) == 27
    assert before.items() <= after.items()


def test_random_is_seeded_and_not_always_the_first(tmp_path, command, call_script):
    picked = {}
    for seed in (1, 2, 1):
        rows = command(f"s{seed}", "--num_samples", "4", "--seed", seed, "--test_size", "0")
        call_script(*rows)
        ids = [row["id"] for row in rows_of(tmp_path / f"s{seed}" / "pairs", tmp_path / "cache" / str(seed))]
        assert picked.setdefault(seed, ids) == ids
    assert picked[1] != picked[2]
    assert {name[-1] for name in picked[1] + picked[2]} != {"0"}


def test_a_finished_builder_killed_while_it_writes_leaves_a_whole_dataset_or_none(tmp_path, call_script):
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
    for write in range(1, 4):  # README.md, then the old folder away, then the new one in its place
        done = script(sys.executable, "tests/support/killed.py", write, *build("here/pairs", "all"), check=False)
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
        (["--num_samples", "0"], "--num_samples 0"),
        (["--num_samples", "2", "--temperature", "0"], "gives the same sample every time"),
        (["--lang", "ca"], "no prompt with a sound reply is left for --lang ca"),
        (["--model_name_or_path", "absent/model/folder"], "there is no such folder"),
        (["--adapter", "absent"], "there is no adapter in it"),
    ],
)
def test_mistakes_are_refused_before_a_model_is_loaded(command, call_script, options, words):
    with pytest.raises(PreferansError, match=words):
        call_script(*command("x", *options))


def test_samples_of_nothing_make_no_dataset(tmp_path, command, call_script, monkeypatch):
    rows = [message("q", text="Кто ты?"), message("a", "q", rank=0)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    monkeypatch.setattr(
        "preferans.models.generate.Sampler.answer", lambda *_: [sample("") | {"id": "a#0", "model": "x"}]
    )
    with pytest.raises(PreferansError, match="No sample can be a rejected answer"):
        call_script(*command("x", "--source", tmp_path / "rows.jsonl"))
