import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferans.people.rendering import answer_html, faults, marked_html

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '<iframe src="https://example.org"></iframe>',
    "[нажми](javascript:alert(1))",
    "[нажми](data:text/html;base64,PHNjcmlwdD4=)",
    "![картинка](https://example.org/track.png)",
    '![a" onerror="alert(1)](https://example.org/"onerror=alert(1))',
    "<a href='javascript:alert(1)'>x</a>",
    "`<script>alert(1)</script>`",
    "```html\n<script>alert(1)</script>\n```",
    '[a](https://example.org "x\\" onmouseover=alert(1)")',
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "<style>body{display:none}</style><base href=//example.org>",
    "<svg/onload=alert(1)>",
]
ALLOWED = {
    *[
        "p",
        "br",
        "em",
        "strong",
        "s",
        "code",
        "pre",
        "ul",
        "ol",
        "li",
        "blockquote",
        "hr",
        "a",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "span",
        "div",
        "mark",
    ]
}


def tags_of(html: str) -> list[tuple[str, str]]:
    return [(name.lower(), rest) for name, rest in re.findall(r"<\s*/?\s*([A-Za-z][\w-]*)([^>]*)>", html)]


def check_safe(html: str) -> None:
    for name, attributes in tags_of(html):
        assert name in ALLOWED, html
        names = re.findall(r'([\w-]+)="[^"]*"', attributes)
        assert set(names) <= {"href", "rel", "target", "class", "start", "title", "style"}, html
        for address in re.findall(r'href="([^"]*)"', attributes):
            assert not re.match(r"\s*(?:javascript|data|vbscript|file):", address, re.I), html


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_in_an_answer_runs_or_loads(text):
    for html in (answer_html(text), marked_html(text, "Вопрос?")):
        check_safe(html)


@given(
    st.text() | st.lists(st.sampled_from([*HOSTILE, "**", "\n", "|", "- ", "`", "<", ">", '"', "\x00"])).map("".join)
)
def test_no_text_becomes_html(text):
    check_safe(answer_html(text))
    check_safe(marked_html(text, text))


def test_markdown_is_rendered():
    html = answer_html(
        "# Чай\n\n1. вода\n2. **заварка**\n\n| а | б |\n|---|---|\n| 1 | 2 |\n\n```\nx < 1\n```\nстрока\nвторая"
    )
    for part in ("<h1>Чай</h1>", "<li>вода</li>", "<strong>заварка</strong>", "<td>1</td>", "x &lt; 1", "строка<br"):
        assert part in html
    link = answer_html("[сайт](https://example.org)")
    assert 'rel="noopener noreferrer nofollow"' in link and 'href="https://example.org"' in link
    assert "🖼 кот (https://example.org/a.png)" in answer_html("![кот](https://example.org/a.png)")


def test_marks_are_on_intruding_words_only():
    html = marked_html("Мы должны consider все <b>варианты</b>.", "Что делать?")
    assert '<mark title="en">consider</mark>' in html
    assert html.count("<mark") == 1
    assert "&lt;b&gt;варианты" in html
    assert "<mark" not in answer_html("Мы должны consider все варианты.")


def test_faults():
    assert faults("Вода кипит. " * 20, "stop") == ["loops"]
    assert faults("Вода кипит при", None) == ["cut"]
    assert faults("Вода кипит.", "length") == ["cut"]
    assert faults("Вода кипит при ста градусах.", None) == []


def test_a_long_answer_is_complete():
    text = " ".join(f"слово{number}" for number in range(2_200)) + " КОНЕЦ"
    assert len(text) > 20_000
    assert "КОНЕЦ" in answer_html(text) and "КОНЕЦ" in marked_html(text, "")
