"""
Cutting a model's vocabulary to the languages it shall speak.

In a small multilingual model most of the weights are the embedding: 168 of Gemma 3 270M's 268 million, and the head that
multiplies by it takes two thirds of a training step on a CPU. Tokens of scripts that never occur in Russian texts can go:
texts of the kept languages are split into the same tokens as before, and the logits of kept tokens stay the same.
"""

import json
import re
from pathlib import Path

from .files import write_json

_CYRILLIC = re.compile(r"[\W\d_]*[а-яА-ЯёЁ][а-яА-ЯёЁ\W\d_]*")
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_PLACEHOLDER = re.compile(r"<unused\d+>|\[multimodal\]")


def keeps_token(token: str, token_id: int, latin_cutoff: int) -> bool:
    """
    Whether a SentencePiece token stays in a Russian vocabulary.

    Args:
        token (`str`):
            Token as the tokenizer writes it, with `▁` for a space.
        token_id (`int`):
            Its number in the full vocabulary: BPE learns frequent tokens first, so a low number is a frequent token.
        latin_cutoff (`int`):
            Tokens of several Latin letters stay when their number is below this.

    Returns:
        `bool`: `True` for special tokens, raw bytes, anything Cyrillic, single letters, punctuation, digits and frequent
        Latin.
    """
    if _PLACEHOLDER.fullmatch(token):
        return False
    if re.fullmatch(r"<[a-z_]+>", token) or _BYTE.fullmatch(token):
        return True
    text = token.replace("▁", "")
    if _CYRILLIC.fullmatch(text):
        return True
    if len(text) <= 1:
        return not text.isalpha() or text < "\u0530"  # below: Latin, Greek and Cyrillic letters
    if not any(character.isalnum() for character in text):
        return True
    return text.isascii() and token_id < latin_cutoff


def trim_vocabulary(source: str | Path, target: str | Path, latin_cutoff: int = 20_000) -> tuple[int, int]:
    """
    Write a copy of a model whose tokenizer and tied embedding keep only what Russian texts need.

    Args:
        source (`str` or `Path`):
            Folder of a causal language model with tied embeddings and a BPE `tokenizer.json` with byte fallback, such as
            Gemma 3.
        target (`str` or `Path`):
            Folder to write. `kept_token_ids.json` in it gives the old number of each token.
        latin_cutoff (`int`, *optional*, defaults to `20_000`):
            See [`keeps_token`].

    Returns:
        `tuple[int, int]`: size of the vocabulary before and after.
    """
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

    source, target = Path(source), Path(target)
    spec = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    bpe = spec["model"]
    before = len(bpe["vocab"])
    kept = sorted(
        (number, token) for token, number in bpe["vocab"].items() if keeps_token(token, number, latin_cutoff)
    )
    numbers = {token: new for new, (_, token) in enumerate(kept)}
    bpe["vocab"] = numbers
    # A merge can stay only if both of its parts and its result do.
    bpe["merges"] = [(a, b) for a, b in bpe["merges"] if a in numbers and b in numbers and a + b in numbers]
    spec["added_tokens"] = [
        token | {"id": numbers[token["content"]]} for token in spec["added_tokens"] if token["content"] in numbers
    ]
    old_ids = torch.tensor([number for number, _ in kept])

    model = AutoModelForCausalLM.from_pretrained(source, dtype="auto")
    table = model.get_input_embeddings().weight.data[old_ids].clone()
    model.resize_token_embeddings(len(kept), mean_resizing=False)
    model.get_input_embeddings().weight.data.copy_(table)
    model.tie_weights()

    old = AutoTokenizer.from_pretrained(source)
    # The model's own tokenizer class would build the full vocabulary's pre-tokenizer anew; the generic one reads the file.
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(spec)),
        padding_side="left",
        **{
            name: getattr(old, name)
            for name in ("bos_token", "eos_token", "pad_token", "unk_token")
            if getattr(old, name)
        },
    )
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        for config in (model.config, model.generation_config):
            setattr(config, name, getattr(tokenizer, name))

    target.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    write_json(target / "kept_token_ids.json", old_ids.tolist())
    return before, len(kept)
