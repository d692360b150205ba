"""Tables of the report show the figures of scores.json."""

import re

import pytest

from preferans.data.ratings import CRITERIA
from preferans.evaluation.measures import MEASURES
from preferans.evaluation.report.words import MINUS, NO_BREAK, Words

from ...support.reports import AFTER, BEFORE, EN, judged, page_of, scored, system, text_of


def rounded(value: float, sign: str = "") -> str:
    return f"{100 * value:{sign}.0f}".replace("-", MINUS)


def test_figures_are_those_of_the_scores(tmp_path, two):
    page = page_of(tmp_path, two)
    text = text_of(page)
    before, after = (system["scores"]["finished"] for system in two["systems"])
    assert (before["value"], after["value"]) == (0.0, 1.0)
    loops = [system["scores"]["loops"] for system in two["systems"]]
    difference = two["comparisons"][0]["differences"]["loops"]
    row = re.search(
        r"Answers that loop(?! *[:;]).*?(?=Repeated share of the text)", text[text.index("The answers in") :]
    )[0]
    for score in loops:
        assert f"{rounded(score['value'])}% [{rounded(score['low'])}, {rounded(score['high'])}]" in row
    low, high = rounded(difference["low"], "+"), rounded(difference["high"], "+")
    assert f"{rounded(difference['value'], '+')} pp [{low}, {high}]".replace("+0,", "0,") in row.replace(NO_BREAK, " ")
    assert EN.verdict(difference["verdict"]) in row
    assert "after against before, on 8 prompts" in text
    for name in MEASURES:
        assert (EN.title(name) in text) == any(system["scores"][name]["cases"] for system in two["systems"]), name
    counts = {"better": 0, "worse": 0, "no_detectable_difference": 0, "higher": 0, "lower": 0}
    for one in two["comparisons"][0]["differences"].values():
        counts[one["verdict"]] += one["cases"] > 0
    assert f"Better {counts['better']} " in text and f"Worse {counts['worse']} " in text
    assert f"Unclear {counts['no_detectable_difference']} " in text


def test_shows_verdicts(tmp_path, two):
    text = text_of(page_of(tmp_path, two | {"verdicts": [judged(["before", "after"])]})).replace(NO_BREAK, " ")
    assert "By verdicts of the judge on pairs of answers after comes first, and its interval does not touch" in text
    assert "from 40 verdicts on pairs" in text
    assert "after against before 62% [51, 74] Unclear 24 14 2 3" in re.sub(r" +", " ", text)
    assert "+44 [+10, +80]" in text and f"{MINUS}44 [{MINUS}80, {MINUS}10]" in text
    assert text.count("3.2 [3.0, 3.5]") == len(CRITERIA)
    assert text.count("verdicts.jsonl") == 1
    near = judged(["before", "after"])
    near["ranking"][1]["high"] = 10.0
    text = text_of(page_of(tmp_path, two | {"verdicts": [near]}))
    assert "its interval overlaps with those of before: the order between them is open" in text


@pytest.mark.parametrize("language", ["en", "ru"])
def test_pairs_of_other_datasets_stand_apart(tmp_path, two, language):
    def figure(value: float) -> dict:
        return {"value": value, "low": value - 0.1, "high": value + 0.1, "cases": 50}

    def system(in_domain: bool) -> dict:
        scores = {"test_normalised_accuracy_gain": figure(0.19), "test_balanced_accuracy_gain": figure(-0.37)}
        return {"name": "tuned", "in_domain": in_domain, "per_token": False, "scores": scores}

    surface = {"linear_model": 0.7, "interval": [0.6, 0.8], "chosen_longer": 0.43}
    records = [
        {"name": f"data/{own}", "systems": [system(own == "own")], "surface": surface} for own in ("other", "own")
    ]
    text = text_of(page_of(tmp_path, two | {"pairs": records}, language)).replace(NO_BREAK, " ")
    titles = Words(language)("pairs_in_domain"), Words(language)("pairs_elsewhere")
    assert 0 < text.index(titles[0].replace(NO_BREAK, " ")) < text.index(titles[1].replace(NO_BREAK, " "))
    assert text.index("tuned on data/own" if language == "en" else "tuned на data/own") < text.index("data/other")
    assert text.count("+19") == 2 and text.count(f"{MINUS}37") == 2
    assert "a linear model on words gets 70% right" in text or "угадывает 70 % пар" in text


def test_people_stand_beside_the_judge(tmp_path, two):
    both = [judged(["before", "after"], "people"), judged(["before", "after"])]
    page = page_of(tmp_path, two | {"verdicts": both}, "ru")
    text = text_of(page)
    assert text.index("Вердикты людей", 500) < text.index("Вердикты модели-судьи", 500)
    assert len(re.findall(r'<h2 id="verdicts-', page)) == 2
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_shows_people_as_a_system(tmp_path):
    text = text_of(
        page_of(tmp_path, scored(system("model", *BEFORE), system("human", *AFTER, finish_reason=None, kind="human")))
    )
    assert "written by people" in text and "not applicable" in text


def test_a_measure_without_a_title_keeps_its_name(tmp_path, two):
    for name in ("measures",):
        two[name]["kind <b>$x$"] = {"better": "higher", "unit": "share"}
    for score in (*(one["scores"] for one in two["systems"]), two["comparisons"][0]["differences"]):
        score["kind <b>$x$"] = {"value": 0.5, "low": 0.4, "high": 0.6, "cases": 8, "verdict": "better"}
    page = page_of(tmp_path, two)
    assert "kind &lt;b&gt;$x$" in page and "<b>$x$" not in page
