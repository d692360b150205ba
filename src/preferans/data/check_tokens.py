"""Tokenize preference pairs as TRL does, and check the tokens."""

import itertools
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm
from trl.data_utils import _tokenize, common_prefix_length

from .chat_template import fold_system
from .pairs import ANSWERS, Pair, Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


_TEMPLATE_TOKEN = (
    r"<\|[\w ]{1,40}\|>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>|</s>|\[/?INST\]|<</?SYS>>|<｜[^｜\n]{1,40}｜>"
    r"|(?:^|(?<=\n))#{2,3} ?(?:Assistant|Human|User|System|Instruction|Response|Input|Prompter) ?:"
)


def template_pattern(tokenizer: "PreTrainedTokenizerBase | None" = None) -> re.Pattern:
    """Return a pattern of the tokens of known chat templates, and of the special tokens of `tokenizer`."""
    own = [] if tokenizer is None else sorted({token for token in tokenizer.all_special_tokens if len(token) > 2})
    return re.compile("|".join([_TEMPLATE_TOKEN, *map(re.escape, own)]))


def tokenize_pair(pair: Pair, tokenizer: "PreTrainedTokenizerBase") -> dict[str, list[int]]:
    """
    Tokenize a pair as [`~trl.DPOTrainer`] does when it prepares a dataset.

    Args:
        pair ([`~preferans.data.pairs.Pair`]): A pair.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): Tokenizer, with a chat template for a conversational pair.

    Returns:
        `dict[str, list[int]]`: TRL's `prompt_ids`, `chosen_ids` and `rejected_ids`, and `lost_ids`, the end of the tokenized prompt that is
        not in the training sequence.
    """
    texts: list[Any]
    messages: Any = pair.prompt
    options: dict[str, Any] = {}
    prompt_options: dict[str, Any] = {}
    if isinstance(pair.prompt, str):
        texts = [pair.prompt + pair.text(column) for column in ANSWERS]
        texts = [text if text.endswith(tokenizer.eos_token) else text + tokenizer.eos_token for text in texts]
    else:
        messages = fold_system(pair.prompt, tokenizer)  # as training does
        texts = [[*messages, *getattr(pair, column)] for column in ANSWERS]
        tools = pair.row.get("tools")
        options = {"tools": json.loads(tools) if isinstance(tools, str) else tools}
        options |= pair.row.get("chat_template_kwargs", {})
        prompt_options = {"add_generation_prompt": True}
    prompt = list(_tokenize(tokenizer, messages, **prompt_options, **options)["input_ids"])
    chosen, rejected = (list(_tokenize(tokenizer, text, **options)["input_ids"]) for text in texts)
    length = min(common_prefix_length(prompt, ids) for ids in (chosen, rejected))
    return {
        "prompt_ids": prompt[:length],
        "chosen_ids": chosen[length:],
        "rejected_ids": rejected[length:],
        "lost_ids": prompt[length:],
    }


def tokenize_pairs(
    pairs: list[Pair], tokenizer: "PreTrainedTokenizerBase", max_length: int
) -> tuple[list[dict[str, list[int]] | None], list[tuple[Pair, Problem]]]:
    """
    Tokenize pairs, and check the tokens.

    Args:
        pairs (`list[Pair]`), tokenizer ([`~transformers.PreTrainedTokenizerBase`]): As for [`tokenize_pair`].
        max_length (`int`): Tokens of prompt and answer together.

    Returns:
        `tuple[list[dict | None], list[tuple[Pair, Problem]]]`: the tokens of each pair, or `None` if the chat template refuses it, and the
        problems.
    """
    ends = end_tokens(tokenizer)
    tokens: list[dict[str, list[int]] | None] = []
    problems = []
    for pair in tqdm(pairs, desc="Tokenizing", unit="pair", disable=None):
        try:
            ids = tokenize_pair(pair, tokenizer)
        except Exception as error:  # a template is a program, and may raise anything
            tokens.append(None)
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            problems.append((pair, Problem("chat_template", "the chat template refuses the row", reason)))
        else:
            tokens.append(ids)
            problems += [(pair, problem) for problem in _token_problems(ids, tokenizer, max_length, ends)]
    return tokens, problems


def end_tokens(tokenizer: "PreTrainedTokenizerBase") -> set[int]:
    """Return the tokens that may end an answer: the end of text and other special tokens, such as Gemma's `<end_of_turn>`."""
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    return special - {tokenizer.bos_token_id, tokenizer.unk_token_id} | {tokenizer.eos_token_id}


def _token_problems(
    tokens: dict[str, list[int]], tokenizer: "PreTrainedTokenizerBase", max_length: int, ends: set[int]
) -> Iterator[Problem]:
    prompt = tokens["prompt_ids"]
    if tokens["lost_ids"]:
        lost = f"{tokenizer.decode(tokens['lost_ids'])!r:.100} is lost"
        yield Problem("prompt_prefix", "the tokenized prompt is not the beginning of prompt and answer", lost)
    if tokenizer.bos_token_id is not None and (prompt + tokens["chosen_ids"])[:2] == [tokenizer.bos_token_id] * 2:
        yield Problem("double_bos", f"the tokens begin with {tokenizer.bos_token} twice")
    endings = [_last_tokens(tokens[f"{column}_ids"], tokenizer, ends) for column in ANSWERS]
    if any(not ending or ending[0] not in ends for ending in endings):
        yield Problem("missing_eos", f"the tokens of an answer end without an end token such as {tokenizer.eos_token}")
    double = next((last for last, *before in filter(None, endings) if before == [last] and last in ends), None)
    if double is not None:
        yield Problem("double_eos", f"the tokens of an answer end with {tokenizer.decode(double)} twice")
    longest = len(prompt) + max(len(tokens[f"{column}_ids"]) for column in ANSWERS)
    kept = [tokens[f"{column}_ids"][: max_length - len(prompt)] for column in ANSWERS]
    if len(prompt) >= max_length:
        words = f"the prompt alone fills max_length {max_length}"
        yield Problem("prompt_too_long", words, f"one of {len(prompt)} tokens")
    elif kept[0] == kept[1]:
        difference = f"differ only beyond max_length {max_length}" if longest > max_length else "have the same tokens"
        yield Problem("equal_after_cut", f"'chosen' and 'rejected' {difference}", f"{longest} tokens with the prompt")
    elif longest > max_length:
        words = f"the end of an answer is beyond max_length {max_length}"
        yield Problem("truncated", words, f"{longest} tokens with the prompt")


def _last_tokens(ids: list[int], tokenizer: "PreTrainedTokenizerBase", ends: set[int]) -> list[int]:
    """Return the last two tokens, last first, without white space, which a template may write after its end token."""
    last = (token for token in reversed(ids) if token in ends or tokenizer.decode([token]).strip())
    return list(itertools.islice(last, 2))
