"""Compute a merged model, write it, and compare it with base and adapter."""

import gc
import math
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ..errors import PreferansError
from ..files import read_json, write_json
from ..models.adapters import load_adapter
from ..models.trimmed import KEPT_NAME, RECORD_NAME, trimmed_from
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

CONFIG_NAME, WEIGHTS_NAME = "adapter_config.json", "adapter_model.safetensors"
# Terms beside local weights, which also hold for the merged ones.
COMPANIONS = ("NOTICE*", "LICENSE*", "USE_POLICY*")
# How far the logits of a merged model may be from those of base and adapter, as a share of the largest logit: so many roundings of one
# weight (2^-11 in fp16, 2^-8 in bf16), but no closer than sums in fp32 agree. Three adapters of Gemma 3 270M, computed in fp32, differed
# by 2e-6 stored in fp32, 8e-4 in fp16 and 1.1e-2 in bf16, at most 3 roundings, and by 4.6e-2 or 12 roundings if also computed in bf16;
# the base model without its adapter differed by 0.25 to 0.5.
ROUNDINGS_STORED, ROUNDINGS_COMPUTED, CLOSEST = 16, 32, 1e-4
# Share of positions with the same likeliest token: 0.94 to 1 in these cases, 0.5 to 0.61 for the base model without its adapter.
LEAST_AGREEMENT = 0.9


class MergeJob(NamedTuple):
    """
    What to merge.

    Attributes:
        run (`Path`): Folder of the finished run.
        provenance (`dict`): Its provenance.
        base (`dict`): `name` and `revision` of the model to merge into.
        trimmed (`str`, *optional*): The run's trimmed model, if `base` is the full one.
        adapter_only (`bool`): Write the adapter instead of a merged model.
    """

    run: Path
    provenance: dict[str, Any]
    base: dict[str, Any]
    trimmed: str | None
    adapter_only: bool

    def load(self, dtype: torch.dtype | str = "auto") -> PreTrainedModel:
        """Load the base model on the CPU."""
        return load_on_cpu(self.base["name"], self.base["revision"], dtype)


def write_merge(job: MergeJob, folder: Path, texts: Sequence[str]) -> dict[str, Any]:
    """
    Write everything but the card and the manifest.

    Args:
        job ([`MergeJob`]):
            What to merge.
        folder (`Path`):
            Empty folder.
        texts (`Sequence[str]`):
            Real texts on which models are compared.

    Returns:
        `dict`: `logit_difference` if the vocabulary was restored, and `agreement` unless `adapter_only`.
    """
    try:
        tokenizer = load_source(job.base["name"], job.base["revision"])
    except PreferansError as error:
        raise PreferansError(f"{error} If the model is in another place, name it with --base.") from None
    model, dtype, in_fp32 = _load_base(job)
    samples = _samples(job, texts, load_source(job.trimmed) if job.trimmed else tokenizer)
    result: dict[str, Any] = {}
    computed_in = model.dtype
    if job.trimmed:
        del model  # one model at a time
        gc.collect()
        both, samples, result["logit_difference"] = _move_to_full_model(job, samples, computed_in, in_fp32)
    else:
        both = _with_adapter(model, job.run, moves=False)
        del model
    trained = AutoTokenizer.from_pretrained(job.run)
    if job.trimmed:
        _copy_settings(trained, tokenizer)
    else:
        tokenizer = trained
    if job.adapter_only:
        shutil.copyfile(job.run / WEIGHTS_NAME, folder / WEIGHTS_NAME)
        config = read_json(job.run / CONFIG_NAME)
        write_json(folder / CONFIG_NAME, config | {"base_model_name_or_path": job.base["name"], "revision": None})
    else:
        expected, effect = _save_merged(both, tokenizer, dtype, samples, folder, job.run)
        del both  # one model at a time
        gc.collect()
        result["agreement"] = _check_written(folder, expected, samples, computed_in, dtype) | {
            "adapter_effect": effect
        }
        gc.collect()  # Windows does not move a folder with mapped files
    tokenizer.save_pretrained(folder)
    _copy_companions(job, folder)
    return result


def _load_base(job: MergeJob) -> tuple[PreTrainedModel, torch.dtype, bool]:
    """The base model as the sum is computed, the `dtype` it is stored in, and whether the sum is computed in fp32."""
    model = job.load()
    dtype = job.provenance["keys"].get("dtype", "float32")
    dtype = model.dtype if dtype in ("auto", None) else getattr(torch, dtype)
    in_fp32 = fits_in_fp32(model)
    computed_in = torch.float32 if in_fp32 else dtype
    if model.dtype != computed_in:
        # Not model.to: values computed at loading, such as Gemma's scale of embeddings, would stay rounded to the stored dtype.
        del model
        gc.collect()
        model = job.load(computed_in)
    return model, dtype, in_fp32


def _samples(job: MergeJob, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    samples = tokenize(texts, tokenizer, "Reading the texts")
    samples = [ids[:CHECKED_TOKENS] for ids in samples if ids][:CHECKED_TEXTS]
    if not samples:
        raise PreferansError(f"{job.run}: there is no text to compare the models on. Give one.")
    return samples


def _move_to_full_model(
    job: MergeJob, samples: list[list[int]], computed_in: torch.dtype, in_fp32: bool
) -> tuple[PeftModel, list[list[int]], float]:
    """The full model with the adapter, the samples in its tokens, and its largest difference from the trimmed model with the adapter."""
    name, trimmed = job.base["name"], str(job.trimmed)
    kept = read_json(Path(trimmed) / KEPT_NAME)
    expected = logits_of(_with_adapter(load_on_cpu(trimmed, dtype=computed_in), job.run, moves=True), samples)
    gc.collect()
    model = job.load(computed_in)
    if max(kept) >= model.get_input_embeddings().weight.shape[0]:
        raise PreferansError(
            f"{name}: it has fewer tokens than the model that {trimmed} was trimmed from. Name the full model with --base."
        )
    both = _with_adapter(model, job.run, moves=True)
    samples = [[kept[i] for i in ids] for ids in samples]
    what = f"{trimmed} and {name}, which should be the model it was trimmed from (see --base), both with the adapter,"
    difference = check_logits(expected, logits_of(both, samples, torch.tensor(kept)), in_fp32, what)
    return both, samples, difference


def _save_merged(
    both: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    dtype: torch.dtype,
    samples: list[list[int]],
    folder: Path,
    run: Path,
) -> tuple[list[torch.Tensor], float]:
    """Save the merged model. Returns the logits of base and adapter, and by how much the adapter changes them."""
    expected = logits_of(both, samples)
    with both.disable_adapter():
        effect = logit_agreement(expected, (logits for ids in samples for logits in logits_of(both, [ids])))
    merged = both.merge_and_unload().to(dtype)
    broken = [key for key, weight in merged.named_parameters() if not torch.isfinite(weight).all()]
    if broken:
        raise PreferansError(
            f"{run}: after merging, weights of {broken[0]} are too large for {_dtype_name(dtype)}. Train with dtype: float32."
        )
    _agree_on_ends(merged, tokenizer)
    merged.save_pretrained(folder)
    return expected, effect["logit_difference"]


def _check_written(
    folder: Path,
    expected: list[torch.Tensor],
    samples: list[list[int]],
    computed: torch.dtype,
    stored: torch.dtype,
) -> dict[str, Any]:
    """The agreement of the written model, computed as `expected` was; an error if it differs by more than rounding."""
    model = load_on_cpu(folder, dtype=computed)
    agreement = logit_agreement(expected, (logits for ids in samples for logits in logits_of(model, [ids])))
    rounding = torch.finfo(stored).eps / 2
    roundings = ROUNDINGS_STORED if computed == torch.float32 else ROUNDINGS_COMPUTED
    bound = max(CLOSEST, roundings * rounding) * agreement["largest_logit"]
    if not (agreement["logit_difference"] <= bound and agreement["greedy_agreement"] >= LEAST_AGREEMENT):
        raise PreferansError(
            f"The merged model does not reproduce base + adapter: their logits differ by up to {agreement['logit_difference']:.3g}, where "
            f"rounding to {_dtype_name(stored)} explains {bound:.3g}, and the likeliest token is the same at "
            f"{agreement['greedy_agreement']:.1%} of {agreement['positions']} positions. Nothing was written. Load base and adapter together "
            "instead, and please report this with the name of the model."
        )
    return agreement | {"bound": bound, "computed_in": _dtype_name(computed)}


def logit_agreement(expected: Sequence[torch.Tensor], computed: Iterable[torch.Tensor]) -> dict[str, Any]:
    """
    Compare the logits of two models.

    Args:
        expected (`Sequence[torch.Tensor]`), computed (`Iterable[torch.Tensor]`):
            Logits of the same texts, each of shape `(tokens, vocabulary)`.

    Returns:
        `dict`: `logit_difference`, the largest; `largest_logit` of the expected, at least 1; `greedy_agreement`, the share of
        `positions` with the same likeliest token.
    """
    difference, largest, same = 0.0, 1.0, 0
    for ours, other in zip(expected, computed, strict=True):
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


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _with_adapter(model: PreTrainedModel, run: Path, moves: bool) -> PeftModel:
    """Put an adapter onto its model; one that `moves` to another vocabulary must not change rows of it."""
    tables = (model.get_input_embeddings(), model.get_output_embeddings())
    names = [f".{name}." for name, module in model.named_modules() if module in tables]
    with safe_open(run / WEIGHTS_NAME, framework="pt") as weights:
        changed = [key for key in weights.keys() if any(name in key for name in names)]  # noqa: SIM118, it is no dict
    if changed and (moves or is_tied(model)):
        reason = "whose rows belong to one vocabulary" if moves else "which are one table, so both would change"
        raise PreferansError(
            f"{run}: the adapter changes the embedding or the head ({', '.join(changed[:2])}), {reason}. "
            "Train without lm_head and the embedding in lora_target_modules and lora_modules_to_save."
        )
    try:
        return load_adapter(model, run).eval()
    except PreferansError as error:
        raise PreferansError(str(error).removeprefix("--adapter ")) from None


def _copy_settings(trained: PreTrainedTokenizerBase, full: PreTrainedTokenizerBase) -> None:
    """Give the full tokenizer the chat template and padding of the training."""
    full.chat_template = trained.chat_template
    full.padding_side = trained.padding_side
    if full.pad_token is None and trained.pad_token in full.get_vocab():
        full.pad_token = trained.pad_token


def _agree_on_ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Set the tokenizer's padding and end token in the model's configurations."""
    for config in (model.config, model.generation_config):
        config.pad_token_id = tokenizer.pad_token_id
        # ruGPT-3's configuration has GPT-2's end token instead of its own, so other programs would not find the end of an answer.
        configured = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
        if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in configured:
            config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id


def _copy_companions(job: MergeJob, folder: Path) -> None:
    base = Path(job.base["name"])
    if not base.is_dir():
        return
    for pattern in COMPANIONS if job.adapter_only else (*COMPANIONS, KEPT_NAME):
        for file in base.glob(pattern):
            shutil.copy2(file, folder)
    record = trimmed_from(base)
    if record and not job.adapter_only:
        # The source alone would no longer be the full form of this model.
        merged_with = [*record.get("merged_with", []), job.run.as_posix()]
        write_json(folder / RECORD_NAME, record | {"merged_with": merged_with})
