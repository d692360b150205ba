"""Files are whole or absent, and a broken file is named with its line."""

import gzip
import os

import pytest

from preferans.errors import PreferansError
from preferans.files import (
    checksums,
    decode_utf8,
    entries,
    is_stray,
    iter_jsonl,
    new_folder,
    numbered_jsonl,
    read_json,
    read_jsonl,
    read_yaml,
    sha256_of,
    write_bytes,
    write_json,
    write_jsonl,
    write_text,
)

from .support.full_disk import files_limited_to

ROWS = [{"id": "1", "text": "ёж"}, {"id": "2", "text": "a\nb"}]


def test_json_and_json_lines_are_read_as_written(tmp_path):
    write_json(tmp_path / "sub" / "value.json", {"ключ": [1, None]})
    assert read_json(tmp_path / "sub" / "value.json") == {"ключ": [1, None]}
    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    assert read_jsonl(tmp_path / "rows.jsonl") == list(iter_jsonl(tmp_path / "rows.jsonl")) == ROWS
    assert (tmp_path / "rows.jsonl").read_bytes().count(b"\n") == 2


def test_numbers_are_those_of_the_lines(tmp_path):
    (tmp_path / "rows.jsonl").write_text('\ufeff{"a": 1}\n\n{"a": 2}\n', encoding="utf-8")
    assert list(numbered_jsonl(tmp_path / "rows.jsonl")) == [(1, {"a": 1}), (3, {"a": 2})]


def test_packed_json_lines_are_unpacked(tmp_path):
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n'))
    assert read_jsonl(tmp_path / "rows.jsonl.gz") == [{"a": 1}]
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n')[:-9])
    with pytest.raises(PreferansError, match=r"cut\.jsonl\.gz"):
        read_jsonl(tmp_path / "cut.jsonl.gz")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n{"a": \n', "line 2: this is not valid JSON"),
        (b"[1, 2]\n", "line 1: expected a JSON object"),
        (b"[\n", "line 1.*write one object"),
        (b'{"a": 1}\n{"a": "\xff"}\n', "line 2: this is not UTF-8"),
    ],
)
def test_a_broken_line_is_named(content, message, tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(PreferansError, match=message):
        read_jsonl(tmp_path / "rows.jsonl")


def test_a_missing_or_broken_json_file_is_an_error(tmp_path):
    with pytest.raises(PreferansError, match="there is no such file"):
        read_json(tmp_path / "none.json")
    (tmp_path / "value.json").write_text("{")
    with pytest.raises(PreferansError, match="not valid JSON"):
        read_json(tmp_path / "value.json")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    write_text(tmp_path / "value.txt", "old\n")

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(tmp_path / "value.txt", b"new\n")
    assert [path.name for path in tmp_path.iterdir()] == ["value.txt"]
    assert (tmp_path / "value.txt").read_text() == "old\n"


def test_a_new_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "folder") as folder:
        (folder / "file").write_text("half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with new_folder(tmp_path / "folder") as folder:
        (folder / "file").write_text("whole")
    assert checksums(tmp_path / "folder") == {"file": sha256_of(tmp_path / "folder" / "file")}


def test_an_equal_folder_is_not_replaced(tmp_path):
    for _ in range(2):
        with new_folder(tmp_path / "folder") as folder:
            (folder / "file").write_text("whole")
        inode = os.stat(tmp_path / "folder").st_ino
    with new_folder(tmp_path / "folder") as folder:
        (folder / "file").write_text("whole")
    assert os.stat(tmp_path / "folder").st_ino == inode


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    left = tmp_path / ".value.txt.999999999-0123abcd"
    left.write_text("half")
    write_text(tmp_path / "value.txt", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["value.txt"]


def test_yaml_gives_values_and_lines(tmp_path):
    (tmp_path / "recipe.yaml").write_text("beta: 0.1\n\nname: x\n")
    assert read_yaml(tmp_path / "recipe.yaml") == ({"beta": 0.1, "name": "x"}, {"beta": 1, "name": 3})
    (tmp_path / "twice.yaml").write_text("beta: 0.1\nbeta: 0.2\n")
    with pytest.raises(PreferansError, match=r"twice\.yaml, line 2: 'beta'"):
        read_yaml(tmp_path / "twice.yaml")


def test_a_failed_replacement_leaves_the_old_folder(tmp_path, monkeypatch):
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "old.txt").touch()
    replace = os.replace

    def busy(source, target):  # as on Windows while another program has a file of the new folder open
        if str(source).endswith(".new"):
            raise PermissionError("in use")
        replace(source, target)

    monkeypatch.setattr(os, "replace", busy)
    with pytest.raises(PermissionError), new_folder(folder) as fresh:
        (fresh / "new.txt").touch()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["made", "made/old.txt"]


def test_decodes_utf8_or_names_the_file():
    assert decode_utf8("\ufeffёж".encode(), "x.txt") == "ёж"
    with pytest.raises(PreferansError, match=r"x\.txt: this is not UTF-8 text .* Save it as UTF-8"):
        decode_utf8(b"\xcf\xf0", "x.txt")


def test_the_likely_encoding_is_named():
    for text, encoding, words in (
        ("Привет, мир", "cp1251", "It looks like Windows-1251. Save it as UTF-8"),
        ("Привет, мир", "utf-16", "It looks like UTF-16. Save it as UTF-8"),
    ):
        with pytest.raises(PreferansError, match=words):
            decode_utf8(text.encode(encoding), "x.txt")
    with pytest.raises(PreferansError) as caught:
        decode_utf8("Привет".encode("cp866"), "x.txt")
    assert "looks like" not in str(caught.value)


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    for read in (read_json, read_jsonl, read_yaml):
        with pytest.raises(PreferansError, match="this is a folder"):
            read(tmp_path)


def test_json_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "x.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "x.json") == [1]


def test_files_of_file_managers_do_not_count(tmp_path):
    (tmp_path / "a.txt").touch()
    for name in (".DS_Store", "desktop.ini", "Thumbs.db", "._a.txt", "~$a.docx"):
        (tmp_path / name).touch()
        assert is_stray(tmp_path / name)
    assert list(checksums(tmp_path)) == ["a.txt"]


def test_a_folder_with_only_files_of_file_managers_is_empty(tmp_path):
    (tmp_path / "Thumbs.db").touch()
    assert entries(tmp_path) == []
    (tmp_path / "a").mkdir()
    assert entries(tmp_path) == [tmp_path / "a"]


def test_a_full_disk_leaves_the_old_file_and_folder(tmp_path):
    write_text(tmp_path / "file", "old")
    with new_folder(tmp_path / "folder") as folder:
        (folder / "part").write_text("old")
    with files_limited_to(4096):
        with pytest.raises(PreferansError, match=f"{tmp_path / 'file'}: the disk is full"):
            write_text(tmp_path / "file", "new" * 5000)
        with (
            pytest.raises(PreferansError, match=f"{tmp_path / 'folder'}: the disk is full"),
            new_folder(tmp_path / "folder") as folder,
        ):
            (folder / "part").write_text("new" * 5000)
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "part").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
