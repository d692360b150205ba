"""
The report a person opens, and its short form for a model card: a story told from scores.json and the folders of its runs.

Nothing is measured here. Every figure is one of scores.json or of a run's provenance.json, in the words of `report_words`; the plots
are in `report_pictures`.
"""

import json
import math
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

GAIN = "test_normalised_accuracy_gain"
# Halves of surrogate pairs are no text in UTF-8, control characters none in HTML, and marks that turn the direction of what follows
# would turn the report's own words.
_UNPRINTABLE = re.compile("[\ud800-\udfff\x00-\x08\x0b\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]")


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub("\ufffd", text)


def _sign(score: dict[str, float]) -> str:
    return "better" if score["low"] > 0 else "worse" if score["high"] < 0 else "no_detectable_difference"


def _sides(comparison: dict[str, Any]) -> dict[str, str]:
    return {"system": comparison["system"], "against": comparison["against"]}


# What was run


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


REPORT_LANGUAGES = ("en", "ru")
NO_BREAK = "\u00a0"
MINUS = "\u2212"
# What an absent figure is shown as.
NOTHING = "—"


# Where a Russian line must not break: after a word of one or two letters, before a dash and before a percent sign.
_BOUND = re.compile(r"(?<![А-Яа-яЁё{])([А-Яа-яЁё]{1,2}) (?=\S)| (?=—)|(?<=\d) (?=%)")


@cache
def _read(language: str) -> dict[str, dict[str, Any]]:
    text = (Path(__file__).parent / f"words_{language}.yaml").read_text(encoding="utf-8")
    return _bound(yaml.safe_load(text)) if language == "ru" else yaml.safe_load(text)


def _bound(words: Any) -> Any:
    if isinstance(words, dict):
        return {key: _bound(value) for key, value in words.items()}
    return _BOUND.sub(lambda match: (match[1] or "") + NO_BREAK, words)


class Words:
    """
    How one language says what a report has to say.

    Args:
        language (`str`):
            `"en"` or `"ru"`.
    """

    def __init__(self, language: str):
        if language not in REPORT_LANGUAGES:
            raise ValueError(f"The report is written in {' or '.join(REPORT_LANGUAGES)}, not in {language!r}.")
        self.language = language
        self.tables = _read(language)

    def __call__(self, key: str, **values: str) -> str:
        """A sentence or a label, with its blanks filled."""
        return self.tables["text"][key].format(**values)

    def title(self, measure: str) -> str:
        """Title of a measure of answers or of held-out pairs; the bare name of one that has none."""
        return self._entry(measure).get("title", measure)

    def meaning(self, measure: str) -> str:
        """What a measure means, in one sentence; empty where it is not known."""
        return self._entry(measure).get("meaning", "")

    def _entry(self, measure: str) -> dict[str, str]:
        return self.tables["measures"].get(measure) or self.tables["pairs"].get(measure) or {}

    def verdict(self, verdict: str) -> str:
        """A verdict of scores.json in plain words."""
        return self.tables["verdicts"][verdict]

    def foreign(self, language: str) -> str:
        """Name of an intruding language; its bare code where the name is not known."""
        return self.tables["languages"].get(language, language)

    def plural(self, key: str, count: int) -> str:
        """A phrase with a whole number in it, in the form that the number asks for."""
        return self.tables["plurals"][key][self._form(count)].format(count=self.number(count))

    def _form(self, count: int) -> str:
        if self.language == "en":
            return "one" if count == 1 else "many"
        if count % 10 == 1 and count % 100 != 11:
            return "one"
        return "few" if 2 <= count % 10 <= 4 and not 12 <= count % 100 <= 14 else "many"

    def number(self, value: float, digits: int = 0, signed: bool = False) -> str:
        """
        A number as the language writes it: 1,234.5 or 1 234,5 with a space that does not break.

        Args:
            value (`float`):
                Any finite number.
            digits (`int`, *optional*, defaults to `0`):
                Decimal places.
            signed (`bool`, *optional*, defaults to `False`):
                Whether a number above zero gets a plus sign.
        """
        text = f"{abs(value):,.{digits}f}"
        zero = not any(digit in text for digit in "123456789")
        if self.language == "ru":
            text = text.replace(",", NO_BREAK).replace(".", ",")
        sign = "" if zero else MINUS if value < 0 else "+" if signed else ""
        return sign + text

    def measure(self, value: float | None, unit: str, digits: int, difference: bool = False) -> str:
        """
        A value of a measure with its unit.

        Args:
            value (`float` or `None`):
                As scores.json has it: shares from 0 to 1.
            unit (`str`):
                `"share"`, `"characters"`, `"points"` or `"number"`.
            digits (`int`):
                See [`digits`].
            difference (`bool`, *optional*, defaults to `False`):
                Whether it is a difference: signed, and of shares in percentage points.
        """
        if value is None or not math.isfinite(value):
            return NOTHING
        if unit != "share":
            return self.number(value, digits, difference)
        return self.number(100 * value, digits, difference) + (
            NO_BREAK + self("percentage_points").replace(" ", NO_BREAK) if difference else self.percent_sign
        )

    def interval(self, score: dict[str, float | None], unit: str, digits: int, difference: bool = False) -> str:
        """The ends of a figure's interval in brackets; empty where there is none."""
        if score["low"] is None or score["high"] is None:
            return ""
        times = 100 if unit == "share" else 1
        ends = [self.number(times * score[end], digits, difference) for end in ("low", "high")]
        return f"[{('; ' if self.language == 'ru' else ', ').join(ends)}]"

    @property
    def percent_sign(self) -> str:
        return "%" if self.language == "en" else NO_BREAK + "%"

    def bytes(self, count: int) -> str:
        """A number of bytes in the larger unit that makes it at least one."""
        names = ("GiB", "MiB") if self.language == "en" else ("ГиБ", "МиБ")
        if count >= 1 << 30:
            return f"{self.number(count / (1 << 30), 2)}{NO_BREAK}{names[0]}"
        return f"{self.number(count / (1 << 20))}{NO_BREAK}{names[1]}"

    def duration(self, seconds: float) -> str:
        """A span of time in its two largest units."""
        whole = round(seconds)
        if whole < 60:
            return f"{self.number(seconds, 1)}{NO_BREAK}{self('seconds')}"
        units = ((whole // 3600, "hours"), (whole % 3600 // 60, "minutes"), (whole % 60, "seconds"))
        parts = [f"{count}{NO_BREAK}{self(unit)}" for count, unit in units if count][:2]
        return " ".join(parts)


def digits(unit: str, scores: list[dict[str, float | None]], differences: list[dict[str, float | None]] = ()) -> int:
    """
    Decimal places that a row of figures needs.

    Args:
        unit (`str`):
            Unit of the measure, see [`Words.measure`].
        scores (`list[dict]`):
            Values with `low` and `high`.
        differences (`list[dict]`, *optional*):
            Differences between them: one that is no accident must not be rounded to zero.
    """
    if unit == "characters":
        return 0
    times = 100 if unit == "share" else 1
    everything = [s[k] for s in [*scores, *differences] for k in ("value", "low", "high") if s[k] is not None]
    largest = times * max(map(abs, everything), default=0)
    if unit == "share":
        places = 1 if 0 < largest < 10 else 0
    else:
        places = 0 if largest >= 100 else 1 if largest >= 10 else 2
    sure = [times * s["value"] for s in differences if s["value"] and (s["low"] > 0 or s["high"] < 0)]
    while places < 3 and any(round(abs(value), places) == 0 for value in sure):
        places += 1
    return places
