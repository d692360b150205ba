import pytest

from preferans.data.check import check_dataset
from preferans.data.check_report import report_text
from preferans.data.repair import fix_dataset
from preferans.data.trainer_view import EXAMPLE_ROWS, length_statistics

from ..support.pairs import findings, messages, valid_row
from ..support.rows import preference
from ..support.tiny import CHAT_TEMPLATE, make_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def test_shows_the_masked_and_the_scored_text(tokenizer):
    report = check_dataset({"train": [valid_row(0), valid_row(1)]}, tokenizer)
    assert report.findings == []
    assert report.lengths["unit"] == "tokens"
    chosen = report.examples[0]["chosen"]
    assert chosen["masked"].startswith("<|begin_of_text|><|start_header_id|>user")
    assert chosen["masked"].endswith("<|start_header_id|>assistant<|end_header_id|>\n\n")
    assert chosen["scored"] == "Хороший ответ 0.<|eot_id|>"
    assert "⟦Хороший ответ 0.<|eot_id|>⟧" in report_text(report, "data/x")
    assert "⟦Плохой ответ 0!<|eot_id|>⟧" in report_text(report, "data/x")


def test_measures_lengths_in_tokens(tokenizer):
    rows = [valid_row(0), valid_row(1), valid_row(2, prompt=messages("Слово " * 80 + "?", "user"))]
    lengths = check_dataset({"train": rows}, tokenizer).lengths
    short, longest = lengths["pair"]["median"], lengths["pair"]["longest"]
    assert findings(rows, tokenizer, max_length=longest) == {}
    assert findings(rows, tokenizer, max_length=longest - 1) == {"truncated": ("warning", 1)}
    assert findings(rows, tokenizer, max_length=lengths["prompt"]["longest"]) == {"prompt_too_long": ("error", 1)}
    assert findings(rows, tokenizer, max_length=short - 5)["truncated"] == ("warning", 2)
    cut = check_dataset({"train": rows[1:2]}, tokenizer, max_length=short - 5).examples[0]["chosen"]
    assert cut["cut_tokens"] > 0
    assert cut["masked_tokens"] + cut["scored_tokens"] == short - 5
    frames, counts = fix_dataset({"train": rows}, tokenizer, lengths["prompt"]["longest"])
    assert len(frames["train"]) == 2
    assert ("dropped: the prompt alone fills max_length", 1) in counts["rows"]


def test_shows_ten_training_rows_evenly_spread():
    splits = {"test": [preference(100)], "train": [preference(number) for number in range(4 * EXAMPLE_ROWS)]}
    examples = check_dataset(splits).examples
    assert [example["row"] for example in examples] == [
        f"c{number}:r{number}" for number in range(0, 4 * EXAMPLE_ROWS, 4)
    ]


@pytest.mark.parametrize(
    ("lengths", "bars"),
    [
        ([0, 0], [(0, 1, 2)]),
        ([5, 6, 7], [(5, 6, 1), (6, 7, 1), (7, None, 1)]),
        ([*range(100), 10**6], [(i * 20, i * 20 + 20, 20) for i in range(5)] + [(100, None, 1)]),
    ],
)
def test_counts_lengths_in_about_eight_bars(lengths, bars):
    ids = [{"prompt_ids": [0] * length, "chosen_ids": [], "rejected_ids": []} for length in lengths]
    histogram = length_statistics([(None, tokens) for tokens in ids], 1024)["histogram"]
    assert [tuple(bar.values()) for bar in histogram] == bars
