"""Answers that a model sampled, tidied for use as rejected answers."""

import re

from ..text.language import WORD_OR_NUMBER

# What is done with a sample before it can be a rejected answer.
SAMPLE_CHANGES = {
    "echo_cut": "the prompt repeated at its beginning was cut off",
    "word_cut": "the limit fell on a word, which was cut off",
    "turn_cut": "what was written beyond the turn was cut off",
}
SAMPLE_DROP_REASONS = {
    "empty": "no word in it",
    "only_echo": "nothing but the prompt",
    "equal": "the same as chosen",
    "repeated": "the same as another sample for this prompt",
}
# The marks that a plain template writes, by which a base model goes on to ask itself.
NEXT_TURN = re.compile(r"\n\s*(?:Вопрос|Ответ|Пользователь|Question|Answer|User)\s*:")
_LABEL = r"(?:(?:Вопрос|Пользователь|Question|User)\s*:\s*)?"


def tidy_sample(answer: dict, chosen: str) -> tuple[str | None, list[str]]:
    """
    Make a rejected answer of a sample, if it can be one.

    Args:
        answer (`dict`):
            Answer as [`generate_answers`] gives it.
        chosen (`str`):
            The better answer to the same prompt.

    Returns:
        `tuple[str | None, list[str]]`: the text, or `None` where none is left, and what happened to it: keys of
        `SAMPLE_CHANGES`, then at most one of `SAMPLE_DROP_REASONS`.
    """
    text, events = answer["answer"].strip(), []
    echo = re.match(_LABEL + re.escape(answer["prompt"][-1]["content"].strip()), text)
    if echo:
        text = re.sub(r"^\s*(?:Ответ|Answer)\s*:", "", text[echo.end() :]).strip()
        events.append("echo_cut")
    turn = NEXT_TURN.search(text)
    if turn:
        text = text[: turn.start()].rstrip()
        events.append("turn_cut")
    elif answer["finish_reason"] == "length" and text[-1:].isalnum():
        whole = re.sub(r"\w+$", "", text).rstrip(" \n\t-–—(«„“\"'")
        if whole:  # else it is one single word, and may as well be whole
            text = whole
            events.append("word_cut")
    if not WORD_OR_NUMBER.search(text):
        return None, [*events, "only_echo" if echo else "empty"]
    if text == chosen.strip():
        return None, [*events, "equal"]
    return text, events
