import pytest
from datasets import load_dataset

from preferans.errors import PreferansError
from preferans.files import write_jsonl

from ..support.rows import preference

QUESTIONS = [
    "Как быстро остудить чай?",
    "Почему трава зелёная?",
    "Где зимуют ласточки?",
    "Сколько лет живёт черепаха?",
    "Зачем кошке усы?",
    "Отчего скрипит снег под ногами?",
]
GOOD, BAD = "Это просто: всё дело в природе вещей.", "Это consider просто, дело в природе вещей."


@pytest.fixture
def answers(tmp_path):
    rows = [
        {
            "id": f"q{number}#{which}",
            "prompt": [{"role": "user", "content": question}],
            "answer": text.replace("Это", f"Это {number}"),
            "model": "tuned",
            "finish_reason": "stop",
        }
        for number, question in enumerate(QUESTIONS)
        for which, text in enumerate([BAD, GOOD if number else BAD + " Да."])
    ]
    write_jsonl(tmp_path / "four.jsonl", rows)
    return tmp_path / "four.jsonl"


@pytest.fixture
def build(call_script, answers, tmp_path):
    def call(*options) -> dict:
        output = tmp_path / "pairs"
        call_script("data_builders/ranked_answers_ru.py", "--source", answers, "--output_dir", output, *options)
        return load_dataset(str(output), cache_dir=str(tmp_path / "cache"))

    return call


def test_pairs_by_measures_with_their_card(build, tmp_path, capsys):
    splits = build("--test_size", "0.2")
    rows = [row for split in splits.values() for row in split.to_list()]
    assert len(rows) == 5 and {len(split) for split in splits.values()} == {1, 4}
    assert all("consider" in row["rejected"][0]["content"] for row in rows)
    assert not any("consider" in row["chosen"][0]["content"] for row in rows)
    card = (tmp_path / "pairs" / "README.md").read_text(encoding="utf-8")
    assert "not in Russian, loops, breaks off, has an intruding foreign word" in card
    assert "| no answer without a fault | 1 |" in card and "| pair made | 5 |" in card
    assert "Next: train on it" in capsys.readouterr().out


def test_pairs_of_people_are_mixed_in(build, tmp_path):
    for split, numbers in (("train", range(40)), ("test", range(40, 42))):
        rows = [preference(number) for number in numbers]
        for row, word in zip(rows, "абвгдежзиклмнопрстуфхцчшщэюяАБВГДЕЖЗИКЛМ", strict=False):
            row["prompt"][0]["content"] = word * 30
        write_jsonl(tmp_path / "human" / f"{split}.jsonl", rows)
    train = build("--anchor", tmp_path / "human", "--anchor_share", "0.5", "--test_size", "0.2")["train"]
    assert sorted(row["source"] for row in train) == ["oasst"] * 4 + ["ranked answers"] * 4
    assert "are 50% of the training split" in (tmp_path / "pairs" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--by", "verdicts"], "--by verdicts and --verdicts FILE belong together"),
        (["--anchor_share", "1"], "--anchor_share 1.0: it must be above 0 and below 1"),
        (["--min_gap", "30"], "--min_gap 30.0: it must be from 0 to 20"),
        (["--test_size", "2"], "--test_size 2.0"),
    ],
)
def test_mistakes_are_one_message(build, options, words):
    with pytest.raises(PreferansError) as caught:
        build(*options)
    assert words in str(caught.value)


def test_answers_without_a_pair(build, answers):
    write_jsonl(
        answers,
        [
            {
                "id": "1",
                "prompt": [{"role": "user", "content": "Как?"}],
                "answer": "Так.",
                "model": "m",
                "finish_reason": "stop",
            }
        ],
    )
    with pytest.raises(
        PreferansError, match=r"no prompt makes a pair\. Generate several answers to each prompt \(--num_answers 4\)"
    ):
        build()
