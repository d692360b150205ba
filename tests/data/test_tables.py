import pytest
from datasets import load_dataset
from hypothesis import given
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from preferans.data import tables
from preferans.data.preferences import fingerprint, row_problem
from preferans.data.tables import (
    answer_texts,
    as_texts,
    check_output_dir,
    length_table,
    preference_frame,
    read_parquet_rows,
    split_by_tree,
    stored_fingerprint,
    write_dataset,
)
from preferans.errors import PreferansError

from ..support.pairs import messages
from ..support.rows import preference, write_preferences
from ..support.tiny import ROOT


@given(st.lists(st.integers(0, 20), min_size=1, max_size=60), st.floats(0, 0.99), st.integers(0, 5))
def test_no_tree_is_in_two_splits(trees, test_size, seed):
    rows = preference_frame([preference(i, message_tree_id=f"t{tree}") for i, tree in enumerate(trees)])
    splits = split_by_tree(rows, test_size, seed)
    found = {name: set(part["message_tree_id"]) for name, part in splits.items()}
    assert not found["train"] & found.get("test", set())
    assert sum(map(len, splits.values())) == len(rows)
    backwards = split_by_tree(rows[::-1], test_size, seed)
    assert {name: set(part["id"]) for name, part in splits.items()} == {
        name: set(part["id"]) for name, part in backwards.items()
    }


def test_the_split_is_seeded_and_has_the_requested_size():
    rows = preference_frame([preference(i) for i in range(40)])
    first, again, other = (split_by_tree(rows, 0.25, seed) for seed in (1, 1, 2))
    assert first["test"].equals(again["test"])
    assert not first["test"].equals(other["test"])
    assert (len(first["train"]), len(first["test"])) == (30, 10)
    assert list(split_by_tree(rows, 0, 1)) == ["train"]


def test_texts_are_formatted_as_by_the_plain_template():
    turns = [*messages("Кто ты?", "user"), *messages("Помощник."), *messages("А точнее?", "user")]
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


def test_compares_lengths():
    rows = [
        preference(1, chosen=messages("абвг"), rejected=messages("аб")),
        preference(2, chosen=messages("аб"), rejected=messages("абвг")),
    ]
    rows.append(preference(3, chosen=messages("абв"), rejected=messages("аб")))
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


def test_load_dataset_reads_a_written_folder(tmp_path):
    splits = {"train": [preference(1), preference(2)], "test": [preference(3)]}
    folder = tmp_path / "made"
    assert write_preferences(folder, splits)
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
    assert not write_preferences(folder, splits)
    assert write_preferences(folder, splits, "another card\n")
    assert (folder / "data" / "train-00000-of-00001.parquet").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_fingerprint_is_read_from_the_card(tmp_path):
    splits = {"train": [preference(1)]}
    assert stored_fingerprint(tmp_path / "pairs") is None
    write_preferences(tmp_path / "pairs", splits)
    assert stored_fingerprint(tmp_path / "pairs") == fingerprint(splits)
    (tmp_path / "pairs" / "data" / "train-00000-of-00001.parquet").unlink()
    assert stored_fingerprint(tmp_path / "pairs") is None


def test_refuses_to_replace_other_folders(tmp_path):
    (tmp_path / "thesis.txt").write_text("…", encoding="utf-8")
    with pytest.raises(PreferansError, match=r"holds something else \(thesis.txt\)"):
        check_output_dir(tmp_path)
    (tmp_path / "many").mkdir()
    for number in range(9):
        (tmp_path / "many" / f"{number}.txt").touch()
    with pytest.raises(PreferansError, match=r"\(0\.txt, 1\.txt, 2\.txt, 3\.txt, 4\.txt, …\)"):
        check_output_dir(tmp_path / "many")
    with pytest.raises(PreferansError, match=r"thesis\.txt is a file"):
        check_output_dir(tmp_path / "thesis.txt" / "deeper")
    project = tmp_path / "project"
    (project / "data").mkdir(parents=True)
    for name in ("README.md", "data/mine.parquet"):
        (project / name).write_bytes(b"mine")
    with pytest.raises(PreferansError, match="holds something else"):
        check_output_dir(project)
    check_output_dir(tmp_path / "absent")
    write_preferences(tmp_path / "pairs", {"train": [preference(1)]})
    for name in (".DS_Store", "data/desktop.ini", "data/Thumbs.db"):
        (tmp_path / "pairs" / name).touch()
    check_output_dir(tmp_path / "pairs")


def test_many_rows_are_split_into_files(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROWS_PER_FILE", 2)
    rows = [preference(number) for number in range(3)]
    assert write_dataset(tmp_path / "pairs", {"train": preference_frame(rows)}, "card")
    files = sorted((tmp_path / "pairs" / "data").iterdir())
    assert [file.name for file in files] == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    assert [row for file in files for row in read_parquet_rows(file)] == rows


def test_a_damaged_parquet_file_is_an_error(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(PreferansError, match=r"x\.parquet: this is not a readable parquet file"):
        read_parquet_rows(tmp_path / "x.parquet")
