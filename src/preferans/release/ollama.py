"""A Modelfile, by which Ollama takes a GGUF file: its chat template in Ollama's own language, where it stops, and how it samples."""

from collections.abc import Sequence
from typing import NamedTuple

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from ..errors import PreferansError
from ..models.sampling_options import PROTOTYPE_SAMPLING

# Longer contexts cost memory from the first token on, and no recipe trains on longer ones.
LONGEST_CONTEXT = 4096
# Conversations that a translated template must write as the template itself does.
_CHECKED = (("user",), ("user", "assistant", "user"), ("system", "user"), ("system", "user", "assistant", "user"))
_TEXTS = ("Почему рис слипается?\n\nИ что делать?", "Его мало промыли.", 'А 2 < 3 и "да"?', "Ты повар.")


class ChatParts(NamedTuple):
    """
    A chat template taken to pieces: every message stands between two fixed texts.

    Attributes:
        head (`str`): What stands first where there is no system message.
        system (`tuple[str, str]`): What stands before and after a system message, which comes first.
        user (`tuple[str, str]`), assistant (`tuple[str, str]`): What stands before and after these messages.
        prompt (`str`): What makes the model answer.
    """

    head: str
    system: tuple[str, str]
    user: tuple[str, str]
    assistant: tuple[str, str]
    prompt: str

    def write(self, roles: Sequence[str], texts: Sequence[str]) -> str:
        """A conversation that ends where the model is to answer."""
        written = "" if "system" in roles else self.head
        for role, text in zip(roles, texts, strict=True):
            before, after = getattr(self, role)
            written += before + text + after
        return written + self.prompt

    def without(self, first: str) -> "ChatParts":
        """The same parts without a token that the program itself sets first."""
        before, after = self.system
        return self._replace(head=self.head.removeprefix(first), system=(before.removeprefix(first), after))

    @property
    def go_template(self) -> str | None:
        """The template in the language of Ollama (Go's text/template), or `None` where a text cannot stand in it."""
        if any(
            "{{" in text or '"""' in text
            for text in (self.head, self.prompt, *self.system, *self.user, *self.assistant)
        ):
            return None
        head = f"{{{{ else }}}}{self.head}" if self.head else ""
        said = "{{ .Content }}".join
        return (
            f"{{{{ if .System }}}}{'{{ .System }}'.join(self.system)}{head}{{{{ end }}}}"
            f'{{{{ range .Messages }}}}{{{{ if eq .Role "user" }}}}{said(self.user)}'
            f'{{{{ else if eq .Role "assistant" }}}}{said(self.assistant)}{{{{ end }}}}{{{{ end }}}}{self.prompt}'
        )


def chat_parts(tokenizer: PreTrainedTokenizerBase) -> ChatParts | None:
    """
    Take a chat template to pieces by what it writes, and check that they make whole conversations again.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer with a chat template.

    Returns:
        [`ChatParts`] or `None`: `None` when it writes something that they cannot say, for example other things in other turns.
    """

    def written(roles: Sequence[str], texts: Sequence[str], prompt: bool) -> str:
        messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)

    one, two, three = "один текст", "два текста", "три текста"
    try:
        asked = written(["user"], [one], prompt=False)
        first, after_user = asked.split(one)
        prompt = written(["user"], [one], prompt=True).removeprefix(asked)
        between, after_assistant = (
            written(["user", "assistant"], [one, two], prompt=False).removeprefix(first + one).split(two)
        )
        again = written(["user", "assistant", "user"], [one, two, three], prompt=False).split(two)[1].split(three)[0]
        before_user, before_assistant = again.removeprefix(after_assistant), between.removeprefix(after_user)
        before_system, after_system = (
            written(["system", "user"], [three, one], prompt=False).split(one)[0].split(three)
        )
        parts = ChatParts(
            head=first.removesuffix(before_user),
            system=(before_system, after_system.removesuffix(before_user)),
            user=(before_user, after_user),
            assistant=(before_assistant, after_assistant),
            prompt=prompt,
        )
        for roles in _CHECKED:
            if written(roles, _TEXTS[: len(roles)], prompt=True) != parts.write(roles, _TEXTS[: len(roles)]):
                return None
    except (ValueError, IndexError, TypeError, TemplateError):  # a text is left out or doubled, or a role is refused
        return None
    return parts


def modelfile(
    gguf: str,
    tokenizer: PreTrainedTokenizerBase,
    ends: Sequence[str],
    context: int | None,
    adds_first: bool,
    system: str | None = None,
    licence: str | None = None,
) -> tuple[str, bool]:
    """
    Write a Modelfile.

    Args:
        gguf (`str`):
            Name of the GGUF file beside it.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            The model's tokenizer.
        ends (`Sequence[str]`):
            Tokens that end an answer.
        context (`int`, *optional*):
            Longest context of the model, in tokens.
        adds_first (`bool`):
            Whether the program sets the first token itself, so that the template must not.
        system (`str`, *optional*):
            System message of every conversation that has no other.
        licence (`str`, *optional*):
            Terms of the weights.

    Returns:
        `tuple[str, bool]`: its text, and whether the chat template is in it.

    Raises:
        [`PreferansError`]: when a text cannot stand in a Modelfile.
    """
    for text in (system, licence):
        if text and '"""' in text:
            raise PreferansError(
                f"«{text:.60}»: three quotes in a row cannot stand in a Modelfile. Write «…» instead."
            )
    lines, stops, template = [f"FROM ./{gguf}"], list(ends), "{{ .Prompt }}"
    if tokenizer.chat_template is not None:
        parts, template = chat_parts(tokenizer), None
        if parts is not None:
            template = (
                parts.without(tokenizer.bos_token) if adds_first and tokenizer.bos_token else parts
            ).go_template
            label = parts.user[0].strip()
            if label and not any(token in label for token in tokenizer.get_added_vocab()):
                stops.append(label)  # a base model may go on to ask itself
    if template is None:
        lines.append(
            "# The chat template could not be put into Ollama's language without a loss: write TEMPLATE by hand."
        )
    else:
        if "strftime_now" in (tokenizer.chat_template or ""):
            lines.append("# The chat template tells the date: this is that of the export.")
        lines.append(f'TEMPLATE """{template}"""')
    if system:
        lines.append(f'SYSTEM """{system}"""')
    lines += [f"PARAMETER stop {_quoted(stop)}" for stop in dict.fromkeys(stops)]
    lines += [f"PARAMETER {key} {PROTOTYPE_SAMPLING[key]}" for key in ("temperature", "top_k", "top_p")]
    lines += ["PARAMETER repeat_penalty 1.0", f"PARAMETER num_ctx {min(context or LONGEST_CONTEXT, LONGEST_CONTEXT)}"]
    if licence:
        lines.append(f'LICENSE """{licence.strip()}"""')
    return "\n".join(lines) + "\n", template is not None


def _quoted(text: str) -> str:
    return f'"""{text}"""' if '"' in text else f'"{text}"'
