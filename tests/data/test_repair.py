import argparse

import pytest

from preferans.data.preferences import row_problem
from preferans.data.repair import check_fix_dir, fix_dataset, write_fixed
from preferans.errors import PreferansError

from ..support.pairs import DAMAGED, SHAPES, as_plain, messages, valid_row
from ..support.tiny import CHAT_TEMPLATE, make_tokenizer


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_gives_each_format_an_explicit_prompt(shape):
    rows = [shape(valid_row(i)) for i in range(3)]
    frames, counts = fix_dataset({"train": rows})
    fixed = frames["train"].to_dicts()
    assert [row["id"] for row in fixed] == ["c0:r0", "c1:r1", "c2:r2"]
    assert [row_problem(row) for row in fixed] == [None] * 3
    conversational = isinstance(rows[0]["chosen"], list)
    expected = valid_row(0) if conversational else as_plain(valid_row(0))
    assert {key: fixed[0][key] for key in ("prompt", "chosen", "rejected")} == {
        key: expected[key] for key in ("prompt", "chosen", "rejected")
    }
    repairs = dict(counts.get("repairs", []))
    assert repairs == ({} if "prompt" in rows[0] else {"rows given an explicit prompt": 3})


def test_repairs_or_drops_damaged_rows():
    frames, counts = fix_dataset({"train": DAMAGED})
    rows = {row["id"]: row for row in frames["train"].to_dicts()}
    assert list(rows) == ["c0:r0", "c1:r1", "c2:r2", "c6:r6"]
    assert rows["c1:r1"]["chosen"] == messages("Хороший ответ.")
    assert rows["c2:r2"]["chosen"] == messages("Из-за рассеяния.")
    assert (rows["c6:r6"]["note"], rows["c6:r6"]["seen"], rows["c0:r0"]["note"]) == ("важно", 3, None)
    assert rows["c6:r6"]["score"] == 0.5
    assert frames["train"].columns == [*valid_row(0), "score", "note", "seen"]
    assert counts == {
        "rows": [
            ("read", 8),
            ("dropped: invalid columns, types or roles", 2),
            ("dropped: no text left in the prompt or an answer", 1),
            ("dropped: chosen and rejected are the same text", 1),
            ("kept", 4),
        ],
        "repairs": [
            ("rows with the prompt removed from an answer's beginning", 1),
            ("rows with template tokens removed from an answer's end", 1),
            ("rows with white space removed around an answer", 1),
        ],
        "columns": [("left out, because they are neither texts nor numbers", "extra")],
    }


def test_moves_a_final_space_of_the_prompt_to_the_answers():
    rows = [as_plain(valid_row(i)) for i in range(2)]
    spaced = [
        row | {"prompt": row["prompt"] + " ", "chosen": row["chosen"].strip(), "rejected": row["rejected"].strip()}
        for row in rows
    ]
    frames, counts = fix_dataset({"train": spaced})
    assert frames["train"].select("prompt", "chosen", "rejected").rows() == [
        (row["prompt"], row["chosen"], row["rejected"]) for row in rows
    ]
    assert counts["repairs"] == [("rows with a space moved from the end of the prompt to the answers", 2)]


@pytest.mark.parametrize("labelled", [False, True])
def test_turns_plain_texts_into_messages_for_a_model_with_a_chat_template(labelled):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    prompts = ["Вопрос: Как?\nОтвет:", "Вопрос: Где?\nОтвет:"] if labelled else ["Как?", "Где?"]
    rows = [{"prompt": prompt, "chosen": " Так.", "rejected": " Нет."} for prompt in prompts]
    frames, counts = fix_dataset({"train": rows}, tokenizer)
    if labelled:
        assert frames["train"]["prompt"].to_list() == prompts
    else:
        assert frames["train"]["prompt"].to_list() == [messages(prompt, "user") for prompt in prompts]
        assert frames["train"]["chosen"].to_list() == [messages("Так.")] * 2
        assert ("rows turned from texts into messages", 2) in counts["repairs"]


def test_replaces_damaged_characters_and_leaves_code_alone():
    damaged = "Собaка&nbsp;лает\u200b. Код: `сaт &amp; x`."
    frames, counts = fix_dataset({"train": [valid_row(0, chosen=messages(damaged))]})
    assert frames["train"]["chosen"].to_list() == [messages("Собака\xa0лает. Код: `сaт &amp; x`.")]
    assert counts["repairs"] == [("rows with damaged characters replaced", 1)]


def test_keeps_html_in_an_answer_to_a_question_about_it():
    row = valid_row(
        0, prompt=messages("Как вставить пробел в HTML?", "user"), chosen=messages("Вставьте знaк &nbsp; в текст.")
    )
    frames, _ = fix_dataset({"train": [row]})
    assert frames["train"]["chosen"].to_list() == [messages("Вставьте знак &nbsp; в текст.")]


def test_writes_a_folder_and_checks_it_again(tmp_path):
    args = argparse.Namespace(dataset="pairs.jsonl", fix=str(tmp_path / "fixed"), max_length=64, command="python x.py")
    counts, report = write_fixed(args, {"train": [valid_row(0), valid_row(1, chosen=messages(" Да. "))]})
    assert counts["repairs"] == [("rows with white space removed around an answer", 1)]
    assert (report.splits, report.harmful) == ({"train": 2}, False)
    card = (tmp_path / "fixed" / "README.md").read_text(encoding="utf-8")
    assert "Options: repaired `yes`." in card and "`python x.py`" in card


def test_refuses_a_dataset_without_valid_rows(tmp_path):
    args = argparse.Namespace(dataset="pairs.jsonl", fix=str(tmp_path / "fixed"), max_length=64, command="")
    with pytest.raises(PreferansError, match="no row of pairs.jsonl can be kept .1 dropped: invalid columns"):
        write_fixed(args, {"train": [{"text": "Да"}]})
    assert not (tmp_path / "fixed").exists()


def test_the_folder_must_not_contain_the_dataset(tmp_path):
    (tmp_path / "pairs.jsonl").touch()
    with pytest.raises(PreferansError, match="contains the dataset itself"):
        check_fix_dir(str(tmp_path), str(tmp_path / "pairs.jsonl"))
    check_fix_dir(str(tmp_path / "new"), str(tmp_path / "pairs.jsonl"))
