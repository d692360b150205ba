"""Models of real shapes with random weights, and pairs of exact lengths for them."""

import json
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedTokenizerFast

# The comment names the variables that recipes set.
TEMPLATE = "{#- date_string, enable_thinking -#}{% for message in messages %}{{ message.content }} {% endfor %}"


def make_model(config: PretrainedConfig, folder: Path, device: str = "cpu") -> None:
    """Save a model of this shape with random weights in fp16, and a tokenizer with one token for each word."""
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float16)
    model.save_pretrained(folder)
    words = {f"w{number}": number for number in range(config.vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="w1", pad_token="w2", chat_template=TEMPLATE
    ).save_pretrained(folder)


def filling(length: int) -> tuple[int, int, int]:
    """Return the tokens of prompt, chosen and rejected answer of a pair that fills a length, with a short prompt."""
    prompt = min(32, length // 4)
    return prompt, length - prompt, length - prompt - 1


def make_pairs(folder: Path, sizes: list[tuple[int, int, int]], vocab_size: int) -> None:
    """Write a training pair of random words for each triple of tokens of prompt, chosen and rejected answer, and the first two as test pairs."""
    draw = random.Random(0)
    parts = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    for split, sizes_of_split in (("train", sizes), ("test", sizes[:2])):
        rows = [
            {
                part: [{"role": role, "content": " ".join(f"w{draw.randrange(3, vocab_size)}" for _ in range(size))}]
                for (part, role), size in zip(parts.items(), pair, strict=True)
            }
            for pair in sizes_of_split
        ]
        path = folder / "data" / f"{split}-00000-of-00001.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
