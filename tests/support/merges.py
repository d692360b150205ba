"""Adapters on tiny models, and their merge with two texts."""

from functools import partial

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from preferans.files import write_json
from preferans.release import merge as merging
from preferans.training.run_folder import provenance

from .tiny import CHAT_TEMPLATE, sample_texts

merge = partial(merging.merge, texts=sample_texts()[:2])


TEXT = "Почему рис всегда слипается, что я делаю не так?"


DTYPES = {"gemma": "float32", "llama": "float16", "gpt2": "float32"}


def make_run(base, folder, dtype: str = "float32", targets="all-linear"):
    """Train an adapter for three steps and save it as a finished run does."""
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
