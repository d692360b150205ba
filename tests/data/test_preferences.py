import os

import pytest
from datasets import Dataset, load_dataset
from hypothesis import given
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from preferans.data.card import card_head
from preferans.data.folder import load_preferences, stored_fingerprint
from preferans.data.preferences import check_leakage, check_rows, fingerprint, row_problem
from preferans.data.tables import (
    answer_texts,
    as_texts,
    check_output_dir,
    length_table,
    preference_frame,
    split_by_tree,
    write_dataset,
)
from preferans.errors import PreferansError
from preferans.files import new_folder

from ..support.rows import preference
from ..support.tiny import ROOT


def said(text: str, role: str = "assistant") -> list[dict]:
    return [{"role": role, "content": text}]


def test_a_sound_row_has_no_problem():
    assert row_problem(preference(1)) is None


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"chosen": None}, "'chosen' is missing"),
        ({"rejected": []}, "'rejected' is missing"),
        ({"prompt": "Вопрос?"}, "'prompt' must be a list of messages"),
        ({"prompt": said("Ответ")}, "'prompt' must end with a message of the user"),
        ({"chosen": said("Да", "user")}, "'chosen' must be exactly one message of the assistant"),
        ({"chosen": said("Да") + said("Нет")}, "'chosen' must be exactly one message of the assistant"),
        ({"chosen": said(" \n")}, "'chosen' has a message without text"),
        ({"chosen": [{"role": "assistant", "content": None}]}, "'chosen' has a message without text"),
        ({"rejected": [{"role": "bot", "content": "Да"}]}, "'rejected' has a message with the role 'bot'"),
        ({"chosen": said("Да."), "rejected": said("Да. ")}, "the same text"),
        (
            {"prompt": said("Почему небо голубое?", "user"), "chosen": said("Почему небо голубое? Потому.")},
            "repeats the prompt",
        ),
    ],
)
def test_each_break_of_the_contract_is_named(changes, problem):
    assert problem in row_problem(preference(1, **changes))


def test_a_missing_column_is_a_missing_answer():
    row = preference(1)
    del row["chosen"]
    assert row_problem(row) == "'chosen' is missing"


def test_a_short_prompt_may_open_the_answer():
    assert row_problem(preference(1, prompt=said("Зачем?", "user"), chosen=said("Зачем? Затем."))) is None


def test_the_error_names_dataset_row_id_and_number():
    rows = [preference(1), preference(2, chosen=None), preference(3, rejected=None)]
    with pytest.raises(
        PreferansError, match=r"^data/x, split train, row 2 \(id c2:r2\): 'chosen' is missing. 2 rows of 3"
    ):
        check_rows(rows, "data/x, split train")
    with pytest.raises(PreferansError, match="not one row"):
        check_rows([], "data/x")


@given(st.lists(st.integers(0, 20), min_size=1, max_size=60), st.floats(0, 0.99), st.integers(0, 5))
def test_no_tree_stands_in_two_splits(trees, test_size, seed):
    rows = preference_frame([preference(i, message_tree_id=f"t{tree}") for i, tree in enumerate(trees)])
    splits = split_by_tree(rows, test_size, seed)
    found = {name: set(part["message_tree_id"]) for name, part in splits.items()}
    assert not found["train"] & found.get("test", set())
    assert sum(map(len, splits.values())) == len(rows)
    backwards = split_by_tree(rows[::-1], test_size, seed)
    assert {name: set(part["id"]) for name, part in splits.items()} == {
        name: set(part["id"]) for name, part in backwards.items()
    }


def test_the_split_is_seeded_and_has_the_asked_size():
    rows = preference_frame([preference(i) for i in range(40)])
    first, again, other = (split_by_tree(rows, 0.25, seed) for seed in (1, 1, 2))
    assert first["test"].equals(again["test"])
    assert not first["test"].equals(other["test"])
    assert (len(first["train"]), len(first["test"])) == (30, 10)
    assert list(split_by_tree(rows, 0, 1)) == ["train"]


def test_leakage_is_refused():
    train, test = Dataset.from_list([preference(1)]), Dataset.from_list([preference(2, message_tree_id="tree1")])
    with pytest.raises(PreferansError, match="1 conversation trees stand both .* tree1"):
        check_leakage(train, test, "data/x")
    check_leakage(train, Dataset.from_list([preference(2)]), "data/x")


def test_the_fingerprint_depends_on_every_value():
    splits = {"train": [preference(1)], "test": [preference(2)]}
    same = fingerprint({"test": [dict(reversed(preference(2).items()))], "train": [preference(1)]})
    assert fingerprint(splits) == same
    assert fingerprint(splits) != fingerprint({"train": [preference(1)], "test": [preference(2, chosen_rank=1)]})
    assert fingerprint({"train": [preference(1, source="\ud800")]})  # a lone surrogate


def test_texts_are_what_the_plain_template_makes_of_messages():
    turns = [*said("Кто ты?", "user"), *said("Помощник."), *said("А точнее?", "user")]
    frame = preference_frame([preference(1), preference(2, prompt=turns)])
    source = (ROOT / "recipes" / "chat_templates" / "plain_ru.jinja").read_text(encoding="utf-8").rstrip("\n")
    template = ImmutableSandboxedEnvironment().from_string(source)

    def render(messages, **options):
        return template.render(messages=messages, bos_token="", eos_token="", **options)

    for row, text in zip(frame.to_dicts(), as_texts(frame).to_dicts(), strict=True):
        assert text["prompt"] == render(row["prompt"], add_generation_prompt=True)
        for column in ("chosen", "rejected"):
            assert text["prompt"] + text[column] + "\n" == render(row["prompt"] + row[column])
        assert row_problem(text) is None


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"chosen": " "}, "'chosen' has no text"),
        ({"chosen": "да", "rejected": " да"}, "the same text"),
        ({"prompt": "Почему небо голубое? ", "chosen": "Почему небо голубое? Потому."}, "repeats the prompt"),
        ({"rejected": None}, "'rejected' is missing"),
    ],
)
def test_texts_have_the_same_contract(changes, problem):
    row = {"prompt": "Вопрос", "chosen": "да", "rejected": "нет"}
    assert row_problem(row) is None
    assert problem in row_problem(row | changes)


def test_lengths():
    rows = [
        preference(1, chosen=said("абвг"), rejected=said("аб")),
        preference(2, chosen=said("аб"), rejected=said("абвг")),
    ]
    rows.append(preference(3, chosen=said("абв"), rejected=said("аб")))
    expected = {
        "chosen_mean": 3,
        "rejected_mean": 8 / 3,
        "chosen_median": 3,
        "rejected_median": 2,
        "chosen_p95": 3,
        "rejected_p95": 2,
        "chosen_longer": 2 / 3,
    }
    frame = preference_frame(rows)
    assert length_table(frame) == pytest.approx(expected)
    texts = frame.with_columns(chosen=answer_texts("chosen", frame), rejected=answer_texts("rejected", frame))
    assert length_table(texts) == pytest.approx(expected)


def write(folder, splits: dict[str, list[dict]], note: str = "") -> bool:
    frames = {name: preference_frame(rows) for name, rows in splits.items()}
    head = card_head("Pairs", frames, "ru", "other", [])
    return write_dataset(folder, frames, f"{head}\n{note}- fingerprint: `{fingerprint(splits)}`\n")


def test_a_written_folder_is_what_load_dataset_reads(tmp_path):
    splits = {"train": [preference(1), preference(2)], "test": [preference(3)]}
    folder = tmp_path / "made"
    assert write(folder, splits)
    loaded = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {name: part.to_list() for name, part in loaded.items()} == splits
    assert stored_fingerprint(folder) == fingerprint(splits)
    assert sorted(path.name for path in folder.rglob("*")) == [
        "README.md",
        "data",
        "test-00000-of-00001.parquet",
        "train-00000-of-00001.parquet",
    ]
    first = (folder / "data" / "train-00000-of-00001.parquet").read_bytes()
    assert not write(folder, splits)
    assert write(folder, splits, "another card\n")
    assert (folder / "data" / "train-00000-of-00001.parquet").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_somebody_elses_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("…", encoding="utf-8")
    with pytest.raises(PreferansError, match=r"holds something else \(thesis.txt\)"):
        check_output_dir(tmp_path)
    with pytest.raises(PreferansError, match=r"thesis\.txt is a file"):
        check_output_dir(tmp_path / "thesis.txt" / "deeper")
    project = tmp_path / "project"
    (project / "data").mkdir(parents=True)
    for name in ("README.md", "data/mine.parquet"):
        (project / name).write_bytes(b"mine")
    with pytest.raises(PreferansError, match="holds something else"):
        check_output_dir(project)
    check_output_dir(tmp_path / "absent")


def test_a_failed_replacement_leaves_the_old_folder(tmp_path, monkeypatch):
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "old.txt").touch()
    plain = os.replace

    def busy(source, target):  # as on Windows, while another program has a file of the new folder open
        if str(source).endswith(".new"):
            raise PermissionError("in use")
        plain(source, target)

    monkeypatch.setattr(os, "replace", busy)
    with pytest.raises(PermissionError), new_folder(folder) as fresh:
        (fresh / "new.txt").touch()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["made", "made/old.txt"]


def test_a_folder_is_read_as_it_is_now(tmp_path):
    """`datasets` caches a local folder with a card by its name alone, whatever stands in it."""
    for parent, rows in (("a", [preference(1)]), ("b", [preference(2), preference(3)]), ("a", [preference(4)])):
        write(tmp_path / parent / "pairs", {"train": rows})
        assert load_preferences(str(tmp_path / parent / "pairs"))["train"].to_list() == rows


def test_a_missing_dataset_is_one_error(tmp_path):
    with pytest.raises(PreferansError, match="there is no such folder here"):
        load_preferences(str(tmp_path / "absent"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(PreferansError, match="cannot be read as a dataset"):
        load_preferences(str(tmp_path / "empty"))
