import pytest

from preferans.utf8 import is_unicode, visible, writable


@pytest.mark.parametrize(("text", "valid"), [("", True), ("ёж 😀", True), ("a\ud800b", False), ("\udfff", False)])
def test_a_lone_surrogate_is_not_unicode(text, valid):
    assert is_unicode(text) == valid
    assert is_unicode(writable(text))


def test_a_lone_surrogate_becomes_a_replacement_character():
    assert writable("a\ud800b") == "a\ufffdb"
    assert writable("\ud83d\ude00 ёж") == "😀 ёж"


def test_control_characters_are_shown():
    assert visible("a\x1b[31mb\u202ec\td\n\x00\x7f") == "a[U+001B][31mb[U+202E]c\td\n[U+0000][U+007F]"
    assert visible("\ud83d").isprintable()
