"""JSON lines that grow while a command works, and from which the same command resumes."""

import json
import os
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import PreferansError
from .files import write_jsonl


class ResumableRows:
    """
    Rows of a file of JSON lines. Rows that an earlier call wrote are kept; each new row is on disk before the next one is made.

    Args:
        path (`str` or `Path`):
            The file. A last line that was cut short is dropped.
        key_of (`Callable[[dict, str], Hashable]`):
            Returns the key of a row, given the row and its place (`"FILE, line N"`). It raises [`PreferansError`] for a row of other
            settings, so that rows of two settings never mix, and `KeyError` or `TypeError` for a row of another kind.
        kind (`str`):
            What a row is, for messages, such as `"answer"`.

    Attributes:
        rows (`dict[Hashable, dict]`): Finished rows by key.

    Raises:
        [`PreferansError`]: if the file holds something else.
    """

    def __init__(self, path: str | Path, key_of: Callable[[dict, str], Hashable], kind: str):
        self.path = Path(path)
        if self.path.is_dir():
            raise PreferansError(f"{path}: this is a folder; a file is needed.")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.rows: dict[Hashable, dict] = {}
        lines = self.path.read_bytes().split(b"\n") if self.path.exists() else []
        for number, line in enumerate(lines, start=1):
            if not line:
                continue
            place = f"{path}, line {number}"
            try:
                row = json.loads(line)
                self.rows[key_of(row, place)] = row
            except (ValueError, KeyError, TypeError):
                if number == len(lines):  # no newline at its end: the process was killed while it wrote the line
                    continue
                raise PreferansError(
                    f"{place}: this is not a valid {kind}. Name another file, or delete it."
                ) from None
        write_jsonl(self.path, list(self.rows.values()))  # drops a line cut short before more is appended

    @contextmanager
    def appending(self) -> Iterator[Callable[[Hashable, dict], None]]:
        """Open the file. Yields a function that takes a key and its row, and returns when the row is on disk."""
        with open(self.path, "a", encoding="utf-8", newline="\n") as file:

            def append(key: Hashable, row: dict[str, Any]) -> None:
                self.rows[key] = row
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                file.flush()
                os.fsync(file.fileno())

            yield append

    def finish(self, order: Iterable[Hashable]) -> list[dict]:
        """Rewrite the file in the given order of keys, without keys that have no row, and return its rows."""
        rows = [self.rows[key] for key in order if key in self.rows]
        write_jsonl(self.path, rows)
        return rows
