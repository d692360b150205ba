"""What all modules in metrics/ share."""

import evaluate
import pytest

from preferans.evaluation.metric_module import share

from ..support.tiny import ROOT

NAMES = ["repetition", "completeness", "answer_format", "chrf_ru", "rouge_ru", "distinct_n", "length"]
ANSWERS = ["Кошка сидела на окне", "1. Да.\n2. Нет."]
COLUMNS = {
    "predictions": ANSWERS,
    "references": [["Кошки сидели на окнах"], ["Нет.", ANSWERS[1]]],
    "prompts": ["Что там?", "Дай список."],
}


def test_share_of_nothing_is_none():
    assert share([]) is None and share([True, False]) == 0.5


@pytest.mark.parametrize("name", NAMES)
def test_cases_can_be_added_one_by_one_and_in_batches(name):
    module = evaluate.load(str(ROOT / "metrics" / name))
    columns = {key: COLUMNS[key] for key in module.features}
    at_once = module.compute(**columns)
    for i in range(2):
        row = {
            key.removesuffix("s") if key in ("predictions", "references") else key: column[i]
            for key, column in columns.items()
        }
        module.add(**row)
    one_by_one = module.compute()
    module.add_batch(**columns)
    assert at_once == one_by_one == module.compute()


@pytest.mark.parametrize("name", ["rouge_ru", "chrf_ru"])
def test_a_reference_can_be_a_single_text(name):
    module, wanted = evaluate.load(str(ROOT / "metrics" / name)), ("Кошки сидели на окнах", ANSWERS[1])
    single = module.compute(predictions=ANSWERS, references=list(wanted))
    assert single == module.compute(predictions=ANSWERS, references=[[text] for text in wanted])
    mixed = module.compute(predictions=ANSWERS, references=[wanted[0], ["Нет.", wanted[1]]])
    assert mixed == module.compute(predictions=ANSWERS, references=[[wanted[0]], ["Нет.", wanted[1]]])
    for answer, text in zip(ANSWERS, wanted, strict=True):
        module.add(prediction=answer, reference=text)
    assert module.compute() == single
    assert module.compute(predictions=["кот спит"], references=["кот спит"]) == module.compute(
        predictions=["кот спит"], references=[["кот спит"]]
    )
