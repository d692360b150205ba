import json
from pathlib import Path

import pytest
from datasets import load_dataset

from preferans.data.check import CHECKS
from preferans.errors import PreferansError
from preferans.files import write_jsonl
from preferans.models.loading import load_checked_tokenizer

from ..support.pairs import DAMAGED, messages, valid_row
from ..support.tiny import CHAT_TEMPLATE, make_tokenizer

SCRIPT = "scripts/check_data.py"


def folder(path: Path, splits: dict[str, list]) -> Path:
    path.mkdir()
    for name, rows in splits.items():
        write_jsonl(path / f"{name}.jsonl", rows)
    return path


def test_prints_a_report_of_a_valid_folder(call_script, capsys, tmp_path):
    data = folder(tmp_path / "pairs", {"train": [valid_row(0), valid_row(1)], "test": [valid_row(2)]})
    assert call_script(SCRIPT, data) == 0
    printed = capsys.readouterr().out
    assert "2 rows in train, 1 row in test; conversational, explicit prompt." in printed
    assert "1. c0:r0" in printed
    assert "prompt:   [user] Почему трава зелёная?" in printed
    assert printed.rstrip().endswith("No errors, no warnings. Ready for training.")


def test_prints_the_results_as_json(call_script, capsys, tmp_path, tiny_llama):
    data = folder(tmp_path / "pairs", {"train": [valid_row(0), valid_row(1, rejected=messages(""))]})
    assert call_script(SCRIPT, data, "--json", "--model_name_or_path", tiny_llama) == 1
    answer = json.loads(capsys.readouterr().out)
    assert list(answer) == ["dataset", "splits", "format", "prompt", "findings", "lengths", "examples", "harmful"]
    assert answer["dataset"] == str(data)
    assert answer["splits"] == {"train": 2}
    assert answer["harmful"] is True
    (finding,) = answer["findings"]
    assert finding == {
        "check": "empty",
        "severity": "error",
        "count": 1,
        "share": 0.5,
        "rows": ["c1:r1"],
        "problem": "'rejected' has a message without text.",
        "cure": CHECKS["empty"][1],
    }


def test_warnings_alone_end_with_status_0(call_script, capsys, tmp_path):
    data = folder(tmp_path / "pairs", {"train": [valid_row(0), valid_row(0)]})
    assert call_script(SCRIPT, data) == 0
    printed = capsys.readouterr().out
    assert "WARNING duplicate (1 row, 50.0%): The same pair occurs earlier in the split: in c0:r0." in printed
    assert "No errors, 1 warning (duplicate)." in printed


def test_a_repaired_dataset_has_no_findings(call_script, capsys, tmp_path):
    data = folder(tmp_path / "pairs", {"train": DAMAGED, "test": [valid_row(7), valid_row(0)]})
    assert call_script(SCRIPT, data) == 1
    first, second = tmp_path / "first" / "fixed", tmp_path / "second" / "fixed"
    capsys.readouterr()
    assert call_script(SCRIPT, data, "--fix", first) == 0
    printed = capsys.readouterr().out
    assert "Repaired dataset in" in printed
    assert printed.rstrip().endswith("Checked again: No errors, no warnings. Ready for training.")
    assert call_script(SCRIPT, first) == 0
    call_script(SCRIPT, data, "--fix", second)
    # the command in a card has relative paths only, so the cards are equal
    assert {file.name: file.read_bytes() for file in first.rglob("*.*")} == {
        file.name: file.read_bytes() for file in second.rglob("*.*")
    }
    loaded = load_dataset(str(first), cache_dir=str(tmp_path / "cache"))
    assert loaded["test"]["id"] == ["c7:r7", "c0:r0"]
    assert loaded["train"]["id"] == ["c1:r1", "c2:r2", "c6:r6"]
    card = (first / "README.md").read_text(encoding="utf-8")
    assert "| dropped: invalid columns, types or roles | 2 |" in card
    assert "| rows with template tokens removed from an answer's end | 1 |" in card


def test_reports_what_fix_cannot_repair(call_script, capsys, tmp_path, tiny_llama):
    template = tmp_path / "endless.jinja"
    template.write_text(CHAT_TEMPLATE.replace("<|eot_id|>", ""), encoding="utf-8")
    data = folder(tmp_path / "pairs", {"train": [valid_row(0), valid_row(1)]})
    options = ["--model_name_or_path", tiny_llama, "--chat_template_path", template, "--fix", tmp_path / "fixed"]
    assert call_script(SCRIPT, data, *options, "--json") == 1
    fixed = json.loads(capsys.readouterr().out)["fixed"]
    assert [finding["check"] for finding in fixed["findings"]] == ["missing_eos"]
    assert fixed["counts"] == {"rows": [["read", 2], ["kept", 2]]}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing/at/all", "there is no such file or folder"),
        ("./nothing", "there is no such file or folder"),
        ("pairs.csv", "the dataset is empty"),
        ("pairs.xlsx", "must end in .jsonl, .json, .csv"),
        ("broken.parquet", "not a readable parquet file"),
        ("empty.jsonl", "the dataset is empty"),
        ("images", "the folder has no file that ends in .jsonl"),
    ],
)
def test_refuses_datasets_that_cannot_be_read(name, words, tmp_path, call_script):
    (tmp_path / "images").mkdir()
    for file in ("pairs.csv", "pairs.xlsx", "broken.parquet", "empty.jsonl"):
        (tmp_path / file).write_text("" if file == "empty.jsonl" else "prompt,chosen", encoding="utf-8")
    with pytest.raises(PreferansError, match=words):
        call_script(SCRIPT, name if name.startswith((".", "nothing")) else tmp_path / name)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--max_length", "0"], "--max_length 0"),
        (["--language", "Russian"], "--language Russian"),
        (["--chat_template_path", "x.jinja"], "--chat_template_path needs"),
        (["--model_name_or_path", "cache/none"], "there is no such folder"),
        (["--fix", "{data}"], "the dataset itself"),
        (["--fix", "{taken}"], "--fix .*holds something else"),
    ],
)
def test_refuses_wrong_options_and_writes_nothing(options, words, tmp_path, call_script):
    data = folder(tmp_path / "pairs", {"train": [valid_row(0)]})
    taken = folder(tmp_path / "taken", {"notes": [{"a": 1}]})
    with pytest.raises(PreferansError, match=words):
        call_script(SCRIPT, data, *(option.format(data=data, taken=taken) for option in options))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs", "taken"]


def test_rows_of_another_kind_are_an_error(tmp_path, call_script, capsys):
    data = folder(tmp_path / "oasst", {"train": [{"message_id": "a", "text": "Привет", "role": "prompter"}] * 3})
    assert call_script(SCRIPT, data) == 1
    printed = capsys.readouterr().out
    assert "The column 'chosen' is missing, for example in a row with message_id, text, role." in printed
    assert "see data_builders/" in printed
    with pytest.raises(PreferansError, match="no row of .* can be kept"):
        call_script(SCRIPT, data, "--fix", tmp_path / "fixed")
    assert not (tmp_path / "fixed").exists()


def test_mixed_types_in_json_lines_do_not_hide_other_rows(tmp_path, call_script, capsys):
    data = folder(
        tmp_path / "pairs", {"train": [valid_row(0), valid_row(1, chosen=5), valid_row(2, prompt={}), valid_row(3)]}
    )
    assert call_script(SCRIPT, data, "--json") == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert sorted(row for finding in findings for row in finding["rows"]) == ["c1:r1", "c2:r2"]


def test_the_language_is_that_of_the_rows_unless_it_is_given(tmp_path, call_script, capsys):
    english = [
        valid_row(i, lang="en", chosen=messages(f"A good answer, number {i}."), rejected=messages("Bad!"))
        for i in range(3)
    ]
    write_jsonl(tmp_path / "pairs.jsonl", english)
    assert call_script("scripts/check_data.py", tmp_path / "pairs.jsonl") == 0
    assert call_script("scripts/check_data.py", tmp_path / "pairs.jsonl", "--language", "ru") == 1
    assert "ERROR language" in capsys.readouterr().out


def test_plain_texts_need_no_chat_template(tmp_path):
    make_tokenizer().save_pretrained(tmp_path / "base")
    assert load_checked_tokenizer(str(tmp_path / "base"), None, conversational=False).eos_token == "<|eot_id|>"
    with pytest.raises(PreferansError, match="has no chat template"):
        load_checked_tokenizer(str(tmp_path / "base"), None, conversational=True)
    for name in (str(tmp_path), str(tmp_path / "none")):
        with pytest.raises(PreferansError, match="model_name_or_path"):
            load_checked_tokenizer(name, None, conversational=False)
