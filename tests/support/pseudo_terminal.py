"""A command in a pseudo-terminal, and somebody who types."""

import os
import pty
import re
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from .tiny import ROOT

# Control sequences: colours, and movements of the cursor.
_CONTROL = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|[=>]|\][^\x07]*\x07)|\r")
SECONDS = 120


class PseudoTerminal:
    """
    A command of the repository in a terminal of its own, in which Ctrl-C interrupts it.

    Args:
        command (`list`): Arguments after `python`.
    """

    def __init__(self, *command: object):
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.chdir(ROOT)
            environment = os.environ | {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", "COLUMNS": "400"}
            os.execve(sys.executable, [sys.executable, *map(str, command)], environment)
        self.seen = ""
        self.raw = b""

    def wait_for(self, text: str) -> str:
        """Wait until a text appears after the last one, and return what came before it."""
        self._read_until(lambda: text in self.seen, text)
        before, _, self.seen = self.seen.partition(text)
        return before

    def wait_for_more(self, length: int) -> None:
        """Wait until some more characters appear."""
        self._read_until(lambda: len(self.seen) >= length, f"{length} characters")

    def _read_until(self, is_there: Callable[[], bool], text: str) -> None:
        end = time.monotonic() + SECONDS
        while not is_there():
            ready, _, _ = select.select([self.master], [], [], max(end - time.monotonic(), 0))
            assert ready, f"{text!r} did not appear in {SECONDS} s after: {self.seen[-2000:]}"
            try:
                self.raw += os.read(self.master, 65536)
            except OSError:
                raise EOFError(f"{text!r} did not appear before the end: {self.seen[-2000:]}") from None
            whole = self.raw.decode("utf-8", "ignore")
            self.seen += _CONTROL.sub("", whole)
            self.raw = self.raw[len(whole.encode()) :]

    def type(self, line: str) -> None:
        """Type a line and Enter."""
        os.write(self.master, line.encode() + b"\r")

    def press(self, key: bytes) -> None:
        """Press a key, such as Ctrl-C."""
        os.write(self.master, key)

    def end(self) -> int:
        """Read the rest, wait for the command, and return its exit status."""
        with suppress(EOFError):
            self._read_until(lambda: False, "the end")
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def kill(self) -> None:
        """Kill the command at once."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
