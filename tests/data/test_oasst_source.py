import gzip
import json
import re

import polars as pl
import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preferans.data.oasst_source import OASST_COLUMNS, read_rows
from preferans.data.preferences import row_problem
from preferans.errors import PreferansError

from ..support.rows import build, conversation, message


def read(path) -> pl.DataFrame:
    return pl.concat(read_rows(str(path))).drop("origin", "defect")


def test_parquet_jsonl_and_a_folder_give_the_same_rows(tmp_path):
    rows = conversation()
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.jsonl").write_text(
        "\n".join(json.dumps(row | {"extra": 1}) for row in rows), encoding="utf-8-sig"
    )
    Dataset.from_list(rows).to_parquet(tmp_path / "rows.parquet")
    for source in (tmp_path / "rows", tmp_path / "rows" / "a.jsonl", tmp_path / "rows.parquet"):
        assert read(source).to_dicts() == rows
    assert list(rows[0]) == list(OASST_COLUMNS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"message_id": "a"', ["line 1", "not valid JSON", "truncated"]),
        ('{"message_id": "a"}\n', ["line 1", "'parent_id' is missing"]),
        ("[1, 2]\n", ["line 1", "expected a JSON object"]),
        (json.dumps(message("a") | {"rank": "first"}) + "\n", ["line 1", "'rank' must be an integer", "'first'"]),
        (json.dumps(message("a") | {"rank": True}) + "\n", ["'rank' must be an integer, got True"]),
        (json.dumps(message("") | {"message_id": ""}) + "\n", ["'message_id' is empty"]),
        (
            json.dumps(message("a") | {"message_tree_id": None}) + "\n",
            ["line 1", "'message_tree_id' must be text, got None"],
        ),
        (
            json.dumps(message("a") | {"text": "\ud83d"}) + "\n",
            ["line 1", "'text' contains half a character", "lone surrogate"],
        ),
        ("", ["the source is empty"]),
    ],
)
def test_names_the_file_line_and_column_of_a_broken_row(tmp_path, text, words):
    path = tmp_path / "rows.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PreferansError) as caught:
        read(path)
    for word in ["rows.jsonl", *words]:
        assert word in str(caught.value)


def test_refuses_an_absent_or_unreadable_source(tmp_path):
    with pytest.raises(PreferansError, match="no such file or folder"):
        read(tmp_path / "absent.jsonl")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "folder.jsonl").mkdir()
    with pytest.raises(PreferansError, match=r"has no \.jsonl"):
        read(tmp_path / "empty")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 broken")
    with pytest.raises(PreferansError, match="not a readable parquet"):
        read(tmp_path / "x.parquet")


DAMAGES = {
    "missing column": lambda row, draw: row.pop(draw(st.sampled_from(list(OASST_COLUMNS))), None),
    "wrong type": lambda row, draw: row.update(
        {draw(st.sampled_from(list(OASST_COLUMNS))): draw(st.sampled_from([[1], {}, 1.5, True, 2**70]))}
    ),
    "empty id": lambda row, draw: row.update({draw(st.sampled_from(["message_id", "message_tree_id", "role"])): ""}),
    "circle": lambda row, draw: row.update(parent_id=row["message_id"]),
    "other parent": lambda row, draw: row.update(parent_id=draw(st.sampled_from("abcdefz"))),
    "another tree": lambda row, draw: row.update(message_tree_id="t9"),
    "long text": lambda row, draw: row.update(text="очень длинно " * 80_000),
    "lone surrogate": lambda row, draw: row.update(text="полсимвола \ud83d"),
    "line endings": lambda row, draw: row.update(text="раз\r\nдва\rтри\u2028четыре\x00\x85"),
    "repeated id": lambda row, draw: row.update(message_id="a", text=draw(st.text(max_size=9))),
    "another role": lambda row, draw: row.update(role=draw(st.text(min_size=1, max_size=5))),
    "another rank": lambda row, draw: row.update(rank=draw(st.integers() | st.just(10**400))),
    "null": lambda row, draw: row.update({draw(st.sampled_from(list(OASST_COLUMNS))): None}),
    "no damage": lambda row, draw: None,
}


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_rows_are_counted_or_refused_with_their_line(tmp_path, data):
    names = ["q", "a", "b", "c", "d", "e", "f"]
    parents = [None, "q", "q", "a", "c", "c", "e"]
    roles = ["prompter", "assistant", "assistant", "prompter", "assistant", "assistant", "prompter"]
    rows = [
        message(name, parent, role=role, rank=i if role == "assistant" else None)
        for i, (name, parent, role) in enumerate(zip(names, parents, roles, strict=True))
    ]
    for _ in range(data.draw(st.integers(1, 3))):
        damage = data.draw(st.sampled_from(sorted(DAMAGES)))
        row = data.draw(st.sampled_from(rows))
        if "message_id" in row:
            DAMAGES[damage](row, data.draw)
    path = tmp_path / "rows.jsonl"
    ending = data.draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"]))
    text = data.draw(st.sampled_from(["", "\ufeff"])) + ending.join(map(json.dumps, rows))
    path.write_bytes(text[: data.draw(st.sampled_from([len(text), len(text) - 3]))].encode())
    try:
        frame = read(path)
        pairs, counts = build(frame, turns="all", pairing="all")
    except PreferansError as error:
        assert re.search(r"rows\.jsonl, line \d+\b", str(error)), error
        return
    assert len(frame) == counts["rows"] == 7
    assert counts["rows"] == counts["used"] + counts["unpaired"] + sum(counts["dropped"].values())
    assert counts["ranked_pairs"] == counts["pairs"] + sum(counts["pairs_dropped"].values())
    for pair in pairs:
        assert row_problem(pair) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (pl.col("rank").cast(pl.String), "'rank' must be an integer or null, and the file has String"),
        (pl.lit(1).alias("text"), "'text' must be text or null"),
        (pl.lit(0.5).alias("rank"), "'rank' must be an integer"),
        (pl.lit(2**40).alias("rank"), "row 1: 'rank' is out of range"),
        (pl.lit("").alias("message_id"), "row 1: 'message_id' is empty"),
    ],
)
def test_names_a_broken_parquet_column(tmp_path, change, words):
    path = tmp_path / "rows.parquet"
    pl.DataFrame(conversation(), schema=OASST_COLUMNS).with_columns(change).write_parquet(path)
    with pytest.raises(PreferansError) as caught:
        read(path)
    assert words in str(caught.value)
    pl.DataFrame(conversation(), schema=OASST_COLUMNS).drop("lang").write_parquet(path)
    with pytest.raises(PreferansError, match="'lang' is missing"):
        read(path)


def test_brackets_in_a_file_name_are_no_pattern(tmp_path):
    frame = pl.DataFrame(conversation(), schema=OASST_COLUMNS)
    frame.head(1).write_parquet(tmp_path / "rows1.parquet")
    frame.write_parquet(tmp_path / "rows[1].parquet")
    assert read(tmp_path / "rows[1].parquet").equals(frame)


def test_reads_gzip_files_and_explains_json_arrays(tmp_path):
    lines = "\n".join(map(json.dumps, conversation()))
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    assert read(tmp_path).to_dicts() == conversation()
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(lines.encode())[:-9])
    with pytest.raises(PreferansError, match="cannot be unpacked"):
        read(tmp_path)
    (tmp_path / "rows.json").write_text(json.dumps(conversation(), indent=1), encoding="utf-8")
    with pytest.raises(PreferansError, match="line 1: .*one JSON array"):
        read(tmp_path / "rows.json")


def test_reads_ranks_that_pandas_wrote_as_floats(tmp_path):
    frame = pl.DataFrame(conversation(), schema=OASST_COLUMNS)
    frame.with_columns(pl.col("rank").cast(pl.Float64)).write_parquet(tmp_path / "rows.parquet")
    assert read(tmp_path / "rows.parquet").equals(frame)


def test_endings_in_capital_letters_are_read_and_stray_files_are_not(tmp_path):
    rows = conversation()
    (tmp_path / "A.JSONL").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "._A.JSONL").write_bytes(b"\x00\xff")
    Dataset.from_list(rows).to_parquet(tmp_path / "B.PARQUET")
    assert read(tmp_path / "A.JSONL").to_dicts() == read(tmp_path / "B.PARQUET").to_dicts() == rows
    assert read(tmp_path).to_dicts() == rows + rows


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("rows.csv", "a file must end in .jsonl"),
        ("data/none", "no such file or folder"),
        ("~/rows", "no such file or folder"),
        ("anna/rows", "HF_HUB_OFFLINE is set"),
    ],
)
def test_sources_that_cannot_be_read_are_told_apart(source, words, tmp_path):
    if source == "rows.csv":
        source = str(tmp_path / source)
        (tmp_path / "rows.csv").touch()
    with pytest.raises(PreferansError, match=words):
        next(read_rows(source))
