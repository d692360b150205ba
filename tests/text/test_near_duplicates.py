import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferans.text.near_duplicates import bare_words, drop_near_duplicates, find_leaks, near_duplicates, user_texts

QUESTION = "Почему небо голубое, а трава зелёная?"


def test_ignores_case_punctuation_and_dots():
    assert bare_words("Ёжик, в  ТУМАНЕ!") == "ежик в тумане"
    assert bare_words(" ?! ") == "?!"
    assert near_duplicates(["почему небо голубое а трава зеленая"], ["Другое", QUESTION]) == [1]


@pytest.mark.parametrize(("text", "position"), [(f"{QUESTION} Ответь", 1), ("Почему трава растёт?", None), ("", None)])
def test_finds_similar_texts(text, position):
    assert near_duplicates([text], ["Как варить борщ?", QUESTION]) == [position]
    assert near_duplicates([text], []) == [None]


def test_prefers_the_most_similar_and_then_the_first():
    others = [f"{QUESTION} Ответь коротко", f"{QUESTION} Ответь", f"{QUESTION} Ответь"]
    assert near_duplicates([f"{QUESTION} Ответь мне"], others) == [1]


@given(st.lists(st.text(), max_size=5))
def test_every_text_is_its_own_near_duplicate(texts):
    matches = near_duplicates(texts, texts)
    assert [bare_words(texts[match]) for match in matches] == [bare_words(text) for text in texts]


def test_leaks_by_the_first_message_or_by_all_messages():
    conversation = [
        {"role": "user", "content": "Привет, как твои дела сегодня?"},
        {"role": "assistant", "content": "Хорошо."},
        {"role": "user", "content": QUESTION},
    ]
    assert user_texts(QUESTION) == (QUESTION, QUESTION)
    texts = user_texts(conversation)
    assert texts == ("Привет, как твои дела сегодня?", f"Привет, как твои дела сегодня?\n{QUESTION}")
    other = ("Здравствуйте, уважаемый помощник", "Здравствуйте, уважаемый помощник\nСпасибо")
    assert find_leaks([other, texts], [user_texts("Как варить борщ?"), (texts[0], "иное")]) == [None, 1]
    assert find_leaks([("начало", texts[1])], [texts]) == [0]


def test_drops_training_rows_only():
    splits = {
        name: pl.DataFrame({"prompt": [[{"role": "user", "content": text}] for text in texts]})
        for name, texts in {"train": [QUESTION, "Как варить борщ?"], "test": [QUESTION.lower()]}.items()
    }
    kept, removed = drop_near_duplicates(splits)
    assert removed == 1
    assert kept["train"].equals(splits["train"][1:])
    assert kept["test"].equals(splits["test"])
    assert drop_near_duplicates({"train": splits["train"]}) == ({"train": splits["train"]}, 0)


def test_a_prompt_without_a_user_message_has_texts():
    system = {"role": "system", "content": "Отвечай по-русски."}
    assert user_texts([system]) == ("Отвечай по-русски.", "Отвечай по-русски.")
    assert user_texts([]) == ("", "")
