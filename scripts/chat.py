"""
Talk to a base model, a character or adapters in the terminal.

    python scripts/chat.py --adapter runs/llama1b_ru
    python scripts/chat.py --adapter runs/llama1b_ru runs/llama1b_ipo
    python scripts/chat.py --adapter runs/llama1b_ru --persona personas/sienna.yaml --mark
    python scripts/chat.py --model_name_or_path meta-llama/Llama-3.2-1B-Instruct --load_in_4bit --dtype float16
    python scripts/chat.py --adapter runs/llama1b_ru --load chats/2026-03-14_18-05-00.json

With --adapter, the base model, its precision and the chat template are those of the run, and the sampling settings those of
scripts/generate.py. Type a question, or a command: /help lists them. Ctrl-C stops an answer and keeps what was written. /compare lets all
adapters answer the same question, or a single adapter and its base model. /good and /bad rate an answer; data_builders/ratings_ru.py
turns these ratings into preference pairs.

The conversation is saved after every answer, and --load continues it. If it outgrows the model's context window, its oldest turns are
left out, with a notice.
"""

import argparse

from preferans.errors import PreferansError, help_first, run
from preferans.models.sampling_options import add_sampling_arguments


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--persona", metavar="FILE", help="character to talk to, such as personas/sienna.yaml")
    add("--mark", action="store_true", help="underline intruding foreign words; answers then appear line by line")
    add("--load", metavar="FILE", help="saved conversation to continue")
    add(
        "--ratings", default="ratings/chat.jsonl", metavar="FILE", help="file of /good and /bad (default: %(default)s)"
    )
    add("--rater", help="name under which you rate (default: your login name)")
    add("--language", choices=("ru", "en"), default="ru", help="language of the notices (default: %(default)s)")
    add(
        "--seed", type=int, default=42, help="the same seed and questions give the same answers (default: %(default)s)"
    )
    add_sampling_arguments(parser, several=True, batches=False)
    parser.set_defaults(batch_size=1, max_prompts=None)
    return parser


PARSER = make_parser()
help_first(PARSER)

import getpass
from datetime import datetime
from pathlib import Path

from preferans.data.persona import load_persona
from preferans.models.load_samplers import check_sampling_arguments, load_samplers, with_base
from preferans.people.chat import COMMANDS, Chat, ChatOptions, next_free
from preferans.people.chat_history import ChatHistory
from preferans.people.terminal import Screen
from preferans.people.words import people_words


def main() -> None:
    args = PARSER.parse_args()
    check_sampling_arguments(args)
    persona = load_persona(args.persona) if args.persona else None
    history = ChatHistory.load(args.load) if args.load else ChatHistory()
    if Path(args.ratings).is_dir():
        raise PreferansError(f"--ratings {args.ratings}: this is a folder; name a file, such as ratings/chat.jsonl.")
    systems = load_samplers(args)
    if len(systems) == 1:
        systems = with_base(systems)
    for system in systems:
        system.persona = persona
    new_path = next_free(Path("chats") / f"{datetime.now():%Y-%m-%d_%H-%M-%S}.json")
    options = ChatOptions(args.load or new_path, args.ratings, args.rater or login_name(), args.mark)
    chat = Chat(systems, history, Screen(list(COMMANDS)), people_words(args.language), options)
    if args.load:
        chat.show_history()
    chat.run()


def login_name() -> str:
    """Return the user's login name, or "me" if the system has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "me"


if __name__ == "__main__":
    run(main)
