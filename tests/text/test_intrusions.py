import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preferans.text.intrusions import Confusion, confusion
from preferans.text.language import foreign_words

from ..support.tiny import ROOT


def intruders_in(answer: str, prompt: str = "") -> list[tuple[str, str | None, bool]]:
    return [(word.word, word.language, word.hard) for word in confusion(answer, prompt).intruders]


@pytest.mark.parametrize(
    ("answer", "intruders"),
    [
        ("Мы должны consider все варианты.", [("consider", "en", False)]),
        ("Жир хранится в хumps верблюда.", [("хumps", "mixed", True)]),
        ("Нужно быстрое и正确ное решение.", [("и正确ное", "zh", True)]),
        ("Занимайтесь спортом ひと раз в день.", [("ひと", "ja", True)]),
        ("Возьмите тёплую 옷 и воду.", [("옷", "ko", True)]),
        ("Хватит này паниковать, главное — không спешить.", [("này", "vi", False), ("không", "vi", False)]),
        ("Кошка hungry và сердита.", [("hungry", "en", False), ("và", "vi", False)]),
        ("Это решение muy importante.", [("muy", "es", False), ("importante", "es", False)]),
        ("Это совершенно nicht schwierig.", [("nicht", "de", False), ("schwierig", "de", False)]),
        ("Он хотел, щоб все были дома, і ушёл.", [("щоб", "uk", False), ("і", "uk", False)]),
        ("Будьте осторожны, защото скользко.", [("защото", "bg", False)]),
        ("Понадобится рис және мясо.", [("және", "kk", False)]),
        ("Купите хороший χάρτης города.", [("χάρτης", "el", True)]),
        ("Sure! Вот ответ.", [("Sure", "en", False)]),
        ("Страна (country) имеет границы.", [("country", "en", False)]),
    ],
)
def test_finds_intruders_and_their_languages(answer, intruders):
    assert intruders_in(answer) == intruders


@pytest.mark.parametrize(
    "answer",
    [
        "Запустите `make all`, затем:\n```sh\nmake the world\n```\nи ждите.",
        "Смотрите https://example.com/some-page и пишите на help@example.com.",
        "По формуле $E = mc^2$ и \\(\\frac{a}{b}\\) выходит H2SO4.",
        "Toyota Sienna, iPhone, Wi-Fi, USB-C, Python 3.11, NASA, XIV век, 5 km, 144 Hz.",
        "Машинное обучение (machine learning) и андеррайтинг (англ. underwriting).",
        "Кошка (Felis catus) и бактерия E. coli — живые существа.",
        "Слово «serendipity» и группа The Beatles.",
        "IT-компания прислала SMSку о «зáмке» Людовика ХІV.",
        "Газета «Коммерсантъ» писала об объезде.",
        "Угол α равен Δt.",
        "Наберите df -h, задайте flex-direction: column и атрибут target со значением _blank.",
    ],
)
def test_ignores_what_is_not_an_intrusion(answer):
    assert intruders_in(answer) == []


def test_accepts_words_of_the_prompt_and_of_a_requested_language():
    assert intruders_in("Делаем deploy и then идём домой.", "Как сделать deploy?") == [("then", "en", False)]
    assert intruders_in("Так: thank you very much.", "Как это сказать по-английски?") == []
    assert confusion("Thank you very much.", "Переведи на английский: большое спасибо").in_russian is None
    assert confusion("Thank you very much.", "Как дела?").in_russian is False


def test_marks_a_gloss():
    marks = {word.word: word.gloss for word in confusion("Линия (line) есть very simple вещь.").intruders}
    assert marks == {"line": True, "very": False, "simple": False}


def test_decides_whether_the_answer_is_in_russian():
    assert confusion("Откройте Microsoft Excel, затем Google Chrome и Visual Studio Code.").in_russian
    assert confusion("Here is the answer: всё хорошо.").in_russian is False
    assert confusion("Сьогодні дуже гарна погода, і ми йдемо до парку, щоб погуляти.").in_russian is False
    assert confusion("Моля, кажете ми къде се намира хотелът, защото не го виждам.").in_russian is False
    assert confusion("我喜欢苹果。").in_russian is False
    for no_prose in ("", " \n", "42.", "```python\nprint('x')\n```", "🙂"):
        assert confusion(no_prose) == Confusion(None, [], 0, [])


@pytest.mark.parametrize(
    ("answer", "leaks"),
    [
        ("Столица — Париж.<|im_end|>", ["<|im_end|>"]),
        ("Да.<end_of_turn>\n<start_of_turn>", ["<end_of_turn>", "<start_of_turn>"]),
        ("[INST] Привет! [/INST] Да.", ["[INST]", "[/INST]"]),
        ("### Response:\nДа.", ["### Response:"]),
        ("Двенадцать лет.assistant\n\nДа!assistant", ["assistant", "assistant"]),
        ("Да.\nassistant\nНет.", ["assistant"]),
        ("Этого хватит. assistant: Что ещё?", ["assistant:"]),
        ("Токен `<|im_end|>` закрывает реплику.", []),
        ("Приложение Google Assistant установлено.", []),
    ],
)
def test_lists_leaked_template_tokens_separately(answer, leaks):
    result = confusion(answer)
    assert result.leaks == leaks
    assert result.intruders == []


def test_a_token_of_the_prompt_is_not_a_leak():
    assert confusion("Токен <|im_end|> закрывает реплику.", "Что значит <|im_end|>?").leaks == []


LETTERS = st.one_of(st.characters(), st.sampled_from("абвґіїъabcIxéñ能 ()«»\"'`$-_.\n#<>|/"))


@settings(max_examples=200)
@given(st.text(alphabet=LETTERS), st.text(alphabet=LETTERS, max_size=20))
def test_handles_any_text(answer, prompt):
    result = confusion(answer, prompt)
    end = 0
    for word in result.intruders:
        assert word.start >= end
        assert answer[word.start : word.end] == word.word != ""
        end = word.end
    assert len(result.intruders) <= result.words
    assert confusion(answer, answer).intruders == []
    assert foreign_words(answer, prompt) == [word.word.lower() for word in result.intruders]


@settings(max_examples=100)
@given(
    st.lists(st.sampled_from(["и", "дом", "Москва", "обычно", "подъезд", "ёж", "кое-что"]), min_size=1, max_size=30)
)
def test_russian_words_never_intrude(words):
    result = confusion(" ".join(words))
    assert result == Confusion(True, [], len(words), [])


@pytest.mark.parametrize("piece", ["a", "a_", "a ", "a-", "$ a", "(a", '"a ', "<a", "{a", "[ː", "да yes "])
def test_needs_linear_time(piece):
    confusion(piece * 20_000)  # would take minutes in quadratic time


def test_agrees_with_hand_labels():
    lines = (ROOT / "tests" / "data" / "intrusions_ru.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) >= 150
    hits = false = missed = 0
    for row in rows:
        words = Counter(word.word for word in confusion(row["text"], row["prompt"]).intruders)
        labels = Counter(row["intruders"])
        hits += (words & labels).total()
        false += (words - labels).total()
        missed += (labels - words).total()
    assert hits / (hits + false) >= 0.95
    assert hits / (hits + missed) >= 0.95
