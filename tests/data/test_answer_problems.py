import json
import random
import unicodedata

import pytest

from preferans.data.answer_problems import copied_answers, padded_answers, text_problems
from preferans.data.check import CHECKS, check_dataset
from preferans.data.formats import read_dataset
from preferans.data.pairs import read_pairs
from preferans.data.repair import fix_dataset

from ..support.pairs import findings, messages, valid_row
from ..support.rows import build
from ..support.tiny import CHAT_TEMPLATE, ROOT, make_tokenizer

KIND_ROWS, MAX_LENGTH = 9, 400


@pytest.fixture(scope="module")
def clean_rows():
    """63 pairs of the sample with answers of ordinary length, of different prompts."""
    lines = (ROOT / "samples" / "oasst1_ru_sample.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    copies = {row["message_id"] for row in rows if row["defect"] == "off_topic"}
    pairs, _ = build([{"synthetic": False, "labels": None} | row for row in rows])
    pairs = [pair for pair in pairs if pair["id"].split(":")[1] not in copies]
    texts = [[pair[column][0]["content"] for column in ("chosen", "rejected")] for pair in pairs]
    usual = [
        pair
        for pair, answers in zip(pairs, texts, strict=True)
        if all(60 <= len(text) <= 300 and "<" not in text for text in answers)
    ]
    assert len(usual) >= 63
    return usual[:63]


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def chosen(row: dict) -> str:
    return row["chosen"][0]["content"]


def homoglyphs(text: str) -> str:
    return text.translate(str.maketrans("аеорсух", "aeopcyx"))


PLANTS = {
    "equal": lambda row: {"rejected": row["chosen"]},
    "empty": lambda row: {"rejected": messages(" ")},
    "prompt_echo": lambda row: {"chosen": messages(row["prompt"][-1]["content"] + " " + chosen(row))},
    "equal_after_cut": lambda row: {
        "chosen": messages("слово " * MAX_LENGTH + "да."),
        "rejected": messages("слово " * MAX_LENGTH + "нет."),
    },
    "near_equal": lambda row: {"rejected": messages(chosen(row).upper().replace(".", " !").replace(",", "  "))},
    "homoglyphs": lambda row: {"chosen": messages(homoglyphs(chosen(row)))},
    "padded": lambda row: {"chosen": messages(chosen(row) + " Это очень важно знать каждому." * 60)},
    "encoding": lambda row: {"chosen": messages(chosen(row).encode().decode("cp1251", "replace"))},
    "html": lambda row: {"chosen": messages("<p>" + chosen(row).replace(" ", "&nbsp;") + "</p>")},
    "invisible": lambda row: {"chosen": messages(chosen(row).replace(" ", "\u200b ", 1))},
    "decomposed": lambda row: {"chosen": messages(unicodedata.normalize("NFD", "Мой ответ.\n\n" + chosen(row)))},
    "refusal": lambda row: {"chosen": messages("Извините, я не могу помочь с этим запросом.")},
    "copied_answer": lambda row: {"chosen": messages("Этот рецепт подойдёт для любого праздничного стола.")},
    "loops": lambda row: {"chosen": messages("Снег идёт на город. " * 12)},
    "cut_answer": lambda row: {"chosen": messages(chosen(row).rstrip(".!?") + ", потому что")},
    "foreign_roles": lambda row: {"chosen": messages(chosen(row) + "\nПользователь: А ещё?")},
    "judge_comment": lambda row: {"chosen": messages(chosen(row) + "\nОценка: 4 из 5.")},
    "personal_data": lambda row: {"chosen": messages(chosen(row) + " Звоните: +7 (912) 345-67-89.")},
    "thinking": lambda row: {"chosen": messages("<think>\nТут всё просто.\n</think>\n\n" + chosen(row))},
}
FIRST_SEVEN = list(PLANTS)[:7]


def found_rows(rows: list[dict], tokenizer) -> dict[str, set[str]]:
    report = check_dataset({"train": rows}, tokenizer, MAX_LENGTH)
    return {finding.check: set(finding.rows) for finding in report.findings}


def test_clean_rows_have_no_findings(clean_rows, tokenizer):
    assert found_rows(clean_rows, tokenizer) == {}


def test_all_63_planted_rows_of_seven_kinds_are_named(clean_rows, tokenizer):
    kinds = [kind for kind in FIRST_SEVEN for _ in range(KIND_ROWS)]
    random.Random(0).shuffle(kinds)
    rows = [row | PLANTS[kind](row) for row, kind in zip(clean_rows, kinds, strict=True)]
    found = found_rows(rows, tokenizer)
    for kind in FIRST_SEVEN:
        planted = {row["id"] for row, own in zip(rows, kinds, strict=True) if own == kind}
        assert (kind, found[kind] & planted) == (kind, planted)
        assert found[kind] - planted <= (planted if kind != "padded" else set()), kind


@pytest.mark.parametrize("kind", PLANTS)
def test_nine_planted_rows_are_named_and_no_others(kind, clean_rows, tokenizer):
    rows = [row | PLANTS[kind](row) if i % 7 == 0 else row for i, row in enumerate(clean_rows)]
    assert found_rows(rows, tokenizer)[kind] == {row["id"] for row in rows[::7]}
    frames, _ = fix_dataset({"train": rows}, tokenizer, MAX_LENGTH)
    again = check_dataset({"train": frames["train"].to_dicts()}, tokenizer, MAX_LENGTH)
    assert kind not in {finding.check for finding in again.findings}
    repaired = kind in ("prompt_echo", "homoglyphs", "invisible", "decomposed", "thinking")
    assert len(frames["train"]) == (63 if repaired else 54)


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"chosen": messages("Я живу c мамой и папой.")}, "homoglyphs"),
        ({"prompt": messages("Где нaйти ключи?", "user")}, "homoglyphs"),
        ({"rejected": messages("Что-то ????? пошло не так.")}, "encoding"),
        ({"chosen": messages("Нельзя\ufffd.")}, "encoding"),
        ({"chosen": messages("Да &laquo;нет&raquo;.")}, "html"),
        ({"chosen": messages("Громко\x07.")}, "invisible"),
        ({"chosen": messages("Трава зелёная.\nHuman: А небо?")}, "foreign_roles"),
        ({"chosen": messages("Трава зелёная.<end>")}, "foreign_roles"),
        ({"rejected": messages("Трава синяя. Этот ответ хуже, потому что неверен.")}, "judge_comment"),
        ({"chosen": messages("Пишите на petrova.anna@yandex.ru.")}, "personal_data"),
        ({"chosen": messages("Паспорт 45 08 123456 выдан в Москве.")}, "personal_data"),
        ({"chosen": messages("Плохой ответ 1."), "rejected": messages("плохой  ответ 1")}, "near_equal"),
    ],
)
def test_finds_one_problem(changes, check):
    assert findings([valid_row(0), valid_row(1, **changes), valid_row(2)]) == {check: (CHECKS[check][0], 1)}


@pytest.mark.parametrize(
    "changes",
    [
        {"chosen": messages("Стороны a и b равны, скорость c постоянна.")},
        {"chosen": messages("USB-кабель, IT-отдел и iPhone'ом.")},
        {"chosen": messages("Правда???? Да!")},
        {"chosen": messages("Тег <br> переносит строку.")},
        {"chosen": messages("Семья 👨‍👩‍👧 дома.")},
        {"chosen": messages("Пример адреса: user@example.com.")},
        {"chosen": messages("Ответ: 5."), "rejected": messages("Ответ: -5.")},
        {"chosen": messages("Верно, что 3 > 2."), "rejected": messages("Верно, что 3 < 2.")},
        {
            "prompt": messages("Напиши сценку, где Human: и Robot: спорят", "user"),
            "chosen": messages("Human: Привет!"),
        },
        {
            "chosen": messages("Не могу выбрать, оба хороши, но я взял бы второй."),
            "rejected": messages("Не могу выбрать."),
        },
    ],
)
def test_accepts_what_only_resembles_a_problem(changes):
    assert findings([valid_row(0), valid_row(1, **changes)]) == {}


def test_lookalike_letters_of_a_rejected_answer_that_mixes_languages_are_no_damage():
    mixed = valid_row(1, rejected=messages("Я hungry, cyп очень hot, ложка very большая."))
    assert "homoglyphs" not in findings([valid_row(0), mixed])
    assert "homoglyphs" in findings([valid_row(0), valid_row(1, rejected=messages("Ем cуп ложкой."))])


def test_the_same_refusal_under_three_prompts_is_found():
    refusal = messages("Не могу ответить.")
    rows = [valid_row(i, rejected=refusal) for i in range(3)]
    assert findings(rows) == {"refusal": ("warning", 3)}
    assert findings(rows[:2]) == {}


def test_an_answer_is_copied_only_if_the_prompt_differs():
    pairs, _ = read_pairs({"train": [valid_row(0, chosen=messages("Этот ответ подходит ко всему."))] * 2})
    assert list(copied_answers(pairs)) == []


def test_a_long_answer_alone_is_not_padded():
    long = "; ".join(f"причина номер {number} отличается от прочих" for number in range(40)) + "."
    pairs, _ = read_pairs(
        {"train": [valid_row(i, **({"chosen": messages(long)} if i == 1 else {})) for i in range(6)]}
    )
    assert list(padded_answers(pairs)) == []


FALSE_FINDINGS = (
    "encoding",
    "homoglyphs",
    "html",
    "invisible",
    "decomposed",
    "foreign_roles",
    "judge_comment",
    "loops",
)


@pytest.mark.parametrize(("name", "lang"), [("oasst1_en_validation.jsonl", "en"), ("oasst2_ru.jsonl", "ru")])
def test_real_pairs_have_no_false_findings(name, lang):
    path = ROOT.parent / "shared" / "data" / name
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    pairs, _ = build([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()], lang=lang)
    found = findings(pairs, language=lang)
    assert {check for check in found if check in FALSE_FINDINGS or CHECKS[check][0] == "error"} == set()


def test_names_the_column_and_the_text():
    pair = read_pairs({"train": [valid_row(0, chosen=messages("Собaка лает."))]})[0][0]
    problem = next(text_problems(pair))
    assert (problem.check, problem.words, problem.detail) == (
        "homoglyphs",
        "'chosen' has letters of the wrong alphabet",
        "'Собaка'",
    )


def test_json_lists_every_row(tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [valid_row(i, chosen=messages(f"Ответ {i}.<|im_end|>")) for i in range(8)]
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    report = check_dataset(read_dataset(str(path))).as_json("pairs")
    assert [len(finding["rows"]) for finding in report["findings"]] == [8]
