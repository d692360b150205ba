import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferans.errors import PreferansError
from preferans.people.chat_history import ChatHistory, fit_window, is_chat

from ..support.ratings import prompt


def conversation(turns: int, system: str | None = None) -> ChatHistory:
    history = ChatHistory(system=system)
    for number in range(turns):
        history.add(f"Вопрос {number}", f"Ответ {number}")
    return history


def test_a_saved_conversation_comes_back(tmp_path):
    history = conversation(3, "Кратко.")
    history.save(tmp_path / "new" / "chat.json", ["base"], "sienna", {"top_k": 60, "seed": 1})
    assert ChatHistory.load(tmp_path / "new" / "chat.json") == history


def test_undo_returns_the_turn():
    history = conversation(2)
    assert history.undo() == ("Вопрос 1", "Ответ 1")
    assert history.messages == conversation(1).messages
    history.undo()
    assert history.undo() is None


def test_the_instruction_comes_first():
    assert conversation(0).prompt("А?") == prompt("А?")
    assert [message["role"] for message in conversation(1, "Кратко.").prompt("А?")] == [
        "system",
        "user",
        "assistant",
        "user",
    ]


@given(st.integers(0, 9), st.booleans(), st.integers(0, 40) | st.none())
def test_the_oldest_turns_leave_the_window(turns, has_system, limit):
    full = conversation(turns, "С" if has_system else None).prompt("Последний")
    fitted, dropped = fit_window(full, len, limit)
    system = full[:1] if has_system else []
    assert fitted == [*system, *full[len(system) + 2 * dropped :]]
    assert fitted[-1] == full[-1]
    if limit is not None:
        assert len(fitted) <= max(limit, len(system) + 1)
    if dropped:
        assert limit is not None and len(fitted) + 2 > limit


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"messages": prompt("А?")}, "'messages' ends with a question"),
        (
            {"messages": [{"role": "assistant", "content": "А."}]},
            "has the role 'assistant' in message 1; 'user' is needed",
        ),
        ({"messages": [{"role": "user"}]}, "'messages', item 1, 'content' is missing"),
        ({"massages": []}, "the key 'massages' is unknown. Did you mean 'messages'?"),
        ({"models": "base"}, "'models' must be a list"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, changes, words):
    conversation(1).save(tmp_path / "chat.json", ["base"], None, {})
    saved = json.loads((tmp_path / "chat.json").read_text(encoding="utf-8")) | changes
    (tmp_path / "chat.json").write_text(json.dumps(saved), encoding="utf-8")
    with pytest.raises(PreferansError) as caught:
        ChatHistory.load(tmp_path / "chat.json")
    assert "chat.json: " in str(caught.value) and words in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PreferansError, match="no such file"):
        ChatHistory.load(tmp_path / "chat.json")


def test_other_files_are_no_conversations(tmp_path):
    conversation(1).save(tmp_path / "chat.json", ["base"], None, {})
    (tmp_path / "other.json").write_text("{}", encoding="utf-8")
    assert is_chat(tmp_path / "chat.json") and not is_chat(tmp_path / "other.json")


def test_the_character_of_a_saved_conversation_is_known(tmp_path):
    conversation(1).save(tmp_path / "chat.json", ["base"], "sienna", {})
    assert ChatHistory.load(tmp_path / "chat.json").persona == "sienna"


def test_a_prompt_without_the_last_turn():
    history = conversation(2, "Кратко.")
    assert history.prompt("А?", without_last=True) == conversation(1, "Кратко.").prompt("А?")
