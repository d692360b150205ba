"""Tidy answers that a model sampled, for use as rejected answers."""

import re

from ..text.language import WORD_OR_NUMBER

# How a sample is changed before it can be a rejected answer.
SAMPLE_CHANGES = {
    "echo_cut": "the prompt repeated at the beginning was cut off",
    "word_cut": "the last word, which the limit had cut, was cut off",
    "turn_cut": "further turns were cut off",
}
SAMPLE_DROP_REASONS = {
    "empty": "no word in it",
    "only_thinking": "only thinking, no answer before the limit",
    "only_echo": "only the prompt",
    "equal": "the same as chosen",
    "repeated": "the same as another sample for this prompt",
}
# The labels of a plain template, with which a base model begins another turn.
NEXT_TURN = re.compile(r"\n\s*(?:Вопрос|Ответ|Пользователь|Question|Answer|User)\s*:")
_LABEL = r"(?:(?:Вопрос|Пользователь|Question|User)\s*:\s*)?"


def tidy_sample(answer: dict, chosen: str) -> tuple[str | None, list[str]]:
    """
    Turn a sample into a rejected answer, if it can be one.

    Args:
        answer (`dict`): Answer as [`~preferans.models.sampler.Sampler.answer`] returns it.
        chosen (`str`): The better answer to the same prompt.

    Returns:
        `tuple[str | None, list[str]]`: the text, or `None` if nothing is left, and what happened to it: keys of `SAMPLE_CHANGES`, then at
        most one of `SAMPLE_DROP_REASONS`.
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
        if whole:  # a single word is kept
            text = whole
            events.append("word_cut")
    if not WORD_OR_NUMBER.search(text):
        return None, [*events, "only_echo" if echo else "only_thinking" if answer.get("thinking") else "empty"]
    if text == chosen.strip():
        return None, [*events, "equal"]
    return text, events
