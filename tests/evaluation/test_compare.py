"""The record of a comparison. tests/scripts/test_score.py tests its contents through the command."""

import statistics

import pytest

from preferans.evaluation.answers import System, line_up
from preferans.evaluation.compare import Comparison, compare
from preferans.evaluation.measures import MEASURES, Measure


def test_a_new_measure_is_one_entry_in_the_registry(monkeypatch):
    monkeypatch.setitem(MEASURES, "exclaims", Measure(lambda row: float("!" in row["answer"]), "lower", "share"))
    texts = ["Чай!", "Да.", "", "Вода кипит.", "Нет!", "Ура!", "Можно."]
    rows = {
        f"q{number}": {
            "id": f"q{number}",
            "prompt": [{"role": "user", "content": f"Вопрос {number}?"}],
            "answer": text,
            "finish_reason": "stop",
        }
        for number, text in enumerate(texts)
    }
    systems = [System("a", "a.jsonl", rows)]
    record = compare(Comparison(systems, line_up(systems), "command"))
    expected = statistics.fmean("!" in text for text in texts)
    assert record["systems"][0]["scores"]["exclaims"]["value"] == pytest.approx(expected)
    assert record["baseline"] is None and record["comparisons"] == []
