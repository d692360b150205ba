"""Tokens that a language needs."""

import pytest

from preferans.models.bpe import keeps_bytes, keeps_text
from preferans.models.letters import letters_of

RUSSIAN = letters_of("ru")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("привет", True),
        ("ё", True),
        ("привет,", True),
        ("2006", True),
        ("№5", True),
        ("the", True),  # frequent: below the cutoff
        ("a", True),
        ("ñ", True),
        ("ش", False),
        ("漢", False),
        ("漢字", False),
        ("cộng", False),
        ("…»", True),
        ("", True),
        ("приvet", False),
        ("২০", False),
    ],
)
def test_keeps_the_tokens_of_the_language(text, kept):
    assert keeps_text(text, 100, 1000, RUSSIAN) == kept
    assert len(text) < 2 or keeps_bytes(text.encode(), 100, 1000, RUSSIAN) == kept


def test_drops_rare_latin_tokens():
    assert not keeps_text("zeitgeist", 5000, 1000, RUSSIAN)
    assert not keeps_bytes(b" zeitgeist", 5000, 1000, RUSSIAN)
    assert keeps_bytes(" привет".encode(), 5000, 1000, RUSSIAN)


@pytest.mark.parametrize(
    ("token", "kept"),
    [
        (b"\xe4", True),  # single bytes write everything else
        (b" \xd0", True),
        ("о".encode() + b"\xd1", True),
        (b"\x82" + "о".encode(), True),
        ("漢".encode()[:2], False),
        (b" " + "漢".encode()[:1], False),
        ("😀".encode()[:3], True),
        ("😀".encode()[1:3], True),
        ("—".encode()[1:] + b" ", True),
        ("漢".encode()[:2] + "о".encode(), False),  # no text at all
    ],
)
def test_keeps_byte_pieces_of_kept_characters(token, kept):
    assert keeps_bytes(token, 100, 1000, RUSSIAN) == kept
