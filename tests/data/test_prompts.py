import gzip
import json

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preferans.data.prompts import distinct_prompts, is_prompt_file, read_prompts, split_rows
from preferans.errors import PreferansError
from preferans.files import write_jsonl

from ..support.rows import preference

SKY = [{"role": "user", "content": "Почему небо голубое?"}]
TALK = [
    {"role": "system", "content": "Отвечай коротко."},
    {"role": "user", "content": "Меня зовут Аня."},
    {"role": "assistant", "content": "Привет, Аня!"},
    {"role": "user", "content": "Как меня зовут?"},
]


def test_reads_lines_of_text_as_questions(tmp_path):
    path = tmp_path / "q.txt"
    path.write_bytes("\ufeffПочему небо голубое?\r\n\r\n  Кто ты?\u2028 \nПочему небо голубое?\n".encode())
    assert read_prompts(path) == [
        {"id": "1", "prompt": SKY},
        {"id": "3", "prompt": [{"role": "user", "content": "Кто ты?"}]},
    ]


def test_keeps_ids_and_keys_of_json_lines(tmp_path):
    rows = [
        {"id": "sky", "prompt": SKY[0]["content"], "kind": "science"},
        {"id": 7, "prompt": TALK},
        {"id": "sky again", "prompt": SKY},
        {"prompt": "Кто ты?"},
        {"prompt": "Кто ты?"},
    ]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "q.jsonl").write_text(text, encoding="utf-8")
    with gzip.open(tmp_path / "q.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(text)
    read = read_prompts(tmp_path / "q.jsonl")
    assert [row["id"] for row in read] == ["sky", "7", "sky again", "4"]
    assert read[0] == {"id": "sky", "prompt": SKY, "kind": "science"}
    assert read == read_prompts(tmp_path / "q.jsonl.gz")


def test_reads_parquet(tmp_path):
    rows = [{"id": "sky", "prompt": SKY}, {"id": "talk", "prompt": TALK}]
    pl.DataFrame(rows).write_parquet(tmp_path / "q.parquet")
    assert read_prompts(tmp_path / "q.parquet") == rows
    content = (tmp_path / "q.parquet").read_bytes()
    (tmp_path / "q.parquet").write_bytes(content[:-20])
    with pytest.raises(PreferansError, match=r"q\.parquet: this is not a readable parquet file"):
        read_prompts(tmp_path / "q.parquet")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (['{"prompt": "Да?"}', '{"prompt": "Не'], "line 2: this is not valid JSON"),
        (['{"prompt": "Да?"}', '["Да?"]'], "line 2: expected a JSON object, got list"),
        (['{"question": "Да?", "id": 1}'], "line 1: 'prompt' is missing; the row has 'question', 'id'"),
        (['{"prompt": "  "}'], "line 1: 'prompt' is empty"),
        (['{"prompt": 5}'], "line 1: 'prompt' must be a list of messages"),
        (['{"prompt": [{"role": "bot", "content": "Да?"}]}'], "line 1: 'prompt' has a message with the role 'bot'"),
        (['{"prompt": [{"role": "user", "content": ["Да?"]}]}'], "line 1: 'prompt' has a message without text"),
        (['{"prompt": [{"role": "assistant", "content": "Да."}]}'], "line 1: 'prompt' must end with a message"),
        (
            ['{"prompt": "Да?", "id": "x"}', '{"prompt": "Нет?", "id": "x"}'],
            "line 2: the prompt in line 1 already has the id",
        ),
        (['{"prompt": "Да?", "id": [1]}'], "line 1: 'id' must be a text or an integer"),
        (['{"prompt": "\\ud800"}'], "line 1: 'prompt' contains half a character"),
        (['{"prompt": "Да?", "id": "\\ud800"}'], "line 1: 'id' contains half a character"),
        ([""], "the file has no prompts"),
    ],
)
def test_names_the_line_of_an_invalid_row(tmp_path, lines, words):
    path = tmp_path / "q.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(PreferansError) as caught:
        read_prompts(path)
    assert words in str(caught.value)
    assert "q.jsonl" in str(caught.value)


def test_endings_in_capital_letters_are_read(tmp_path):
    (tmp_path / "Q.TXT").write_text("Да?\n", encoding="utf-8")
    (tmp_path / "Q.JSONL").write_text('{"prompt": "Да?"}\n', encoding="utf-8")
    assert read_prompts(tmp_path / "Q.TXT") == read_prompts(tmp_path / "Q.JSONL")


def test_refuses_other_files(tmp_path):
    (tmp_path / "q.txt").write_bytes("Да?\n".encode() + b"\xcf\xf0\n")
    with pytest.raises(PreferansError, match=r"q\.txt, line 2: this is not UTF-8 text"):
        read_prompts(tmp_path / "q.txt")
    with pytest.raises(PreferansError, match="there is no such file"):
        read_prompts(tmp_path / "absent.txt")
    (tmp_path / "q.csv").write_text("Да?")
    with pytest.raises(PreferansError, match="a file of prompts must end in"):
        read_prompts(tmp_path / "q.csv")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["id", "prompt", "kind"]),
            st.none()
            | st.text(max_size=5)
            | st.integers(0, 3)
            | st.lists(
                st.fixed_dictionaries(
                    {"role": st.sampled_from(["system", "user", "assistant", "x"]), "content": st.text(max_size=3)}
                ),
                max_size=3,
            ),
        ),
        max_size=4,
    )
)
def test_reads_or_refuses_any_file(tmp_path, rows):
    path = tmp_path / "q.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    try:
        prompts = read_prompts(path)
    except PreferansError:
        return
    assert len({row["id"] for row in prompts}) == len(prompts) > 0
    for row in prompts:
        assert row["prompt"][-1]["role"] == "user"
        assert all(message["content"].strip() for message in row["prompt"])


def test_reads_the_prompts_of_a_split(preference_folder):
    rows = split_rows(str(preference_folder), "test")
    assert distinct_prompts(rows) == [{"id": row["id"], "prompt": row["prompt"]} for row in rows]
    with pytest.raises(
        PreferansError,
        match=rf"--split dev: {preference_folder}: there is no split 'dev', only train, test. Write '--split test'",
    ):
        split_rows(str(preference_folder), "dev")
    write_jsonl(preference_folder / "test.jsonl", [preference(1), preference(2, prompt=preference(2)["chosen"])])
    with pytest.raises(PreferansError, match="split test, row 2: 'prompt' must end with a message of the user"):
        split_rows(str(preference_folder), "test")


def test_different_prompts_need_different_ids():
    with pytest.raises(PreferansError, match="Row 3: another prompt already has the id 'c1:r1'"):
        distinct_prompts([preference(1), preference(1, id="x"), preference(2, id="c1:r1")])


def test_prompt_files_are_recognized_by_their_ending():
    assert is_prompt_file("a/b.jsonl.gz") and not is_prompt_file("a/b")


def test_prompts_of_several_pairs_are_used_once():
    rows = [preference(1), preference(1) | {"id": "other"}, preference(2)]
    assert [row["id"] for row in distinct_prompts(rows)] == ["c1:r1", "c2:r2"]
