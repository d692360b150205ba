import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferans.files import read_jsonl
from preferans.text.known_words import known_words

from ..support.tiny import make_tokenizer


@pytest.mark.parametrize(
    "answer",
    [
        "Кошка сидит на окне.",
        "Всё ещё ёлка, а не елка; афёра и афера.",
        "нейросети и микропластик, трёхсложные и пятистопные",  # a prefix and a known word
        "онлайн-курсы, кто-нибудь, юго-запад, русско-английский словарь",
        "IT-специалист из США учится в МГИМО и знает C++.",
        "Его зовут Альцманн, а её — Флурбина. Флурбина поёт.",
        "5-летний мальчик, 2-й класс, 10км, т. е. далеко, 30 кв. м, и т. д.",
        "за́мок на горе и замо́к на двери",
        "Вызовите `апбани()`:\n```\nапбани()\n```",
        "1. Первый.\n2. «Второй» — здесь.",
    ],
)
def test_words_of_good_answers_are_known(answer):
    assert known_words(answer) == 1.0


def test_share_of_known_words():
    assert known_words("Каша слипляется, и шлапурник молчит.") == pytest.approx(3 / 5)
    assert known_words("аж!апØбани…") == 0.5
    assert known_words("Мы встали на ногami.") == 0.75  # two alphabets in one word
    assert known_words("Шлапурник молчит.") == 0.5  # the capital letter of a sentence
    assert known_words("апБани щ ф ы") == 0.0
    assert known_words("супершлапурник") == 0.0


def test_words_of_the_prompt_are_known():
    assert known_words("Шлапурник живёт в лесу, и шлапурником его зовут.", "Кто такой шлапурник?") == 1.0


@pytest.mark.parametrize("answer", ["", "42", "Yes, sir.", "США", "`код`"])
def test_an_answer_without_words_has_no_share(answer):
    assert known_words(answer) is None


@given(st.text(), st.text())
def test_any_text_has_a_share_or_none(answer, prompt):
    share = known_words(answer, prompt)
    assert share is None or 0 <= share <= 1


def test_few_words_of_random_tokens_are_known():
    tokenizer = make_tokenizer()
    draw = random.Random(0)
    texts = [tokenizer.decode(draw.choices(range(6, len(tokenizer)), k=100)) for _ in range(20)]
    assert sum(map(known_words, texts)) / len(texts) < 0.5


def test_real_answers_have_known_words(shared_data):
    prompts = {row["question_id"]: row["prompt"] for row in read_jsonl(shared_data / "arena_ru_questions.jsonl")}
    shares = [
        known_words(row["answer"], prompts[row["question_id"]])
        for row in read_jsonl(shared_data / "arena_ru_answers.jsonl")
        if row["model"] == "gpt-4o-mini"
    ]
    shares = [share for share in shares if share is not None]
    assert sum(shares) / len(shares) == pytest.approx(0.997, abs=0.0005)
    assert min(shares) > 0.95
