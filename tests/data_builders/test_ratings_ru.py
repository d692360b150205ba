"""The builder of pairs from people's ratings, as a command."""

import re

import pytest
from datasets import load_dataset

from preferans.errors import PreferansError
from preferans.files import write_jsonl

from ..support.ratings import judgement, prompt, scores

BUILDER = "data_builders/ratings_ru.py"


QUESTIONS = (
    "Как быстро остудить чай?",
    "Почему Луна не падает на Землю?",
    "С чего начать читать Чехова?",
    "Чем загустить тыквенный суп без сливок?",
    "Сколько раз в неделю поливать фикус?",
)


@pytest.fixture
def export(tmp_path):
    rows = []
    for number, question in enumerate(QUESTIONS, start=1):
        changes = {"prompt": prompt(question), "scores": scores(a1=21, a2=12)}
        rows += [judgement("anna", "a1", number, **changes), judgement("boris", "a1", number, **changes)]
    path = tmp_path / "ratings.jsonl"
    write_jsonl(path, [*rows, judgement("anna", "tie", 6), rows[0] | {"rated_at": "2026-04-01"}])
    return path


def test_builds_a_dataset_with_its_card(call_script, export, tmp_path, capsys):
    output = tmp_path / "pairs"
    command = [BUILDER, "--source", export, "--test_size", "0.4", "--output_dir", output]
    call_script(*command)
    printed = capsys.readouterr().out
    assert "Judgements read: 12, of which 1 replaced" in printed
    assert "Raters: 2; prompts: 6." in printed
    assert re.search(r"\b5  pair made", printed) and re.search(r"\b1  tie", printed)
    assert "100% (all votes the same on 5 of the 5" in printed
    assert re.search(r"model 1 +10 +4\.00 .* 21\.00\n", printed)
    assert "3 train, 2 test" in printed

    rows = load_dataset(str(output), cache_dir=str(tmp_path / "cache"))
    assert rows.num_rows == {"train": 3, "test": 2}
    ids = [name for split in rows.values() for name in split["id"]]
    assert sorted(ids) == [f"p{number}:a1:a2" for number in range(1, 6)]
    assert rows["train"][0]["chosen"] == [{"role": "assistant", "content": "Первый ответ."}]

    card = (output / "README.md").read_text(encoding="utf-8")
    for line in ("| considered | 6 |", "| pair made | 5 |", "| tie | 1 |", "| raters | 2 |", "| model 2 | 10 |"):
        assert line in card
    assert "anna" not in card and str(tmp_path) not in card

    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    call_script(*command)
    assert "already in" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


def test_writes_plain_texts(call_script, export, tmp_path):
    output = tmp_path / "texts"
    call_script(BUILDER, "--source", export, "--by", "totals", "--format", "text", "--output_dir", output)
    rows = load_dataset(str(output), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows[0]["prompt"].startswith("Вопрос: ") and rows[0]["prompt"].endswith("\nОтвет:")
    assert (rows[0]["chosen"], rows[0]["rejected"]) == (" Первый ответ.", " Второй ответ.")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--min_raters", "3"], ["no pair is left of 6", "too few raters: 6", "lower --min_raters"]),
        (["--min_margin", "20"], ["margin too small, or not scored: 5", "lower --min_margin"]),
        (["--by", "totals", "--min_margin", "12"], ["not judged: 1", "--by verdict"]),
        (["--min_raters", "0"], ["--min_raters 0", "at least 1"]),
        (["--min_agreement", "60"], ["--min_agreement 60", "from 0 to 1"]),
        (["--min_margin", "nan"], ["--min_margin nan", "from 0 to 20"]),
        (["--test_size", "1"], ["--test_size 1"]),
    ],
)
def test_explains_what_to_change_and_writes_nothing(call_script, export, tmp_path, options, words):
    output = tmp_path / "pairs"
    with pytest.raises(PreferansError) as caught:
        call_script(BUILDER, "--source", export, "--output_dir", output, *options)
    for word in words:
        assert word in str(caught.value)
    assert not output.exists()


def test_refuses_prompts_that_are_all_near_duplicates(call_script, tmp_path):
    path = tmp_path / "ratings.jsonl"
    same = prompt("Как быстро остудить чай?")
    write_jsonl(path, [judgement(number=number, prompt=same) for number in (1, 2, 3)])
    with pytest.raises(PreferansError, match="nearly the same as one of the test split.*--test_size 0"):
        call_script(BUILDER, "--source", path, "--output_dir", tmp_path / "pairs")
    call_script(BUILDER, "--source", path, "--output_dir", tmp_path / "pairs", "--test_size", "0")
    assert (tmp_path / "pairs" / "README.md").is_file()
