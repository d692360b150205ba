"""
A merged model becomes a GGUF file by llama.cpp, with a Modelfile that says what the chat template says.

Where llama.cpp is not on this machine (the environment variable LLAMA_CPP, or the path), a stand-in for its converter shows only how it
is called and what is made of its failures; that the real one writes the model is then not tested.
"""

import json
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from preferans.errors import PreferansError
from preferans.models.vocabulary import trim_vocabulary
from preferans.release import gguf as exporting
from preferans.release import merge as merging
from preferans.release.gguf import check_gguf, export_gguf
from preferans.release.llama_cpp import CONVERTER, find_tools
from preferans.release.ollama import chat_parts, modelfile

from ..support import mixed
from ..support.tiny import CHAT_TEMPLATE, ROOT, make_tokenizer, sample_texts
from .test_merge import make_run

merge = partial(merging.merge, texts=sample_texts()[:2])
PLAIN = (ROOT / "recipes" / "chat_templates" / "plain_ru.jinja").read_text(encoding="utf-8").rstrip("\n")
# Llama 3.2's way: a system message is always there, with a date in it.
DATED = (
    "{{- bos_token -}}"
    "{%- if messages[0].role == 'system' -%}{%- set told = messages[0].content | trim -%}{%- set messages = messages[1:] -%}"
    "{%- else -%}{%- set told = '' -%}{%- endif -%}"
    "{{- '<|start_header_id|>system<|end_header_id|>\n\nToday Date: ' + strftime_now('%Y') + '\n\n' + told + '<|eot_id|>' -}}"
    + CHAT_TEMPLATE.removeprefix("{{- bos_token -}}")
)
TALK = [
    {"role": "system", "content": "Ты повар."},
    {"role": "user", "content": "Почему рис слипается?"},
    {"role": "assistant", "content": "Его мало\nпромыли."},
    {"role": "user", "content": "А как надо?"},
]


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


def llama_cpp() -> exporting.Tools | None:
    try:
        return find_tools("f16")
    except PreferansError:
        return None


@pytest.fixture
def merged(tmp_path):
    """A merged Llama whose tokenizer has byte fallback, as Llama 2's: llama.cpp takes it without knowing it by name."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    base = tmp_path / "base"
    AutoTokenizer.from_pretrained(mixed.make_gemma(tmp_path / "gemma")).save_pretrained(base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape, **ids)).save_pretrained(base)
    (base / "NOTICE").write_text("Terms of the base model.", encoding="utf-8")
    run = make_run(base, tmp_path / "run", dtype="float16")
    merge(run, tmp_path / "merged")
    return tmp_path / "merged"


def stand_in(folder: Path, script: str) -> exporting.Tools:
    """A checkout of llama.cpp whose converter does what `script` does."""
    folder.mkdir()
    (folder / CONVERTER).write_text(script, encoding="utf-8")
    return find_tools("f16", str(folder))


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, PLAIN, DATED], ids=["llama3", "plain", "dated"])
def test_a_template_in_pieces_writes_what_it_wrote(tokenizer, template):
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
def test_what_the_pieces_cannot_say_is_not_translated(tokenizer, template):
    tokenizer.chat_template = template
    assert chat_parts(tokenizer) is None
    text, has_template = modelfile("m.gguf", tokenizer, ["<|eot_id|>"], 8192, True)
    assert not has_template and "\nTEMPLATE" not in text and "write TEMPLATE by hand" in text


def test_a_modelfile_of_a_plain_template(tokenizer):
    tokenizer.chat_template = PLAIN
    text, has_template = modelfile("m-F16.gguf", tokenizer, ["<|eot_id|>"], 2048, True, "Ты — Сиенна.", "Terms.\n")
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


def test_the_first_token_is_set_once(tokenizer):
    tokenizer.chat_template = CHAT_TEMPLATE
    first = "<|begin_of_text|>"
    left, _ = modelfile("m.gguf", tokenizer, ["<|eot_id|>", "<|end_of_text|>"], 131072, False)
    added, _ = modelfile("m.gguf", tokenizer, ["<|eot_id|>", "<|end_of_text|>"], 131072, True)
    assert left.count(first) == 2 and first not in added  # with and without a system message
    assert (
        'stop "<|eot_id|>"\nPARAMETER stop "<|end_of_text|>"\nPARAMETER temperature' in added
    )  # its header is no stop
    assert "PARAMETER num_ctx 4096" in added


def test_texts_without_a_template_go_in_as_they_are(tokenizer):
    tokenizer.chat_template = None
    text, has_template = modelfile("m.gguf", tokenizer, ["<|eot_id|>"], None, True)
    assert has_template and 'TEMPLATE """{{ .Prompt }}"""' in text
    with pytest.raises(PreferansError, match="three quotes"):
        modelfile("m.gguf", tokenizer, [], None, True, 'Скажи """.')


GO = """package main
import ("encoding/json"; "os"; "text/template")
type Message struct { Role, Content string }
func main() {
  var said struct { Template, System string; Messages []*Message }
  json.NewDecoder(os.Stdin).Decode(&said)
  template.Must(template.New("").Parse(said.Template)).Execute(os.Stdout, map[string]any{"System": said.System, "Messages": said.Messages})
}
"""


@pytest.mark.skipif(shutil.which("go") is None, reason="Go is not here, whose template language Ollama speaks")
@pytest.mark.parametrize("template", [CHAT_TEMPLATE, PLAIN, DATED], ids=["llama3", "plain", "dated"])
def test_go_writes_the_same(tokenizer, template, tmp_path):
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


def test_what_is_missing_is_said_with_where_it_is_had(tmp_path, monkeypatch):
    monkeypatch.delenv("LLAMA_CPP", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PreferansError, match=re.escape("git clone --depth 1 https://github.com/ggml-org/llama.cpp")):
        find_tools("f16")
    with pytest.raises(PreferansError, match="there is no such folder"):
        find_tools("f16", str(tmp_path / "nowhere"))
    (tmp_path / CONVERTER).touch()
    assert find_tools("q8_0", str(tmp_path)).quantizer is None
    with pytest.raises(
        PreferansError, match="winget install llama.cpp .* cmake --build build --target llama-quantize"
    ):
        find_tools("q4_k_m", str(tmp_path))
    program = tmp_path / "build" / "bin" / f"llama-quantize{'.exe' if sys.platform == 'win32' else ''}"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    monkeypatch.setenv("LLAMA_CPP", str(tmp_path))
    assert find_tools("q4_k_m").quantizer == program


def test_it_is_refused_before_anything_is_merged(tmp_path, call_script, monkeypatch):
    monkeypatch.delenv("LLAMA_CPP", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    full, cut = mixed.make_llama(tmp_path / "full"), tmp_path / "cut"
    trim_vocabulary(full, cut, latin_cutoff=500)
    run, out = make_run(cut, tmp_path / "run"), tmp_path / "out"
    call = partial(call_script, "scripts/merge.py", run, "--output_dir", out)
    with pytest.raises(PreferansError, match="git clone"):
        call("--gguf", "f16")
    (tmp_path / CONVERTER).touch()
    with pytest.raises(PreferansError, match="trimmed from that of .* does not know this one"):
        call("--gguf", "f16", "--llama_cpp", tmp_path)
    with pytest.raises(PreferansError, match="Leave --adapter_only out"):
        call("--gguf", "f16", "--llama_cpp", tmp_path, "--adapter_only")
    with pytest.raises(PreferansError, match="--persona is for --gguf"):
        call("--persona", "personas/sienna.yaml")
    assert not out.exists()


def test_a_failure_of_the_converter_is_told_and_leaves_nothing(merged, tmp_path):
    failing = stand_in(tmp_path / "failing", "raise NotImplementedError('BPE pre-tokenizer was not recognized')")
    with pytest.raises(
        PreferansError, match="status 1: NotImplementedError: BPE .* does not know this base model's tokenizer"
    ):
        export_gguf(merged, "f16", failing)
    lacking = stand_in(tmp_path / "lacking", "import no_such_package")
    with pytest.raises(PreferansError, match="'no_such_package'. Install that package"):
        export_gguf(merged, "f16", lacking)
    writes = "import sys; open(sys.argv[sys.argv.index('--outfile') + 1], 'wb').write(b'no model')"
    with pytest.raises(PreferansError, match="no readable GGUF file"):
        export_gguf(merged, "f16", stand_in(tmp_path / "rubbish", writes))
    silent = stand_in(tmp_path / "silent", "import sys; print(50 * ' 12%|'); sys.exit(3)")
    with pytest.raises(PreferansError, match="status 3: it said nothing"):
        export_gguf(merged, "f16", silent)
    assert not [path for path in merged.iterdir() if "gguf" in path.name]


@pytest.mark.skipif(llama_cpp() is None, reason="llama.cpp is not here: LLAMA_CPP names its checkout")
@pytest.mark.parametrize("gguf_type", ["f16", "q8_0", "q4_0"])
def test_llama_cpp_writes_the_model(merged, gguf_type, tmp_path):
    import gguf
    import numpy as np
    from safetensors.torch import load_file, save_file
    from transformers import AutoTokenizer

    try:
        tools = find_tools(gguf_type)
    except PreferansError:
        pytest.skip("llama-quantize is not built")
    folder, has_template = export_gguf(merged, gguf_type, tools, "Ты повар.")
    assert has_template and folder == merged / f"gguf_{gguf_type}"
    assert sorted(path.name for path in folder.iterdir()) == [
        "Modelfile",
        f"merged-{gguf_type.upper()}.gguf",
        "preferans_gguf.json",
    ]
    file = folder / f"merged-{gguf_type.upper()}.gguf"
    weights = load_file(merged / "model.safetensors")
    [table] = [tensor for tensor in gguf.GGUFReader(file).tensors if tensor.name == "token_embd.weight"]
    found = gguf.dequantize(table.data, table.tensor_type)
    expected = weights["model.embed_tokens.weight"].float().numpy()
    distance = np.abs(found - expected).max() / np.abs(expected).max()
    assert distance <= {"f16": 0, "q8_0": 1 / 127, "q4_0": 1 / 7}[gguf_type]
    text = (folder / "Modelfile").read_text(encoding="utf-8")
    assert f"FROM ./{file.name}\n" in text and 'SYSTEM """Ты повар."""' in text and "Terms of the base model." in text
    assert export_gguf(merged, gguf_type, tools, "Ты повар.") is None
    tokenizer = AutoTokenizer.from_pretrained(merged)
    other = "q8_0" if gguf_type == "f16" else "f16"
    with pytest.raises(PreferansError, match="it is of type"):
        check_gguf(file, merged, other, tokenizer)
    tokenizer.chat_template = PLAIN
    with pytest.raises(PreferansError, match="it has another chat template"):
        check_gguf(file, merged, gguf_type, tokenizer)
    larger = shutil.copytree(merged, tmp_path / "larger", ignore=shutil.ignore_patterns("gguf_*"))
    save_file(weights | {"model.layers.2.mlp.up_proj.weight": torch.zeros(4, 4)}, larger / "model.safetensors")
    with pytest.raises(PreferansError, match="1 tensors are missing or of another size"):
        check_gguf(file, larger, gguf_type, AutoTokenizer.from_pretrained(merged))
