"""The Modelfile renders what the chat template renders."""

import json
import shutil
import subprocess

import pytest

from preferans.errors import PreferansError
from preferans.release.ollama import ExportedModel, chat_parts, modelfile

from ..support.tiny import CHAT_TEMPLATE, PLAIN_TEMPLATE

# Llama 3.2's way: a system message is always there, with a date in it.
DATED = (
    "{{- bos_token -}}"
    "{%- if messages[0].role == 'system' -%}{%- set system_text = messages[0].content | trim -%}{%- set messages = messages[1:] -%}"
    "{%- else -%}{%- set system_text = '' -%}{%- endif -%}"
    "{{- '<|start_header_id|>system<|end_header_id|>\n\nToday Date: ' + strftime_now('%Y') + '\n\n' + system_text + '<|eot_id|>' -}}"
    + CHAT_TEMPLATE.removeprefix("{{- bos_token -}}")
)


TALK = [
    {"role": "system", "content": "Ты повар."},
    {"role": "user", "content": "Почему рис слипается?"},
    {"role": "assistant", "content": "Его мало\nпромыли."},
    {"role": "user", "content": "А как надо?"},
]


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, PLAIN_TEMPLATE, DATED], ids=["llama3", "plain", "dated"])
def test_the_parts_of_a_template_render_the_same_conversations(tokenizer, template):
    tokenizer.chat_template = template
    parts = chat_parts(tokenizer)
    for talk in (TALK, TALK[1:], TALK[:2], TALK[1:2]):
        expected = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
        assert parts.write([turn["role"] for turn in talk], [turn["content"] for turn in talk]) == expected


@pytest.mark.parametrize(
    "template",
    [
        "{% for message in messages %}{{ loop.index }}: {{ message.content }}\n{% endfor %}",
        "{% for message in messages[-1:] %}{{ message.content }}{% endfor %}",
        "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}{{ messages[0].content }}",
        "{% for message in messages %}{{ message.content | upper }}{% endfor %}",
        "{% for message in messages %}{{ message.content }}|{{ messages | length }}{% endfor %}",
    ],
    ids=["counts", "forgets", "refuses", "shouts", "knows the length"],
)
def test_a_template_that_parts_cannot_render_is_not_translated(tokenizer, template):
    tokenizer.chat_template = template
    assert chat_parts(tokenizer) is None
    text, has_template = modelfile(ExportedModel("m.gguf", tokenizer, ["<|eot_id|>"], 8192, True))
    assert not has_template and "\nTEMPLATE" not in text and "write TEMPLATE by hand" in text


def test_a_modelfile_of_a_plain_template(tokenizer):
    tokenizer.chat_template = PLAIN_TEMPLATE
    text, has_template = modelfile(
        ExportedModel("m-F16.gguf", tokenizer, ["<|eot_id|>"], 2048, True, "Terms.\n"), "Ты — Сиенна."
    )
    assert has_template
    assert (
        text
        == '''FROM ./m-F16.gguf
TEMPLATE """{{ if .System }}{{ .System }}

{{ end }}{{ range .Messages }}{{ if eq .Role "user" }}Вопрос: {{ .Content }}
{{ else if eq .Role "assistant" }}Ответ: {{ .Content }}<|eot_id|>
{{ end }}{{ end }}Ответ:"""
SYSTEM """Ты — Сиенна."""
PARAMETER stop "<|eot_id|>"
PARAMETER stop "Вопрос:"
PARAMETER temperature 0.7
PARAMETER top_k 60
PARAMETER top_p 0.9
PARAMETER repeat_penalty 1.0
PARAMETER num_ctx 2048
LICENSE """Terms."""
'''
    )


def test_the_first_token_is_written_once(tokenizer):
    tokenizer.chat_template = CHAT_TEMPLATE
    first = "<|begin_of_text|>"
    left, _ = modelfile(ExportedModel("m.gguf", tokenizer, ["<|eot_id|>", "<|end_of_text|>"], 131072, False))
    added, _ = modelfile(ExportedModel("m.gguf", tokenizer, ["<|eot_id|>", "<|end_of_text|>"], 131072, True))
    assert left.count(first) == 2 and first not in added  # with and without a system message
    assert (
        'stop "<|eot_id|>"\nPARAMETER stop "<|end_of_text|>"\nPARAMETER temperature' in added
    )  # its header is no stop
    assert "PARAMETER num_ctx 4096" in added


def test_without_a_chat_template_the_prompt_is_unchanged(tokenizer):
    tokenizer.chat_template = None
    text, has_template = modelfile(ExportedModel("m.gguf", tokenizer, ["<|eot_id|>"], None, True))
    assert has_template and 'TEMPLATE """{{ .Prompt }}"""' in text
    with pytest.raises(PreferansError, match="three quotes"):
        modelfile(ExportedModel("m.gguf", tokenizer, [], None, True), 'Скажи """.')


GO = """package main
import ("encoding/json"; "os"; "text/template")
type Message struct { Role, Content string }
func main() {
  var input struct { Template, System string; Messages []*Message }
  json.NewDecoder(os.Stdin).Decode(&input)
  template.Must(template.New("").Parse(input.Template)).Execute(os.Stdout, map[string]any{"System": input.System, "Messages": input.Messages})
}
"""


@pytest.mark.skipif(shutil.which("go") is None, reason="Go is missing; Ollama's templates are Go templates")
@pytest.mark.parametrize("template", [CHAT_TEMPLATE, PLAIN_TEMPLATE, DATED], ids=["llama3", "plain", "dated"])
def test_go_renders_the_same_text(tokenizer, template, tmp_path):
    tokenizer.chat_template = template
    (tmp_path / "main.go").write_text(GO, encoding="utf-8")
    for talk in (TALK, TALK[1:]):
        system = "".join(turn["content"] for turn in talk if turn["role"] == "system")
        asked = {"Template": chat_parts(tokenizer).go_template, "System": system, "Messages": talk}
        done = subprocess.run(
            ["go", "run", "main.go"], cwd=tmp_path, input=json.dumps(asked).encode(), capture_output=True
        )
        expected = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
        assert done.stdout.decode() == expected, done.stderr
