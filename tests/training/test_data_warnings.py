from datasets import Dataset

from preferans.training.data_warnings import warn_of_data

from ..support.rows import preference


def rows(start: int, count: int) -> Dataset:
    return Dataset.from_list([preference(number) for number in range(start, start + count)])


def test_enough_pairs_need_no_warning(capsys):
    warn_of_data(rows(0, 200), rows(200, 30))
    assert capsys.readouterr().out == ""


def test_too_few_pairs(capsys):
    warn_of_data(rows(0, 199), rows(200, 29))
    train, test = capsys.readouterr().out.splitlines()
    assert train.startswith("*** Only 199 training pairs") and test.startswith("*** Only 29 test pairs")


def test_copies_of_training_pairs(capsys):
    warn_of_data(rows(0, 200), rows(190, 40))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("*** 10 of 40 test pairs are copies of training pairs")


def test_thinking_blocks(capsys):
    thinking = [{"role": "assistant", "content": "<think>\nХм.\n</think>\n\nДа."}]
    train = Dataset.from_list(
        [preference(number, **({"chosen": thinking} if number < 3 else {})) for number in range(200)]
    )
    warn_of_data(train, rows(200, 30))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("*** 3 training pairs have an answer with a thinking block")
