"""Models of real shapes with random weights, and pairs of exact lengths for them."""

import json
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedTokenizerFast

# The comment names the variables that recipes set.
TEMPLATE = "{#- date_string, enable_thinking -#}{% for message in messages %}{{ message.content }} {% endfor %}"


def make_model(config: PretrainedConfig, folder: Path) -> None:
    """Save a model of this shape with random weights in fp16, and a tokenizer with one token for each word."""
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float16).save_pretrained(folder)
    words = {f"w{number}": number for number in range(config.vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="w1", pad_token="w2", chat_template=TEMPLATE
    ).save_pretrained(folder)


def make_pairs(folder: Path, length: int, vocab_size: int, number: int = 2) -> None:
    """Write some training pairs and two test pairs that fill a length, with different words."""
    draw = random.Random(0)
    prompt = min(32, length // 4)
    sizes = {"prompt": prompt, "chosen": length - prompt, "rejected": length - prompt - 1}
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    for split, rows_of_split in (("train", number), ("test", 2)):
        rows = [
            {
                part: [
                    {
                        "role": roles[part],
                        "content": " ".join(f"w{draw.randrange(3, vocab_size)}" for _ in range(size)),
                    }
                ]
                for part, size in sizes.items()
            }
            for _ in range(rows_of_split)
        ]
        path = folder / "data" / f"{split}-00000-of-00001.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
