import time

import pytest

from preferans.people.rating_form import chosen_verdict

from ..support.rating import Browser, make_studio


@pytest.fixture
def studio(tmp_path):
    return make_studio(tmp_path)


@pytest.fixture
def browser(studio):
    browser = Browser(studio)
    browser.get("/rate")
    return browser


def test_progress_and_pace(studio, browser):
    assert "Оценено 0 из 4, осталось 4" in browser.text
    browser.rate(verdict="left", shown_at=str(time.time() - 50))
    text = browser.text
    assert "Оценено 1 из 4, осталось 3" in text and "50 с на ответ" in text and "ещё около 3 минут" in text


def test_skipped_items_come_back_at_the_end(studio, browser):
    skipped = browser.item
    browser.rate(action="skip")
    for _ in range(3):
        assert browser.item != skipped
        browser.rate(verdict="left")
    assert "Остались только пропущенные (1)" in browser.text and f"/items/{skipped}" in browser.text
    assert "Оценено 3 из 4, остался 1" in browser.text
    browser.get(f"/items/{skipped}")
    browser.rate(verdict="right")
    assert "Спасибо" in browser.text


def test_earlier_ratings_can_be_changed(studio, browser):
    first = browser.item
    browser.rate(verdict="left", comment="Первый.")
    second = browser.item
    browser.rate(verdict="left")
    assert f'href="/items/{second}" data-key="KeyB"' in browser.text
    browser.get(f"/items/{first}")
    page = browser.text
    assert "Вы уже оценили это" in page and 'value="left" required checked' in page and "Первый." in page
    assert f'href="/items/{second}" data-key="KeyN"' in page
    browser.rate(verdict="both_bad")
    assert [chosen_verdict(one) for one in studio.store.ratings("Анна")] == ["left", "both_bad"]
    assert len(studio.store.ratings()) == 2
