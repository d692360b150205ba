from types import SimpleNamespace

import pytest
from datasets import Dataset
from tokenizers.processors import TemplateProcessing
from trl import DPOTrainer

from preferans.data.check import CHECKS, check_dataset
from preferans.data.check_tokens import template_pattern, tokenize_pair
from preferans.data.pairs import read_pairs
from preferans.data.repair import fix_dataset

from ..support.pairs import SHAPES, as_plain, findings, messages, valid_row
from ..support.tiny import CHAT_TEMPLATE, make_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def templated(template: str):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_tokenizes_as_trl_does(tokenizer, shape):

    rows = [shape(valid_row(i)) for i in range(4)]
    arguments = SimpleNamespace(dataset_num_proc=None, max_length=None, truncation_mode="keep_start")
    theirs = DPOTrainer._prepare_dataset(
        SimpleNamespace(_tokenizer=tokenizer), Dataset.from_list(rows), tokenizer, arguments, "train"
    )
    for pair, expected in zip(read_pairs({"train": rows})[0], theirs, strict=True):
        ours = tokenize_pair(pair, tokenizer)
        assert {key: ours[key] for key in ours if key != "lost_ids"} == {
            key: expected[key] for key in ("prompt_ids", "chosen_ids", "rejected_ids")
        }


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
def test_finds_mistakes_of_a_chat_template(old, new, check):
    assert CHAT_TEMPLATE.count(old) == 1
    tokenizer = templated(CHAT_TEMPLATE.replace(old, new))
    assert findings([valid_row(0), valid_row(1)], tokenizer) == ({check: (CHECKS[check][0], 2)} if check else {})


def test_finds_rows_that_the_template_refuses():
    template = (
        "{%- if '#' in messages[0].content -%}{{- raise_exception('no headings') -}}{%- endif -%}" + CHAT_TEMPLATE
    )
    rows = [valid_row(0), valid_row(1, prompt=messages("# Как?", "user"))]
    report = check_dataset({"train": rows}, templated(template))
    assert [(finding.check, finding.rows) for finding in report.findings] == [("chat_template", ["c1:r1"])]
    assert "no headings" in report.findings[0].problem
    assert fix_dataset({"train": rows}, templated(template))[0]["train"]["id"].to_list() == ["c0:r0"]


def test_a_system_message_is_folded_as_in_training_if_the_template_has_no_system_role():
    template = (
        "{%- if messages[0].role == 'system' -%}{{- raise_exception('no system role') -}}{%- endif -%}" + CHAT_TEMPLATE
    )
    row = valid_row(1, prompt=messages("Будь краток.", "system") + messages("Как?", "user"))
    report = check_dataset({"train": [row]}, templated(template))
    assert not report.findings
    assert "Будь краток.\n\nКак?" in report.examples[0]["chosen"]["masked"]


def test_finds_mistakes_in_the_tokens_of_plain_texts():

    tokenizer = make_tokenizer()
    begin, end = ((token, tokenizer.convert_tokens_to_ids(token)) for token in ("<|begin_of_text|>", "<|eot_id|>"))
    rows = [as_plain(valid_row(0)), as_plain(valid_row(1)) | {"prompt": "<|begin_of_text|>Вопрос: как?\nОтвет:"}]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(f"{begin[0]} $A", special_tokens=[begin])
    assert findings(rows, tokenizer) == {"double_bos": ("error", 1)}
    shown = check_dataset({"train": rows}, tokenizer).examples[0]["chosen"]
    assert shown["masked"] == "<|begin_of_text|>Вопрос: Почему трава зелёная?\nОтвет:"
    assert shown["scored"] == " Хороший ответ 0.<|eot_id|>"  # TRL writes the end token of a plain text
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(f"$A {end[0]}", special_tokens=[end])
    assert findings(rows, tokenizer) == {"double_eos": ("error", 2), "prompt_prefix": ("warning", 2)}


def test_the_pattern_includes_the_tokens_of_the_tokenizer():
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<конец>"]})
    assert template_pattern(tokenizer).fullmatch("<конец>")
    assert not template_pattern().search("<конец>")
    assert template_pattern().fullmatch("<end_of_turn>")
