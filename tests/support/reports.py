"""Scores, runs and pages for the tests of the report."""

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

from hypothesis import strategies as st

import preferans
from preferans.data.ratings import CRITERIA
from preferans.evaluation.answers import System, line_up
from preferans.evaluation.compare import Comparison, compare
from preferans.evaluation.report.page import write_report
from preferans.evaluation.report.words import Words

SOURCE = Path(preferans.__file__).parent / "evaluation" / "report"
EN, RU = Words("en"), Words("ru")


def system(name: str, *answers: str, finish_reason: str | None = "stop", kind: str = "answers") -> System:
    rows = {
        f"q{number:02}": {
            "id": f"q{number:02}",
            "prompt": [{"role": "user", "content": f"Вопрос {number}?"}],
            "answer": answer,
            "finish_reason": finish_reason,
        }
        for number, answer in enumerate(answers)
    }
    return System(name, f"answers/{name}.jsonl", rows, kind)


def scored(*systems: System, baseline: bool = True, runs=()) -> dict:
    prompts = line_up(systems) if systems else {}
    first = systems[0] if systems and baseline and len(systems) > 1 else None
    record = compare(Comparison(systems, prompts, "python scripts/score.py …", first, runs=[str(run) for run in runs]))
    return json.loads(json.dumps(record))


LOOP = "вода кипит при ста градусах " * 4
BEFORE = [LOOP, "", "Да, это so.", "Коротко.", LOOP, "Вот так", "Так делают все.", LOOP]
AFTER = ["Это верно.", "Можно и так.", "Да.", "", "Это приготoвление.", "Вот так.", "Так делают все.", "Хорошо."]


def pair(chosen: float, rejected: float) -> dict:
    return {"chosen_logp": chosen, "rejected_logp": rejected, "chosen_tokens": 10, "rejected_tokens": 10}


def judged(names: list[str], kind: str = "judge") -> dict:
    rate = {"value": 0.625, "low": 0.51, "high": 0.74, "cases": 40}
    return {
        "kind": kind,
        "pairs": [
            {"systems": [names[1], names[0]], "wins": 24, "losses": 14, "ties": 2, "unreadable": 3, "win_rate": rate}
            | {"length_controlled_win_rate": {"value": None, "low": None, "high": None, "cases": 40}}
        ],
        "ranking": [
            {"system": names[1], "strength": 44.4, "low": 10.0, "high": 80.0, "verdicts": 40},
            {"system": names[0], "strength": -44.4, "low": -80.0, "high": -10.0, "verdicts": 40},
        ],
        "criteria": [
            {"system": names[0], "unreadable": 1}
            | {"scores": {name: {"value": 3.25, "low": 3.0, "high": 3.5, "cases": 8} for name in CRITERIA}}
        ],
        "sources": [{"source": "verdicts.jsonl", "verdicts": 40}],
    }


def page_of(folder: Path, scores: dict, language: str = "en") -> str:
    page, card = write_report(folder, scores, language)
    assert (page.name, card.name) == ("report.html", "report.md")
    return page.read_text(encoding="utf-8")


def text_of(page: str) -> str:
    """Return the visible text of a page with single spaces."""
    page = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return re.sub(r"[ \n]+", " ", html.unescape(re.sub(r"<[^>]+>", " ", page)))


class Elements(HTMLParser):
    """Elements of a page with their attributes."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in ("meta", "br", "path", "use", "rect", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag in ("path", "use", "rect", "line"):
            return
        assert self.open.pop() == tag

    def all(self, *tags: str) -> list[dict]:
        return [attributes for tag, attributes in self.found if tag in tags]


TEXTS = st.one_of(
    st.text(max_size=60),
    st.text(st.characters(categories=["Cs", "Cc", "Cf", "Lo", "Sm", "So"]), max_size=30),
    st.sampled_from(
        [
            "<script>alert(1)</script>",
            '"><img src=x onerror=alert(1)>',
            "</style></svg></div>",
            "{{ 7 * 7 }} {% raw %} ${x} $\\frac{1}{2}$",
            "\ud800 \u202e слева направо \u2066",
            "| a | b |\n| --- |\n# h\n```",
            "a\x0cb\x85c\u2028d\r\ne",
            "אבג مرحبا",
            "дли" * 400,
            "]]>--><!-- ",
        ]
    ),
)
