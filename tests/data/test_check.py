import functools
import json
import random
import unicodedata

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
    implicit = (
        {"implicit_prompt"} if "implicit" in request.node.callspec.id else set()
    )  # scripts/dpo.py needs the column
    assert {finding.check for finding in report.findings} == implicit
    assert report.splits == {"train": 4, "test": 1}
    assert report.harmful == bool(implicit)
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


@pytest.mark.parametrize(
    ("text", "is_russian"),
    [
        ("Як справи? Я живу у Києві та працюю вчителем у школі.", False),
        ("Аз живея в София и работя като учител в училище.", False),
        ("Тут is a mistake in your code, please fix it before you run it again.", False),
        ("Wait six minutes and cool the egg under cold water.", False),
        ("SELECT name FROM clients WHERE city = 'Kazan';", True),
        ("```python\nprint('hello')\n```", True),
        ("https://docs.python.org/3/library/json.html", True),
        ("E = mc^2", True),
        ("The Lord of the Rings", True),
        ("42", True),
    ],
)
def test_the_language_is_judged_by_prose(text, is_russian):
    rows = [valid_row(i, **({"chosen": messages(text)} if i == 1 else {})) for i in range(4)]
    assert findings(rows).get("language") == (None if is_russian else ("warning", 1))


def test_finds_answers_that_differ_only_beyond_max_length(tokenizer):
    long = {
        column: messages(" ".join(map(str, range(100))) + end)
        for column, end in (("chosen", "да."), ("rejected", "нет."))
    }
    rows = [valid_row(0), valid_row(1, **long)]
    assert findings(rows, tokenizer, 60) == {"equal_after_cut": ("error", 1)}
    assert "equal_after_cut" not in findings(rows, tokenizer, 2000)
    _, counts = fix_dataset({"train": rows}, tokenizer, 60)
    assert ("dropped: chosen and rejected differ only beyond max_length", 1) in counts["rows"]


def test_finds_plain_texts_for_a_model_with_a_chat_template(tokenizer):
    rows = [{"prompt": "Как?", "chosen": " Так.", "rejected": " Нет."}]
    assert findings(rows, tokenizer)["plain_text"] == ("warning", 1)
    assert "plain_text" not in findings(rows, make_tokenizer())


def test_decomposed_unicode_hides_nothing():
    nfd = functools.partial(unicodedata.normalize, "NFD")
    equal = valid_row(1, chosen=messages("Ёлка стоит."), rejected=messages(nfd("Ёлка стоит.")))
    assert findings([valid_row(0), equal]) == {"equal": ("error", 1)}
    assert "same text" in row_problem(equal)
    splits = {"train": [valid_row(0, prompt=messages(nfd("Почему ёлка зелёная?"), "user"))]}
    splits["test"] = [valid_row(1, prompt=messages("Почему ёлка зелёная?", "user"))]
    assert findings(splits)["prompt_leakage"] == ("error", 1)
    echo = valid_row(1, prompt=messages(QUESTION, "user"), chosen=messages(nfd(QUESTION) + " Рассеяние."))
    assert findings([valid_row(0), echo])["prompt_echo"] == ("error", 1)


def test_a_style_that_gives_the_label_away_is_a_shortcut():
    def pair(number: int, first: str, second: str) -> dict:
        topic = f"Вопрос {''.join(chr(1072 + int(digit)) for digit in str(number))} о деле {number * 7919}"
        return preference(number, prompt=messages(topic, "user"), chosen=messages(first), rejected=messages(second))

    drawn = random.Random(0)
    words = ["дом", "река", "поезд", "весна", "окно", "музыка", "вечер", "письмо", "дорога", "хлеб", "улица", "снег"]

    def sentence() -> str:
        return " ".join(drawn.choices(words, k=8)).capitalize() + "."

    plain = [pair(i, sentence(), sentence()) for i in range(120)]
    assert "shortcut" not in findings(plain)
    styled = [pair(i, "Вот ответ: " + sentence(), "Ну, как бы " + sentence()) for i in range(120)]
    report = check_dataset({"train": styled})
    problem = next(finding.problem for finding in report.findings if finding.check == "shortcut")
    assert "recognizes 100% of the chosen answers" in problem
    assert "shortcut" not in findings(styled[:99])


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
    if not report.harmful:  # training and the check agree on what trains
        assert [row_problem(row) for part in splits.values() for row in part if row_problem(row)] == []
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
