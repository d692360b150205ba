import pytest

from preferans.data.ratings import CRITERIA

from ..support.rating import Browser, make_studio

FIVES = dict.fromkeys(CRITERIA, "5")


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        ("compare", {}),
        ("compare", {"verdict": "best"}),
        ("compare", {"verdict": "left", "comment": "б" * 10_001}),
        ("compare", {"verdict": "left", "action": "delete"}),
        ("compare", {"verdict": "left", "shown_at": "x"}),
        ("score", {"style": "5"}),
        ("score", FIVES | {"style": "6"}),
        ("score", FIVES | {"style": "0"}),
        ("score", FIVES | {"style": "пять"}),
        ("score", {"verdict": "left"}),
    ],
)
def test_an_incomplete_form_is_not_saved(tmp_path, mode, form):
    studio = make_studio(tmp_path, mode)
    browser = Browser(studio)
    browser.get("/rate")
    assert browser.rate(**form).status_code == 422
    assert browser.text == "Не сохранено, выбраны не все оценки."
    assert studio.store.ratings() == []


def test_a_rater_scores_answers(tmp_path):
    studio = make_studio(tmp_path, "score")
    browser = Browser(studio)
    browser.get("/rate")
    assert browser.text.count("<fieldset") == 5
    assert "хорош ли русский язык?" in browser.text and "живой и грамотный русский язык" in browser.text
    browser.rate(**FIVES | {"style": "2"})
    (rating,) = studio.store.ratings()
    assert rating.scores == {rating.shown[0]: dict.fromkeys(CRITERIA, 5) | {"style": 2}}
    assert rating.verdict is None
