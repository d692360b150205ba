import os
import signal
import sqlite3
import subprocess
import sys

import pytest

from preferans.data.ratings import CRITERIA, VotingRule, build_rating_pairs, read_ratings
from preferans.errors import PreferansError
from preferans.files import write_jsonl
from preferans.people import store as module
from preferans.people.store import Rating, RatingStore

from ..support.rating import items_of, make_systems
from ..support.tiny import ROOT


@pytest.fixture
def items():
    return items_of(make_systems(3))


@pytest.fixture
def store(tmp_path, items):
    store = RatingStore(tmp_path / "new" / "ratings.sqlite")
    store.add_items(items)
    return store


def raters(path) -> set[str]:
    return {judgement["rater"] for judgement in RatingStore(path).judgements()}


def rating(item, rater="Анна", better=0, **changes) -> Rating:
    shown = [answer.id for answer in item.answers]
    return Rating(item.id, rater, shown, **{"verdict": shown[better]} | changes)


def test_ratings_are_there_when_the_file_is_opened_again(store, items):
    full = rating(
        items[0], comment="Лучше.\nЯснее.", seconds=12.5, marks=True, scores={items[0].answers[0].id: {"style": 5}}
    )
    store.record(full)
    again = RatingStore(store.path)
    assert again.ratings() == [full]
    assert again.items() == items
    assert again.secret == store.secret


def test_the_last_rating_of_a_rater_counts(store, items):
    first, other, second = rating(items[0]), rating(items[0], "Борис"), rating(items[0], better=1)
    for one in (first, other, second):
        store.record(one)
    assert store.ratings() == [other, second]
    assert store.ratings("Анна") == [second]
    assert store.rated_by() == {items[0].id: {"Анна", "Борис"}}


def test_undo_brings_back_the_rating_before(store, items):
    first, second = rating(items[0]), rating(items[0], better=1)
    for one in (first, rating(items[1]), second, rating(items[2], "Борис")):
        store.record(one)
    assert store.withdraw("Анна") == items[0].id
    assert first in store.ratings("Анна")
    assert [store.withdraw("Анна") for _ in range(3)] == [items[1].id, items[0].id, None]
    assert [one.rater for one in store.ratings()] == ["Борис"]


def test_a_skipped_item_is_not_rated(store, items):
    store.record(rating(items[0], verdict=None))
    assert store.ratings()[0].skipped
    assert store.rated_by() == {}


def test_judgements_have_the_documented_format_and_make_pairs(store, items, tmp_path):
    for item in items:
        store.record(rating(item, seconds=3.5))
    store.record(rating(items[0], "Борис", verdict=None))
    judgements = store.judgements()
    write_jsonl(tmp_path / "ratings.jsonl", judgements)
    assert read_ratings([tmp_path / "ratings.jsonl"]) == judgements
    pairs, counts = build_rating_pairs(judgements, VotingRule())
    assert (len(pairs), counts["skipped"]) == (3, 1)
    assert judgements[0] == {
        "rater": "Анна",
        "prompt_id": "q0",
        "prompt": items[0].prompt,
        "message_tree_id": items[0].message_tree_id,
        "answers": [{"id": one.id, "model": one.model, "text": one.text} for one in items[0].answers],
        "verdict": items[0].answers[0].id,
        "scores": None,
        "rated_at": judgements[0]["rated_at"],
        "seconds": 3.5,
        "marks": False,
    }


def test_scores_make_pairs_by_their_totals(tmp_path):
    store = RatingStore(tmp_path / "r.sqlite")
    items = items_of(make_systems(2), "score")
    store.add_items(items)
    for item in items:
        good = item.answers[0].model == "after"
        store.record(
            rating(item, verdict=None, scores={item.answers[0].id: dict.fromkeys(CRITERIA, 4 if good else 2)})
        )
    pairs, _ = build_rating_pairs(store.judgements(), VotingRule(by="totals"))
    assert [row[0]["content"] for row in pairs["chosen"]] == ["Ответ 0 after.", "Ответ 1 after."]


def test_any_text_comes_back(store, items):
    texts = ["\x00\x1b[31m", "\u202eоборот", "'; DROP TABLE ratings; --", "😀" * 5000]
    for text in texts:
        store.record(rating(items[0], comment=text))
        assert store.ratings()[0].comment == text


def test_a_changed_answer_is_an_error_and_new_answers_are_added(store, items):
    store.add_items(items)
    assert len(store.items()) == 3
    store.add_items(items_of(make_systems(4)))
    assert len(store.items()) == 4
    systems = make_systems(3)
    systems[1].rows["q2"]["answer"] = "Иной ответ."
    with pytest.raises(
        PreferansError, match="the answer of after to the prompt q2 has changed since it was rated here"
    ):
        store.add_items(items_of(systems))


def test_another_prompt_with_the_same_id_is_an_error(store):
    systems = make_systems(3)
    for system in systems:
        system.rows["q1"]["prompt"] = [{"role": "user", "content": "Иной вопрос?"}]
    with pytest.raises(PreferansError, match="another prompt with the id q1 was rated here. Name another file"):
        store.add_items(items_of(systems))


def test_files_that_are_no_ratings(tmp_path, monkeypatch):
    (tmp_path / "answers.jsonl").write_text('{"id": 1}\n' * 100)
    with pytest.raises(PreferansError, match=r"answers\.jsonl: this is not a database of ratings"):
        RatingStore(tmp_path / "answers.jsonl")
    with pytest.raises(PreferansError, match="this is a folder"):
        RatingStore(tmp_path)
    other = sqlite3.connect(tmp_path / "other.sqlite")
    other.execute("CREATE TABLE songs (name TEXT)")
    other.close()
    with pytest.raises(PreferansError, match=r"was not written by scripts/rate\.py"):
        RatingStore(tmp_path / "other.sqlite")
    newer = sqlite3.connect(tmp_path / "newer.sqlite")
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(PreferansError, match="has version 99, and this program reads versions up to 1"):
        RatingStore(tmp_path / "newer.sqlite")


def test_an_older_file_is_migrated_and_keeps_its_ratings(store, items, monkeypatch):
    store.record(rating(items[0]))
    monkeypatch.setattr(
        module,
        "MIGRATIONS",
        [lambda connection: connection.exec_driver_sql("ALTER TABLE ratings ADD COLUMN mood TEXT")],
    )
    for _ in range(2):  # once only
        newer = RatingStore(store.path)
        assert newer.ratings() == store.ratings()
    with newer.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA user_version").scalar() == 2
        assert connection.exec_driver_sql("SELECT mood FROM ratings").scalar() is None


WRITER = """
import os, sys
sys.path.insert(0, sys.argv[4])
from tests.support.rating import items_of, make_systems
from preferans.people.store import Rating, RatingStore

path, processes, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
item = items_of(make_systems(1))[0]
for process in range(processes):
    if os.fork() == 0:
        store = RatingStore(path)
        store.add_items([item])
        for number in range(count):
            store.record(Rating(item.id, f"{process}-{number}", [answer.id for answer in item.answers], item.answers[0].id))
            os.write(1, f"{process}-{number} {os.getpid()}\\n".encode())
        os._exit(0)
    if processes == 20:  # one after the other, each to be killed
        os.wait()
while processes < 20:
    try:
        os.wait()
    except ChildProcessError:
        break
"""


def write_in_processes(path, processes: int, count: int) -> subprocess.Popen:
    command = [sys.executable, "-c", WRITER, path, str(processes), str(count), ROOT]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name == "nt", reason="needs fork")
def test_processes_that_write_at_once_lose_nothing(tmp_path):
    writers = write_in_processes(tmp_path / "ratings.sqlite", 4, 50)
    confirmed, _ = writers.communicate(timeout=300)
    assert len(confirmed.splitlines()) == 200
    assert {line.split()[0] for line in confirmed.splitlines()} == raters(tmp_path / "ratings.sqlite")


@pytest.mark.skipif(os.name == "nt", reason="needs fork")
def test_twenty_kills_lose_nothing_confirmed(tmp_path):
    writers = write_in_processes(tmp_path / "ratings.sqlite", 20, 100_000)
    confirmed, killed = set(), set()
    for line in writers.stdout:
        rater, process = line.split()
        confirmed.add(rater)
        number = int(rater.split("-")[0])
        if int(rater.split("-")[1]) >= number % 7 and number not in killed:
            os.kill(int(process), signal.SIGKILL)
            killed.add(number)
    assert writers.wait() == 0
    assert len(killed) == 20
    kept = raters(tmp_path / "ratings.sqlite")
    assert confirmed <= kept
    assert len(kept - confirmed) <= 20  # at most the one that was being written
