import pytest

from preferans.text.requested_language import requests_foreign


@pytest.mark.parametrize(
    "prompt",
    [
        "Как сказать по-английски «спасибо»?",
        "Ответьте на украинском: как дела?",
        "Переведи на татарский: доброе утро.",
        "Какие английские слова нужны туристу?",
        "Объясни глагол to be в английском языке.",
        "Как спрягаются немецкие глаголы?",
        "Что значит этот иероглиф?",
        "Напиши пожелание НА ЛАТЫНИ.",
    ],
)
def test_requests_and_questions_about_words(prompt):
    assert requests_foreign(prompt)


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "Почему трудно учить английский язык?",
        "Расскажи о французской кухне.",
        "Переведи с английского: The weather is nice.",
        "Посоветуй хороший английский словарь.",
    ],
)
def test_a_language_that_is_only_named_is_no_request(prompt):
    assert not requests_foreign(prompt)
