import pytest

from preferans.data.check import Report, check_dataset
from preferans.data.check_report import fixed_text, report_text, summary_line

from ..support.pairs import messages, valid_row


def report_of(*rows, **kwargs) -> Report:
    return check_dataset({"train": list(rows)}, **kwargs)


@pytest.mark.parametrize(
    ("rows", "summary"),
    [
        ([valid_row(0)], "No errors, no warnings. Ready for training."),
        ([valid_row(0), valid_row(0)], "No errors, 1 warning (duplicate). Ready for training."),
        (
            [valid_row(0), valid_row(1, chosen=None), valid_row(2, rejected=None), valid_row(3, prompt=[])],
            "3 errors (schema, empty), no warnings. Not ready for training.",
        ),
        ([{"text": "Да"}], "No row can be read as a preference pair."),
    ],
)
def test_summarizes_the_findings(rows, summary):
    assert summary_line(report_of(*rows)) == summary


def test_a_report_shows_rows_lengths_and_findings():
    text = report_text(
        report_of(valid_row(0, rejected=messages("а\nб\x1b")), valid_row(1, id="x", chosen=None)), "pairs"
    )
    for line in (
        "pairs: 2 rows in train; conversational, explicit prompt.",
        "1. c0:r0",
        "  prompt:   [user] Почему трава зелёная?",
        "  rejected: а↵б�",
        "ERROR schema (1 row, 50.0%): 'chosen' is null.",
        "  Rows: x",
    ):
        assert line in text.split("\n")
    assert "Length of the prompt with the longer answer, in characters: mean 37, median 37, 95 % up to 37" in text


def test_long_texts_are_shortened_in_the_middle():
    text = report_text(report_of(valid_row(0, chosen=messages("начало " + "слово " * 200 + "конец"))), "pairs")
    assert "chosen:   начало слово" in text and "слово […] " in text and "слово конец" in text


def test_a_repaired_dataset_is_described_with_its_remaining_errors():
    counts = {"rows": [("read", 1234), ("kept", 2)], "columns": [("left out", "extra")]}
    text = fixed_text("data/fixed", counts, report_of(valid_row(0), valid_row(1, chosen=None)))
    assert text.startswith("\nRepaired dataset in data/fixed: 2 rows in train.\n     1,234  read\n")
    assert "  left out: extra" in text and "ERROR schema" in text
    assert text.endswith("Checked again: 1 error (schema), no warnings. Not ready for training.")
