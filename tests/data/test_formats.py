import polars as pl
import pytest

from preferans.data.formats import dataset_format, dataset_language, read_dataset
from preferans.errors import PreferansError
from preferans.files import write_json, write_jsonl

from ..support.pairs import SHAPES, valid_row


def test_reads_single_files(tmp_path):
    rows = [valid_row(0), valid_row(1)]
    write_jsonl(tmp_path / "a.jsonl", rows)
    write_json(tmp_path / "b.json", rows)
    pl.DataFrame(rows).write_parquet(tmp_path / "c.parquet")
    for name in ("a.jsonl", "b.json", "c.parquet"):
        assert read_dataset(str(tmp_path / name)) == {"train": rows}
    for number, bad in enumerate(('{"prompt": ', '["текст"', "7")):
        (tmp_path / f"bad{number}.jsonl").write_text(bad, encoding="utf-8")
        with pytest.raises(PreferansError, match=f"bad{number}.jsonl"):
            read_dataset(str(tmp_path / f"bad{number}.jsonl"))


def test_reads_every_row_of_a_folder_of_json_lines(tmp_path):
    rows = [valid_row(0), valid_row(1, chosen=5), valid_row(2, prompt={})]
    write_jsonl(tmp_path / "train.jsonl", rows)
    write_jsonl(tmp_path / "test.jsonl", rows[:1])
    assert read_dataset(str(tmp_path)) == {"train": rows, "test": rows[:1]}


@pytest.mark.parametrize("name", SHAPES)
def test_finds_the_format_of_most_rows(name):
    rows = [SHAPES[name](valid_row(number)) for number in range(2)]
    conversational, implicit = dataset_format({"train": [*rows, "текст", {}]})
    assert f"{'conversational' if conversational else 'text'} {'implicit' if implicit else 'explicit'}" == name


@pytest.mark.parametrize(
    ("tags", "language"),
    [(["en", "en"], "en"), (["en", "ru"], "ru"), (["English"], "ru"), ([["en"]], "ru"), ([], "ru")],
)
def test_the_language_is_the_tag_of_all_rows_or_russian(tags, language):
    assert dataset_language({"train": [{"lang": tag} for tag in tags]}) == language
