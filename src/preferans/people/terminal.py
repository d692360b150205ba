"""Read lines from a terminal or a pipe, and write a model's text to it safely."""

import sys
from collections.abc import Callable

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.shortcuts import CompleteStyle

from ..evaluation.report.words import NO_BREAK
from ..text.intrusions import confusion
from ..utf8 import visible, writable

_UNDERLINE, _DIM, _RESET = "\x1b[4m", "\x1b[2m", "\x1b[0m"


class Screen:
    """
    The terminal of a chat. With a pipe in place of a keyboard, lines are read as they come, and nothing is coloured.

    Args:
        commands (`list[str]`): Commands that Tab completes.
    """

    def __init__(self, commands: list[str]):
        reconfigure = getattr(sys.stdin, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="replace")  # a pipe may have bytes that are not UTF-8
        self.is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
        self.session: PromptSession | None = None
        if self.is_terminal:
            completer = WordCompleter(commands, sentence=True)
            self.session = PromptSession(completer=completer, complete_style=CompleteStyle.READLINE_LIKE)

    def read(self, prompt: str) -> str:
        """
        Read a line.

        Raises:
            `EOFError`: at the end, such as Ctrl-D.
            `KeyboardInterrupt`: on Ctrl-C.
        """
        if self.session:
            return writable(self.session.prompt(prompt))
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        print(f"{prompt}{visible(line.rstrip())}", flush=True)
        return writable(line)

    def say(self, text: str) -> None:
        """Print a notice of the program."""
        text = visible(text.replace(NO_BREAK, " "))  # a copied path must not have one
        print(f"{_DIM}{text}{_RESET}" if self.is_terminal else text, flush=True)

    def answer(self, label: str, question: str, mark: bool) -> tuple[Callable[[str], None], Callable[[], None]]:
        """
        Begin an answer.

        Args:
            label (`str`): Name of who answers.
            question (`str`): What is answered; its words are never marked.
            mark (`bool`): Whether intruding foreign words are underlined. The text then appears line by line.

        Returns:
            `tuple[Callable[[str], None], Callable[[], None]]`: a function that takes pieces of the text, and one that ends it.
        """
        print(f"{visible(label)}> ", end="", flush=True)
        lines = _MarkedLines(question, self.is_terminal)

        def write(piece: str) -> None:
            print(lines.add(piece) if mark else visible(piece), end="", flush=True)

        def end() -> None:
            print(lines.rest() if mark else "", flush=True)

        return write, end


class _MarkedLines:
    """
    Collects pieces of a text, and returns finished lines with their intruding words underlined.

    Each line is judged with the lines before it, so that a line inside a block of code is not taken for prose.
    """

    def __init__(self, question: str, is_terminal: bool):
        self.question, self.before, self.waiting = question, "", ""
        self.start, self.end = (_UNDERLINE, _RESET) if is_terminal else ("_", "_")

    def add(self, piece: str) -> str:
        *finished, self.waiting = (self.waiting + piece).split("\n")
        return "".join(self._marked(f"{line}\n") for line in finished)

    def rest(self) -> str:
        line, self.waiting = self.waiting, ""
        return self._marked(line)

    def _marked(self, line: str) -> str:
        end = len(self.before)
        self.before += line
        text, marked = "", self.before
        for intruder in confusion(marked, self.question).intruders:
            if intruder.start >= end:
                word = visible(marked[intruder.start : intruder.end])
                text += f"{visible(marked[end : intruder.start])}{self.start}{word}{self.end}"
                end = intruder.end
        return text + visible(marked[end:])
