import os
import signal

import pytest

from preferans.data.persona import load_persona
from preferans.errors import PreferansError
from preferans.people.streaming import Interrupt, interrupts
from preferans.people.streaming import stream_answer as stream_until

from ..support.chats import make_sampler
from ..support.ratings import prompt
from ..support.tiny import ROOT, make_llama, make_parrot


def stream_answer(sampler, messages, name, write):
    return stream_until(sampler, messages, name, write, Interrupt())


@pytest.fixture(scope="module")
def sampler(tiny_llama):
    return make_sampler(tiny_llama)


def test_the_pieces_are_the_answer_that_generate_gives(sampler, tmp_path):
    pieces: list[str] = []
    streamed = stream_answer(sampler, prompt("Вопрос?"), "q", pieces.append)
    (row,) = sampler.answer([{"id": "q", "prompt": prompt("Вопрос?")}], tmp_path / "a.jsonl")
    assert "".join(pieces).strip() == streamed.text == row["answer"]
    assert streamed.finish_reason == row["finish_reason"] == "length"
    assert len(pieces) > 1


def test_another_name_gives_another_answer(sampler):
    texts = {stream_answer(sampler, prompt("Вопрос?"), name, len).text for name in ("0:0", "0:1", "0:2")}
    assert len(texts) == 3


def test_a_model_that_ends_its_answer(tmp_path):
    parrot = make_sampler(make_parrot(tmp_path / "parrot", "Доброе утро!"))
    pieces: list[str] = []
    streamed = stream_answer(parrot, prompt("?"), "q", pieces.append)
    assert (streamed.text, streamed.finish_reason) == ("Доброе утро!", "stop")


def test_another_turn_of_a_base_model_is_cut(tmp_path):
    parrot = make_sampler(make_parrot(tmp_path / "parrot", "Да.\nВопрос: Ещё?"))
    pieces: list[str] = []
    streamed = stream_answer(parrot, prompt("?"), "q", pieces.append)
    assert (streamed.text, streamed.finish_reason) == ("Да.", "stop")
    assert "".join(pieces) == "Да."


def test_empty_lines_at_the_end_are_not_shown(tmp_path):
    parrot = make_sampler(make_parrot(tmp_path / "parrot", "\n Да.\n \n \n"))
    pieces: list[str] = []
    assert stream_answer(parrot, prompt("?"), "q", pieces.append).text == "".join(pieces) == "Да."


def test_thinking_is_not_part_of_the_answer(tmp_path):
    parrot = make_sampler(make_parrot(tmp_path / "parrot", "<think>Хм.</think>Да."))
    assert stream_answer(parrot, prompt("?"), "q", len).text == "Да."


def test_the_base_answers_beside_its_adapter(tiny_llama):
    tuned, plain = make_sampler(tiny_llama, adapter=True), make_sampler(tiny_llama)
    answer = stream_answer(tuned, prompt("Вопрос?"), "q", len).text
    tuned.adapter = None
    base = stream_answer(tuned, prompt("Вопрос?"), "q", len).text
    assert base == stream_answer(plain, prompt("Вопрос?"), "q", len).text != answer


def test_the_persona_is_in_the_prompt(tiny_llama):
    sampler = make_sampler(tiny_llama)
    plain = stream_answer(sampler, prompt("Кто ты?"), "q", len).text
    sampler.persona = load_persona(ROOT / "personas" / "sienna.yaml")
    assert stream_answer(sampler, prompt("Кто ты?"), "q", len).text != plain


def test_old_turns_leave_the_window_and_a_long_question_is_an_error(tmp_path):
    sampler = make_sampler(make_llama(tmp_path / "short"))
    sampler.model.config.max_position_embeddings = 100
    history = [
        message
        for _ in range(5)
        for message in (*prompt("Вопрос " * 6), {"role": "assistant", "content": "Ответ " * 6})
    ]
    streamed = stream_answer(sampler, [*history, *prompt("А?")], "q", len)
    assert 0 < streamed.dropped <= 5
    with pytest.raises(PreferansError, match=r"The message has \d+ tokens, .* more than the 100 positions of base"):
        stream_answer(sampler, prompt("слово " * 200), "q", len)


def test_ctrl_c_stops_the_answer_and_keeps_it(tiny_llama):
    sampler = make_sampler(tiny_llama, max_new_tokens=400)
    pieces: list[str] = []

    def write(piece: str) -> None:
        pieces.append(piece)
        if len(pieces) == 5:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with interrupts() as interrupt:
        streamed = stream_until(sampler, prompt("Вопрос?"), "q", write, interrupt)
    assert streamed.finish_reason == "interrupted"
    assert streamed.text == "".join(pieces).strip()
    assert 5 <= len(pieces) < 50
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_is_not_caught():
    with pytest.raises(KeyboardInterrupt):
        with interrupts() as interrupt:
            os.kill(os.getpid(), signal.SIGINT)
            assert interrupt.pressed
            os.kill(os.getpid(), signal.SIGINT)
