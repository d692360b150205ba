import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferans.files import read_jsonl
from preferans.text.language import (
    cyrillic_share,
    foreign_words,
    is_prose_russian,
    is_russian,
    loops,
    without_assistant_name,
    words,
)

from ..support.tiny import SAMPLE


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


@pytest.mark.parametrize(
    "text",
    [
        "ха" * 200,
        "ха " * 40,
        "0" * 500,
        "1, 2, 3, " * 20,
        "😀" * 50,
        "👩‍🚀" * 50,
        "!" * 300,
        "1\n" * 40,
        "Снег идёт на город. " * 12,
        "вода закипает при ста градусах " * 4,
        "".join(f"{i}. Купить дом у моря.\n" for i in range(1, 9)) + "9",
        "Вопрос:\nОтвет:\n" * 6,
        "```python\nprint(1)\n```\n" * 8,
    ],
)
def test_recognises_loops(text):
    assert loops(text)
    assert loops("Сначала модель отвечает по делу.\n\n" + text)


def test_two_copies_are_a_loop_only_if_they_are_nearly_the_whole_text():
    phrase = "Вода закипает при ста градусах. Пар поднимается к потолку. "
    assert loops(phrase * 2)
    assert not loops("Сначала модель отвечает. " + phrase * 2)
    assert loops("Сначала модель отвечает. " + phrase * 2 + phrase[:31])
    assert not loops(
        "Сначала модель отвечает подробно, по делу и без ошибок, как и просили. " + phrase * 2 + phrase[:31]
    )


def test_recognises_a_loop_at_the_end_of_a_long_text():
    text = " ".join(f"Слово{i} стоит на месте номер {i}." for i in range(300))
    assert not loops(text)
    assert loops(text + " Снег идёт на город." * 12)
    assert loops(text + " ха" * 200)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1.\n2.\n3.\n",
        "вода закипает при ста градусах " * 2,
        "Ха-ха-ха! Нет, нет, нет!",
        "Но-о-о-о-о! Ура! Ура! Ура! Ура!",
        "Это он.\nНет.\nЭто он.\nДа.\nЭто он.",
        # a song with a refrain
        "\n\n".join(
            f"{verse}\n\nОй, мороз, мороз,\nНе морозь меня,\nНе морозь меня,\nМоего коня."
            for verse in ("Еду я домой", "Ждёт меня жена", "Конь мой белогривый")
        ),
        "\n".join(
            f"- {name}: есть бесплатная версия с ограничениями и платная версия без них." for name in "АБВГДЕЖЗ"
        ),
        "Кот:\n" + " /\\_/\\ \n( o.o )\n > ^ < \n" * 3 + "-" * 80,
        "🟩🟩🟩🟩🟩🟩🟩🟩\n" * 8,
        "1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1",
        "0 0 0 0 0 0\n" * 6,
        "| Город | Есть |\n| --- | --- |\n" + "| да | да |\n" * 20,
        "```\n" + "ноль\n" * 50 + "```",
        "Первый блок цепочки начинается с адреса "
        + "0" * 64
        + ", потому что до него блоков не было. Каждый следующий блок хранит отпечаток того, который стоит перед ним, и"
        " поэтому изменить старую запись нельзя: изменятся отпечатки всех блоков после неё.",
        "Адрес: ______________________________________\nИмя: ______________________________________",
    ],
)
def test_refrains_lists_drawings_and_tables_are_not_loops(text):
    assert not loops(text)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("piece", ["а", "напиши ", "1. а\n", "| a ", "```\n", "а б а в\n"])
def test_finds_loops_in_long_texts_quickly(piece):
    loops(piece * 20_000)


def test_loops_in_the_sample():
    """Only rejected replies with the defect "loop" are found: 15 of 32; the others repeat a passage once or twice, which is no loop yet."""
    found = [row["defect"] for row in read_jsonl(SAMPLE) if row["role"] == "assistant" and loops(row["text"])]
    assert found == ["loop"] * 15


def test_loops_in_real_answers(shared_data):
    """Flagged answers were read: those of the base model are loops, and one human reply is a drawing in words that repeats a row."""
    human = [
        row["text"] for row in read_jsonl(shared_data / "oasst1_en_validation.jsonl") if row["role"] == "assistant"
    ]
    good = [row["answer"] for row in read_jsonl(shared_data / "arena_ru_answers.jsonl")]
    base = {"command-r-base": [], "gpt-3.5-turbo": [], "llama-3-instruct": [], "mistral-large": []}
    for row in read_jsonl(shared_data / "lcb_ru_completions.jsonl"):
        base[row["model"]].append(row["completion"])
    assert (len(human), sum(map(loops, human)), sum(map(loops, good))) == (1243, 1, 0)
    assert [sum(map(loops, texts)) for texts in base.values()] == [14, 0, 0, 0]


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
