"""Minimal rows for tests: sound by default, broken in one place at a time."""


def message(message_id: str, parent_id: str | None = None, **changes) -> dict:
    """An oasst row that takes part, unless `changes` say otherwise."""
    row = {
        "message_id": message_id,
        "parent_id": parent_id,
        "text": f"Текст {message_id}",
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


def preference(number: int, **changes) -> dict:
    """A sound preference row."""
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
