"""The rating page in Chromium, driven by the keyboard alone. Run by make test-browser."""

import re
import shutil

import pytest

from preferans.data.ratings import CRITERIA
from preferans.files import write_jsonl
from preferans.people.rating_form import chosen_verdict
from preferans.people.store import RatingStore

from ..support.rating import answer_rows
from ..support.rating_server import rating_server

pytestmark = pytest.mark.browser

HOSTILE = [
    '<script>document.title = "взломано"</script><img src="/static/no.png" onerror="document.title = \'взломано\'">',
    '<iframe src="https://example.org"></iframe>![след](https://example.org/track.png)\n\n[ссылка](javascript:alert(1))',
    "Очень длинный ответ. " * 1_000 + "КОНЕЦ",
    "Управляющие\x00 символы\x1b[31m и \u202eразворот",
    "```html\n<script>alert(1)</script>\n```\n\n| а | б |\n|---|---|\n| 1 | 2 |",
]
ITEMS = 20


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert path, "Chromium is not installed: run make browser"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield browser
        browser.close()


@pytest.fixture
def answers(tmp_path) -> list:
    files = []
    for model in ("before", "after"):
        texts = [f"Ответ {number} {model}." for number in range(ITEMS)]
        if model == "after":
            texts[: len(HOSTILE)] = HOSTILE
        files.append(tmp_path / f"{model}.jsonl")
        write_jsonl(files[-1], answer_rows(model, texts))
    return files


class Rater:
    """A person with a keyboard."""

    def __init__(self, browser, address: str, name: str, **context):
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("dialog", lambda dialog: self.problems.append(dialog.message))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)
        self.page.keyboard.type(name)  # the field has the focus
        self.press("Enter")

    def press(self, *keys: str) -> None:
        """Press keys, of which the last one leads to another page."""
        *before, last = keys
        for key in before:
            self.page.keyboard.press(key)
        with self.page.expect_event("load"):
            self.page.keyboard.press(last)

    @property
    def item(self) -> str:
        return self.page.url.split("/items/")[1].split("?")[0]

    def checked(self) -> list[str]:
        return self.page.eval_on_selector_all("input:checked", "inputs => inputs.map((one) => one.value)")

    def text(self) -> str:
        return self.page.inner_text("main").replace("\u00a0", " ")


def test_two_raters_with_the_keyboard_alone(chromium, answers, tmp_path):
    with rating_server(tmp_path, *answers, "--overlap", "1") as server:
        anna, boris = (Rater(chromium, server.address, name) for name in ("Анна", "Борис"))
        given = {"Анна": {}, "Борис": {}}
        keys = {
            "1": "left",
            "2": "right",
            "3": "both_good",
            "4": "both_bad",
            "ArrowLeft": "left",
            "ArrowRight": "right",
        }
        for number in range(ITEMS):
            for rater, name in ((anna, "Анна"), (boris, "Борис")):
                key = list(keys)[(number + (name == "Борис")) % len(keys)]
                page = rater.page
                if number == 3:  # undo, and rate the same item again
                    earlier = rater.item
                    rater.press("4", "Enter")
                    rater.press("u")
                    assert rater.item == earlier
                if number == 5:  # back, change the rating, and go on
                    current = rater.item
                    rater.press("b")
                    given[name][rater.item] = "both_bad"
                    rater.press("4", "Enter")
                    assert rater.item == current
                if number == 7:  # a reload keeps what was chosen and written
                    page.keyboard.press(key)
                    page.keyboard.press("c")
                    page.keyboard.type("Яснее")
                    page.keyboard.press("Escape")
                    page.reload()
                    assert rater.checked() == [keys[key]]
                    assert page.input_value("#comment") == "Яснее"
                if number == 10 and rater is anna:  # kill -9 between the choice and the answer of the server
                    server.kill()
                    page.keyboard.press(key)
                    page.keyboard.press("Enter")
                    page.get_by_text("Не сохранено: сервер не отвечает").wait_for()
                    assert rater.checked() == [keys[key]]
                    server.start()
                given[name][rater.item] = keys[key]
                rater.press(key, "Enter")
        assert "Вы оценили всё" in anna.text() and "Оценено 20 из 20" in boris.text()
        ratings = RatingStore(server.ratings).ratings()
        assert len(ratings) == 2 * ITEMS
        assert {(one.rater, one.item): chosen_verdict(one) for one in ratings} == {
            (name, item): verdict for name, own in given.items() for item, verdict in own.items()
        }
        assert [one.comment for one in ratings if one.comment] == ["Яснее"] * 2
        for rater in (anna, boris):
            assert rater.page.title() == "Оценка ответов"
            assert {re.match(r"https?://[^/]+", url)[0] for url in rater.requests} == {server.address}
            assert not [text for text in rater.problems if "ERR_CONNECTION_REFUSED" not in text]
            rater.page.goto(f"{server.address}/results")
            assert "40 оценок, 2 оценщика" in rater.text() and "Спорный случай" in rater.text()


def test_answers_are_shown_and_never_run(chromium, answers, tmp_path):
    with rating_server(tmp_path, answers[1]) as server:
        rater = Rater(chromium, server.address, "Анна")
        shown = ""
        for _ in range(ITEMS):
            shown += rater.text()
            assert rater.page.locator("main :is(script, img, iframe, object, embed, svg)").count() == 0
            assert rater.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            rater.press(*"12345", "Enter")
        for part in ("<script>", "<iframe", "КОНЕЦ", "[U+0000]", "[U+001B]", "[U+202E]", "🖼 след"):
            assert part in shown
        assert rater.problems == [] and not [url for url in rater.requests if "example.org" in url]
        (scores,) = {str(next(iter(one.scores.values()))) for one in RatingStore(server.ratings).ratings()}
        assert scores == str({name: number for number, name in enumerate(CRITERIA, start=1)})


@pytest.mark.parametrize("size", [(1280, 900), (360, 740)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_every_screen(chromium, answers, tmp_path, size, scheme):
    viewport = {"width": size[0], "height": size[1]}
    with rating_server(tmp_path, *answers) as server:
        rater = Rater(chromium, server.address, "Анна", viewport=viewport, color_scheme=scheme)
        page = rater.page
        for _ in range(4):
            rater.press("s")
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        colours = "(one) => { const style = getComputedStyle(one); return [style.color, style.backgroundColor]; }"
        for selector in ("body", "button[value=save]"):
            text, back = (luminance(colour) for colour in page.eval_on_selector(selector, colours))
            assert (max(text, back) + 0.05) / (min(text, back) + 0.05) >= 4.5  # WCAG 2, level AA
        rater.press("3", "m")  # the choice survives the marks
        assert rater.checked() == ["both_good"] and "Отмечены слова" in rater.text()
        left, right = (box.bounding_box() for box in page.locator(".answer").all())
        assert (left["y"] == right["y"]) == (size[0] > 800)


def luminance(colour: str) -> float:
    """Relative luminance of a CSS colour, as WCAG 2 defines it."""
    channels = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (one / 12.92 if one <= 0.03928 else ((one + 0.055) / 1.055) ** 2.4 for one in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
