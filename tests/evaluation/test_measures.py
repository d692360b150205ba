"""The measures of one answer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preferans.evaluation.measures import MEASURES, measure
from preferans.evaluation.probes import PROBE_MEASURES


def measured(answer: str, prompt: str = "Вопрос?", finish_reason: str | None = "stop", **more) -> dict:
    row = {"prompt": [{"role": "user", "content": prompt}], "answer": answer, "finish_reason": finish_reason}
    return measure(row | more)


def test_measures_of_a_plain_answer():
    assert measured("Да, это так и есть.") == {
        "empty": 0.0,
        "finished": 1.0,
        "complete": 1.0,
        "loops": 0.0,
        "repeated_share": 0.0,
        "distinct_2": 1.0,
        "in_russian": 1.0,
        "known_words": 1.0,
        "intrusion": 0.0,
        "hard_intrusion": 0.0,
        "jargon": 0.0,
        "foreign_word_share": 0.0,
        "template_leak": 0.0,
        "keeps_format": None,
        "chrf": None,
        "rougeL": None,
        "length": 19.0,
    } | dict.fromkeys(PROBE_MEASURES)


def test_an_empty_answer_has_only_a_length_and_an_end():
    found = measured(" \n", finish_reason="length")
    assert {name: value for name, value in found.items() if value is not None} == {
        "empty": 1.0,
        "finished": 0.0,
        "length": 2.0,
    }


def test_measures_of_answers_with_faults():
    assert measured("Вода кипит при ста градусах. " * 4)["loops"] == 1.0
    assert measured("Нам нужно consider все варианты.")["intrusion"] == 1.0
    assert measured("Нам нужно consider все варианты.")["hard_intrusion"] == 0.0
    jargon = measured("Завтра сделаем deploy.")
    assert (jargon["jargon"], jargon["intrusion"], jargon["foreign_word_share"]) == (1.0, 0.0, 0.0)
    assert measured("Нам нужно consider все варианты.")["foreign_word_share"] == pytest.approx(1 / 5)
    assert measured("Мы встали на ногami и пошли.")["hard_intrusion"] == 1.0
    assert measured("Хорошо.<|im_end|>")["template_leak"] == 1.0
    assert measured("Вот почему я думаю, что", finish_reason="length")["complete"] == 0.0
    assert measured("Каша слипляется, и шлапурник молчит.")["known_words"] == pytest.approx(3 / 5)
    assert measured("аж!апØбани")["in_russian"] == 1.0
    assert measured("аж!апØбани")["known_words"] == 0.5
    english = measured("Tea is made with boiling water, of course.")
    assert english["in_russian"] == 0.0
    assert english["intrusion"] is english["known_words"] is None
    listed = "Перечисли два города списком."
    assert measured("- Москва\n- Казань", listed)["keeps_format"] == 1.0
    assert measured("Москва.", listed)["keeps_format"] == 0.0
    assert measured("Да.", finish_reason=None)["finished"] is None


def test_measures_with_references():
    same = measured("Кошки сидели на окнах.", references=["Собака.", "Кошки сидели на окнах."])
    assert same["chrf"] == pytest.approx(100)
    assert same["rougeL"] == pytest.approx(1)
    other = measured("Совсем другое дело.", references=["Кошки сидели на окнах."])
    assert other["chrf"] < 30
    assert other["rougeL"] == 0


@settings(max_examples=60)
@given(answer=st.text(), prompt=st.text(), reply=st.text(min_size=1).filter(str.strip))
def test_any_answer_can_be_measured(answer, prompt, reply):
    for name, value in measured(answer, prompt, references=[reply]).items():
        limit = {"share": 1, "points": 100, "characters": len(answer)}[MEASURES[name].unit]
        assert value is None or 0 <= value <= limit + 1e-9, name
