"""Answers shown side by side."""

import html
import re

from hypothesis import given
from hypothesis import strategies as st

from preferans.evaluation.report.examples import changes, highlight
from preferans.evaluation.report.words import MINUS

from ...support.reports import EN, LOOP, RU, TEXTS, page_of, scored, system


def answer(text: str = "Да.", **measures) -> dict:
    return {"answer": text, "measures": measures}


def test_changes_count_what_is_better():
    known = {"loops": ("lower", "share"), "complete": ("higher", "share"), "chrf": ("higher", "points")}
    known |= {"length": (None, "characters"), "distinct_2": (None, "share")}
    old = answer(loops=1.0, complete=None, chrf=20.0, length=5, distinct_2=0.1)
    new = answer(loops=0.25, complete=1.0, chrf=70.0, length=9, distinct_2=0.9)
    assert changes(old, new, known) == {"loops": 0.75, "chrf": 0.5}
    empty = answer("  ", loops=None, complete=None, chrf=None, length=2, distinct_2=None)
    assert changes(new, empty, known) == {"loops": -0.75, "complete": -1.0, "chrf": -0.7}
    assert changes(empty, new, known) == {"loops": 0.75, "complete": 1.0, "chrf": 0.7}
    assert changes(empty, empty, known) == {}


def articles(page: str, heading: str) -> list[str]:
    part = page[page.index(f"<h3>{heading}</h3>") :]
    part = part[: part.index("<h3>", 4)] if "<h3>" in part[4:] else part
    return re.findall(r"<article>(.*?)</article>", part, re.DOTALL)


def test_shows_losses_and_gains_alike(tmp_path, two):
    page = page_of(tmp_path, two)
    gains, losses = articles(page, "Largest gains"), articles(page, "Largest losses")
    assert 1 <= len(gains) <= 5 and 1 <= len(losses) <= 5
    assert "Вопрос 3?" in losses[0]  # became empty
    assert all("change +" in text for text in gains) and all(f"change {MINUS}" in text for text in losses)
    totals = [float(re.search(r"change \+([\d.]+)", text)[1]) for text in gains]
    assert totals == sorted(totals, reverse=True)
    prompts = re.findall(r"Вопрос (\d)\?", "".join([*gains, *losses, *articles(page, "More answers at equal steps")]))
    assert len(prompts) == len(set(prompts))


def test_reports_that_no_answer_became_worse(tmp_path):
    page = page_of(tmp_path, scored(system("before", *[LOOP] * 8), system("after", *["Так и есть."] * 8)))
    assert "No answer became worse by the measures." in page and "No answer became better" not in page


def test_marks_intruding_words(tmp_path, two):
    assert highlight("Это <so> и so.", [[11, 13, "en", False], [5, 7, "en", True]], EN) == (
        'Это &lt;<mark class="hard" title="other script: English">so</mark>&gt; и '
        '<mark class="soft" title="foreign word: English">so</mark>.'
    )
    assert highlight("ab", [[0, 2, "en", False], [1, 2, "de", False], [1, 9, "de", True]], RU).count("<mark") == 1
    page = page_of(tmp_path, two, "ru")
    assert re.search(r'<mark class="hard" title="другой алфавит: [^"]+">приготoвление</mark>', page)
    assert '<mark class="soft">' in page and '<mark class="hard">' in page  # the legend


@given(TEXTS, st.lists(st.tuples(st.integers(-5, 99), st.integers(-5, 99), st.text(max_size=5), st.booleans())))
def test_marking_keeps_every_character(text, intruders):
    marked = str(highlight(text, [list(intruder) for intruder in intruders], EN))
    assert html.unescape(re.sub(r"</?mark[^<>]*>", "", marked)) == html.unescape(html.escape(text))
