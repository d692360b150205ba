import random
import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferans.errors import PreferansError
from preferans.files import read_jsonl
from preferans.text.language import words
from preferans.text.measures import (
    chrf,
    chrf_plus_plus,
    corpus_chrf,
    distinct,
    is_complete,
    repetition,
    rouge,
)

from ..support.tiny import SAMPLE

REFERENCE, ANSWER = "Кошки сидели на окнах", "Кошка сидела на окне"


def test_rouge_treats_forms_of_a_word_as_equal():
    assert rouge(ANSWER, [REFERENCE], lemmas=False) == {"rouge1": 0.25, "rouge2": 0.0, "rougeL": 0.25}
    assert rouge(ANSWER, [REFERENCE]) == {"rouge1": 1.0, "rouge2": 1.0, "rougeL": 1.0}
    assert chrf(ANSWER, [REFERENCE]) == pytest.approx(34.2, abs=0.05)


def test_uses_the_most_similar_reference():
    assert rouge("Да.", ["Нет", "Да"])["rouge2"] == 1.0
    assert chrf("Да.", ["Нет.", "Да."]) == 100
    assert corpus_chrf(["Да.", "Нет."], [["Нет.", "Да."], ["Нет."]]) == pytest.approx(100)
    assert "nw:2" in str(chrf_plus_plus().get_signature())


@pytest.mark.parametrize("compare", [chrf, rouge])
def test_rejects_missing_references(compare):
    for references in ([], "Да."):
        with pytest.raises(PreferansError, match="list of one or more texts"):
            compare("Да.", references)


@given(st.text(), st.text())
def test_similarity_of_any_texts_is_in_range(answer, reference):
    assert 0 <= chrf(answer, [reference]) <= 100
    assert all(0 <= value <= 1 for value in rouge(answer, [reference], lemmas=False).values())


@given(st.from_regex(r"[а-яё]{1,9}( [а-яё]{1,9}){0,6}", fullmatch=True))
def test_equal_texts_have_the_highest_score(text):
    assert set(rouge(text, [text]).values()) == set(rouge(text, [text], lemmas=False).values()) == {1.0}


def test_share_of_distinct_ngrams():
    assert distinct("Да, да, нет.", 1) == pytest.approx(2 / 3)
    assert distinct("да нет да нет", 2) == pytest.approx(2 / 3)
    assert distinct("да", 2) is None


def test_recognises_loops():
    phrase = "вода закипает при ста градусах "
    assert repetition(phrase * 3).loops
    assert repetition(phrase * 3).repeated_share == pytest.approx(7 / 12)  # 12 runs of four words, 5 of them new
    assert repetition("") == (False, 0.0)


def test_lines_of_code_can_repeat():
    code = "    return None at once\n" * 5
    assert not repetition(f"Вот код:\n```python\n{code}```\nГотово.").loops
    assert repetition(f"Вот код:\n```python\n{code}").loops  # the block was never closed


@pytest.mark.parametrize(
    "text",
    [
        "Париж",
        "Да, это так.",
        "Правда?!",
        "Не знаю…",
        "Он сказал: «Иду.»",
        "Так оно и есть (см. главу 2).",
        "С днём рождения! 🎉",
        "Обниму тебя :)",
        "Вот код:\n```python\nprint(1)\n```",
        "Города:\n1. Москва\n2. Тверь",
        "| Город | Река |\n| --- | --- |\n| Тверь | Волга |",
        '{"город": "Тверь"}',
        "Подробнее здесь: https://example.com/a",
        "Дорогая мама!\n\nСкоро приеду.\n\nС любовью,\nАня",
        "Итого:\n**x = 5**",
        "Текст.[1]",
        "Давай!\n*обнимает*",
        "Всё сказано.\n\n---",
        "Ответ: 68",
        "Решим задачу.\n\nОтвет: 68",
        "Сложим и получим:\n-2",
        "Считаем всех.\n11 человек",
        "13, 17, 19, 23",
        "Простые числа:\n13, 17, 19, 23",
        "Скорость поезда: 3,5 км/ч",
        "Площадь комнаты: 25 кв. м",
        "В",
        "Ответ: а",
        "1. А\n2. С\n3. В",
        "Группа крови: О",
        "Москва, Казань, Нижний Новгород, Тверь",
        "Города:\nМосква\nКазань\nНижний Новгород",
        "Мороз и солнце, день чудесный\nЕщё ты дремлешь, друг прелестный\nПора, красавица, проснись",
        "Буря мглою небо кроет,\nВихри снежные крутя,\nТо, как зверь, она завоет",
        "Another one bites the dust\nHey, I'm gonna get you, too\nAnother one bites the dust",
        "Вот кот:\n /\\_/\\\n( o.o )\n > ^ <",
        "  o\n /|\\\n / \\",
        "\\|/ *`:::::.::''\n\\|/ `:''",
        "Запустите сервер:\n\nnpm install express",
        "import math\n\nfor i in range(3):\n    print(i)",
        "int main() {\n    return 0;\n}",
        'Проверим адрес:\nassert(url.isValid("/api") == true);',
        '[Пауза] Он сказал: "Да" и ещё раз "Да".',
        '[ЗАПРОС]: curl "http://example.com/api/ip"',
        "[1] Пушкин А. С. Полное собрание сочинений.",
        "[1, 2] — это отрезок.",
        "1. Сколько будет дважды два?\n4",
        "Variance = E[X^2] - (E[X])^2",
    ],
)
def test_recognises_complete_answers(text):
    assert is_complete(text) is True


@pytest.mark.parametrize(
    "text",
    [
        "Это случилось потому, что",
        "Кошка сидела на",
        "Вот что нужно:",
        "Возьмите хлеб,",
        "Он сказал: «Приду завтра.",
        "Города (например, Москва",
        "Вот код:\n```python\nprint(1)",
        "Есть два способа.\n1. Первый.\n2.",
        "Есть два способа.\n\n## Второй",
        "1. Возьмите муку.\n2. Добавьте воду.\n3. Замесите тес",
        "| Город | Река |\n| --- | --- |\n| Тверь | Вол",
        '{"город": "Тве',
        "Итак, **первое",
        "В книге говорится об этом, см.",
        "1. Считаем всех.\n2. Рыбы живут в воде",
        "## Первый\n## Второй\nЭто слово значит",
        "Дорогая мама,\nя пишу тебе:\nкупи мне кошку, она",
        "Он родился в Москве в 1988",
        "Сначала объяснение.\n1. Первое.\n2. Второе.\n3",
        "Сначала объяснение.\n1. Первое\n2. Второе прави",
        "Города:\nМосква\nКазань\nНижний Новгород\nсёла великоле",
        "Возьмите с собой: хлеб, соль, спички, кре",
        "Ответ:\n2. Оплачив",
        'Вот что получится:\n{\n  "a": [\n    1\n  ],\n  {',
        "[1, 2, 3",
        '{"a": [1, 2',
    ],
)
def test_recognises_answers_that_are_cut_off(text):
    assert is_complete(text) is False


@pytest.mark.parametrize(
    "text",
    [
        "Это важно, потому что",
        "Это важно, так как",
        "Мы пойдём гулять, хотя",
        "Он вернётся, когда",
        "Это книга, которую",
        "Это дом, в котором",
        "Мы взяли хлеб, а также",
        "Он работал, несмотря на",
        "Возьмите фрукты, такие как",
        "Я думаю, что",
        "Это не он, а",
        "Он жил в городе, где",
        "Их много, в том числе",
        "Проверьте всё, прежде чем",
        "Строка за строкой\nСлово за словом\nКнига, которая",
        "The sky is blue because",
        "You can use scp to copy the",
        "There are many animals, such as",
    ],
)
@pytest.mark.parametrize("finish_reason", [None, "stop", "length"])
def test_an_answer_that_ends_with_a_conjunction_is_never_complete(text, finish_reason):
    assert is_complete(text, finish_reason) is False


def test_uses_the_finish_reason():
    assert is_complete("Да.", "length") is False
    assert is_complete("Он молод и поэтому не знает жизни") is False
    assert is_complete("Он молод и поэтому не знает жизни", "stop") is True
    assert is_complete("Он молод и", "stop") is False
    assert is_complete("Вам не хватает витамина С", "stop") is True
    assert is_complete("Мы встретимся. С", "stop") is False
    assert is_complete(" \n", "length") is None


def test_real_answers_are_complete_and_their_beginnings_are_not(shared_data):
    answers = [row["answer"] for row in read_jsonl(shared_data / "arena_ru_answers.jsonl")]
    assert sum(map(is_complete, answers)) / len(answers) >= 0.98
    draw = random.Random(0)
    cut = [
        answer[: draw.randrange(len(answer) // 4, len(answer) - 2)].rstrip() for answer in answers if len(answer) > 60
    ]
    cut = [text for text in cut if text[-1].isalpha()]
    assert sum(not is_complete(text) for text in cut) / len(cut) >= 0.9


def test_the_best_replies_of_the_sample_are_complete_and_cut_ones_are_not():
    replies = [row for row in read_jsonl(SAMPLE) if row["role"] == "assistant"]
    found = Counter(row["defect"] for row in replies if is_complete(row["text"]) is False)
    assert found == {"unfinished": 34, "echo": 3, "loop": 1}  # all 34; the others also break off


def test_answers_by_people_are_complete_and_those_cut_by_a_limit_are_not(shared_data):
    """Most human replies found incomplete are whole sentences without a full stop, which no rule tells from a cut."""
    rows = list(read_jsonl(shared_data / "oasst1_en_validation.jsonl"))
    human = [row["text"] for row in rows if row["role"] == "assistant"]
    assert sum(not is_complete(text) for text in human) <= 45
    assert sum(not is_complete(text, "stop") for text in human) <= 3
    cut = [row for row in read_jsonl(shared_data / "lcb_ru_completions.jsonl") if row["model"] != "command-r-base"]
    assert sum(not is_complete(row["completion"]) for row in cut) / len(cut) >= 0.89


@given(st.text())
def test_handles_any_text(text):
    assert is_complete(text) in (True, False, None)
    assert 0 <= repetition(text).repeated_share < 1


@pytest.mark.parametrize("piece", ["напиши ", "(«", "`", "**", "[1]", "1. а\n", "| a ", "[{", "новый "])
@pytest.mark.timeout(30)
def test_judges_long_and_odd_texts_quickly(piece):
    is_complete(piece * 5_000)


def test_decomposed_letters_are_the_same_text():
    text = "Ёж и йод стоят на полке."
    decomposed = unicodedata.normalize("NFD", text)
    assert chrf(decomposed, [text]) == chrf(text, [decomposed]) == 100
    assert corpus_chrf([decomposed], [[text]]) == 100
    assert rouge(decomposed, [text])["rouge1"] == 1
    assert words(decomposed) == words(text)
