"""Untrusted text as HTML: Markdown without HTML, scripts and images, and marks for what the measures find."""

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from markupsafe import Markup, escape

from ..text.intrusions import confusion
from ..text.language import loops
from ..text.measures import is_complete
from ..utf8 import visible


def _image(renderer: RendererHTML, tokens: list[Token], index: int, options: OptionsDict, env: EnvType) -> str:
    token = tokens[index]
    alternative = renderer.renderInlineAsText(token.children, options, env)
    return f'<span class="picture">🖼 {escape(alternative)} ({escape(str(token.attrGet("src")))})</span>'


def _link(renderer: RendererHTML, tokens: list[Token], index: int, options: OptionsDict, env: EnvType) -> str:
    tokens[index].attrSet("rel", "noopener noreferrer nofollow")
    tokens[index].attrSet("target", "_blank")
    return renderer.renderToken(tokens, index, options, env)


_MARKDOWN = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
_MARKDOWN.add_render_rule("image", _image)
_MARKDOWN.add_render_rule("link_open", _link)


def answer_html(text: str) -> Markup:
    """Render an answer's Markdown. HTML in it is shown as text, and images as their address."""
    return Markup(_MARKDOWN.render(visible(text)))


def marked_html(text: str, prompt: str) -> Markup:
    """Render an answer as plain text with its intruding words marked."""
    pieces, end = [], 0
    for intruder in confusion(text, prompt).intruders:
        word = escape(visible(text[intruder.start : intruder.end]))
        pieces += [
            escape(visible(text[end : intruder.start])),
            Markup('<mark title="{}">{}</mark>').format(intruder.language or "?", word),
        ]
        end = intruder.end
    return Markup('<div class="plain">{}</div>').format(Markup("").join([*pieces, escape(visible(text[end:]))]))


def faults(text: str, finish_reason: str | None) -> list[str]:
    """Return which of `"loops"` and `"cut"` the measures find in an answer."""
    found = {"loops": loops(text), "cut": is_complete(text, finish_reason) is False}
    return [fault for fault, is_found in found.items() if is_found]
