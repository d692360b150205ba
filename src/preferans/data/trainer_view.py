"""Show pairs as the trainer sees them, and measure their lengths."""

import itertools
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .pairs import ANSWERS, COLUMNS, Pair, is_training, message_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


EXAMPLE_ROWS = 10


def view_examples(
    tokenized: Sequence[tuple[Pair, dict | None]], tokenizer: "PreTrainedTokenizerBase | None", max_length: int
) -> list[dict]:
    """
    Show up to ten pairs, evenly spread, of the training splits if there are any.

    Args:
        tokenized (`Sequence[tuple[Pair, dict | None]]`): Pairs with the result of [`~preferans.data.check_tokens.tokenize_pair`], or `None`.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*): The tokenizer.
        max_length (`int`): Tokens of prompt and answer together.

    Returns:
        `list[dict]`: for each pair `row` (its label), `split`, and without a tokenizer the three columns. With one, `chosen` and `rejected`
        are objects: the texts `masked` (ignored by the loss) and `scored`, and the numbers of `masked_tokens`, `scored_tokens`, and
        `cut_tokens` beyond `max_length`.
    """
    shown = [entry for entry in tokenized if is_training(entry[0].split)] or tokenized
    number = min(EXAMPLE_ROWS, len(shown))
    examples = []
    for pair, ids in (shown[i * len(shown) // number] for i in range(number)):
        if tokenizer is None or ids is None:
            columns = {column: getattr(pair, column) for column in COLUMNS}
        else:
            prompt = ids["prompt_ids"]
            columns = {
                column: _masked_and_scored(prompt, ids[f"{column}_ids"], tokenizer, max_length) for column in ANSWERS
            }
        examples.append({"row": pair.label, "split": pair.split} | columns)
    return examples


def _masked_and_scored(
    prompt: list[int], answer: list[int], tokenizer: "PreTrainedTokenizerBase", max_length: int
) -> dict[str, Any]:
    kept = answer[: max(0, max_length - len(prompt))]
    masked, text = tokenizer.decode(prompt), tokenizer.decode(prompt + kept)
    return {
        "masked": masked,
        # a token may be decoded differently at the beginning of a text
        "scored": text[len(masked) :] if text.startswith(masked) else tokenizer.decode(kept),
        "masked_tokens": len(prompt),
        "scored_tokens": len(kept),
        "cut_tokens": len(answer) - len(kept),
    }


def length_statistics(tokenized: Sequence[tuple[Pair, dict | None]], max_length: int) -> dict[str, Any]:
    """
    Measure the lengths of pairs.

    Args:
        tokenized (`Sequence[tuple[Pair, dict | None]]`): At least one pair; all with tokens, or all without.
        max_length (`int`): Tokens of prompt and answer together.

    Returns:
        `dict`: `unit` (`"tokens"` or `"characters"`), with tokens `max_length`, and for `pair` (the prompt with the longer answer), `prompt`,
        `chosen` and `rejected` each `mean`, `median`, `p95` (95 % are no longer) and `longest`; `histogram` of the pairs' lengths: a list
        of `from`, `below` (`None` for the last bar) and `rows`.
    """
    lengths = {column: [_length(pair, ids, column) for pair, ids in tokenized] for column in COLUMNS}
    pairs = [prompt + max(answers) for prompt, *answers in zip(*lengths.values(), strict=True)]
    in_tokens = tokenized[0][1] is not None
    table: dict[str, Any] = {"unit": "tokens", "max_length": max_length} if in_tokens else {"unit": "characters"}
    for name, values in {"pair": pairs, **lengths}.items():
        table[name] = {
            "mean": round(statistics.fmean(values), 1),
            "median": statistics.median_low(values),
            "p95": sorted(values)[(len(values) - 1) * 95 // 100],
            "longest": max(values),
        }
    return table | {"histogram": _histogram(pairs, table["pair"]["p95"])}


def _length(pair: Pair, ids: dict | None, column: str) -> int:
    if ids is not None:
        return len(ids[f"{column}_ids"])
    value = getattr(pair, column)
    return len(value) if isinstance(value, str) else sum(len(message_text(message)) for message in value)


def _histogram(values: list[int], p95: int) -> list[dict[str, int | None]]:
    """Count lengths in about eight bars up to `p95`, without empty bars at the beginning, and in one for the rest."""
    steps = (size * 10**exponent for exponent in itertools.count() for size in (1, 2, 5))
    step = next(step for step in steps if 8 * step > p95)
    last = p95 // step + 1
    counts = Counter(min(value // step, last) for value in values)
    bars: list[dict[str, int | None]] = [
        {"from": i * step, "below": (i + 1) * step, "rows": counts[i]} for i in range(last)
    ]
    if counts[last]:
        bars.append({"from": last * step, "below": None, "rows": counts[last]})
    return list(itertools.dropwhile(lambda bar: not bar["rows"], bars))
