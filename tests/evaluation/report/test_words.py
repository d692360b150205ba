"""Words and numbers of the report in both languages."""

import json
import re
import string

import pytest
import yaml

from preferans.data.ratings import CRITERIA
from preferans.evaluation.held_out import pair_scores
from preferans.evaluation.measures import MEASURES
from preferans.evaluation.report.page import write_report
from preferans.evaluation.report.words import MINUS, NO_BREAK, REPORT_LANGUAGES, digits

from ...support.reports import EN, RU, SOURCE, pair


def test_both_languages_have_the_same_keys_and_placeholders():
    def shape(words):
        if isinstance(words, dict):
            return {key: shape(value) for key, value in words.items()}
        assert isinstance(words, str) and words.strip()
        return sorted(field for _, field, _, _ in string.Formatter().parse(words) if field is not None)

    english, russian = (
        yaml.safe_load((SOURCE / f"words_{language}.yaml").read_text(encoding="utf-8"))
        for language in REPORT_LANGUAGES
    )
    assert shape(english) == shape(russian)
    assert not re.search("[а-яё]", json.dumps(english, ensure_ascii=False))


def test_every_sentence_is_used():
    used = "".join(path.read_text(encoding="utf-8") for path in SOURCE.glob("*.py"))
    used += "".join(path.read_text(encoding="utf-8") for path in SOURCE.glob("report.*.jinja"))
    for key in [*EN.tables["text"], *EN.tables["plurals"], *EN.tables["curves"]]:
        assert f'"{key}"' in used or f"'{key}'" in used, key


@pytest.mark.parametrize("words", [EN, RU], ids=REPORT_LANGUAGES)
def test_every_measure_has_a_title_and_a_meaning(words):
    for name in [*MEASURES, *pair_scores([pair(-1, -2)], [pair(-1, -3)], beta=1.0)]:
        assert words.title(name) != name and words.meaning(name).endswith(".")
    for name in CRITERIA:
        assert words.tables["criteria"][name]


def test_formats_numbers_for_each_language():
    assert EN.number(-1234.5, 1) == MINUS + "1,234.5"
    assert RU.number(-1234.5, 1) == f"{MINUS}1{NO_BREAK}234,5"
    assert RU.number(0.25, 2, signed=True) == "+0,25"
    assert EN.number(-0.001, 1, signed=True) == "0.0"
    assert EN.measure(0.458, "share", 0) == "46%"
    assert RU.measure(0.458, "share", 0) == f"46{NO_BREAK}%"
    assert RU.measure(-0.058, "share", 1, True) == f"{MINUS}5,8{NO_BREAK}п.{NO_BREAK}п."
    assert RU.measure(None, "share", 0) == "—"
    score = {"value": 0.5, "low": -0.25, "high": 0.75}
    assert EN.interval(score, "share", 0) == f"[{MINUS}25, 75]"
    assert RU.interval(score, "number", 2, True) == f"[{MINUS}0,25; +0,75]"
    assert RU.duration(3_725.4) == f"1{NO_BREAK}ч 2{NO_BREAK}мин"
    assert EN.duration(59.96) == f"1{NO_BREAK}min"
    assert EN.duration(7.25) == f"7.2{NO_BREAK}s"
    assert EN.bytes(3 << 29) == f"1.50{NO_BREAK}GiB"
    assert RU.bytes(700 << 20) == f"700{NO_BREAK}МиБ"


@pytest.mark.parametrize(
    ("count", "phrase"),
    [(1, "запросе"), (2, "запросах"), (11, "запросах"), (21, "запросе"), (111, "запросах"), (101, "запросе")],
)
def test_russian_plural_forms(count, phrase):
    assert RU.plural("on_prompts", count) == f"на{NO_BREAK}{count} {phrase}"


def test_plural_forms_of_both_languages():
    forms = {count: RU.plural("systems", count).split()[-1] for count in (1, 3, 5, 12, 14, 22, 25, 0)}
    assert forms == dict(
        zip(forms, ["система", "системы", "систем", "систем", "систем", "системы", "систем", "систем"])
    )
    assert [EN.plural("systems", count) for count in (0, 1, 2)] == ["0 systems", "1 system", "2 systems"]


def test_a_detectable_difference_is_never_rounded_to_zero():
    def score(value, low, high):
        return {"value": value, "low": low, "high": high}

    assert digits("share", [score(0.5, 0.4, 0.6)]) == 0
    assert digits("share", [score(0.5, 0.4, 0.6)], [score(0.004, 0.001, 0.008)]) == 1
    assert digits("share", [score(0.5, 0.4, 0.6)], [score(0.004, -0.001, 0.008)]) == 0
    assert digits("share", [score(0.05, 0.0, 0.09)]) == 1
    assert digits("share", [score(0.0, 0.0, 0.0)]) == 0
    assert digits("characters", [score(1.5, 1.0, 2.0)]) == 0
    assert digits("points", [score(34.5, 30.0, 40.0)]) == 1


def test_rejects_an_unknown_language(tmp_path, two):
    with pytest.raises(ValueError, match="en or ru"):
        write_report(tmp_path, two, "fr")
