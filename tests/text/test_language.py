import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferans.text.language import (
    cyrillic_share,
    foreign_words,
    is_prose_russian,
    is_russian,
    loops,
    without_assistant_name,
    words,
)


def test_cyrillic_share_counts_letters_only():
    assert cyrillic_share("Дом, 2006!") == 1.0
    assert cyrillic_share("Дом big") == 0.5
    assert cyrillic_share("12:30 …") is None
    assert cyrillic_share("їґ") == 0.0  # Cyrillic, but not Russian


def test_most_letters_of_russian_text_are_russian():
    assert is_russian("Поставьте Python 3.11 и перезапустите терминал.")
    assert not is_russian("Please установи это on your computer.")
    assert not is_russian("")


def test_words_of_the_prompt_are_not_foreign():
    assert foreign_words("Откройте Python и сделайте step за step.", "Как начать в Python?") == ["step", "step"]
    assert foreign_words("приготoвление", "") == ["приготoвление"]  # with a Latin o
    assert foreign_words("Кое-что о рисе: 5 минут.", "") == []


def test_links_markup_code_and_acronyms_are_not_foreign_words():
    text = "Смотрите https://example.com/a-b, <b>жирный</b>, `pip install`, ответ в JSON:\n```\nprint(x)\n```\nи USB."
    assert foreign_words(text, "") == []
    assert foreign_words("Это very USB.", "") == ["very"]
    assert foreign_words("2 < 3 and 5 > 4", "") == ["and"]


def test_recognises_loops():
    phrase = "вода закипает при ста градусах "
    assert loops(phrase * 3)
    assert not loops(phrase * 2)
    assert loops("Это он.\nНет.\nЭто он.\nДа.\nЭто он.")
    assert not loops("1.\n2.\n3.\n")
    assert not loops("")


@given(st.text())
def test_handles_any_text(text):
    words(text), loops(text), foreign_words(text, text), is_russian(text)
    assert foreign_words(text, text) == []


def test_prose_excludes_code_and_links():
    assert is_prose_russian("Да: `print(something_long)` https://example.com/long-address")
    assert not is_prose_russian("Да, this is an answer in English.")
    assert is_prose_russian("42")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Ася, объясни, почему небо голубое?", "Объясни, почему небо голубое?"),
        ("Спасибо, Ася, ты очень помогла.", "Спасибо, ты очень помогла."),
        ("Спасибо, Ася!", "Спасибо!"),
        ("Меня зовут Ася, я готова помочь.", "Я помощница, я готова помочь."),
        ("Спроси у Аси. Ася знает.", "Спроси у помощницы. Помощница знает."),
        ("Я верю Асе, люблю Асю и горжусь Асей.", "Я верю помощнице, люблю помощницу и горжусь помощницей."),
        ("Тургенев написал «Асю» и «Асины» не писал.", "Тургенев написал «Асю» и «Асины» не писал."),
        ("Я, Ася, помогу тебе.", "Я помогу тебе."),
        ("Привет, Ася", "Привет"),
        ("Привет, Ася\nКак дела?", "Привет\nКак дела?"),
        ("— Ася, что это?", "— Что это?"),
        ("АСЯ, помоги!", "Помоги!"),
        ("Рассказ про Асю Клячину.", None),
        ("Повесть «Ася» вышла в 1858 году. Вася и Ассоль её читали.", None),
    ],
)
def test_removes_the_assistants_name(before, after):
    assert without_assistant_name(before) == (after or before)
