import pytest

from preferans.data.ratings import VotingRule, build_rating_pairs, read_ratings
from preferans.errors import PreferansError
from preferans.files import read_jsonl
from preferans.people.items import RatedAnswer
from preferans.people.thumbs import append_rating, chat_rating

from ..support.ratings import prompt


def answer(text: str, model: str = "base") -> RatedAnswer:
    return RatedAnswer(text[:3], model, text)


def test_thumbs_on_two_answers_make_a_pair(tmp_path):
    path = tmp_path / "new" / "chat.jsonl"
    for text, thumb in (("Плохо.", "down"), ("Хорошо.", "up")):
        one = answer(text)
        append_rating(path, chat_rating("Анна", prompt("Как?"), [one], None, {one.id: thumb}))
    pairs, _ = build_rating_pairs(read_ratings([path]), VotingRule())
    assert (pairs["chosen"][0][0]["content"], pairs["rejected"][0][0]["content"]) == ("Хорошо.", "Плохо.")


def test_a_choice_between_two_answers_makes_a_pair(tmp_path):
    answers = [answer("Первый.", "a"), answer("Второй.", "b")]
    append_rating(tmp_path / "chat.jsonl", chat_rating("Анна", prompt("Как?"), answers, answers[1].id, None))
    pairs, _ = build_rating_pairs(read_ratings([tmp_path / "chat.jsonl"]), VotingRule())
    assert pairs["chosen"][0][0]["content"] == "Второй."


def test_the_same_question_in_two_conversations_is_one_prompt(tmp_path):
    for number in range(2):
        one = answer(f"{number}-й ответ.")
        append_rating(tmp_path / "chat.jsonl", chat_rating("Анна", prompt("Привет!"), [one], None, {one.id: "up"}))
    assert len({row["prompt_id"] for row in read_ratings([tmp_path / "chat.jsonl"])}) == 1


def test_a_line_that_a_kill_cut_is_removed(tmp_path):
    path, one = tmp_path / "chat.jsonl", answer("Да.")
    row = chat_rating("Анна", prompt("Как?"), [one], None, {one.id: "up"})
    append_rating(path, row)
    path.write_bytes(path.read_bytes() + b'{"rater": "\xd0')
    append_rating(path, row)
    assert read_jsonl(path) == [row, row]
    path.write_bytes(b'{"rater"')
    append_rating(path, row)
    assert read_jsonl(path) == [row]


def test_a_folder_is_an_error(tmp_path):
    with pytest.raises(PreferansError, match="this is a folder; name a file"):
        append_rating(tmp_path, {})


def test_a_whole_last_line_without_its_line_break_is_kept(tmp_path):
    path, one = tmp_path / "chat.jsonl", answer("Да.")
    row = chat_rating("Анна", prompt("Как?"), [one], None, {one.id: "up"})
    append_rating(path, row)
    path.write_bytes(path.read_bytes().rstrip())
    append_rating(path, row)
    assert read_jsonl(path) == [row, row]
