"""scripts/generate.py --endpoint: a served model as one more system."""

import subprocess
import sys

import pytest

from preferans.errors import PreferansError
from preferans.files import read_json, read_jsonl, write_jsonl
from preferans.models.endpoint import Endpoint, seed_of
from preferans.models.served import ServedModel

from ..support.rows import preference
from ..support.scripted_endpoint import ScriptedEndpoint, completion, raw, status
from ..support.tiny import ROOT, make_llama, make_parrot

pytestmark = pytest.mark.usefixtures("hasty")
SAMPLING = {"max_new_tokens": 12, "top_k": 60, "top_p": 0.9, "temperature": 0.7}


@pytest.fixture
def questions(tmp_path):
    path = tmp_path / "questions.txt"
    path.write_text("".join(f"Вопрос {number}?\n" for number in range(5)), encoding="utf-8")
    return path


def echo(request: dict) -> str:
    return f" Ответ на «{request['messages'][-1]['content']}»\n"


def prompts(number: int) -> list[dict]:
    return [{"id": str(i), "prompt": [{"role": "user", "content": f"Вопрос {i}?"}]} for i in range(number)]


def test_answers_have_the_same_format_as_local_ones(questions, tmp_path, call_script, capsys):
    output = tmp_path / "answers.jsonl"
    with ScriptedEndpoint(echo) as server:
        url = server.url.replace("127.", "anna:secret@127.")
        call_script(
            "scripts/generate.py", "--endpoint", url, "--model", "org/big", "--prompts", questions, "--output", output
        )
    rows = read_jsonl(output)
    assert [row["id"] for row in rows] == ["1", "2", "3", "4", "5"]
    host = server.url.removeprefix("http://").removesuffix("/v1")
    assert rows[2] == {
        "id": "3",
        "prompt": [{"role": "user", "content": "Вопрос 2?"}],
        "answer": "Ответ на «Вопрос 2?»",
        "model": "big",
        "weights": {"model_name_or_path": "org/big", "endpoint": host},
        "sampling": {"max_new_tokens": 512, "top_k": 60, "top_p": 0.9, "temperature": 0.7, "seed": 42},
        "finish_reason": "stop",
        "new_tokens": 7,
    }
    assert "secret" not in output.read_text(encoding="utf-8")
    assert "5 answers in" in capsys.readouterr().out
    stats = read_json(output.with_suffix(".stats.json"))
    assert (stats["answers"], stats["new_tokens"], stats["workers"]) == (5, 35, 4)
    sent = {request["messages"][-1]["content"]: request for request in server.requests[1:]}
    request = sent["Вопрос 2?"]
    assert {key: request[key] for key in ("model", "max_tokens", "top_k", "top_p", "temperature", "seed")} == {
        "model": "org/big",
        "max_tokens": 512,
        "top_k": 60,
        "top_p": 0.9,
        "temperature": 0.7,
        "seed": seed_of(42, "3"),
    }
    assert len({request["seed"] for request in sent.values()}) == 5


def test_greedy_sends_temperature_0(questions, tmp_path, call_script):
    with ScriptedEndpoint(echo) as server:
        options = ["--endpoint", server.url, "--model", "m", "--prompts", questions, "--output", tmp_path / "a.jsonl"]
        call_script("scripts/generate.py", *options, "--sampling", "greedy", "--max_prompts", "1")
    assert server.requests[-1]["temperature"] == 0
    assert not {"top_k", "top_p"} & server.requests[-1].keys()


def test_a_persona_is_sent_but_not_recorded_in_the_prompt(questions, tmp_path, call_script):
    with ScriptedEndpoint(echo) as server:
        options = ["--endpoint", server.url, "--model", "m", "--prompts", questions, "--output", tmp_path / "a.jsonl"]
        call_script("scripts/generate.py", *options, "--persona", "personas/sienna.yaml", "--max_prompts", "1")
    (row,) = read_jsonl(tmp_path / "a.jsonl")
    assert [message["role"] for message in server.requests[-1]["messages"]] == ["system", "user"]
    assert "Сиенна" in server.requests[-1]["messages"][0]["content"]
    assert row["prompt"] == [{"role": "user", "content": "Вопрос 0?"}]
    assert row["persona"]["name"] == "sienna"


@pytest.mark.parametrize("write", [2, 5])
def test_loses_and_repeats_nothing_after_a_kill_at_any_write(questions, tmp_path, call_script, write):
    """Five answers: the file is begun, each answer lasts, the file is put in order."""
    whole, output = tmp_path / "whole.jsonl", tmp_path / "answers.jsonl"
    with ScriptedEndpoint(echo) as server:
        command = ["--endpoint", server.url, "--model", "m", "--prompts", questions, "--workers", "1", "--output"]
        call_script("scripts/generate.py", *command, whole)
        asked = server.questions
        killed = [sys.executable, "tests/support/killed.py", write, "scripts/generate.py", *command, output]
        assert subprocess.run(list(map(str, killed)), cwd=ROOT, capture_output=True).returncode == 137
        server.requests.clear()
        call_script("scripts/generate.py", *command, output)
    assert server.questions == asked[write - 1 :]
    assert output.read_bytes() == whole.read_bytes()


def test_keeps_finished_answers_if_the_server_fails(tmp_path):
    def failing(request):
        return status(500, "out of memory") if request["number"] > 3 else echo(request)

    model = ServedModel(Endpoint("http://localhost:1", "m"), "m", SAMPLING, 1)
    with ScriptedEndpoint(failing) as server:
        model.endpoint = Endpoint(server.url, "m", workers=1)
        with pytest.raises(PreferansError, match="failed .500: out of memory"):
            model.answer(prompts(5), tmp_path / "a.jsonl")
    assert [row["id"] for row in read_jsonl(tmp_path / "a.jsonl")] == ["0", "1", "2"]


def test_retries_garbled_replies_twice(tmp_path):
    def garbled(request):
        return raw("{") if request["number"] in (1, 2) else echo(request)

    with ScriptedEndpoint(garbled) as server:
        endpoint = Endpoint(server.url, "m", workers=1)
        (row,) = ServedModel(endpoint, "m", SAMPLING, 1).answer(prompts(1), tmp_path / "a.jsonl")
    assert row["answer"] == "Ответ на «Вопрос 0?»"
    with ScriptedEndpoint(lambda request: raw("{") if request["number"] else echo(request)) as server:
        endpoint = Endpoint(server.url, "m", workers=1)
        with pytest.raises(PreferansError, match="did not return a chat completion"):
            ServedModel(endpoint, "m", SAMPLING, 1).answer(prompts(1), tmp_path / "b.jsonl")


def test_names_a_rejected_prompt(tmp_path):
    def strict(request):
        return status(400, "context length") if "Вопрос 1?" in request["messages"][-1]["content"] else echo(request)

    with ScriptedEndpoint(strict) as server:
        with pytest.raises(PreferansError, match="The prompt '1': .*rejects the request.*context length"):
            ServedModel(Endpoint(server.url, "m"), "m", SAMPLING, 1).answer(prompts(2), tmp_path / "a.jsonl")


def test_token_counts_can_be_missing(tmp_path):
    with ScriptedEndpoint(lambda _: completion("да", "length", None)) as server:
        (row,) = ServedModel(Endpoint(server.url, "m"), "m", SAMPLING, 1).answer(prompts(1), tmp_path / "a.jsonl")
    assert (row["new_tokens"], row["finish_reason"]) == (None, "length")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--endpoint", "http://localhost:1"], "choose one of the server"),
        (["--model", "m"], "give --endpoint too"),
        (["--endpoint", "http://localhost:1", "--model", "m", "--adapter", "run"], "--adapter"),
        (["--endpoint", "http://localhost:1", "--model", "m", "--load_in_4bit"], "--load_in_4bit is for a model that"),
        (["--endpoint", "localhost", "--model", "m"], "write a complete address"),
    ],
)
def test_rejects_options_for_local_models(questions, tmp_path, call_script, options, message):
    with pytest.raises(PreferansError, match=message):
        call_script("scripts/generate.py", *options, "--prompts", questions, "--output", tmp_path / "a.jsonl")
    assert not (tmp_path / "a.jsonl").exists()


def test_rejects_plain_texts(tmp_path):
    model = ServedModel(Endpoint("http://localhost:1", "m"), "m", SAMPLING, 1)
    with pytest.raises(PreferansError, match="'x' is a plain text that includes a template"):
        model.answer([{"id": "x", "prompt": "Вопрос: как?\nОтвет:"}], tmp_path / "a.jsonl")


def test_answers_of_a_served_model(server, tmp_path, call_script, patient):
    """A model with constant answers, a random one that samples, and one without a chat template."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    write_jsonl(folder / "test.jsonl", [preference(number) for number in range(2)])

    def generate(model, name, *options):
        output = tmp_path / f"{name}.jsonl"
        call = ["--endpoint", server, "--model", model, "--dataset_name", folder, "--workers", "1", "--output", output]
        call_script("scripts/generate.py", *call, *options)
        return read_jsonl(output)

    rows = generate(make_parrot(tmp_path / "parrot", "Доброе утро!"), "parrot")
    assert [(row["answer"], row["finish_reason"]) for row in rows] == [("Доброе утро!", "stop")] * 2
    assert [row["id"] for row in rows] == ["c0:r0", "c1:r1"]

    llama = make_llama(tmp_path / "llama")
    sampling = ["--max_new_tokens", "8", "--temperature", "1.0"]
    first, again, other = (
        [row["answer"] for row in generate(llama, name, *sampling, "--seed", seed)]
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )
    assert first == again
    assert not set(first) & set(other)  # it samples, which the server does only on request
    assert {row["finish_reason"] for row in read_jsonl(tmp_path / "first.jsonl")} <= {"length", "stop"}

    silent = make_llama(tmp_path / "silent", chat_template=None)
    with pytest.raises(PreferansError, match="has no chat template"):
        generate(silent, "silent")
