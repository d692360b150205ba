"""An adapter trained with a trimmed vocabulary goes back to the full model and stays what it was."""

import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from preferans.errors import PreferansError
from preferans.files import read_json, write_json
from preferans.merging import choose_base, write_merged
from preferans.vocabulary import trim_vocabulary

from .support import mixed
from .support.tiny import CHAT_TEMPLATE, sample_texts

TEXT = "Почему рис всегда слипается, что я делаю не так?"


@pytest.fixture(scope="module", params=["gemma", "llama", "gpt2"])
def full(request, tmp_path_factory):
    return getattr(mixed, f"make_{request.param}")(tmp_path_factory.mktemp("full") / request.param)


@pytest.fixture(scope="module")
def cut(full, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut") / full.name
    trim_vocabulary(full, folder, latin_cutoff=500)
    return folder


@pytest.fixture(scope="module")
def adapter(cut, tmp_path_factory):
    """An adapter of the trimmed model after three steps of training, saved beside its tokenizer as a run does."""
    folder = tmp_path_factory.mktemp("run") / cut.name
    model, tokenizer = AutoModelForCausalLM.from_pretrained(cut).float(), AutoTokenizer.from_pretrained(cut)
    torch.manual_seed(0)
    model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=0.02)
    ids = torch.tensor([tokenizer(TEXT)["input_ids"]])
    for _ in range(3):
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def logits(model, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(torch.tensor([ids])).logits[0]


def trained_logits(cut, adapter) -> tuple[torch.Tensor, list[int], list[int]]:
    """What the trimmed model says with its adapter, and the old number of its kept tokens and of those of the text."""
    kept = read_json(cut / "kept_token_ids.json")
    ids = AutoTokenizer.from_pretrained(cut)(TEXT)["input_ids"]
    base = AutoModelForCausalLM.from_pretrained(cut, dtype=torch.float32)
    plain, expected = logits(base, ids), logits(PeftModel.from_pretrained(base, adapter), ids)
    assert not torch.allclose(plain, expected, atol=1e-2)  # it has learned something
    return expected, kept, [kept[i] for i in ids]


def test_peft_puts_it_onto_the_full_model(full, cut, adapter):
    weights = load_file(adapter / "adapter_model.safetensors")
    assert not [name for name in weights if "embed" in name or "wte" in name or "lm_head" in name]
    expected, kept, ids = trained_logits(cut, adapter)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(full, dtype=torch.float32), adapter)
    assert torch.allclose(logits(model, ids)[:, kept], expected, atol=1e-5)
    assert torch.allclose(logits(model.merge_and_unload(), ids)[:, kept], expected, atol=1e-4)


def test_the_merged_model_is_the_full_one_with_what_was_learned(full, cut, adapter, tmp_path, call_script, capsys):
    call_script("scripts/merge_adapter.py", adapter, "--output_dir", tmp_path / "merged")
    told = capsys.readouterr().out
    expected, kept, ids = trained_logits(cut, adapter)
    assert f"Trained with {len(kept):,} of" in told
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    source = AutoModelForCausalLM.from_pretrained(full, dtype="auto")
    assert merged.dtype == source.dtype
    assert torch.equal(merged.get_input_embeddings().weight, source.get_input_embeddings().weight)
    tolerance = 1e-4 if source.dtype == torch.float32 else 2e-2  # the sums are rounded to the precision of the base
    assert torch.allclose(logits(merged.float(), ids)[:, kept], expected, atol=tolerance)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert tokenizer(TEXT)["input_ids"] == ids
    assert tokenizer.chat_template == CHAT_TEMPLATE
    card = (tmp_path / "merged" / "README.md").read_text(encoding="utf-8")
    assert f"trained with {len(kept):,} of the" in card and f"base_model: {full}" in card


def test_the_adapter_alone_names_the_full_model(full, cut, adapter, tmp_path):
    result = write_merged(adapter, choose_base(adapter), tmp_path, sample_texts()[:4], adapter_only=True)
    assert result["logit_difference"] < 1e-5
    config = read_json(tmp_path / "adapter_config.json")
    assert config["base_model_name_or_path"] == str(full) == choose_base(tmp_path)
    before, after = load_file(adapter / "adapter_model.safetensors"), load_file(tmp_path / "adapter_model.safetensors")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_it_can_be_merged_where_it_was_trained(cut, adapter, tmp_path):
    result = write_merged(adapter, choose_base(adapter, str(cut)), tmp_path, [])
    assert "logit_difference" not in result
    expected, kept, _ = trained_logits(cut, adapter)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids = AutoTokenizer.from_pretrained(tmp_path)(TEXT)["input_ids"]
    assert torch.allclose(logits(merged, ids), expected, atol=2e-2)
    assert merged.config.vocab_size == len(kept)


def test_another_model_is_refused(full, adapter, tmp_path, call_script):
    other = shutil.copytree(full, tmp_path / "other")
    model = AutoModelForCausalLM.from_pretrained(other, dtype="auto")
    model.get_input_embeddings().weight.data.mul_(1.05)
    model.save_pretrained(other)
    command = ["scripts/merge_adapter.py", adapter, "--output_dir", tmp_path / "out", "--base"]
    with pytest.raises(PreferansError, match="should be the model it was cut from"):
        call_script(*command, other)
    assert not (tmp_path / "out").exists()


def test_mistakes(tmp_path, call_script, tiny_llama):
    def refused(run, *options):
        with pytest.raises(PreferansError) as caught:
            call_script("scripts/merge_adapter.py", run, "--output_dir", tmp_path / "out", *options)
        assert not (tmp_path / "out").exists()
        return str(caught.value)

    assert "there is no adapter_config.json in it" in refused(tmp_path)
    run = tmp_path / "run"
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    get_peft_model(model, LoraConfig(target_modules=["q_proj", "embed_tokens"])).save_pretrained(run)
    assert "the adapter changes the embedding or the head" in refused(run)
    assert "cannot be checked that both have the same layers" in refused(run, "--base", "nobody/nothing")
    write_json(
        run / "adapter_config.json", read_json(run / "adapter_config.json") | {"base_model_name_or_path": "gone"}
    )
    assert "nor a model that can be had from the Hub" in refused(run)
