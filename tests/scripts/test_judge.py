"""scripts/judge.py: the whole command, with a scripted and with a really served model."""

import json
import subprocess
import sys

import pytest

from preferans.errors import PreferansError
from preferans.files import read_jsonl, write_jsonl

from ..support.judged import GOOD, POOR, answers, fair, rating
from ..support.scripted_endpoint import ScriptedEndpoint
from ..support.tiny import ROOT, make_parrot

pytestmark = pytest.mark.usefixtures("hasty")


@pytest.mark.parametrize("write", [2, 5, 8])
def test_loses_and_repeats_nothing_after_a_kill_at_any_write(tmp_path, call_script, write):
    """Six verdicts: the file is begun, each verdict lasts, the file is put in order."""
    files = [
        answers(tmp_path / f"{name}.jsonl", name, texts) for name, texts in (("x", [GOOD, POOR]), ("y", [POOR, GOOD]))
    ]
    whole, output = tmp_path / "whole.jsonl", tmp_path / "verdicts.jsonl"
    with ScriptedEndpoint(fair) as server:
        command = [*files, "--endpoint", server.url, "--model", "judge", "--workers", "1", "--output"]
        call_script("scripts/judge.py", *command, whole)
        questions = server.questions
        killed = [sys.executable, "tests/support/killed.py", str(write), "scripts/judge.py", *command, output]
        assert subprocess.run(list(map(str, killed)), cwd=ROOT, capture_output=True).returncode == 137
        kept = read_jsonl(output)
        assert len(kept) == min(write - 1, 6)
        server.requests.clear()
        call_script("scripts/judge.py", *command, output)
    assert server.questions == questions[sum(row["replies"] for row in kept) :]
    assert output.read_bytes() == whole.read_bytes()


def test_judges_two_files_of_answers(tmp_path, call_script, capsys):
    before = answers(tmp_path / "before.jsonl", "before", [POOR, POOR])
    after = answers(tmp_path / "after.jsonl", "after", [GOOD, "Слабый тоже"])
    write_jsonl(
        tmp_path / "ratings.jsonl", [rating("anna", 0, "a1"), rating("anna", 1, "a2", None, ("Слабый тоже", POOR))]
    )
    output = tmp_path / "verdicts.jsonl"
    with ScriptedEndpoint(fair) as server:
        options = ["--endpoint", server.url, "--model", "judge", "--output", output]
        call = [
            before,
            after,
            *options,
            "--price_in",
            "2",
            "--price_out",
            "1e6",
            "--human",
            tmp_path / "ratings.jsonl",
        ]
        assert call_script("scripts/judge.py", *call) == 0
    printed = capsys.readouterr().out
    assert "before better 0, after better 1, tie 1, tie because the orders disagree 0" in printed
    assert "after: relevance 2.50" in printed
    assert "the same verdict in 50%" in printed
    assert f"6 verdicts in {output}: 88 tokens read, 56 written, cost 56" in printed
    assert len(read_jsonl(output)) == 6
    assert "unreadable reply" not in printed


def test_quotes_a_judge_without_readable_replies(tmp_path, call_script, capsys):
    before = answers(tmp_path / "before.jsonl", "before", [POOR])
    with ScriptedEndpoint(lambda _: "Не знаю.") as server:
        options = ["--endpoint", server.url, "--model", "judge", "--output", tmp_path / "verdicts.jsonl"]
        assert call_script("scripts/judge.py", before, *options) == 0
    printed = capsys.readouterr().out
    assert "before: no scores (1 answers, 1 unreadable)" in printed
    assert "The first unreadable reply: the reply has no JSON object: 'Не знаю.'" in printed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: answers(folder / "after.jsonl", "after", [GOOD]), "have 2 and 1 answers"),
        (lambda folder: answers(folder / "after.jsonl", "before", [GOOD, GOOD]), "both have a system 'before'"),
        (
            lambda folder: answers(
                folder / "after.jsonl", "after", [GOOD, GOOD], prompt=[{"role": "user", "content": "Другое?"}]
            ),
            "answer different prompts",
        ),
        (
            lambda folder: (folder / "after.jsonl").write_bytes((folder / "after.jsonl").read_bytes()[:-30]),
            r"after\.jsonl, line 2: this is not valid JSON",
        ),
        (lambda folder: (folder / "after.jsonl").unlink(), "there is no such file"),
    ],
    ids=["fewer", "same name", "other prompts", "cut", "absent"],
)
def test_rejects_answers_to_different_prompts_before_any_request(tmp_path, call_script, change, message):
    before = answers(tmp_path / "before.jsonl", "before", [POOR, POOR])
    after = answers(tmp_path / "after.jsonl", "after", [GOOD, GOOD])
    change(tmp_path)
    with ScriptedEndpoint(fair) as server:
        with pytest.raises(PreferansError, match=message):
            call_script(
                "scripts/judge.py",
                before,
                after,
                "--endpoint",
                server.url,
                "--model",
                "m",
                "--output",
                tmp_path / "v.jsonl",
            )
    assert server.requests == []
    assert not (tmp_path / "v.jsonl").exists()


def test_judges_with_a_served_model(server, tmp_path, call_script, capsys, patient):
    """A judge that always answers «А», so the two orders of each pair disagree."""
    scores = {"relevance": 4, "clarity": 4, "completeness": 2, "originality": 1, "style": 5}
    reply = json.dumps(scores | {"reason": "Так.", "better": "А"}, ensure_ascii=False)
    model = make_parrot(tmp_path / "parrot", reply)
    before = answers(tmp_path / "before.jsonl", "before", [POOR, POOR])
    after = answers(tmp_path / "after.jsonl", "after", [GOOD, GOOD])
    options = ["--endpoint", server, "--model", model, "--max_new_tokens", "8", "--output", tmp_path / "v.jsonl"]
    assert call_script("scripts/judge.py", before, after, *options) == 0
    printed = capsys.readouterr().out
    assert "tie because the orders disagree 2 (the answer shown first won twice 2" in printed
    assert "after: relevance 4.00, clarity 4.00, completeness 2.00, originality 1.00, style 5.00" in printed
    rows = read_jsonl(tmp_path / "v.jsonl")
    assert len(rows) == 6
    assert all(row["completion_tokens"] == 2 * row["replies"] for row in rows)  # the sentence and the end of the turn
    assert all(row["prompt_tokens"] > 500 for row in rows)
    with pytest.raises(PreferansError, match="transformers serve, this happens"):
        options = ["--endpoint", server, "--model", tmp_path / "absent", "--output", tmp_path / "o.jsonl"]
        call_script("scripts/judge.py", before, *options)
