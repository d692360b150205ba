"""
Time the rating page with 10,000 ratings by 20 raters.

    python benchmarks/rating_page.py

Prints the seconds of a page with an item and of the page with all results.
"""

import random
import tempfile
import time
from pathlib import Path

from fastapi.testclient import TestClient

from preferans.data.ratings import CRITERIA, TIE
from preferans.evaluation.answers import System, line_up
from preferans.people.item_source import make_items
from preferans.people.store import Rating, RatingStore
from preferans.people.studio import Studio
from preferans.people.web import make_app

PROMPTS, RATERS, SYSTEMS = 500, 20, 3


def main() -> None:
    draw = random.Random(0)
    systems = []
    for name in range(SYSTEMS):
        rows = {
            f"q{number}": {
                "prompt": [{"role": "user", "content": f"Вопрос {number}?"}],
                "answer": f"Ответ {number} системы {name}. " * draw.randint(1, 20),
                "finish_reason": "stop",
            }
            for number in range(PROMPTS)
        }
        systems.append(System(f"system {name}", "answers.jsonl", rows))
    prompts = line_up(systems)
    with tempfile.TemporaryDirectory() as folder:
        for mode in ("compare", "score"):
            items = make_items(systems, prompts, mode)
            store = RatingStore(Path(folder) / f"{mode}.sqlite")
            store.add_items(items)
            for number in range(RATERS):
                rest = (10_000 - len(items)) // (RATERS - 1)  # the first rater rates all, and sees all results
                for item in draw.sample(items, rest if number else len(items)):
                    shown = [answer.id for answer in item.answers]
                    rating = Rating(item.id, f"rater {number}", shown, seconds=draw.uniform(5, 60))
                    if mode == "compare":
                        rating.verdict = draw.choice([*shown, TIE])
                    else:
                        rating.scores = {shown[0]: {name: draw.randint(1, 5) for name in CRITERIA}}
                    store.record(rating)
            studio = Studio(store, items, overlap=1.0)
            client = TestClient(make_app(studio), base_url="http://127.0.0.1:8765")
            token = client.get("/").text.split('name="token" value="')[1].split('"')[0]
            client.post("/", data={"token": token, "name": "rater 0"})
            print(f"{mode}: {len(store.ratings()):,} ratings of {len(items):,} items")
            for path in (f"/items/{items[0].id}", "/results"):
                start = time.perf_counter()
                assert client.get(path).status_code == 200
                print(f"  {path} {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
