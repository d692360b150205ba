from preferans.text.phrases import (
    find_asserted,
    find_new_phrases,
    find_phrases,
    is_phrase,
    lowered,
    numbers_in,
    own_words,
    wrong_numbers,
)

TEXT = "Я — машина. Ёмкость 3,3 литра, 16:00, пятого, не в среду; 45 000"


def test_finds_phrases():
    phrases = {"я машина", "емкост*", "3,3", "16:00", "сред*"}
    assert find_phrases(phrases, TEXT) == phrases
    assert not find_phrases(["3", "6:00", "пят", "000 45"], TEXT)


def test_a_denied_phrase_is_not_asserted():
    assert find_asserted(["сред*", "пятого"], TEXT) == {"пятого"}


def test_accepts_valid_phrases_only():
    for phrase in ("слово*", "два слова", "3,3", "чат-бот*", "06:00"):
        assert is_phrase(phrase)
    for phrase in ("", "*слово", "два  слова", "сл*во", "ого!", "# года"):
        assert not is_phrase(phrase)
    assert is_phrase("# года выпуска", numbers=True)


def test_finds_wrong_numbers():
    assert numbers_in(["2006 года", "мотор 3,3"]) == {"2006", "3.3"}
    assert wrong_numbers(["# года", "#-литров*"], "Я 2006 года, мотор 5,0-литровый", {"2006", "3.3"}) == {"#-литров*"}


def test_numbers_in_words_and_in_digits_are_the_same():
    right = numbers_in(["У тебя четыре ножки, и ты две тысячи шестого года."])
    assert right == {"4", "2006"}
    phrases = ["# ножки", "# ножек", "# года"]
    assert wrong_numbers(phrases, "У меня 4 ножки, я 2006 года.", right) == set()
    assert wrong_numbers(phrases, "У меня четыре ножки, я две тысячи шестого года.", right) == set()
    assert wrong_numbers(phrases, "У меня пять ножек, я две тысячи седьмого года.", right) == {"# ножек", "# года"}


def test_a_phrase_of_the_prompt_is_not_new_in_another_form():
    assert find_new_phrases(["машин*", "мотор"], "Машина должна быть с мотор", "Как выбрать машину?") == {"мотор"}
    assert find_new_phrases(["полный бак"], "Полный бак и бак", "Сколько стоит бак?") == {"полный бак"}


def test_own_words_exclude_quotations_and_code():
    assert own_words("Ещё «цитата» и `код`, **да**").split() == ["еще", "и", ",", "да"]
    assert lowered("Ёж") == "еж"
