"""A merged model answers like base and adapter, also if the vocabulary was trimmed."""

import re
import shutil

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from preferans.errors import PreferansError
from preferans.files import read_json, sha256_of, write_json
from preferans.models.adapters import load_adapter
from preferans.models.trimmed import trimmed_from
from preferans.release import merged_weights
from preferans.release.model_card import model_card

from ..support.merges import DTYPES, TEXT, make_run, merge
from ..support.tiny import CHAT_TEMPLATE, sample_texts

ROUNDING = {"float32": 1e-4, "float16": 5e-3}  # of the sums, seen in the logits


def logits(model, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(torch.tensor([ids])).logits[0]


def trained_logits(cut, trained) -> tuple[torch.Tensor, list[int], list[int]]:
    """Logits of the trimmed model with its adapter, and the old ids of its kept tokens and of the text's tokens."""
    kept = read_json(cut / "kept_token_ids.json")
    ids = AutoTokenizer.from_pretrained(cut)(TEXT)["input_ids"]
    base = AutoModelForCausalLM.from_pretrained(cut, dtype=torch.float32)
    plain, expected = logits(base, ids), logits(PeftModel.from_pretrained(base, trained), ids)
    assert not torch.allclose(plain, expected, atol=1e-2)  # it has learned something
    return expected, kept, [kept[i] for i in ids]


def test_peft_loads_the_adapter_on_the_full_model(full, cut, trained):
    weights = load_file(trained / "adapter_model.safetensors")
    assert not [name for name in weights if "embed" in name or "wte" in name or "lm_head" in name]
    expected, kept, ids = trained_logits(cut, trained)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(full, dtype=torch.float32), trained)
    assert torch.allclose(logits(model, ids)[:, kept], expected, atol=1e-5)
    assert torch.allclose(logits(model.merge_and_unload(), ids)[:, kept], expected, atol=1e-4)


def test_a_merged_trimmed_model_stays_trimmed(full, cut, trained, tmp_path):
    result = merge(trained, tmp_path / "merged")
    assert (result["base"], result["trained_on"]) == (str(cut), str(cut))
    expected, kept, _ = trained_logits(cut, trained)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    assert merged.config.vocab_size == len(kept)
    assert str(merged.dtype) == f"torch.{DTYPES[full.name]}"
    ids = AutoTokenizer.from_pretrained(tmp_path / "merged")(TEXT)["input_ids"]
    assert torch.allclose(logits(merged.float(), ids), expected, atol=ROUNDING[DTYPES[full.name]])
    assert read_json(tmp_path / "merged" / "kept_token_ids.json") == kept
    assert trimmed_from(tmp_path / "merged") == trimmed_from(cut) | {"merged_with": [trained.as_posix()]}
    card = (tmp_path / "merged" / "README.md").read_text(encoding="utf-8")
    assert f"trimmed from that of `{full}`, {len(kept):,} of" in card


def test_the_merged_full_model_gives_the_trained_logits(full, cut, trained, tmp_path, call_script, capsys):
    call_script("scripts/merge.py", trained, "--full_vocabulary", "--output_dir", tmp_path / "merged")
    printed = capsys.readouterr().out
    expected, kept, ids = trained_logits(cut, trained)
    assert f"Trained with {len(kept):,} of" in printed
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    source = AutoModelForCausalLM.from_pretrained(full, dtype="auto")
    assert str(merged.dtype) == f"torch.{DTYPES[full.name]}"
    assert torch.equal(merged.get_input_embeddings().weight, source.get_input_embeddings().weight.to(merged.dtype))
    assert torch.allclose(logits(merged.float(), ids)[:, kept], expected, atol=ROUNDING[DTYPES[full.name]])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert tokenizer(TEXT)["input_ids"] == ids
    assert tokenizer.chat_template == CHAT_TEMPLATE
    assert trimmed_from(tmp_path / "merged") is None
    assert (tmp_path / "merged" / "NOTICE").read_text(encoding="utf-8") == "Terms of the base model."
    card = (tmp_path / "merged" / "README.md").read_text(encoding="utf-8")
    assert f"trained with {len(kept):,} of the" in card and f"Base model: `{full.name}`" in card
    call_script("scripts/merge.py", trained, "--base", full, "--output_dir", tmp_path / "other")
    other = load_file(tmp_path / "other" / "model.safetensors")
    assert all(
        torch.equal(other[key], value) for key, value in load_file(tmp_path / "merged" / "model.safetensors").items()
    )
    call_script("scripts/merge.py", trained, "--full_vocabulary", "--output_dir", tmp_path / "merged")
    assert "The merged model is already in" in capsys.readouterr().out
    with pytest.raises(PreferansError, match="the folder holds something else"):
        merge(trained, tmp_path / "merged")  # the trimmed one


def test_the_adapter_alone_names_the_full_model(full, trained, tmp_path):
    result = merge(trained, tmp_path / "adapter", adapter_only=True, texts=sample_texts()[:4])
    assert result["logit_difference"] < 1e-5
    config = read_json(tmp_path / "adapter" / "adapter_config.json")
    assert config["base_model_name_or_path"] == str(full)
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (trained, tmp_path / "adapter"))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert trimmed_from(tmp_path / "adapter") is None


def test_two_adapters_are_merged_one_after_the_other(full, trained, tmp_path):
    """Imitation and DPO on the trimmed model, and both in the full one."""
    small, large = tmp_path / "small", tmp_path / "large"
    merge(trained, small)
    second = make_run(small, tmp_path / "second", DTYPES[full.name])
    write_json(second / "test_log_probs.json", {"before": []})
    card = " ".join(model_card(second).split())
    assert f"The adapter was trained with a vocabulary trimmed from that of `{full.name}`" in card
    assert f"fits the full model once it has that of `{trained.name}` as well" in card
    texts = sample_texts()[:4]
    with pytest.raises(PreferansError, match=re.escape(f"merge.py {trained.as_posix()} --full_vocabulary")):
        merge(second, tmp_path / "out", full_vocabulary=True, texts=texts)
    with pytest.raises(PreferansError, match="should be the model it was trimmed from"):
        merge(second, tmp_path / "out", base=str(full), texts=texts)
    assert not (tmp_path / "out").exists()
    merge(trained, large, full_vocabulary=True, texts=texts)
    merge(second, tmp_path / "out", base=str(large), texts=texts)
    expected, kept, ids = trained_logits(small, second)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert torch.allclose(logits(merged.float(), ids)[:, kept], expected, atol=ROUNDING[DTYPES[full.name]])


def test_another_model_is_rejected(full, trained, tmp_path, call_script):
    other = shutil.copytree(full, tmp_path / "other")
    model = AutoModelForCausalLM.from_pretrained(other, dtype="auto")
    model.get_input_embeddings().weight.data.mul_(1.05)
    model.save_pretrained(other)
    with pytest.raises(PreferansError, match="should be the model it was trimmed from"):
        call_script("scripts/merge.py", trained, "--output_dir", tmp_path / "out", "--base", other)
    assert not (tmp_path / "out").exists()


def test_the_merged_model_answers_like_base_and_adapter(llama_run, tmp_path):
    base, run = llama_run
    merged = tmp_path / "merged"
    assert merge(run, merged)
    assert (merged / "NOTICE").read_text(encoding="utf-8") == "Terms of the base model."
    whole = AutoModelForCausalLM.from_pretrained(merged)
    both = load_adapter(AutoModelForCausalLM.from_pretrained(base), run)
    tokens = list(range(10, 40))
    assert torch.allclose(logits(whole, tokens), logits(both, tokens), atol=1e-4)
    with both.disable_adapter():
        assert not torch.allclose(logits(whole, tokens), logits(both, tokens), atol=1e-2)
    assert merge(run, merged) is None
    (merged / "model.safetensors").write_bytes(b"")  # a damaged model is made anew
    assert merge(run, merged)
    assert merge(run, merged) is None


def test_a_base_that_was_moved_is_found_by_its_weights(llama_run, tmp_path):
    base, run = llama_run
    moved = base.rename(tmp_path / "moved")
    with pytest.raises(PreferansError, match="or are missing"):
        merge(run, tmp_path / "merged")
    assert merge(run, tmp_path / "merged", base=str(moved))["base"] == str(moved)


def test_runs_that_cannot_be_merged_are_rejected(llama_run, tmp_path):
    base, run = llama_run

    def refused(folder="out", **options) -> str:
        with pytest.raises(PreferansError) as caught:
            merge(run, tmp_path / folder, **options)
        assert not (tmp_path / "out").exists()
        return str(caught.value)

    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert "the folder holds something else" in refused("full")
    assert "the folder holds something else" in refused("full/file")
    assert "cannot be checked that both have the same layers" in refused(base="nobody/nothing")
    assert "is not a folder with a trimmed vocabulary" in refused(full_vocabulary=True)
    assert "--adapter_only: the adapter was trained on" in refused(adapter_only=True)

    merge(run, tmp_path / "merged")
    weights = load_file(run / "adapter_model.safetensors")
    weights[next(name for name in weights if "lora_B" in name)].fill_(1e6)
    save_file(weights, run / "adapter_model.safetensors", metadata={"format": "pt"})
    assert "the folder holds something else" in refused("merged")  # another adapter than then
    origin = read_json(run / "provenance.json")
    write_json(run / "provenance.json", origin | {"keys": origin["keys"] | {"dtype": "float16"}})
    assert "too large for float16" in refused()
    weights = load_file(base / "model.safetensors")
    save_file({name: weight * 2 for name, weight in weights.items()}, base / "model.safetensors", {"format": "pt"})
    assert "have changed since the adapter was trained" in refused()


def test_a_wrong_folder_is_refused_before_a_model_is_loaded(tmp_path, call_script, monkeypatch):
    for name in ("load_on_cpu", "load_source"):
        monkeypatch.setattr(merged_weights, name, lambda *_: pytest.fail("a model was loaded"))
    with pytest.raises(PreferansError, match=r"there is no all_results\.json in it, so it is not a finished run"):
        call_script("scripts/merge.py", tmp_path, "--output_dir", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_merging_needs_texts_to_compare_on(llama_run, tmp_path):
    with pytest.raises(PreferansError, match="there is no text to compare the models on"):
        merge(llama_run[1], tmp_path / "merged", texts=[])
    assert not (tmp_path / "merged").exists()


def test_an_adapter_trained_on_4_bit_weights_is_merged_into_full_weights(llama_run, tmp_path):
    base, run = llama_run
    origin = read_json(run / "provenance.json")
    write_json(run / "provenance.json", origin | {"keys": origin["keys"] | {"load_in_4bit": True}})
    merge(run, tmp_path / "merged")
    assert "quantization_config" not in read_json(tmp_path / "merged" / "config.json")
    before, after = load_file(base / "model.safetensors"), load_file(tmp_path / "merged" / "model.safetensors")
    weights, config = load_file(run / "adapter_model.safetensors"), read_json(run / "adapter_config.json")
    scale = config["lora_alpha"] / config["r"]
    changed = [name for name in weights if "lora_A" in name]
    for name in changed:
        key = name.removeprefix("base_model.model.").replace("lora_A.", "")
        expected = before[key] + scale * weights[name.replace("lora_A", "lora_B")] @ weights[name]
        assert torch.allclose(after[key], expected, atol=1e-6) and not torch.equal(after[key], before[key])
    assert len(changed) == 14  # seven layers in each of two blocks


def test_4_bit_weights_are_rejected_as_base(llama_run, tmp_path):
    base, run = llama_run
    packed = AutoModelForCausalLM.from_pretrained(
        base, quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    )
    packed.save_pretrained(tmp_path / "packed")
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "packed")
    origin = read_json(run / "provenance.json")
    sums = {"model.safetensors": sha256_of(tmp_path / "packed" / "model.safetensors")}
    model = {"name": str(tmp_path / "packed"), "revision": None, "weights_sha256": sums}
    write_json(run / "provenance.json", origin | {"model": model})
    with pytest.raises(PreferansError, match="its weights are quantized"):
        merge(run, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
