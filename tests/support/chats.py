"""Chats of tiny models for tests."""

from pathlib import Path

from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from preferans.models.sampler import Sampler
from preferans.models.sampling_options import PROTOTYPE_SAMPLING
from preferans.people.chat import Chat, ChatOptions
from preferans.people.chat_history import ChatHistory
from preferans.people.words import people_words


def make_sampler(folder: Path, adapter: bool = False, **sampling) -> Sampler:
    """Load a tiny model, perhaps with a random adapter."""
    model, name = AutoModelForCausalLM.from_pretrained(folder), None
    if adapter:
        name = "default"
        model = get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    settings = PROTOTYPE_SAMPLING | {"max_new_tokens": 12} | sampling
    weights = {"model_name_or_path": str(folder)}
    return Sampler(
        model, AutoTokenizer.from_pretrained(folder), "tuned" if adapter else "base", weights, settings, 1, 7, name
    )


class ScriptedScreen:
    """A screen whose user types given lines. An exception among them is raised."""

    def __init__(self, *lines: str | type[BaseException]):
        self.lines = list(lines)
        self.notices: list[str] = []
        self.answers: list[tuple[str, str]] = []

    def read(self, prompt: str) -> str:
        if not self.lines:
            raise EOFError
        line = self.lines.pop(0)
        if isinstance(line, str):
            return line
        raise line

    def say(self, text: str) -> None:
        self.notices.append(text.replace("\u00a0", " "))

    def answer(self, label: str, question: str, mark: bool):
        self.answers.append((label, ""))

        def write(piece: str) -> None:
            self.answers[-1] = (label, self.answers[-1][1] + piece)

        return write, lambda: None


def chat(systems: list[Sampler], folder: Path, *lines, history: ChatHistory | None = None) -> Chat:
    """Run a chat to its end; its `screen` has what was shown."""
    options = ChatOptions(folder / "chats" / "chat.json", folder / "ratings.jsonl", "Анна")
    talk = Chat(systems, history or ChatHistory(), ScriptedScreen(*lines), people_words("ru"), options)
    talk.run()
    return talk
