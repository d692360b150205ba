"""scripts/rate.py in a process of its own, for tests that kill it."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .tiny import ROOT


class RatingServer:
    """
    The rating page of some answers, as a user starts it.

    Args:
        folder (`Path`): Folder with the ratings.
        arguments (`list`): Arguments of the script.
    """

    def __init__(self, folder: Path, *arguments: object):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.ratings = folder / "ratings.sqlite"
        self.command = [sys.executable, "scripts/rate.py", *map(str, arguments), "--ratings", str(self.ratings)]
        self.process: subprocess.Popen | None = None

    def start(self) -> str:
        """Start the server, wait until it answers, and return what it printed."""
        self.process = subprocess.Popen(
            [*self.command, "--port", str(self.port)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        )
        printed = ""
        for line in self.process.stdout:
            printed += line
            if re.search(r"Open http://\S+ in a browser", line):
                return printed
        raise AssertionError(printed)

    def kill(self) -> None:
        """Kill the server at once, as kill -9 does."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def stop(self) -> tuple[str, int]:
        """Stop the server as Ctrl-C does, and return what it printed last and its exit status."""
        self.process.send_signal(signal.SIGINT)
        printed, _ = self.process.communicate(timeout=60)
        return printed, self.process.returncode


@contextmanager
def rating_server(folder: Path, *arguments: object) -> Iterator[RatingServer]:
    """Start a server, and kill it at the end."""
    server = RatingServer(folder, *arguments)
    server.start()
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()
