"""The results of ratings as tables of words and numbers, for the page and for the terminal."""

import math
from dataclasses import dataclass

from ..data.ratings import CRITERIA
from ..evaluation.report.words import ABSENT, NO_BREAK, Words
from ..evaluation.statistics import Score
from .results import RatingResults


@dataclass
class ResultTable:
    """A table of texts: `title`, `head` (the first cell is empty), `rows` and a `note`."""

    title: str
    head: list[str]
    rows: list[list[str]]
    note: str = ""


def result_tables(results: RatingResults, words: Words) -> list[ResultTable]:
    """Return the tables of all figures that the ratings give, in the order of the page."""

    def figure(score: Score, digits: int, unit: str = "number") -> str:
        if math.isnan(score.value):
            return ABSENT
        ends = words.interval({"low": score.low, "high": score.high}, unit, digits) if score.low == score.low else ""
        return f"{words.measure(score.value, unit, digits)} {ends}".strip()

    criteria = words.tables["criteria"]
    columns = (*CRITERIA, "total")
    tables = [
        ResultTable(
            words("means"),
            ["", *(criteria[name] for name in columns), words("rated")],
            [
                [system, *(figure(means[name], 1) for name in columns), words.number(means["total"].cases)]
                for system, means in results.means.items()
            ],
            words("means_note"),
        ),
        ResultTable(
            words("win_rates"),
            ["", words("win_rate"), words("wins"), words("losses"), words("ties")],
            [
                [
                    words("against", first=pair.systems[0], second=pair.systems[1]),
                    figure(pair.win_rate, 0, "share"),
                    *map(words.number, (pair.wins, pair.losses, pair.ties)),
                ]
                for pair in results.pairs
            ],
            words("win_rates_note"),
        ),
        ResultTable(
            words("ranking"),
            ["", words("strength")],
            [[f"{place}. {name}", figure(score, 0)] for place, (name, score) in enumerate(results.ranking.items(), 1)],
            words("ranking_note"),
        ),
        ResultTable(
            words("agreement"),
            ["", "α", words("shared")],
            [
                [criteria[name], figure(score, 2), words.number(score.cases)]
                for name, score in results.agreement.items()
            ],
            words("agreement_note"),
        ),
        ResultTable(
            words("pace"),
            ["", words("median_seconds"), words("rated")],
            [
                [rater, words.number(seconds) + NO_BREAK + words("seconds"), words.number(count)]
                for rater, (seconds, count) in results.seconds.items()
            ],
        ),
    ]
    if results.left.cases:
        tables.insert(
            3,
            ResultTable(
                words("sides"),
                ["", words("left_share")],
                [["", figure(results.left, 0, "share")]],
                words("sides_note"),
            ),
        )
    return [table for table in tables if table.rows]


def results_in_words(results: RatingResults, words: Words) -> str:
    """Return the results as text for the terminal, tables with aligned columns."""
    parts = [_summary(results, words)]
    for table in result_tables(results, words):
        lines = [table.head, *table.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(table.head))]
        text = [
            "  "
            + "  ".join(cell.ljust(width) if number == 0 else cell.rjust(width) for number, (cell, width) in cells)
            for cells in (list(enumerate(zip(line, widths, strict=True))) for line in lines)
        ]
        parts.append(
            "\n".join([table.title, *(line.rstrip() for line in text), *([f"  {table.note}"] if table.note else [])])
        )
    for number, dispute in enumerate(results.disputed[:3], start=1):
        opinions = ", ".join(
            f"{rater}: {words('tie') if opinion == 'tie' else opinion}" for rater, opinion in dispute.opinions
        )
        parts.append(f"{words('disputed')} {number}: {' '.join(dispute.prompt.split())[:100]}\n  {opinions}")
    return "\n\n".join(parts).replace(NO_BREAK, " ")


def _summary(results: RatingResults, words: Words) -> str:
    line = f"{words.plural('ratings', results.judgements)}, {words.plural('raters', results.raters)}"
    return f"{line}. {words.plural('marked', results.marked)}" if results.marked else f"{line}."
