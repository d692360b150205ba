"""
Trim a model's vocabulary to one language.

In a small multilingual model many weights are the embedding: 168 of Gemma 3 270M's 268 million, a fifth of Llama 3.2 1B's. The head
needs two thirds of Gemma's training step on a CPU. Tokens of scripts that never occur in Russian texts can be removed: texts of the kept
language are split into the same tokens as before, and the logits of kept tokens stay the same.
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
    Load the tokenizer of a model to trim, or of a trimmed model.

    Raises:
        [`PreferansError`]: if the model is missing, or its weights are quantized.
    """
    path = Path(name)
    if path.is_dir() and not (path / "config.json").is_file():
        raise PreferansError(f"{name}: it has no config.json, so it is not a model folder.")
    if not path.is_dir() and (len(path.parts) > 2 or path.is_absolute() or name.startswith(".")):
        raise PreferansError(f"{name}: there is no such folder. Correct the path.")
    try:
        config, tokenizer = (
            kind.from_pretrained(name, revision=revision or "main") for kind in (AutoConfig, AutoTokenizer)
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise PreferansError(
            f"{name}: it is neither a model folder nor a model that can be loaded from the Hub ({' '.join(str(error).split()):.200}). Check the "
            "name; a gated model (Llama) also needs access granted on its page and `hf auth login`."
        ) from None
    if getattr(config, "quantization_config", None):
        raise PreferansError(
            f"{name}: its weights are quantized. Name the original model; training loads it in 4 bits."
        )
    return tokenizer


def load_on_cpu(name: str | Path, revision: str | None = None, dtype: torch.dtype | str = "auto") -> PreTrainedModel:
    """
    Load a causal language model on the CPU, by default in its stored precision.

    Raises:
        [`PreferansError`]: if it cannot be loaded.
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
    Write a copy of a model whose tokenizer, embedding and head have only the tokens that a language and a corpus need.

    Args:
        source (`str` or `Path`):
            Folder or Hub id of a causal language model with a BPE tokenizer, byte-level or with byte fallback.
        target (`str` or `Path`):
            Output folder. Its `kept_token_ids.json` has the old id of each token, its `trimmed_vocabulary.json` the record; see
            [`~preferans.models.trimmed.trimmed_from`].
        language (`str`, *optional*, defaults to `"ru"`): See [`~preferans.models.letters.letters_of`].
        latin_cutoff (`int`, *optional*, defaults to `20_000`): See [`~preferans.models.bpe.keeps_text`].
        corpus (`Sequence[str]`, *optional*): Texts whose tokens are kept too.
        name (`str`, *optional*, defaults to `source`): Name of the source in the record.

    Returns:
        `dict`: the record: `source`, `language`, `latin_cutoff`, `corpus_texts`, `tokens_before`, `tokens_after`,
        `embedding_rows_before` and `bytes_saved_fp16` of embedding and head.

    Raises:
        [`PreferansError`]: if this kind of tokenizer or model cannot be trimmed.
    """
    source, target = str(source), Path(target)
    letters = letters_of(language)
    old = load_source(source)
    full = BpeTokenizer.of(old, source)
    needed = tokenize([*corpus, *_template_texts(old)], old, "Reading the corpus")
    model = load_on_cpu(source)
    configs = _configs(model)
    ids = {number for text in needed for number in text} | set(old.all_special_ids)
    ids |= {number for config in configs for _, numbers in _token_ids(config) for number in numbers}
    rows = model.get_input_embeddings().weight.shape[0]
    kept = full.keeps(latin_cutoff, letters) | {token for token, number in full.numbers.items() if number in ids}
    # An added token can have no row, such as the one for images in the text part of Gemma 3.
    kept = {token for token in full.with_pieces(kept) if full.numbers[token] < rows}
    cut, old_ids = full.cut(kept)

    select_rows(model, torch.tensor(old_ids), source)
    _renumber(configs, {old_id: new for new, old_id in enumerate(old_ids)})
    target.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(target)
    _as_tokenizer(cut, old).save_pretrained(target)
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


def _configs(model: PreTrainedModel) -> list[Any]:
    """Return the model's configurations; that of a text model is its own text configuration."""
    configs = [model.config, model.config.get_text_config(), model.generation_config]
    return list({id(config): config for config in configs}.values())


def _renumber(configs: list[Any], new_ids: dict[int, int]) -> None:
    for config in configs:
        for key, ids in _token_ids(config):
            left = [new_ids[number] for number in ids if number in new_ids]
            several = isinstance(getattr(config, key), list)
            setattr(config, key, left if several else left[0] if left else None)


def _as_tokenizer(cut: BpeTokenizer, old: PreTrainedTokenizerBase) -> PreTrainedTokenizerFast:
    special = ("bos_token", "eos_token", "pad_token", "unk_token")
    # The model's tokenizer class would rebuild the full vocabulary's pre-tokenizer; the generic class reads the file.
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(cut.spec)),
        padding_side="left",
        model_max_length=old.model_max_length,
        **{key: getattr(old, key) for key in special if getattr(old, key)},
    )
    tokenizer.chat_template = old.chat_template
    return tokenizer


def select_rows(model: PreTrainedModel, rows: torch.Tensor, name: str) -> None:
    """
    Keep only the given rows of a model's embedding and head.

    Args:
        model ([`~transformers.PreTrainedModel`]): Model, changed in place.
        rows (`torch.Tensor` of shape `(tokens,)`): Indices of the rows to keep, in their new order.
        name (`str`): The model's name for messages.

    Raises:
        [`PreferansError`]: if it has another table with a row per token.
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
            f"{name}: it has another table with a row per token ({', '.join(others)}), which cannot be trimmed."
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
    """Return the settings with token ids, such as `eos_token_id`."""
    values = {key: value for key, value in config.to_dict().items() if key.endswith("_token_id") and value is not None}
    return [(key, value if isinstance(value, list) else [value]) for key, value in values.items()]


def _template_texts(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return texts with the chat template's own tokens."""
    if not tokenizer.chat_template:
        return []
    messages = [{"role": "user", "content": "."}, {"role": "assistant", "content": "."}]
    return [
        tokenizer.apply_chat_template(messages, tokenize=False),
        tokenizer.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True),
    ]


def tokenize(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, description: str) -> list[list[int]]:
    """Return the token ids of texts, with special tokens; long lists show a progress bar."""
    ids: list[list[int]] = []
    for start in tqdm(range(0, len(texts), 1000), desc=description, disable=len(texts) <= 1000):
        ids += tokenizer(list(texts[start : start + 1000]), verbose=False)["input_ids"] if texts else []
    return ids


def check_trimmed(
    source: str | Path, folder: str | Path, texts: Sequence[str], corpus: Sequence[str] = ()
) -> dict[str, Any]:
    """
    Compare a trimmed model with its source.

    Args:
        source (`str` or `Path`): Full model.
        folder (`str` or `Path`): Folder written by [`trim_vocabulary`].
        texts (`Sequence[str]`): Real texts in any language.
        corpus (`Sequence[str]`, *optional*): The texts of the corpus.

    Returns:
        `dict`: numbers of `texts`, of those `split_alike` and of those `of_language`; `tokens_per_word_before` and
        `tokens_per_word_after`; `logit_difference`, the largest on kept tokens, computed in `logit_dtype`; `speed`, the speedup of a
        forward pass on this CPU.

    Raises:
        [`PreferansError`]: if a text of the language or of the corpus is split differently, a text cannot be decoded again, or
        embeddings or logits of kept tokens differ.
    """
    kept, record = read_json(Path(folder) / KEPT_NAME), read_json(Path(folder) / RECORD_NAME)
    old, new = load_source(str(source)), load_source(str(folder))
    everything = [*texts, *corpus]
    old_ids, new_ids = (tokenize(everything, tokenizer, "Checking") for tokenizer in (old, new))
    alike = [[kept[i] for i in after] == before for before, after in zip(old_ids, new_ids, strict=True)]
    letters = letters_of(record["language"])
    of_language = [is_of_language(text, letters) for text in everything]
    for number, text in enumerate(everything):
        excerpt = f"{' '.join(text.split()):.100}"
        if not alike[number] and (of_language[number] or number >= len(texts)):
            raise PreferansError(
                f"{source}: its vocabulary cannot be trimmed, because a text is split differently: «{excerpt}». Nothing was written. "
                "Please report it with the name of the model."
            )
        if old.decode(old_ids[number]) != new.decode(new_ids[number]):
            raise PreferansError(
                f"{source}: its vocabulary cannot be trimmed, because a text is decoded differently: «{excerpt}»."
            )
    words = max(sum(len(_WORD.findall(text)) for text in everything), 1)
    samples = [ids[:CHECKED_TOKENS] for ids, same in zip(new_ids, alike, strict=True) if same and len(ids) > 8]
    difference, dtype, speed = _compare_logits(source, folder, samples[:CHECKED_TEXTS], kept)
    gc.collect()  # Windows cannot move a folder with mapped files
    return {
        "texts": len(everything),
        "split_alike": sum(alike),
        "of_language": sum(of_language),
        "tokens_per_word_before": round(sum(map(len, old_ids)) / words, 4),
        "tokens_per_word_after": round(sum(map(len, new_ids)) / words, 4),
        "logit_difference": difference,
        "logit_dtype": dtype,
        "speed": round(speed, 2),
    }


def _compare_logits(
    source: str | Path, folder: str | Path, samples: list[list[int]], kept: list[int]
) -> tuple[float, str, float]:
    """Return the largest difference, the precision of the comparison, and the speedup."""
    if not samples:
        raise PreferansError(
            "The logits cannot be compared: no text of nine tokens is split as before. Use longer texts."
        )
    full = load_on_cpu(source)
    in_fp32 = fits_in_fp32(full)
    full = full.float() if in_fp32 else full
    old_samples = [[kept[i] for i in ids] for ids in samples]
    expected, full_time = logits_of(full, old_samples, torch.tensor(kept)), _forward_seconds(full, old_samples[0])
    rows = full.get_input_embeddings().weight.data[kept].clone()
    dtype = str(full.dtype).removeprefix("torch.")
    del full
    gc.collect()
    trimmed = load_on_cpu(folder)
    trimmed = trimmed.float() if in_fp32 else trimmed
    if not torch.equal(trimmed.get_input_embeddings().weight.data, rows):
        raise PreferansError(
            f"{source}: the rows of the trimmed embedding do not match its tokens. Nothing was written. Please report it with the name of "
            "the model."
        )
    logits, trimmed_time = logits_of(trimmed, samples), _forward_seconds(trimmed, samples[0])
    return check_logits(expected, logits, in_fp32, "The trimmed model and its source"), dtype, full_time / trimmed_time


def fits_in_fp32(model: PreTrainedModel) -> bool:
    """Check whether a loaded model fits in free memory in fp32, for an exact comparison of logits."""
    stored = sum(parameter.nbytes for parameter in model.parameters())
    return 4 * model.num_parameters() - stored < 0.8 * psutil.virtual_memory().available


def logits_of(
    model: torch.nn.Module, samples: list[list[int]], columns: torch.Tensor | None = None
) -> list[torch.Tensor]:
    """Return the logits of each sample in fp32, of all or of the given columns."""
    logits = []
    with torch.no_grad():
        for ids in samples:
            output = model(torch.tensor([ids])).logits[0]
            logits.append((output if columns is None else output[:, columns]).float())
    return logits


def _forward_seconds(model: torch.nn.Module, ids: list[int]) -> float:
    """Return the seconds of a forward pass, the best of three."""
    times = []
    for _ in range(TIMED_RUNS):
        start = time.perf_counter()
        logits_of(model, [ids])
        times.append(time.perf_counter() - start)
    return min(times)


def check_logits(expected: list[torch.Tensor], logits: list[torch.Tensor], in_fp32: bool, models: str) -> float:
    """
    Return the largest difference between the logits of two models.

    Raises:
        [`PreferansError`]: if it is larger than rounding.
    """
    difference = max((a - b).abs().max().item() for a, b in zip(expected, logits, strict=True))
    scale = max(1.0, *(values.abs().max().item() for values in expected))
    if not difference <= (1e-4 if in_fp32 else 2e-2) * scale:
        raise PreferansError(
            f"{models} differ by up to {difference:.3g} in the logits of kept tokens, which is more than rounding. Nothing was written."
        )
    return difference
