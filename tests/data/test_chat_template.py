"""Chat templates that are broken or have no system role."""

import pytest
from datasets import Dataset
from transformers import AutoTokenizer

from preferans.data.chat_template import check_template, fit_to_template, fold_system, with_variables
from preferans.errors import PreferansError

from ..support.rows import preference
from ..support.tiny import CHAT_TEMPLATE

SYSTEM, QUESTION = {"role": "system", "content": "Отвечай кратко."}, {"role": "user", "content": "Почему?"}
FOLDED = [{"role": "user", "content": "Отвечай кратко.\n\nПочему?"}]
RAISES = "{%- if messages[0].role == 'system' -%}{{- raise_exception('System role not supported') -}}{%- endif -%}"
SKIPS = "{%- for message in messages if message.role != 'system' -%}{{- message.content -}}{%- endfor -%}"


@pytest.fixture
def tokenizer(tiny_llama):
    return AutoTokenizer.from_pretrained(tiny_llama)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% for message in messages %}{{ message.content }}", "TemplateSyntaxError: Unexpected end of template"),
        ("{{ raise_exception('no') }}", "TemplateError: no"),
        ("{{ messages[0].content + 1 }}", "TypeError: can only concatenate str"),
        ("{{ message.content }}", "UndefinedError: 'message' is undefined"),
        ("{{ messages[0].content }}", "leaves out the message of the role 'assistant'"),
    ],
)
def test_names_what_is_wrong_with_a_template(tokenizer, template, words):
    tokenizer.chat_template = template
    with pytest.raises(PreferansError) as caught:
        check_template(tokenizer, "chat_template_path x.jinja")
    assert str(caught.value).startswith("chat_template_path x.jinja: the chat template is broken (")
    assert words in str(caught.value)


def test_accepts_a_template_without_a_system_role(tokenizer):
    for template in (CHAT_TEMPLATE, RAISES + CHAT_TEMPLATE, SKIPS):
        tokenizer.chat_template = template
        check_template(tokenizer, "x")


def test_folds_a_system_message_only_if_the_template_loses_it(tokenizer):
    assert fold_system([SYSTEM, QUESTION], tokenizer) == [SYSTEM, QUESTION]
    for template in (RAISES + CHAT_TEMPLATE, SKIPS):
        tokenizer.chat_template = template
        assert fold_system([SYSTEM, QUESTION], tokenizer) == FOLDED
    assert fold_system([SYSTEM], tokenizer) == [SYSTEM]


def test_folds_the_prompts_of_rows(tokenizer, capsys):
    rows = Dataset.from_list([preference(0), preference(1, prompt=[SYSTEM, QUESTION])])
    assert fit_to_template(rows, tokenizer, "x") is rows
    tokenizer.chat_template = RAISES + CHAT_TEMPLATE
    folded = fit_to_template(rows, tokenizer, "The test split")
    assert folded["prompt"][1] == FOLDED and folded["prompt"][0] == rows["prompt"][0]
    assert folded["chosen"][:] == rows["chosen"][:] and folded.features == rows.features
    assert "The test split: the chat template has no system role, so 1 system messages" in capsys.readouterr().out


def test_names_a_row_that_the_template_rejects(tokenizer):
    twice = preference(1, prompt=[QUESTION, {"role": "user", "content": "Вопрос дважды?"}])
    tokenizer.chat_template = (
        "{%- if messages[1].role == 'user' -%}{{- raise_exception('roles must alternate') -}}{%- endif -%}"
        + CHAT_TEMPLATE
    )
    rows = Dataset.from_list([preference(0), twice])
    with pytest.raises(
        PreferansError, match=r"x, row 1 \(c1:r1\): .*rejects it \(TemplateError: roles must alternate"
    ):
        fit_to_template(rows, tokenizer, "x")


def test_plain_texts_need_no_template(tokenizer):
    rows = Dataset.from_list([{"prompt": "Почему?", "chosen": "Да.", "rejected": "Нет."}])
    tokenizer.chat_template = None
    assert fit_to_template(rows, tokenizer, "x") is rows


def test_variables_are_defaults_of_the_template(tokenizer):
    template = "{%- for message in messages -%}{{ message.content }}{%- endfor -%}{%- if loud is true -%}!{%- endif -%}{{ date_string }}"
    messages = [QUESTION]
    tokenizer.chat_template = with_variables(template, {"loud": True, "date_string": "1 мая 'по старому'"})
    assert tokenizer.apply_chat_template(messages, tokenize=False) == "Почему?!1 мая 'по старому'"
    assert tokenizer.apply_chat_template(messages, tokenize=False, loud=False, date_string="") == "Почему?"
    tokenizer.chat_template = with_variables(tokenizer.chat_template, {"loud": False})
    assert tokenizer.apply_chat_template(messages, tokenize=False, date_string="") == "Почему?", "the outer one wins"


@pytest.mark.parametrize("name", ["enable_thinkin", "enable thinking", "мысли"])
def test_a_variable_that_the_template_does_not_use_is_a_mistake(name):
    with pytest.raises(PreferansError, match=f"the chat template has no variable '{name}'"):
        with_variables("{%- if enable_thinking is true -%}{%- endif -%}", {name: True})
