"""
Personas: characters described in a file, asked for by an instruction, and told by the words they use.

A persona is distilled from the prompt into the weights as in [A General Language Assistant as a Laboratory for
Alignment](https://huggingface.co/papers/2112.00861) (context distillation), here with preference pairs: the answer with the
instruction in context against the answer without it.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import PreferansError, did_you_mean
from ..files import read_yaml
from ..text.language import loops
from ..text.phrases import asserted, found, is_phrase, numbers_in, own_words, wrong_numbers
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
_TEXTS = ("name", "description", "manner")
_LISTS = ("facts", "taboos", "traces", "taboo_words")
_KEYS = (*_TEXTS, *_LISTS, "examples")
_OPTIONAL = ("contradictions",)

# Why an answer given in character makes no pair.
PERSONA_DROP_REASONS = {
    "unfinished": "an answer is empty or has not one finished sentence",
    "loops": "the answer in character runs in circles",
    "taboo": "it uses a word that breaks the character",
    "contradiction": "it contradicts what the character knows of themselves",
    "no_trace": "it shows no more trace of the character than the plain answer",
    "same": "both answers are the same",
    "echo": "it begins with the prompt",
}


@dataclass(frozen=True)
class Persona:
    """
    A character.

    Args:
        slug (`str`):
            Name of its file, without the ending.
        name (`str`), description (`str`), manner (`str`):
            Who speaks, and how.
        facts (`tuple[str, ...]`), taboos (`tuple[str, ...]`):
            What they know about themselves, and what they never do.
        examples (`tuple[tuple[str, str], ...]`):
            Questions and answers.
        traces (`tuple[str, ...]`), taboo_words (`tuple[str, ...]`):
            Words, and phrases of words, that give the character away or break it; `*` at the end of a word is any ending.
        contradictions (`tuple[str, ...]`):
            Phrases that contradict the facts or the manner; `#` is a number that neither the description nor a fact has.
    """

    slug: str
    name: str
    description: str
    manner: str
    facts: tuple[str, ...]
    taboos: tuple[str, ...]
    examples: tuple[tuple[str, str], ...]
    traces: tuple[str, ...]
    taboo_words: tuple[str, ...]
    contradictions: tuple[str, ...] = ()

    @property
    def instruction(self) -> str:
        """What a model is told to be this character."""
        facts, taboos = ("\n".join(f"- {line}" for line in lines) for lines in (self.facts, self.taboos))
        return (
            f"Тебя зовут {self.name}. {self.description}\n{self.manner}\n"
            f"Что ты знаешь о себе:\n{facts}\nПравила:\n{taboos}\nВсегда отвечай от своего лица, по-русски и коротко."
        )

    def instruct(self, prompt: list[dict]) -> list[dict]:
        """A prompt with the instruction before it, in one system message with what the prompt itself may say there."""
        own = [message["content"] for message in prompt if message["role"] == "system"]
        others = [message for message in prompt if message["role"] != "system"]
        return [{"role": "system", "content": "\n\n".join([self.instruction, *own])}, *others]

    def in_context(self, prompt: list[dict]) -> list[dict]:
        """A prompt with the instruction and the examples before it."""
        examples = [
            {"role": role, "content": text}
            for pair in self.examples
            for role, text in zip(("user", "assistant"), pair, strict=True)
        ]
        system, *others = self.instruct(prompt)
        return [system, *examples, *others]

    @cached_property
    def _numbers(self) -> frozenset[str]:
        return numbers_in((self.name, self.description, *self.facts))

    def find_traces(self, text: str, prompt: str) -> set[str]:
        """Which of `traces` a text shows that the prompt does not use itself."""
        return found(self.traces, text) - found(self.traces, prompt)

    def broken_taboos(self, text: str, prompt: str) -> set[str]:
        """Which of `taboo_words` a text uses that the prompt does not use itself."""
        return found(self.taboo_words, text) - found(self.taboo_words, prompt)

    def asserted_taboos(self, text: str, prompt: str) -> set[str]:
        """Which of `taboo_words` a text says of itself: as [`broken_taboos`], and a denial breaks nothing («я не языковая модель»)."""
        return asserted(self.taboo_words, text) - found(self.taboo_words, prompt)

    def find_contradictions(self, text: str) -> set[str]:
        """Which of `contradictions` a text says in its own words, outside quotation marks."""
        return wrong_numbers(self.contradictions, own_words(text), self._numbers)


def load_persona(path: str | Path) -> Persona:
    """
    Read a persona file.

    Args:
        path (`str` or `Path`):
            YAML file with the keys of personas/README.md.

    Raises:
        [`PreferansError`]: when the file cannot be read, a key is unknown or missing, or a value has the wrong type.
    """
    path = Path(path)
    values, _ = read_yaml(path, "persona", "personas")
    keys = (*_KEYS, *_OPTIONAL)
    for key in values:
        if key not in keys:
            raise PreferansError(
                f"{path}: there is no key '{key}'.{did_you_mean(str(key), keys)} The keys are {', '.join(keys)}."
            )
    for key in _KEYS:
        if not values.get(key):
            raise PreferansError(f"{path}: '{key}' is missing or empty. personas/README.md explains the keys.")
    for key in _TEXTS:
        if not isinstance(values[key], str):
            raise PreferansError(f"{path}: '{key}' must be a text, got {values[key]!r:.60}.")
    lists = (*_LISTS, *(key for key in _OPTIONAL if key in values))
    for key in lists:
        if not isinstance(values[key], list) or not all(
            isinstance(item, str) and item.strip() for item in values[key]
        ):
            raise PreferansError(
                f"{path}: '{key}' must be a list of texts, a dash before each, got {values[key]!r:.60}."
            )
    for key in lists[lists.index("traces") :]:
        for phrase in values[key]:
            if not is_phrase(phrase, numbers=key == "contradictions"):
                raise PreferansError(
                    f"{path}: '{key}' has '{phrase}'. Write words of letters, one space between them; an asterisk only at a word's end"
                    + (", # for a number." if key == "contradictions" else ".")
                )
    examples = values["examples"]
    if not isinstance(examples, list) or not all(
        isinstance(example, dict)
        and set(example) == {"question", "answer"}
        and all(isinstance(text, str) and text.strip() for text in example.values())
        for example in examples
    ):
        raise PreferansError(f"{path}: 'examples' must be a list of entries with the texts 'question' and 'answer'.")
    return Persona(
        slug=path.stem,
        **{key: values[key].strip() for key in _TEXTS},
        **{key: tuple(item.strip() for item in values[key]) for key in lists},
        examples=tuple((example["question"].strip(), example["answer"].strip()) for example in examples),
    )


_SENTENCE_END = re.compile(r"[.!?…][»\")]*(?=\s|$)")


def whole_sentences(answer: dict) -> str:
    """
    The part of an answer that can stand by itself: without turns that a base model goes on to write, and without the sentence
    that the limit cut.

    Args:
        answer (`dict`):
            Answer as [`~preferans.models.generate.generate_answers`] gives it.

    Returns:
        `str`: the text, empty where not one sentence is finished.
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
    Why an answer in character and a plain one make no pair: the self-consistency filter.

    Args:
        persona ([`Persona`]):
            The character.
        prompt (`str`):
            What was asked.
        chosen (`str`), rejected (`str`):
            The answers with and without the instruction, see [`whole_sentences`].

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
