import pytest

from preferans.utf8 import is_unicode, writable


@pytest.mark.parametrize(("text", "valid"), [("", True), ("ёж 😀", True), ("a\ud800b", False), ("\udfff", False)])
def test_a_lone_surrogate_is_not_unicode(text, valid):
    assert is_unicode(text) == valid
    assert is_unicode(writable(text))


def test_a_lone_surrogate_becomes_a_replacement_character():
    assert writable("a\ud800b") == "a\ufffdb"
    assert writable("\ud83d\ude00 ёж") == "😀 ёж"
