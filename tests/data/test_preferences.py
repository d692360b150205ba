import pytest
from datasets import Dataset

from preferans.data.preferences import (
    check_leakage,
    check_rows,
    column_or_numbers,
    fingerprint,
    prompt_problem,
    row_problem,
)
from preferans.errors import PreferansError

from ..support.pairs import messages
from ..support.rows import preference


def test_a_valid_row_has_no_problem():
    assert row_problem(preference(1)) is None


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"chosen": None}, "'chosen' is missing"),
        ({"rejected": []}, "'rejected' is missing"),
        ({"prompt": "Вопрос?"}, "'prompt' must be a list of messages"),
        ({"prompt": messages("Ответ")}, "'prompt' must end with a message of the user"),
        ({"chosen": messages("Да", "user")}, "'chosen' must be exactly one message of the assistant"),
        ({"chosen": messages("Да") + messages("Нет")}, "'chosen' must be exactly one message of the assistant"),
        ({"chosen": messages(" \n")}, "'chosen' has a message without text"),
        ({"chosen": [{"role": "assistant", "content": None}]}, "'chosen' has a message without text"),
        ({"rejected": [{"role": "bot", "content": "Да"}]}, "'rejected' has a message with the role 'bot'"),
        ({"chosen": messages("Да."), "rejected": messages("Да. ")}, "the same text"),
        (
            {"prompt": messages("Почему небо голубое?", "user"), "chosen": messages("Почему небо голубое? Потому.")},
            "repeats the prompt",
        ),
    ],
)
def test_names_each_violation_of_the_contract(changes, problem):
    assert problem in row_problem(preference(1, **changes))


def test_an_absent_column_is_missing():
    row = preference(1)
    del row["chosen"]
    assert row_problem(row) == "'chosen' is missing"


def test_an_answer_may_begin_with_a_short_prompt():
    assert row_problem(preference(1, prompt=messages("Зачем?", "user"), chosen=messages("Зачем? Затем."))) is None


def test_the_error_names_the_dataset_and_the_row():
    rows = [preference(1), preference(2, chosen=None), preference(3, rejected=None)]
    with pytest.raises(
        PreferansError, match=r"^data/x, split train, row 2 \(id c2:r2\): 'chosen' is missing. 2 rows of 3"
    ):
        check_rows(rows, "data/x, split train")
    with pytest.raises(PreferansError, match="the dataset is empty"):
        check_rows([], "data/x")


def test_refuses_leakage():
    train, test = Dataset.from_list([preference(1)]), Dataset.from_list([preference(2, message_tree_id="tree1")])
    with pytest.raises(PreferansError, match="1 conversation trees are in both .* tree1"):
        check_leakage(train, test, "data/x")
    check_leakage(train, Dataset.from_list([preference(2)]), "data/x")


def test_the_fingerprint_depends_on_every_value():
    splits = {"train": [preference(1)], "test": [preference(2)]}
    same = fingerprint({"test": [dict(reversed(preference(2).items()))], "train": [preference(1)]})
    assert fingerprint(splits) == same
    assert fingerprint(splits) != fingerprint({"train": [preference(1)], "test": [preference(2, chosen_rank=1)]})
    assert fingerprint({"train": [preference(1, source="\ud800")]})  # a lone surrogate


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"chosen": " "}, "'chosen' has no text"),
        ({"chosen": "да", "rejected": " да"}, "the same text"),
        ({"prompt": "Почему небо голубое? ", "chosen": "Почему небо голубое? Потому."}, "repeats the prompt"),
        ({"rejected": None}, "'rejected' is missing"),
    ],
)
def test_texts_have_the_same_contract(changes, problem):
    row = {"prompt": "Вопрос", "chosen": "да", "rejected": "нет"}
    assert row_problem(row) is None
    assert problem in row_problem(row | changes)


def test_a_prompt_is_checked_as_in_a_row():
    assert prompt_problem(preference(1)["prompt"]) is prompt_problem("Вопрос") is None
    for prompt in (None, [], messages("Ответ"), messages(" ", "user"), messages("\ud800", "user")):
        problem = prompt_problem(prompt)
        assert problem is not None and problem == row_problem(preference(1, prompt=prompt))


def test_a_lone_surrogate_is_a_problem():
    for row in (preference(1, chosen=messages("\ud800")), {"prompt": "Вопрос", "chosen": "\ud800", "rejected": "нет"}):
        assert row_problem(row).startswith("'chosen' contains half a character (a lone surrogate)")


def test_rows_without_a_column_are_numbered():
    rows = Dataset.from_list([preference(1), preference(2)])
    assert column_or_numbers(rows, "id") == ["c1:r1", "c2:r2"]
    assert column_or_numbers(rows, "absent") == ["0", "1"]


def test_a_missing_conversation_is_a_conversation_of_its_own():
    rows = Dataset.from_list(
        [preference(n) | {"message_tree_id": tree} for n, tree in enumerate(["t", None, "t", None])]
    )
    groups = column_or_numbers(rows, "message_tree_id")
    assert groups[0] == groups[2] == "t" and len(set(groups)) == 3 and all(isinstance(group, str) for group in groups)
