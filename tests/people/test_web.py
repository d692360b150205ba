import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preferans.data.ratings import CRITERIA, read_ratings
from preferans.people.rating_form import VERDICTS, chosen_verdict

from ..support.rating import Browser, make_studio

FIVES = dict.fromkeys(CRITERIA, "5")


@pytest.fixture
def studio(tmp_path):
    return make_studio(tmp_path)


@pytest.fixture
def browser(studio):
    browser = Browser(studio)
    browser.get("/rate")
    return browser


def test_a_rater_compares_all_items(studio, browser):
    seen = []
    for verdict in VERDICTS:
        seen.append(browser.item)
        browser.rate(verdict=verdict, comment=" Потому.\r\nВот. ")
    assert len(set(seen)) == 4
    assert "Вы оценили всё. Спасибо!" in browser.text and "Оценено 4 из 4" in browser.text
    ratings = studio.store.ratings("Анна")
    assert [chosen_verdict(rating) for rating in ratings] == list(VERDICTS)
    assert [rating.verdict for rating in ratings] == [ratings[0].shown[0], ratings[1].shown[1], "tie", "tie"]
    assert [rating.thumbs and set(rating.thumbs.values()) for rating in ratings] == [None, None, {"up"}, {"down"}]
    assert {rating.comment for rating in ratings} == {"Потому.\nВот."}
    assert all(0 <= rating.seconds < 60 and not rating.marks for rating in ratings)


def test_the_page_shows_answers_without_their_systems(studio, browser):
    item = studio.by_id[browser.item]
    text = browser.text
    for answer in item.answers:
        text = text.replace(answer.text, "")
    assert "before" not in text and "after" not in text
    first, second = (browser.text.index(answer.text) for answer in item.answers)
    browser.rate(verdict="left")
    (rating,) = studio.store.ratings()
    assert rating.shown == [answer.id for answer in (item.answers if first < second else item.answers[::-1])]


def test_undo_returns_to_the_last_item(studio, browser):
    first = browser.item
    browser.rate(verdict="left")
    browser.post("/undo")
    assert browser.item == first and studio.store.ratings() == []
    assert browser.post("/undo").url.path.startswith("/items/")


def test_the_reference_is_shown_only_after_the_rating(studio, browser):
    name = next(item.id for item in studio.items if item.reference)
    assert "Ответ человека." not in browser.get(f"/items/{name}").text
    browser.rate(action="skip")
    assert "Ответ человека." not in browser.get(f"/items/{name}").text
    browser.get(f"/items/{name}")
    browser.rate(verdict="left", action="reference")
    assert browser.item == name and "<details open><summary>Ответ человека</summary>" in browser.text
    assert "Ответ человека." in browser.text


def test_marks_are_shown_on_request_and_recorded(tmp_path):
    studio = make_studio(tmp_path)
    for item in studio.items:
        object.__setattr__(item.answers[0], "text", "Мы должны consider варианты")
    browser = Browser(studio)
    browser.get("/rate")
    assert "<mark" not in browser.text
    name = browser.item
    browser.get(f"/items/{name}?marks=1")
    page = browser.text
    assert '<mark title="en">consider</mark>' in page and 'name="marks" value="true"' in page
    browser.post(f"/items/{name}", verdict="left", marks="true")
    assert studio.store.ratings()[0].marks


def test_results_open_for_those_who_have_rated_everything(studio, browser):
    anna, boris = browser, Browser(studio, "Борис")
    while "/items/" in str(anna.page.url):
        anna.rate(verdict="left", comment="Мнение Анны.")
    anna.get("/results")
    assert "4 оценки, 1 оценщик" in anna.text and "after против before" in anna.text
    boris.get("/rate")
    for number in range(4):
        assert "Мнение Анны" not in boris.text
        item = boris.item
        for path in ("/results", "/export/ratings.jsonl"):
            boris.get(path)
            assert "Результаты откроются, когда вы оцените всё" in boris.text
            assert "after" not in boris.text and "Мнение Анны" not in boris.text
        boris.get(f"/items/{item}")
        boris.rate(verdict="both_bad" if number else "both_good")
    boris.get("/results")
    assert "8 оценок, 2 оценщика" in boris.text and "Спорный случай 1" in boris.text and "Мнение Анны" in boris.text


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_exports_are_in_the_format_of_ratings(studio, browser, tmp_path, suffix):
    while "/items/" in str(browser.page.url):
        browser.rate(verdict="left")
    reply = browser.get(f"/export/ratings{suffix}")
    assert f'filename="ratings{suffix}"' in reply.headers["content-disposition"]
    (tmp_path / f"r{suffix}").write_bytes(reply.content)
    assert read_ratings([tmp_path / f"r{suffix}"]) == studio.store.judgements()


def test_the_page_speaks_english(tmp_path):
    browser = Browser(make_studio(tmp_path, language="en"))
    browser.get("/rate")
    page = browser.text
    assert '<html lang="en">' in page and "Which answer is better?" in page
    assert not set("абвгдеж") & set(page.replace("Вопрос", "").replace("Ответ", "").replace("Анна", ""))


@pytest.mark.parametrize(
    "path",
    [
        "/static/../web.py",
        "/static/..%2fweb.py",
        "/static/%2e%2e/store.py",
        "/static/item.html.jinja",
        "/static/",
        "/items/nothing",
        "/items/../store",
        "/export/ratings.sqlite",
        "/docs",
        "/openapi.json",
    ],
)
def test_only_known_paths_exist(browser, path):
    reply = browser.get(path)
    assert reply.status_code == 404
    assert "import" not in reply.text


def test_without_a_name_every_page_leads_to_the_start(studio):
    browser = Browser(studio, None)
    for path in ("/rate", "/results", f"/items/{studio.items[0].id}", "/export/ratings.csv"):
        assert browser.get(path).url.path == "/"
    browser.post("/", name="   ")
    assert browser.page.status_code == 403
    browser.post("/", name=" <b>Анна</b> \x00" + "я" * 100)
    assert "<b>" not in browser.text and "&lt;b&gt;Анна&lt;/b&gt; [U+0000]" in browser.text


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(comment=st.text(max_size=300), name=st.text(max_size=80))
def test_any_comment_and_name_are_kept_and_never_become_html(comment, name, studio):
    browser = Browser(studio, None)
    browser.post("/", name="х" + name.encode("utf-8", "replace").decode() + "<i>")
    browser.get(f"/items/{studio.items[0].id}")
    comment = comment.encode("utf-8", "replace").decode() + "<script>alert(1)</script></textarea>"
    browser.post(f"/items/{studio.items[0].id}", verdict="left", comment=comment)
    browser.get(f"/items/{studio.items[0].id}")
    page = browser.text
    assert "<script>alert" not in page and "<i>" not in page
    assert studio.store.ratings()[-1].comment == comment.replace("\r\n", "\n").strip()
