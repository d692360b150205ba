"""Sampling answers in batches, so that a stopped run loses at most the batch in flight."""

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .errors import PreferansError
from .files import write_jsonl

# The prototype's settings, by which ratings in the notebook were given.
PROTOTYPE_SAMPLING = {"max_new_tokens": 150, "top_k": 60, "top_p": 0.9, "temperature": 0.7}


def load_adapter(model: PreTrainedModel, adapter: str | Path) -> PreTrainedModel:
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
    """
    seen, prompts = set(), []
    for number, row in enumerate(rows):
        key = json.dumps(row["prompt"], ensure_ascii=False)
        if key not in seen:
            seen.add(key)
            prompts.append({"id": str(row.get("id") or number), "prompt": row["prompt"]})
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
        `dict[str, dict]`: answers by id.

    Raises:
        [`PreferansError`]: when the file holds answers of another model or other settings, or is no file of answers.
    """
    if not path.exists():
        return {}
    lines = path.read_bytes().split(b"\n")
    finished = {}
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            row = json.loads(line)
        except ValueError:
            if number == len(lines):  # not ended by a newline: the kill came while it was written
                continue
            raise PreferansError(
                f"{path}, line {number}: this is not valid JSON. Name another --output, or delete the file."
            ) from None
        for key, value in expected.items():
            if row.get(key) != value:
                raise PreferansError(
                    f"{path}: it holds answers with {key} {row.get(key)!r}, and this command says {value!r}. Name another --output, "
                    "or delete the file."
                )
        finished[row["id"]] = row
    return finished


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
) -> list[dict]:
    """
    Sample an answer to every prompt, and keep each batch as soon as it is there.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Causal language model, with or without an adapter.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Its tokenizer, with a chat template.
        prompts (`list[dict]`):
            `id` and `prompt` (a list of messages).
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
            Prompts per batch. The batches are the same in every call, whatever is already there.
        seed (`int`):
            Seed. Each batch is seeded by it and by its own prompts.

    Returns:
        `list[dict]`: in the order of `prompts`: `id`, `prompt`, `answer` (without the prompt), `model`, `weights`, `sampling`,
        `finish_reason` (`"stop"` when the model ended the answer, `"length"` when the limit did) and `new_tokens`.
    """
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    recorded = sampling | {"seed": seed, "batch_size": batch_size}
    constant = {"model": label, "weights": weights, "sampling": recorded}
    finished = read_finished(output, constant)
    asked = {row["id"]: row["prompt"] for row in prompts}
    strangers = [row["id"] for row in finished.values() if asked.get(row["id"]) != row["prompt"]]
    if strangers:
        raise PreferansError(
            f"{output}: {len(strangers)} of the answers in it are to other prompts than this command asks (such as "
            f"{strangers[0]}). Name another --output, or delete the file."
        )
    write_jsonl(output, list(finished.values()))  # drops a line cut short before more is appended

    texts = {
        row["id"]: tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
        for row in prompts
    }
    order = sorted(prompts, key=lambda row: -len(texts[row["id"]]))  # equal lengths together: little padding
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
        for batch in batches:
            if all(row["id"] in finished for row in batch):
                bar.update(len(batch))
                continue
            torch.manual_seed(batch_seed(seed, batch))
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
                    "prompt": row["prompt"],
                    "answer": tokenizer.decode(ids, skip_special_tokens=True).strip(),
                    **constant,
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


def stop_token_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens that end an answer: the tokenizer's and those of the model's generation settings (Llama has three)."""
    configured = model.generation_config.eos_token_id
    configured = configured if isinstance(configured, list) else [configured]
    return sorted({token for token in [tokenizer.eos_token_id, *configured] if token is not None})
