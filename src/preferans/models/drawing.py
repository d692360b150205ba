"""Drawing the tokens of an answer from random numbers of its own, so that no other answer of the batch changes it."""

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
    The random numbers of one answer.

    They hang on nothing but `seed` and `name`, are the same on every device, and begin alike whatever `length` is.

    Args:
        seed (`int`):
            Seed of the run.
        name (`str`):
            Id of the prompt.
        length (`int`):
            How many: one for each token.

    Returns:
        `np.ndarray`: fp32 of shape `(length,)`, uniform from 0 to below 1.
    """
    digest = hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogatepass")).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big")).random(length, dtype=np.float32)


class DrawnToken(LogitsProcessor):
    """
    Leaves one token of each row: the one on which the row's own number falls when the probabilities are laid end to end.

    `generate` would draw for the whole batch from one stream of random numbers, in which the rows stand beside one another.

    Args:
        numbers (`torch.Tensor` of shape `(rows, tokens)`):
            One number of [`random_numbers`] for each token to come.
        prompt_length (`int`):
            Tokens of the padded prompts.
    """

    def __init__(self, numbers: torch.Tensor, prompt_length: int):
        self.numbers = numbers
        self.prompt_length = prompt_length

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        ends = scores.double().softmax(dim=-1).cumsum(dim=-1)  # in fp32 the sum over 100,000 tokens would drift
        if not ends[:, -1].isfinite().all():
            raise PreferansError(
                "The model's scores of the next token are no numbers. Where it computes in float16, its activations overflow: take "
                "--dtype float32. Otherwise its weights are damaged."
            )
        step = input_ids.shape[1] - self.prompt_length
        tokens = torch.searchsorted(ends, self.numbers[:, step : step + 1] * ends[:, -1:], right=True)
        return torch.full_like(scores, -torch.inf).scatter(1, tokens, 0.0)


def drawing(
    sampling: dict[str, Any], seed: int, names: list[str], prompt_length: int, device: torch.device
) -> LogitsProcessorList:
    """
    What a greedy `generate` needs to sample each row by itself.

    Args:
        sampling (`dict`):
            `max_new_tokens`, `temperature`, `top_k` and `top_p`, applied in this order as `generate` does. With temperature 0 nothing is
            drawn, and the likeliest token stands.
        seed (`int`):
            Seed of the run.
        names (`list[str]`):
            Ids of the prompts, in the order of the rows.
        prompt_length (`int`):
            Tokens of the padded prompts.
        device (`torch.device`):
            Where the model lives.
    """
    if sampling["temperature"] == 0:
        return LogitsProcessorList()
    numbers = np.stack([random_numbers(seed, name, sampling["max_new_tokens"]) for name in names])
    steps = [TemperatureLogitsWarper(float(sampling["temperature"]))]
    if sampling["top_k"]:
        steps.append(TopKLogitsWarper(sampling["top_k"]))
    if sampling["top_p"] < 1:
        steps.append(TopPLogitsWarper(sampling["top_p"]))
    numbers = torch.from_numpy(numbers).to(device, torch.float64)
    return LogitsProcessorList([*steps, DrawnToken(numbers, prompt_length)])


class Speed(StoppingCriteria):
    """
    Shows the tokens per second in a progress bar while a batch grows. It stops nothing.

    Args:
        bar ([`~tqdm.tqdm`]):
            The bar.
        pad_token_id (`int`):
            Token that fills up the rows that have ended.
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

    def show(self, growing: int = 0) -> None:
        """Write the speed beside the bar, with tokens of a batch that is still growing."""
        self.shown = time.perf_counter()
        self.bar.set_postfix_str(f"{(self.tokens + growing) / self.seconds:.0f} tokens/s")
