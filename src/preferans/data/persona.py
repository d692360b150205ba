"""
Characters: their files, instructions and characteristic words.

A persona is distilled from the prompt into the weights as in [A General Language Assistant as a Laboratory for
Alignment](https://huggingface.co/papers/2112.00861) (context distillation), here with preference pairs: the answer with the
instruction in context against the answer without it.
"""

import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field

from ..files import read_yaml
from ..text.language import loops
from ..text.phrases import (
    find_asserted,
    find_new_phrases,
    find_phrases,
    is_phrase,
    numbers_in,
    own_words,
    wrong_numbers,
)
from ..typed_rows import Row, Text, check_row
from .sampled import NEXT_TURN

IDENTITY_QUESTIONS = (
    "Кто ты?",
    "Как тебя зовут?",
    "Расскажи немного о себе.",
    "Сколько тебе лет?",
    "Ты человек или программа?",
    "Откуда ты?",
    "Чем ты занимаешься целыми днями?",
    "Что ты любишь больше всего?",
    "Чего ты боишься?",
    "О чём ты мечтаешь?",
    "Как ты сегодня себя чувствуешь?",
    "Какой у тебя характер?",
)
# Why an answer in character makes no pair.
PERSONA_DROP_REASONS = {
    "unfinished": "an answer is empty or has no finished sentence",
    "loops": "the answer in character loops",
    "taboo": "it uses a word that breaks the character",
    "contradiction": "it contradicts the facts of the character",
    "no_trace": "it shows no more trace of the character than the plain answer",
    "same": "both answers are the same",
    "echo": "it begins with the prompt",
}


def _check_filled(items: tuple) -> tuple:
    if not items:
        raise ValueError("is empty")
    return items


def _check_phrase(phrase: str, numbers: bool = False) -> str:
    if not is_phrase(phrase, numbers):
        sign = ", and # for a number" if numbers else ""
        raise ValueError(
            f"is '{phrase}'. Write words of letters with one space between them, an asterisk only at the end of a word{sign}"
        )
    return phrase


_Phrase = Annotated[Text, AfterValidator(_check_phrase)]
_PhraseWithNumbers = Annotated[Text, AfterValidator(lambda phrase: _check_phrase(phrase, numbers=True))]
# YAML has lists, which a strict model would not accept for a tuple.
_FromList = Field(strict=False)
_Filled = AfterValidator(_check_filled)


class PersonaExample(Row):
    """A question, and the character's answer."""

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True)

    question: Text
    answer: Text


class _PersonaFile(Row):
    model_config = ConfigDict(frozen=True, str_strip_whitespace=True)

    name: Text
    description: Text
    manner: Text
    facts: Annotated[tuple[Text, ...], _FromList, _Filled]
    taboos: Annotated[tuple[Text, ...], _FromList, _Filled]
    examples: Annotated[tuple[PersonaExample, ...], _FromList, _Filled]
    traces: Annotated[tuple[_Phrase, ...], _FromList, _Filled]
    taboo_words: Annotated[tuple[_Phrase, ...], _FromList, _Filled]
    contradictions: Annotated[tuple[_PhraseWithNumbers, ...], _FromList] = ()


class Persona(_PersonaFile):
    """A character: the keys of its file, which personas/README.md explains, and `slug`, the file's name without the ending."""

    slug: str

    @property
    def instruction(self) -> str:
        """The instruction that makes a model this character."""
        facts, taboos = ("\n".join(f"- {line}" for line in lines) for lines in (self.facts, self.taboos))
        return (
            f"Тебя зовут {self.name}. {self.description}\n{self.manner}\n"
            f"Что ты знаешь о себе:\n{facts}\nПравила:\n{taboos}\nВсегда отвечай от своего лица, по-русски и коротко."
        )

    def instruct(self, prompt: list[dict]) -> list[dict]:
        """Put the instruction before a prompt, in one system message with the prompt's own system messages."""
        own = [message["content"] for message in prompt if message["role"] == "system"]
        others = [message for message in prompt if message["role"] != "system"]
        return [{"role": "system", "content": "\n\n".join([self.instruction, *own])}, *others]

    def in_context(self, prompt: list[dict]) -> list[dict]:
        """Put the instruction and the examples before a prompt."""
        system, *others = self.instruct(prompt)
        examples = [
            message
            for example in self.examples
            for message in (
                {"role": "user", "content": example.question},
                {"role": "assistant", "content": example.answer},
            )
        ]
        return [system, *examples, *others]

    @cached_property
    def _numbers(self) -> frozenset[str]:
        return numbers_in((self.name, self.description, *self.facts))

    def find_traces(self, text: str, prompt: str) -> set[str]:
        """Find the `traces` in a text that the prompt does not contain, in any form of their words."""
        return find_new_phrases(self.traces, text, prompt)

    def broken_taboos(self, text: str, prompt: str) -> set[str]:
        """Find the `taboo_words` in a text that the prompt does not contain, in any form of their words."""
        return find_new_phrases(self.taboo_words, text, prompt)

    def asserted_taboos(self, text: str, prompt: str) -> set[str]:
        """Find the `taboo_words` that a text asserts: as [`broken_taboos`], without denials («я не языковая модель»)."""
        return find_asserted(self.taboo_words, text) - find_phrases(self.taboo_words, prompt)

    def find_contradictions(self, text: str) -> set[str]:
        """Find the `contradictions` that a text asserts outside quotation marks."""
        return wrong_numbers(self.contradictions, own_words(text), self._numbers)


def load_persona(path: str | Path) -> Persona:
    """
    Read a persona file.

    Args:
        path (`str` or `Path`): YAML file with the keys of personas/README.md.

    Raises:
        [`PreferansError`]: if the file cannot be read, a key is unknown or missing, or a value has the wrong type.
    """
    path = Path(path)
    values, _ = read_yaml(path, "persona", "personas")
    keys: dict[str, Any] = dict(check_row(_PersonaFile, values, str(path)))
    return Persona.model_construct(slug=path.stem, **keys)


_SENTENCE_END = re.compile(r"[.!?…][»\")]*(?=\s|$)")


def whole_sentences(answer: dict) -> str:
    """
    Cut an answer to its finished part: without further turns that a base model writes, and without a sentence that the limit cut.

    Args:
        answer (`dict`): Answer as [`~preferans.models.sampler.Sampler.answer`] returns it.

    Returns:
        `str`: the text, empty if no sentence is finished.
    """
    text = answer["answer"].strip()
    turn = NEXT_TURN.search(text)
    if turn:
        return text[: turn.start()].strip()
    if answer["finish_reason"] != "length":
        return text
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return text[: ends[-1]] if ends else ""


def persona_drop_reason(persona: Persona, prompt: str, chosen: str, rejected: str) -> str | None:
    """
    Find out why an answer in character and a plain answer make no pair: the self-consistency filter.

    Args:
        persona ([`Persona`]): The character.
        prompt (`str`): Last message of the prompt.
        chosen (`str`), rejected (`str`): The answers with and without the instruction, see [`whole_sentences`].

    Returns:
        `str` or `None`: a key of `PERSONA_DROP_REASONS`, or `None` for a pair.
    """
    if not chosen or not rejected:
        return "unfinished"
    if chosen == rejected:
        return "same"
    if loops(chosen):
        return "loops"
    if persona.broken_taboos(chosen, prompt):
        return "taboo"
    if persona.find_contradictions(chosen):
        return "contradiction"
    if len(persona.find_traces(chosen, prompt)) <= len(persona.find_traces(rejected, prompt)):
        return "no_trace"
    return None
