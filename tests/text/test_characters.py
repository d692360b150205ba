import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferans.text.characters import character_damage, comparable, repair_characters


@pytest.mark.parametrize(
    ("text", "kind", "right"),
    [
        ("Я живу c мамой", "homoglyphs", "Я живу с мамой"),
        ("Лес, a за ним река", "homoglyphs", "Лес, а за ним река"),
        ("собaка бежит", "homoglyphs", "собака бежит"),
        ("COCTAB суда", "homoglyphs", "СОСТАВ суда"),
        ("Учу Рython", "homoglyphs", "Учу Python"),
        ("Наш xop пoёт co сцены", "homoglyphs", "Наш хор поёт со сцены"),
        ("РџРѕС‡РµРјСѓ нет", "encoding", None),
        ("Ð¿Ñ\x80Ð¸Ð²ÐµÑ\x82", "encoding", None),
        ("Ïðèâåò, ìèð", "encoding", None),
        ("????? ???", "encoding", None),
        ("Не\ufffdт", "encoding", None),
        ("Да&nbsp;&laquo;нет&raquo;", "html", "Да\xa0«нет»"),
        ("<p>Да</p>", "html", None),
        ("не\u200bт", "invisible", "нет"),
        ("звонок\x07", "invisible", "звонок"),
        (unicodedata.normalize("NFD", "ёлкой"), "decomposed", "ёлкой"),
    ],
)
def test_finds_and_repairs_damage(text, kind, right):
    assert list(character_damage(text)) == [kind]
    if right:
        assert repair_characters(text) == right
        assert character_damage(right) == {}


@pytest.mark.parametrize(
    "text",
    [
        "Стороны a и b равны, скорость c постоянна, точка A лежит выше.",
        "USB-кабель, IT-отдел, iPhone'ом, витамин C, группа B и BMW",
        "20 oC, H2O и формула `aбc`",
        "Что???? Ну и ну ???",
        "Тег <br> и сущность &nbsp; в HTML",
        "Ça été à la forêt",
        "👨‍👩‍👧 семья",
        "a < b & c > d",
    ],
)
def test_accepts_what_only_resembles_damage(text):
    assert character_damage(text) == {}
    assert repair_characters(text) == text


def test_html_is_no_damage_if_the_prompt_is_about_it():
    assert character_damage("<p>Да</p>", "Как вставить абзац в HTML?") == {}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Ёлка, ёлка!", "елка елка", True),
        ("**Да**, конечно.", "да конечно", True),
        ("Ответ: 5", "Ответ: -5", False),
        ("3 > 2", "3 < 2", False),
        ("C++", "C", False),
        ("/\\_/\\\n( o.o )", "/\\_/\\ ( o.o )", False),
        (unicodedata.normalize("NFD", "йод"), "йод", True),
    ],
)
def test_comparable_texts(one, other, same):
    assert (comparable(one) == comparable(other)) == same


@given(st.text())
def test_a_repair_is_complete_and_final(text):
    repaired = repair_characters(text)
    assert repair_characters(repaired) == repaired
    if "encoding" not in character_damage(text):
        assert not {"homoglyphs", "invisible", "decomposed"} & character_damage(
            repaired
        ).keys() or "encoding" in character_damage(repaired)
