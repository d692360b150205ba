"""Systems that answer prompts: a base model, or adapters on it, sampled in batches that change no answer."""

import argparse
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from tqdm.auto import tqdm
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from trl import ModelConfig

from ..data.persona import Persona
from ..errors import PreferansError
from ..files import sha256_of
from ..hardware.decisions import apply_kernels, decide_kernels, decide_precision
from ..hardware.device import find_device
from .adapters import base_of, check_bases, load_adapter, run_keys
from .answers_file import AnswersFile
from .drawing import Speed, drawing
from .loading import check_model_exists, fold_system, load_model, load_tokenizer, prompt_text
from .sampling_options import PROTOTYPE_SAMPLING, SAMPLINGS
from .served import check_endpoint_arguments


@dataclass
class Sampler:
    """
    A loaded model and how to sample from it: a system with a `label` that answers prompts.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Causal language model, with or without adapters.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Its tokenizer, with a chat template.
        label (`str`):
            Name of the system.
        weights (`dict`):
            What the answers come from: base model, precision, checksums of the weights and of the chat template.
        sampling (`dict`):
            See [`generate_answers`].
        batch_size (`int`):
            Prompts per batch.
        seed (`int`):
            Seed.
        adapter (`str`, *optional*):
            Name in `model` of the adapter that answers.
        persona ([`~preferans.data.persona.Persona`], *optional*):
            Character whose instruction stands before every prompt.

    Attributes:
        stats (`dict`): What the last call of `answer` took, see [`generate_answers`].
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    label: str
    weights: dict[str, Any]
    sampling: dict[str, Any]
    batch_size: int
    seed: int
    adapter: str | None = None
    persona: Persona | None = None
    stats: dict[str, Any] = field(default_factory=dict)

    @property
    def described(self) -> str:
        """The model in words that hold on every machine; its licence covers what it wrote."""
        base = self.weights["model_name_or_path"]
        checksums = "".join(f", SHA-256 `{checksum}`" for checksum in self.weights["sha256"])
        return f"`{self.label}` (base model `{Path(base).name if Path(base).exists() else base}`{checksums}), whose licence covers them"

    def answer(self, prompts: list[dict], output: str | Path, label: str | None = None) -> list[dict]:
        """Sample an answer to every prompt, see [`generate_answers`]."""
        if self.adapter:
            self.model.set_adapter(self.adapter)
        self.stats = {}
        return generate_answers(
            self.model,
            self.tokenizer,
            prompts,
            output,
            label or self.label,
            self.weights,
            self.sampling,
            self.batch_size,
            self.seed,
            self.persona,
            self.stats,
        )


def load_sampler(args: argparse.Namespace, chat: bool = True) -> Sampler:
    """The one system that the options name, see [`load_samplers`]."""
    (sampler,) = load_samplers(args, chat)
    return sampler


def load_samplers(args: argparse.Namespace, chat: bool = True) -> list[Sampler]:
    """
    Load the model that the options of [`add_sampling_arguments`] and `args.seed` name, once, with all its adapters.

    Args:
        args (`argparse.Namespace`):
            Options, checked by [`check_sampling_arguments`].
        chat (`bool`, *optional*, defaults to `True`):
            Whether prompts are messages. Plain texts need no chat template.

    Returns:
        `list[Sampler]`: one for each adapter in their order, or the base model alone.
    """

    keys, adapters = _model_keys(args), _listed(args.adapter)
    model_args = ModelConfig(**keys)
    tokenizer = load_tokenizer(model_args.model_name_or_path, model_args.model_revision, args.chat_template_path, chat)
    device = find_device(args.use_cpu, triton=False)  # only training has kernels for Triton
    decide_precision(device, fp16=False, bf16=False, dtype=model_args.dtype)
    apply_kernels(decide_kernels(device, half=model_args.dtype != "float32"))
    model = load_model(model_args, device)
    # A repetition penalty or the like, which some models bring along, would stand in no record.
    ends = {name: getattr(model.generation_config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    model.generation_config = GenerationConfig(**ends)
    names = [
        f"adapter{number}" for number in range(len(adapters))
    ]  # a folder's name may have a dot, which peft refuses
    for adapter, name in zip(adapters, names, strict=True):
        model = load_adapter(model, adapter, name)
    sampling = {name: getattr(args, name) for name in PROTOTYPE_SAMPLING}
    samplers = []
    for label, adapter, name in zip(labels_of(args), adapters or [None], names or [None], strict=True):
        files = [
            *Path(model_args.model_name_or_path).glob("*.safetensors"),
            *Path(adapter or "-").glob("*.safetensors"),
        ]
        weights = keys | {
            "sha256": [sha256_of(file) for file in sorted(files)],
            "chat_template_sha256": hashlib.sha256((tokenizer.chat_template or "").encode()).hexdigest(),
        }
        samplers.append(Sampler(model, tokenizer, label, weights, sampling, args.batch_size, args.seed, adapter=name))
    return samplers


def generate_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[dict],
    output: str | Path,
    label: str,
    weights: dict[str, Any],
    sampling: dict[str, Any],
    batch_size: int,
    seed: int,
    persona: Persona | None = None,
    stats: dict[str, Any] | None = None,
) -> list[dict]:
    """
    Sample an answer to every prompt, and keep each batch as soon as it is there.

    Each prompt has random numbers of its own, so an answer hangs on `seed` and the prompt's id, and not on what else is in its batch.
    One thing is left: sums of floating-point numbers are rounded otherwise in a batch of another shape. In fp32 the scores of the
    tokens then differ by about 1e-5, and now and then an answer takes another turn where two tokens were all but even; in half
    precision this is common. Where it must not happen, keep to one batch size.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Causal language model, with or without an adapter.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Its tokenizer, with a chat template.
        prompts (`list[dict]`):
            `id` and `prompt` (a list of messages, or a text).
        output (`str` or `Path`):
            File of JSON lines. What an earlier call has written there is kept and not sampled again.
        label (`str`):
            Name of the system, written into every answer.
        weights (`dict`):
            What the answers come from: base model, precision, checksum of the adapter. Written into every answer, so that
            answers of an adapter that was trained anew are not taken for those of the old one.
        sampling (`dict`):
            `max_new_tokens`, `top_k`, `top_p` and `temperature`, such as [`PROTOTYPE_SAMPLING`]. With `temperature` 0 the likeliest
            token is taken.
        batch_size (`int`):
            Prompts per batch.
        seed (`int`):
            Seed.
        persona ([`~preferans.data.persona.Persona`], *optional*):
            Character whose instruction is put before every prompt. The answers' `prompt` stays what was asked, so that systems with
            and without it are compared on the same prompts.
        stats (`dict`, *optional*):
            Filled with what this call took: `answers` and `new_tokens` that it made, `seconds`, `tokens_per_second`, `batch_size` and
            `device`. Left empty when there was nothing to do.

    Returns:
        `list[dict]`: in the order of `prompts`: `id`, `prompt`, `answer` (without the prompt), `model`, `weights`, `sampling`,
        `persona` (where there is one: its name and the checksum of its instruction), `finish_reason` (`"stop"` when the model ended the
        answer, `"length"` when the limit did) and `new_tokens`.

    Raises:
        [`PreferansError`]: when the file holds other answers, or a prompt does not fit the chat template or the model.
    """

    constant = {"model": label, "weights": weights, "sampling": sampling | {"seed": seed}, "persona": None}
    if persona:
        checksum = hashlib.sha256(persona.instruction.encode()).hexdigest()
        constant["persona"] = {"name": persona.slug, "sha256": checksum}
    answers = AnswersFile(output, prompts, constant)
    texts = {row["id"]: _text(row, tokenizer, persona) for row in answers.missing}
    tokens = {name: len(tokenizer(text, add_special_tokens=False)["input_ids"]) for name, text in texts.items()}
    room = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    for name, length in tokens.items():
        if room and length + sampling["max_new_tokens"] > room:
            raise PreferansError(
                f"The prompt '{name}' has {length} tokens, which with max_new_tokens {sampling['max_new_tokens']} is more than the {room} "
                f"that {label} can read. Shorten it, or ask for shorter answers."
            )
    order = sorted(answers.missing, key=lambda row: -tokens[row["id"]])  # equal lengths together: little padding
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    stop_ids = stop_token_ids(model, tokenizer)
    model.eval()
    with tqdm(total=len(prompts), desc=f"Answers of {label}", unit="answer") as bar:
        bar.update(len(answers.finished))
        speed = Speed(bar, tokenizer.pad_token_id)
        for batch in batches:
            inputs = tokenizer(
                [texts[row["id"]] for row in batch], return_tensors="pt", padding=True, add_special_tokens=False
            )
            inputs = {key: inputs[key].to(model.device) for key in ("input_ids", "attention_mask")}
            speed.prompt_length = inputs["input_ids"].shape[1]
            with torch.no_grad():
                made = model.generate(
                    **inputs,
                    max_new_tokens=sampling["max_new_tokens"],
                    do_sample=False,  # the drawing leaves one token
                    logits_processor=drawing(
                        sampling, seed, [row["id"] for row in batch], speed.prompt_length, model.device
                    ),
                    stopping_criteria=[speed],
                    eos_token_id=stop_ids,
                    pad_token_id=tokenizer.pad_token_id,
                )
            rows = []
            for row, ids in zip(batch, made[:, speed.prompt_length :].tolist(), strict=True):
                end = next((i for i, token in enumerate(ids) if token in stop_ids), None)
                ids = ids if end is None else ids[:end]
                rows.append(
                    {
                        "id": row["id"],
                        "answer": tokenizer.decode(ids, skip_special_tokens=True).strip(),
                        "finish_reason": "length" if end is None else "stop",
                        "new_tokens": len(ids),
                    }
                )
            answers.keep(rows)
            speed.tokens += sum(row["new_tokens"] for row in rows)
            bar.update(len(batch))
            speed.show()
    if stats is not None and batches:
        stats |= {
            "answers": len(order),
            "new_tokens": speed.tokens,
            "seconds": round(speed.seconds, 1),
            "tokens_per_second": round(speed.tokens / speed.seconds, 1),
            "batch_size": batch_size,
            "device": str(model.device),
        }
    return answers.finish()


def _text(row: dict, tokenizer: PreTrainedTokenizerBase, persona: Persona | None) -> str:
    """A prompt as the model reads it."""

    prompt = row["prompt"]
    if persona and isinstance(prompt, str):
        raise PreferansError(
            f"--persona {persona.slug}: the prompts are texts with the marks of a template in them, before which no instruction can be put. "
            "Build the dataset with --format conversational, or write the questions into a file for --prompts."
        )
    try:
        if not isinstance(prompt, str):
            prompt = fold_system(persona.instruct(prompt) if persona else prompt, tokenizer)
        return prompt_text(prompt, tokenizer)
    except TemplateError as error:
        raise PreferansError(
            f"The prompt '{row['id']}' does not fit the model's chat template ({error}). Mend or leave out the prompt, or name another "
            "template with --chat_template_path."
        ) from None


def stop_token_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens that end an answer: the tokenizer's and those of the model's generation settings (Llama has three)."""
    configured = model.generation_config.eos_token_id
    configured = configured if isinstance(configured, list) else [configured]
    return sorted({token for token in [tokenizer.eos_token_id, *configured] if token is not None})


# What decides a base model's weights and their precision, as a recipe names it.
MODEL_KEYS = (
    "model_name_or_path",
    "model_revision",
    "dtype",
    "load_in_4bit",
    "bnb_4bit_quant_type",
    "use_bnb_nested_quant",
    "attn_implementation",
)


def check_sampling_arguments(args: argparse.Namespace) -> None:
    """
    Check these options, and `max_prompts` beside them, before anything heavy is loaded. Values of `--sampling` that no option changes
    are filled in.

    Raises:
        [`PreferansError`]: when there is no such model or adapter, they do not belong together, or a number makes no sense.
    """
    for name, value in SAMPLINGS[args.sampling].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    for adapter in _listed(args.adapter):
        base_of(adapter)
    for name, least in (
        ("max_prompts", 1),
        ("batch_size", 1),
        ("max_new_tokens", 1),
        ("top_k", 0),
        ("temperature", 0),
    ):
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
    check_bases(_listed(args.adapter), model)


def _listed(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])


def labels_of(args: argparse.Namespace) -> list[str]:
    """
    Names of the systems that the options name: the base model or the served one alone, or one for each adapter.

    Raises:
        [`PreferansError`]: when names and adapters are not equally many, or two systems have the same name.
    """
    folders = _listed(args.adapter) or [args.model_name_or_path or getattr(args, "model", None) or ""]
    labels = _listed(args.label) or [Path(folder).name or Path(folder).resolve().name for folder in folders]
    if len(labels) != len(folders):
        raise PreferansError(f"--label {' '.join(labels)}: {len(folders)} names are needed, one for each --adapter.")
    if len(set(labels)) < len(labels):
        raise PreferansError(f"--adapter {' '.join(folders)}: two have the same name. Give each its own with --label.")
    return labels


def _model_keys(args: argparse.Namespace) -> dict:
    """The base model as the run that made the adapter had it, or else as the command says."""
    adapters = _listed(args.adapter)
    runs = {adapter: keys for adapter in adapters if (keys := run_keys(adapter))}
    if runs:
        trained, first = next(iter(runs.items()))
        for adapter, other in runs.items():
            for key in (*MODEL_KEYS[1:], "chat_template_path"):
                if first.get(key) != other.get(key):
                    raise PreferansError(
                        f"--adapter {adapter}: its run has {key} {other.get(key)!r}, and that of {trained} {first.get(key)!r}, so they "
                        "cannot stand on one loaded base. Give each a command of its own."
                    )
        args.use_cpu = args.use_cpu or first.get("use_cpu", False)
        args.chat_template_path = args.chat_template_path or first.get("chat_template_path")
        keys = {key: first[key] for key in MODEL_KEYS if key in first}
    else:
        keys = {"load_in_4bit": args.load_in_4bit, "use_bnb_nested_quant": True, "dtype": args.dtype}
        keys["model_name_or_path"] = base_of(adapters[0]).name if adapters else None
    name = args.model_name_or_path
    if name:
        # a path of a run is kept as it was recorded; ./llama is llama
        keys["model_name_or_path"] = name if adapters else Path(name).as_posix()
    return keys
