"""JSON lines that grow and can be resumed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferans.errors import PreferansError
from preferans.files import read_jsonl
from preferans.resumable import ResumableRows

from .support.full_disk import files_limited_to


def rows_of(path) -> ResumableRows:
    return ResumableRows(path, lambda row, location: row["id"], "row")


def test_each_row_is_on_disk_before_the_next_one(tmp_path):
    path = tmp_path / "new" / "rows.jsonl"
    with rows_of(path).appending() as append:
        for number in range(3):
            append({number: {"id": number}})
            assert [row["id"] for row in read_jsonl(path)] == list(range(number + 1))


def test_in_order_rewrites_the_file(tmp_path):
    rows = rows_of(tmp_path / "rows.jsonl")
    with rows.appending() as append:
        append({2: {"id": 2}, 1: {"id": 1}})
    assert rows.in_order([1, 2, 3]) == read_jsonl(tmp_path / "rows.jsonl") == [{"id": 1}, {"id": 2}]


@given(cut=st.integers(min_value=1))
def test_a_truncated_last_line_is_dropped(cut, tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    line = json.dumps({"id": 2, "text": "Да, это так."}, ensure_ascii=False).encode()
    path.write_bytes(b'{"id": 1}\n' + line[: cut % len(line)])
    rows = rows_of(path)
    assert list(rows.rows) == [1]
    with rows.appending() as append:
        append({2: {"id": 2}})
    assert read_jsonl(path) == [{"id": 1}, {"id": 2}]


def test_a_broken_line_before_the_end_is_an_error(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"id": \n{"id": 1}\n', encoding="utf-8")
    with pytest.raises(PreferansError, match=r"rows\.jsonl, line 1: this is not a valid row"):
        rows_of(tmp_path / "rows.jsonl")


def test_a_folder_is_an_error(tmp_path):
    with pytest.raises(PreferansError, match="this is a folder"):
        rows_of(tmp_path)


def test_a_full_disk_is_named_and_the_complete_rows_stay(tmp_path):
    rows = rows_of(tmp_path / "rows.jsonl")
    limit = files_limited_to(4096)
    with limit, pytest.raises(PreferansError, match=r"rows\.jsonl: the disk is full"), rows.appending() as append:
        append({1: {"id": 1}})
        append({2: {"id": 2, "text": "x" * 5000}})
    assert list(rows_of(tmp_path / "rows.jsonl").rows) == [1]
