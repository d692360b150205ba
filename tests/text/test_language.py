from hypothesis import given
from hypothesis import strategies as st

from preferans.text.language import cyrillic_share, foreign_words, is_russian, loops, words


def test_cyrillic_share_counts_letters_only():
    assert cyrillic_share("Дом, 2006!") == 1.0
    assert cyrillic_share("Дом big") == 0.5
    assert cyrillic_share("12:30 …") is None
    assert cyrillic_share("їґ") == 0.0  # Cyrillic, but not Russian


def test_is_russian():
    assert is_russian("Поставьте Python 3.11 и перезапустите терминал.")
    assert not is_russian("Please установи это on your computer.")
    assert not is_russian("")


def test_words_of_the_prompt_are_not_foreign():
    assert foreign_words("Откройте Python и сделайте step за step.", "Как начать в Python?") == ["step", "step"]
    assert foreign_words("приготoвление", "") == ["приготoвление"]  # with a Latin o
    assert foreign_words("Кое-что о рисе: 5 минут.", "") == []


def test_links_markup_code_and_acronyms_are_no_foreign_words():
    text = "Смотрите https://example.com/a-b, <b>жирный</b>, `pip install`, ответ в JSON:\n```\nprint(x)\n```\nи USB."
    assert foreign_words(text, "") == []
    assert foreign_words("Это very USB.", "") == ["very"]
    assert foreign_words("2 < 3 and 5 > 4", "") == ["and"]


def test_loops():
    phrase = "вода закипает при ста градусах "
    assert loops(phrase * 3)
    assert not loops(phrase * 2)
    assert loops("Это он.\nНет.\nЭто он.\nДа.\nЭто он.")
    assert not loops("1.\n2.\n3.\n")
    assert not loops("")


@given(st.text())
def test_any_text_can_be_measured(text):
    words(text), loops(text), foreign_words(text, text), is_russian(text)
    assert foreign_words(text, text) == []
