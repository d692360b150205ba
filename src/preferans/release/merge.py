"""
Putting an adapter into the weights of its base model, so that other tools, and the next training, take the two as one model.

An adapter changes the layers between embedding and head, and these are the same in a model with a trimmed vocabulary and in the full
one: trimming leaves out rows of frozen tables. So an adapter trained on the one fits the other as it is, and gives the same logits for
every kept token.
"""

import gc
import math
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ..errors import PreferansError
from ..files import new_folder, read_json, sha256_of, write_json, write_text
from ..models.adapters import load_adapter
from ..models.trimmed import KEPT_NAME, RECORD_NAME, trimmed_from, trimmed_in_words
from ..models.vocabulary import (
    CHECKED_TEXTS,
    CHECKED_TOKENS,
    check_logits,
    fits_in_fp32,
    is_tied,
    load_on_cpu,
    load_source,
    logits_of,
    tokenize,
)
from .model_card import MERGED, merged_card

CONFIG_NAME, WEIGHTS_NAME = "adapter_config.json", "adapter_model.safetensors"
# What lies beside local weights and still holds for the merged ones: their terms.
COMPANIONS = ("NOTICE*", "LICENSE*", "USE_POLICY*")
# How far the logits of a merged model may be from those of base and adapter, as a share of the largest logit: so many times the rounding
# of one weight, 2^-11 in fp16 and 2^-8 in bf16, but no closer than sums in fp32 agree. Three adapters of Gemma 3 270M, computed in fp32,
# were 2e-6 apart when stored in fp32, 8e-4 in fp16 and 1.1e-2 in bf16, which is at most 3 roundings, and 4.6e-2 or 12 where bf16 was
# computed in as well; without its adapter the base model was 0.25 to 0.5 away.
ROUNDINGS_STORED, ROUNDINGS_COMPUTED, CLOSEST = 16, 32, 1e-4
# Share of positions with the same likeliest token: 0.94 to 1 in these cases, 0.5 to 0.61 for the base model without its adapter.
LEAST_AGREEMENT = 0.9


def merge(
    run: str | Path,
    output_dir: str | Path,
    base: str | None = None,
    full_vocabulary: bool = False,
    adapter_only: bool = False,
    *,
    texts: Sequence[str],
) -> dict[str, Any] | None:
    """
    Write the model that a run's base model and adapter make together.

    The base model is loaded on the CPU and not in 4 bits: the sum of an adapter and weights that were rounded to 4 bits would keep
    that rounding for good. The sum is made in fp32 where the memory allows, and rounded once to the run's `dtype`. The precision in
    which the base is stored would be the worse one: bf16 has 8 binary digits, and much of an adapter is smaller than its last one.
    What was written is read again and compared with base and adapter.

    Args:
        run (`str` or `Path`):
            Folder of a finished run.
        output_dir (`str` or `Path`):
            Folder to write: safetensors, tokenizer with the run's chat template, card, and `preferans_merge.json`, which says what it
            was made of. A trimmed model keeps `kept_token_ids.json` and `trimmed_vocabulary.json`.
        base (`str`, *optional*):
            Folder or Hub id of the full model that the run's base was trimmed from, or another folder of the same base. By default the
            model that the adapter was trained on.
        full_vocabulary (`bool`, *optional*, defaults to `False`):
            Whether `base` is the model that the trimming recorded as its source.
        adapter_only (`bool`, *optional*, defaults to `False`):
            Whether to write the adapter, naming the full model as its base, instead of a merged model.
        texts (`Sequence[str]`):
            Real texts, on whose first tokens models are compared: the merged one with base and adapter, and a trimmed one with the full
            one.

    Returns:
        `dict` or `None`: `None` when the folder holds this very result already. Else `base` and `trained_on`; `agreement` of a merged
        model with base and adapter, see [`compare_with_adapter`]; when the adapter went from a trimmed vocabulary to the full one also `tokens_before`
        and `tokens_after` of trimming, and `logit_difference`, the largest on kept tokens.

    Raises:
        [`PreferansError`]: when there is no finished run, its base model is another one than then, the adapter does not behave on `base`
        as where it was trained, the sum is not finite or answers otherwise than base and adapter, or the folder holds something else.
    """
    run, output_dir = Path(run), Path(output_dir)
    origin = _finished(run)
    own, record = origin["model"], trimmed_from(origin["model"]["name"])
    if full_vocabulary or (adapter_only and not base):
        base = _full_model(own["name"], record, "--full_vocabulary" if full_vocabulary else "--adapter_only")
    if base is None or _is_same(base, own["name"]):
        chosen = own
    else:
        chosen = {"name": base, "revision": None, "weights_sha256": _weights(base)}
    # A base that was only moved has the same weights.
    goes_home = chosen is own or (chosen["weights_sha256"] != {} and chosen["weights_sha256"] == own["weights_sha256"])
    if not goes_home and not record:
        raise PreferansError(
            f"--base {base}: the adapter was trained on {own['name']}, which is not here as a folder with a trimmed vocabulary, so it "
            "cannot be checked that both have the same layers. Make that folder again with the command that made it, or leave --base "
            "out."
        )
    made_of = {
        "base_model": chosen,
        "trained_on": own,
        "dtype": origin["keys"].get("dtype", "float32"),
        "adapter": {"sha256": sha256_of(run / WEIGHTS_NAME), "dataset": origin["dataset"]},
        "adapter_only": adapter_only,
    }
    if _is_there(output_dir, made_of):
        return None
    if (chosen is own or not goes_home) and own["weights_sha256"] != _weights(own["name"]):
        raise PreferansError(
            f"{run}: its base model {own['name']} has other weights now than when the adapter was trained, or is gone, so the two do not "
            "belong together. Make it again with the command that made it, or name its new folder with --base."
        )

    result = {"base": chosen["name"], "trained_on": own["name"]}
    if not goes_home:
        result |= {key: record[key] for key in ("tokens_before", "tokens_after")}
    with new_folder(output_dir) as folder:
        result |= _write(run, folder, origin, chosen, None if goes_home else own["name"], adapter_only, texts)
        card = merged_card(run, origin, chosen["name"], _about(result, trimmed_from(folder)), adapter_only)
        write_text(folder / "README.md", card)
        checked = {key: result[key] for key in ("agreement",) if key in result}
        write_json(folder / MERGED, made_of | {"weights_sha256": _weights(folder)} | checked)
    return result


def _finished(run: Path) -> dict[str, Any]:
    """Provenance of a finished run."""
    for name in ("all_results.json", "provenance.json", WEIGHTS_NAME):
        if not (run / name).is_file():
            raise PreferansError(
                f"{run}: there is no {name} in it, so it is not a finished run. Name the folder of one; a run that was stopped goes on when "
                "its training command is given again."
            )
    return read_json(run / "provenance.json")


def _full_model(own: str, record: dict[str, Any] | None, option: str) -> str:
    """The model that a run's base was trimmed from."""
    if record is None:
        raise PreferansError(
            f"{option}: the adapter was trained on {own}, which is not here as a folder with a trimmed vocabulary. Leave {option} out, or "
            "make that folder again with the command that made it."
        )
    if "merged_with" in record:
        earlier = ", then of ".join(record["merged_with"])
        raise PreferansError(
            f"{option}: the adapter was trained on {own}, which holds the adapter of {earlier} already, and {record['source']} does not. "
            f"Give that to the full model first (python scripts/merge.py {record['merged_with'][0]} --full_vocabulary --output_dir FOLDER), "
            "and name the folder here with --base."
        )
    return record["source"]


def _is_same(base: str, other: str) -> bool:
    return base == other or (Path(base).exists() and Path(base).resolve() == Path(other).resolve())


def _weights(name: str | Path) -> dict[str, str]:
    """Checksums of a folder's weights; empty for a model on the Hub."""
    return {file.name: sha256_of(file) for file in sorted(Path(name).glob("*.safetensors"))}


def _is_there(output_dir: Path, made_of: dict[str, Any]) -> bool:
    """Whether the folder holds this result, unharmed; refused when it holds another or something else."""
    if not output_dir.exists() or (output_dir.is_dir() and not any(output_dir.iterdir())):
        return False
    found = read_json(output_dir / MERGED) if (output_dir / MERGED).is_file() else {}
    if {key: found.get(key) for key in made_of} != made_of:
        raise PreferansError(
            f"--output_dir {output_dir}: there is something else already, which would be replaced. Name a new folder, or delete it."
        )
    return found["weights_sha256"] == _weights(output_dir)


def _write(
    run: Path,
    folder: Path,
    origin: dict[str, Any],
    base: dict[str, Any],
    trimmed: str | None,
    adapter_only: bool,
    texts: Sequence[str],
) -> dict[str, Any]:
    """
    Write all but the card and the manifest.

    Args:
        base (`dict`): `name` and `revision` of the model to merge into.
        trimmed (`str`, *optional*): The trimmed model of the run, when `base` is the full one.

    Other arguments are those of [`merge`].

    Returns:
        `dict`: `logit_difference` when `trimmed` is given, `agreement` unless `adapter_only`.
    """

    name, revision = base["name"], base["revision"]
    try:
        tokenizer = load_source(name, revision)
    except PreferansError as error:
        raise PreferansError(f"{error} Where the model lies elsewhere, name it with --base.") from None
    model, result = load_on_cpu(name, revision), {}
    dtype = origin["keys"].get("dtype", "float32")
    dtype = model.dtype if dtype in ("auto", None) else getattr(torch, dtype)
    whole = fits_in_fp32(model)
    added_in = torch.float32 if whole else dtype
    if model.dtype != added_in:
        # Not model.to: what a model computes when it is loaded, such as Gemma's scale of embeddings, would stay rounded to where it was.
        del model
        gc.collect()
        model = load_on_cpu(name, revision, added_in)
    samples = tokenize(texts, load_source(trimmed) if trimmed else tokenizer, "Reading the texts")
    samples = [ids[:CHECKED_TOKENS] for ids in samples if ids][:CHECKED_TEXTS]
    if not samples:
        raise PreferansError(f"{run}: there is no text to compare the models on. Give one.")
    if trimmed:
        del model  # one model at a time
        gc.collect()
        kept = read_json(Path(trimmed) / KEPT_NAME)
        expected = logits_of(_with_adapter(load_on_cpu(trimmed, dtype=added_in), run, moves=True), samples)
        gc.collect()
        model = load_on_cpu(name, revision, added_in)
        if max(kept) >= model.get_input_embeddings().weight.shape[0]:
            raise PreferansError(
                f"{name}: it has fewer tokens than {trimmed} was cut from. Name the full model with --base."
            )
    both = _with_adapter(model, run, moves=bool(trimmed))
    if trimmed:
        samples = [[kept[i] for i in ids] for ids in samples]
        found = logits_of(both, samples, torch.tensor(kept))
        what = f"{trimmed} and {name}, which should be the model it was cut from (see --base), both with the adapter,"
        result["logit_difference"] = check_logits(expected, found, whole, what)

    used = AutoTokenizer.from_pretrained(run)
    if trimmed:
        _take_over_settings(tokenizer, used)
    else:
        tokenizer = used
    if adapter_only:
        shutil.copyfile(run / WEIGHTS_NAME, folder / WEIGHTS_NAME)
        config = read_json(run / CONFIG_NAME) | {"base_model_name_or_path": name, "revision": None}
        write_json(folder / CONFIG_NAME, config)
    else:
        expected = logits_of(both, samples)
        with both.disable_adapter():
            plain = (logits for ids in samples for logits in logits_of(both, [ids]))
            effect = compare_with_adapter(expected, plain)["logit_difference"]
        merged = both.merge_and_unload().to(dtype)
        broken = [key for key, weight in merged.named_parameters() if not torch.isfinite(weight).all()]
        if broken:
            raise PreferansError(
                f"{run}: with it, weights of {broken[0]} are too large for {_named(dtype)}. Train it with dtype: "
                "float32."
            )
        _agree_on_ends(merged, tokenizer)
        merged.save_pretrained(folder)
        del model, both, merged  # one model at a time
        gc.collect()
        result["agreement"] = _check_written(folder, expected, samples, added_in, dtype) | {"adapter_effect": effect}
        gc.collect()  # Windows moves no folder whose files are still mapped
    tokenizer.save_pretrained(folder)
    _copy_companions(Path(name), folder, run, adapter_only)
    return result


def _check_written(
    folder: Path,
    expected: list[torch.Tensor],
    samples: list[list[int]],
    computed: torch.dtype,
    stored: torch.dtype,
) -> dict[str, Any]:
    """What [`compare_with_adapter`] says of a written model, computed as `expected` was; refused when it is more than rounding."""

    model = load_on_cpu(folder, dtype=computed)
    agreement = compare_with_adapter(expected, (logits for ids in samples for logits in logits_of(model, [ids])))
    rounding = torch.finfo(stored).eps / 2
    half = computed != torch.float32
    bound = max(CLOSEST, (ROUNDINGS_COMPUTED if half else ROUNDINGS_STORED) * rounding) * agreement["largest_logit"]
    if not (agreement["logit_difference"] <= bound and agreement["greedy_agreement"] >= LEAST_AGREEMENT):
        raise PreferansError(
            f"The merged model is not base and adapter: their logits differ by up to {agreement['logit_difference']:.3g}, where rounding to "
            f"{_named(stored)} explains {bound:.3g}, and they agree on the likeliest token at {agreement['greedy_agreement']:.1%} of "
            f"{agreement['positions']} positions. Nothing was written. Load base and adapter together instead, and please report it with "
            "the name of the model."
        )
    return agreement | {"bound": bound, "computed_in": _named(computed)}


def compare_with_adapter(expected: Sequence[torch.Tensor], found: Iterable[torch.Tensor]) -> dict[str, Any]:
    """
    How alike two models are.

    Args:
        expected (`Sequence[torch.Tensor]`), found (`Iterable[torch.Tensor]`):
            Logits of the same texts, each of shape `(tokens, vocabulary)`.

    Returns:
        `dict`: `logit_difference`, the largest, and `largest_logit` of the expected, at least 1; `greedy_agreement`, the share of
        `positions` with the same likeliest token.
    """
    difference, largest, same = 0.0, 1.0, 0
    for ours, other in zip(expected, found, strict=True):
        distance = (ours - other).abs().max().item()
        difference = distance if math.isnan(distance) else max(difference, distance)
        largest = max(largest, ours.abs().max().item())
        same += (ours.argmax(-1) == other.argmax(-1)).sum().item()
        if math.isnan(difference):
            break
    positions = sum(map(len, expected))
    return {
        "logit_difference": difference,
        "largest_logit": largest,
        "greedy_agreement": same / positions,
        "positions": positions,
    }


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _with_adapter(model: PreTrainedModel, run: Path, moves: bool) -> PeftModel:
    """Put an adapter onto its model, or, where it `moves` to another vocabulary, an adapter without rows of one."""

    tables = (model.get_input_embeddings(), model.get_output_embeddings())
    names = [f".{name}." for name, module in model.named_modules() if module in tables]
    with safe_open(run / WEIGHTS_NAME, framework="pt") as weights:
        changed = [key for key in weights.keys() if any(name in key for name in names)]  # noqa: SIM118, it is no dict
    if changed and (moves or is_tied(model)):
        reason = "whose rows belong to one vocabulary" if moves else "which are one table, so that both would change"
        raise PreferansError(
            f"{run}: the adapter changes the embedding or the head ({', '.join(changed[:2])}), {reason}. "
            "Train without lm_head and the embedding in lora_target_modules and lora_modules_to_save."
        )
    try:
        return load_adapter(model, run).eval()
    except PreferansError as error:
        raise PreferansError(str(error).removeprefix("--adapter ")) from None


def _take_over_settings(tokenizer: PreTrainedTokenizerBase, used: PreTrainedTokenizerBase) -> None:
    """Give the full tokenizer the chat template and padding that the run trained with."""
    tokenizer.chat_template = used.chat_template
    tokenizer.padding_side = used.padding_side
    if tokenizer.pad_token is None and used.pad_token in tokenizer.get_vocab():
        tokenizer.pad_token = used.pad_token


def _agree_on_ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give the model's configurations the tokenizer's own padding and end token."""
    for config in (model.config, model.generation_config):
        config.pad_token_id = tokenizer.pad_token_id
        # ruGPT-3's configuration names GPT-2's end token, which is not its own: another program would not know where an answer ends.
        configured = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
        if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in configured:
            config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id


def _copy_companions(base: Path, folder: Path, run: Path, adapter_only: bool) -> None:
    if not base.is_dir():
        return
    for pattern in COMPANIONS if adapter_only else (*COMPANIONS, KEPT_NAME):
        for file in base.glob(pattern):
            shutil.copy2(file, folder)
    record = trimmed_from(base)
    if record and not adapter_only:
        # The source alone would no longer be the full form of this model.
        write_json(folder / RECORD_NAME, record | {"merged_with": [*record.get("merged_with", []), run.as_posix()]})


def _about(result: dict[str, Any], record: dict[str, Any] | None) -> str:
    """Sentences for the card, with a space before each: the vocabulary, and how near the merged model is to base and adapter."""
    text = f" Its vocabulary is {trimmed_in_words(record)}." if record else ""
    if "tokens_after" in result:
        text = (
            f" It was trained with {result['tokens_after']:,} of the {result['tokens_before']:,} tokens; with all of them it gives the same "
            "logits for these."
        )
    if "agreement" in result:
        found = result["agreement"]
        text += (
            f" On {found['positions']} positions of Russian texts its logits differ from those of base model and adapter by at most "
            f"{found['logit_difference']:.2g}, and the likeliest token is the same at {found['greedy_agreement']:.1%}; the adapter itself "
            f"changes logits by up to {found['adapter_effect']:.2g}."
        )
    return text
