"""Tiny models with Russian, English and Chinese vocabularies, for trimming."""

from pathlib import Path

from .tiny import CHAT_TEMPLATE, SHAPE, sample_texts

CHINESE = ["你好世界 学习 语言 模型", "今天天气很好，我们去公园。"] * 200


def make_gemma(folder: Path) -> Path:
    """Make a Gemma 3 with a SentencePiece-like tokenizer: tied embedding, byte fallback."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig, PreTrainedTokenizerFast

    special = ["<pad>", "<eos>", "<bos>", "<unk>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(vocab_size=1200, special_tokens=special, show_progress=False, max_token_length=8)
    tokenizer.train_from_iterator(sample_texts() + CHINESE, trainer)
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    shape = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "layer_types": ["sliding_attention", "full_attention"],
    }
    config = Gemma3TextConfig(vocab_size=tokenizer.get_vocab_size(), **shape)
    _save(folder, Gemma3ForCausalLM, config, PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names))
    return folder


def train_byte_level(ignore_merges: bool, pattern: str | None):
    """Train a byte-level BPE tokenizer without special tokens."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    split = [pre_tokenizers.Split(Regex(pattern), behavior="isolated")] if pattern else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*split, byte_level]) if split else byte_level
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1500, initial_alphabet=alphabet, show_progress=False)
    emoji = ["Привет! 😀 «Да» — 5 №, 🎉🎉 … 42"] * 50
    tokenizer.train_from_iterator(sample_texts() + CHINESE + emoji, trainer)
    return tokenizer


def make_llama(folder: Path) -> Path:
    """
    Make a Llama with Llama 3's kind of tokenizer: special tokens after the vocabulary, several end tokens, a template that adds the
    first token, and whole words matched before merging. Its head is untied, has more rows than tokens, and is stored in fp16.
    """
    from tokenizers import AddedToken, processors
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    pattern = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    tokenizer = train_byte_level(True, pattern)
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    bos, eos, _, _, eot = map(tokenizer.token_to_id, special)
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"{special[0]} $A", special_tokens=[(special[0], bos)]),
        ]
    )
    ids = {"bos_token_id": bos, "eos_token_id": [eos, eot], "pad_token_id": None}
    config = LlamaConfig(vocab_size=tokenizer.get_vocab_size() + 24, **(SHAPE | {"tie_word_embeddings": False}), **ids)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=special[0], eos_token=special[4], model_max_length=2048
    )
    fast.chat_template = CHAT_TEMPLATE
    _save(folder, LlamaForCausalLM, config, fast, half=True)
    return folder


def make_gpt2(folder: Path) -> Path:
    """Make a GPT-2 with the tokenizer files of ruGPT-3: `vocab.json` and `merges.txt` without `tokenizer.json`."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from preferans.files import write_json

    tokenizer = train_byte_level(False, None)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    end, size = tokenizer.token_to_id("<|endoftext|>"), tokenizer.get_vocab_size()
    config = GPT2Config(
        vocab_size=size, n_embd=64, n_layer=2, n_head=4, n_positions=512, bos_token_id=end, eos_token_id=end
    )
    _save(folder, GPT2LMHeadModel, config, None)
    tokenizer.model.save(str(folder))
    vocabulary = tokenizer.get_vocab()
    write_json(folder / "vocab.json", vocabulary)
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer"})
    return folder


def _save(folder: Path, model_class, config, tokenizer, half: bool = False) -> None:
    import torch

    torch.manual_seed(0)
    model = model_class(config)
    (model.half() if half else model).save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
