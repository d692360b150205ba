"""A served model as one more system that answers prompts: the heavy work is done where the server stands."""

import argparse
import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from ..data.persona import Persona
from ..errors import PreferansError
from .answers_file import AnswersFile
from .endpoint import Endpoint, GarbledReply, Reply, RequestRefused, seed_of

# A garbled reply may be an accident on the way; so many in a row are not.
ANSWER_TRIES = 3
# Options that say how a model is loaded here, which a server does for itself.
LOADING = ("model_name_or_path", "adapter", "chat_template_path", "load_in_4bit", "use_cpu")


def check_endpoint_arguments(args: argparse.Namespace) -> None:
    """
    Check that `--endpoint` and `--model` are given together, and without options of a model that is loaded here.

    Raises:
        [`PreferansError`]: names the option that does not belong here.
    """
    if not args.endpoint:
        raise PreferansError(
            "--model names a model of a server: give --endpoint too, or --model_name_or_path instead."
        )
    if not args.model:
        raise PreferansError("--endpoint: say with --model which of the server's models is to answer.")
    for name in LOADING:
        if getattr(args, name):
            raise PreferansError(
                f"--{name} is for a model that is loaded here, and with --endpoint the server has loaded it. Leave it out, and "
                "name the model with --model."
            )


@dataclass
class ServedModel:
    """
    A served model and how to sample from it: a system with a `label` that answers prompts, as [`~preferans.models.generate.Sampler`] does.

    Args:
        endpoint ([`~preferans.models.endpoint.Endpoint`]):
            The model.
        label (`str`):
            Name of the system.
        sampling (`dict`):
            `max_new_tokens`, `top_k`, `top_p` and `temperature`.
        seed (`int`):
            Seed; each prompt has its own, made of it and the prompt's id.
        persona ([`~preferans.data.persona.Persona`], *optional*):
            Character whose instruction stands before every prompt, as a message of the system.

    Attributes:
        stats (`dict`): What the last call of `answer` took.
    """

    endpoint: Endpoint
    label: str
    sampling: dict[str, Any]
    seed: int
    persona: "Persona | None" = None
    stats: dict[str, Any] = field(default_factory=dict)

    def answer(self, prompts: list[dict], output: str | Path) -> list[dict]:
        """
        Ask for an answer to every prompt, and keep each as soon as it is there.

        Args:
            prompts (`list[dict]`):
                `id` and `prompt`, a list of messages.
            output (`str` or `Path`):
                File of JSON lines. What an earlier call has written there is kept and not asked again.

        Returns:
            `list[dict]`: as of [`~preferans.models.generate.generate_answers`]. `weights` holds the name of the model and the server's host;
            `new_tokens` is as the server counts, `None` where it does not.

        Raises:
            [`PreferansError`]: when the file holds other answers, or the server cannot be used or refuses a prompt.
        """
        text = next((row["id"] for row in prompts if isinstance(row["prompt"], str)), None)
        if text is not None:
            raise PreferansError(
                f"--endpoint: the prompt '{text}' is a text with the marks of a template in it, and a server puts its own around it. Build "
                "the dataset with --format conversational, or write the questions into a file for --prompts."
            )
        constant = {
            "model": self.label,
            "weights": {"model_name_or_path": self.endpoint.model, "endpoint": self.endpoint.host},
            "sampling": self.sampling | {"seed": self.seed},
            "persona": None,
        }
        if self.persona:
            checksum = hashlib.sha256(self.persona.instruction.encode()).hexdigest()
            constant["persona"] = {"name": self.persona.slug, "sha256": checksum}
        answers = AnswersFile(output, prompts, constant)
        self.stats = {}
        if answers.missing:
            self.endpoint.settle(**self._options("settle"))
        tokens, start = 0, time.perf_counter()
        with tqdm(
            total=len(prompts), initial=len(answers.finished), desc=f"Answers of {self.label}", unit="answer"
        ) as bar:
            for row, reply in self.endpoint.map(self._ask, answers.missing):
                answers.keep(
                    [
                        {
                            "id": row["id"],
                            "answer": reply.text.strip(),
                            "finish_reason": reply.finish_reason,
                            "new_tokens": reply.completion_tokens,
                        }
                    ]
                )
                tokens += reply.completion_tokens or 0
                bar.update()
                bar.set_postfix_str(f"{tokens / (time.perf_counter() - start):.0f} tokens/s")
        if answers.missing:
            seconds = time.perf_counter() - start
            self.stats = {
                "answers": len(answers.missing),
                "new_tokens": tokens,
                "seconds": round(seconds, 1),
                "tokens_per_second": round(tokens / seconds, 1),
                "workers": self.endpoint.workers,
                "endpoint": self.endpoint.host,
            }
        return answers.finish()

    def _options(self, name: str) -> dict[str, Any]:
        chosen = {"max_tokens": self.sampling["max_new_tokens"], "temperature": self.sampling["temperature"]}
        chosen["seed"] = seed_of(self.seed, name)
        if self.sampling["temperature"] > 0:
            chosen |= {key: self.sampling[key] for key in ("top_k", "top_p")}
        return chosen

    def _ask(self, row: dict) -> Reply:
        prompt = self.persona.instruct(row["prompt"]) if self.persona else row["prompt"]
        for tried in range(1, ANSWER_TRIES + 1):
            try:
                return self.endpoint.ask(prompt, **self._options(row["id"]))
            except RequestRefused as refusal:
                raise PreferansError(f"The prompt '{row['id']}': {refusal}") from None
            except GarbledReply:
                if tried == ANSWER_TRIES:
                    raise


def served_model(args: argparse.Namespace, label: str) -> ServedModel:
    """The served model that the options name, see [`check_endpoint_arguments`]."""
    sampling = {name: getattr(args, name) for name in ("max_new_tokens", "top_k", "top_p", "temperature")}
    return ServedModel(Endpoint(args.endpoint, args.model, args.workers), label, sampling, args.seed)
