import re

import evaluate
import pytest

from preferans.files import read_jsonl

from .support.tiny import ROOT

NAMES = sorted(path.parent.name for path in (ROOT / "metrics").glob("*/*.py"))
FOR_TEXTS = ["repetition", "completeness", "answer_format", "chrf_ru", "rouge_ru", "distinct_n", "length"]


def load(name: str, *configuration: str):
    return evaluate.load(str(ROOT / "metrics" / name), *configuration)


ANSWERS = ["Кошка сидела на окне", "1. Да.\n2. Нет."]
COLUMNS = {
    "predictions": ANSWERS,
    "references": [["Кошки сидели на окнах"], ["Нет.", ANSWERS[1]]],
    "prompts": ["Что там?", "Дай список."],
}
EXPECTED = {
    "loops": 0.0,
    "repeated_share": 0.0,
    "complete": 0.5,
    "complete_cases": 2,
    "keeps_format": 1.0,
    "format_cases": 1,
    "chrf_mean": (34.2087 + 100) / 2,
    "rouge1": 1.0,
    "rouge2": 1.0,
    "rougeL": 1.0,
    "distinct_1": 1.0,
    "corpus_distinct_1": 1.0,
    "length": 17.0,
    "length_median": 17.0,
    "length_words": 3.0,
}


def test_combined_modules_use_the_columns_they_need():
    results = evaluate.combine([load(name) for name in FOR_TEXTS]).compute(
        **COLUMNS, finish_reasons=["length", "stop"]
    )
    assert {name: results[name] for name in EXPECTED} == pytest.approx(EXPECTED, abs=1e-3)
    assert re.match(r"nrefs:.*\|nw:2\|", results["chrf_signature"])


def test_equal_texts_have_the_highest_score():
    same = {"predictions": ["кот спит"], "references": ["кот спит"]}
    assert load("rouge_ru").compute(**same) == {"rouge1": 1.0, "rouge2": 1.0, "rougeL": 1.0}
    assert load("chrf_ru").compute(**same)["chrf"] == pytest.approx(100)


def test_rouge_compares_words_as_written():
    assert (
        load("rouge_ru", "words").compute(predictions=ANSWERS[:1], references=[["Кошки сидели на окнах"]])["rouge1"]
        == 0.25
    )
    with pytest.raises(ValueError, match="configurations"):
        load("rouge_ru", "stems").compute(predictions=ANSWERS[:1], references=[["а"]])


PAIRS = {
    "chosen_rewards": [1.0, 0.0, 0.0, 2.0],
    "rejected_rewards": [0.0, 0.0, 1.0, 0.0],
    "chosen_lengths": [5, 5, 1, 9],
    "rejected_lengths": [2, 2, 3, 9],
}


def test_preference_accuracy_covers_the_whole_set():
    module = load("preference_accuracy")
    results = module.compute(**PAIRS)
    assert results["preference_accuracy"] == 0.625
    assert results["reward_margin"] == 0.5
    assert results["length_accuracy"] == 0.625
    assert results["accuracy_over_length"] == 0.0
    assert results["pairs"] == 4
    assert 0 <= results["preference_accuracy_low"] < 0.625 < results["preference_accuracy_high"] <= 1
    for part in (slice(0, 3), slice(3, 4)):  # unequal batches weigh by their pairs
        module.add_batch(**{name: column[part] for name, column in PAIRS.items()})
    assert module.compute() == results
    grouped = module.compute(**PAIRS, groups=["a", "a", "a", "a"])
    assert grouped["preference_accuracy_low"] == grouped["preference_accuracy_high"] == 0.625


def test_preference_accuracy_rejects_missing_columns_and_non_finite_numbers():
    module = load("preference_accuracy")
    with pytest.raises(ValueError, match="also needs chosen_lengths, rejected_lengths"):
        module.compute(chosen_rewards=[1.0], rejected_rewards=[0.0])
    with pytest.raises(ValueError, match="rejected_rewards contains a number that is not finite"):
        module.compute(**PAIRS | {"rejected_rewards": [0.0, float("nan"), 1.0, 0.0]})


@pytest.mark.parametrize("name", NAMES)
def test_every_module_has_a_card_and_a_row_in_the_table(name):
    assert f'evaluate.load("metrics/{name}")' in (ROOT / "metrics" / name / "README.md").read_text(encoding="utf-8")
    assert f"]({name}/README.md)" in (ROOT / "metrics" / "README.md").read_text(encoding="utf-8")


def test_the_example_of_the_readme_runs(monkeypatch, capsys):
    example = re.search(
        r"```python\n(.*?)```", (ROOT / "metrics" / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )[1]
    monkeypatch.chdir(ROOT)
    exec(example, {})
    assert "'complete': 0.5" in capsys.readouterr().out


def test_language_confusion_of_known_answers():
    scores = load("language_confusion").compute(
        predictions=[
            "Мы should решить 问题 сегодня.",
            "Да, верно.",
            "I do not know.",
            "Всё.assistant",
            "",
            "Линия (line) пряма.",
        ],
        prompts=[""] * 6,
    )
    assert scores == {
        "in_russian": 4 / 5,
        "intrusion_rate": 2 / 4,
        "intrusion_rate_without_glosses": 1 / 4,
        "jargon_rate": 0.0,
        "hard_intrusion_rate": 1 / 4,
        "foreign_word_share": 3 / (5 + 2 + 1 + 3),
        "known_words": 1.0,
        "template_leak_rate": 1 / 6,
        "languages": {"en": 2, "zh": 1},
        "answers": 6,
        "answers_in_russian": 4,
    }


def test_language_confusion_without_prose():
    scores = load("language_confusion").compute(predictions=["42"], prompts=[""])
    assert (scores["in_russian"], scores["intrusion_rate"], scores["template_leak_rate"]) == (None, None, 0.0)


@pytest.mark.parametrize(
    ("model", "in_russian", "intruded"), [("llama-3-instruct", 0.77, 0.16), ("mistral-large", 0.99, 0.04)]
)
def test_language_confusion_of_real_completions(shared_data, model, in_russian, intruded):
    rows = [row for row in read_jsonl(shared_data / "lcb_ru_completions.jsonl") if row["model"] == model]
    scores = load("language_confusion").compute(
        predictions=[row["completion"] for row in rows], prompts=[row["prompt"] for row in rows]
    )
    assert scores["in_russian"] == pytest.approx(in_russian, abs=0.04)
    assert scores["intrusion_rate"] == pytest.approx(intruded, abs=0.04)
