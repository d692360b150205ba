"""A chat in the terminal: the loop of questions and answers, and its commands."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from ..errors import PreferansError
from ..evaluation.report.words import Words
from ..models.sampler import Sampler
from .chat_history import ChatHistory
from .items import RatedAnswer, short_digest
from .streaming import interrupts, stream_answer
from .terminal import Screen
from .thumbs import append_rating, chat_rating

COMMANDS = (
    "/help",
    "/status",
    "/clear",
    "/exit",
    "/undo",
    "/retry",
    "/system",
    "/compare",
    "/good",
    "/bad",
    "/save",
    "/load",
)


# Notices after an answer that the model did not end.
_UNFINISHED = {"interrupted": "chat_interrupted", "length": "chat_length"}


@dataclass
class ChatOptions:
    """
    How a chat behaves.

    Args:
        chat_path (`str` or `Path`): File to which the conversation is saved after every turn.
        ratings (`str` or `Path`): File to which ratings are added.
        rater (`str`): Name of the rater.
        mark (`bool`): Whether intruding foreign words are underlined.
    """

    chat_path: str | Path
    ratings: str | Path
    rater: str
    mark: bool = False


@dataclass
class _Shown:
    """The last question, and its answers in the order in which they were shown."""

    question: str
    prompt: list[dict]
    answers: list[RatedAnswer] = field(default_factory=list)


class Chat:
    """
    A chat with one or several systems.

    Args:
        systems (`Sequence[Sampler]`): Systems on one loaded model. The first answers; `/compare` asks the first two.
        history ([`~preferans.people.chat_history.ChatHistory`]): The conversation so far.
        screen ([`~preferans.people.terminal.Screen`]): Where it takes place.
        words ([`~preferans.evaluation.report.words.Words`]): Words of the notices.
        options ([`ChatOptions`]): How it behaves.
    """

    def __init__(
        self, systems: Sequence[Sampler], history: ChatHistory, screen: Screen, words: Words, options: ChatOptions
    ):
        self.systems, self.history, self.screen, self.words, self.options = systems, history, screen, words, options
        self.last: _Shown | None = None
        self.attempts = 0
        self.rated = 0

    def run(self) -> None:
        """Talk until `/exit` or the end of the input, and show how to go on."""
        self._talk()
        if self.history.messages:
            self.screen.say(self.words("chat_continue", path=str(self.options.chat_path)))
        if self.rated:
            self.screen.say(self.words("chat_next", path=str(self.options.ratings)))

    def _talk(self) -> None:
        self.screen.say(self.words("chat_start", model=self.systems[0].label))
        while True:
            try:
                line = self.screen.read(self.words("chat_you") + "> ").strip()
            except KeyboardInterrupt:
                self.screen.say(self.words("chat_interrupt"))
                continue
            except EOFError:
                return
            if line in ("/exit", "!exit"):
                return
            try:
                self.handle(line)
            except KeyboardInterrupt:
                self.screen.say(self.words("chat_interrupt"))
            except PreferansError as error:
                self.screen.say(str(error))

    def handle(self, line: str) -> None:
        """
        Answer a line, or carry out a command.

        Args:
            line (`str`): A question, or a command that starts with `/` or, as in `transformers chat`, with `!`.
        """
        if line[:1] not in ("/", "!"):
            if line:
                self.ask(line)
            return
        name, _, argument = line.partition(" ")
        command = f"/{name[1:]}"
        if command not in COMMANDS:
            near = get_close_matches(command, COMMANDS, 1)
            raise PreferansError(self.words("chat_unknown", command=command, near=near[0] if near else "/help"))
        action: Callable[[str], None] = getattr(self, f"_{command[1:]}")
        action(argument.strip())

    def ask(self, question: str) -> None:
        """Let the first system answer a question."""
        self.last = _Shown(question, self.history.prompt(question))
        self.attempts = 0
        self._answer()

    def _answer(self) -> None:
        """Let the first system answer the last question, and add the turn."""
        answer = self._stream(self.systems[0], self.systems[0].label)
        if answer is not None:
            self._finish_turn(answer)

    def _stream(self, system: Sampler, label: str) -> RatedAnswer | None:
        """Show a system's answer to the last question; return `None` if it is empty."""
        shown = self.last
        assert shown is not None
        name = f"{len(self.history.messages)}:{self.attempts}"
        with interrupts() as interrupt:
            write, end = self.screen.answer(label, shown.question, self.options.mark)
            try:
                answer = stream_answer(system, shown.prompt, name, write, interrupt)
            finally:
                end()
        if answer.dropped:
            self.screen.say(self.words("chat_dropped", turns=self.words.plural("turns", answer.dropped)))
        if not answer.text:
            self.screen.say(self.words("chat_empty"))
            return None
        if answer.finish_reason in _UNFINISHED:
            self.screen.say(self.words(_UNFINISHED[answer.finish_reason]))
        return RatedAnswer(short_digest(system.label, answer.text), system.label, answer.text, answer.finish_reason)

    def _finish_turn(self, answer: RatedAnswer) -> None:
        assert self.last is not None
        self.history.add(self.last.question, answer.text)
        if answer not in self.last.answers:
            self.last.answers = [answer]
        self._write(self.options.chat_path)

    def _write(self, path: str | Path) -> None:
        first = self.systems[0]
        models = [system.label for system in self.systems]
        persona = first.persona.slug if first.persona else None
        self.history.save(path, models, persona, first.sampling | {"seed": first.seed})

    def _help(self, _: str) -> None:
        self.screen.say(self.words("chat_help"))

    def _status(self, _: str) -> None:
        first = self.systems[0]
        sampling = ", ".join(f"{key} {value:g}" for key, value in first.sampling.items())
        persona = first.persona.name if first.persona else "—"
        names = ", ".join(system.label for system in self.systems)
        turns = self.words.plural("turns", len(self.history.messages) // 2)
        self.screen.say(
            self.words(
                "chat_status",
                models=names,
                persona=persona,
                sampling=sampling,
                turns=turns,
                path=str(self.options.chat_path),
            )
        )

    def _clear(self, _: str) -> None:
        self.history = ChatHistory()
        self.last = None
        stem = Path(self.options.chat_path)
        self.options.chat_path = next_free(stem)
        self.screen.say(self.words("chat_cleared"))

    def _undo(self, _: str) -> None:
        turn = self.history.undo()
        self.last = None
        if turn is None:
            raise PreferansError(self.words("chat_no_turn"))
        self._write(self.options.chat_path)
        self.screen.say(self.words("chat_undone", question=turn[0]))

    def _retry(self, _: str) -> None:
        turn = self.history.undo()
        if turn is None:
            raise PreferansError(self.words("chat_no_turn"))
        question = turn[0]
        if self.last is None or self.last.question != question:
            self.attempts = 0
        self.last = _Shown(question, self.history.prompt(question))
        self.attempts += 1
        answer = self._stream(self.systems[0], self.systems[0].label)
        if answer is None:  # the answer before stays
            self.history.add(*turn)
        else:
            self._finish_turn(answer)

    def _system(self, text: str) -> None:
        self.history.system = text or None
        self.screen.say(self.words("chat_system_set" if text else "chat_system_removed"))

    def _compare(self, question: str) -> None:
        if len(self.systems) < 2:
            raise PreferansError(self.words("chat_nothing_to_compare"))
        if not question:
            turn = self.history.undo()
            if turn is None:
                raise PreferansError(self.words("chat_no_turn"))
            question = turn[0]
        self.last = _Shown(question, self.history.prompt(question))
        self.attempts = 0
        order = list(self.systems[:2])
        if hashlib.sha256(f"{order[0].seed}:{question}".encode()).digest()[0] % 2:
            order.reverse()
        answers = [self._stream(system, str(number)) for number, system in enumerate(order, start=1)]
        self.last.answers = [answer for answer in answers if answer is not None]
        if not self.last.answers:
            return
        own = next((one for one in self.last.answers if one.model == self.systems[0].label), self.last.answers[0])
        self._finish_turn(own)
        if len(self.last.answers) == 2:
            self.screen.say(self.words("chat_compare_next"))

    def _good(self, choice: str) -> None:
        self._rate("up", choice)

    def _bad(self, choice: str) -> None:
        self._rate("down", choice)

    def _rate(self, thumb: str, choice: str) -> None:
        shown = self.last
        if shown is None or not shown.answers:
            raise PreferansError(self.words("chat_nothing_to_rate"))
        numbers = [str(number) for number in range(1, len(shown.answers) + 1)]
        if choice and choice not in numbers:
            raise PreferansError(self.words("chat_which", numbers=", ".join(numbers)))
        if len(shown.answers) == 1:
            verdict, thumbs = None, {shown.answers[0].id: thumb}
        elif not choice:
            verdict, thumbs = "tie", {answer.id: thumb for answer in shown.answers}
        else:
            chosen = numbers.index(choice) if thumb == "up" else 1 - numbers.index(choice)
            verdict, thumbs = shown.answers[chosen].id, None
            self.history.undo()
            self.history.add(shown.question, shown.answers[chosen].text)
            self._write(self.options.chat_path)
        append_rating(
            self.options.ratings, chat_rating(self.options.rater, shown.prompt, shown.answers, verdict, thumbs)
        )
        self.rated += 1
        self.screen.say(self.words("chat_rated", path=str(self.options.ratings)))
        if len(shown.answers) == 2:
            names = "; ".join(
                f"{number}: {answer.model}" for number, answer in zip(numbers, shown.answers, strict=True)
            )
            self.screen.say(names)

    def _save(self, path: str) -> None:
        target = Path(path) if path else Path(self.options.chat_path)
        self._write(target)
        self.screen.say(self.words("chat_saved", path=str(target)))

    def _load(self, path: str) -> None:
        if not path:
            raise PreferansError(self.words("chat_load_what"))
        self.history = ChatHistory.load(path)
        self.options.chat_path = path
        self.last = None
        self.show_history()

    def show_history(self) -> None:
        """Show the turns of a loaded conversation."""
        self.screen.say(self.words("chat_loaded", turns=self.words.plural("turns", len(self.history.messages) // 2)))
        for message in self.history.messages[-4:]:
            you = message["role"] == "user"
            write, end = self.screen.answer(self.words("chat_you") if you else self.systems[0].label, "", False)
            write(message["content"])
            end()


def next_free(path: Path) -> Path:
    """Return a file name that does not exist yet: `chat.json`, `chat_2.json`, …"""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.stem}_{number}{path.suffix}")
    return free
