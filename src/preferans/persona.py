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
from typing import TYPE_CHECKING

from .errors import PreferansError, did_you_mean
from .generation import NEXT_TURN
from .language import loops
from .recipe import read_yaml

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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

# Why an answer given in character makes no pair.
PERSONA_DROP_REASONS = {
    "unfinished": "an answer is empty or has not one finished sentence",
    "loops": "the answer in character runs in circles",
    "taboo": "it uses a word that breaks the character",
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
    def _trace_patterns(self) -> dict[str, re.Pattern]:
        return {words: _pattern(words) for words in self.traces}

    @cached_property
    def _taboo_patterns(self) -> dict[str, re.Pattern]:
        return {words: _pattern(words) for words in self.taboo_words}

    def find_traces(self, text: str, prompt: str) -> set[str]:
        """Which of `traces` a text shows that the prompt does not use itself."""
        return _found(self._trace_patterns, text) - _found(self._trace_patterns, prompt)

    def broken_taboos(self, text: str, prompt: str) -> set[str]:
        """Which of `taboo_words` a text uses that the prompt does not use itself."""
        return _found(self._taboo_patterns, text) - _found(self._taboo_patterns, prompt)


def _pattern(words: str) -> re.Pattern:
    parts = (re.escape(_plain(word.rstrip("*"))) + (r"\w*" if word.endswith("*") else "") for word in words.split())
    return re.compile(r"\b" + r"\s+".join(parts) + r"\b")


def _found(patterns: dict[str, re.Pattern], text: str) -> set[str]:
    plain = _plain(text)
    return {words for words, pattern in patterns.items() if pattern.search(plain)}


def _plain(text: str) -> str:
    return text.lower().replace("ё", "е")


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
    found, _ = read_yaml(path, "persona", "personas")
    for key in found:
        if key not in _KEYS:
            raise PreferansError(
                f"{path}: there is no key '{key}'.{did_you_mean(str(key), _KEYS)} The keys are {', '.join(_KEYS)}."
            )
    for key in _KEYS:
        if not found.get(key):
            raise PreferansError(f"{path}: '{key}' is missing or empty. personas/README.md explains the keys.")
    for key in _TEXTS:
        if not isinstance(found[key], str):
            raise PreferansError(f"{path}: '{key}' must be a text, got {found[key]!r:.60}.")
    for key in _LISTS:
        if not isinstance(found[key], list) or not all(isinstance(item, str) and item.strip() for item in found[key]):
            raise PreferansError(
                f"{path}: '{key}' must be a list of texts, a dash before each, got {found[key]!r:.60}."
            )
    for key in ("traces", "taboo_words"):
        for words in found[key]:
            if not re.fullmatch(r"\w+(-\w+)*\*?( \w+(-\w+)*\*?)*", words.strip()):
                raise PreferansError(
                    f"{path}: '{key}' has '{words}'. Write words of letters, one space between them; an asterisk only at a word's end."
                )
    examples = found["examples"]
    if not isinstance(examples, list) or not all(
        isinstance(example, dict)
        and set(example) == {"question", "answer"}
        and all(isinstance(text, str) and text.strip() for text in example.values())
        for example in examples
    ):
        raise PreferansError(f"{path}: 'examples' must be a list of entries with the texts 'question' and 'answer'.")
    return Persona(
        slug=path.stem,
        **{key: found[key].strip() for key in _TEXTS},
        **{key: tuple(item.strip() for item in found[key]) for key in _LISTS},
        examples=tuple((example["question"].strip(), example["answer"].strip()) for example in examples),
    )


def fold_system(messages: list[dict], tokenizer: "PreTrainedTokenizerBase") -> list[dict]:
    """
    Messages as a chat template can take them: where it knows no system role, as Gemma's, the instruction goes to the head of the
    first message of the user.
    """
    from jinja2 import TemplateError

    if messages[0]["role"] != "system":
        return messages
    try:
        text = tokenizer.apply_chat_template(messages[:2], tokenize=False)
    except TemplateError:
        text = ""
    if messages[0]["content"].strip() in text:
        return messages
    system, first, *others = messages
    return [{"role": "user", "content": f"{system['content']}\n\n{first['content']}"}, *others]


_SENTENCE_END = re.compile(r"[.!?…][»\")]*(?=\s|$)")


def whole_sentences(answer: dict) -> str:
    """
    The part of an answer that can stand by itself: without turns that a base model goes on to write, and without the sentence
    that the limit cut.

    Args:
        answer (`dict`):
            Answer as [`~generation.generate_answers`] gives it.

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
    if len(persona.find_traces(chosen, prompt)) <= len(persona.find_traces(rejected, prompt)):
        return "no_trace"
    return None
