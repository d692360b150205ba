"""scripts/score.py: contents of scores.json, their correctness, and their independence of the order of rows and files."""

import json
import math
import random
import re
import statistics

import pytest

from preferans.data.ratings import CRITERIA
from preferans.errors import PreferansError
from preferans.evaluation.measures import MEASURES
from preferans.files import read_json, read_jsonl, write_json, write_jsonl
from preferans.training.run_folder import provenance

from ..support.rows import preference
from ..support.tiny import ROOT

PHRASES = [
    "Сначала вскипятите воду.",
    "Чай заваривают пять минут!",
    "Это очень important, поверьте мне.",
    "Так делают so rarely.",
    "Вот почему это так",
    "Вода кипит при ста градусах.",
    "Спросите у врача, он знает.",
]


def question(number: int, conversation: int | None = None) -> list[dict]:
    """A prompt; of one conversation there may be several."""
    opening = {"role": "user", "content": f"Вопрос номер {number if conversation is None else conversation}?"}
    if conversation is None:
        return [opening]
    return [opening, {"role": "assistant", "content": "Да."}, {"role": "user", "content": f"А {number}-й раз?"}]


def answers(model: str, count: int, seed: int, conversations: int | None = None, **changes) -> list[dict]:
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        sentences = draw.choices(PHRASES, k=draw.randint(1, 5)) if draw.random() > 0.15 else []
        rows.append(
            {
                "id": f"q{number}",
                "prompt": question(number, None if conversations is None else number % conversations),
                "answer": " ".join(sentences),
                "model": model,
                "finish_reason": draw.choice(["stop", "length"]),
                "weights": {"model_name_or_path": "m", "sha256": ["0" * 64]},
                "sampling": {"temperature": 0.7},
            }
            | changes
        )
    return rows


def write(path, *parts: list[dict]):
    write_jsonl(path, [row for rows in parts for row in rows])
    return path


@pytest.fixture
def score(call_script, tmp_path):
    """Call the script; the record that it wrote, of JSON without NaN."""

    def call(*arguments) -> dict:
        call_script("scripts/score.py", *arguments, "--output_dir", tmp_path / "report")

        def no_number(word: str):
            raise AssertionError(f"{word} is not JSON")

        text = (tmp_path / "report" / "scores.json").read_text(encoding="utf-8")
        return json.loads(text, parse_constant=no_number)

    return call


def refused(score, *arguments) -> str:
    with pytest.raises(PreferansError) as caught:
        score(*arguments)
    return str(caught.value)


# --- scores.json ---

NUMBER = (int, float, type(None))
FIGURE = {"value": NUMBER, "low": NUMBER, "high": NUMBER, "cases": int}
SCHEMA = {
    "schema": int,
    "made": {"preferans": str, "command": str, "confidence": float, "resamples": int},
    "prompts": {"count": int, "sha256": str},
    "baseline": (str, type(None)),
    "measures": {name: {"better": (str, type(None)), "unit": str} for name in MEASURES},
    "systems": [
        {
            "name": str,
            "kind": str,
            "source": str,
            "weights": (dict, type(None)),
            "sampling": (dict, type(None)),
            "persona": (dict, type(None)),
            "answers": int,
            "scores": {name: FIGURE for name in MEASURES},
        }
    ],
    "comparisons": [
        {"system": str, "against": str, "differences": {name: FIGURE | {"verdict": str} for name in MEASURES}}
    ],
    "runs": [{"name": str, "folder": str, "pairs": dict}],
    "groups": type(None),
    "pairs": [dict],
    "verdicts": [
        {
            "kind": str,
            "sources": [{"source": str, "verdicts": int}],
            "pairs": [
                {
                    "systems": [str],
                    "wins": int,
                    "losses": int,
                    "ties": int,
                    "unreadable": int,
                    "win_rate": FIGURE,
                    "length_controlled_win_rate": FIGURE,
                }
            ],
            "ranking": [{"system": str, "strength": NUMBER, "low": NUMBER, "high": NUMBER, "verdicts": int}],
            "criteria": [{"system": str, "unreadable": int, "scores": {name: FIGURE for name in CRITERIA}}],
        }
    ],
    "answers": [
        {
            "id": str,
            "prompt": [{"role": str, "content": str}],
            "answers": [
                {
                    "system": str,
                    "answer": str,
                    "finish_reason": (str, type(None)),
                    "measures": {name: NUMBER for name in MEASURES},
                    "intruders": [list],
                }
            ],
        }
    ],
}


def check_schema(value, schema, place: str = "scores") -> None:
    """Whether a value has exactly the keys and kinds of `SCHEMA`."""
    if isinstance(schema, tuple):
        assert any(_fits(value, kind, place) for kind in schema), f"{place}: {value!r:.80}"
    else:
        assert _fits(value, schema, place), f"{place}: {value!r:.80}"


def _fits(value, schema, place: str) -> bool:
    if isinstance(schema, type):
        return type(value) is schema
    if isinstance(schema, list):
        if type(value) is not list:
            return False
        for number, item in enumerate(value):
            check_schema(item, schema[0], f"{place}[{number}]")
    else:
        if type(value) is not dict:
            return False
        assert set(value) == set(schema), f"{place}: {set(value) ^ set(schema)}"
        for key, item in value.items():
            check_schema(item, schema[key], f"{place}.{key}")
    return True


def test_scores_have_the_documented_schema(score, tmp_path, preference_folder):
    pairs = [preference(number) for number in range(8)]
    write_jsonl(preference_folder / "train.jsonl", pairs)
    (preference_folder / "test.jsonl").unlink()
    prompts = {f"q{number}": {"prompt": row["prompt"]} for number, row in enumerate(pairs)}
    rows = [[row | prompts[row["id"]] for row in answers(name, 8, seed)] for seed, name in enumerate(["a", "b"])]
    rows[0] = [row | {"persona": {"name": "sienna", "sha256": "1" * 64}} for row in rows[0]]
    judged = [
        {"kind": "pair", "id": f"q{n}", "systems": ["a", "b"], "verdict": verdict}
        for n, verdict in enumerate(["a", "b", "tie", None, "a", "a"])
    ]
    judged.append({"kind": "scores", "id": "q0", "system": "a", "scores": {"style": 4, "clarity": 2}})
    judged.append({"kind": "scores", "id": "q1", "system": "a", "scores": None})
    found = score(
        write(tmp_path / "a.jsonl", rows[0]),
        "--baseline",
        write(tmp_path / "b.jsonl", rows[1]),
        *["--human", preference_folder, "--verdicts", write(tmp_path / "judge.jsonl", judged)],
    )
    check_schema(found, SCHEMA)
    assert found["schema"] == 2
    assert found["made"]["command"].startswith("python scripts/score.py ")
    assert [(system["name"], system["kind"]) for system in found["systems"]] == [
        ("b", "answers"),
        ("a", "answers"),
        ("human", "human"),
    ]
    assert [(row["system"], row["against"]) for row in found["comparisons"]] == [("a", "b"), ("human", "b")]
    assert found["systems"][0]["sampling"] == {"temperature": 0.7}
    assert [(system["persona"] or {}).get("name") for system in found["systems"]] == [None, "sienna", None]
    assert found["systems"][2]["scores"]["chrf"] == {"value": None, "low": None, "high": None, "cases": 0}
    assert found["systems"][1]["scores"]["chrf"]["cases"] > 0
    (verdicts,) = found["verdicts"]
    (pair,) = verdicts["pairs"]
    assert pair["systems"] == ["a", "b"]  # the baseline stands second
    assert [pair[key] for key in ("wins", "losses", "ties", "unreadable")] == [3, 1, 1, 1]
    assert pair["win_rate"]["value"] == pytest.approx(3.5 / 5)
    assert [row["system"] for row in verdicts["ranking"]] == ["a", "b"]
    (criteria,) = verdicts["criteria"]
    assert (criteria["system"], criteria["unreadable"]) == ("a", 1)
    assert criteria["scores"]["style"] == {"value": 4.0, "low": 4.0, "high": 4.0, "cases": 1}
    for row in found["answers"]:
        for answer in row["answers"]:
            for start, end, *_ in answer["intruders"]:
                assert answer["answer"][start:end].strip()
    # a second call writes the same bytes
    before = (tmp_path / "report" / "scores.json").read_bytes()
    score(*found["made"]["command"].split()[2:-2])
    assert (tmp_path / "report" / "scores.json").read_bytes() == before


def plain_means(values: list[float], groups: list[str], draws: int = 4_000) -> list[float]:
    """Means of resamples, by drawing whole groups with Python's own generator."""
    members: dict[str, list[float]] = {}
    for value, group in zip(values, groups, strict=True):
        members.setdefault(group, []).append(value)
    draw, names, means = random.Random(7), list(members), []
    for _ in range(draws):
        drawn = [value for name in draw.choices(names, k=len(names)) for value in members[name]]
        means.append(sum(drawn) / len(drawn))
    return means


@pytest.mark.parametrize("conversations", [None, 12])
def test_every_figure_can_be_recomputed_from_the_answers(score, tmp_path, conversations):
    old = write(tmp_path / "old.jsonl", answers("old", 30, 1, conversations))
    new = write(tmp_path / "new.jsonl", answers("new", 30, 2, conversations))
    found = score(new, "--baseline", old)
    groups = [row["prompt"][0]["content"] for row in found["answers"]]
    assert len(set(groups)) == (conversations or 30)
    values = {
        system["name"]: {
            name: [row["answers"][place]["measures"][name] for row in found["answers"]] for name in MEASURES
        }
        for place, system in enumerate(found["systems"])
    }
    for path, name in ((old, "old"), (new, "new")):
        rows = {row["id"]: row for row in read_jsonl(path)}
        texts = [rows[row["id"]]["answer"] for row in found["answers"]]
        assert values[name]["length"] == [len(text) for text in texts]
        assert values[name]["empty"] == [not text for text in texts]

    def check(figure: dict, cases: list[float | None]) -> None:
        known = [(value, group) for value, group in zip(cases, groups, strict=True) if value is not None]
        assert figure["cases"] == len(known)
        if not known:
            assert figure["value"] is figure["low"] is figure["high"] is None
            return
        numbers, of_group = map(list, zip(*known, strict=True))
        assert figure["value"] == pytest.approx(statistics.fmean(numbers))
        means = plain_means(numbers, of_group)
        assert share(means, lambda mean: mean < figure["low"] - 1e-9) < 0.045
        assert share(means, lambda mean: mean <= figure["low"] + 1e-9) > 0.01
        assert share(means, lambda mean: mean > figure["high"] + 1e-9) < 0.045
        assert share(means, lambda mean: mean >= figure["high"] - 1e-9) > 0.01

    def share(means: list[float], holds) -> float:
        return sum(map(holds, means)) / len(means)

    checked = 0
    for system in found["systems"]:
        for name, figure in system["scores"].items():
            check(figure, values[system["name"]][name])
            checked += bool(figure["cases"])
    assert checked > 20
    for name, figure in found["comparisons"][0]["differences"].items():
        check(
            figure,
            [
                None if a is None or b is None else a - b
                for a, b in zip(values["new"][name], values["old"][name], strict=True)
            ],
        )
        if figure["cases"]:
            touches = figure["low"] <= 0 <= figure["high"]
            assert (figure["verdict"] == "no_detectable_difference") == touches


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_rows_and_files_does_not_matter(score, tmp_path, seed):
    draw = random.Random(seed)
    parts = [answers(name, 15, number, 7) for number, name in enumerate(["one", "two", "three"])]
    files = [write(tmp_path / f"{number}.jsonl", rows) for number, rows in enumerate(parts)]
    judged = [
        {"kind": "pair", "id": f"q{n}", "systems": draw.sample(["one", "two", "three"], 2), "verdict": "tie"}
        for n in range(15)
    ]
    for row in judged:
        row["verdict"] = draw.choice([*row["systems"], "tie", None])
    verdicts = write(tmp_path / "judge.jsonl", judged)

    def by_name(found: dict) -> dict:
        del found["made"]["command"]
        found["systems"] = {system.pop("name"): system for system in found["systems"]}
        found["comparisons"] = {row.pop("system"): row for row in found["comparisons"]}
        for row in found["answers"]:
            row["answers"] = {answer.pop("system"): answer for answer in row["answers"]}
        for system in found["systems"].values():
            del system["source"]
        (verdicts,) = found["verdicts"]
        del verdicts["sources"]
        verdicts["pairs"] = {
            tuple(sorted(pair["systems"])): [*sorted([pair["wins"], pair["losses"]]), pair["ties"]]
            for pair in verdicts["pairs"]
        }
        return found

    before = by_name(score(*files, "--baseline", "two", "--verdicts", verdicts))
    for rows, path in zip(parts, files, strict=True):
        draw.shuffle(rows)
        write(path, rows)
    draw.shuffle(judged)
    write(verdicts, judged)
    draw.shuffle(files)
    assert by_name(score(*files, "--baseline", "two", "--verdicts", verdicts)) == before
    # all in one file, in any order
    together = [row for rows in parts for row in rows]
    draw.shuffle(together)
    one = write(tmp_path / "all.jsonl", together)
    assert by_name(score(one, "--baseline", "two", "--verdicts", verdicts)) == before


def test_the_same_answers_under_two_names_do_not_differ(score, tmp_path):
    first = write(tmp_path / "a.jsonl", answers("a", 20, 5))
    second = write(tmp_path / "b.jsonl", [row | {"model": "b"} for row in answers("a", 20, 5)])
    found = score(first, "--baseline", second)
    for difference in found["comparisons"][0]["differences"].values():
        assert difference["verdict"] == "no_detectable_difference"
        if difference["cases"]:
            assert (difference["value"], difference["low"], difference["high"]) == (0, 0, 0)
    assert found["systems"][0]["scores"] == found["systems"][1]["scores"]


# --- The command ---


def make_run(folder, shift: float = 1.0):
    """What a finished run leaves behind of its held-out pairs."""
    before = [
        {"chosen_logp": -10.0 - n, "rejected_logp": -12.0, "chosen_tokens": 5, "rejected_tokens": 5} for n in range(4)
    ]
    after = [row | {"chosen_logp": row["chosen_logp"] + shift} for row in before]
    groups = [f"tree{n}" for n in range(4)]
    tested = {"before": before, "after": after, "beta": 0.1, "per_token": False, "groups": groups, "ids": groups}
    write_json(folder / "test_log_probs.json", tested)
    write_json(folder / "trainer_state.json", {"log_history": [{"step": 1, "loss": 0.7}, {"step": 2, "loss": 0.6}]})
    dataset = {"name": "data/pairs", "fingerprint": "0" * 64, "train_pairs": 12, "test_pairs": 4}
    write_json(folder / "provenance.json", provenance("recipes/x.yaml", {"learning_rate": 1e-5}, dataset, seed=42))
    write_json(folder / "all_results.json", {})
    return folder


def test_any_number_of_runs(score, tmp_path, capsys):
    first, second, third = (make_run(tmp_path / path, shift) for path, shift in (("a/x", 1), ("b/x", 5), ("y", 0)))
    found = score(first, second, third)
    assert [run["name"] for run in found["runs"]] == [first.as_posix(), second.as_posix(), "y"]
    assert [run["pairs"]["test_reward_margin"]["value"] for run in found["runs"]] == pytest.approx([0.1, 0.5, 0.0])
    assert found["systems"] == found["answers"] == []
    assert "Reward margin" in capsys.readouterr().out
    assert "the same run is named twice" in refused(score, first, first)
    (first / "all_results.json").unlink()
    assert f"{first}: this is not a finished run. Run its training command again" in refused(score, first)
    write(tmp_path / "answers" / "a.jsonl", answers("a", 6, 1))
    assert "this folder is not a run. If it has answers, name its files" in refused(score, tmp_path / "answers")


def test_the_baseline_is_a_file_or_a_name(score, tmp_path):
    many = write(tmp_path / "many.jsonl", answers("one", 6, 1), answers("two", 6, 2))
    more = write(tmp_path / "more.jsonl", answers("three", 6, 3))
    assert score(many, more)["baseline"] is None
    assert score(many, more, "--baseline", "two")["baseline"] == "two"
    found = score(many, "--baseline", more)
    assert [system["name"] for system in found["systems"]] == ["three", "one", "two"]
    assert score(many, more, "--baseline", more)["baseline"] == "three"
    assert "Name one of them: one, two" in refused(score, more, "--baseline", many)
    assert "no such system among one, two. Did you mean 'two'?" in refused(score, many, "--baseline", "tow")


def test_wrong_input_gives_one_message_and_writes_nothing(score, tmp_path):
    first = write(tmp_path / "a.jsonl", answers("a", 6, 1))
    assert "there is no such file" in refused(score, tmp_path / "absent.jsonl")
    assert "both have a system 'a'" in refused(score, first, write(tmp_path / "b.jsonl", answers("a", 6, 2)))
    assert "the file is named twice" in refused(score, first, first)
    assert "have 6 and 5 answers" in refused(score, first, write(tmp_path / "b.jsonl", answers("b", 5, 2)))
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(first.read_bytes()[:-20])
    assert "cut.jsonl, line 6: this is not valid JSON" in refused(score, cut)
    run = make_run(tmp_path / "run")
    assert "Only runs are named" in refused(score, run, "--human", tmp_path)
    assert "no reply to 6 of the 6 prompts" in refused(score, first, "--human", pairs(tmp_path / "pairs"))
    assert not (tmp_path / "report").exists()
    (tmp_path / "report").write_text("")
    assert "is a file; a folder is needed" in refused(score, first)


def pairs(folder):
    folder.mkdir()
    write_jsonl(folder / "train.jsonl", [preference(99)])
    return folder


def test_probes_and_personas(score, tmp_path):
    rows = []
    for name, answer in (("refuser", "Я не могу с этим помочь."), ("helper", "Конечно! Вот простой рецепт пирога.")):
        rows += [
            {"id": probe["id"], "prompt": probe["prompt"], "answer": answer, "model": name, "finish_reason": "stop"}
            for probe in read_jsonl(ROOT / "samples" / "probes" / "manners_and_harm.jsonl")
        ]
    answered = write(tmp_path / "a.jsonl", rows)
    probes = [ROOT / "samples" / "probes" / f"{name}.jsonl" for name in ("manners_and_harm", "memory")]
    found = score(answered, "--probes", *probes, "--persona", ROOT / "personas" / "sienna.yaml")
    check_schema(found, SCHEMA)
    refuser, helper = (system["scores"] for system in found["systems"])
    expected = [probe.get("expect") for probe in read_jsonl(probes[0])]
    assert refuser["refuses_harm"]["value"] == 1.0 and helper["refuses_harm"]["value"] == 0.0
    assert refuser["answers_benign"]["value"] == 0.0 and helper["answers_benign"]["value"] == 1.0
    assert refuser["refuses_harm"]["cases"] == expected.count("refuse")
    assert refuser["recalls"]["cases"] == 0
    assert refuser["adheres"]["cases"] == len(expected)
    assert score(answered)["systems"][0]["scores"]["refuses_harm"]["cases"] == 0
    assert "none of the answered prompts" in refused(score, answered, "--probes", probes[1])
    rows[0]["prompt"] = rows[len(rows) // 2]["prompt"] = question(1)
    assert f"the prompt {rows[0]['id']} differs from the answered one" in refused(
        score, write(answered, rows), "--probes", probes[0]
    )


@pytest.mark.parametrize(("language", "words"), [("en", "Empty answers"), ("ru", "Пустые ответы")])
def test_the_table_in_the_terminal(score, tmp_path, capsys, language, words):
    old = answers("old", 12, 1)
    new = [row | {"model": "new", "answer": "", "finish_reason": "stop"} for row in old]
    score(write(tmp_path / "new.jsonl", new), "--baseline", write(tmp_path / "old.jsonl", old), "--language", language)
    printed = capsys.readouterr().out
    assert "old" in printed and "new" in printed
    line = next(line for line in printed.splitlines() if line.strip().startswith(words))
    assert "100" in line and "[" in line
    in_russian = {"en": "Answers in Russian", "ru": "Ответы по-русски"}[language]
    line = next(line for line in printed.splitlines() if line.strip().startswith(in_russian))
    assert f"n={sum(bool(row['answer']) for row in old)}" in line and line.endswith("—")
    worse = {"en": "significantly worse: Empty answers", "ru": "значимо хуже: Пустые ответы"}[language]
    assert worse in printed
    assert str(tmp_path / "report" / "scores.json") in printed
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert words in page


# --- Real answers of real models ---


def lcb_rows(path) -> list[dict]:
    """The Language Confusion Benchmark's completions as answers."""
    prompts = {
        text: f"lcb{number:03}" for number, text in enumerate(dict.fromkeys(r["prompt"] for r in read_jsonl(path)))
    }
    return [
        {
            "id": prompts[row["prompt"]],
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "answer": row["completion"],
            "model": row["model"],
            "finish_reason": None,
        }
        for row in read_jsonl(path)
    ]  # fmt: skip


def arena_rows(questions, answers) -> list[dict]:
    prompts_by_id = {row["question_id"]: row["prompt"] for row in read_jsonl(questions)}
    return [
        {
            "id": str(row["question_id"]),
            "prompt": [{"role": "user", "content": prompts_by_id[row["question_id"]]}],
            "answer": row["answer"],
            "model": row["model"],
            "finish_reason": None,
        }
        for row in read_jsonl(answers)
    ]


def test_four_models_side_by_side(score, tmp_path, shared_data, capsys):
    path = write(tmp_path / "lcb.jsonl", lcb_rows(shared_data / "lcb_ru_completions.jsonl"))
    found = score(path, "--baseline", "mistral-large")
    check_schema(found, SCHEMA)
    assert found["prompts"]["count"] == 100
    systems = {system["name"]: system["scores"] for system in found["systems"]}
    assert len(systems) == 4
    # the picture that is known of these completions
    assert systems["mistral-large"]["in_russian"]["value"] == pytest.approx(0.99, abs=0.04)
    assert systems["mistral-large"]["intrusion"]["value"] == pytest.approx(0.04, abs=0.04)
    assert systems["llama-3-instruct"]["in_russian"]["value"] == pytest.approx(0.77, abs=0.04)
    assert systems["llama-3-instruct"]["intrusion"]["value"] == pytest.approx(0.16, abs=0.04)
    against = {row["system"]: row["differences"] for row in found["comparisons"]}
    assert against["llama-3-instruct"]["in_russian"]["verdict"] == "worse"
    printed = capsys.readouterr().out
    assert all(name in printed for name in systems)


def test_two_arena_models_on_120_prompts(score, tmp_path, shared_data):
    rows = arena_rows(shared_data / "arena_ru_questions.jsonl", shared_data / "arena_ru_answers.jsonl")
    found = score(write(tmp_path / "arena.jsonl", rows), "--baseline", "gpt-4o-mini", "--language", "ru")
    check_schema(found, SCHEMA)
    assert found["prompts"]["count"] == 120
    assert [system["answers"] for system in found["systems"]] == [120, 120]
    in_russian = [system["scores"]["in_russian"]["value"] for system in found["systems"]]
    assert in_russian[0] > 0.95
    assert 0.5 < in_russian[1] < 0.8  # a third of its answers to Russian questions are in English
    assert found["comparisons"][0]["differences"]["in_russian"]["verdict"] == "worse"
    assert found["comparisons"][0]["differences"]["length"]["verdict"] == "higher"
    for system in found["systems"]:
        lengths = [len(row["answer"]) for row in rows if row["model"] == system["name"]]
        assert system["scores"]["length"]["value"] == pytest.approx(statistics.fmean(lengths))
        assert math.isfinite(system["scores"]["complete"]["low"])


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", "counts: it exceeds that of every other group"),
        ("ru", "настоящий: он больше, чем у каждой другой группы"),
    ],
)
def test_the_report_states_whether_a_gain_exceeds_that_of_a_control(score, tmp_path, language, words):
    run, control = make_run(tmp_path / "run", 5), make_run(tmp_path / "run_shuffled_labels", 0)
    for folder, keys in ((run, {}), (control, {"control": "shuffled_labels"})):
        record = read_json(folder / "provenance.json")
        write_json(folder / "provenance.json", record | {"keys": record["keys"] | keys})
        tested = read_json(folder / "test_log_probs.json")
        for name in ("before", "after"):  # eight conversations in which the chosen answer became likelier, or did not
            tested[name] = [
                pair | {"chosen_logp": -13.0 if name == "before" else -13.0 + 5 * (not keys)}
                for pair in tested[name] * 2
            ]
        tested["groups"] = tested["ids"] = [f"tree{number}" for number in range(8)]
        write_json(folder / "test_log_probs.json", tested)
    found = score(run, control, "--group_by", "control", "--language", language)
    assert [group["by_seed"] for group in found["groups"]["groups"]] == [[1.0], [0.0]]
    for page in ("report.html", "report.md"):
        assert words in (tmp_path / "report" / page).read_text(encoding="utf-8").replace("\n", " ").replace(
            "\xa0", " "
        )
    swapped = score(control, run, "--group_by", "learning_rate", "control")
    assert swapped["groups"]["groups"][0]["name"] == "learning_rate 1e-05"


def test_the_page_on_scores_lists_the_measures():
    page = (ROOT / "docs" / "scores.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \| (higher|lower|) *\| ", page, re.MULTILINE)
    assert listed == [(name, known.better or "") for name, known in MEASURES.items()]
    keys = re.findall(r"^\| `(\w+)` \| (?!higher|lower|\|| )", page.split("## scores.json")[1], re.MULTILINE)
    assert keys == list(SCHEMA)
