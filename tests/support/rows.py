"""Minimal rows for tests: valid by default, broken in one place at a time."""

from pathlib import Path

import polars as pl

from preferans.data.card import card_head
from preferans.data.oasst import account, build_oasst_pairs
from preferans.data.oasst_rule import PairingRule
from preferans.data.oasst_source import OASST_COLUMNS
from preferans.data.preferences import fingerprint
from preferans.data.tables import preference_frame, write_dataset


def build(rows: list[dict] | pl.DataFrame, batch_rows: int = 50, **rule) -> tuple[list[dict], dict]:
    """Return preference rows and complete counts of oasst rows, without the split."""
    frame = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(rows, schema=OASST_COLUMNS)
    pairs, counts = build_oasst_pairs(lambda: frame.iter_slices(batch_rows), PairingRule(**rule))
    return pairs.drop("rows").to_dicts(), account(counts, pairs)


def message(message_id: str, parent_id: str | None = None, **changes) -> dict:
    """Return a valid oasst row with `changes`."""
    row = {
        "message_id": message_id,
        "parent_id": parent_id,
        "text": f"Текст сообщения {message_id}",
        "role": "prompter" if parent_id is None else "assistant",
        "lang": "ru",
        "review_result": True,
        "deleted": False,
        "rank": None,
        "synthetic": False,
        "message_tree_id": "tree",
        "tree_state": "ready_for_export",
    }
    return row | changes


def conversation(**changes_of_worst) -> list[dict]:
    """Return a prompt with two ranked replies."""
    return [message("q"), message("a", "q", rank=0), message("b", "q", **({"rank": 1} | changes_of_worst))]


def preference(number: int, **changes) -> dict:
    """Return a valid preference row."""
    row = {
        "id": f"c{number}:r{number}",
        "prompt": [{"role": "user", "content": f"Вопрос номер {number}?"}],
        "chosen": [{"role": "assistant", "content": f"Хороший ответ номер {number}, полный и вежливый."}],
        "rejected": [{"role": "assistant", "content": f"Плохой ответ {number} и ещё and more"}],
        "message_tree_id": f"tree{number}",
        "lang": "ru",
        "source": "oasst",
        "chosen_rank": 0,
        "rejected_rank": 1,
    }
    return row | changes


def write_preferences(folder: Path, splits: dict[str, list[dict]], note: str = "") -> bool:
    """Write a dataset folder with a short card; return whether it changed."""
    frames = {name: preference_frame(rows) for name, rows in splits.items()}
    head = card_head("Pairs", frames, "ru", "other", [])
    return write_dataset(folder, frames, f"{head}\n{note}- fingerprint: `{fingerprint(splits)}`\n")
