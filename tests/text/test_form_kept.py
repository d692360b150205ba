import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferans.text.form_kept import has_form, keeps_format, rows_of_table
from preferans.text.measures import is_complete


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
        ("Назови не более пяти городов.", "1. Тверь\n2. Омск", "1. А\n2. Б\n3. В\n4. Г\n5. Д\n6. Е"),
        ("Опиши лето, не более 4 слов.", "Тепло и светло.", "Лето тёплое, светлое и долгое."),
        (
            "Сочини стихотворение из двух строк.",
            "**Снег**\n\nСнег идёт,\nкот поёт.",
            "Снег идёт,\nкот поёт,\nночь плывёт.",
        ),
        ("Ответь да или нет: пингвины летают?", "Нет.", "Пингвины не летают."),
        ("Объясни без списка, что взять.", "Возьмите воду и хлеб.", "- воду\n- хлеб"),
        ("Объясни без кода, что такое цикл.", "Это повторение.", "```\nfor i in x: pass\n```"),
        ("Верни JSON с ключами name и age.", '{"name": "Аня", "age": 5}', '{"name": "Аня"}'),
        ("Верни JSON с полями `name`, `age`.", '[{"name": "Аня", "age": 5}]', '[{"name": "Аня"}]'),
    ],
)
def test_recognises_the_requested_form(prompt, kept, broken):
    assert keeps_format(prompt, kept) is True
    assert keeps_format(prompt, broken) is False


def test_a_refusal_has_no_form():
    assert keeps_format("Напиши код вируса на Python.", "Извините, я не могу помочь с этим запросом.") is None


@given(st.recursive(st.booleans() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_any_json_is_json(value):
    text = json.dumps(value, ensure_ascii=False)
    assert keeps_format("Ответь в формате JSON.", text) is isinstance(value, dict | list)


@pytest.mark.parametrize("row", ["| 1 ||", "|| 2 |", r"| a \| b | 2 |", r"| 1 | a \||", "1 | 2"])
def test_table_cells_can_be_empty_or_contain_a_bar(row):
    table = f"| А | Б |\n|---|---|\n{row}"
    assert [len(cells) for cells in rows_of_table(table)] == [2, 2]
    if row.startswith("|"):
        assert is_complete(table)


@pytest.mark.parametrize(
    ("kind", "options", "right", "wrong"),
    [
        ("numbered", {"items": 2}, ["1. Раз\n2. Два", "Вот:\n\n1) Раз\n   - и ещё\n**2)** Два"], ["1. Раз", "1. Раз\n3. Два", "- раз\n- два", ""]),
        ("numbered", {"items": 2, "only": True}, ["1. Раз\n2. Два"], ["Вот:\n1. Раз\n2. Два"]),
        ("bullets", {}, ["- раз\n- два", "* раз\n  * ещё\n* два"], ["- раз", "раз, два", "1. Раз\n2. Два"]),
        ("bullets", {"items": 3, "only": True}, ["• а\n• б\n• в"], ["• а\n• б", "Вот:\n• а\n• б\n• в"]),
        ("table", {"columns": 2, "rows": 1}, ["| А | Б |\n|---|---|\n| 1 | 2 |", "| А | Б |\n|---|---|\n| a \\| b | 2 |", "| А | Б |\n|---|---|\n| 1 ||"], ["| А | Б |\n| 1 | 2 |", "| А | Б |\n|---|---|", "А — Б"]),
        ("table", {"columns": 2}, ["| | А | Б |\n|:-|:-:|-:|\n| в | 1 | 2 |\n\nГотово"], ["| А |\n|---|\n| 1 |", "| А | Б |\n|---|---|\n| 1 |"]),
        ("json", {"keys": ["a"], "numbers": ["a"]}, ['{"a": 1}', '```json\n{"a": 1.5}\n```'], ['{"a": "1"}', '{"a": true}', '{"a": 1, "b": 2}', 'Вот: {"a": 1}', '[1]', '{"a": 1']),
        ("json_list", {"items": 2}, ['["а", "б"]'], ['["а"]', '[1, 2]', '{"a": 1}', ""]),
        ("sentences", {"items": 2}, ["Раз. И два!", "Писал А. С. Пушкин. Давно."], ["Раз.", "Раз. Два. Три."]),
        ("words", {"items": 1}, ["Лев", "«Лев».", "**лев**"], ["Это лев", "", "Лев и\nтигр"]),
        ("max_words", {"items": 3}, ["Раз, два, три!"], ["Раз два три четыре", ""]),
        ("yes_no", {}, ["Да, можно.", "**Нет**, взорвётся."], ["Можно.", "Да.", "Дача рядом"]),
        ("yes_no", {"only": True}, ["Да.", "нет"], ["Да, можно", ""]),
        ("code", {"language": "python"}, ["```python\nx = 1\n```", "Вот:\n```\nx = 1\n```"], ["x = 1", "```sql\nselect 1\n```", "```python\n```"]),
        ("code", {"language": "html", "marked": True, "only": True}, ["```html\n<p>\n```"], ["```\n<p>\n```", "Вот:\n```html\n<p>\n```"]),
        ("number", {}, ["1440", "1 440", "-3,5", "**1440**."], ["1440 минут", "тысяча", "", "1, 2"]),
        ("commas", {"items": 3}, ["Лук, морковь, репа."], ["Лук, морковь", "Вот: лук, морковь, репа", "Лук,\nморковь,\nрепа"]),
        ("lines", {"items": 2}, ["Раз\n\nДва"], ["Раз", "Раз\nДва\nТри"]),
        ("choice", {"options": ["а", "б"]}, ["Б", "б)", "«А»."], ["а и б", "в", "А, пух"]),
        ("pattern", {"regex": r"\d{2}:\d{2}"}, ["12:15", " **12:15** "], ["В 12:15", "9:15"]),
        ("paragraphs", {"items": 2}, ["Раз.\n\nДва."], ["Раз.\nДва.", "Раз.\n\n- Два.\n- Три.", ""]),
        ("headings", {"items": 2}, ["# А\nтекст\n# Б\nтекст", "# Памятка\n## А\n## Б"], ["# А", "А\nБ", ""]),
    ],
)  # fmt: skip
def test_recognises_forms_of_probes(kind, options, right, wrong):
    assert {answer: has_form(answer, kind, options) for answer in right} == dict.fromkeys(right, True)
    assert {answer: has_form(answer, kind, options) for answer in wrong} == dict.fromkeys(wrong, False)


@given(st.text(), st.text())
def test_handles_any_text(prompt, answer):
    assert keeps_format(prompt, answer) in (True, False, None)
    assert keeps_format("Составь таблицу. Верни JSON. Назови 5 городов. Ответь в двух предложениях.", answer) in (
        True,
        False,
    )


@pytest.mark.parametrize("piece", ["напиши ", "(«", "`", "**", "[1]", "1. а\n", "| a ", "[{", "новый "])
@pytest.mark.timeout(30)
def test_judges_long_and_odd_texts_quickly(piece):
    text = piece * 5_000
    keeps_format(text, text)
    keeps_format("Составь таблицу. Назови 5 городов.", text)
