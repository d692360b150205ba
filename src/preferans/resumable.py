"""JSON lines that grow while a command runs, and from which the same command resumes."""

import json
import os
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import PreferansError, disk_errors
from .files import write_jsonl


class ResumableRows:
    """
    Rows of a file of JSON lines. Rows that an earlier call wrote are kept; new rows are on disk before the next ones are computed.

    Args:
        path (`str` or `Path`): The file. A truncated last line is dropped.
        key_of (`Callable[[dict, str], Hashable]`):
            Returns the key of a row, given the row and its location (`"FILE, line N"`). It raises [`PreferansError`] for a row with
            other settings, so that rows with two settings never mix, and `KeyError` or `TypeError` for a row of another kind.
        kind (`str`): Kind of rows for messages, such as `"answer"`.

    Attributes:
        rows (`dict[Hashable, dict]`): Finished rows by key.

    Raises:
        [`PreferansError`]: if the file has other rows.
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
            location = f"{path}, line {number}"
            try:
                row = json.loads(line)
                self.rows[key_of(row, location)] = row
            except (ValueError, KeyError, TypeError):
                if number == len(lines):  # no newline at the end: the process was killed while writing
                    continue
                raise PreferansError(
                    f"{location}: this is not a valid {kind}. Name another file, or delete it."
                ) from None
        write_jsonl(self.path, list(self.rows.values()))  # drops a truncated line before more is appended

    @contextmanager
    def appending(self) -> Iterator[Callable[[dict[Hashable, dict]], None]]:
        """Open the file. Yields a function that takes new rows by key, and returns when they are on disk."""
        with disk_errors(self.path), open(self.path, "a", encoding="utf-8", newline="\n") as file:

            def append(rows: dict[Hashable, dict]) -> None:
                self.rows |= rows
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows.values())
                file.flush()
                os.fsync(file.fileno())

            yield append

    def in_order(self, order: Iterable[Hashable]) -> list[dict]:
        """Rewrite the file in the given order of keys, without keys that have no row, and return its rows."""
        rows = [self.rows[key] for key in order if key in self.rows]
        write_jsonl(self.path, rows)
        return rows
