"""Local datasets as people have them: names, separators and encodings that `datasets` alone cannot read, and damaged files."""

import csv
import gzip
import io
import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preferans.data.folder import load_preferences, readable_name
from preferans.data.formats import read_dataset
from preferans.data.local_files import dataset_files, readable_folder
from preferans.errors import PreferansError
from preferans.files import checksums, write_json, write_jsonl

from ..support.rows import preference

ROWS = [preference(number) for number in range(3)]
TEXTS = [{"prompt": f"Вопрос {number};\nещё", "chosen": "Да, «так».", "rejected": "Нет"} for number in range(2)]


def csv_text(separator: str) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(TEXTS[0]), delimiter=separator)
    writer.writeheader()
    writer.writerows(TEXTS)
    return out.getvalue()


def refused(name) -> str:
    with pytest.raises(PreferansError) as caught:
        load_preferences(str(name))
    return str(caught.value)


@pytest.mark.parametrize("folder_name", ["pairs[v2]", "pairs*", "пары (1)", "pairs?"])
def test_a_folder_may_have_any_name(folder_name, tmp_path):
    folder = tmp_path / folder_name
    folder.mkdir()
    write_jsonl(folder / "train.jsonl", ROWS[:2])
    write_jsonl(folder / "test.jsonl", ROWS[2:])
    for loaded in (load_preferences(str(folder)), read_dataset(str(folder))):
        assert {name: list(rows) for name, rows in loaded.items()} == {"train": ROWS[:2], "test": ROWS[2:]}


def test_a_copy_is_made_and_read_once(tmp_path):
    write_jsonl(tmp_path / "train[1].jsonl", ROWS)
    first, second = (load_preferences(str(tmp_path))["train"] for _ in range(2))
    assert first.cache_files == second.cache_files and first._fingerprint == second._fingerprint
    folder, _ = readable_name(str(tmp_path))
    assert list(checksums(folder)) == ["train_1_.jsonl"]


@pytest.mark.parametrize(
    "names",
    [
        ("train.JSONL", "test.JSONL"),
        ("Train.jsonl", "Test.jsonl"),
        ("TRAIN.JSONL", "TEST.JSONL"),
        ("train-[v2].jsonl", "test-[v2].jsonl"),
    ],
)
def test_names_of_files_in_capital_letters_and_with_brackets_are_read(names, tmp_path):
    write_jsonl(tmp_path / names[0], ROWS[:2])
    write_jsonl(tmp_path / names[1], ROWS[2:])
    for loaded in (load_preferences(str(tmp_path)), read_dataset(str(tmp_path))):
        assert {name: list(rows) for name, rows in loaded.items()} == {"train": ROWS[:2], "test": ROWS[2:]}


@pytest.mark.parametrize(
    "name", ["pairs.jsonl", "pairs.JSONL", "pairs.json", "bom.json", "pairs.parquet", "a.b.jsonl", "x.jsonl.gz"]
)
def test_training_and_the_check_read_the_same_single_files(name, tmp_path):
    path = tmp_path / name
    if "parquet" in name:
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif name.endswith(".gz"):
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode()))
    elif "jsonl" in name.lower():
        write_jsonl(path, ROWS)
    else:
        write_json(path, ROWS)
    if name == "bom.json":
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_dataset(str(path)) == {"train": ROWS}
    assert load_preferences(str(path))["train"].to_list() == ROWS


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_csv_is_read_with_each_separator(separator, mark, tmp_path):
    (tmp_path / "train.csv").write_bytes(mark + csv_text(separator).encode())
    for name in (tmp_path, tmp_path / "train.csv"):
        assert load_preferences(str(name))["train"].to_list() == TEXTS
        assert read_dataset(str(name)) == {"train": TEXTS}


def test_files_of_file_managers_are_ignored(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", ROWS)
    for name in (".DS_Store", "desktop.ini", "Thumbs.db", "._train.jsonl", "~$train.csv"):
        (tmp_path / name).write_bytes(b"\x00\xcf\xf0")
    assert load_preferences(str(tmp_path))["train"].to_list() == ROWS
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "index.json").write_bytes(b"\xcf\xf0")
    assert dataset_files(tmp_path) == [tmp_path / "train.jsonl"]
    assert load_preferences(str(tmp_path))["train"].to_list() == ROWS


def test_files_with_the_same_name_in_other_letters_are_refused(tmp_path):
    write_jsonl(tmp_path / "train[1].jsonl", ROWS)
    write_jsonl(tmp_path / "train_1_.jsonl", ROWS)
    assert "train[1].jsonl differs from another file only in" in refused(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train.jsonl", '{"prompt": "Привет всем"}\n'.encode("cp1251"), "train.jsonl, line 1: this is not UTF-8 text .* looks like Windows-1251. Save"),
        ("train.jsonl", '{"prompt": "Привет"}\n'.encode("utf-16"), "train.jsonl, line 1: this is not UTF-8 text .* looks like UTF-16. Save"),
        ("train.csv", csv_text(";").encode("cp1251"), "train.csv, line 2: this is not UTF-8 text .* looks like Windows-1251. Save"),
        ("train.csv", csv_text("\t").encode("utf-16"), "train.csv, line 1: this is not UTF-8 text .* looks like UTF-16. Save"),
        ("train.csv", b'prompt,chosen\n"a,b\n', "train.csv: this file cannot be read"),
        ("train.csv", b"prompt,chosen,rejected\n", "the dataset is empty"),
        ("train.jsonl", b'{"prompt": "a"}\n{"prompt": ', "train.jsonl, line 2: this is not valid JSON"),
        ("train.json", b'[{"prompt": "a"}, ', "train.json: this is not valid JSON"),
        ("train.parquet", b"PAR1 and no more", "train.parquet: this file cannot be read .* Write or download it again"),
        ("train.jsonl", b"", "train.jsonl: the file is empty"),
        ("train.jsonl", b"null\n", "train.jsonl, line 1: expected a JSON object, got null"),
        ("train.jsonl", b'{"prompt": "a"}\n null\n', "train.jsonl, line 2: expected a JSON object, got null"),
        ("train.json", b"\n\nnull\n", "train.json, line 3: expected a JSON object, got null"),
        ("train.jsonl.gz", gzip.compress(b"null", mtime=0), "train.jsonl.gz, line 1: expected a JSON object, got null"),
        ("train.parquet", b"version https://git-lfs.github.com/spec/v1\n", "train.parquet: this is a pointer of Git LFS .* git lfs pull"),
        ("train.jsonl", b"<!DOCTYPE html>\n<html>", "train.jsonl: this is a web page"),
        ("train.jsonl.gz", gzip.compress(b'{"prompt": "a"}\n', mtime=0)[:-9], "train.jsonl.gz: this archive cannot be unpacked"),
        ("pairs.xlsx", b"PK", "the folder has no file that ends in .jsonl"),
        ("README.md", "# Данные и пары\n".encode("cp1251"), "README.md, line 1: this is not UTF-8 text"),
        ("README.md", b"---\nconfigs: [\n---\n", "in the header of README.md"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named(name, content, words, tmp_path):
    if name == "README.md":
        write_jsonl(tmp_path / "train.jsonl", ROWS)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PreferansError, match=words):
        load_preferences(str(tmp_path))


def test_a_file_of_another_kind_and_an_empty_folder_are_named(tmp_path):
    (tmp_path / "pairs.xlsx").touch()
    assert "pairs.xlsx: a file must end in .jsonl" in refused(tmp_path / "pairs.xlsx")
    (tmp_path / "empty").mkdir()
    assert "the folder has no file that ends in" in refused(tmp_path / "empty")


def test_rows_of_mixed_types_lead_to_the_check(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", ROWS[:2])
    write_jsonl(tmp_path / "test.jsonl", [ROWS[2] | {"prompt": "Текст?"}, {"prompt": "Текст?"}])
    assert "this cannot be read as a dataset" in refused(tmp_path) and f"scripts/check_data.py {tmp_path}" in refused(
        tmp_path
    )
    assert len(read_dataset(str(tmp_path))["test"]) == 2


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    write_jsonl(tmp_path / "train.jsonl", ROWS)
    (tmp_path / "file").touch()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "file" / "cache")
    assert "HF_DATASETS_CACHE" in refused(tmp_path) and "cannot be read" not in refused(tmp_path)


def test_a_configuration_that_does_not_exist_is_named(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", ROWS)
    with pytest.raises(PreferansError, match="dataset_config names no configuration"):
        load_preferences(str(tmp_path), "clean")


CELLS = st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]), max_size=8)


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=4), st.sampled_from([";", "\t"]))
def test_a_copy_with_commas_has_the_same_cells(tmp_path_factory, rows, separator):
    folder = tmp_path_factory.mktemp("cells")
    file, table = folder / "train.csv", [("prompt", "chosen", "rejected"), *rows]
    with open(file, "w", encoding="utf-8", newline="") as out:
        csv.writer(out, delimiter=separator).writerows(table)
    copy = readable_folder(str(file), [file], folder)
    with open(f"{copy}/train.csv", encoding="utf-8", newline="") as opened:
        assert list(map(tuple, csv.reader(opened))) == table


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["prompt", "chosen", "a"]), inner),
    max_leaves=5,
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(["train.jsonl", "train.json", "train.csv", "train.tsv", "train.parquet", "train.jsonl.gz"]),
    st.binary(max_size=30)
    | st.lists(JSON, max_size=3).map(lambda rows: "\n".join(map(json.dumps, rows)).encode())
    | st.text('a;,"\n\t{}[]:1', max_size=30).map(str.encode),
)
def test_any_file_is_read_or_refused(tmp_path_factory, name, content):
    file = tmp_path_factory.mktemp("any") / name
    file.write_bytes(content)
    for path in (file, file.parent):
        try:
            for rows in load_preferences(str(path)).values():
                rows.to_list()
        except PreferansError as error:
            assert name in str(error) or str(path) in str(error)
        try:
            read_dataset(str(path))
        except PreferansError as error:
            assert name in str(error) or str(path) in str(error)
