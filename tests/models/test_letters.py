"""Letters of languages."""

import pytest

from preferans.errors import PreferansError
from preferans.models.letters import is_of_language, letters_of

RUSSIAN = letters_of("ru")


def test_languages():
    assert {"ї", "і", "ё"} <= letters_of("uk")
    assert "ї" not in RUSSIAN and len(RUSSIAN) == 66
    assert {"ß", "ő"} <= letters_of("de") and "я" not in letters_of("de")
    assert {"漢", "か", "ー"} <= letters_of("ja")
    assert not letters_of("none")
    assert is_of_language("Да — 5 раз! 😀", RUSSIAN)
    assert not is_of_language("Да, ok", RUSSIAN) and not is_of_language("5 + 5", RUSSIAN)
    with pytest.raises(PreferansError, match="Known languages: ru, ar"):
        letters_of("ukr")
