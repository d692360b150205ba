"""Judgements of raters for tests."""

from preferans.data.ratings import CRITERIA

TEXTS = {"a1": "Первый ответ.", "a2": "Второй ответ.", "a3": "Третий ответ."}


def scores(**totals: int) -> dict:
    """Return five scores for each answer that add up to its total."""
    return {
        answer: {criterion: (total + place) // 5 for place, criterion in enumerate(CRITERIA)}
        for answer, total in totals.items()
    }


def judgement(rater: str = "anna", verdict: str | None = "a1", number: int = 1, ids: str = "a1 a2", **changes) -> dict:
    """Return a valid judgement."""
    row = {
        "rater": rater,
        "prompt_id": f"p{number}",
        "prompt": prompt(f"Вопрос номер {number}?"),
        "answers": [{"id": answer, "model": f"model {answer[1]}", "text": TEXTS[answer]} for answer in ids.split()],
        "verdict": verdict,
        "scores": None,
        "rated_at": "2026-03-14T18:05:00+03:00",
    }
    return row | changes


def prompt(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


def with_texts(*texts: str, **changes) -> dict:
    answers = [{"id": f"a{n}", "model": "m", "text": text} for n, text in enumerate(texts, start=1)]
    return judgement(answers=answers, **changes)
