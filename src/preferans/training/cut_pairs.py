"""Count the pairs that `max_length` truncates, and those whose answers are equal after truncation."""

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from ..data.chat_template import pair_texts
from ..errors import PreferansError

EQUAL_SHARE = 0.1


def report_cut_pairs(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int | None, rows_name: str
) -> tuple[int, int]:
    """
    Print how many pairs `max_length` truncates, and how many have equal answers then, from which nothing is learned.

    Args:
        rows ([`~datasets.Dataset`]): Preference rows, without prompts that fill `max_length`.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): Tokenizer with a chat template, unless the rows are plain texts.
        max_length (`int`, *optional*): Tokens of prompt and answer together; `None` cuts nothing.
        rows_name (`str`): Name of the rows for messages.

    Returns:
        `tuple[int, int]`: the numbers of truncated pairs, and of pairs with equal answers.

    Raises:
        [`PreferansError`]: if more than a tenth of the pairs have equal answers after truncation.
    """
    if max_length is None:
        return 0, 0
    cut = equal = 0
    for row in rows:
        # a chat template writes its own special tokens
        special = isinstance(row["prompt"], str)
        chosen, rejected = tokenizer(pair_texts(row, tokenizer), add_special_tokens=special)["input_ids"]
        cut += max(len(chosen), len(rejected)) > max_length
        equal += chosen[:max_length] == rejected[:max_length]
    if equal:
        words = f"{rows_name}: in {equal} of {len(rows)} pairs, the answers are equal after truncation to max_length {max_length}"
        if equal > EQUAL_SHARE * len(rows):
            raise PreferansError(
                f"{words}, so nothing would be learned from them. Raise max_length, or drop them with scripts/check_data.py --fix."
            )
        print(f"*** {words}. Nothing is learned from them. ***")
    if cut:
        print(f"{rows_name}: {cut} of {len(rows)} pairs are longer than max_length {max_length} and are truncated.")
    return cut, equal


def warn_of_plain_texts(rows: Dataset, tokenizer: PreTrainedTokenizerBase, model_name: str) -> None:
    """Print a warning if the rows are plain texts, but the model has a chat template and expects messages."""
    if isinstance(rows[0]["prompt"], str) and tokenizer.chat_template:
        print(
            f"*** The rows are plain texts, but {model_name} has a chat template: without it, nothing separates the prompt from the "
            "answer. scripts/check_data.py DATASET --model_name_or_path MODEL --fix FOLDER turns them into messages. ***"
        )
