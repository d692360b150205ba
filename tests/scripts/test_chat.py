"""scripts/chat.py in a pseudo-terminal and with a pipe."""

import os
import subprocess
import sys

import pytest

from preferans.data.ratings import read_ratings
from preferans.errors import PreferansError
from preferans.files import read_json

from ..support.merges import make_run
from ..support.tiny import ROOT

CTRL_C, CTRL_D = b"\x03", b"\x04"


@pytest.fixture(scope="module")
def run_folder(tiny_llama, tmp_path_factory):
    return make_run(tiny_llama, tmp_path_factory.mktemp("runs") / "tuned")


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_two_sessions_in_a_terminal(run_folder, tmp_path):
    from ..support.pseudo_terminal import PseudoTerminal

    ratings = tmp_path / "ratings.jsonl"
    options = ["--adapter", run_folder, "--persona", "personas/sienna.yaml", "--ratings", ratings, "--rater", "Анна"]
    command = ["scripts/chat.py", *options, "--use_cpu", "--top_k", "5"]
    chat = PseudoTerminal(*command, "--max_new_tokens", "1000")
    chat.wait_for("Отвечает tuned.")
    chat.wait_for("Вы>")
    chat.type("Кто ты?")
    chat.wait_for("tuned>")
    chat.wait_for_more(40)
    chat.press(CTRL_C)  # during generation: the answer ends, the chat goes on
    chat.wait_for("[остановлено; написанное осталось в разговоре]")
    chat.wait_for("Вы>")
    chat.press(CTRL_C)  # at the prompt
    chat.wait_for("Чтобы выйти, введите /exit")
    chat.wait_for("Вы>")
    chat.type("/status")
    chat.wait_for("Персонаж: Сиенна.")
    chat.wait_for("файл ")
    path = chat.wait_for(".json.") + ".json"
    saved = ROOT / path
    try:
        assert [message["content"] for message in read_json(saved)["messages"][:1]] == ["Кто ты?"]
        chat.kill()

        chat = PseudoTerminal(*command, "--max_new_tokens", "12", "--load", path)
        chat.wait_for("Продолжается разговор, в котором 1 вопрос с ответом.")
        chat.wait_for("Кто ты?")
        for line, notice in [
            ("/undo", "Убран вопрос «Кто ты?»"),
            ("Как тебя зовут?", "tuned>"),
            ("/bad", "Оценка записана"),
            ("/retry", "tuned>"),
            ("/good", "Оценка записана"),
            ("/compare Сколько тебе лет?", "Какой лучше? /good 1 или /good 2"),
            ("/good 2", "1: "),
        ]:
            chat.wait_for("Вы>")
            chat.type(line)
            chat.wait_for(notice)
        chat.wait_for("Вы>")
        chat.press(CTRL_D)
        assert chat.end() == 0
        assert f"--load {path}" in chat.seen and f"ratings_ru.py --source {ratings}" in chat.seen
        rows = read_ratings([ratings])
        assert [row.get("thumbs") and list(row["thumbs"].values()) for row in rows] == [["down"], ["up"], None]
        assert rows[2]["verdict"] == rows[2]["answers"][1]["id"]
        assert {row["rater"] for row in rows} == {"Анна"}
        messages = read_json(saved)["messages"]
        assert [message["content"] for message in messages[::2]] == ["Как тебя зовут?", "Сколько тебе лет?"]
        assert messages[1]["content"] == rows[1]["answers"][0]["text"]
    finally:
        saved.unlink(missing_ok=True)


def test_lines_of_a_pipe(run_folder, tmp_path):
    command = ["scripts/chat.py", "--adapter", run_folder, "--use_cpu", "--language", "en", "--mark"]
    command += ["--max_new_tokens", "8", "--ratings", tmp_path / "r.jsonl"]
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        input="Как?\n/good\n",
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert "tuned answers." in done.stdout and "You> Как?" in done.stdout and "\x1b" not in done.stdout
    assert len(read_ratings([tmp_path / "r.jsonl"])) == 1
    path = done.stdout.split("--load ")[1].split()[0]
    assert len(read_json(ROOT / path)["messages"]) == 2
    (ROOT / path).unlink()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "model_name_or_path"),
        (["--adapter", "runs/none"], "runs/none: this folder has no adapter"),
        (["--adapter", "RUN", "--load", "none.json"], "none.json: there is no such file"),
        (["--adapter", "RUN", "--persona", "none.yaml"], "none.yaml"),
        (["--adapter", "RUN", "--ratings", "docs"], "--ratings docs: this is a folder"),
        (["--adapter", "RUN", "--temperature", "-1"], "--temperature -1.0: it must be at least 0"),
    ],
)
def test_mistakes_are_one_message(call_script, run_folder, arguments, words):
    with pytest.raises(PreferansError) as caught:
        call_script("scripts/chat.py", *(str(run_folder) if word == "RUN" else word for word in arguments))
    assert words in str(caught.value)
