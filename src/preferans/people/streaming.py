"""Generate one answer and show it token by token; Ctrl-C stops it and keeps what is there."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList, TextStreamer

from ..data.sampled import NEXT_TURN
from ..errors import PreferansError
from ..models.drawing import drawing
from ..models.loading import check_token_ids
from ..models.sampler import Sampler, stop_token_ids
from ..text.thinking import without_thinking
from .chat_history import fit_window


@dataclass
class StreamedAnswer:
    """
    An answer of a chat.

    Attributes:
        text (`str`): The answer without thinking and without further turns.
        finish_reason (`str`): `"stop"`, `"length"`, or `"interrupted"` by Ctrl-C.
        dropped (`int`): Number of turns that did not fit the context window.
    """

    text: str
    finish_reason: str
    dropped: int


class Interrupt:
    """Whether Ctrl-C was pressed."""

    def __init__(self) -> None:
        self.pressed = False


@contextmanager
def interrupts() -> Iterator[Interrupt]:
    """Catch Ctrl-C, so that a model is never interrupted in the middle of a token. A second Ctrl-C is not caught."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return

    def remember(number: int, frame: FrameType | None) -> None:
        interrupt.pressed = True
        signal.signal(signal.SIGINT, earlier)

    earlier = signal.signal(signal.SIGINT, remember)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, earlier)


class _Streamer(TextStreamer):
    """Pass on finished words until another turn begins."""

    def __init__(self, tokenizer: Any, write: Callable[[str], None]):
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.write, self.text, self.shown, self.turn_ended = write, "", 0, False

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        if self.turn_ended:
            return
        self.text = (self.text + text).lstrip() if not self.shown else self.text + text
        if match := NEXT_TURN.search(self.text):
            self.text, self.turn_ended = self.text[: match.start()], True
        end = len(self.text.rstrip())  # base models may fill the rest with empty lines
        self.write(self.text[self.shown : end])
        self.shown = max(self.shown, end)


class _Stop(StoppingCriteria):
    def __init__(self, streamer: _Streamer, interrupt: Interrupt):
        self.streamer, self.interrupt = streamer, interrupt

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **_: Any) -> torch.BoolTensor:
        stop = self.interrupt.pressed or self.streamer.turn_ended
        return torch.full((len(input_ids),), stop, dtype=torch.bool, device=input_ids.device)


def stream_answer(
    sampler: Sampler, prompt: list[dict], name: str, write: Callable[[str], None], interrupt: Interrupt
) -> StreamedAnswer:
    """
    Generate an answer, and pass its text on while it grows.

    Args:
        sampler ([`~preferans.models.sampler.Sampler`]): Who answers. Without an adapter on a model with adapters, the base answers.
        prompt (`list[dict]`): Messages, the last one the user's.
        name (`str`): Name of the answer's random numbers: another name gives another answer.
        write (`Callable[[str], None]`): Takes each new piece of the text.
        interrupt ([`Interrupt`]): Stops the answer when it is pressed, see [`interrupts`].

    Raises:
        [`PreferansError`]: if the last message alone does not fit the context window.
    """
    tokenizer, model, longest = sampler.tokenizer, sampler.model, sampler.sampling["max_new_tokens"]

    def encoded(messages: list[dict]) -> list[int]:
        text = sampler.input_text({"id": name, "prompt": messages})
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    limit = positions - longest if positions else None
    prompt, dropped = fit_window(prompt, lambda messages: len(encoded(messages)), limit)
    ids = encoded(prompt)
    if limit is not None and len(ids) > limit:
        raise PreferansError(
            f"The message has {len(ids)} tokens, which with --max_new_tokens {longest} is more than the {positions} positions of "
            f"{sampler.label}. Shorten it, or set a smaller --max_new_tokens."
        )
    text = sampler.input_text({"id": name, "prompt": prompt})
    check_token_ids(tokenizer, model.get_input_embeddings().weight.shape[0], [text], sampler.label)
    opening = "<think>" if text.rstrip().endswith("<think>") else ""  # some chat templates open the thinking block
    streamer = _Streamer(tokenizer, write)
    stop_ids = stop_token_ids(model, tokenizer)
    inputs = torch.tensor([ids], device=model.device)
    model.eval()
    with sampler.activated(), torch.no_grad():
        generated = model.generate(
            input_ids=inputs,
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=longest,
            do_sample=False,  # the processors leave one token
            logits_processor=drawing(sampler.sampling, sampler.seed, [name], len(ids), model.device),
            stopping_criteria=StoppingCriteriaList([_Stop(streamer, interrupt)]),
            eos_token_id=stop_ids,
            pad_token_id=tokenizer.pad_token_id,
            streamer=streamer,
        )
    ended = streamer.turn_ended or generated[0, -1].item() in stop_ids
    reason = "stop" if ended else "interrupted" if interrupt.pressed else "length"
    return StreamedAnswer(without_thinking(opening + streamer.text), reason, dropped)
