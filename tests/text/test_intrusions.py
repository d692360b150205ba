from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preferans.files import read_jsonl
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
    assert confusion("Thank you for your question.", "Translate: Thank you for your question.").in_russian is False
    assert confusion('```json\n{"имя": "Иван", "city": "Пермь"}\n```').in_russian
    assert confusion("Он сказал, що це дуже важно, но мы всё равно пошли домой вечером.").in_russian
    for no_prose in ("", " \n", "42.", "```python\nprint('x')\n```", "🙂"):
        assert confusion(no_prose) == Confusion(None, [], 0, [])


@pytest.mark.parametrize(
    "answer",
    [
        "Вона пішла додому, бо вже було пізно.",
        "Добре, тепер треба шукати воду та дрова.",  # Ukrainian without its letters
        "Для приготування борщу потрібно взяти буряк, капусту та моркву.",
        "Сёння вельмі добрае надвор'е, таму мы пойдзем у парк.",
        "Можете да започнете с кратка разходка всяка сутрин.",
        "За да сварите супата, сложете вода и сол в тенджерата.",
        "Кучето обича да тича в парка с децата.",
        "Главниот град се наоѓа на брегот на големата река.",
        "Она је отишла кући јер је било касно.",
        "Ооба, бул туура жооп.",
        "Алма жана нан сатып алдым.",
        "Бұл кітап маған ұнады.",
        "Бу китап бик яхшы, укып чыгыгыз.",
        "Рәхмәт, бик яхшы.",
        "Энэ ном надад их таалагдсан.",
        "Ус хүнд маш чухал.",
    ],
)
def test_other_languages_in_cyrillic_are_not_russian(answer):
    assert confusion(answer).in_russian is False


@pytest.mark.parametrize(
    "answer",
    [
        "Загуглил, пофиксил баг и задеплоил на прод, профит.",
        "Кварк-глюонная плазма адронизуется при остывании.",
        "Жаворонок-тян кавайно мурлыкнула.",
        "Ась? Чё? Ща, погодь.",
        "Я знаю: это «це» — «цела», «тутло» — «тутч» — «течч» — «тичч» — «тиччч» — «тучитч» — «туччч» — «тутччч» — «тучититч».",
        "Глокая куздра штеко будланула бокра и курдячит бокрёнка.",
    ],
)
def test_unknown_words_alone_are_no_other_language(answer):
    assert confusion(answer).in_russian


def test_words_of_a_requested_language_do_not_intrude():
    answer = "Потому что в нём много exceptions."
    assert intruders_in(answer, "Почему трудно учить английский язык?") == [("exceptions", "en", False)]
    assert intruders_in(answer, "Какие английские слова самые трудные?") == []
    assert confusion("Дякую, все добре, а ти як, друже?", "Ответьте на украинском: как дела?").in_russian is None


@pytest.mark.parametrize(
    ("answer", "words", "jargon"),
    [
        ("Сделайте deploy на staging.", ["deploy", "staging"], True),
        ("Наш product manager всё решит.", ["product", "manager"], True),
        ("Наш manager всё решит.", ["manager"], False),
        ("Наш kind manager всё решит.", ["kind", "manager"], False),  # one ordinary word among neighbours
    ],
)
def test_marks_jargon(answer, words, jargon):
    result = confusion(answer)
    assert [word.word for word in result.intruders] == words
    assert all(word.jargon is jargon for word in result.intruders)
    assert result.intrudes is not jargon
    assert foreign_words(answer, "") == ([] if jargon else words)


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
    assert foreign_words(answer, prompt) == [word.word.lower() for word in result.intruders if not word.jargon]


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


class Counts:
    """Words that are found, and words that are labelled."""

    def __init__(self):
        self.hits = self.false = self.missed = 0

    def add(self, found: list[str], labelled: list[str]) -> None:
        self.hits += (Counter(found) & Counter(labelled)).total()
        self.false += (Counter(found) - Counter(labelled)).total()
        self.missed += (Counter(labelled) - Counter(found)).total()

    @property
    def precision(self) -> float:
        return self.hits / (self.hits + self.false)

    @property
    def recall(self) -> float:
        return self.hits / (self.hits + self.missed)


def test_agrees_with_hand_labels():
    rows = read_jsonl(ROOT / "tests" / "data" / "intrusions_ru.jsonl")
    assert len(rows) >= 250
    intruders, jargon = Counts(), Counts()
    for row in rows:
        found = confusion(row["text"], row["prompt"]).intruders
        intruders.add([word.word for word in found if not word.jargon], row["intruders"])
        jargon.add([word.word for word in found if word.jargon], row.get("jargon", []))
    assert min(intruders.precision, intruders.recall) >= 0.97
    assert jargon.precision == jargon.recall == 1


@pytest.mark.parametrize("file", ["lcb_ru_completions.jsonl", "arena_ru_answers.jsonl"])
def test_agrees_with_labels_of_real_answers(shared_data, file):
    """The labels are the distinct words of an answer. An answer without a label is in Russian and has no such word."""
    labels = {
        row["line"]: row
        for row in read_jsonl(ROOT / "tests" / "data" / "labelled_completions_ru.jsonl")
        if row["file"] == file
    }
    prompts = {row["question_id"]: row["prompt"] for row in read_jsonl(shared_data / "arena_ru_questions.jsonl")}
    counts = Counts()
    found_rate, labelled_rate = [], []
    for line, row in enumerate(read_jsonl(shared_data / file)):
        label = labels.get(line, {"in_russian": True, "intruders": []})
        result = confusion(
            row.get("completion") or row["answer"], row.get("prompt") or prompts.get(row.get("question_id"), "")
        )
        assert bool(result.in_russian) is label["in_russian"]
        if result.in_russian:
            counts.add(sorted({word.word for word in result.intruders if not word.jargon}), label["intruders"])
            found_rate.append(result.intrudes)
            labelled_rate.append(bool(label["intruders"]))
    assert min(counts.precision, counts.recall) >= 0.85
    assert abs(sum(found_rate) - sum(labelled_rate)) <= 0.04 * len(found_rate)
