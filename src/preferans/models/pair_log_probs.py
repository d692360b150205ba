"""Log-probabilities of the answers of preference pairs under a loaded model, without a trainer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from ..data.check_tokens import tokenize_pair
from ..data.pairs import ANSWERS, Pair
from .loading import check_token_ids
from .sampler import Sampler


@dataclass
class PairTokens:
    """
    A pair as the trainer would cut it.

    Attributes:
        label (`str`): The pair's id, or its split and number.
        prompt (`list[int]`), chosen (`list[int]`), rejected (`list[int]`): Tokens.
        is_cut (`bool`): Whether an answer lost tokens to `max_length`.
    """

    label: str
    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    is_cut: bool


def cut_tokens(
    pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerBase, max_length: int | None
) -> tuple[list[tuple[Pair, PairTokens]], int]:
    """
    Tokenize pairs as TRL's trainer does, and cut the end of their sequences to `max_length`.

    Args:
        pairs (`Sequence[Pair]`): The pairs.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): Tokenizer, with a chat template for conversations.
        max_length (`int`, *optional*): Tokens of prompt and answer together; no limit by default.

    Returns:
        `tuple[list[tuple[Pair, PairTokens]], int]`: the pairs with their tokens, and the number of pairs whose prompt alone fills `max_length`,
        which are left out.
    """
    kept, too_long = [], 0
    for pair in pairs:
        ids = tokenize_pair(pair, tokenizer)
        room = None if max_length is None else max_length - len(ids["prompt_ids"])
        if room is not None and room <= 0:
            too_long += 1
            continue
        answers = {side: ids[f"{side}_ids"][:room] for side in ANSWERS}
        is_cut = any(len(answers[side]) < len(ids[f"{side}_ids"]) for side in ANSWERS)
        kept.append((pair, PairTokens(pair.label, ids["prompt_ids"], **answers, is_cut=is_cut)))
    return kept, too_long


def answer_log_probs(
    sampler: Sampler, pairs: Sequence[PairTokens], save: Callable[[dict[str, dict[str, float]]], None]
) -> None:
    """
    Compute the log-probabilities of both answers of every pair, longest pairs first.

    Args:
        sampler ([`~preferans.models.sampler.Sampler`]): The model, with its batch size in pairs.
        pairs (`Sequence[PairTokens]`): The pairs.
        save (`Callable`):
            Receives the results of each batch by label: `chosen_logp` and `rejected_logp`, sums over an answer's tokens in nats, and
            `chosen_tokens` and `rejected_tokens`, their numbers.
    """
    model = sampler.model
    embeddings = model.get_input_embeddings().weight.shape[0]
    check_token_ids(sampler.tokenizer, embeddings, [], sampler.label)
    order = sorted(pairs, key=lambda pair: -(len(pair.prompt) + max(len(pair.chosen), len(pair.rejected))))
    model.eval()
    with sampler.activated(), torch.no_grad():
        for start in range(0, len(order), sampler.batch_size):
            batch = order[start : start + sampler.batch_size]
            sequences = [(pair.prompt, answer) for pair in batch for answer in (pair.chosen, pair.rejected)]
            sums = _sums(model, sampler.tokenizer.pad_token_id, sequences)
            save(
                {
                    pair.label: {
                        "chosen_logp": sums[2 * number],
                        "rejected_logp": sums[2 * number + 1],
                        "chosen_tokens": len(pair.chosen),
                        "rejected_tokens": len(pair.rejected),
                    }
                    for number, pair in enumerate(batch)
                }
            )


def _sums(model: torch.nn.Module, pad: int, sequences: list[tuple[list[int], list[int]]]) -> list[float]:
    """Return the sum of the log-probabilities of each answer; sequences are padded on the left, so that answers end together."""
    longest = max(len(prompt) + len(answer) for prompt, answer in sequences)
    answers = max(len(answer) for _, answer in sequences)
    ids = torch.full((len(sequences), longest), pad)
    mask = torch.zeros_like(ids)
    for row, (prompt, answer) in enumerate(sequences):
        length = len(prompt) + len(answer)
        ids[row, longest - length :] = torch.tensor(prompt + answer)
        mask[row, longest - length :] = 1
    ids, mask = ids.to(model.device), mask.to(model.device)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)  # some models count padding otherwise
    # scoring the end only keeps the logits of a large vocabulary small
    logits = model(
        input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=answers + 1
    ).logits
    sums = []
    for row, (_, answer) in enumerate(sequences):
        targets = ids[row, longest - len(answer) :]
        scores = logits[row, -len(answer) - 1 : -1].float()
        chosen = scores.gather(1, targets[:, None])[:, 0] - scores.logsumexp(dim=1)
        sums.append(chosen.sum().item())
    return sums
