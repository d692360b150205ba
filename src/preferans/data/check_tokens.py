"""What TRL's tokens of a preference pair begin and end with."""

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tqdm.auto import tqdm
from trl.data_utils import _tokenize, common_prefix_length

from .formats import ANSWERS, Pair, Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


_TEMPLATE_TOKEN = (
    r"<\|[\w ]{1,40}\|>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>|</s>|\[/?INST\]|<</?SYS>>|<｜[^｜\n]{1,40}｜>"
    r"|(?:^|(?<=\n))#{2,3} ?(?:Assistant|Human|User|System|Instruction|Response|Input|Prompter) ?:"
)


def template_pattern(tokenizer: "PreTrainedTokenizerBase | None" = None) -> re.Pattern:
    """Pattern of the chat templates' tokens, those of `tokenizer` among them."""
    own = [] if tokenizer is None else sorted({token for token in tokenizer.all_special_tokens if len(token) > 2})
    return re.compile("|".join([_TEMPLATE_TOKEN, *map(re.escape, own)]))


def tokenize_pair(pair: Pair, tokenizer: "PreTrainedTokenizerBase") -> dict[str, list[int]]:
    """
    Tokenize a pair as the step of [`~trl.DPOTrainer`] that prepares a dataset does.

    Args:
        pair (`Pair`):
            A pair that can be read.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer, with a chat template for a conversational pair.

    Returns:
        `dict[str, list[int]]`: TRL's `prompt_ids`, `chosen_ids` and `rejected_ids`, and `lost_ids`, the end of the
        tokenized prompt that is not in the training sequence.
    """

    if isinstance(pair.prompt, str):
        options, prompt_options = {}, {}
        ended = [
            text if text.endswith(tokenizer.eos_token) else text + tokenizer.eos_token
            for text in (pair.chosen, pair.rejected)
        ]
    else:
        tools = pair.row.get("tools")
        tools = json.loads(tools) if isinstance(tools, str) else tools
        options = {"tools": tools, **pair.row.get("chat_template_kwargs", {})}
        prompt_options, ended = {"add_generation_prompt": True}, [pair.chosen, pair.rejected]
    prompt = list(_tokenize(tokenizer, pair.prompt, **prompt_options, **options)["input_ids"])
    whole = [list(_tokenize(tokenizer, pair.prompt + answer, **options)["input_ids"]) for answer in ended]
    length = min(common_prefix_length(prompt, ids) for ids in whole)
    return {
        "prompt_ids": prompt[:length],
        "chosen_ids": whole[0][length:],
        "rejected_ids": whole[1][length:],
        "lost_ids": prompt[length:],
    }


def tokenize_pairs(
    pairs: list[Pair], tokenizer: "PreTrainedTokenizerBase", max_length: int
) -> tuple[list[dict[str, list[int]] | None], list[tuple[Pair, Problem]]]:
    """
    Tokenize pairs, and look at the tokens.

    Args:
        pairs (`list[Pair]`):
            Pairs that can be read.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer, with a chat template for conversational pairs.
        max_length (`int`):
            Tokens of prompt and answer together.

    Returns:
        `tuple[list[dict | None], list[tuple[Pair, Problem]]]`: the tokens of each pair, or `None` where the chat
        template refuses it, and the problems.
    """

    ends = end_tokens(tokenizer)
    tokens, problems = [], []
    for pair in tqdm(pairs, desc="Tokenizing", unit="pair", disable=None):
        try:
            tokens.append(tokenize_pair(pair, tokenizer))
        except Exception as error:  # a template is a program of its own, and fails in its own ways
            tokens.append(None)
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            problems.append((pair, Problem("chat_template", "the chat template refuses the row", reason)))
        else:
            problems += [(pair, found) for found in _token_problems(tokens[-1], tokenizer, max_length, ends)]
    return tokens, problems


def end_tokens(tokenizer: "PreTrainedTokenizerBase") -> set[int]:
    """Tokens that may end an answer: the end of text, and other special ones, such as Gemma's `<end_of_turn>`."""
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    return special - {tokenizer.bos_token_id, tokenizer.unk_token_id} | {tokenizer.eos_token_id}


def _token_problems(
    tokens: dict[str, list[int]], tokenizer: "PreTrainedTokenizerBase", max_length: int, ends: set[int]
) -> Iterator[Problem]:
    prompt = tokens["prompt_ids"]
    if tokens["lost_ids"]:
        lost = f"{tokenizer.decode(tokens['lost_ids'])!r:.100} is lost"
        yield Problem("prompt_prefix", "the tokenized prompt is not the beginning of prompt and answer", lost)
    begin = (prompt + tokens["chosen_ids"])[:2]
    if tokenizer.bos_token_id is not None and begin == [tokenizer.bos_token_id] * 2:
        yield Problem("double_bos", f"the tokens begin with {tokenizer.bos_token} twice")
    endings = [_last_tokens(tokens[f"{column}_ids"], tokenizer, ends) for column in ANSWERS]
    if any(not ending or ending[0] not in ends for ending in endings):
        yield Problem("missing_eos", f"the tokens of an answer end without an end token such as {tokenizer.eos_token}")
    for ending in endings:
        if len(ending) == 2 and ending[0] == ending[1] and ending[0] in ends:
            yield Problem("double_eos", f"the tokens of an answer end with {tokenizer.decode(ending[0])} twice")
            break
    longest = len(prompt) + max(len(tokens[f"{column}_ids"]) for column in ANSWERS)
    if len(prompt) >= max_length:
        words = f"the prompt alone fills max_length {max_length}"
        yield Problem("prompt_too_long", words, f"one of {len(prompt)} tokens")
    elif longest > max_length:
        words = f"the end of an answer lies beyond max_length {max_length}"
        yield Problem("truncated", words, f"{longest} tokens with the prompt")


def _last_tokens(ids: list[int], tokenizer: "PreTrainedTokenizerBase", ends: set[int]) -> list[int]:
    """The last token and the one before it, without the white space that a template may write after its end token."""
    marks = []
    for token in reversed(ids):
        if token in ends or tokenizer.decode([token]).strip():
            marks.append(token)
            if len(marks) == 2:
                break
    return marks
