import pytest
from datasets import Dataset

from preferans.errors import PreferansError
from preferans.training.cut_pairs import report_cut_pairs, warn_of_plain_texts

from ..support.pairs import as_plain, messages, valid_row
from ..support.tiny import CHAT_TEMPLATE, make_tokenizer

LONG = " ".join(map(str, range(60)))


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def rows_with(equal: int, number: int, plain: bool = False) -> Dataset:
    """Rows whose answers are short, but those of the first `equal` differ only at their end."""
    rows = [valid_row(i % 8) for i in range(number)]
    long = {column: messages(LONG + end) for column, end in (("chosen", " да."), ("rejected", " нет."))}
    rows = [row | long if i < equal else row for i, row in enumerate(rows)]
    return Dataset.from_list([as_plain(row) if plain else row for row in rows])


@pytest.mark.parametrize("plain", [False, True])
def test_counts_pairs_that_are_cut_and_equal_after_the_cut(plain, tokenizer, capsys):
    rows = rows_with(1, 12, plain)
    assert report_cut_pairs(rows, tokenizer, 100, "The training split") == (1, 1)
    printed = capsys.readouterr().out
    assert "in 1 of 12 pairs, the answers are equal after truncation to max_length 100" in printed
    assert "1 of 12 pairs are longer than max_length 100 and are truncated" in printed
    assert report_cut_pairs(rows, tokenizer, 2000, "The training split") == (0, 0)
    assert report_cut_pairs(rows, tokenizer, None, "The training split") == (0, 0)
    assert capsys.readouterr().out == ""


def test_many_equal_pairs_are_an_error(tokenizer):
    with pytest.raises(PreferansError, match="in 2 of 12 pairs, the answers are equal .* Raise max_length"):
        report_cut_pairs(rows_with(2, 12), tokenizer, 100, "The training split")


def test_warns_of_plain_texts_for_a_model_with_a_chat_template(tokenizer, capsys):
    warn_of_plain_texts(rows_with(0, 2), tokenizer, "model")
    warn_of_plain_texts(rows_with(0, 2, plain=True), make_tokenizer(), "model")
    assert capsys.readouterr().out == ""
    warn_of_plain_texts(rows_with(0, 2, plain=True), tokenizer, "model")
    assert "model has a chat template" in capsys.readouterr().out
