"""A merged model gives the logits of base and adapter."""

import pytest
import torch
from transformers import AutoTokenizer

from preferans.errors import PreferansError
from preferans.files import read_json
from preferans.models.vocabulary import trim_vocabulary
from preferans.release import merge as merging
from preferans.release import merged_weights

from ..support import mixed
from ..support.merges import DTYPES, TEXT, make_run, merge


def test_an_adapter_of_vocabulary_rows_is_rejected(tmp_path):
    full, cut = mixed.make_gemma(tmp_path / "full"), tmp_path / "cut"
    trim_vocabulary(full, cut, latin_cutoff=500)
    run = make_run(cut, tmp_path / "run", targets=["q_proj", "embed_tokens"])
    with pytest.raises(PreferansError, match="embedding or the head .*, whose rows belong to one vocabulary"):
        merge(run, tmp_path / "out", full_vocabulary=True, texts=[TEXT])
    with pytest.raises(PreferansError, match="which are one table, so both would change"):
        merge(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_agreement_with_base_and_adapter_is_reported(full, trained, tmp_path, call_script, capsys):
    call_script("scripts/merge.py", trained, "--output_dir", tmp_path / "merged")
    found = read_json(tmp_path / "merged" / merging.MERGED)["agreement"]
    assert found["computed_in"] == "float32"
    assert found["positions"] > 100 and 0.9 <= found["greedy_agreement"] <= 1
    assert 0 < found["logit_difference"] <= found["bound"] < found["adapter_effect"]
    if DTYPES[full.name] == "float16":  # rounded, so farther than sums in fp32 can be
        assert found["logit_difference"] > 1e-4
    printed = " ".join(capsys.readouterr().out.split())
    assert f"differ by at most {found['logit_difference']:.1e}" in printed
    assert f"the same at {found['greedy_agreement']:.1%}" in printed
    card = " ".join((tmp_path / "merged" / "README.md").read_text(encoding="utf-8").split())
    assert f"On {found['positions']} positions of Russian texts" in card


def test_logit_agreement_of_two_models():
    expected = [torch.tensor([[0.0, 1.0, 2.0], [3.0, -4.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])]
    found = [torch.tensor([[0.0, 2.5, 2.0], [3.0, -4.0, 0.5]]), torch.tensor([[1.0, 0.0, 0.0]])]
    same = {"logit_difference": 0.0, "largest_logit": 4.0, "greedy_agreement": 1.0, "positions": 3}
    assert merged_weights.logit_agreement(expected, expected) == same
    assert merged_weights.logit_agreement(expected, found) == same | {
        "logit_difference": 1.5,
        "greedy_agreement": pytest.approx(2 / 3),
    }
    broken = merged_weights.logit_agreement(expected, [found[0] * torch.nan, found[1]])["logit_difference"]
    assert not broken <= 1e9


def test_a_wrong_sum_is_rejected(llama_run, tmp_path, monkeypatch):
    monkeypatch.setattr("peft.tuners.lora.model.LoraModel.merge_and_unload", lambda self: self.unload())
    with pytest.raises(
        PreferansError, match="The merged model does not reproduce base \\+ adapter: their logits differ by up to"
    ):
        merge(llama_run[1], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_bf16_base_is_merged_in_fp32(tmp_path):
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
