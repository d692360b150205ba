"""A chat in the terminal: the loop of questions and answers, and its commands."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from ..errors import PreferansError, message_of
from ..evaluation.report.words import Words
from ..models.sampler import Sampler
from .chat_history import ChatHistory, is_chat
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
    """A question, and its answers in the order in which they were shown."""

    question: str
    prompt: list[dict]
    replaces: bool = False  # whether the answer takes the place of the last turn's
    answers: list[RatedAnswer] = field(default_factory=list)


class Chat:
    """
    A chat with one or several systems.

    Args:
        systems (`Sequence[Sampler]`): Systems on one loaded model. The first answers; `/compare` asks all of them.
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
            except Exception as error:
                message = message_of(error)
                if message is None:
                    raise
                self.screen.say(message)

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
        self._answer(self._asked(question))

    def _asked(self, question: str) -> _Shown:
        """Begin a new question. `/retry` asks it again even if it gets no answer."""
        self.last = _Shown(question, self.history.prompt(question))
        self.attempts = 0
        return self.last

    def _asked_again(self) -> _Shown:
        """Begin the last question again, with other random numbers. The conversation changes only when there is an answer."""
        if self.last is not None and not self.last.answers:
            question, replaces = self.last.question, False
        elif self.history.messages:
            question, replaces = self.history.messages[-2]["content"], True
        else:
            raise PreferansError(self.words("chat_no_turn"))
        if self.last is None or self.last.question != question:
            self.attempts = 0
        self.attempts += 1
        return _Shown(question, self.history.prompt(question, without_last=replaces), replaces)

    def _answer(self, shown: _Shown) -> None:
        """Let the first system answer, and add the turn."""
        answer = self._stream(self.systems[0], self.systems[0].label, shown)
        if answer is not None:
            shown.answers = [answer]
            self._finish_turn(shown, answer)

    def _stream(self, system: Sampler, label: str, shown: _Shown) -> RatedAnswer | None:
        """Show a system's answer; return `None` if it is empty."""
        turns = len(self.history.messages) - 2 * shown.replaces
        name = f"{turns}:{self.attempts}"
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

    def _finish_turn(self, shown: _Shown, answer: RatedAnswer) -> None:
        if shown.replaces:
            self.history.undo()
        self.history.add(shown.question, answer.text)
        self.last = shown
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
        self.history = ChatHistory(system=self.history.system)
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
        self._answer(self._asked_again())

    def _system(self, text: str) -> None:
        self.history.system = text or None
        if self.history.messages:
            self._write(self.options.chat_path)
        self.screen.say(self.words("chat_system_set" if text else "chat_system_removed"))

    def _compare(self, question: str) -> None:
        if len(self.systems) < 2:
            raise PreferansError(self.words("chat_nothing_to_compare"))
        shown = self._asked(question) if question else self._asked_again()
        order = sorted(
            self.systems, key=lambda one: short_digest(str(one.seed), shown.question, str(self.attempts), one.label)
        )
        answers = [self._stream(system, str(number), shown) for number, system in enumerate(order, start=1)]
        shown.answers = [answer for answer in answers if answer is not None]
        if not shown.answers:
            return
        own = next((one for one in shown.answers if one.model == self.systems[0].label), shown.answers[0])
        self._finish_turn(shown, own)
        if len(shown.answers) > 1:
            self.screen.say(self.words("chat_compare_next" if len(shown.answers) == 2 else "chat_compare_many"))

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
        elif thumb == "down" and len(shown.answers) > 2:
            verdict, thumbs = None, {shown.answers[numbers.index(choice)].id: thumb}
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
        if len(shown.answers) > 1:
            names = "; ".join(
                f"{number}: {answer.model}" for number, answer in zip(numbers, shown.answers, strict=True)
            )
            self.screen.say(names)

    def _save(self, path: str) -> None:
        target = Path(path) if path else Path(self.options.chat_path)
        if target.is_dir():
            raise PreferansError(self.words("chat_save_folder", path=str(target)))
        if target.exists() and not is_chat(target):
            raise PreferansError(self.words("chat_save_other", path=str(target)))
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
        persona = self.systems[0].persona
        now = persona.slug if persona else None
        if now != self.history.persona:
            none = self.words("chat_no_persona")
            self.screen.say(self.words("chat_other_persona", before=self.history.persona or none, now=now or none))
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
