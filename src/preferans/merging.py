"""
Merging a LoRA adapter into its base, or carrying it from a trimmed vocabulary to the full one.

An adapter changes the layers between embedding and head, and these are the same in both models: trimming leaves out rows of frozen
tables. So it fits both as it is, and gives the same logits for every kept token.
"""

import gc
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import PreferansError
from .files import new_folder, read_json, sha256_of, write_json, write_text
from .generation import load_adapter
from .hardware import Device
from .vocabulary import (
    CHECKED_TEXTS,
    CHECKED_TOKENS,
    KEPT_NAME,
    check_logits,
    fits_in_fp32,
    load_model,
    load_source,
    logits_of,
    tokenize,
    trimmed_from,
)

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MANIFEST = "preferans_merge.json"
# What lies beside local weights and still holds for the merged ones: their terms, and the numbers of a cut vocabulary's tokens.
COMPANIONS = ("NOTICE*", "LICENSE*", "USE_POLICY*", "kept_token_ids.json")
CONFIG_NAME, WEIGHTS_NAME = "adapter_config.json", "adapter_model.safetensors"


def trained_on(adapter: str | Path) -> str:
    """
    Folder or Hub id of the model that an adapter was trained on.

    Raises:
        [`PreferansError`]: when there is no adapter in the folder.
    """
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        if not (Path(adapter) / name).is_file():
            raise PreferansError(f"{adapter}: there is no {name} in it. Name the folder of a finished run.")
    return read_json(Path(adapter) / CONFIG_NAME)["base_model_name_or_path"]


def choose_base(adapter: str | Path, base: str | None = None) -> str:
    """
    The model that an adapter shall be merged into.

    Args:
        adapter (`str` or `Path`):
            Folder of a finished run.
        base (`str`, *optional*):
            Folder or Hub id that was asked for.

    Returns:
        `str`: that one, or else the full model that the adapter's base was cut from, or else the adapter's base.

    Raises:
        [`PreferansError`]: when another model than the adapter's base was asked for, and nothing says how they are related.
    """
    own = trained_on(adapter)
    record = trimmed_from(own)
    if base and not record and not _is_same(base, own):
        raise PreferansError(
            f"--base {base}: the adapter was trained on {own}, which is not here as a folder with a trimmed vocabulary, so it cannot be "
            "checked that both have the same layers. Make that folder again with the command that made it, or leave --base out."
        )
    return base or (record["source"] if record else own)


def _is_same(base: str, other: str) -> bool:
    return base == other or (Path(base).exists() and Path(base).resolve() == Path(other).resolve())


def write_merged(
    adapter: str | Path, base: str, target: str | Path, texts: Sequence[str], adapter_only: bool = False
) -> dict[str, Any]:
    """
    Write a model merged with an adapter, or the adapter for another base.

    Args:
        adapter (`str` or `Path`):
            Folder of a finished run.
        base (`str`):
            See [`choose_base`].
        target (`str` or `Path`):
            Folder to write.
        texts (`Sequence[str]`):
            Real texts, on which a trimmed model and the full one are compared.
        adapter_only (`bool`, *optional*, defaults to `False`):
            Whether to write the adapter, naming `base`, instead of a merged model.

    Returns:
        `dict`: `base`, `trained_on`; for a base trimmed from it `tokens_before` and `tokens_after` of trimming, and
        `logit_difference`, the largest on kept tokens.

    Raises:
        [`PreferansError`]: when the adapter changes rows of the vocabulary, or does not behave on `base` as where it was trained.
    """
    import torch

    adapter, target, own = Path(adapter), Path(target), trained_on(adapter)
    try:
        tokenizer = load_source(base)
    except PreferansError as error:
        raise PreferansError(f"{error} Where the full model lies elsewhere, name it with --base.") from None
    model = load_model(base)
    dtype, whole = model.dtype, fits_in_fp32(model)
    result = {"base": base, "trained_on": own}
    record = None if _is_same(base, own) else trimmed_from(own)
    if record:
        del model  # one model at a time
        gc.collect()
        kept = read_json(Path(own) / KEPT_NAME)
        samples = tokenize(texts, load_source(own), "Reading the texts")
        samples = [ids[:CHECKED_TOKENS] for ids in samples][:CHECKED_TEXTS]
        trimmed = _with_adapter(load_model(own), adapter, whole)
        expected = logits_of(trimmed, samples)
        del trimmed
        gc.collect()
        model = load_model(base)
        if max(kept) >= model.get_input_embeddings().weight.shape[0]:
            raise PreferansError(f"{base}: it has fewer tokens than {own} was cut from. Name the full model: --base.")
    merged = _with_adapter(model, adapter, whole)
    if record:
        found = logits_of(merged, [[kept[i] for i in ids] for ids in samples], torch.tensor(kept))
        what = f"{own} and {base}, which should be the model it was cut from (see --base), both with the adapter,"
        result |= {key: record[key] for key in ("tokens_before", "tokens_after")}
        result["logit_difference"] = check_logits(expected, found, whole, what)

    target.mkdir(parents=True, exist_ok=True)
    if adapter_only:
        shutil.copyfile(adapter / WEIGHTS_NAME, target / WEIGHTS_NAME)
        write_json(
            target / CONFIG_NAME,
            read_json(adapter / CONFIG_NAME) | {"base_model_name_or_path": base, "revision": None},
        )
    else:
        merged.merge_and_unload().to(dtype).save_pretrained(target)
    _take_over_settings(tokenizer, adapter)
    tokenizer.save_pretrained(target)
    write_text(target / "README.md", _card(result, adapter_only))
    return result


def _with_adapter(model: "PreTrainedModel", adapter: Path, in_fp32: bool) -> "PeftModel":
    """Put an adapter without rows of the vocabulary onto a model."""
    from safetensors import safe_open

    tables = (model.get_input_embeddings(), model.get_output_embeddings())
    names = [f".{name}." for name, module in model.named_modules() if module in tables]
    with safe_open(adapter / WEIGHTS_NAME, framework="pt") as weights:
        changed = [key for key in weights.keys() if any(name in key for name in names)]  # noqa: SIM118, it is no dict
    if changed:
        raise PreferansError(
            f"{adapter}: the adapter changes the embedding or the head ({', '.join(changed[:2])}), whose rows belong to one vocabulary. "
            "Train without lm_head and the embedding in lora_target_modules and lora_modules_to_save."
        )
    try:
        return load_adapter(model.float() if in_fp32 else model, adapter).eval()
    except PreferansError as error:
        raise PreferansError(str(error).removeprefix("--adapter ")) from None


def _take_over_settings(tokenizer: "PreTrainedTokenizerBase", adapter: Path) -> None:
    """Give the full tokenizer the chat template and padding that the run trained with."""
    from transformers import AutoTokenizer

    if not (adapter / "tokenizer_config.json").is_file():
        return
    used = AutoTokenizer.from_pretrained(adapter)
    tokenizer.chat_template = used.chat_template
    tokenizer.padding_side = used.padding_side
    if tokenizer.pad_token is None and used.pad_token in tokenizer.get_vocab():
        tokenizer.pad_token = used.pad_token


def _card(result: dict[str, Any], adapter_only: bool) -> str:
    trained = ""
    if "tokens_after" in result:
        trained = (
            f" It was trained with {result['tokens_after']:,} of the {result['tokens_before']:,} tokens; with all of them it gives "
            "the same logits for these."
        )
    return f"""---
base_model: {result["base"]}
library_name: {"peft" if adapter_only else "transformers"}
pipeline_tag: text-generation
tags: [preferans]
---
# {"A LoRA adapter" if adapter_only else "A model merged with a LoRA adapter"}, trained with Preferans

Base model: `{result["base"]}`, whose licence also covers this {"adapter" if adapter_only else "model"}.{trained}
"""


def merge_adapter(run: str | Path, output_dir: str | Path) -> bool:
    """
    Write the model that a run's base model and adapter make together.

    The base model is loaded on the CPU as it is stored, in the run's `dtype` and not in 4 bits: the sum of an adapter and weights that
    were rounded to 4 bits would keep that rounding for good.

    Args:
        run (`str` or `Path`):
            Folder of a finished run.
        output_dir (`str` or `Path`):
            Folder of the model to write: safetensors, tokenizer with chat template, card, and `preferans_merge.json`, which says what
            it was made of.

    Returns:
        `bool`: `False` when the folder holds this very model already.

    Raises:
        [`PreferansError`]: when there is no finished run, its base model is another one than then, the sum is not finite, or the folder
        holds something else.
    """
    import torch
    from transformers import AutoTokenizer
    from trl import ModelConfig

    from .training import check_model_exists
    from .training import load_model as load_as_trained

    run, output_dir = Path(run), Path(output_dir)
    if not (run / "all_results.json").is_file():
        raise PreferansError(
            f"--adapter {run}: this is not a finished run. Give its training command again; it goes on where it stopped."
        )
    origin = read_json(run / "provenance.json")
    keys, base = origin["keys"], origin["model"]
    model_args = ModelConfig(
        base["name"], keys.get("model_revision", "main"), dtype=keys.get("dtype", ModelConfig.dtype)
    )
    made_of = {
        "base_model": base,
        "dtype": model_args.dtype,
        "adapter": {"sha256": sha256_of(run / "adapter_model.safetensors"), "dataset": origin["dataset"]},
    }
    if _is_there(output_dir, made_of):
        return False
    check_model_exists(base["name"])
    local = Path(base["name"])
    if base["weights_sha256"] != {file.name: sha256_of(file) for file in local.glob("*.safetensors")}:
        raise PreferansError(
            f"--adapter {run}: its base model {base['name']} has other weights now than when the adapter was trained, so the two do not "
            "belong together."
        )

    model = load_adapter(load_as_trained(model_args, Device("cpu", "CPU", (0, 0), 0)), run).merge_and_unload()
    broken = [name for name, weight in model.named_parameters() if not torch.isfinite(weight).all()]
    if broken:
        raise PreferansError(
            f"--adapter {run}: with it, weights of {broken[0]} are too large for {model_args.dtype}. Train it with dtype: float32."
        )
    tokenizer = AutoTokenizer.from_pretrained(run)
    for config in (model.config, model.generation_config):
        config.pad_token_id = tokenizer.pad_token_id
        # ruGPT-3's configuration names GPT-2's end token, which is not its own: another program would not know where an answer ends.
        configured = config.eos_token_id
        if tokenizer.eos_token_id not in (configured if isinstance(configured, list) else [configured]):
            config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    with new_folder(output_dir) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        for pattern in COMPANIONS if local.is_dir() else ():
            for file in local.glob(pattern):
                shutil.copy2(file, folder)
        write_text(folder / "README.md", _run_card(origin))
        sums = {file.name: sha256_of(file) for file in sorted(folder.glob("*.safetensors"))}
        write_json(folder / MANIFEST, made_of | {"weights_sha256": sums})
    return True


def _is_there(output_dir: Path, made_of: dict[str, Any]) -> bool:
    """Whether the folder holds this model, unharmed; refused when it holds another or something else."""
    if not output_dir.exists() or not any(output_dir.iterdir()):
        return False
    found = read_json(output_dir / MANIFEST) if (output_dir / MANIFEST).is_file() else {}
    if {key: found.get(key) for key in made_of} != made_of:
        raise PreferansError(
            f"--output_dir {output_dir}: the folder holds something else, which would be replaced. Name a new one, or delete it."
        )
    return found["weights_sha256"] == {file.name: sha256_of(file) for file in output_dir.glob("*.safetensors")}


def _run_card(origin: dict[str, Any]) -> str:
    base = origin["model"]["name"]
    return f"""---
base_model: {base}
library_name: transformers
pipeline_tag: text-generation
tags: [merged, lora, preferans]
---
# {base} with an adapter of Preferans in its weights

Base model: `{base}`, whose licence also covers this one. The adapter was trained on `{origin["dataset"]["name"]}`, fingerprint
`{origin["dataset"]["fingerprint"]}`, by the recipe `{origin["recipe"]}`. Checksums of both are in `{MANIFEST}`.
"""
