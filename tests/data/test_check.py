"""Every check on small inputs with exact counts, the four formats, the tokens as TRL makes them, and the repair."""

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from datasets import Dataset, load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from preferans.data.check import CHECKS, check_dataset
from preferans.data.check_report import report_text
from preferans.data.check_tokens import tokenize_pair
from preferans.data.formats import read_dataset, read_pairs
from preferans.data.preferences import row_problem
from preferans.data.repair import REPAIR_DROP_REASONS, fix_dataset
from preferans.errors import PreferansError
from preferans.files import write_json, write_jsonl
from preferans.models.loading import load_checked_tokenizer

from ..support.rows import preference
from ..support.tiny import CHAT_TEMPLATE, make_tokenizer

SCRIPT = "scripts/check_data.py"
QUESTION = "Почему небо днём голубое, а на закате красное?"
LONG_QUESTION = (
    "Почему небо днём голубое, а на закате красное, и отчего у этого явления столько разных объяснений в книгах?"
)
TOPICS = (
    "Почему трава зелёная?",
    "Как сварить борщ?",
    "Сколько планет у Солнца?",
    "Кто написал «Войну и мир»?",
    "Где зимуют раки?",
    "Чем кормить хомяка?",
    "Зачем нужен пароль?",
    "Что такое интеграл?",
)


def said(text: str, role: str = "assistant") -> list[dict]:
    return [{"role": role, "content": text}]


def sound(number: int, **changes) -> dict:
    """A row in which no check finds anything, its prompt unlike the others."""
    answers = {"chosen": said(f"Хороший ответ {number}."), "rejected": said(f"Плохой ответ {number}!")}
    return preference(number, **{"prompt": said(TOPICS[number], "user"), **answers, **changes})


def plain(row: dict) -> dict:
    """A conversational row as texts."""
    texts = {"prompt": f"Вопрос: {row['prompt'][-1]['content']}\nОтвет:"}
    return row | texts | {column: " " + row[column][0]["content"] for column in ("chosen", "rejected")}


def implicit(row: dict) -> dict:
    """A row whose answers hold the prompt."""
    return {key: value for key, value in row.items() if key != "prompt"} | {
        column: row["prompt"] + row[column] for column in ("chosen", "rejected")
    }


def found(rows: list | dict, *args, **kwargs) -> dict[str, tuple[str, int]]:
    """Severity and count of each check that finds something; findings of one check are added up."""
    report = check_dataset(rows if isinstance(rows, dict) else {"train": rows}, *args, **kwargs)
    counts = Counter()
    for finding in report.findings:
        counts[finding.check, finding.severity] += finding.count
    return {check: (severity, number) for (check, severity), number in counts.items()}


FORMATS = {
    "conversational explicit": lambda row: row,
    "conversational implicit": implicit,
    "text explicit": plain,
    "text implicit": lambda row: implicit(plain(row)),
}


@pytest.mark.parametrize("shape", FORMATS.values(), ids=FORMATS)
def test_each_format_is_recognised_and_sound(shape, request):
    report = check_dataset({"train": [shape(sound(i)) for i in range(4)], "test": [shape(sound(5))]})
    assert f"{report.format} {report.prompt}" == request.node.callspec.id
    assert report.findings == []
    assert report.splits == {"train": 4, "test": 1}
    assert not report.harmful
    assert report.lengths["unit"] == "characters"
    assert sum(bar["rows"] for bar in report.lengths["histogram"]) == 5
    assert [example["row"] for example in report.examples] == ["c0:r0", "c1:r1", "c2:r2", "c3:r3"]


@pytest.mark.parametrize("shape", FORMATS.values(), ids=FORMATS)
def test_each_format_becomes_an_explicit_prompt(shape):
    rows = [shape(sound(i)) for i in range(3)]
    frames, counts = fix_dataset({"train": rows})
    fixed = frames["train"].to_dicts()
    assert [row["id"] for row in fixed] == ["c0:r0", "c1:r1", "c2:r2"]
    assert [row_problem(row) for row in fixed] == [None] * 3
    conversational = isinstance(rows[0]["chosen"], list)
    expected = sound(0) if conversational else plain(sound(0))
    assert {key: fixed[0][key] for key in ("prompt", "chosen", "rejected")} == {
        key: expected[key] for key in ("prompt", "chosen", "rejected")
    }
    repairs = dict(counts.get("repairs", []))
    assert repairs == ({} if "prompt" in rows[0] else {"rows given an explicit prompt": 3})


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"chosen": None}, "schema"),
        ({"chosen": 7}, "schema"),
        ({"chosen": "текст"}, "schema"),
        ({"rejected": [3]}, "schema"),
        ({"rejected": [{"from": "gpt", "value": "Да"}]}, "schema"),
        ({"chosen": [{"role": "assistant", "content": None}]}, "schema"),
        ({"chosen": [{"role": "assistant", "content": ["Да"]}]}, "schema"),
        ({"chosen": said("\ud800")}, "schema"),
        ({"prompt": "Зачем?"}, "schema"),
        ({"chosen": said("Да", "gpt")}, "roles"),
        ({"chosen": said("Да", "user")}, "roles"),
        ({"chosen": said("Да") + said("Нет")}, "roles"),
        ({"prompt": said("Ответ")}, "roles"),
        ({"prompt": []}, "empty"),
        ({"prompt": said(" ", "user")}, "empty"),
        ({"chosen": []}, "empty"),
        ({"rejected": said(" \n")}, "empty"),
        ({"chosen": said("Да."), "rejected": said(" Да.\n")}, "equal"),
        ({"prompt": said(QUESTION, "user"), "chosen": said(QUESTION + " Рассеяние.")}, "prompt_echo"),
        ({"prompt": said(QUESTION, "user"), "rejected": said(QUESTION + " Рассеяние.")}, "prompt_echo"),
        ({"prompt": said(LONG_QUESTION, "user"), "chosen": said(f"Вы спросили: {LONG_QUESTION}")}, "prompt_echo"),
        ({"chosen": said(TOPICS[1], "user") + said("Да.")}, "prompt_echo"),
        ({"chosen": said("Хороший ответ.<|im_end|>")}, "template_tokens"),
        ({"chosen": said("Хороший ответ.\n### Assistant: да")}, "template_tokens"),
        ({"prompt": said("<start_of_turn>Как быть?", "user")}, "template_tokens"),
        ({"prompt": [*said("Погода?", "user"), {"role": "tool", "content": "Дождь"}]}, "tools"),
    ],
)
def test_one_broken_row_is_one_finding(changes, check):
    assert found([sound(0), sound(1, **changes), sound(2)]) == {check: (CHECKS[check][0], 1)}


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": said("Зачем?", "user"), "chosen": said("Зачем? Затем.")},
        {"prompt": said(QUESTION, "user"), "chosen": said(f"Вопрос «{QUESTION}» непрост.")},
        {"chosen": said("Тег <b>жирный</b>, массив a[1] и 3 < 5.")},
        {"prompt": said("Будь вежлив.", "system") + said("Как дела?", "user")},
        {"tools": '[{"type": "function"}]', "score_chosen": 0.5, "note": None},
    ],
)
def test_what_is_no_fault_is_not_found(changes):
    assert found([sound(0), sound(1, **changes)]) == {}


def test_broken_rows_are_named_by_id_or_by_number():
    rows = [sound(0), sound(1, chosen=None), {"chosen": []}, "текст", *[sound(2, id=5, prompt=[])] * 7]
    findings = check_dataset({"train": rows}).findings
    assert {finding.problem: (finding.count, finding.rows) for finding in findings} == {
        "'chosen' is null.": (1, ["c1:r1"]),
        "The column 'prompt' is missing: beside chosen.": (1, ["train:3"]),
        "The row is no object with columns: a text.": (1, ["train:4"]),
        "'prompt' has no message.": (7, [f"train:{number}" for number in range(5, 10)]),
    }


def test_texts_have_their_own_faults():
    rows = [plain(sound(i)) for i in range(4)]
    asked = {"prompt": f"Вопрос: {QUESTION}\nОтвет:"}
    assert found([*rows, rows[0] | asked | {"id": "x", "chosen": f" {QUESTION} Рассеяние."}]) == {
        "prompt_echo": ("error", 1)
    }
    assert found([*rows, rows[0] | {"id": "x", "chosen": "  "}]) == {"empty": ("error", 1)}
    # a plain prompt may be what a chat template has rendered
    assert found([*rows, rows[0] | {"id": "x", "prompt": "<|im_start|>user\nПочему?<|im_end|>"}]) == {}
    assert found([*rows, rows[0] | {"id": "x", "chosen": said("Да.")}]) == {"schema": ("error", 1)}


def test_an_implicit_prompt_must_be_there():
    rows = [implicit(sound(i)) for i in range(3)]
    other = rows[1] | {"chosen": said("Иной вопрос", "user") + said("Да.")}
    assert found([*rows, other | {"id": "x"}]) == {"schema": ("error", 1)}
    texts = [implicit(plain(sound(i))) for i in range(3)]
    assert found([*texts, {"chosen": "Да.", "rejected": "Нет. "}]) == {"schema": ("error", 1)}
    assert found([*texts, {"chosen": "Вопрос? Парус", "rejected": "Вопрос? Парад"}]) == {"prompt_cut": ("warning", 1)}
    fixed = fix_dataset({"train": [*texts, {"chosen": "Вопрос? Парус", "rejected": "Вопрос? Парад"}]})[0]["train"]
    assert fixed.select("prompt", "chosen", "rejected").row(3) == ("Вопрос?", " Парус", " Парад")


@pytest.mark.parametrize("whole", [True, False], ids=["whole conversation", "answer alone"])
def test_a_text_prompt_beside_messages_is_found_and_mended(whole):
    rows = [(implicit(sound(i)) if whole else sound(i)) | {"prompt": TOPICS[i]} for i in range(3)]
    assert found(rows) == {"schema": ("error", 3)}
    frames, counts = fix_dataset({"train": rows})
    assert frames["train"]["prompt"].to_list() == [said(topic, "user") for topic in TOPICS[:3]]
    assert counts["repairs"] == [("rows given an explicit prompt", 3)]


def test_repetitions_within_a_split():
    rows = [sound(0), sound(0), sound(0, chosen=said("Другой.")), sound(1)]
    assert found(rows) == {"duplicate": ("warning", 1), "repeated_id": ("warning", 1)}
    turned = sound(1, id="x", chosen=sound(1)["rejected"], rejected=sound(1)["chosen"])
    assert found([sound(0), sound(1), turned]) == {"contradiction": ("error", 2)}
    frames, counts = fix_dataset({"train": [sound(0), sound(0), sound(1), turned]})
    assert frames["train"]["id"].to_list() == ["c0:r0"]
    assert counts["rows"] == [
        ("read", 4),
        ("dropped: stands there already", 1),
        ("dropped: contradicts another row", 2),
        ("kept", 1),
    ]


def test_leakage_by_tree_and_by_prompt():
    near = said("почему  трава ЗЕЛЁНАЯ", "user")
    splits = {
        "train": [sound(0), sound(1, message_tree_id="tree7"), sound(2)],
        "train_more": [sound(2)],
        "test": [sound(3, prompt=near), sound(7)],
    }
    report = check_dataset(splits)
    assert {finding.check: (finding.count, finding.rows) for finding in report.findings} == {
        "tree_leakage": (1, ["c1:r1"]),
        "prompt_leakage": (1, ["c0:r0"]),
    }
    assert report.findings[0].share == 1 / 4  # of the training rows
    frames, counts = fix_dataset(splits)
    assert {name: frame["id"].to_list() for name, frame in frames.items()} == {
        "train": ["c2:r2"],
        "train_more": ["c2:r2"],
        "test": ["c3:r3", "c7:r7"],
    }
    assert ("dropped: training row whose conversation tree stands in another split", 1) in counts["rows"]
    assert found({"train": splits["test"], "train_more": splits["train"]}) == {}
    # labels of plain prompts make no two of them alike
    assert found({"train": [plain(sound(i)) for i in (0, 1)], "test": [plain(sound(2))]}) == {}


def numbered(number: int, chosen: str, rejected: str) -> dict:
    return preference(number, chosen=said(f"{chosen} {number}"), rejected=said(f"{rejected} {number}"))


@pytest.mark.parametrize(("longer", "of", "harm"), [(14, 20, True), (13, 20, False), (6, 20, True), (19, 19, False)])
def test_length_bias(longer, of, harm):
    rows = [numbered(i, *(("длинный", "ответ") if i < longer else ("ответ", "длинный"))) for i in range(of)]
    assert found(rows) == ({"length_bias": ("warning", longer)} if harm else {})


def test_language():
    russian, english = ("Да", "Нет"), ("Yes", "Нет")
    few = [numbered(i, *(english if i < 3 else russian)) for i in range(5)]
    assert found(few) == {"language": ("error", 3)}
    assert found(few, language="en") == {}
    assert found(few[2:]) == {"language": ("warning", 1)}
    assert found([*(numbered(i, "1", "2") for i in range(3)), sound(4)]) == {}  # no letters, no language
    mixed = [
        numbered(i, "совсем простой answer" if i < 6 else "Длинный ответ", "Совсем длинный ответ") for i in range(20)
    ]
    assert found(mixed)["foreign_words"] == ("warning", 6)
    assert "foreign_words" not in found([*mixed[1:], sound(1)])


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def templated(template: str):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("shape", FORMATS.values(), ids=FORMATS)
def test_tokens_are_those_of_trl(tokenizer, shape):
    from trl import DPOTrainer

    rows = [shape(sound(i)) for i in range(4)]
    arguments = SimpleNamespace(dataset_num_proc=None, max_length=None, truncation_mode="keep_start")
    theirs = DPOTrainer._prepare_dataset(
        SimpleNamespace(_tokenizer=tokenizer), Dataset.from_list(rows), tokenizer, arguments, "train"
    )
    for pair, expected in zip(read_pairs({"train": rows})[0], theirs, strict=True):
        ours = tokenize_pair(pair, tokenizer)
        assert {key: ours[key] for key in ours if key != "lost_ids"} == {
            key: expected[key] for key in ("prompt_ids", "chosen_ids", "rejected_ids")
        }


def test_a_sound_template_has_no_findings_and_the_mask_is_shown(tokenizer):
    report = check_dataset({"train": [sound(0), sound(1)]}, tokenizer)
    assert report.findings == []
    assert report.lengths["unit"] == "tokens"
    chosen = report.examples[0]["chosen"]
    assert chosen["masked"].startswith("<|begin_of_text|><|start_header_id|>user")
    assert chosen["masked"].endswith("<|start_header_id|>assistant<|end_header_id|>\n\n")
    assert chosen["scored"] == "Хороший ответ 0.<|eot_id|>"
    assert "⟦Хороший ответ 0.<|eot_id|>⟧" in report_text(report, "data/x")
    assert "⟦Плохой ответ 0!<|eot_id|>⟧" in report_text(report, "data/x")


@pytest.mark.parametrize(
    ("old", "new", "check"),
    [
        ("{{- bos_token -}}", "{{- bos_token + bos_token -}}", "double_bos"),
        ("'<|eot_id|>' -}}{%- endfor", "'\n' -}}{%- endfor", "missing_eos"),
        ("'<|eot_id|>' -}}{%- endfor", "'<|eot_id|>\n<|eot_id|>' -}}{%- endfor", "double_eos"),
        ("'<|eot_id|>' -}}{%- endfor", "'<|eot_id|>\n' -}}{%- endfor", None),
        ("'<|eot_id|>' -}}{%- endfor", "'<|end_of_text|>' -}}{%- endfor", None),
        (
            "assistant<|end_header_id|>\n\n' -}}{%- endif",
            "assistant<|end_header_id|>\n\nИтак' -}}{%- endif",
            "prompt_prefix",
        ),
    ],
)
def test_faults_of_a_chat_template(old, new, check):
    assert CHAT_TEMPLATE.count(old) == 1
    tokenizer = templated(CHAT_TEMPLATE.replace(old, new))
    assert found([sound(0), sound(1)], tokenizer) == ({check: (CHECKS[check][0], 2)} if check else {})


def test_a_template_that_refuses_rows_is_a_finding():
    template = (
        "{%- if messages[0].role == 'system' -%}{{- raise_exception('no system role') -}}{%- endif -%}" + CHAT_TEMPLATE
    )
    rows = [sound(0), sound(1, prompt=said("Будь краток.", "system") + said("Как?", "user"))]
    report = check_dataset({"train": rows}, templated(template))
    assert [(finding.check, finding.rows) for finding in report.findings] == [("chat_template", ["c1:r1"])]
    assert "no system role" in report.findings[0].problem
    assert fix_dataset({"train": rows}, templated(template))[0]["train"]["id"].to_list() == ["c0:r0"]


def test_tokens_of_plain_texts():
    from tokenizers.processors import TemplateProcessing

    tokenizer = make_tokenizer()
    begin, end = ((token, tokenizer.convert_tokens_to_ids(token)) for token in ("<|begin_of_text|>", "<|eot_id|>"))
    rows = [plain(sound(0)), plain(sound(1)) | {"prompt": "<|begin_of_text|>Вопрос: как?\nОтвет:"}]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(f"{begin[0]} $A", special_tokens=[begin])
    assert found(rows, tokenizer) == {"double_bos": ("error", 1)}
    shown = check_dataset({"train": rows}, tokenizer).examples[0]["chosen"]
    assert shown["masked"] == "<|begin_of_text|>Вопрос: Почему трава зелёная?\nОтвет:"
    assert shown["scored"] == " Хороший ответ 0.<|eot_id|>"  # TRL writes the end token of a plain text
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(f"$A {end[0]}", special_tokens=[end])
    assert found(rows, tokenizer) == {"double_eos": ("error", 2), "prompt_prefix": ("warning", 2)}


def test_lengths_in_tokens(tokenizer):
    rows = [sound(0), sound(1), sound(2, prompt=said("Слово " * 80 + "?", "user"))]
    lengths = check_dataset({"train": rows}, tokenizer).lengths
    short, longest = lengths["pair"]["median"], lengths["pair"]["longest"]
    assert found(rows, tokenizer, max_length=longest) == {}
    assert found(rows, tokenizer, max_length=longest - 1) == {"truncated": ("warning", 1)}
    assert found(rows, tokenizer, max_length=lengths["prompt"]["longest"]) == {"prompt_too_long": ("error", 1)}
    assert found(rows, tokenizer, max_length=short - 5)["truncated"] == ("warning", 2)
    cut = check_dataset({"train": rows[1:2]}, tokenizer, max_length=short - 5).examples[0]["chosen"]
    assert cut["cut_tokens"] > 0
    assert cut["masked_tokens"] + cut["scored_tokens"] == short - 5
    frames, counts = fix_dataset({"train": rows}, tokenizer, lengths["prompt"]["longest"])
    assert len(frames["train"]) == 2
    assert ("dropped: the prompt alone fills max_length", 1) in counts["rows"]


def test_a_tokenizer_without_a_template_will_do_for_texts(tmp_path):
    make_tokenizer().save_pretrained(tmp_path / "base")
    assert load_checked_tokenizer(str(tmp_path / "base"), None, conversational=False).eos_token == "<|eot_id|>"
    with pytest.raises(PreferansError, match="has no chat template"):
        load_checked_tokenizer(str(tmp_path / "base"), None, conversational=True)
    for name in (str(tmp_path), str(tmp_path / "none")):
        with pytest.raises(PreferansError, match="model_name_or_path"):
            load_checked_tokenizer(name, None, conversational=False)


DAMAGED = [
    sound(0),
    sound(1, chosen=said("  Хороший ответ.<|im_end|>\n<|im_end|> ")),
    sound(2, prompt=said(QUESTION, "user"), chosen=said(f"{QUESTION}\n{QUESTION} Из-за рассеяния.")),
    sound(3, prompt=said(QUESTION + "!", "user"), chosen=said(QUESTION + "! Плохой ответ 3!")),
    sound(4, chosen=said("</s>")),
    sound(5, rejected=7),
    {"id": "lost"},
    sound(6, score=0.5, note="важно", seen=3, extra={"a": 1}),
]


def test_repairs():
    frames, counts = fix_dataset({"train": DAMAGED})
    rows = {row["id"]: row for row in frames["train"].to_dicts()}
    assert list(rows) == ["c0:r0", "c1:r1", "c2:r2", "c6:r6"]
    assert rows["c1:r1"]["chosen"] == said("Хороший ответ.")
    assert rows["c2:r2"]["chosen"] == said("Из-за рассеяния.")
    assert (rows["c6:r6"]["note"], rows["c6:r6"]["seen"], rows["c0:r0"]["note"]) == ("важно", 3, None)
    assert rows["c6:r6"]["score"] == 0.5
    assert frames["train"].columns == [*sound(0), "score", "note", "seen"]
    assert counts == {
        "rows": [
            ("read", 8),
            ("dropped: broken (columns, types or roles)", 2),
            ("dropped: no text left in the prompt or an answer", 1),
            ("dropped: chosen and rejected are the same text", 1),
            ("kept", 4),
        ],
        "repairs": [
            ("rows with the prompt cut from an answer's beginning", 1),
            ("rows with template tokens cut from an answer's end", 1),
            ("rows with white space cut around an answer", 1),
        ],
        "columns": [("left out, being neither texts nor numbers", "extra")],
    }


def folder(path: Path, splits: dict[str, list]) -> Path:
    path.mkdir()
    for name, rows in splits.items():
        write_jsonl(path / f"{name}.jsonl", rows)
    return path


def test_the_script_on_a_sound_folder(call_script, capsys, tmp_path):
    data = folder(tmp_path / "pairs", {"train": [sound(0), sound(1)], "test": [sound(2)]})
    assert call_script(SCRIPT, data) == 0
    told = capsys.readouterr().out
    assert "2 rows in train, 1 row in test; conversational, explicit prompt." in told
    assert "1. c0:r0" in told
    assert "prompt:   [user] Почему трава зелёная?" in told
    assert told.rstrip().endswith("No errors, no warnings. It can be trained on.")


def test_the_script_as_json(call_script, capsys, tmp_path, tiny_llama):
    data = folder(tmp_path / "pairs", {"train": [sound(0), sound(1, rejected=said(""))]})
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


def test_warnings_alone_end_with_success(call_script, capsys, tmp_path):
    data = folder(tmp_path / "pairs", {"train": [sound(0), sound(0)]})
    assert call_script(SCRIPT, data) == 0
    told = capsys.readouterr().out
    assert "WARNING duplicate (1 row, 50.0%): The same pair stands earlier in the split: in c0:r0." in told
    assert "No errors, 1 warning (duplicate)." in told


def test_fix_then_check_again_is_clean(call_script, capsys, tmp_path):
    data = folder(tmp_path / "pairs", {"train": DAMAGED, "test": [sound(7), sound(0)]})
    assert call_script(SCRIPT, data) == 1
    first, second = tmp_path / "first" / "fixed", tmp_path / "second" / "fixed"
    capsys.readouterr()
    assert call_script(SCRIPT, data, "--fix", first) == 0
    told = capsys.readouterr().out
    assert "Repaired dataset in" in told
    assert told.rstrip().endswith("Checked again: No errors, no warnings. It can be trained on.")
    assert call_script(SCRIPT, first) == 0
    call_script(SCRIPT, data, "--fix", second)
    # the command that a card tells has folders only by their relative place, so these are equal
    assert {file.name: file.read_bytes() for file in first.rglob("*.*")} == {
        file.name: file.read_bytes() for file in second.rglob("*.*")
    }
    loaded = load_dataset(str(first), cache_dir=str(tmp_path / "cache"))
    assert loaded["test"]["id"] == ["c7:r7", "c0:r0"]
    assert loaded["train"]["id"] == ["c1:r1", "c2:r2", "c6:r6"]
    card = (first / "README.md").read_text(encoding="utf-8")
    assert "| dropped: broken (columns, types or roles) | 2 |" in card
    assert "| rows with template tokens cut from an answer's end | 1 |" in card


def test_what_fix_cannot_mend_is_said(call_script, capsys, tmp_path, tiny_llama):
    template = tmp_path / "endless.jinja"
    template.write_text(CHAT_TEMPLATE.replace("<|eot_id|>", ""), encoding="utf-8")
    data = folder(tmp_path / "pairs", {"train": [sound(0), sound(1)]})
    options = ["--model_name_or_path", tiny_llama, "--chat_template_path", template, "--fix", tmp_path / "fixed"]
    assert call_script(SCRIPT, data, *options, "--json") == 1
    fixed = json.loads(capsys.readouterr().out)["fixed"]
    assert [finding["check"] for finding in fixed["findings"]] == ["missing_eos"]
    assert fixed["counts"] == {"rows": [["read", 2], ["kept", 2]]}


def test_single_files(tmp_path):
    rows = [sound(0), sound(1)]
    write_jsonl(tmp_path / "a.jsonl", rows)
    write_json(tmp_path / "b.json", rows)
    pl.DataFrame(rows).write_parquet(tmp_path / "c.parquet")
    for name in ("a.jsonl", "b.json", "c.parquet"):
        assert read_dataset(str(tmp_path / name)) == {"train": rows}
    for number, bad in enumerate(('{"prompt": ', '["текст"', "7")):
        (tmp_path / f"bad{number}.jsonl").write_text(bad, encoding="utf-8")
        with pytest.raises(PreferansError, match=f"bad{number}.jsonl"):
            read_dataset(str(tmp_path / f"bad{number}.jsonl"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing/at/all", "there is no such file or folder"),
        ("./nothing", "there is no such file or folder"),
        ("pairs.csv", "must end in .jsonl, .json or .parquet"),
        ("broken.parquet", "no readable parquet file"),
        ("empty.jsonl", "there is not one row in it"),
        ("images", "cannot be read as a dataset"),
    ],
)
def test_wrong_datasets_are_refused(name, words, tmp_path, call_script):
    (tmp_path / "images").mkdir()
    for file in ("pairs.csv", "broken.parquet", "empty.jsonl"):
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
def test_wrong_options_are_refused_and_nothing_is_written(options, words, tmp_path, call_script):
    data = folder(tmp_path / "pairs", {"train": [sound(0)]})
    taken = folder(tmp_path / "taken", {"notes": [{"a": 1}]})
    with pytest.raises(PreferansError, match=words):
        call_script(SCRIPT, data, *(option.format(data=data, taken=taken) for option in options))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs", "taken"]


def test_rows_that_are_no_preferences(tmp_path, call_script, capsys):
    data = folder(tmp_path / "oasst", {"train": [{"message_id": "a", "text": "Привет", "role": "prompter"}] * 3})
    assert call_script(SCRIPT, data) == 1
    told = capsys.readouterr().out
    assert "The column 'chosen' is missing, for example beside message_id, text, role." in told
    assert "see data_builders/" in told
    with pytest.raises(PreferansError, match="not one row of .* can be kept"):
        call_script(SCRIPT, data, "--fix", tmp_path / "fixed")
    assert not (tmp_path / "fixed").exists()


def test_mixed_types_in_a_folder_of_json_lines_hide_nothing(tmp_path, call_script, capsys):
    data = folder(tmp_path / "pairs", {"train": [sound(0), sound(1, chosen=5), sound(2, prompt={}), sound(3)]})
    assert call_script(SCRIPT, data, "--json") == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert sorted(row for finding in findings for row in finding["rows"]) == ["c1:r1", "c2:r2"]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["\ud800", "</s>", QUESTION]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "x"]), inner, max_size=3)
    ),
    max_leaves=5,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "assistant", "tool", "gpt"]),
            "content": st.sampled_from(["Да", "", QUESTION, "Да</s>"]),
        }
    ),
    max_size=3,
)
COLUMN_NAMES = st.sampled_from(
    ["id", "prompt", "chosen", "rejected", "message_tree_id", "chosen_rank", "extra", "tools"]
)


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 7),
            st.dictionaries(COLUMN_NAMES, VALUES | MESSAGES, max_size=3),
            st.sets(COLUMN_NAMES, max_size=2),
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(list(FORMATS)),
    st.lists(VALUES, max_size=2),
)
def test_damaged_rows_give_findings_and_every_row_is_accounted_for(tokenizer, damages, shape, strangers):
    rows = []
    for number, changes, missing in damages:
        row = FORMATS[shape](sound(number)) | changes
        rows.append({key: value for key, value in row.items() if key not in missing})
    splits = {"train": [*rows, *strangers], "test": [FORMATS[shape](sound(7))]}
    report = check_dataset(splits, tokenizer, max_length=200)
    report_text(report, "data/x")
    json.dumps(report.as_json("data/x"))
    frames, counts = fix_dataset(splits, tokenizer, max_length=200)
    kept = sum(map(len, frames.values()))
    dropped = sum(number for label, number in counts["rows"] if label.startswith("dropped"))
    assert kept + dropped == len(rows) + len(strangers) + 1
    assert all(label.removeprefix("dropped: ") in REPAIR_DROP_REASONS.values() for label, _ in counts["rows"][1:-1])
    assert [row_problem(row) for frame in frames.values() for row in frame.iter_rows(named=True)] == [None] * kept
    again = check_dataset({name: frame.to_dicts() for name, frame in frames.items()}, tokenizer, 200, language="any")
    left = {finding.check for finding in again.findings if finding.severity == "error"}
    assert left <= ({"no_training_split"} if "train" not in frames else set())


def test_the_language_is_that_of_the_rows_unless_said_otherwise(tmp_path, call_script, capsys):
    english = [
        sound(i, lang="en", chosen=said(f"A good answer, number {i}."), rejected=said("Bad!")) for i in range(3)
    ]
    write_jsonl(tmp_path / "pairs.jsonl", english)
    assert call_script("scripts/check_data.py", tmp_path / "pairs.jsonl") == 0
    assert call_script("scripts/check_data.py", tmp_path / "pairs.jsonl", "--language", "ru") == 1
    assert "ERROR language" in capsys.readouterr().out


def test_a_preamble_that_all_plain_prompts_share_makes_no_leak():
    preamble = "Ниже приведена инструкция, которая описывает задачу. Напиши ответ.\n\n### Инструкция:\n"
    rows = [plain(sound(i)) for i in range(8)]
    rows = [row | {"prompt": f"{preamble}{row['prompt']}\n\n### Ответ:\n"} for row in rows]
    assert found({"train": rows[:6], "test": rows[6:]}) == {}
    assert "prompt_leakage" in found({"train": rows[:6], "test": rows[5:]})


def test_a_dataset_must_have_something_to_train_on():
    assert found({"test": [sound(0)]}) == {"no_training_split": ("error", 1)}


def test_a_test_question_in_a_deeper_turn_leaks():
    deeper = [*said("Как варить борщ?", "user"), *said("Долго."), *said("А точнее?", "user")]
    rows = [sound(0, prompt=deeper, message_tree_id="a")]
    assert "prompt_leakage" in found({"train": rows, "test": [sound(1, prompt=said("Как варить борщ", "user"))]})
