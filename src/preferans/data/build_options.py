"""Command-line options of the data builders, and the command that a card names."""

import argparse
import shlex
import sys
from pathlib import Path

from .oasst_rule import OASST1, TURNS
from .preferences import FORMATS

OUTPUT_OPTIONS = ("output_dir", "fix")
# Options that do not decide the rows, or are private.
PRIVATE_OPTIONS = ("help", "push_to_hub", "repo_id", "answers", "json")


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line, and add `given` (names of the options that differ from their defaults) and `command` (for the card)."""
    args = parser.parse_args()
    args.given = [action.dest for action in given_options(parser, args)]
    args.command = command_line(parser, args)
    return args


def add_oasst_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the conversations of an oasst source."""
    add = parser.add_argument
    add(
        "--source",
        default=OASST1,
        help="Hub id, or a local folder, .parquet or .jsonl file with oasst1's columns (default: %(default)s)",
    )
    add(
        "--revision",
        help="commit, branch or tag of a source on the Hub (default: for oasst1 the commit that we tested, else main)",
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
        help="remove «Ася», the assistant's name in Russian oasst texts",
    )


def add_output_arguments(parser: argparse.ArgumentParser, output_dir: str) -> None:
    """Add the options for splitting, writing and uploading a dataset; `output_dir` is the default folder."""
    add = parser.add_argument
    add(
        "--test_size",
        type=float,
        default=0.1,
        help="share of the conversation trees in the test split (default: %(default)s)",
    )
    add("--seed", type=int, default=42, help="seed of all random draws (default: %(default)s)")
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


def given_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> list[argparse.Action]:
    """Return the options that differ from their defaults."""
    values = ((action, getattr(args, action.dest, None)) for action in parser._actions)
    return [action for action, value in values if value is not None and value != action.default]


def command_line(parser: argparse.ArgumentParser, args: argparse.Namespace) -> str:
    """
    Write the running command as it would be given from the project's folder on any machine.

    Returns:
        `str`: the options that differ from their defaults and decide the rows, in the order of `--help`. Files in the project have
        relative paths; of other files and of the output folder, only the name is written.
    """
    script = Path(sys.argv[0]).resolve()
    words = ["python", f"{script.parent.name}/{script.name}"]
    for action in given_options(parser, args):
        value = getattr(args, action.dest)
        if action.dest in PRIVATE_OPTIONS:
            continue
        words += action.option_strings[-1:]
        if action.dest in OUTPUT_OPTIONS:
            words.append(Path(value).resolve().name)
        elif value is not True:
            values = value if isinstance(value, list) else [value]
            words += [_portable(str(value), script.parents[1]) for value in values]
    return shlex.join(words)


def _portable(word: str, root: Path) -> str:
    path = Path(word)
    if not (path.is_absolute() or path.exists() or word.startswith(".")):
        return word  # a number, or a name on the Hub
    path = path.resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
