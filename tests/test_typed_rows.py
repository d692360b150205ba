"""Typed rows and their error messages."""

import pytest

from preferans.errors import PreferansError
from preferans.typed_rows import AnyText, Message, Row, Text, check_row


class _Answer(Row):
    id: Text
    prompt: list[Message]
    note: AnyText = ""
    count: int = 0


VALID = {"id": "a", "prompt": [{"role": "user", "content": "Да?"}]}


def test_a_valid_row_becomes_an_object():
    row = check_row(_Answer, VALID | {"note": ""}, "x.jsonl, line 1")
    assert (row.id, row.prompt[0].content, row.count) == ("a", "Да?", 0)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([], "x.jsonl, line 3: the row must be"),
        ({"id": "a"}, "'prompt' is missing. The keys are id, prompt, note, count."),
        (VALID | {"nota": ""}, "the key 'nota' is unknown. Did you mean 'note'?"),
        (VALID | {"id": " "}, "'id' "),
        (VALID | {"id": "\ud800"}, "'id' "),
        (VALID | {"count": "1"}, "'count' must be an integer, got '1'."),
        (VALID | {"prompt": [{"role": "user"}]}, "'prompt', item 1, 'content' is missing."),
    ],
)
def test_an_error_names_location_key_and_problem(row, message):
    with pytest.raises(PreferansError) as caught:
        check_row(_Answer, row, "x.jsonl, line 3")
    assert str(caught.value).startswith("x.jsonl, line 3: ") and message in str(caught.value)
