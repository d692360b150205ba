import pytest

from preferans.text.word_languages import (
    LISTED_LANGUAGES,
    cyrillic_language,
    latin_languages,
    neighbour_language,
    script_language,
    word_frequencies,
)


@pytest.mark.parametrize(
    ("identify", "word", "language"),
    [
        (script_language, "ひと", "ja"),
        (script_language, "正确", "zh"),
        (script_language, "გამარჯობა", "ka"),
        (script_language, "дом", None),
        (cyrillic_language, "және", "kk"),
        (cyrillic_language, "її", "uk"),
        (cyrillic_language, "дом", None),
        (neighbour_language, "Що", "uk"),
        (neighbour_language, "мъж", "bg"),
        (neighbour_language, "объезд", None),
    ],
)
def test_identifies_words_by_letters_and_lists(identify, word, language):
    assert identify(word) == language


@pytest.mark.parametrize(
    ("words", "languages"),
    [
        (["consider"], ["en"]),
        (["nicht", "schwierig"], ["de", "de"]),
        (["muy", "importante"], ["es", "es"]),
        (["này", "hungry"], ["vi", "en"]),
        (["qwrtzx"], [None]),
        ([], []),
    ],
)
def test_identifies_latin_words_by_frequency(words, languages):
    assert latin_languages(words) == languages


def test_every_listed_language_has_frequencies():
    for language in LISTED_LANGUAGES:
        assert sum(word_frequencies(language).values()) == pytest.approx(1e6)
