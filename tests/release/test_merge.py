"""An adapter in the weights of its base says what the two said; with a trimmed vocabulary there, it goes back to the full model as well."""

import re
import shutil
from functools import partial

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from preferans.errors import PreferansError
from preferans.files import read_json, sha256_of, write_json
from preferans.models.adapters import load_adapter
from preferans.models.trimmed import trimmed_from
from preferans.models.vocabulary import trim_vocabulary
from preferans.release import merge as merging
from preferans.release.model_card import model_card
from preferans.training.run_folder import provenance

from ..support import mixed
from ..support.tiny import CHAT_TEMPLATE, sample_texts

merge = partial(merging.merge, texts=sample_texts()[:2])
TEXT = "Почему рис всегда слипается, что я делаю не так?"
DTYPES = {"gemma": "float32", "llama": "float16", "gpt2": "float32"}
ROUNDING = {"float32": 1e-4, "float16": 5e-3}  # of the sums, seen in the logits


def make_run(base, folder, dtype: str = "float32", targets="all-linear"):
    """An adapter after three steps of training, saved as a finished run saves it."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base).float(), AutoTokenizer.from_pretrained(base)
    torch.manual_seed(0)
    model = get_peft_model(model, LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM"))
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=0.02)
    ids = torch.tensor([tokenizer(TEXT)["input_ids"]])
    for _ in range(3):
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    data = {"name": "pairs", "fingerprint": "0" * 16, "train_pairs": 1, "test_pairs": 1}
    origin = provenance("recipe.yaml", {"model_name_or_path": str(base), "dtype": dtype}, data, seed=0)
    write_json(folder / "provenance.json", origin)
    write_json(folder / "all_results.json", {})
    return folder


@pytest.fixture(scope="module", params=list(DTYPES))
def full(request, tmp_path_factory):
    folder = getattr(mixed, f"make_{request.param}")(tmp_path_factory.mktemp("full") / request.param)
    (folder / "NOTICE").write_text("Terms of the base model.", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def cut(full, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut") / full.name
    trim_vocabulary(full, folder, latin_cutoff=500)
    return folder


@pytest.fixture(scope="module")
def trained(full, cut, tmp_path_factory):
    return make_run(cut, tmp_path_factory.mktemp("run") / cut.name, DTYPES[full.name])


@pytest.fixture
def llama_run(tiny_llama, tmp_path):
    """A run on a base model of its own, and that base model."""
    base = shutil.copytree(tiny_llama, tmp_path / "base")
    (base / "NOTICE").write_text("Terms of the base model.", encoding="utf-8")
    return base, make_run(base, tmp_path / "run")


def logits(model, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(torch.tensor([ids])).logits[0]


def trained_logits(cut, trained) -> tuple[torch.Tensor, list[int], list[int]]:
    """What the trimmed model says with its adapter, and the old number of its kept tokens and of those of the text."""
    kept = read_json(cut / "kept_token_ids.json")
    ids = AutoTokenizer.from_pretrained(cut)(TEXT)["input_ids"]
    base = AutoModelForCausalLM.from_pretrained(cut, dtype=torch.float32)
    plain, expected = logits(base, ids), logits(PeftModel.from_pretrained(base, trained), ids)
    assert not torch.allclose(plain, expected, atol=1e-2)  # it has learned something
    return expected, kept, [kept[i] for i in ids]


def test_peft_puts_it_onto_the_full_model(full, cut, trained):
    weights = load_file(trained / "adapter_model.safetensors")
    assert not [name for name in weights if "embed" in name or "wte" in name or "lm_head" in name]
    expected, kept, ids = trained_logits(cut, trained)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(full, dtype=torch.float32), trained)
    assert torch.allclose(logits(model, ids)[:, kept], expected, atol=1e-5)
    assert torch.allclose(logits(model.merge_and_unload(), ids)[:, kept], expected, atol=1e-4)


def test_a_trimmed_model_stays_trimmed_and_says_so(full, cut, trained, tmp_path):
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


def test_the_merged_model_is_the_full_one_with_what_was_learned(full, cut, trained, tmp_path, call_script, capsys):
    call_script("scripts/merge.py", trained, "--full_vocabulary", "--output_dir", tmp_path / "merged")
    told = capsys.readouterr().out
    expected, kept, ids = trained_logits(cut, trained)
    assert f"Trained with {len(kept):,} of" in told
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
    with pytest.raises(PreferansError, match="there is something else already"):
        merge(trained, tmp_path / "merged")  # the trimmed one


def test_the_adapter_alone_names_the_full_model(full, trained, tmp_path):
    result = merge(trained, tmp_path / "adapter", adapter_only=True, texts=sample_texts()[:4])
    assert result["logit_difference"] < 1e-5
    config = read_json(tmp_path / "adapter" / "adapter_config.json")
    assert config["base_model_name_or_path"] == str(full)
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (trained, tmp_path / "adapter"))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert trimmed_from(tmp_path / "adapter") is None


def test_two_adapters_go_back_one_after_the_other(full, trained, tmp_path):
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
    with pytest.raises(PreferansError, match="should be the model it was cut from"):
        merge(second, tmp_path / "out", base=str(full), texts=texts)
    assert not (tmp_path / "out").exists()
    merge(trained, large, full_vocabulary=True, texts=texts)
    merge(second, tmp_path / "out", base=str(large), texts=texts)
    expected, kept, ids = trained_logits(small, second)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert torch.allclose(logits(merged.float(), ids)[:, kept], expected, atol=ROUNDING[DTYPES[full.name]])


def test_another_model_is_refused(full, trained, tmp_path, call_script):
    other = shutil.copytree(full, tmp_path / "other")
    model = AutoModelForCausalLM.from_pretrained(other, dtype="auto")
    model.get_input_embeddings().weight.data.mul_(1.05)
    model.save_pretrained(other)
    with pytest.raises(PreferansError, match="should be the model it was cut from"):
        call_script("scripts/merge.py", trained, "--output_dir", tmp_path / "out", "--base", other)
    assert not (tmp_path / "out").exists()


def test_it_answers_as_the_two_did_and_is_written_once(llama_run, tmp_path):
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
    with pytest.raises(PreferansError, match="or is gone"):
        merge(run, tmp_path / "merged")
    assert merge(run, tmp_path / "merged", base=str(moved))["base"] == str(moved)


def test_what_cannot_be_merged_is_refused(llama_run, tmp_path):
    base, run = llama_run

    def refused(folder="out", **options) -> str:
        with pytest.raises(PreferansError) as caught:
            merge(run, tmp_path / folder, **options)
        assert not (tmp_path / "out").exists()
        return str(caught.value)

    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert "there is something else already" in refused("full")
    assert "there is something else already" in refused("full/file")
    assert "cannot be checked that both have the same layers" in refused(base="nobody/nothing")
    assert "is not here as a folder with a trimmed vocabulary" in refused(full_vocabulary=True)
    assert "--adapter_only: the adapter was trained on" in refused(adapter_only=True)

    merge(run, tmp_path / "merged")
    weights = load_file(run / "adapter_model.safetensors")
    weights[next(name for name in weights if "lora_B" in name)].fill_(1e6)
    save_file(weights, run / "adapter_model.safetensors", metadata={"format": "pt"})
    assert "there is something else already" in refused("merged")  # another adapter than then
    origin = read_json(run / "provenance.json")
    write_json(run / "provenance.json", origin | {"keys": origin["keys"] | {"dtype": "float16"}})
    assert "too large for float16" in refused()
    weights = load_file(base / "model.safetensors")
    save_file({name: weight * 2 for name, weight in weights.items()}, base / "model.safetensors", {"format": "pt"})
    assert "other weights now than when the adapter was trained" in refused()


def test_rows_of_a_vocabulary_are_not_carried_over(tmp_path):
    full, cut = mixed.make_gemma(tmp_path / "full"), tmp_path / "cut"
    trim_vocabulary(full, cut, latin_cutoff=500)
    run = make_run(cut, tmp_path / "run", targets=["q_proj", "embed_tokens"])
    with pytest.raises(PreferansError, match="embedding or the head .*, whose rows belong to one vocabulary"):
        merge(run, tmp_path / "out", full_vocabulary=True, texts=[TEXT])
    with pytest.raises(PreferansError, match="which are one table, so that both would change"):
        merge(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_wrong_folder_is_refused_before_a_model_is_loaded(tmp_path, call_script, monkeypatch):
    for name in ("load_on_cpu", "load_source"):
        monkeypatch.setattr(merging, name, lambda *_: pytest.fail("a model was loaded"))
    with pytest.raises(PreferansError, match=r"there is no all_results\.json in it, so it is not a finished run"):
        call_script("scripts/merge.py", tmp_path, "--output_dir", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_how_far_it_is_from_base_and_adapter_is_measured_and_told(full, trained, tmp_path, call_script, capsys):
    call_script("scripts/merge.py", trained, "--output_dir", tmp_path / "merged")
    found = read_json(tmp_path / "merged" / merging.MERGED)["agreement"]
    assert found["computed_in"] == "float32"
    assert found["positions"] > 100 and 0.9 <= found["greedy_agreement"] <= 1
    assert 0 < found["logit_difference"] <= found["bound"] < found["adapter_effect"]
    if DTYPES[full.name] == "float16":  # rounded, so farther than sums in fp32 can be
        assert found["logit_difference"] > 1e-4
    told = " ".join(capsys.readouterr().out.split())
    assert f"differ by at most {found['logit_difference']:.1e}" in told
    assert f"the same at {found['greedy_agreement']:.1%}" in told
    card = " ".join((tmp_path / "merged" / "README.md").read_text(encoding="utf-8").split())
    assert f"On {found['positions']} positions of Russian texts" in card


def test_what_two_models_say_is_compared():
    expected = [torch.tensor([[0.0, 1.0, 2.0], [3.0, -4.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])]
    found = [torch.tensor([[0.0, 2.5, 2.0], [3.0, -4.0, 0.5]]), torch.tensor([[1.0, 0.0, 0.0]])]
    same = {"logit_difference": 0.0, "largest_logit": 4.0, "greedy_agreement": 1.0, "positions": 3}
    assert merging.compare(expected, expected) == same
    assert merging.compare(expected, found) == same | {
        "logit_difference": 1.5,
        "greedy_agreement": pytest.approx(2 / 3),
    }
    broken = merging.compare(expected, [found[0] * torch.nan, found[1]])["logit_difference"]
    assert not broken <= 1e9


def test_a_sum_that_is_none_is_refused(llama_run, tmp_path, monkeypatch):
    monkeypatch.setattr("peft.tuners.lora.model.LoraModel.merge_and_unload", lambda self: self.unload())
    with pytest.raises(PreferansError, match="The merged model is not base and adapter: their logits differ by up to"):
        merge(llama_run[1], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_base_in_bf16_is_added_to_in_fp32(tmp_path):
    """Gemma scales its embeddings by a number that bf16 rounds."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    tokenizer = AutoTokenizer.from_pretrained(mixed.make_gemma(tmp_path / "gemma"))
    shape = {"hidden_size": 80, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Gemma3TextConfig(vocab_size=len(tokenizer), num_key_value_heads=1, head_dim=32, **shape)
    torch.manual_seed(0)
    Gemma3ForCausalLM(config).bfloat16().save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    result = merge(make_run(tmp_path / "base", tmp_path / "run"), tmp_path / "merged")
    assert result["agreement"]["logit_difference"] < 1e-4


def test_without_texts_there_is_nothing_to_compare_on(llama_run, tmp_path):
    with pytest.raises(PreferansError, match="there is no text to compare the models on"):
        merge(llama_run[1], tmp_path / "merged", texts=[])
    assert not (tmp_path / "merged").exists()


def test_an_adapter_trained_on_4_bit_weights_goes_into_the_full_ones(llama_run, tmp_path):
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


def test_4_bit_weights_are_never_merged_into(llama_run, tmp_path):
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
