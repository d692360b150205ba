import dataclasses
import json
import os
import signal

import pytest

from preferans.data.persona import load_persona
from preferans.data.ratings import VotingRule, build_rating_pairs, read_ratings
from preferans.errors import PreferansError
from preferans.files import read_json
from preferans.models.load_samplers import with_base
from preferans.people.chat import COMMANDS, next_free
from preferans.people.chat_history import ChatHistory
from preferans.people.streaming import StreamedAnswer

from ..support.chats import chat, make_sampler
from ..support.tiny import ROOT


@pytest.fixture(scope="module")
def base(tiny_llama):
    return make_sampler(tiny_llama)


@pytest.fixture(scope="module")
def tuned(tiny_llama):
    return make_sampler(tiny_llama, adapter=True)


def contents(talk) -> list[str]:
    return [message["content"] for message in talk.history.messages]


def test_a_conversation_is_kept_and_saved_after_every_answer(base, tmp_path):
    talk = chat([base], tmp_path, "Как?", "", "А ещё?")
    assert [message["role"] for message in talk.history.messages] == ["user", "assistant"] * 2
    assert contents(talk)[::2] == ["Как?", "А ещё?"]
    assert contents(talk)[1::2] == [text.strip() for _, text in talk.screen.answers]
    saved = read_json(tmp_path / "chats" / "chat.json")
    assert saved["messages"] == talk.history.messages
    assert (saved["models"], saved["sampling"]["seed"], saved["persona"]) == (["base"], 7, None)
    assert "--load" in talk.screen.notices[-1]


def test_a_loaded_conversation_is_remembered(base, tmp_path):
    together = chat([base], tmp_path / "a", "Как?", "А ещё?")
    first = chat([base], tmp_path / "b", "Как?")
    path = tmp_path / "b" / "chats" / "chat.json"
    second = chat([base], tmp_path / "c", f"/load {path}", "А ещё?")
    assert contents(second) == contents(together)
    assert second.screen.notices[1] == "Продолжается разговор, в котором 1 вопрос с ответом."
    assert [text for _, text in second.screen.answers[:2]] == contents(first)
    assert read_json(path)["messages"] == together.history.messages
    # without the first turn, the same question has another answer
    assert contents(chat([base], tmp_path / "d", "А ещё?"))[1] != contents(together)[3]


def test_undo_and_retry(base, tmp_path):
    talk = chat([base], tmp_path, "Как?", "А ещё?", "/undo", "/retry")
    assert contents(talk)[0] == "Как?" and len(talk.history.messages) == 2
    first, _, again = (text.strip() for _, text in talk.screen.answers)
    assert contents(talk)[1] == again != first
    assert "Убран вопрос «А ещё?» и ответ на него." in talk.screen.notices
    assert contents(chat([base], tmp_path, "Как?", "/undo")) == []
    twice = chat([base], tmp_path, "Как?", "/retry", "/retry")
    assert len({text for _, text in twice.screen.answers}) == 3


def test_the_instruction_reaches_the_model(base, tmp_path):
    plain, told = chat([base], tmp_path, "Как?"), chat([base], tmp_path, "/system Отвечай стихами.", "Как?")
    assert contents(plain)[1] != contents(told)[1]
    assert read_json(tmp_path / "chats" / "chat.json")["system"] == "Отвечай стихами."
    removed = chat([base], tmp_path, "/system Отвечай стихами.", "/system", "Как?")
    assert contents(removed) == contents(plain)


def test_ratings_of_single_answers_make_a_pair(base, tmp_path):
    talk = chat([base], tmp_path, "Как?", "/bad", "/retry", "/good")
    rows = read_ratings([tmp_path / "ratings.jsonl"])
    assert [list(row["thumbs"].values()) for row in rows] == [["down"], ["up"]]
    pairs, _ = build_rating_pairs(rows, VotingRule())
    (pair,) = pairs.to_dicts()
    assert pair["rejected"][0]["content"] == talk.screen.answers[0][1].strip()
    assert pair["chosen"][0]["content"] == talk.screen.answers[1][1].strip() == contents(talk)[1]
    assert talk.screen.notices[-1].startswith("Дальше: python data_builders/ratings_ru.py --source")


def test_compare_is_blind_until_the_rating(tuned, tmp_path):
    systems = with_base([tuned])
    assert [system.adapter for system in systems] == ["default", None]
    talk = chat(systems, tmp_path, "Как?", "/compare Почему?", "/good 2")
    (_, _), (one, first), (two, second) = talk.screen.answers
    assert (one, two) == ("1", "2") and first != second
    assert contents(talk)[2:] == ["Почему?", second.strip()]
    (row,) = read_ratings([tmp_path / "ratings.jsonl"])
    assert row["verdict"] == row["answers"][1]["id"] and row["answers"][1]["text"] == second.strip()
    assert {answer["model"] for answer in row["answers"]} == {system.label for system in systems}
    assert [message["content"] for message in row["prompt"]] == [*contents(talk)[:2], "Почему?"]
    named = f"1: {row['answers'][0]['model']}; 2: {row['answers'][1]['model']}"
    assert named in talk.screen.notices
    before = talk.screen.notices[: talk.screen.notices.index(named)]
    assert not any(systems[1].label in notice for notice in before)


def test_both_answers_may_be_good_or_bad(tuned, tmp_path):
    chat(with_base([tuned]), tmp_path, "/compare Как?", "/good", "/compare Как?", "/bad", "/compare Зачем?", "/bad 1")
    rows = read_ratings([tmp_path / "ratings.jsonl"])
    assert [row["verdict"] for row in rows] == ["tie", "tie", rows[2]["answers"][1]["id"]]
    assert [set((row.get("thumbs") or {}).values()) for row in rows] == [{"up"}, {"down"}, set()]


def test_compare_repeats_the_last_question(tuned, tmp_path):
    talk = chat(with_base([tuned]), tmp_path, "Как?", "/compare")
    assert contents(talk)[0] == "Как?" and len(talk.history.messages) == 2
    labels = [label for label, _ in talk.screen.answers]
    assert labels == ["tuned", "1", "2"]


def test_ratings_do_not_contain_the_persona(tiny_llama, tmp_path):
    sampler = make_sampler(tiny_llama)
    sampler.persona = load_persona(ROOT / "personas" / "sienna.yaml")
    chat([sampler], tmp_path, "Кто ты?", "/good")
    assert "Сиенна" not in (tmp_path / "ratings.jsonl").read_text(encoding="utf-8")
    assert read_json(tmp_path / "chats" / "chat.json")["persona"] == "sienna"


def test_ctrl_c_keeps_the_conversation(tiny_llama, tmp_path, monkeypatch):
    sampler = make_sampler(tiny_llama, max_new_tokens=300)
    original = sampler.model.forward
    calls = []

    def forward(*arguments, **options):
        calls.append(1)
        if len(calls) == 20:
            os.kill(os.getpid(), signal.SIGINT)
        return original(*arguments, **options)

    monkeypatch.setattr(sampler.model, "forward", forward)
    talk = chat([sampler], tmp_path, "Как?", KeyboardInterrupt)
    assert len(talk.history.messages) == 2 and contents(talk)[1]
    assert talk.screen.notices[1:3] == [
        "[остановлено; написанное осталось в разговоре]",
        "Чтобы выйти, введите /exit или нажмите Ctrl-D.",
    ]


@pytest.mark.parametrize(
    ("lines", "notice"),
    [
        (["/undo"], "В разговоре ещё нет ответов."),
        (["/retry"], "В разговоре ещё нет ответов."),
        (["/good"], "Оценивать нечего, сначала задайте вопрос."),
        (["Как?", "/good 2"], "Укажите номер ответа: 1."),
        (["/compare Как?"], "Сравнивать не с чем: нужен адаптер или два адаптера одной модели (--adapter A B)."),
        (["/udno"], "Команды /udno нет. Может быть, /undo? Список покажет /help."),
        (["/load"], "Укажите файл, например: /load chats/разговор.json."),
        (["/load нет.json"], "нет.json: there is no such file."),
        (["!help"], "/retry"),
        (
            ["/status"],
            "Модели: base. Персонаж: —. Настройки: max_new_tokens 12, top_k 60, top_p 0.9, temperature 0.7.",
        ),
        (["/save РАЗГОВОР"], "Разговор сохранён в РАЗГОВОР."),
    ],
)
def test_notices(base, tmp_path, monkeypatch, lines, notice):
    monkeypatch.chdir(tmp_path)
    talk = chat([base], tmp_path, *lines)
    assert any(text.startswith(notice) for text in talk.screen.notices), talk.screen.notices


def test_a_new_conversation_does_not_overwrite_the_old_one(base, tmp_path):
    talk = chat([base], tmp_path, "Как?", "/clear", "Почему?", "/exit", "Не читается")
    files = sorted(path.name for path in (tmp_path / "chats").iterdir())
    assert files == ["chat.json", "chat_2.json"]
    assert [
        json.loads((tmp_path / "chats" / name).read_text(encoding="utf-8"))["messages"][0]["content"] for name in files
    ] == ["Как?", "Почему?"]
    assert contents(talk)[0] == "Почему?"


def test_every_command_is_in_the_help(base, tmp_path):
    (help_text,) = (text for text in chat([base], tmp_path, "/help").screen.notices if "/retry" in text)
    assert all(command in help_text for command in COMMANDS if command != "/help")


def test_a_free_file_name(tmp_path):
    assert next_free(tmp_path / "a.json") == tmp_path / "a.json"
    (tmp_path / "a.json").touch()
    assert next_free(tmp_path / "a.json") == tmp_path / "a_2.json"


def test_long_conversations_drop_their_oldest_turns_with_a_notice(tiny_llama, tmp_path):
    sampler = make_sampler(tiny_llama)
    sampler.model.config.max_position_embeddings = 120
    history = ChatHistory()
    for number in range(4):
        history.add(f"Вопрос {number} " * 3, "Ответ " * 5)
    talk = chat([sampler], tmp_path, "Как?", history=history)
    assert any(notice.startswith("[не поместилось в контекст: ") for notice in talk.screen.notices)
    assert len(talk.history.messages) == 10  # the file keeps them


def script_answers(monkeypatch, *results: str | BaseException) -> list[tuple]:
    """Let models give these answers, and return the prompts and the names of the random numbers that they get."""
    calls, left = [], list(results)

    def stream_answer(sampler, prompt, name, write, interrupt):
        calls.append(([message["content"] for message in prompt], name))
        result = left.pop(0)
        if isinstance(result, BaseException):
            raise result
        return StreamedAnswer(result, "stop", 0)

    monkeypatch.setattr("preferans.people.chat.stream_answer", stream_answer)
    return calls


def two_turns() -> ChatHistory:
    history = ChatHistory()
    history.add("Первый?", "Да.")
    history.add("Второй?", "Нет.")
    return history


@pytest.mark.parametrize("line", ["/retry", "/compare"])
@pytest.mark.parametrize("failure", [PreferansError("не вышло"), KeyboardInterrupt(), ""])
def test_a_failed_answer_loses_no_turn(tuned, tmp_path, monkeypatch, line, failure):
    script_answers(monkeypatch, failure, failure)
    talk = chat(with_base([tuned]), tmp_path, line, history=two_turns())
    assert talk.history.messages == two_turns().messages


def test_retry_asks_an_unanswered_question_again(base, tmp_path, monkeypatch):
    calls = script_answers(monkeypatch, "", "Ответ.")
    talk = chat([base], tmp_path, "Третий?", "/retry", history=two_turns())
    assert contents(talk) == ["Первый?", "Да.", "Второй?", "Нет.", "Третий?", "Ответ."]
    assert calls[0][0] == calls[1][0] and calls[0][1] != calls[1][1]


def test_a_failed_retry_leaves_the_answer_to_rate(base, tmp_path, monkeypatch):
    script_answers(monkeypatch, "Ответ.", "")
    chat([base], tmp_path, "Как?", "/retry", "/good")
    (row,) = read_ratings([tmp_path / "ratings.jsonl"])
    assert row["answers"][0]["text"] == "Ответ."


def test_a_repeated_comparison_does_not_show_a_known_answer(tuned, tmp_path):
    talk = chat(with_base([tuned]), tmp_path, "Как?", "/compare", "/compare")
    texts = [text for _, text in talk.screen.answers]
    assert len(set(texts)) == len(texts) == 5


def test_three_adapters_are_compared(tuned, tmp_path, monkeypatch):
    systems = [dataclasses.replace(tuned, label=label) for label in "abc"]
    script_answers(monkeypatch, "Раз.", "Два.", "Три.")
    talk = chat(systems, tmp_path, "/compare Как?", "/good 3", "/bad 1", "/bad 4", "/bad")
    rows = read_ratings([tmp_path / "ratings.jsonl"])
    ids = [answer["id"] for answer in rows[0]["answers"]]
    assert [row["verdict"] for row in rows] == [ids[2], None, "tie"]
    assert rows[1]["thumbs"] == {ids[0]: "down"} and set(rows[2]["thumbs"]) == set(ids)
    assert {answer["model"] for answer in rows[0]["answers"]} == set("abc")
    assert contents(talk) == ["Как?", "Три."] and "Укажите номер ответа: 1, 2, 3." in talk.screen.notices


def test_problems_with_files_do_not_end_the_chat(base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "заметки.md").write_text("важное", encoding="utf-8")
    (tmp_path / "папка").mkdir()
    lines = ["/save папка", "/save заметки.md", "/save заметки.md/чат.json", "/load папка", "Как?"]
    talk = chat([base], tmp_path, *lines)
    assert len(talk.history.messages) == 2
    assert (tmp_path / "заметки.md").read_text(encoding="utf-8") == "важное"
    assert "папка — это папка." in talk.screen.notices[1] and "не разговор" in talk.screen.notices[2]


def test_an_unexpected_error_is_not_hidden(base, tmp_path, monkeypatch):
    script_answers(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        chat([base], tmp_path, "Как?")


def test_the_instruction_is_saved_at_once_and_stays_in_a_new_conversation(base, tmp_path):
    path = tmp_path / "chats" / "chat.json"
    talk = chat([base], tmp_path, "Как?", "/system Кратко.", "/clear")
    assert read_json(path)["system"] == talk.history.system == "Кратко."


def test_another_character_than_before_is_noticed(tiny_llama, tmp_path):
    sampler = make_sampler(tiny_llama)
    path = tmp_path / "chats" / "chat.json"
    sampler.persona = load_persona(ROOT / "personas" / "sienna.yaml")
    same = chat([sampler], tmp_path, "Кто ты?", f"/load {path}")
    assert not any("Персонаж в сохранённом" in notice for notice in same.screen.notices)
    sampler.persona = None
    other = chat([sampler], tmp_path, f"/load {path}")
    assert "Персонаж в сохранённом разговоре: sienna; сейчас: нет. Его задаёт --persona." in other.screen.notices
