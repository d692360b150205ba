import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferans.text.prose import blank_citations, blank_code, names_in_code


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Наберите `make all` и ждите.", ["Наберите", "и", "ждите."]),
        ("Выполните git push origin main сейчас", ["Выполните", "сейчас"]),
        ("Вот:\n```sh\nmake the world\n```\nготово", ["Вот:", "готово"]),
        ("Пишите на help@example.com, <b>жирно</b>", ["Пишите", "на", ",", "жирно"]),
        ("По формуле $E = mc^2$ и \\(x\\) так", ["По", "формуле", "и", "так"]),
        ("import numpy as np\nТак.", ["Так."]),
        ("Это very просто", ["Это", "very", "просто"]),
    ],
)
def test_blanks_code_and_links(text, left):
    blanked, leaks = blank_code(text, "")
    assert blanked.split() == left
    assert leaks == []


def test_blanks_and_lists_leaked_tokens_that_are_not_in_the_prompt():
    assert blank_code("Да.<|im_end|>", "") == ("Да.          ", ["<|im_end|>"])
    assert blank_code("Да.[INST]", "Что значит [INST]?") == ("Да.[INST]", [])


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Слово «serendipity» красиво", ["Слово", "красиво"]),
        ("андеррайтинг (англ. underwriting)", ["андеррайтинг", "англ"]),
        ("так (от греч. πολυς — много)", ["так", "от", "греч", "много"]),
        ("слово run и параметр target", ["и"]),
        ("это very просто", ["это", "very", "просто"]),
    ],
)
def test_blanks_quoted_and_mentioned_words(text, left):
    assert blank_citations(text).split() == left


def test_finds_names_in_code():
    assert names_in_code("```python\nimport Numpy\nscore = f(x)\n```\nи `best_model`") == {
        "numpy",
        "score",
        "f",
        "best_model",
    }
    assert names_in_code("Без кода") == set()


@given(st.text())
def test_keeps_all_offsets(text):
    for blanked in (blank_code(text, "")[0], blank_citations(text)):
        assert all(after in (before, " ") for before, after in zip(text, blanked, strict=True))
