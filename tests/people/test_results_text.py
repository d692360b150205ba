import re

import pytest

from preferans.people.results import rating_results
from preferans.people.results_text import result_tables, results_in_words
from preferans.people.words import people_words

from ..support.ratings import judgement, scores


@pytest.fixture
def results():
    rows = [
        judgement(rater, "a1", n, scores=scores(a1=20, a2=10), seconds=30.0)
        for n in range(6)
        for rater in ("anna", "boris")
    ]
    rows += [judgement("anna", verdict, 9, marks=True) for verdict in ["a2"]]
    rows += [judgement("boris", "a1", 9)]
    return rating_results(rows)


def test_the_terminal_shows_every_figure(results):
    text = results_in_words(results, people_words("en"))
    lines = [re.sub(r" +", " ", line).strip() for line in text.splitlines()]
    assert lines[0] == "14 ratings, 2 raters. 1 rating is of a marked text."
    assert any(line.startswith("model 1 against model 2 93% [") and line.endswith("13 1 0") for line in lines)
    assert any(line.startswith("model 1 4.0 [4.0, 4.0]") and line.endswith("20.0 [20.0, 20.0] 12") for line in lines)
    assert "anna 30 s 6" in lines and "anna: model 2, boris: model 1" in lines
    russian = results_in_words(results, people_words("ru"))
    assert russian.startswith("14 оценок, 2 оценщика. 1 оценка дана тексту с пометками.")
    assert "model 1 против model 2" in russian and "\u00a0" not in russian


def test_tables_without_figures_are_left_out(results):
    titles = [table.title for table in result_tables(rating_results([judgement()]), people_words("en"))]
    assert titles == ["Win rates", "Side bias"]
