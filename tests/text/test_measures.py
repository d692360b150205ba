import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferans.errors import PreferansError
from preferans.files import read_jsonl
from preferans.text.form_asked import requested_formats
from preferans.text.form_kept import keeps_format, rows_of_table
from preferans.text.language import loops
from preferans.text.measures import (
    chrf,
    chrf_plus_plus,
    corpus_chrf,
    distinct,
    is_complete,
    repetition,
    rouge,
)

WAS, NOW = "Кошки сидели на окнах", "Кошка сидела на окне"


def test_forms_of_one_word_are_one_lemma():
    assert rouge(NOW, [WAS], lemmas=False) == {"rouge1": 0.25, "rouge2": 0.0, "rougeL": 0.25}
    assert rouge(NOW, [WAS]) == {"rouge1": 1.0, "rouge2": 1.0, "rougeL": 1.0}
    assert chrf(NOW, [WAS]) == pytest.approx(34.2, abs=0.05)


def test_the_likest_reference_counts():
    assert rouge("Да.", ["Нет", "Да"])["rouge2"] == 1.0
    assert chrf("Да.", ["Нет.", "Да."]) == 100
    assert corpus_chrf(["Да.", "Нет."], [["Нет.", "Да."], ["Нет."]]) == pytest.approx(100)
    assert "nw:2" in str(chrf_plus_plus().get_signature())


@pytest.mark.parametrize("compare", [chrf, rouge])
def test_nothing_to_compare_with_is_named(compare):
    for references in ([], "Да."):
        with pytest.raises(PreferansError, match="list of one or more texts"):
            compare("Да.", references)


@given(st.text(), st.text())
def test_likeness_of_any_texts_is_in_range(answer, reference):
    assert 0 <= chrf(answer, [reference]) <= 100
    assert all(0 <= value <= 1 for value in rouge(answer, [reference], lemmas=False).values())


@given(st.from_regex(r"[а-яё]{1,9}( [а-яё]{1,9}){0,6}", fullmatch=True))
def test_the_same_cyrillic_text_is_wholly_alike(text):
    assert set(rouge(text, [text]).values()) == set(rouge(text, [text], lemmas=False).values()) == {1.0}


def test_distinct_runs():
    assert distinct("Да, да, нет.", 1) == pytest.approx(2 / 3)
    assert distinct("да нет да нет", 2) == pytest.approx(2 / 3)
    assert distinct("да", 2) is None


def test_a_loop_is_most_of_what_is_said():
    phrase = "вода закипает при ста градусах "
    assert repetition(phrase * 3).loops
    assert repetition(phrase * 3).repeated_share == pytest.approx(7 / 12)  # 12 runs of four words, 5 of them new
    assert repetition("Это он.\nНет.\nЭто он.\nДа.\nЭто он.").loops
    assert repetition("") == (False, 0.0)


def test_a_phrase_used_three_times_in_a_long_answer_is_no_loop():
    different = [
        " ".join(f"{chr(1072 + i)}{chr(1072 + j)}{chr(1072 + k)}" for j in range(5) for k in range(5))
        for i in range(3)
    ]
    text = " вода закипает при ста градусах ".join(["начало", *different]) + " вода закипает при ста градусах"
    assert loops(text)
    assert not repetition(text).loops


def test_lines_of_code_may_repeat():
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
    ],
)
def test_whole_answers(text):
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
    ],
)
def test_cut_answers(text):
    assert is_complete(text) is False


def test_the_finish_reason_counts():
    assert is_complete("Да.", "length") is False
    assert is_complete("Он молод и поэтому не знает жизни") is False
    assert is_complete("Он молод и поэтому не знает жизни", "stop") is True
    assert is_complete("Он молод и", "stop") is False
    assert is_complete(" \n", "length") is None


def test_real_answers_are_whole_and_their_beginnings_are_not(shared_data):
    answers = [row["answer"] for row in read_jsonl(shared_data / "arena_ru_answers.jsonl")]
    assert sum(map(is_complete, answers)) / len(answers) >= 0.98
    draw = random.Random(0)
    cut = [
        answer[: draw.randrange(len(answer) // 4, len(answer) - 2)].rstrip() for answer in answers if len(answer) > 60
    ]
    cut = [text for text in cut if text[-1].isalpha()]
    assert sum(not is_complete(text) for text in cut) / len(cut) >= 0.9
    assert sum(repetition(answer).loops for answer in answers) / len(answers) <= 0.06
    base = [
        row["completion"]
        for row in read_jsonl(shared_data / "lcb_ru_completions.jsonl")
        if row["model"] == "command-r-base"
    ]
    assert sum(repetition(text).loops for text in base) / len(base) >= 0.25


ASKED = {
    "Составь список покупок на неделю.": "list",
    "Дай подробный нумерованный список шагов.": "numbered_list",
    "Можешь составить таблицу с ценами?": "table",
    "Не могли бы вы привести 3 примера?": "items",
    "Ответ представь в виде таблицы.": "table",
    "Сравни два языка в виде таблицы: C и Go.": "table",
    "Ответь в формате JSON.": "json",
    "Ответь строго в JSON.": "json",
    "Напиши функцию на Python, которая сортирует список.": "code",
    "Напиши код, который выводит таблицу умножения.": "code",
    "Расскажи о Москве в 2-3 предложениях.": "sentences",
    "Кратко, не более трёх предложений: что такое инфляция?": "sentences",
    "Опиши погоду одним словом.": "word",
    "Перечисли по пунктам, что взять в поход.": "list",
    "Как похудеть? Ответь списком.": "list",
    "Как сохранить банан свежим: перечисли 5 способов.": "items",
    "Приведи не менее пяти примеров глаголов.": "items",
    "Составь топ-10 фильмов ужасов.": "items",
    "Составь список из 7 городов.": "list items",
    "Переведи эти данные в таблицу: Аня 5, Боря 6.": "table",
    "Переделай этот список в JSON: яблоко, груша.": "json",
    "Не пиши длинно: дай 3 совета.": "items",
    "Дай мне, пожалуйста, краткий список книг.": "list",
    "Хочу увидеть таблицу планет.": "table",
    "Объясни, что такое рекурсия, и напиши пример кода.": "code",
    "Напиши три предложения о весне.": "sentences",
    "В виде списка: что взять на море?": "list",
    "Помоги придумать 3 идеи для нового бизнеса.": "items",
    "Какие инструменты нужны? Только список с маркерами.": "list",
    "НАЗОВИ ПЯТЬ ГОРОДОВ": "items",
}
NOT_ASKED = [
    "Как сделать таблицу в Word?",
    "Что такое JSON?",
    "Как вывести список последних установленных пакетов в Linux Mint?",
    "Чем список отличается от кортежа в Python?",
    "Объясни таблицу умножения.",
    "Расскажи про периодическую таблицу элементов.",
    "Переведи на английский фразу «составь список».",
    "Не составляй список, а напиши связный текст.",
    "Объясни без списков и таблиц, что такое инфляция.",
    "Расскажи о Байкале, но не в виде таблицы.",
    "Расскажи о Байкале, только не списком.",
    "Ответь в двух словах, что такое инфляция.",
    "Одним словом, день не задался. Подбодри меня.",
    "Напиши сказку про трёх поросят.",
    "Напиши рассказ на 500 слов.",
    "Напиши письмо с подробным списком доводов.",
    "У меня есть файл в формате JSON. Почему он не открывается?",
    "Отсортируй список: 3, 1, 2.",
    "Я составил список покупок. Что я забыл?",
    "Напиши программу тренировок на неделю.",
    "Назови код города Казани.",
    "Придумай коммерческое предложение для кафе.",
    "Назови один способ согреться.",
    "Кто попал в список Форбс?",
    "Как одним словом назвать человека, который всё забывает?",
    "Что значит «в одном предложении»?",
    "Мне три года. Расскажи сказку.",
    "Исправь ошибки в трёх предложениях ниже.",
    "Спасибо!",
    "Где хранится таблица маршрутизации?",
    "Объясни, как работает функция с таблицей в Excel.",
    "Поезд едет 5 часов. Назови его скорость.",
    "Дай совет: у меня 3 кота.",
    "Не нужен список, просто расскажи.",
    "Расскажи, почему люди пишут код.",
    "Посоветуй, что подарить 5-летнему ребёнку.",
    "Напиши поздравление коллеге, которому исполнилось 50 лет.",
    "Реши уравнение с двумя неизвестными.",
    "Составь предложение со словом «дом».",
    "Назови столицу Франции.",
    "Напиши эссе о списке Шиндлера.",
    "Опиши, что делает этот код:\n```python\nprint([1, 2])\n```",
]


@pytest.mark.parametrize("prompt", ASKED)
def test_wishes_are_read(prompt):
    assert sorted(request.kind for request in requested_formats(prompt)) == sorted(ASKED[prompt].split())


@pytest.mark.parametrize("prompt", NOT_ASKED)
def test_refusals_and_mentions_are_no_wishes(prompt):
    assert keeps_format(prompt, "Ответ.") is None


@pytest.mark.parametrize(
    ("prompt", "kept", "broken"),
    [
        ("Составь список покупок.", "- хлеб\n- соль", "Хлеб и соль."),
        ("Дай нумерованный список.", "1. Хлеб\n2. Соль", "- хлеб\n- соль"),
        ("Ответь в виде таблицы.", "| а | б |\n|---|---|\n| 1 | 2 |", "а | б"),
        ("Ответь в формате JSON.", 'Вот:\n```json\n{"а": 1}\n```', '{"а": 1'),
        ("Назови 3 города.", "1. Тверь\n   - на Волге\n   - старая\n2. Омск\n3. Орёл", "1. Тверь\n2. Омск"),
        ("Назови 3 города.", "Тверь, Омск и Орёл.", "Тверь и Омск."),
        ("Назови от двух городов.", "- Тверь\n- Омск\n- Орёл", "Тверь."),
        ("Назови не менее двух городов.", "- Тверь\n- Омск\n- Орёл", "Тверь."),
        ("Расскажи о Твери в двух предложениях.", "Она на Волге. Она стара.", "Она на Волге."),
        ("Расскажи о Твери, не более двух предложений.", "Она на Волге.", "Раз. Два. Три."),
        ("Ответь одним словом.", "Тверь.", "Город Тверь."),
        ("Ответь одним словом.", "Кое-что", ""),
        ("Напиши код на Python.", "```python\nprint(1)\n```", "Нужно вывести единицу."),
    ],
)
def test_whether_the_form_is_there(prompt, kept, broken):
    assert keeps_format(prompt, kept) is True
    assert keeps_format(prompt, broken) is False


@given(st.text(), st.text())
def test_any_text_can_be_judged(prompt, answer):
    assert keeps_format(prompt, answer) in (True, False, None)
    assert keeps_format("Составь таблицу. Верни JSON. Назови 5 городов. Ответь в двух предложениях.", answer) in (
        True,
        False,
    )
    assert is_complete(answer) in (True, False, None)
    assert 0 <= repetition(answer).repeated_share < 1


@given(st.recursive(st.booleans() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_any_json_is_json(value):
    text = json.dumps(value, ensure_ascii=False)
    assert keeps_format("Ответь в формате JSON.", text) is isinstance(value, dict | list)


@pytest.mark.parametrize("piece", ["напиши ", "(«", "`", "**", "[1]", "1. а\n", "| a ", "[{", "новый "])
@pytest.mark.timeout(30)
def test_long_and_odd_texts_are_judged_quickly(piece):
    text = piece * 5_000
    keeps_format(text, text)
    keeps_format("Составь таблицу. Назови 5 городов.", text)
    is_complete(text)


@pytest.mark.parametrize("row", ["| 1 ||", "|| 2 |", r"| a \| b | 2 |", r"| 1 | a \||", "1 | 2"])
def test_cells_of_a_table_may_be_empty_or_hold_a_bar(row):
    table = f"| А | Б |\n|---|---|\n{row}"
    assert [len(cells) for cells in rows_of_table(table)] == [2, 2]
    if row.startswith("|"):
        assert is_complete(table)
