"""Load the models that command-line options name, and check the options first."""

import argparse
import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

from peft import PeftModel
from transformers import GenerationConfig, PreTrainedTokenizerBase
from trl import ModelConfig

from ..errors import PreferansError
from ..files import sha256_of
from ..hardware.decisions import apply_kernels, decide_kernels, decide_precision
from ..hardware.device import find_device
from .adapters import base_of, check_bases, has_tokenizer, load_adapter, run_keys
from .loading import check_model_exists, load_model, load_tokenizer
from .sampler import Sampler
from .sampling_options import CHAT_MAX_NEW_TOKENS, PROTOTYPE_SAMPLING, SAMPLINGS
from .served import check_endpoint_arguments

# Keys of a recipe that decide a base model's weights and their precision.
MODEL_KEYS = (
    "model_name_or_path",
    "model_revision",
    "dtype",
    "load_in_4bit",
    "bnb_4bit_quant_type",
    "use_bnb_nested_quant",
    "attn_implementation",
)


def load_sampler(args: argparse.Namespace, chat: bool = True) -> Sampler:
    """Load the single system that the options name, see [`load_samplers`]."""
    (sampler,) = load_samplers(args, chat)
    return sampler


def load_samplers(args: argparse.Namespace, chat: bool = True) -> list[Sampler]:
    """
    Load the model that the options name, once, with all its adapters.

    Args:
        args (`argparse.Namespace`):
            Options of [`~preferans.models.sampling_options.add_sampling_arguments`] and `seed`, checked by [`check_sampling_arguments`].
        chat (`bool`, *optional*, defaults to `True`): Whether prompts are messages. Plain texts need no chat template.

    Returns:
        `list[Sampler]`: one for each adapter in order, or the base model alone.
    """
    keys, adapters = _model_keys(args), _as_list(args.adapter)
    model_args = ModelConfig(**keys)
    tokenizers = [
        _load_tokenizer(model_args, adapter, args.chat_template_path, args.chat_template_kwargs, chat)
        for adapter in adapters or (None,)
    ]
    device = find_device(args.use_cpu, triton=False)  # only training has Triton kernels
    decide_precision(device, fp16=False, bf16=False, dtype=model_args.dtype)
    apply_kernels(decide_kernels(device, half=model_args.dtype != "float32"))
    model = load_model(model_args, device)
    # Some models set a repetition penalty or the like, which no record would show.
    ends = {name: getattr(model.generation_config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    model.generation_config = GenerationConfig(**ends)
    names = [f"adapter{number}" for number in range(len(adapters))]  # peft rejects names with a dot, as in folders
    for adapter, name in zip(adapters, names, strict=True):
        model = load_adapter(model, adapter, name)
    sampling = {name: getattr(args, name) for name in PROTOTYPE_SAMPLING}
    samplers = []
    for number, (label, tokenizer) in enumerate(zip(labels_of(args), tokenizers, strict=True)):
        active = names[number] if adapters else None
        template = hashlib.sha256((tokenizer.chat_template or "").encode()).hexdigest()
        checksums = _checksums(model_args.model_name_or_path, *adapters[number : number + 1])
        weights = keys | {"sha256": checksums, "chat_template_sha256": template}
        samplers.append(Sampler(model, tokenizer, label, weights, sampling, args.batch_size, args.seed, active))
    return samplers


def with_base(samplers: Sequence[Sampler]) -> list[Sampler]:
    """Add the base model of adapters as the last system, on the same loaded weights."""
    first = samplers[0]
    if not isinstance(first.model, PeftModel):
        return list(samplers)
    weights = first.weights | {"sha256": _checksums(first.weights["model_name_or_path"])}
    return [*samplers, dataclasses.replace(first, adapter=None, label=_base_label(weights), weights=weights)]


def _checksums(*folders: str) -> list[str]:
    return [
        sha256_of(file) for file in sorted(file for folder in folders for file in Path(folder).glob("*.safetensors"))
    ]


def base_label(args: argparse.Namespace) -> str:
    """Return the name of the base model that [`with_base`] adds."""
    return _base_label(_model_keys(args))


def _base_label(keys: dict) -> str:
    return Path(keys["model_name_or_path"]).name


def _load_tokenizer(
    model_args: ModelConfig, adapter: str | None, chat_template_path: str | None, variables: dict | None, chat: bool
) -> PreTrainedTokenizerBase:
    """Load the adapter's tokenizer if it has one, which its run trained with, otherwise the base model's."""
    if adapter and has_tokenizer(adapter):
        return load_tokenizer(adapter, "main", chat_template_path, chat, variables)
    run = run_keys(adapter) if adapter else {}
    template, variables = (
        chat_template_path or run.get("chat_template_path"),
        variables or run.get("chat_template_kwargs"),
    )
    return load_tokenizer(model_args.model_name_or_path, model_args.model_revision, template, chat, variables)


def check_sampling_arguments(args: argparse.Namespace) -> None:
    """
    Check the options, and `max_prompts`, before anything heavy is loaded, and fill in the values of `--sampling`.

    Raises:
        [`PreferansError`]: if a model or adapter is missing, they do not belong together, or a number is out of range.
    """
    adapters = _as_list(args.adapter)
    for adapter in adapters:
        base_of(adapter)
    has_own_template = not (
        args.chat_template_path or any(run_keys(adapter).get("chat_template_path") for adapter in adapters)
    )
    defaults = SAMPLINGS[args.sampling] | ({"max_new_tokens": CHAT_MAX_NEW_TOKENS} if has_own_template else {})
    for name, value in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    lowest = {"max_prompts": 1, "batch_size": 1, "max_new_tokens": 1, "top_k": 0, "temperature": 0}
    for name, least in lowest.items():
        value = getattr(args, name)
        if value is not None and not value >= least:
            raise PreferansError(f"--{name} {value}: it must be at least {least}.")
    if not 0 < args.top_p <= 1:
        raise PreferansError(f"--top_p {args.top_p}: it must be above 0 and at most 1, such as 0.9.")
    labels_of(args)
    if getattr(args, "endpoint", None) or getattr(args, "model", None):
        check_endpoint_arguments(args)
        return

    model = _model_keys(args)["model_name_or_path"]
    check_model_exists(model)
    check_bases(adapters, model)


def _as_list(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])


def labels_of(args: argparse.Namespace) -> list[str]:
    """
    Return the names of the systems: of the base or served model, or of each adapter.

    Raises:
        [`PreferansError`]: if the numbers of names and adapters differ, or two systems have the same name.
    """
    folders = _as_list(args.adapter) or [args.model_name_or_path or getattr(args, "model", None) or ""]
    labels = _as_list(args.label) or [Path(folder).name or Path(folder).resolve().name for folder in folders]
    if len(labels) != len(folders):
        raise PreferansError(f"--label {' '.join(labels)}: {len(folders)} names are needed, one for each --adapter.")
    if len(set(labels)) < len(labels):
        raise PreferansError(f"--adapter {' '.join(folders)}: two have the same name. Give each its own with --label.")
    return labels


def _model_keys(args: argparse.Namespace) -> dict:
    """Return the base model's keys from the adapter's run, or else from the options."""
    adapters = _as_list(args.adapter)
    runs = {adapter: keys for adapter in adapters if (keys := run_keys(adapter))}
    if runs:
        trained, first = next(iter(runs.items()))
        for adapter, other in runs.items():
            for key in MODEL_KEYS[1:]:
                if first.get(key) != other.get(key):
                    raise PreferansError(
                        f"--adapter {adapter}: its run has {key} {other.get(key)!r}, and that of {trained} {first.get(key)!r}, so they "
                        "cannot share one loaded base. Use a separate command for each."
                    )
        args.use_cpu = args.use_cpu or first.get("use_cpu", False)
        keys = {key: first[key] for key in MODEL_KEYS if key in first}
    else:
        keys = {"load_in_4bit": args.load_in_4bit, "use_bnb_nested_quant": True, "dtype": args.dtype}
        keys["model_name_or_path"] = base_of(adapters[0]).name if adapters else None
    name = args.model_name_or_path
    if name:
        # with an adapter, the path stays as its run recorded it; otherwise ./llama becomes llama
        keys["model_name_or_path"] = name if adapters else Path(name).as_posix()
    return keys
