"""Plots of the report."""

import re

from preferans.evaluation.report.pictures import histograms, running_mean

from ...support.reports import EN, page_of, scored, system


def test_keeps_names_with_backslashes(tmp_path):
    names = [r"models\data", r"C:\1"]
    scores = scored(*(system(name, *["Да, это так, и вот почему."] * 6) for name in names))
    page = page_of(tmp_path, scores)
    labels = " ".join(re.findall(r'aria-label="([^"]*)"', page))
    assert all(name in labels for name in names)


def test_running_mean_is_trailing():
    assert running_mean([1.0, 3.0]) == [1.0, 3.0]
    assert running_mean([0.0] * 6 + [6.0] * 6) == [0.0] * 6 + [3.0] + [6.0] * 5


def test_a_system_without_values_gets_an_empty_row():
    drawn = histograms("x", [[0.5, 0.5], []], "label", EN, True)
    assert drawn.startswith("<svg viewBox=") and 'aria-label="label"' in drawn
    assert "var(--series-1)" in drawn and "#0" not in drawn.replace('href="#', "").replace("url(#", "")
