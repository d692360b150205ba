"""Sample each answer's tokens from its own random numbers, independently of the batch."""

import hashlib
import time
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ..errors import PreferansError


def random_numbers(seed: int, name: str, length: int) -> np.ndarray:
    """
    Return the random numbers of one answer: fp32 of shape `(length,)`, uniform in [0, 1).

    They depend only on `seed` and `name`, are the same on every device, and start the same for every `length`.

    Args:
        seed (`int`)
        name (`str`): Id of the prompt.
        length (`int`): Number of tokens.
    """
    digest = hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogatepass")).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big")).random(length, dtype=np.float32)


class DrawnToken(LogitsProcessor):
    """
    Keep one token of each row: the one at the row's own random number in the cumulative distribution.

    `generate` would sample the whole batch from one stream of random numbers.

    Args:
        numbers (`torch.Tensor` of shape `(rows, tokens)`): One number of [`random_numbers`] for each new token.
        prompt_length (`int`): Tokens of the padded prompts.
    """

    def __init__(self, numbers: torch.Tensor, prompt_length: int):
        self.numbers = numbers
        self.prompt_length = prompt_length

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        ends = scores.double().softmax(dim=-1).cumsum(dim=-1)  # in fp32 the sum over 100,000 tokens is inexact
        if not ends[:, -1].isfinite().all():
            raise PreferansError(
                "The model's logits of the next token are NaN or infinite. In float16, its activations overflow: use --dtype float32. "
                "Otherwise its weights are damaged."
            )
        step = input_ids.shape[1] - self.prompt_length
        tokens = torch.searchsorted(ends, self.numbers[:, step : step + 1] * ends[:, -1:], right=True)
        return torch.full_like(scores, -torch.inf).scatter(1, tokens, 0.0)


def drawing(
    sampling: dict[str, Any], seed: int, names: list[str], prompt_length: int, device: torch.device
) -> LogitsProcessorList:
    """
    Return the logits processors with which a greedy `generate` samples each row independently.

    Args:
        sampling (`dict`):
            `max_new_tokens`, `temperature`, `top_k` and `top_p`, applied in this order as in `generate`. With temperature 0 the most
            likely token is kept.
        seed (`int`)
        names (`list[str]`): Ids of the prompts, in the order of the rows.
        prompt_length (`int`): Tokens of the padded prompts.
        device (`torch.device`): The model's device.
    """
    if sampling["temperature"] == 0:
        return LogitsProcessorList()
    numbers = np.stack([random_numbers(seed, name, sampling["max_new_tokens"]) for name in names])
    steps: list[LogitsProcessor] = [TemperatureLogitsWarper(float(sampling["temperature"]))]
    if sampling["top_k"]:
        steps.append(TopKLogitsWarper(sampling["top_k"]))
    if sampling["top_p"] < 1:
        steps.append(TopPLogitsWarper(sampling["top_p"]))
    on_device = torch.from_numpy(numbers).to(device, torch.float64)
    return LogitsProcessorList([*steps, DrawnToken(on_device, prompt_length)])


class Speed(StoppingCriteria):
    """
    Show the tokens per second in a progress bar while a batch is generated; it stops nothing.

    Args:
        bar ([`~tqdm.tqdm`])
        pad_token_id (`int`): Token that pads finished rows.
    """

    def __init__(self, bar: tqdm, pad_token_id: int):
        self.bar = bar
        self.pad_token_id = pad_token_id
        self.prompt_length = 0
        self.tokens = 0
        self.start = self.shown = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.start

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **_: Any) -> torch.BoolTensor:
        if time.perf_counter() - self.shown > 1:
            self.show(int((input_ids[:, self.prompt_length :] != self.pad_token_id).sum()))
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    def show(self, unfinished: int = 0) -> None:
        """Show the speed, including tokens of an unfinished batch."""
        self.shown = time.perf_counter()
        self.bar.set_postfix_str(f"{(self.tokens + unfinished) / self.seconds:.0f} tokens/s")
