import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preferans.data.check import check_dataset
from preferans.data.check_report import report_text
from preferans.data.preferences import row_problem
from preferans.data.repair import REPAIR_DROP_REASONS, fix_dataset

from ..support.pairs import QUESTION, SHAPES, findings, messages, valid_row
from ..support.rows import preference
from ..support.tiny import CHAT_TEMPLATE, make_tokenizer


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_accepts_valid_rows_of_each_format(shape, request):
    report = check_dataset({"train": [shape(valid_row(i)) for i in range(4)], "test": [shape(valid_row(5))]})
    assert f"{report.format} {report.prompt}" == request.node.callspec.id
    assert report.findings == []
    assert report.splits == {"train": 4, "test": 1}
    assert not report.harmful
    assert report.lengths["unit"] == "characters"
    assert sum(bar["rows"] for bar in report.lengths["histogram"]) == 5
    assert [example["row"] for example in report.examples] == ["c0:r0", "c1:r1", "c2:r2", "c3:r3"]


def numbered(number: int, chosen: str, rejected: str) -> dict:
    return preference(number, chosen=messages(f"{chosen} {number}"), rejected=messages(f"{rejected} {number}"))


@pytest.mark.parametrize(("longer", "of", "harm"), [(14, 20, True), (13, 20, False), (6, 20, True), (19, 19, False)])
def test_finds_length_bias(longer, of, harm):
    rows = [numbered(i, *(("длинный", "ответ") if i < longer else ("ответ", "длинный"))) for i in range(of)]
    assert findings(rows) == ({"length_bias": ("warning", longer)} if harm else {})


def test_finds_other_and_mixed_languages():
    russian, english = ("Да", "Нет"), ("Yes", "Нет")
    few = [numbered(i, *(english if i < 3 else russian)) for i in range(5)]
    assert findings(few) == {"language": ("error", 3)}
    assert findings(few, language="en") == {}
    assert findings(few[2:]) == {"language": ("warning", 1)}
    assert findings([*(numbered(i, "1", "2") for i in range(3)), valid_row(4)]) == {}  # no letters, no language
    mixed = [
        numbered(i, "совсем простой answer" if i < 6 else "Длинный ответ", "Совсем длинный ответ") for i in range(20)
    ]
    assert findings(mixed)["foreign_words"] == ("warning", 6)
    assert "foreign_words" not in findings([*mixed[1:], valid_row(1)])


def test_finds_a_dataset_without_a_training_split():
    assert findings({"test": [valid_row(0)]}) == {"no_training_split": ("error", 1)}


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["\ud800", "</s>", QUESTION]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "x"]), inner, max_size=3)
    ),
    max_leaves=5,
)


MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "assistant", "tool", "gpt"]),
            "content": st.sampled_from(["Да", "", QUESTION, "Да</s>"]),
        }
    ),
    max_size=3,
)


COLUMN_NAMES = st.sampled_from(
    ["id", "prompt", "chosen", "rejected", "message_tree_id", "chosen_rank", "extra", "tools"]
)


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 7),
            st.dictionaries(COLUMN_NAMES, VALUES | MESSAGES, max_size=3),
            st.sets(COLUMN_NAMES, max_size=2),
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(list(SHAPES)),
    st.lists(VALUES, max_size=2),
)
def test_damaged_rows_give_findings_and_every_row_is_counted(tokenizer, damages, shape, strangers):
    rows = []
    for number, changes, missing in damages:
        row = SHAPES[shape](valid_row(number)) | changes
        rows.append({key: value for key, value in row.items() if key not in missing})
    splits = {"train": [*rows, *strangers], "test": [SHAPES[shape](valid_row(7))]}
    report = check_dataset(splits, tokenizer, max_length=200)
    report_text(report, "data/x")
    json.dumps(report.as_json("data/x"))
    frames, counts = fix_dataset(splits, tokenizer, max_length=200)
    kept = sum(map(len, frames.values()))
    dropped = sum(number for label, number in counts["rows"] if label.startswith("dropped"))
    assert kept + dropped == len(rows) + len(strangers) + 1
    assert all(label.removeprefix("dropped: ") in REPAIR_DROP_REASONS.values() for label, _ in counts["rows"][1:-1])
    assert [row_problem(row) for frame in frames.values() for row in frame.iter_rows(named=True)] == [None] * kept
    again = check_dataset({name: frame.to_dicts() for name, frame in frames.items()}, tokenizer, 200, language="any")
    left = {finding.check for finding in again.findings if finding.severity == "error"}
    assert left <= ({"no_training_split"} if "train" not in frames else set())
