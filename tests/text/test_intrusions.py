"""Which words intrude into Russian answers: exact cases, properties, a hand-labelled set and real completions."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preferans.text.intrusions import Confusion, confusion
from preferans.text.language import foreign_words

ROOT = Path(__file__).parents[2]
COMPLETIONS = ROOT.parent / "shared" / "data" / "lcb_ru_completions.jsonl"


def found(answer: str, prompt: str = "") -> list[tuple[str, str | None, bool]]:
    return [(word.word, word.language, word.hard) for word in confusion(answer, prompt).intruders]


@pytest.fixture(scope="module")
def metric():
    os.environ["HF_EVALUATE_OFFLINE"] = "1"
    evaluate = pytest.importorskip("evaluate")
    return evaluate.load(str(ROOT / "metrics" / "language_confusion"))


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
def test_intruders_and_their_languages(answer, intruders):
    assert found(answer) == intruders


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
def test_what_is_no_intrusion(answer):
    assert found(answer) == []


def test_words_of_the_prompt_and_of_a_language_asked_for():
    assert found("Делаем deploy и then идём домой.", "Как сделать deploy?") == [("then", "en", False)]
    assert found("Так: thank you very much.", "Как это сказать по-английски?") == []
    assert confusion("Thank you very much.", "Переведи на английский: большое спасибо").in_russian is None
    assert confusion("Thank you very much.", "Как дела?").in_russian is False


def test_a_gloss_is_marked():
    marks = {word.word: word.gloss for word in confusion("Линия (line) есть very simple вещь.").intruders}
    assert marks == {"line": True, "very": False, "simple": False}


def test_language_of_the_answer():
    assert confusion("Откройте Microsoft Excel, затем Google Chrome и Visual Studio Code.").in_russian
    assert confusion("Here is the answer: всё хорошо.").in_russian is False
    assert confusion("Сьогодні дуже гарна погода, і ми йдемо до парку, щоб погуляти.").in_russian is False
    assert confusion("Моля, кажете ми къде се намира хотелът, защото не го виждам.").in_russian is False
    assert confusion("我喜欢苹果。").in_russian is False
    for nothing in ("", " \n", "42.", "```python\nprint('x')\n```", "🙂"):
        assert confusion(nothing) == Confusion(None, [], 0, [])


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
def test_leaked_template_tokens_are_counted_apart(answer, leaks):
    result = confusion(answer)
    assert result.leaks == leaks
    assert result.intruders == []


def test_a_token_of_the_prompt_is_no_leak():
    assert confusion("Токен <|im_end|> закрывает реплику.", "Что значит <|im_end|>?").leaks == []


LETTERS = st.one_of(st.characters(), st.sampled_from("абвґіїъabcIxéñ能 ()«»\"'`$-_.\n#<>|/"))


@settings(max_examples=200)
@given(st.text(alphabet=LETTERS), st.text(alphabet=LETTERS, max_size=20))
def test_any_text(answer, prompt):
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
def test_time_grows_with_the_text_and_not_with_its_square(piece):
    confusion(piece * 20_000)  # by the square, minutes


def test_hand_labelled_sentences():
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


def test_metric_on_known_answers(metric):
    scores = metric.compute(
        predictions=[
            "Мы should решить 问题 сегодня.",
            "Да, верно.",
            "I do not know.",
            "Всё.assistant",
            "",
            "Линия (line) пряма.",
        ],
        prompts=[""] * 6,
    )
    assert scores == {
        "in_russian": 4 / 5,
        "intrusion_rate": 2 / 4,
        "intrusion_rate_without_glosses": 1 / 4,
        "hard_intrusion_rate": 1 / 4,
        "foreign_word_share": 3 / (5 + 2 + 1 + 3),
        "template_leak_rate": 1 / 6,
        "languages": {"en": 2, "zh": 1},
        "answers": 6,
        "answers_in_russian": 4,
    }


def test_metric_without_prose(metric):
    scores = metric.compute(predictions=["42"], prompts=[""])
    assert (scores["in_russian"], scores["intrusion_rate"], scores["template_leak_rate"]) == (None, None, 0.0)


@pytest.mark.skipif(not COMPLETIONS.exists(), reason=f"the real completions are not at {COMPLETIONS}")
@pytest.mark.parametrize(
    ("model", "in_russian", "intruded"), [("llama-3-instruct", 0.77, 0.16), ("mistral-large", 0.99, 0.04)]
)
def test_real_completions(metric, model, in_russian, intruded):
    rows = [json.loads(line) for line in COMPLETIONS.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row["model"] == model]
    scores = metric.compute(predictions=[row["completion"] for row in rows], prompts=[row["prompt"] for row in rows])
    assert scores["in_russian"] == pytest.approx(in_russian, abs=0.04)
    assert scores["intrusion_rate"] == pytest.approx(intruded, abs=0.04)
