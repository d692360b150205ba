import io

import pytest

from preferans.people.terminal import Screen


@pytest.fixture
def screen(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("Как?\nТак.\n"))
    return Screen(["/help"])


def shown(capsys, screen, mark: bool, *pieces: str) -> str:
    write, end = screen.answer("base", "Как?", mark)
    for piece in pieces:
        write(piece)
    end()
    return capsys.readouterr().out


def test_reads_lines_of_a_pipe_to_its_end(screen, capsys):
    assert [screen.read("Вы> ").strip() for _ in range(2)] == ["Как?", "Так."]
    with pytest.raises(EOFError):
        screen.read("Вы> ")
    assert capsys.readouterr().out == "Вы> Как?\nВы> Так.\n"


def test_text_appears_at_once(screen, capsys):
    write, end = screen.answer("base", "", False)
    write("Да")
    assert capsys.readouterr().out == "base> Да"
    end()
    assert capsys.readouterr().out == "\n"


def test_control_characters_do_not_reach_the_terminal(screen, capsys):
    for mark in (False, True):
        assert shown(capsys, screen, mark, "a\x1b[2J\x07\u202e") == "base> a[U+001B][2J[U+0007][U+202E]\n"


def test_intruding_words_are_marked_line_by_line(screen, capsys):
    pieces = ("Мы должны cons", "ider варианты.\n", "Вот ", "так.")
    assert shown(capsys, screen, True, *pieces) == "base> Мы должны _consider_ варианты.\nВот так.\n"
    assert shown(capsys, screen, False, *pieces) == "base> Мы должны consider варианты.\nВот так.\n"
    screen.is_terminal = True
    assert "\x1b[4mconsider\x1b[0m" in shown(capsys, screen, True, *pieces)


def test_control_characters_of_names_and_notices_do_not_reach_the_terminal(screen, capsys):
    screen.say("Убран вопрос «\x1b[2J»\nи ответ")
    assert capsys.readouterr().out == "Убран вопрос «[U+001B][2J»\nи ответ\n"
    screen.answer("\x1b[2J", "", False)
    assert capsys.readouterr().out == "[U+001B][2J> "


def test_bytes_that_are_not_utf8_are_replaced(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe?\n"), encoding="utf-8"))
    assert Screen([]).read("Вы> ") == "\ufffd\ufffd?\n"
    monkeypatch.setattr("sys.stdin", io.StringIO("\udcff\n"))
    assert Screen([]).read("Вы> ") == "\ufffd\n"


def test_words_are_not_marked_inside_a_block_of_code(screen, capsys):
    pieces = ("Код:\n```\n", "we consider all options\n", "```\nМы должны ", "consider это.")
    expected = "base> Код:\n```\nwe consider all options\n```\nМы должны _consider_ это.\n"
    assert shown(capsys, screen, True, *pieces) == expected
