import html
import re

from preferans.evaluation.report.rounds_page import rounds_page
from preferans.evaluation.rounds import GUARDS


def record(name: str) -> dict:
    score = {"value": 0.25, "low": 0.1, "high": 0.4, "cases": 24}
    scores = {guard: score for guard in GUARDS if guard != "chrf"}  # no replies of people
    gain = {"value": -0.2, "low": -0.3, "high": -0.1, "cases": 24}
    one = {"name": name, "scores": scores, "pairs": {"pairs <b>": gain}, "regressions": ["loops", "pairs <b>"]}
    return {
        "guards": list(GUARDS),
        "base": {"name": "base", "scores": scores},
        "rounds": [one],
        "best": "base",
        "stopped": True,
    }


def test_the_page_has_a_line_for_each_round_and_marks_what_is_worse():
    page = rounds_page(record("round <1>"))
    assert "<b>" not in page and "round &lt;1&gt;" in page
    assert len(re.findall(r"<tr", page)) == 3
    assert page.count('<td class="worse">') == 2
    text = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", page)))
    assert "The loop stopped at a regression. The best round is base ." in text
    assert "Gain on the pairs of pairs <b>" in text and "−20 pp" in text
    assert text.count("25%") == 2 * (len(GUARDS) - 1)
