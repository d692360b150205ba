"""
Cutting a model's vocabulary to the language it shall speak.

In a small multilingual model many of the weights are the embedding: 168 of Gemma 3 270M's 268 million, a fifth of Llama 3.2 1B's.
The head that multiplies by it takes two thirds of Gemma's training step on a CPU. Tokens of scripts that never occur in Russian
texts can go: texts of the kept language are split into the same tokens as before, and the logits of kept tokens stay the same.
"""

import gc
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from tqdm.auto import tqdm
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from ..errors import PreferansError
from ..files import read_json, write_json
from .bpe import BpeTokenizer
from .letters import LATIN_CUTOFF, is_of_language, letters_of
from .trimmed import KEPT_NAME, RECORD_NAME

CHECKED_TEXTS, CHECKED_TOKENS, TIMED_RUNS = 4, 128, 3
_WORD = re.compile(r"\w+")


def load_source(name: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """
    Load the tokenizer of a model whose vocabulary is to be cut or was.

    Raises:
        [`PreferansError`]: when there is no such model, or its weights are quantized.
    """

    path = Path(name)
    if path.is_dir() and not (path / "config.json").is_file():
        raise PreferansError(f"{name}: there is no config.json in it, so it is no model folder.")
    if not path.is_dir() and (len(path.parts) > 2 or path.is_absolute() or name.startswith(".")):
        raise PreferansError(f"{name}: there is no such folder. Correct the path.")
    try:
        config, tokenizer = (
            kind.from_pretrained(name, revision=revision or "main") for kind in (AutoConfig, AutoTokenizer)
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise PreferansError(
            f"{name}: neither a folder with a model nor a model that can be had from the Hub ({' '.join(str(error).split()):.200}). Check the "
            "name; a gated model (Llama) also needs access granted on its page and `hf auth login`."
        ) from None
    if getattr(config, "quantization_config", None):
        raise PreferansError(
            f"{name}: its weights are quantized. Name the model they were made from; it is loaded in 4 bits when training."
        )
    return tokenizer


def load_on_cpu(name: str | Path, revision: str | None = None, dtype: torch.dtype | str = "auto") -> PreTrainedModel:
    """
    Load a causal language model on the CPU, by default in the precision it is stored in.

    Raises:
        [`PreferansError`]: when it cannot be loaded.
    """

    try:
        return AutoModelForCausalLM.from_pretrained(name, revision=revision or "main", dtype=dtype).eval()
    except (OSError, ValueError, SafetensorError) as error:
        raise PreferansError(f"{name}: the model cannot be loaded ({' '.join(str(error).split()):.300}).") from None


def trim_vocabulary(
    source: str | Path,
    target: str | Path,
    language: str = "ru",
    latin_cutoff: int = LATIN_CUTOFF,
    corpus: Sequence[str] = (),
    name: str | None = None,
) -> dict[str, Any]:
    """
    Write a copy of a model whose tokenizer, embedding and head keep only what a language and a corpus need.

    Args:
        source (`str` or `Path`):
            Folder or Hub id of a causal language model with a BPE tokenizer: byte-level, or with byte fallback.
        target (`str` or `Path`):
            Folder to write. `kept_token_ids.json` in it gives the old number of each token, `trimmed_vocabulary.json` says
            what was done; see [`trimmed_from`].
        language (`str`, *optional*, defaults to `"ru"`):
            See [`~preferans.models.letters.letters_of`].
        latin_cutoff (`int`, *optional*, defaults to `20_000`):
            See [`~preferans.models.bpe.keeps_text`].
        corpus (`Sequence[str]`, *optional*):
            Texts whose tokens stay as well.
        name (`str`, *optional*, defaults to `source`):
            What the record calls the source.

    Returns:
        `dict`: the record: `source`, `language`, `latin_cutoff`, `corpus_texts`, `tokens_before`, `tokens_after`,
        `embedding_rows_before` and `bytes_saved_fp16` of embedding and head.

    Raises:
        [`PreferansError`]: when the tokenizer or the model is of a kind that cannot be cut.
    """

    source = str(source)
    letters = letters_of(language)
    old = load_source(source)
    full = BpeTokenizer.of(old, source)
    needed = {
        number for ids in tokenize([*corpus, *_template_texts(old)], old, "Reading the corpus") for number in ids
    }
    model = load_on_cpu(source)
    configs = [model.config, model.config.get_text_config(), model.generation_config]
    needed |= {number for config in configs for _, ids in _token_ids(config) for number in ids} | set(
        old.all_special_ids
    )
    rows = model.get_input_embeddings().weight.shape[0]
    kept = full.keeps(latin_cutoff, letters) | {token for token, number in full.numbers.items() if number in needed}
    # An added token may have no row, such as the one for images in the text part of Gemma 3.
    kept = {token for token in full.with_pieces(kept) if full.numbers[token] < rows}
    cut, old_ids = full.cut(kept)
    new_id = {old_id: new for new, old_id in enumerate(old_ids)}

    select_rows(model, torch.tensor(old_ids), source)
    renumbered = []
    for config in configs:
        if any(config is other for other in renumbered):  # a text model's configuration is its own text configuration
            continue
        renumbered.append(config)
        for key, ids in _token_ids(config):
            left = [new_id[number] for number in ids if number in new_id]
            several = isinstance(getattr(config, key), list)
            setattr(config, key, left if several else left[0] if left else None)
    named = {
        key: getattr(old, key) for key in ("bos_token", "eos_token", "pad_token", "unk_token") if getattr(old, key)
    }
    # The model's own tokenizer class would build the full vocabulary's pre-tokenizer anew; the generic one reads the file.
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(cut.spec)),
        padding_side="left",
        model_max_length=old.model_max_length,
        **named,
    )
    tokenizer.chat_template = old.chat_template

    target = Path(target)
    target.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    write_json(target / KEPT_NAME, old_ids)
    tables = 1 if is_tied(model) else 2
    width = model.get_input_embeddings().weight.shape[1]
    record = {
        "source": name or source,
        "language": language,
        "latin_cutoff": latin_cutoff,
        "corpus_texts": len(corpus),
        "tokens_before": len(full.numbers),
        "tokens_after": len(old_ids),
        "embedding_rows_before": rows,
        "bytes_saved_fp16": 2 * tables * width * (rows - len(old_ids)),
    }
    write_json(target / RECORD_NAME, record)
    return record


def select_rows(model: PreTrainedModel, rows: torch.Tensor, name: str) -> None:
    """
    Keep only the given rows of a model's embedding and head.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model, changed in place.
        rows (`torch.Tensor` of shape `(tokens,)`):
            Numbers of the rows to keep, in their new order.
        name (`str`):
            What to call the model in a message.

    Raises:
        [`PreferansError`]: when it has another table as long as the vocabulary.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    before = embedding.weight.shape[0]
    tied = is_tied(model)
    tables = {
        "embedding": embedding.weight.data[rows].clone(),
        "head": None if tied else head.weight.data[rows].clone(),
        "bias": None if getattr(head, "bias", None) is None else head.bias.data[rows].clone(),
    }
    known = {id(parameter) for parameter in (*embedding.parameters(), *head.parameters())}
    others = [
        key
        for key, parameter in model.named_parameters()
        if id(parameter) not in known and before in parameter.shape and "embed" in key
    ]
    if others:
        raise PreferansError(
            f"{name}: it has another table for every token ({', '.join(others)}), which cannot be cut."
        )
    model.resize_token_embeddings(len(rows), mean_resizing=False)
    model.get_input_embeddings().weight.data.copy_(tables["embedding"])
    head = model.get_output_embeddings()
    if not tied:
        head.weight.data.copy_(tables["head"])
    if tables["bias"] is not None:
        head.bias.data.copy_(tables["bias"])
    model.tie_weights()


def is_tied(model: PreTrainedModel) -> bool:
    return model.get_input_embeddings().weight.data_ptr() == model.get_output_embeddings().weight.data_ptr()


def _token_ids(config: Any) -> list[tuple[str, list[int]]]:
    """Settings that name tokens by their numbers, such as `eos_token_id`."""
    values = {key: value for key, value in config.to_dict().items() if key.endswith("_token_id") and value is not None}
    return [(key, value if isinstance(value, list) else [value]) for key, value in values.items()]


def _template_texts(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """What the chat template itself writes around messages."""
    if not tokenizer.chat_template:
        return []
    messages = [{"role": "user", "content": "."}, {"role": "assistant", "content": "."}]
    return [
        tokenizer.apply_chat_template(messages, tokenize=False),
        tokenizer.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True),
    ]


def tokenize(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, description: str) -> list[list[int]]:
    """Numbers of the tokens of texts, with the special tokens that the tokenizer adds, under a progress bar."""

    ids = []
    for start in tqdm(range(0, len(texts), 1000), desc=description, disable=len(texts) <= 1000):
        ids += tokenizer(list(texts[start : start + 1000]), verbose=False)["input_ids"] if texts else []
    return ids


def check_trimmed(
    source: str | Path, folder: str | Path, texts: Sequence[str], corpus: Sequence[str] = ()
) -> dict[str, Any]:
    """
    Compare a written model with the one it was cut from.

    Args:
        source (`str` or `Path`):
            Full model.
        folder (`str` or `Path`):
            What [`trim_vocabulary`] wrote.
        texts (`Sequence[str]`):
            Real texts, in any language.
        corpus (`Sequence[str]`, *optional*):
            Texts that were given as the corpus.

    Returns:
        `dict`: numbers of `texts` and of those `split_alike`, of those in the `language` alone, `tokens_per_word_before` and
        `tokens_per_word_after`; `logit_difference`, the largest on kept tokens, in `logit_dtype`; `speed`, how many times faster
        a forward pass is on this machine's CPU.

    Raises:
        [`PreferansError`]: when a text of the language or of the corpus is split otherwise than before, a text is not read back,
        or embeddings or logits of kept tokens differ.
    """
    kept, record = read_json(Path(folder) / KEPT_NAME), read_json(Path(folder) / RECORD_NAME)
    letters = letters_of(record["language"])
    old, new = load_source(str(source)), load_source(str(folder))
    everything = [*texts, *corpus]
    old_ids, new_ids = (tokenize(everything, tokenizer, "Checking") for tokenizer in (old, new))
    alike = [[kept[i] for i in after] == before for before, after in zip(old_ids, new_ids, strict=True)]
    of_language = [is_of_language(text, letters) for text in everything]
    for number, text in enumerate(everything):
        if not alike[number] and (of_language[number] or number >= len(texts)):
            raise PreferansError(
                f"{source}: its vocabulary cannot be cut by this rule, since a text is split otherwise than before: "
                f"«{' '.join(text.split()):.100}». Nothing was written. Please report it with the name of the model."
            )
        if old.decode(old_ids[number]) != new.decode(new_ids[number]):
            raise PreferansError(
                f"{source}: its vocabulary cannot be cut, since a text is not read back as it was: «{' '.join(text.split()):.100}»."
            )
    words = sum(len(_WORD.findall(text)) for text in everything)
    samples = [ids[:CHECKED_TOKENS] for ids, same in zip(new_ids, alike, strict=True) if same and len(ids) > 8]
    difference, dtype, speed = _compare_logits(source, folder, samples[:CHECKED_TEXTS], kept)
    gc.collect()  # Windows moves no folder whose files are still mapped
    return {
        "texts": len(everything),
        "split_alike": sum(alike),
        "of_language": sum(of_language),
        "tokens_per_word_before": round(sum(map(len, old_ids)) / max(words, 1), 4),
        "tokens_per_word_after": round(sum(map(len, new_ids)) / max(words, 1), 4),
        "logit_difference": difference,
        "logit_dtype": dtype,
        "speed": round(speed, 2),
    }


def _compare_logits(
    source: str | Path, folder: str | Path, samples: list[list[int]], kept: list[int]
) -> tuple[float, str, float]:

    if not samples:
        raise PreferansError(
            "The logits cannot be compared: no text of nine tokens is split as before. Give longer texts."
        )
    full = load_on_cpu(source)
    whole = fits_in_fp32(full)
    full = full.float() if whole else full
    old_samples = [[kept[i] for i in ids] for ids in samples]
    expected, full_time = logits_of(full, old_samples, torch.tensor(kept)), _forward_seconds(full, old_samples[0])
    rows = full.get_input_embeddings().weight.data[kept].clone()
    dtype = str(full.dtype).removeprefix("torch.")
    del full
    gc.collect()
    trimmed = load_on_cpu(folder)
    trimmed = trimmed.float() if whole else trimmed
    if not torch.equal(trimmed.get_input_embeddings().weight.data, rows):
        raise PreferansError(
            f"{source}: the rows of the cut embedding are not those of its tokens. Nothing was written. Please report it with the name "
            "of the model."
        )
    found, trimmed_time = logits_of(trimmed, samples), _forward_seconds(trimmed, samples[0])
    return check_logits(expected, found, whole, "The cut model and its source"), dtype, full_time / trimmed_time


def fits_in_fp32(model: PreTrainedModel) -> bool:
    """Whether the machine's free memory takes a loaded model in fp32, in which logits can be compared closely."""

    stored = sum(parameter.nbytes for parameter in model.parameters())
    return 4 * model.num_parameters() - stored < 0.8 * psutil.virtual_memory().available


def logits_of(
    model: torch.nn.Module, samples: list[list[int]], columns: torch.Tensor | None = None
) -> list[torch.Tensor]:
    """Logits of each sample, of the given columns or all, in fp32."""

    logits = []
    with torch.no_grad():
        for ids in samples:
            output = model(torch.tensor([ids])).logits[0]
            logits.append((output if columns is None else output[:, columns]).float())
    return logits


def _forward_seconds(model: torch.nn.Module, ids: list[int]) -> float:
    """Seconds that a forward pass takes, the best of three."""
    times = []
    for _ in range(TIMED_RUNS):
        start = time.perf_counter()
        logits_of(model, [ids])
        times.append(time.perf_counter() - start)
    return min(times)


def check_logits(expected: list[torch.Tensor], found: list[torch.Tensor], in_fp32: bool, what: str) -> float:
    """
    Largest difference of logits, of two models computed alike.

    Raises:
        [`PreferansError`]: when it is more than rounding.
    """
    difference = max((a - b).abs().max().item() for a, b in zip(expected, found, strict=True))
    scale = max(1.0, *(logits.abs().max().item() for logits in expected))
    if not difference <= (1e-4 if in_fp32 else 2e-2) * scale:
        raise PreferansError(
            f"{what} differ by up to {difference:.3g} in the logits of kept tokens, which is more than rounding. Nothing was written."
        )
    return difference
