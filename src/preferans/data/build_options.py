"""Command-line options of the data builders, and the command for the card."""

import argparse
import shlex
import sys
from pathlib import Path

from .oasst_rule import OASST1, TURNS
from .preferences import FORMATS


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line, and add `command`, what the card says of it, and `given`, the options that differ from their defaults."""
    args = parser.parse_args()
    args.given = [action.dest for action in given_options(parser, args)]
    args.command = command_line(parser, args)
    return args


def add_oasst_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which conversations of an oasst source are taken."""
    add = parser.add_argument
    add(
        "--source",
        default=OASST1,
        help="Hub id, or a local folder, .parquet or .jsonl file with oasst1's columns (default: %(default)s)",
    )
    add(
        "--revision",
        help="commit, branch or tag of a source on the Hub (default: for oasst1 the commit we tested, else main)",
    )
    add("--lang", default="ru", help="language tag to keep (default: %(default)s)")
    add(
        "--turns",
        choices=TURNS,
        default="first",
        help="first: prompts that open a conversation; all: every prompt, with the conversation before it (default: %(default)s)",
    )
    add(
        "--normalize_persona",
        action="store_true",
        help="take «Ася», as Russian oasst texts call the assistant, out of the texts",
    )


def add_output_arguments(parser: argparse.ArgumentParser, output_dir: str) -> None:
    """Add the options for splitting, writing and uploading a dataset; `output_dir` is the default folder."""
    add = parser.add_argument
    add(
        "--test_size",
        type=float,
        default=0.1,
        help="share of the conversation trees held out for the test split (default: %(default)s)",
    )
    add("--seed", type=int, default=42, help="seed of every draw (default: %(default)s)")
    add(
        "--format",
        choices=FORMATS,
        default="conversational",
        help="conversational: lists of messages, for models with a chat template; text: plain texts (default: %(default)s)",
    )
    add("--output_dir", default=output_dir, help="dataset folder to write (default: %(default)s)")
    add(
        "--push_to_hub",
        action="store_true",
        help="upload the folder as a private dataset; needs --repo_id and a token with write access",
    )
    add("--repo_id", help="name on the Hub, such as YOU/oasst1-ru-preferences")


OUTPUT_OPTIONS = ("output_dir", "fix")
# Options that do not decide the rows, or are nobody else's business.
PRIVATE_OPTIONS = ("help", "num_proc", "push_to_hub", "repo_id", "answers", "json")


def given_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> list[argparse.Action]:
    """Options whose value is not their default."""
    values = ((action, getattr(args, action.dest, None)) for action in parser._actions)
    return [action for action, value in values if value is not None and value != action.default]


def command_line(parser: argparse.ArgumentParser, args: argparse.Namespace) -> str:
    """
    The command that is running, as it would be given from the project's folder on any machine.

    Args:
        parser (`argparse.ArgumentParser`):
            Parser of the script.
        args (`argparse.Namespace`):
            What it made of the command line.

    Returns:
        `str`: the options that differ from their defaults and decide the rows, in the order of `--help`. Files inside the project are
        named from there, others and the folder to write by their last part.
    """
    script = Path(sys.argv[0]).resolve()
    words = ["python", f"{script.parent.name}/{script.name}"]
    for action in given_options(parser, args):
        value = getattr(args, action.dest)
        if action.dest in PRIVATE_OPTIONS:
            continue
        values = value if isinstance(value, list) else [value]
        words += action.option_strings[-1:]
        if action.dest in OUTPUT_OPTIONS:
            words.append(Path(value).resolve().name)
        elif value is not True:
            words += [_portable(str(value), script.parents[1]) for value in values]
    return shlex.join(words)


def _portable(word: str, root: Path) -> str:
    path = Path(word)
    if not (path.is_absolute() or path.exists() or word.startswith(".")):
        return word  # a number, or a name on the Hub
    path = path.resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
