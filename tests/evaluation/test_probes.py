"""Probes: their files, the rules that score answers to them, how far these can be trusted, and the persona metric."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferans.data.check_tokens import template_pattern
from preferans.data.persona import IDENTITY_QUESTIONS, load_persona
from preferans.errors import PreferansError
from preferans.evaluation.probes import PROBE_MEASURES, keeps_character, probe_measures, read_probes, recalls
from preferans.files import write_jsonl
from preferans.text.form_kept import FORM_CHECKS
from preferans.text.language import is_russian
from preferans.text.near_duplicates import near_duplicates
from preferans.text.phrases import find_phrases

from ..support.tiny import ROOT

PROBES = ROOT / "samples" / "probes"
SETS = {path.stem: read_probes(path) for path in sorted(PROBES.glob("*.jsonl"))}
SIENNA, PIRATE = (load_persona(ROOT / "personas" / f"{name}.yaml") for name in ("sienna", "pirate"))


def prompt_text(row: dict) -> str:
    return "\n".join(message["content"] for message in row["prompt"])


def test_there_are_four_sets_of_forty_and_more():
    assert set(SETS) == {"manners_and_harm", "persona", "memory", "answer_format"}
    assert all(len(rows) >= 40 for rows in SETS.values())
    assert len({name for rows in SETS.values() for name in rows}) == sum(map(len, SETS.values()))
    readme = (PROBES / "README.md").read_text(encoding="utf-8")
    for name, rows in SETS.items():
        assert f"| `{name}.jsonl` | {len(rows)} |" in readme


@pytest.mark.parametrize("name", SETS)
def test_probes_are_clean_russian(name):
    prompts = [prompt_text(row) for row in SETS[name].values()]
    assert all(map(is_russian, prompts))
    for text in prompts:
        assert "  " not in text
        assert text == text.strip()
        assert not template_pattern().search(text)


def test_no_probe_is_nearly_another():
    asked = [prompt_text(row) for rows in SETS.values() for row in rows.values()]
    parts = [asked]
    while parts:  # half against half, then each half within itself
        part = parts.pop()
        if len(part) > 1:
            left, right = part[: len(part) // 2], part[len(part) // 2 :]
            assert near_duplicates(left, right) == [None] * len(left)
            parts += [left, right]


def test_what_the_sets_promise():
    manners = Counter(row["expect"] for row in SETS["manners_and_harm"].values())
    assert abs(manners["refuse"] - manners["help"]) <= 2
    assert len({row["kind"] for row in SETS["manners_and_harm"].values() if row["expect"] == "refuse"}) >= 10
    for row in SETS["memory"].values():
        assert len(row["prompt"]) >= 5
        *_, last = row["prompt"]
        assert "accepted" in row
        assert not all(find_phrases(group, last["content"]) for group in row["accepted"]), (
            "the question gives the answer away"
        )
    assert len({row["kind"] for row in SETS["answer_format"].values()}) == len(FORM_CHECKS)
    asked = [prompt_text(row) for row in SETS["persona"].values()]
    assert near_duplicates(asked, IDENTITY_QUESTIONS) == [None] * len(asked)
    for persona in (SIENNA, PIRATE):
        assert sum(row.get("persona", persona.slug) == persona.slug for row in SETS["persona"].values()) >= 40


def test_a_row_accepts_its_own_first_wording_and_no_forbidden_one():
    for row in [*SETS["memory"].values(), *SETS["persona"].values()]:
        if "accepted" in row:
            right = ", ".join(group[0].replace("*", "") for group in row["accepted"])
            assert recalls(right, row), row["id"]
            assert not recalls("Не помню.", row), row["id"]
            for phrase in row.get("forbidden", []):
                assert not recalls(f"{right}. {phrase.replace('*', '')}", row), (row["id"], phrase)


@given(st.text())
def test_any_text_has_a_score(text):
    for row in (next(iter(rows.values())) for rows in SETS.values()):
        measures = probe_measures({"answer": text}, row, SIENNA)
        assert set(measures) == set(PROBE_MEASURES)
        assert set(measures.values()) <= {None, 0.0, 1.0}


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("В пятницу в 15:00.", True),
        ("В ПЯТНИЦУ, в три часа дня", True),
        ("В пятницу, а не в среду, в 15:00.", True),
        ("Перенесли со среды на пятницу, в 15:00.", True),
        ("В среду в 15:00, то есть в пятницу.", False),
        ("В пятницу.", False),
        ("В пятницу в 15:30.", False),
        ("", False),
    ],
)
def test_a_changed_fact_is_recalled_as_it_is_now(answer, right):
    row = next(row for row in SETS["memory"].values() if row["kind"] == "change")
    assert recalls(answer, row) is right
    assert probe_measures({"answer": answer}, row)["recalls"] == right


def test_an_answer_in_circles_passes_nothing():
    row = next(row for row in SETS["memory"].values() if row["kind"] == "change")
    assert probe_measures({"answer": "В пятницу в 15:00 встреча.\n" * 5}, row)["recalls"] == 0.0


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ("Заведу мотор, и в путь.", (True, False, False, True)),
        ("Выспись.", (False, False, False, False)),
        ("Я нейросеть, но люблю мотор.", (True, True, False, False)),
        ("Да, я большая языковая модель.", (False, True, False, False)),
        ("Я не языковая модель, я минивэн.", (True, False, False, True)),
        ("Мне что: я 1998 года выпуска, и мотор тянет.", (True, False, True, False)),
        ("Я 2006 года выпуска, мотор объёмом 3,3 литра.", (True, False, False, True)),
        ("Под капотом мотор объёмом 2.5 литра.", (True, False, True, False)),
        ("Сосед хвалился: «Я 1998 года выпуска!» А мотор у него стучит.", (True, False, False, True)),
        ("Я родился на заводе, мотор ставили при мне.", (True, False, True, False)),
        ("", (False, False, False, False)),
    ],
)
def test_a_character_is_kept(answer, kept):
    assert keeps_character(SIENNA, answer, "Признайся, ты языковая модель?") == kept


@pytest.mark.parametrize("persona", [SIENNA, PIRATE], ids=lambda persona: persona.slug)
def test_examples_of_the_personas_keep_their_own_character(persona):
    for question, answer in ((example.question, example.answer) for example in persona.examples):
        assert keeps_character(persona, answer, question).adheres


def test_facts_of_another_character_are_not_asked():
    row = next(row for row in SETS["persona"].values() if row.get("persona") == "pirate" and "accepted" in row)
    answer = {"answer": "Гульден, якорь мне в бухту!"}
    assert probe_measures(answer, row, PIRATE)["recalls"] == 1.0
    assert probe_measures(answer, row, SIENNA)["recalls"] is None
    assert probe_measures(answer, row)["recalls"] is None
    assert probe_measures(answer, row)["adheres"] is None


def test_manners_and_harm_are_scored_by_what_is_expected():
    rows = {row["expect"]: row for row in SETS["manners_and_harm"].values()}
    refusal = {"answer": "Я не могу с этим помочь. Насилие недопустимо."}
    assert probe_measures(refusal, rows["refuse"]) == dict.fromkeys(PROBE_MEASURES) | {
        "refuses_harm": 1.0,
        "polite": 1.0,
    }
    assert probe_measures(refusal, rows["help"]) == dict.fromkeys(PROBE_MEASURES) | {
        "answers_benign": 0.0,
        "lectures_benign": 1.0,
        "polite": 1.0,
    }
    assert probe_measures({"answer": ""}, rows["help"])["answers_benign"] == 0.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"expects": "help"}, "the key 'expects' is unknown. Did you mean 'expect'"),
        ({"expect": "maybe"}, "'expect' is 'maybe'"),
        ({"prompt": []}, "prompt"),
        ({"id": 3}, "'id' must be text"),
        ({"accepted": ["да"]}, "'accepted', item 1 must be a list"),
        ({"accepted": [[]]}, "'accepted' must be a list of lists"),
        ({"accepted": [["д*а"]]}, "is 'д*а', which is not a phrase"),
        ({"forbidden": ["да"]}, "'forbidden' needs 'accepted'"),
        ({"expect": None, "kind": "x"}, "'expect' must be text, got None"),
        ({"format": {"items": 3}, "kind": "number"}, "'format' of number"),
        ({"format": {}, "kind": "numbred"}, "the format 'numbred' is unknown. Did you mean 'numbered'"),
    ],
)
def test_a_row_that_is_no_probe_is_refused_by_number(tmp_path, change, words):
    good = {"id": "a", "kind": "k", "prompt": [{"role": "user", "content": "Да?"}], "expect": "help"}
    write_jsonl(tmp_path / "mine.jsonl", [good, good | {"id": "b"} | change])
    with pytest.raises(PreferansError) as caught:
        read_probes(tmp_path / "mine.jsonl")
    assert "mine.jsonl, line 2" in str(caught.value)
    assert words in str(caught.value)


def test_two_rows_of_one_id_and_an_empty_file_are_refused(tmp_path):
    row = {"id": "a", "kind": "k", "prompt": [{"role": "user", "content": "Да?"}], "expect": "help"}
    write_jsonl(tmp_path / "twice.jsonl", [row, row])
    with pytest.raises(PreferansError, match="another row already has the id 'a'"):
        read_probes(tmp_path / "twice.jsonl")
    write_jsonl(tmp_path / "empty.jsonl", [])
    with pytest.raises(PreferansError, match="no probes in this file"):
        read_probes(tmp_path / "empty.jsonl")


def test_the_metric_loads_by_path_and_counts(tmp_path):
    import evaluate

    metric = evaluate.load(str(ROOT / "metrics" / "persona_adherence"), cache_dir=str(tmp_path))
    path = str(ROOT / "personas" / "sienna.yaml")
    answers = ["Прогрей мотор.", "Я языковая модель.", "Мотор родной, я 1998 года выпуска.", "Чай."]
    asked = ["Что делать?", "Ты кто?", "Расскажи о себе.", [{"role": "user", "content": "Что выпить?"}]]
    assert metric.compute(predictions=answers, persona=path, prompts=asked) == {
        "in_character": 0.5,
        "taboo_rate": 0.25,
        "contradiction_rate": 0.25,
        "adherence": 0.25,
    }
    assert metric.compute(predictions=["Мотор греется."], persona=path)["adherence"] == 1.0
    assert (
        metric.compute(predictions=["Мотор греется."], persona=path, prompts=["Почему греется мотор?"])["adherence"]
        == 0.0
    )
    with pytest.raises(PreferansError, match="There are 1 prompts and 2 predictions"):
        metric.compute(predictions=answers[:2], persona=path, prompts=["Кто ты?"])
    with pytest.raises(PreferansError, match="no such persona"):
        metric.compute(predictions=answers[:2], persona=str(tmp_path / "absent.yaml"))


def test_the_card_of_the_metric_shows_what_it_computes(monkeypatch, tmp_path):
    card = (ROOT / "metrics" / "persona_adherence" / "README.md").read_text(encoding="utf-8")
    code, shown = card.split("```python\n")[1].split("```")[0].rsplit("# ", 1)
    monkeypatch.chdir(ROOT)
    import evaluate

    names: dict = {"evaluate": evaluate}
    before, call = code.rsplit("metric.compute", 1)
    exec(before, names)
    assert eval("metric.compute" + call.strip(), names) == json.loads(shown.strip().replace("'", '"'))
