"""Answers, items and stores of the rating page for tests."""

from pathlib import Path

from fastapi.testclient import TestClient

from preferans.evaluation.answers import System, line_up
from preferans.people.item_source import make_items
from preferans.people.items import Item
from preferans.people.store import RatingStore
from preferans.people.studio import Studio
from preferans.people.web import make_app

HOST = "http://127.0.0.1:8765"


def answer_rows(model: str, texts: list[str]) -> list[dict]:
    return [
        {
            "id": f"q{number}",
            "prompt": [{"role": "user", "content": f"Вопрос {number}?"}],
            "answer": text,
            "model": model,
            "finish_reason": "stop",
        }
        for number, text in enumerate(texts)
    ]


def make_systems(count: int = 4, models: tuple[str, ...] = ("before", "after")) -> list[System]:
    return [
        System(
            model,
            f"{model}.jsonl",
            {row["id"]: row for row in answer_rows(model, [f"Ответ {n} {model}." for n in range(count)])},
        )
        for model in models
    ]


def items_of(systems: list[System], mode: str = "compare", **options) -> list[Item]:
    return make_items(systems, line_up(systems), mode, **options)


def make_studio(folder: Path, mode: str = "compare", count: int = 4, **options) -> Studio:
    items = items_of(make_systems(count), mode, references={"q0": ["Ответ человека."]})
    store = RatingStore(folder / "ratings.sqlite")
    store.add_items(items)
    return Studio(store, items, **{"overlap": 1.0} | options)


class Browser:
    """A rater's session with a page, without a browser's scripts."""

    def __init__(self, studio: Studio, rater: str | None = "Анна"):
        self.client = TestClient(make_app(studio), base_url=HOST)
        self.page = self.client.get("/")
        if rater:
            self.post("/", name=rater)

    @property
    def token(self) -> str:
        return self.text.split('name="token" value="')[1].split('"')[0]

    @property
    def text(self) -> str:
        """The page with single spaces in place of non-breaking ones."""
        return self.page.text.replace("\u00a0", " ")

    @property
    def item(self) -> str:
        return self.page.url.path.rsplit("/", 1)[1]

    def get(self, path: str):
        self.page = self.client.get(path)
        return self.page

    def post(self, path: str, **fields):
        self.page = self.client.post(path, data={"token": self.token} | fields)
        return self.page

    def rate(self, **fields):
        shown_at = self.text.split('name="shown_at" value="')[1].split('"')[0]
        return self.post(f"/items/{self.item}", **{"shown_at": shown_at} | fields)
