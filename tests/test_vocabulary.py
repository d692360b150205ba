import json

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    PreTrainedTokenizerFast,
)

from preferans.language import cyrillic_share
from preferans.vocabulary import keeps_token, trim_vocabulary

from .support.tiny import sample_texts


@pytest.mark.parametrize(
    ("token", "kept"),
    [
        ("▁привет", True),
        ("ё", True),
        ("▁2006", True),
        ("▁the", True),  # frequent: below the cutoff
        ("a", True),
        ("ñ", True),
        ("ش", False),
        ("漢", False),
        ("▁漢字", False),
        ("▁cộng", False),
        ("…»", True),
        ("▁▁▁▁", True),
        ("<0xD0>", True),
        ("<bos>", True),
        ("<start_of_turn>", True),
        ("<unused42>", False),
        ("приvet", False),
    ],
)
def test_which_tokens_stay(token, kept):
    assert keeps_token(token, 100, latin_cutoff=1000) == kept


def test_rare_latin_goes():
    assert not keeps_token("▁zeitgeist", 5000, latin_cutoff=1000)
    assert keeps_token("▁привет", 5000, latin_cutoff=1000)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A tiny Gemma 3 whose SentencePiece-like vocabulary holds Russian, English and Chinese."""
    folder = tmp_path_factory.mktemp("gemma")
    special = ["<pad>", "<eos>", "<bos>", "<unk>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    chinese = ["你好世界 学习 语言 模型"] * 200
    trainer = trainers.BpeTrainer(vocab_size=1200, special_tokens=special, show_progress=False, max_token_length=8)
    tokenizer.train_from_iterator(sample_texts() + chinese, trainer)
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        layer_types=["sliding_attention", "full_attention"],
    )
    Gemma3ForCausalLM(config).save_pretrained(folder)
    return folder


def test_russian_is_split_alike_and_kept_logits_are_equal(base, tmp_path):
    before, after = trim_vocabulary(base, tmp_path / "cut", latin_cutoff=10_000)
    assert after < before
    old_tokenizer, tokenizer = AutoTokenizer.from_pretrained(base), AutoTokenizer.from_pretrained(tmp_path / "cut")
    old_model, model = (
        AutoModelForCausalLM.from_pretrained(base),
        AutoModelForCausalLM.from_pretrained(tmp_path / "cut"),
    )
    kept = json.loads((tmp_path / "cut" / "kept_token_ids.json").read_text(encoding="utf-8"))
    assert len(kept) == len(tokenizer) == model.config.vocab_size == after
    assert tokenizer.padding_side == "left"
    assert model.config.eos_token_id == model.generation_config.eos_token_id == tokenizer.eos_token_id
    for text in sample_texts():
        ids, old_ids = tokenizer(text)["input_ids"], old_tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
        if cyrillic_share(text) == 1.0:
            assert [kept[i] for i in ids] == old_ids
    ids = tokenizer("Привет, как дела?")["input_ids"]
    old_ids = [kept[i] for i in ids]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits
        old_logits = old_model(torch.tensor([old_ids])).logits[..., kept]
    assert torch.allclose(logits, old_logits, atol=1e-5)
    assert model.get_input_embeddings().weight.data_ptr() == model.get_output_embeddings().weight.data_ptr()


def test_a_removed_script_falls_back_to_bytes(base, tmp_path):
    trim_vocabulary(base, tmp_path / "cut", latin_cutoff=10_000)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "cut")
    ids = tokenizer("你好")["input_ids"]
    assert tokenizer.decode(ids) == "你好"
    assert all(token.startswith("<0x") for token in tokenizer.convert_ids_to_tokens(ids))
