import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferans.data.sampled import SAMPLE_DROP_REASONS, tidy_sample

QUESTION = "Почему небо днём голубое?"


def sample(text: str, finish_reason: str = "stop") -> dict:
    return {"answer": text, "prompt": [{"role": "user", "content": QUESTION}], "finish_reason": finish_reason}


@pytest.mark.parametrize(
    ("answer", "text", "events"),
    [
        (sample(" Из-за рассеяния. "), "Из-за рассеяния.", []),
        (sample("Из-за рассе", "length"), "Из-за", ["word_cut"]),
        (sample("Это «рассе", "length"), "Это", ["word_cut"]),
        (sample("Рассеяние.", "length"), "Рассеяние.", []),
        (sample("Рассе", "length"), "Рассе", []),
        (sample(f"{QUESTION} Рассеяние."), "Рассеяние.", ["echo_cut"]),
        (sample(f"Вопрос: {QUESTION}\nОтвет: Рассеяние."), "Рассеяние.", ["echo_cut"]),
        (sample("Рассеяние.\nВопрос: А ночью?\nОтвет: Тем", "length"), "Рассеяние.", ["turn_cut"]),
        (sample(QUESTION), None, ["echo_cut", "only_echo"]),
        (sample(""), None, ["empty"]),
        (sample("…\n—"), None, ["empty"]),
        (sample("", "length") | {"thinking": True}, None, ["only_thinking"]),
        (sample("Хороший ответ."), None, ["equal"]),
        (sample(f"{QUESTION} Хороший ответ."), None, ["echo_cut", "equal"]),
    ],
)
def test_tidies_or_drops_a_sample(answer, text, events):
    assert tidy_sample(answer, "Хороший ответ.") == (text, events)


@given(st.text(), st.sampled_from(["stop", "length"]))
def test_every_sample_is_used_or_counted(text, finish_reason):
    tidied, events = tidy_sample(sample(text, finish_reason), "Хороший ответ.")
    assert (tidied is None) == (bool(events) and events[-1] in SAMPLE_DROP_REASONS)
    assert tidied is None or (tidied.strip() and tidied in text)
