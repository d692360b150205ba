import polars as pl

from preferans.data.oasst_source import OASST_COLUMNS, read_rows
from preferans.data.prototype import prototype_tables

from ..support.rows import message


def test_the_table_is_a_left_join():
    rows = [
        message("q"),
        message("a", "q", text="раз"),
        message("b", "q", text="two", lang="en", deleted=True),
        message("lonely"),
        message("q2", lang="en"),
        message("later", "a", role="prompter"),
    ]
    batch = pl.DataFrame(rows, schema=OASST_COLUMNS).with_columns(origin=pl.lit("ru-validation.jsonl"))
    table = prototype_tables([batch], "ru")["validation"]
    assert table.rows() == [
        ("Текст сообщения q", "раз"),
        ("Текст сообщения q", "two"),
        ("Текст сообщения lonely", None),
    ]


def test_the_table_equals_the_join_in_pandas(shared_data):
    frame = pl.concat(read_rows(str(shared_data / "oasst1_en_validation.jsonl")))
    rows = frame.select("message_id", "parent_id", "text", "lang").to_pandas()
    joined = rows.merge(
        rows[["parent_id", "text"]].dropna(subset="parent_id"),
        left_on="message_id",
        right_on="parent_id",
        how="left",
        suffixes=("", "_reply"),
    )
    joined = joined[(joined["lang"] == "en") & joined["parent_id"].isna()]
    table = prototype_tables([frame], "en")["validation"]
    assert len(table) == len(joined) == 568
    assert sorted(map(str, table.rows())) == sorted(
        str((text, answer if isinstance(answer, str) else None))
        for text, answer in zip(joined["text"], joined["text_reply"], strict=True)
    )
