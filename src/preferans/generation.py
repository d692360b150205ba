"""Sampling answers in batches, so that a stopped run loses at most the batch in flight."""

import argparse
import hashlib
import json
import os
import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from .errors import PreferansError
from .files import read_json, sha256_of, write_jsonl
from .language import WORD_OR_NUMBER

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# The prototype's settings, by which ratings in the notebook were given.
PROTOTYPE_SAMPLING = {"max_new_tokens": 150, "top_k": 60, "top_p": 0.9, "temperature": 0.7}
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


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a model and say how to sample from it."""
    add = parser.add_argument
    add("--model_name_or_path", help="folder or Hub id of the base model; left out, the one of --adapter")
    add("--adapter", help="folder of a finished run")
    add("--label", help="name of this system in tables (default: the adapter's or the model's folder)")
    add("--chat_template_path", help="Jinja file, for a base model without a chat template")
    add("--load_in_4bit", action="store_true", help="hold the base model in 4 bits (NF4, double quantization)")
    add("--dtype", choices=("float32", "float16", "bfloat16"), default="float32", help="(default: %(default)s)")
    add("--use_cpu", action="store_true", help="do not use a card")
    add(
        "--batch_size",
        type=int,
        default=16,
        help="prompts at a time: more is faster and takes more memory (default: %(default)s)",
    )
    for name, value in PROTOTYPE_SAMPLING.items():
        note = "0 takes the likeliest token " if name == "temperature" else ""
        add(f"--{name}", type=type(value), default=value, help=f"{note}(default: %(default)s)")


def check_sampling_arguments(args: argparse.Namespace) -> None:
    """
    Check these options, and `max_prompts` beside them, before anything heavy is loaded.

    Raises:
        [`PreferansError`]: when there is no such model or adapter, or a number makes no sense.
    """
    from .training import check_model_exists

    if args.adapter and not (Path(args.adapter) / "adapter_model.safetensors").is_file():
        raise PreferansError(
            f"--adapter {args.adapter}: there is no adapter in it. Name the folder of a finished run."
        )
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
    check_model_exists(_model_keys(args)["model_name_or_path"])


def _model_keys(args: argparse.Namespace) -> dict:
    """The base model as the run that made the adapter had it, or else as the command says."""
    if not args.adapter:
        keys = {"load_in_4bit": args.load_in_4bit, "use_bnb_nested_quant": True, "dtype": args.dtype}
        name = args.model_name_or_path
        return keys | {"model_name_or_path": Path(name).as_posix() if name else name}  # ./llama is llama
    run_keys = read_json(Path(args.adapter) / "provenance.json")["keys"]
    args.use_cpu = args.use_cpu or run_keys.get("use_cpu", False)
    args.chat_template_path = args.chat_template_path or run_keys.get("chat_template_path")
    keys = {key: run_keys[key] for key in MODEL_KEYS if key in run_keys}
    return keys | ({"model_name_or_path": args.model_name_or_path} if args.model_name_or_path else {})


@dataclass
class Sampler:
    """
    A loaded model and how to sample from it.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Causal language model, with or without an adapter.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Its tokenizer, with a chat template.
        label (`str`):
            Name of the system.
        weights (`dict`):
            What the answers come from: base model, precision, checksums of the weights and of the chat template.
        sampling (`dict`):
            Arguments of `generate`.
        batch_size (`int`):
            Prompts per batch.
        seed (`int`):
            Seed.
    """

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    label: str
    weights: dict[str, Any]
    sampling: dict[str, Any]
    batch_size: int
    seed: int

    @property
    def described(self) -> str:
        """The model in words that hold on every machine; its licence covers what it wrote."""
        base = self.weights["model_name_or_path"]
        checksums = "".join(f", SHA-256 `{checksum}`" for checksum in self.weights["sha256"])
        return f"`{self.label}` (base model `{Path(base).name if Path(base).exists() else base}`{checksums}), whose licence covers them"

    def answer(self, prompts: list[dict], output: str | Path, label: str | None = None) -> list[dict]:
        """Sample an answer to every prompt, see [`generate_answers`]."""
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
        )


def load_sampler(args: argparse.Namespace, chat: bool = True) -> Sampler:
    """
    Load the model that the options of [`add_sampling_arguments`] and `args.seed` name; with `chat=False`, for prompts that are
    plain texts, it needs no chat template.
    """
    from trl import ModelConfig

    from .hardware import apply_kernels, decide_kernels, decide_precision, find_device
    from .training import load_model, load_tokenizer

    keys = _model_keys(args)
    model_args = ModelConfig(**keys)
    tokenizer = load_tokenizer(model_args.model_name_or_path, model_args.model_revision, args.chat_template_path, chat)
    device = find_device(args.use_cpu, triton=False)  # only training has kernels for Triton
    decide_precision(device, fp16=False, bf16=False, dtype=model_args.dtype)
    apply_kernels(decide_kernels(device, half=model_args.dtype != "float32"))
    model = load_model(model_args, device)
    if args.adapter:
        model = load_adapter(model, args.adapter)
    files = [
        *Path(model_args.model_name_or_path).glob("*.safetensors"),
        *Path(args.adapter or "-").glob("*.safetensors"),
    ]
    weights = keys | {
        "sha256": [sha256_of(file) for file in sorted(files)],
        "chat_template_sha256": hashlib.sha256((tokenizer.chat_template or "").encode()).hexdigest(),
    }
    return Sampler(
        model,
        tokenizer,
        args.label or Path(args.adapter or model_args.model_name_or_path).name,
        weights,
        {name: getattr(args, name) for name in PROTOTYPE_SAMPLING},
        args.batch_size,
        args.seed,
    )


def load_adapter(model: "PreTrainedModel", adapter: str | Path) -> "PreTrainedModel":
    """
    Put a LoRA adapter onto a loaded base model.

    Raises:
        [`PreferansError`]: when there is no adapter in the folder, or it was trained on another architecture.
    """
    from peft import PeftModel

    if not (Path(adapter) / "adapter_config.json").is_file():
        raise PreferansError(
            f"--adapter {adapter}: there is no adapter_config.json in it. Name the folder of a finished run."
        )
    try:
        return PeftModel.from_pretrained(model, str(adapter))
    except (RuntimeError, ValueError) as error:
        raise PreferansError(
            f"--adapter {adapter}: it does not fit the base model; was it trained on another one? ({' '.join(str(error).split()):.200})"
        ) from None


def distinct_prompts(rows: list[dict]) -> list[dict]:
    """
    Prompts of a preference dataset, each once.

    Args:
        rows (`list[dict]`):
            Rows with `prompt` and, if there is one, `id`.

    Returns:
        `list[dict]`: `id` and `prompt`, in the order of the rows; several pairs of one prompt give one entry.

    Raises:
        [`PreferansError`]: when two prompts have the same id, by which answers are told apart.
    """
    seen, names, prompts = set(), set(), []
    for number, row in enumerate(rows):
        key = json.dumps(row["prompt"], ensure_ascii=False)
        if key in seen:
            continue
        name = str(row.get("id") or number)
        if name in names:
            raise PreferansError(
                f"Row {number + 1}: another prompt has the id '{name}' already. Give each row its own."
            )
        seen.add(key)
        names.add(name)
        prompts.append({"id": name, "prompt": row["prompt"]})
    return prompts


def read_finished(path: Path, expected: dict[str, Any]) -> dict[str, dict]:
    """
    Answers that an earlier call has already written.

    Args:
        path (`Path`):
            File of answers. A last line that a kill cut short is passed over.
        expected (`dict`):
            Values that every answer must carry, so that answers of two settings never mix.

    Returns:
        `dict[str, dict]`: answers by id, those of batches that are whole.

    Raises:
        [`PreferansError`]: when the file holds answers of another model or other settings, or is no file of answers.
    """
    if not path.exists():
        return {}
    lines = path.read_bytes().split(b"\n")
    finished: dict[str, dict] = {}
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            row = json.loads(line)
            row["id"], row["prompt"], row["answer"]
        except (ValueError, KeyError, TypeError):
            if number == len(lines):  # not ended by a newline: the kill came while it was written
                continue
            raise PreferansError(
                f"{path}, line {number}: this is no answer. Name another file, or delete it."
            ) from None
        for key, value in expected.items():
            if row.get(key) != value:
                raise PreferansError(
                    f"{path}: it holds answers with {key} {row.get(key)!r}, and this command says {value!r}. Name another "
                    "file, or delete it."
                )
        finished[row["id"]] = row
    # A batch of which a kill left a part is sampled anew as a whole, or its answers would not be those of an undisturbed run.
    marks = {name: row.get("batch") or {"seed": name, "size": 1} for name, row in finished.items()}
    sizes = Counter(mark["seed"] for mark in marks.values())
    return {name: row for name, row in finished.items() if sizes[marks[name]["seed"]] == marks[name]["size"]}


def generate_answers(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: list[dict],
    output: str | Path,
    label: str,
    weights: dict[str, Any],
    sampling: dict[str, Any],
    batch_size: int,
    seed: int,
) -> list[dict]:
    """
    Sample an answer to every prompt, and keep each batch as soon as it is there.

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
            Arguments of `generate`, such as [`PROTOTYPE_SAMPLING`]. With `temperature` 0 the likeliest token is taken.
        batch_size (`int`):
            Prompts per batch.
        seed (`int`):
            Seed. Each batch is seeded by it and by its own prompts.

    Returns:
        `list[dict]`: in the order of `prompts`: `id`, `prompt`, `answer` (without the prompt), `model`, `weights`, `sampling`,
        `batch` (its seed and size), `finish_reason` (`"stop"` when the model ended the answer, `"length"` when the limit did) and `new_tokens`.
    """
    import torch

    from .training import prompt_text

    output = Path(output)
    if output.is_dir():
        raise PreferansError(f"{output}: this is a folder, and a file for the answers is needed.")
    output.parent.mkdir(parents=True, exist_ok=True)
    recorded = sampling | {"seed": seed, "batch_size": batch_size}
    constant = {"model": label, "weights": weights, "sampling": recorded}
    finished = read_finished(output, constant)
    # Readers of answers know messages only: a plain text counts as one of the user's.
    asked = {
        row["id"]: [{"role": "user", "content": row["prompt"]}] if isinstance(row["prompt"], str) else row["prompt"]
        for row in prompts
    }
    strangers = [row["id"] for row in finished.values() if asked.get(row["id"]) != row["prompt"]]
    if strangers:
        raise PreferansError(
            f"{output}: {len(strangers)} of the answers in it are to other prompts than this command asks (such as "
            f"{strangers[0]}). Name another file, or delete it."
        )
    write_jsonl(output, list(finished.values()))  # drops a line cut short before more is appended

    texts = {row["id"]: prompt_text(row["prompt"], tokenizer) for row in prompts}
    missing = [row for row in prompts if row["id"] not in finished]
    order = sorted(missing, key=lambda row: -len(texts[row["id"]]))  # equal lengths together: little padding
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    greedy = sampling.get("temperature") == 0
    arguments = {
        key: value for key, value in sampling.items() if not (greedy and key in ("temperature", "top_k", "top_p"))
    }
    stop_ids = stop_token_ids(model, tokenizer)
    model.eval()
    tokens, start = 0, time.perf_counter()
    with (
        tqdm(total=len(prompts), desc=f"Answers of {label}", unit="answer") as bar,
        open(output, "a", encoding="utf-8") as file,
    ):
        bar.update(len(finished))
        for batch in batches:
            mark = {"seed": batch_seed(seed, batch), "size": len(batch)}
            torch.manual_seed(mark["seed"])
            inputs = tokenizer(
                [texts[row["id"]] for row in batch], return_tensors="pt", padding=True, add_special_tokens=False
            )
            inputs = {key: inputs[key].to(model.device) for key in ("input_ids", "attention_mask")}
            with torch.no_grad():
                made = model.generate(
                    **inputs,
                    **arguments,
                    do_sample=not greedy,
                    eos_token_id=stop_ids,
                    pad_token_id=tokenizer.pad_token_id,
                )
            for row, ids in zip(batch, made[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
                end = next((i for i, token in enumerate(ids) if token in stop_ids), None)
                ids = ids if end is None else ids[:end]
                tokens += len(ids)
                finished[row["id"]] = answer = {
                    "id": row["id"],
                    "prompt": asked[row["id"]],
                    "answer": tokenizer.decode(ids, skip_special_tokens=True).strip(),
                    **constant,
                    "batch": mark,
                    "finish_reason": "length" if end is None else "stop",
                    "new_tokens": len(ids),
                }
                file.write(json.dumps(answer, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
            bar.update(len(batch))
            bar.set_postfix_str(f"{tokens / (time.perf_counter() - start):.0f} tokens/s")
    answers = [finished[row["id"]] for row in prompts]
    write_jsonl(output, answers)
    return answers


def batch_seed(seed: int, batch: list[dict]) -> int:
    """Seed of one batch: the same whenever the same prompts are sampled together, before or after a restart."""
    digest = hashlib.sha256(f"{seed}:{':'.join(row['id'] for row in batch)}".encode("utf-8", "surrogatepass"))
    return int.from_bytes(digest.digest()[:8], "big") >> 1


def stop_token_ids(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Tokens that end an answer: the tokenizer's and those of the model's generation settings (Llama has three)."""
    configured = model.generation_config.eos_token_id
    configured = configured if isinstance(configured, list) else [configured]
    return sorted({token for token in [tokenizer.eos_token_id, *configured] if token is not None})


# What is done with a sample before it can be a rejected answer.
SAMPLE_CHANGES = {
    "echo_cut": "the prompt repeated at its beginning was cut off",
    "word_cut": "the limit fell on a word, which was cut off",
    "turn_cut": "what was written beyond the turn was cut off",
}
SAMPLE_DROP_REASONS = {
    "empty": "no word in it",
    "only_echo": "nothing but the prompt",
    "equal": "the same as chosen",
    "repeated": "the same as another sample for this prompt",
}
# The marks that a plain template writes, by which a base model goes on to ask itself.
NEXT_TURN = re.compile(r"\n\s*(?:Вопрос|Ответ|Пользователь|Question|Answer|User)\s*:")
_LABEL = r"(?:(?:Вопрос|Пользователь|Question|User)\s*:\s*)?"


def tidy_sample(answer: dict, chosen: str) -> tuple[str | None, list[str]]:
    """
    Make a rejected answer of a sample, if it can be one.

    Args:
        answer (`dict`):
            Answer as [`generate_answers`] gives it.
        chosen (`str`):
            The better answer to the same prompt.

    Returns:
        `tuple[str | None, list[str]]`: the text, or `None` where none is left, and what happened to it: keys of
        `SAMPLE_CHANGES`, then at most one of `SAMPLE_DROP_REASONS`.
    """
    text, events = answer["answer"].strip(), []
    echo = re.match(_LABEL + re.escape(answer["prompt"][-1]["content"].strip()), text)
    if echo:
        text = re.sub(r"^\s*(?:Ответ|Answer)\s*:", "", text[echo.end() :]).strip()
        events.append("echo_cut")
    turn = NEXT_TURN.search(text)
    if turn:
        text = text[: turn.start()].rstrip()
        events.append("turn_cut")
    elif answer["finish_reason"] == "length" and text[-1:].isalnum():
        whole = re.sub(r"\w+$", "", text).rstrip(" \n\t-–—(«„“\"'")
        if whole:  # else it is one single word, and may as well be whole
            text = whole
            events.append("word_cut")
    if not WORD_OR_NUMBER.search(text):
        return None, [*events, "only_echo" if echo else "empty"]
    if text == chosen.strip():
        return None, [*events, "equal"]
    return text, events
