"""Answers judged by a scripted endpoint."""

import json
import re

from preferans.data.ratings import CRITERIA
from preferans.evaluation.answers import line_up, read_systems
from preferans.evaluation.judge import Judge
from preferans.evaluation.judge_run import (
    QUESTION_KINDS,
    JudgeTask,
    judge_answers,
)
from preferans.files import write_jsonl
from preferans.models.endpoint import Endpoint

from ..support.scripted_endpoint import ScriptedEndpoint

GOOD, POOR = "Хороший ответ, полный и ясный", "Слабый ответ"


def answers(path, model: str, texts: list[str], **changes):
    rows = [
        {
            "id": f"p{number}",
            "prompt": [{"role": "user", "content": f"Вопрос {number}?"}],
            "answer": text,
            "model": model,
            "finish_reason": "stop",
        }
        | changes
        for number, text in enumerate(texts)
    ]
    write_jsonl(path, rows)
    return path


def shown(question: str) -> list[str]:
    """Return the answers of a question in the order of the request."""
    return re.findall(r"^=== Ответ(?: [АБ])? ===\n(.*?)\n=== конец", question, re.MULTILINE | re.DOTALL)


def scored(value: int) -> str:
    return json.dumps({criterion: {"reason": "потому", "score": value} for criterion in CRITERIA})


def fair(request: dict) -> str:
    """Judge by a known good answer at either position, and score by length."""
    texts = shown(request["messages"][-1]["content"])
    if not texts:
        return '{"ok": true}'
    if len(texts) == 1:
        return scored(min(5, 1 + len(texts[0]) // 10))
    marks = [text.startswith("Хороший") for text in texts]
    better = "ничья" if marks[0] == marks[1] else "А" if marks[0] else "Б"
    return json.dumps({"reason": "видно", "better": better}, ensure_ascii=False)


def judged(folder, answer, texts: dict[str, list[str]], workers: int = 1, kinds=QUESTION_KINDS):
    systems = [
        system
        for name, those in texts.items()
        for system in read_systems(str(answers(folder / f"{name}.jsonl", name, those)))
    ]
    task, printed = JudgeTask(systems, line_up(systems), kinds), []
    with ScriptedEndpoint(answer) as server:
        judge = Judge(Endpoint(server.url, "judge", workers))
        rows, refused = judge_answers(judge, task, folder / "verdicts.jsonl", printed.append)
    return rows, refused, server, printed, task


def rating(rater: str, number: int, verdict: str | None, scores: dict | None = None, texts=(GOOD, POOR)) -> dict:
    return {
        "rater": rater,
        "prompt_id": f"other-id-{number}",
        "prompt": [{"role": "user", "content": f"Вопрос {number}?"}],
        "answers": [
            {"id": "a1", "model": "called otherwise", "text": texts[0]},
            {"id": "a2", "model": "there", "text": texts[1] + "\n"},
        ],
        "verdict": verdict,
        "scores": scores,
        "rated_at": "2026-03-14T18:05:00+03:00",
    }
