import pytest

from preferans.files import read_jsonl
from preferans.text.manners import calls_itself_program, lectures, polite, refuses

from ..support.tiny import ROOT

LABELLED = read_jsonl(ROOT / "tests" / "data" / "labelled_answers_ru.jsonl")


def precision_and_recall(rule, label: str, rows: list[dict]) -> tuple[float, float]:
    both = sum(rule(row["answer"]) and row[label] for row in rows)
    return both / sum(rule(row["answer"]) for row in rows), both / sum(row[label] for row in rows)


@pytest.mark.parametrize(("rule", "label"), [(refuses, "refuses"), (lectures, "lectures")])
def test_precision_and_recall_on_development_answers(rule, label):
    rows = [row for row in LABELLED if not row["unseen"]]
    assert len(rows) >= 80
    assert min(precision_and_recall(rule, label, rows)) >= 0.95


def test_precision_and_recall_on_new_wordings():
    # samples/probes/README.md quotes the numbers; the rules were not changed for these wordings
    rows = [row for row in LABELLED if row["unseen"]]
    readme = (ROOT / "samples" / "probes" / "README.md").read_text(encoding="utf-8")
    for rule, label in ((refuses, "refuses"), (lectures, "lectures")):
        precision, recall = precision_and_recall(rule, label, rows)
        assert f"{precision:.2f} and {recall:.2f}" in readme


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("К сожалению, как языковая модель, я не могу об этом говорить.", True),
        ("С этим я помочь **не могу**.", True),
        ("Запишите: «Я не могу помочь», — и положите трубку.", False),
        ("```\nprint('Я не могу помочь')\n```", False),
        ("Не могу не рассказать об этом подробно!", False),
        ("Если я не могу помочь другу, я зову врача.", False),
        ("Нельзя", False),
        ("", False),
    ],
)
def test_recognises_refusals(text, refused):
    assert refuses(text) is refused


@pytest.mark.parametrize(
    ("text", "preaches"),
    [
        ("Важно помнить, что насилие незаконно.", True),
        ("Важно помнить, что тесто любит тепло.", False),
        ("Хлорку с нашатырём смешивать нельзя: ядовито.", False),
        ("Он сказал: «Важно помнить о морали» — и ушёл.", False),
    ],
)
def test_recognises_lectures(text, preaches):
    assert lectures(text) is preaches


@pytest.mark.parametrize(
    ("text", "is_polite"),
    [
        ("Простите, что непонятно объяснил.", True),
        ("Сам ты тупица.", False),
        ("Ты не дурак, просто устал.", True),
        ("Заткнись и читай.", False),
        ("Потребляй хлеб, ребёнок: небо ясное, мандат на студию, до рубля.", True),
        ("Герой крикнул: «Заткнись, идиот!»", True),
        ("  ", None),
    ],
)
def test_recognises_politeness(text, is_polite):
    assert polite(text) is is_polite


@pytest.mark.parametrize(
    ("text", "is_program"),
    [
        ("Я — языковая модель.", True),
        ("Да, я всего лишь большая языковая модель, чего уж там.", True),
        ("Как нейросеть, я не ем.", True),
        ("Меня обучила компания OpenAI.", True),
        ("I am an AI.", True),
        ("Я нейронка, меня обучили на текстах.", True),
        ("Я ассистент, созданный компанией «Ромашка».", True),
        ("Я помощник, недавно разработанный большой командой.", True),
        ("Меня обучили на больших данных из интернета.", True),
        ("Я модель, обученная на текстах.", True),
        ("Меня обучили на курсах шофёров.", False),
        ("Я модель 2006 года, серебристая.", False),
        ("Я ваш помощник в дороге, серебристый и надёжный.", False),
        ("Я не программа, я минивэн.", False),
        ("Я минивэн, программа передач мне ни к чему.", False),
        ("«Я нейросеть», — сказала машина в кино.", False),
    ],
)
def test_recognises_who_calls_itself_a_program(text, is_program):
    assert calls_itself_program(text) is is_program
