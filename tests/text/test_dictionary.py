import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferans.text.dictionary import lemma, russian_dictionary, with_digits


def test_a_lemma_is_the_dictionary_form():
    assert [lemma(word) for word in ("окнах", "ёлкой", "было", "xyz")] == ["окно", "елка", "быть", "xyz"]
    assert russian_dictionary() is russian_dictionary()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Я две тысячи шестого года выпуска.", "Я 2006 года выпуска."),
        ("четыре ножки", "4 ножки"),
        ("двадцать пять рублей и сто три", "25 рублей и 103"),
        ("триста тысяч километров, семь раз", "300000 километров, 7 раз"),
        ("тысяча девятьсот восемьдесят пятый", "1985"),
        ("сто двадцать две тысячи триста", "122300"),
        ("два три четыре", "2 3 4"),
        ("пять, шесть", "5, 6"),
        ("без чисел, 7", "без чисел, 7"),
    ],
)
def test_writes_numbers_in_digits(text, expected):
    assert with_digits(text) == expected


@given(st.text(st.sampled_from("абв двапятьсто,.\n1"), max_size=40))
def test_digits_are_stable(text):
    assert with_digits(with_digits(text)) == with_digits(text)
