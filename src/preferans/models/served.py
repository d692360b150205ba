"""A served model as a system that answers prompts."""

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from ..data.persona import Persona
from ..errors import PreferansError
from .answers_file import AnswersFile
from .endpoint import Endpoint, GarbledReply, Reply, RequestRefused, seed_of
from .sampler import persona_record

# A single garbled reply can be an accident; this many in a row are not.
ANSWER_TRIES = 3
# Options for loading a model here, which do not apply to a server.
LOADING_OPTIONS = (
    "model_name_or_path",
    "adapter",
    "chat_template_path",
    "chat_template_kwargs",
    "load_in_4bit",
    "use_cpu",
)


def check_endpoint_arguments(args: argparse.Namespace) -> None:
    """
    Check that `--endpoint` and `--model` are given together, and without options for loading a model.

    Raises:
        [`PreferansError`]: names the wrong or missing option.
    """
    if not args.endpoint:
        raise PreferansError(
            "--model names a model of a server: give --endpoint too, or --model_name_or_path instead."
        )
    if not args.model:
        raise PreferansError("--endpoint: choose one of the server's models with --model.")
    for name in LOADING_OPTIONS:
        if getattr(args, name):
            raise PreferansError(
                f"--{name} is for a model that is loaded here; with --endpoint the server has loaded it. Remove the option, and name the "
                "model with --model."
            )


@dataclass
class ServedModel:
    """
    A served model and its sampling settings: a system that answers prompts, like [`~preferans.models.sampler.Sampler`].

    Args:
        endpoint ([`~preferans.models.endpoint.Endpoint`]): The model.
        label (`str`): Name of the system.
        sampling (`dict`): `max_new_tokens`, `top_k`, `top_p` and `temperature`.
        seed (`int`): Seed from which each prompt's own seed is derived.
        persona ([`~preferans.data.persona.Persona`], *optional*): Character whose instruction is put before every prompt.

    Attributes:
        stats (`dict`): Duration and speed of the last call of `answer`.
    """

    endpoint: Endpoint
    label: str
    sampling: dict[str, Any]
    seed: int
    persona: Persona | None = None
    stats: dict[str, Any] = field(default_factory=dict)

    def answer(self, prompts: list[dict], output: str | Path) -> list[dict]:
        """
        Request an answer to every prompt, and save each at once.

        Args:
            prompts (`list[dict]`): `id` and `prompt`, a list of messages.
            output (`str` or `Path`): File of JSON lines. Answers that an earlier call wrote are kept.

        Returns:
            `list[dict]`: as of [`~preferans.models.sampler.Sampler.answer`]. `weights` has the name of the model and the server's host;
            `new_tokens` is the server's count, or `None`.

        Raises:
            [`PreferansError`]: if the file has other answers, or the server cannot be used or rejects a prompt.
        """
        plain = next((row["id"] for row in prompts if isinstance(row["prompt"], str)), None)
        if plain is not None:
            raise PreferansError(
                f"--endpoint: the prompt '{plain}' is a plain text that includes a template, and a server adds its own. Build the dataset "
                "with --format conversational, or write the questions to a file for --prompts."
            )
        constant = {
            "model": self.label,
            "weights": {"model_name_or_path": self.endpoint.model, "endpoint": self.endpoint.host},
            "sampling": self.sampling | {"seed": self.seed},
            "persona": persona_record(self.persona),
        }
        answers = AnswersFile(output, prompts, constant)
        self.stats = {}
        if answers.missing:
            self.endpoint.settle(**self._options("settle"))
        tokens, start = 0, time.perf_counter()
        with (
            tqdm(total=len(prompts), initial=len(answers.rows), desc=f"Answers of {self.label}", unit="answer") as bar,
            answers.appending() as append,
        ):
            for row, reply in self.endpoint.map(self._ask, answers.missing):
                answer = {"id": row["id"], "answer": reply.text.strip(), "finish_reason": reply.finish_reason}
                append({row["id"]: answers.complete(answer | {"new_tokens": reply.completion_tokens})})
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
        for attempt in range(1, ANSWER_TRIES + 1):
            try:
                return self.endpoint.ask(prompt, **self._options(row["id"]))
            except RequestRefused as refusal:
                raise PreferansError(f"The prompt '{row['id']}': {refusal}") from None
            except GarbledReply:
                if attempt == ANSWER_TRIES:
                    raise
        raise AssertionError("unreachable")


def served_model(args: argparse.Namespace, label: str) -> ServedModel:
    """Return the served model that the options name, see [`check_endpoint_arguments`]."""
    sampling = {name: getattr(args, name) for name in ("max_new_tokens", "top_k", "top_p", "temperature")}
    return ServedModel(Endpoint(args.endpoint, args.model, args.workers), label, sampling, args.seed)
