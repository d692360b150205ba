"""Thinking blocks, which a reasoning model writes before its answer."""

import re

_BLOCK = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)


def without_thinking(text: str) -> str:
    """
    Remove thinking blocks from a model's text.

    A block that the token limit cut has no end, and one that the chat template opened has no beginning in the text.

    Args:
        text (`str`): Text as the model wrote it.

    Returns:
        `str`: the rest without spaces around it; empty if there is nothing but thinking.
    """
    return _BLOCK.sub("", text).rpartition("</think>")[2].strip()
