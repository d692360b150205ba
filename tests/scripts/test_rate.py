"""scripts/rate.py as users run it: from answers to ratings, and from ratings to a trained adapter and a report."""

import json
import re
import sys

import httpx2 as httpx
import pytest

from preferans.data.ratings import read_ratings
from preferans.errors import PreferansError
from preferans.files import read_json, write_jsonl
from preferans.people.store import RatingStore

from ..support.commands import run_command
from ..support.rating import Browser, answer_rows, make_studio
from ..support.rating_server import rating_server
from ..support.tiny import SAMPLE
from .test_pipeline import LAUNCH, ON_CPU


@pytest.fixture
def answers(tmp_path) -> list:
    files = []
    for model in ("before", "after"):
        files.append(tmp_path / f"{model}.jsonl")
        write_jsonl(files[-1], answer_rows(model, [f"Ответ {number} {model}." for number in range(5)]))
    return files


def sign_in(address: str, name: str) -> httpx.Client:
    client = httpx.Client(base_url=address, follow_redirects=True)
    post(client, client.get("/").text, "/", name=name)
    return client


def post(client: httpx.Client, page: str, path: str, **fields: str) -> httpx.Response:
    return client.post(path, data={"token": re.search(r'name="token" value="(.*?)"', page)[1]} | fields)


def test_a_killed_server_loses_nothing_and_the_same_command_resumes(answers, tmp_path):
    with rating_server(tmp_path, *answers) as server:
        client = sign_in(server.address, "Анна")
        page = client.get("/rate")
        for _ in range(2):
            page = post(client, page.text, page.url.path, verdict="left")
        server.kill()
        with pytest.raises(httpx.TransportError):
            post(client, page.text, page.url.path, verdict="right")
        printed = server.start()
        assert "5 items to compare, 2 ratings so far" in printed
        # the page that was open before the kill still works: cookie and token are valid
        page = post(client, page.text, page.url.path, verdict="right")
        assert "Оценено 3 из 5" in page.text.replace("\u00a0", " ")
        printed, status = server.stop()
        assert status == 0 and "Traceback" not in printed
        assert f"3 ratings in {server.ratings}. Next: python scripts/rate.py --results" in printed


def test_results_and_exports(call_script, answers, tmp_path, capsys):
    studio = make_studio(tmp_path)
    browser = Browser(studio)
    browser.get("/rate")
    for _ in range(4):
        browser.rate(verdict="left")
    ratings = ["--ratings", studio.store.path]
    call_script("scripts/rate.py", "--results", "--language", "en", *ratings)
    printed = capsys.readouterr().out
    assert (
        printed.startswith("4 ratings, 1 rater.")
        and "after against before" in printed
        and "100% [100, 100]" in printed
    )
    for suffix in (".jsonl", ".csv", ".parquet"):
        call_script("scripts/rate.py", "--export", tmp_path / f"out{suffix}", *ratings)
        assert read_ratings([tmp_path / f"out{suffix}"]) == studio.store.judgements()
    assert "Next: python data_builders/ratings_ru.py --source" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Name the files of answers to rate"),
        (["ANSWERS", "--results"], "leave out the files of answers"),
        (["--results", "--ratings", "absent.sqlite"], "absent.sqlite: there is no such file. Rate answers first"),
        (["--export", "ratings.xlsx"], "must end in .jsonl, .csv, .parquet"),
        (["ANSWERS", "--overlap", "20"], "--overlap 20.0: it must be a share from 0 to 1"),
        (["ANSWERS", "--port", "0"], "--port 0: it must be from 1 to 65535"),
        (["ANSWERS", "--mode", "compare"], "there is nothing to compare"),
        (["ANSWERS", "ANSWERS"], "the file is named twice"),
        (["nothing.jsonl"], "nothing.jsonl: there is no such file"),
    ],
)
def test_mistakes_are_one_message(call_script, answers, tmp_path, arguments, words):
    with pytest.raises(PreferansError) as caught:
        call_script(
            "scripts/rate.py",
            *(str(answers[0]) if word == "ANSWERS" else word for word in arguments),
            *([] if "--ratings" in arguments else ["--ratings", str(tmp_path / "r.sqlite")]),
        )
    assert words in str(caught.value)


def test_an_empty_file_of_ratings(call_script, tmp_path):
    RatingStore(tmp_path / "r.sqlite")
    with pytest.raises(PreferansError, match="nothing is rated yet"):
        call_script("scripts/rate.py", "--results", "--ratings", tmp_path / "r.sqlite")


def test_a_missing_package_is_one_message():
    code = (
        "import runpy, sys; sys.modules['fastapi'] = None; sys.argv = ['scripts/rate.py', 'x']; "
        "runpy.run_path('scripts/rate.py', run_name='__main__')"
    )
    done = run_command(sys.executable, "-c", code, check=False)
    assert done.returncode == 2
    assert 'Error: the package fastapi is not installed: pip install -c constraints.txt -e ".[rate]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_the_loop_closes(call_script, tiny_llama, tmp_path, capsys):
    """From answers to ratings, pairs, an adapter, its answers, and a report with the people's verdicts."""
    rows = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    questions = [row["text"] for row in rows if row["parent_id"] is None][:16]
    write_jsonl(
        tmp_path / "questions.jsonl",
        [{"id": f"q{n}", "prompt": text} for n, text in enumerate(questions)],
    )
    sampled = ["--prompts", tmp_path / "questions.jsonl", "--max_new_tokens", "12", "--use_cpu"]
    files = []
    for seed in ("1", "2"):
        files.append(tmp_path / f"seed{seed}.jsonl")
        base = ["--model_name_or_path", tiny_llama, "--label", f"seed{seed}", "--seed", seed]
        call_script("scripts/generate.py", *base, *sampled, "--output", files[-1])

    with rating_server(tmp_path, *files) as server:
        client = sign_in(server.address, "Анна")
        page = client.get("/rate")
        while page.url.path.startswith("/items/"):
            page = post(client, page.text, page.url.path, verdict="left")
    call_script("scripts/rate.py", "--export", tmp_path / "ratings.jsonl", "--ratings", server.ratings)
    call_script(
        "data_builders/ratings_ru.py",
        "--source",
        tmp_path / "ratings.jsonl",
        "--test_size",
        "0.25",
        "--output_dir",
        tmp_path / "pairs",
    )
    judgements = read_ratings([tmp_path / "ratings.jsonl"])
    assert len(judgements) == 16

    train = [*LAUNCH, "scripts/dpo.py", "recipes/llama1b_ru.yaml", *ON_CPU, "--model_name_or_path", tiny_llama]
    train += [
        "--dataset_name",
        tmp_path / "pairs",
        "--output_dir",
        tmp_path / "run",
        "--max_steps",
        "2",
        "--max_length",
        "256",
    ]
    run_command(*train)
    call_script(
        "scripts/generate.py",
        "--adapter",
        tmp_path / "run",
        "--label",
        "tuned",
        *sampled,
        "--output",
        tmp_path / "tuned.jsonl",
    )
    report = ["--verdicts", tmp_path / "ratings.jsonl", "--output_dir", tmp_path / "report"]
    call_script("scripts/score.py", tmp_path / "run", *files, tmp_path / "tuned.jsonl", *report)
    scores = read_json(tmp_path / "report" / "scores.json")
    (verdicts,) = scores["verdicts"]
    (pair,) = verdicts["pairs"]
    assert verdicts["kind"] == "people" and sorted(pair["systems"]) == ["seed1", "seed2"]
    assert pair["wins"] + pair["losses"] + pair["ties"] == 16
    assert scores["runs"][0]["pairs"]["test_normalised_accuracy_gain"]["cases"] >= 3
    assert "Verdicts of people" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
