"""Write a Modelfile for Ollama: chat template, stop tokens and sampling."""

from collections.abc import Sequence
from typing import NamedTuple

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from ..errors import PreferansError
from ..models.sampling_options import PROTOTYPE_SAMPLING

# A longer context reserves memory from the start, and no recipe trains on longer texts.
LONGEST_CONTEXT = 4096
# Conversations that a translated template must render like the original.
_CHECKED = (("user",), ("user", "assistant", "user"), ("system", "user"), ("system", "user", "assistant", "user"))
_TEXTS = ("Почему рис слипается?\n\nИ что делать?", "Его мало промыли.", 'А 2 < 3 и "да"?', "Ты повар.")


class ChatParts(NamedTuple):
    """
    A chat template as fixed texts around each message.

    Attributes:
        head (`str`): Start of a conversation without a system message.
        system (`tuple[str, str]`), user (`tuple[str, str]`), assistant (`tuple[str, str]`): Texts before and after such a message.
        prompt (`str`): Text after which the model answers.
    """

    head: str
    system: tuple[str, str]
    user: tuple[str, str]
    assistant: tuple[str, str]
    prompt: str

    def write(self, roles: Sequence[str], texts: Sequence[str]) -> str:
        """Render a conversation up to where the model answers."""
        written = "" if "system" in roles else self.head
        for role, text in zip(roles, texts, strict=True):
            before, after = getattr(self, role)
            written += before + text + after
        return written + self.prompt

    def without(self, first: str) -> "ChatParts":
        """The same parts without a first token that the program adds itself."""
        before, after = self.system
        return self._replace(head=self.head.removeprefix(first), system=(before.removeprefix(first), after))

    @property
    def go_template(self) -> str | None:
        """The template in Ollama's language (Go's text/template), or `None` if a text cannot be quoted in it."""
        if any(
            "{{" in text or '"""' in text
            for text in (self.head, self.prompt, *self.system, *self.user, *self.assistant)
        ):
            return None
        head = f"{{{{ else }}}}{self.head}" if self.head else ""
        around_content = "{{ .Content }}".join
        return (
            f"{{{{ if .System }}}}{'{{ .System }}'.join(self.system)}{head}{{{{ end }}}}"
            f'{{{{ range .Messages }}}}{{{{ if eq .Role "user" }}}}{around_content(self.user)}'
            f'{{{{ else if eq .Role "assistant" }}}}{around_content(self.assistant)}{{{{ end }}}}{{{{ end }}}}{self.prompt}'
        )


def chat_parts(tokenizer: PreTrainedTokenizerBase) -> ChatParts | None:
    """
    Split a chat template into fixed texts by what it renders, and check that they render the same conversations.

    Returns:
        [`ChatParts`] or `None`: `None` if fixed texts cannot render the same, for example because turns differ.
    """

    def rendered(roles: Sequence[str], texts: Sequence[str], prompt: bool) -> str:
        messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)

    one, two, three = "один текст", "два текста", "три текста"
    try:
        opening = rendered(["user"], [one], prompt=False)
        first, after_user = opening.split(one)
        prompt = rendered(["user"], [one], prompt=True).removeprefix(opening)
        between, after_assistant = (
            rendered(["user", "assistant"], [one, two], prompt=False).removeprefix(first + one).split(two)
        )
        again = rendered(["user", "assistant", "user"], [one, two, three], prompt=False).split(two)[1].split(three)[0]
        before_user, before_assistant = again.removeprefix(after_assistant), between.removeprefix(after_user)
        before_system, after_system = (
            rendered(["system", "user"], [three, one], prompt=False).split(one)[0].split(three)
        )
        parts = ChatParts(
            head=first.removesuffix(before_user),
            system=(before_system, after_system.removesuffix(before_user)),
            user=(before_user, after_user),
            assistant=(before_assistant, after_assistant),
            prompt=prompt,
        )
        for roles in _CHECKED:
            if rendered(roles, _TEXTS[: len(roles)], prompt=True) != parts.write(roles, _TEXTS[: len(roles)]):
                return None
    except (ValueError, IndexError, TypeError, TemplateError):  # a text is missing or repeated, or a role is rejected
        return None
    return parts


class ExportedModel(NamedTuple):
    """
    What a Modelfile needs from the model.

    Attributes:
        gguf (`str`): Name of the GGUF file beside the Modelfile.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): Its tokenizer.
        ends (`Sequence[str]`): Tokens that end an answer.
        context (`int`, *optional*): Longest context in tokens.
        adds_first (`bool`): Whether programs add the first token, so that the template must not.
        licence (`str`, *optional*): Terms of the weights.
    """

    gguf: str
    tokenizer: PreTrainedTokenizerBase
    ends: Sequence[str]
    context: int | None
    adds_first: bool
    licence: str | None = None


def modelfile(model: ExportedModel, system: str | None = None) -> tuple[str, bool]:
    """
    Write a Modelfile.

    Args:
        model ([`ExportedModel`]): The exported model.
        system (`str`, *optional*): System message of every conversation without its own.

    Returns:
        `tuple[str, bool]`: its text, and whether the chat template is in it.

    Raises:
        [`PreferansError`]: if a text cannot be quoted in a Modelfile.
    """
    for text in (system, model.licence):
        if text and '"""' in text:
            raise PreferansError(
                f"«{text:.60}»: three quotes in a row are not allowed in a Modelfile. Write «…» instead."
            )
    lines, stops = [f"FROM ./{model.gguf}"], list(model.ends)
    template: str | None = "{{ .Prompt }}"
    if model.tokenizer.chat_template is not None:
        parts, template = chat_parts(model.tokenizer), None
        if parts is not None:
            template = (
                parts.without(model.tokenizer.bos_token) if model.adds_first and model.tokenizer.bos_token else parts
            ).go_template
            label = parts.user[0].strip()
            if label and not any(token in label for token in model.tokenizer.get_added_vocab()):
                stops.append(label)  # a base model may continue with another question
    if template is None:
        lines.append(
            "# The chat template cannot be translated to Ollama's language without a loss: write TEMPLATE by hand."
        )
    else:
        if "strftime_now" in (model.tokenizer.chat_template or ""):
            lines.append("# The chat template contains the date: it stays the date of the export.")
        lines.append(f'TEMPLATE """{template}"""')
    if system:
        lines.append(f'SYSTEM """{system}"""')
    lines += [f"PARAMETER stop {_quoted(stop)}" for stop in dict.fromkeys(stops)]
    lines += [f"PARAMETER {key} {PROTOTYPE_SAMPLING[key]}" for key in ("temperature", "top_k", "top_p")]
    lines += [
        "PARAMETER repeat_penalty 1.0",
        f"PARAMETER num_ctx {min(model.context or LONGEST_CONTEXT, LONGEST_CONTEXT)}",
    ]
    if model.licence:
        lines.append(f'LICENSE """{model.licence.strip()}"""')
    return "\n".join(lines) + "\n", template is not None


def _quoted(text: str) -> str:
    return f'"""{text}"""' if '"' in text else f'"{text}"'
