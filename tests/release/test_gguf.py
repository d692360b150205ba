"""
A merged model becomes a GGUF file by llama.cpp, with a Modelfile that renders the same as the chat template.

Where llama.cpp is not on this machine (the environment variable LLAMA_CPP, or the path), a stand-in for its converter shows only how it
is called and what is made of its failures; that the real one writes the model is then not tested.
"""

import shutil
from functools import partial
from pathlib import Path

import pytest
import torch

from preferans.errors import PreferansError
from preferans.models.vocabulary import trim_vocabulary
from preferans.release.gguf import check_gguf, export_gguf
from preferans.release.llama_cpp import CONVERTER, Tools, find_tools

from ..support import mixed
from ..support.merges import make_run, merge
from ..support.tiny import PLAIN_TEMPLATE


def llama_cpp() -> Tools | None:
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


def stand_in(folder: Path, script: str) -> Tools:
    """A checkout of llama.cpp whose converter does what `script` does."""
    folder.mkdir()
    (folder / CONVERTER).write_text(script, encoding="utf-8")
    return find_tools("f16", str(folder))


def test_export_problems_are_found_before_merging(tmp_path, call_script, monkeypatch):
    monkeypatch.delenv("LLAMA_CPP", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    full, cut = mixed.make_llama(tmp_path / "full"), tmp_path / "cut"
    trim_vocabulary(full, cut, latin_cutoff=500)
    run, out = make_run(cut, tmp_path / "run"), tmp_path / "out"
    call = partial(call_script, "scripts/merge.py", run, "--output_dir", out)
    with pytest.raises(PreferansError, match="git clone"):
        call("--gguf", "f16")
    (tmp_path / CONVERTER).touch()
    with pytest.raises(PreferansError, match="trimmed from that of .* does not recognise this one"):
        call("--gguf", "f16", "--llama_cpp", tmp_path)
    with pytest.raises(PreferansError, match="Leave out --adapter_only"):
        call("--gguf", "f16", "--llama_cpp", tmp_path, "--adapter_only")
    with pytest.raises(PreferansError, match="--persona needs --gguf"):
        call("--persona", "personas/sienna.yaml")
    assert not out.exists()


def test_a_failed_conversion_is_reported_and_leaves_no_files(merged, tmp_path):
    failing = stand_in(tmp_path / "failing", "raise NotImplementedError('BPE pre-tokenizer was not recognized')")
    with pytest.raises(
        PreferansError, match="status 1: NotImplementedError: BPE .* does not support this base model's tokenizer"
    ):
        export_gguf(merged, "f16", failing)
    lacking = stand_in(tmp_path / "lacking", "import no_such_package")
    with pytest.raises(PreferansError, match="'no_such_package'. Install that package"):
        export_gguf(merged, "f16", lacking)
    writes = "import sys; open(sys.argv[sys.argv.index('--outfile') + 1], 'wb').write(b'no model')"
    with pytest.raises(PreferansError, match="no readable GGUF file"):
        export_gguf(merged, "f16", stand_in(tmp_path / "rubbish", writes))
    silent = stand_in(tmp_path / "silent", "import sys; print(50 * ' 12%|'); sys.exit(3)")
    with pytest.raises(PreferansError, match="status 3: no message"):
        export_gguf(merged, "f16", silent)
    assert not [path for path in merged.iterdir() if "gguf" in path.name]


@pytest.mark.skipif(llama_cpp() is None, reason="llama.cpp is missing; set LLAMA_CPP to its folder")
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
    tokenizer.chat_template = PLAIN_TEMPLATE
    with pytest.raises(PreferansError, match="it has another chat template"):
        check_gguf(file, merged, gguf_type, tokenizer)
    larger = shutil.copytree(merged, tmp_path / "larger", ignore=shutil.ignore_patterns("gguf_*"))
    save_file(weights | {"model.layers.2.mlp.up_proj.weight": torch.zeros(4, 4)}, larger / "model.safetensors")
    with pytest.raises(PreferansError, match="1 tensors are missing or of another size"):
        check_gguf(file, larger, gguf_type, AutoTokenizer.from_pretrained(merged))
