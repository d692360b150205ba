"""Words and number formats of the report, in English and Russian."""

import json
import math
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ...utf8 import writable

REPORT_LANGUAGES = ("en", "ru")
NO_BREAK = "\u00a0"
MINUS = "\u2212"
ABSENT = "—"
GAIN = "test_normalised_accuracy_gain"
# Control characters are not valid HTML, and bidirectional marks could reorder the report's own words.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
# Russian typography forbids a line break after a word of one or two letters, before a dash and before a percent sign.
_BOUND = re.compile(r"(?<![А-Яа-яЁё{])([А-Яа-яЁё]{1,2}) (?=\S)| (?=—)|(?<=\d) (?=%)")


def printable(text: str) -> str:
    return _UNPRINTABLE.sub("\ufffd", writable(text))


def text_or_json(value: Any) -> str:
    """Show a string as it is and any other value as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@cache
def _read(language: str, folder: Path) -> dict[str, dict[str, Any]]:
    text = (folder / f"words_{language}.yaml").read_text(encoding="utf-8")
    return _bound(yaml.safe_load(text)) if language == "ru" else yaml.safe_load(text)


def _bound(words: Any) -> Any:
    if isinstance(words, dict):
        return {key: _bound(value) for key, value in words.items()}
    return _BOUND.sub(lambda match: (match[1] or "") + NO_BREAK, words)


class Words:
    """
    Sentences, labels and numbers in one language.

    Args:
        language (`str`): `"en"` or `"ru"`.
        folder (`Path`, *optional*): Folder of `words_en.yaml` and `words_ru.yaml`; by default those of the report.
    """

    def __init__(self, language: str, folder: Path = Path(__file__).parent):
        if language not in REPORT_LANGUAGES:
            raise ValueError(f"The report is written in {' or '.join(REPORT_LANGUAGES)}, not in {language!r}.")
        self.language = language
        self.tables = _read(language, folder)

    def __call__(self, key: str, **values: str) -> str:
        """Return a sentence or a label with its placeholders filled."""
        return self.tables["text"][key].format(**values)

    def title(self, measure: str) -> str:
        """Return the title of a measure of answers or of held-out pairs, or its bare name if it has no title."""
        return self._entry(measure).get("title", measure)

    def meaning(self, measure: str) -> str:
        """Return the meaning of a measure in one sentence, or an empty string."""
        return self._entry(measure).get("meaning", "")

    def _entry(self, measure: str) -> dict[str, str]:
        return self.tables["measures"].get(measure) or self.tables["pairs"].get(measure) or {}

    def verdict(self, verdict: str) -> str:
        """Return a verdict of scores.json in words."""
        return self.tables["verdicts"][verdict]

    def foreign(self, language: str) -> str:
        """Return the name of an intruding language, or its code if the name is unknown."""
        return self.tables["languages"].get(language, language)

    def versus(self, system: str, against: str, **_: Any) -> str:
        """Name a comparison of two systems."""
        return self("difference_to", system=system, against=against)

    def plural(self, key: str, count: int) -> str:
        """Return a phrase with a whole number in the plural form that the number requires."""
        return self.tables["plurals"][key][self._form(count)].format(count=self.number(count))

    def _form(self, count: int) -> str:
        if self.language == "en":
            return "one" if count == 1 else "many"
        if count % 10 == 1 and count % 100 != 11:
            return "one"
        return "few" if 2 <= count % 10 <= 4 and not 12 <= count % 100 <= 14 else "many"

    def number(self, value: float, digits: int = 0, signed: bool = False) -> str:
        """
        Format a finite number: 1,234.5 in English, 1 234,5 with a non-breaking space in Russian.

        Args:
            value (`float`)
            digits (`int`, *optional*, defaults to `0`): Decimal places.
            signed (`bool`, *optional*, defaults to `False`): Whether a positive number gets a plus sign.
        """
        text = f"{abs(value):,.{digits}f}"
        zero = not any(digit in text for digit in "123456789")
        if self.language == "ru":
            text = text.replace(",", NO_BREAK).replace(".", ",")
        sign = "" if zero else MINUS if value < 0 else "+" if signed else ""
        return sign + text

    def measure(self, value: float | None, unit: str, digits: int, difference: bool = False) -> str:
        """
        Format a value of a measure with its unit.

        Args:
            value (`float` or `None`): A value of scores.json; shares are from 0 to 1.
            unit (`str`): `"share"`, `"characters"`, `"points"` or `"number"`.
            digits (`int`): Decimal places, see [`digits`].
            difference (`bool`, *optional*, defaults to `False`):
                Whether the value is a difference: it is signed, and one of shares is in percentage points.
        """
        if value is None or not math.isfinite(value):
            return ABSENT
        if unit != "share":
            return self.number(value, digits, difference)
        return self.number(100 * value, digits, difference) + (
            NO_BREAK + self("percentage_points").replace(" ", NO_BREAK) if difference else self.percent_sign
        )

    def interval(self, score: dict[str, float | None], unit: str, digits: int, difference: bool = False) -> str:
        """Format the interval of a figure, or return an empty string if it has none."""
        if score["low"] is None or score["high"] is None:
            return ""
        scale = 100 if unit == "share" else 1
        ends = [self.number(scale * end, digits, difference) for end in (score["low"], score["high"])]
        return f"[{('; ' if self.language == 'ru' else ', ').join(ends)}]"

    @property
    def percent_sign(self) -> str:
        return "%" if self.language == "en" else NO_BREAK + "%"

    def bytes(self, count: int) -> str:
        """Format a number of bytes in GiB, or in MiB below 1 GiB."""
        names = ("GiB", "MiB") if self.language == "en" else ("ГиБ", "МиБ")
        if count >= 1 << 30:
            return f"{self.number(count / (1 << 30), 2)}{NO_BREAK}{names[0]}"
        return f"{self.number(count / (1 << 20))}{NO_BREAK}{names[1]}"

    def duration(self, seconds: float) -> str:
        """Format a duration in its two largest units."""
        whole = round(seconds)
        if whole < 60:
            return f"{self.number(seconds, 1)}{NO_BREAK}{self('seconds')}"
        units = ((whole // 3600, "hours"), (whole % 3600 // 60, "minutes"), (whole % 60, "seconds"))
        parts = [f"{count}{NO_BREAK}{self(unit)}" for count, unit in units if count][:2]
        return " ".join(parts)


def digits(
    unit: str, scores: Sequence[dict[str, float | None]], differences: Sequence[dict[str, float | None]] = ()
) -> int:
    """
    Choose the decimal places for a row of figures.

    Args:
        unit (`str`): Unit of the measure, see [`Words.measure`].
        scores (`Sequence[dict]`): Values with `low` and `high`.
        differences (`Sequence[dict]`, *optional*):
            Differences between them; a detectable difference is not rounded to zero.
    """
    if unit == "characters":
        return 0
    scale = 100 if unit == "share" else 1
    ends = [score[key] for score in [*scores, *differences] for key in ("value", "low", "high")]
    largest = scale * max((abs(end) for end in ends if end is not None), default=0)
    if unit == "share":
        places = 1 if 0 < largest < 10 else 0
    else:
        places = 0 if largest >= 100 else 1 if largest >= 10 else 2
    detected = [
        scale * value
        for score in differences
        if (value := score["value"]) and ((score["low"] or 0) > 0 or (score["high"] or 0) < 0)
    ]
    while places < 3 and any(round(abs(value), places) == 0 for value in detected):
        places += 1
    return places
