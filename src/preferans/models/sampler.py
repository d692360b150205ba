"""A loaded model that samples answers to prompts, with answers that do not depend on the batch."""

import hashlib
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data.chat_template import fold_system, one_line, prompt_text
from ..data.persona import Persona
from ..errors import PreferansError
from .answers_file import AnswersFile
from .drawing import Speed, drawing
from .loading import check_token_ids


@dataclass
class Sampler:
    """
    A loaded model and its sampling settings: a system that answers prompts.

    Args:
        model ([`~transformers.PreTrainedModel`]): Causal language model, with or without adapters.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): Its tokenizer, with a chat template.
        label (`str`): Name of the system, written to every answer.
        weights (`dict`):
            Base model, precision, and checksums of the weights and of the chat template. Written to every answer, so that answers of
            an adapter that was trained again are not mistaken for those of the old one.
        sampling (`dict`):
            `max_new_tokens`, `top_k`, `top_p` and `temperature`, such as [`PROTOTYPE_SAMPLING`]. `temperature` 0 is greedy decoding.
        batch_size (`int`): Prompts per batch.
        seed (`int`)
        adapter (`str`, *optional*): Name in `model` of the adapter that answers.
        persona ([`~preferans.data.persona.Persona`], *optional*): Character whose instruction is put before every prompt.

    Attributes:
        stats (`dict`):
            Of the last call of `answer`: `answers`, `new_tokens`, `seconds`, `tokens_per_second`, `batch_size` and `device`; empty if
            there was nothing to do.
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
        """Describe the model independently of this machine; its licence covers its answers."""
        base = self.weights["model_name_or_path"]
        checksums = "".join(f", SHA-256 `{checksum}`" for checksum in self.weights["sha256"])
        return f"`{self.label}` (base model `{Path(base).name if Path(base).exists() else base}`{checksums}), whose licence covers them"

    def activated(self) -> AbstractContextManager:
        """Activate this system's adapter; without one, return a context in which the model's adapters are off."""
        if self.adapter:
            self.model.set_adapter(self.adapter)
            return nullcontext()
        return self.model.disable_adapter() if isinstance(self.model, PeftModel) else nullcontext()

    def answer(self, prompts: list[dict], output: str | Path, label: str | None = None) -> list[dict]:
        """
        Sample an answer to every prompt, and save each batch at once.

        Each prompt has its own random numbers, so an answer depends on `seed` and the prompt's id, but not on its batch. One
        dependence remains: floating-point sums are rounded differently in a batch of another shape. In fp32 the logits then differ by
        about 1e-5, which rarely changes an answer where two tokens are almost equally likely; in half precision it is common. Use a
        single batch size if this must not happen.

        Args:
            prompts (`list[dict]`): `id` and `prompt` (a list of messages, or a text).
            output (`str` or `Path`): File of JSON lines. Answers that an earlier call wrote are kept.
            label (`str`, *optional*): Another name for the system.

        Returns:
            `list[dict]`: in the order of `prompts`: `id`, `prompt` (without a persona's instruction), `answer`, `model`, `weights`,
            `sampling`, `persona` (if there is one: its name and the checksum of its instruction), `finish_reason` (`"stop"` if the model
            ended the answer, `"length"` if the limit did), `new_tokens`, and `thinking` if a thinking block was removed.

        Raises:
            [`PreferansError`]: if the file has other answers, or a prompt does not fit the chat template or the model.
        """
        self.stats = {}
        sampling = self.sampling | {"seed": self.seed}
        constant = {"model": label or self.label, "weights": self.weights, "sampling": sampling}
        answers = AnswersFile(output, prompts, constant | {"persona": persona_record(self.persona)})
        texts = {row["id"]: self.input_text(row) for row in answers.missing}
        lengths = self._check_lengths(texts)
        order = sorted(answers.missing, key=lambda row: -lengths[row["id"]])  # equal lengths together: little padding
        self.model.eval()
        with (
            tqdm(
                total=len(prompts), initial=len(answers.rows), desc=f"Answers of {constant['model']}", unit="answer"
            ) as bar,
            answers.appending() as append,
        ):
            speed = Speed(bar, self.tokenizer.pad_token_id)
            for start in range(0, len(order), self.batch_size):
                batch = [row["id"] for row in order[start : start + self.batch_size]]
                rows = self._answer_batch(batch, texts, speed)
                append({row["id"]: answers.complete(row) for row in rows})
                speed.tokens += sum(row["new_tokens"] for row in rows)
                bar.update(len(batch))
                speed.show()
        if order:
            self.stats = {
                "answers": len(order),
                "new_tokens": speed.tokens,
                "seconds": round(speed.seconds, 1),
                "tokens_per_second": round(speed.tokens / speed.seconds, 1),
                "batch_size": self.batch_size,
                "device": str(self.model.device),
            }
        return answers.finish()

    def _answer_batch(self, names: list[str], texts: dict[str, str], speed: Speed) -> list[dict]:
        inputs = self.tokenizer(
            [texts[name] for name in names], return_tensors="pt", padding=True, add_special_tokens=False
        )
        inputs = {key: inputs[key].to(self.model.device) for key in ("input_ids", "attention_mask")}
        speed.prompt_length = inputs["input_ids"].shape[1]
        processors = drawing(self.sampling, self.seed, names, speed.prompt_length, self.model.device)
        stop_ids = stop_token_ids(self.model, self.tokenizer)
        with torch.no_grad(), self.activated():
            generated = self.model.generate(
                **inputs,
                max_new_tokens=self.sampling["max_new_tokens"],
                do_sample=False,  # the processors leave one token
                logits_processor=processors,
                stopping_criteria=[speed],
                eos_token_id=stop_ids,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        rows = []
        for name, ids in zip(names, generated[:, speed.prompt_length :].tolist(), strict=True):
            end = next((i for i, token in enumerate(ids) if token in stop_ids), None)
            ids = ids if end is None else ids[:end]
            answer = self.tokenizer.decode(ids, skip_special_tokens=True).strip()
            if texts[name].rstrip().endswith("<think>"):  # some chat templates open the thinking block
                answer = f"<think>{answer}"
            reason = "length" if end is None else "stop"
            rows.append({"id": name, "answer": answer, "finish_reason": reason, "new_tokens": len(ids)})
        return rows

    def _check_lengths(self, texts: dict[str, str]) -> dict[str, int]:
        """Return the prompts' lengths in tokens, and check that the model has their tokens, and positions for answers."""
        tokenizer, longest = self.tokenizer, self.sampling["max_new_tokens"]
        check_token_ids(tokenizer, self.model.get_input_embeddings().weight.shape[0], texts.values(), self.label)
        lengths = {name: len(tokenizer(text, add_special_tokens=False)["input_ids"]) for name, text in texts.items()}
        positions = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        for name, length in lengths.items():
            if positions and length + longest > positions:
                raise PreferansError(
                    f"The prompt '{name}' has {length} tokens, which with max_new_tokens {longest} is more than the {positions} positions "
                    f"of {self.label}. Shorten it, or set a smaller --max_new_tokens."
                )
        return lengths

    def input_text(self, row: dict) -> str:
        """
        Return a prompt as the model's input text, with the persona's instruction.

        Args:
            row (`dict`): `id`, and `prompt` as messages or as a text.

        Raises:
            [`PreferansError`]: if the prompt does not fit the chat template.
        """
        prompt, persona = row["prompt"], self.persona
        if persona and isinstance(prompt, str):
            raise PreferansError(
                f"--persona {persona.slug}: the prompts are plain texts that include a template, so no instruction can be put before them. "
                "Build the dataset with --format conversational, or write the questions to a file for --prompts."
            )
        try:
            if not isinstance(prompt, str):
                prompt = fold_system(persona.instruct(prompt) if persona else prompt, self.tokenizer)
            return prompt_text(prompt, self.tokenizer)
        except Exception as error:  # a template is a program, and may raise anything
            raise PreferansError(
                f"The prompt '{row['id']}' does not fit the model's chat template ({one_line(error)}). Fix or remove the prompt, or name another "
                "template with --chat_template_path."
            ) from None


def persona_record(persona: Persona | None) -> dict[str, str] | None:
    """Return a persona's name and the checksum of its instruction, for the record of an answer."""
    if persona is None:
        return None
    return {"name": persona.slug, "sha256": hashlib.sha256(persona.instruction.encode()).hexdigest()}


def stop_token_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens that end an answer: the tokenizer's and those of the model's generation settings (Llama has three)."""
    configured = model.generation_config.eos_token_id
    configured = configured if isinstance(configured, list) else [configured]
    return sorted({token for token in [tokenizer.eos_token_id, *configured] if token is not None})
