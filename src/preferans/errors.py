"""One kind of error for what a person can put right, and the door every script leaves through."""

import logging
import os
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterable
from difflib import get_close_matches


class PreferansError(Exception):
    """Something the person can put right: the message names the file and the key, and says what to write instead."""


class TrainingDiverged(PreferansError):
    """The loss, a gradient or a weight stopped being a usable number."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """
    Sentence that offers the nearest known word.

    Args:
        word (`str`):
            What was written.
        known (`Iterable[str]`):
            What could have been written.

    Returns:
        `str`: `" Did you mean 'learning_rate'?"`, or an empty string when nothing is near.
    """
    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""


def run(main: Callable[[], int | None]) -> None:
    """
    Run a script's `main` and leave the process with its exit status.

    A [`PreferansError`] is shown as one paragraph and ends with status 2, Ctrl-C ends with status 130. Everything else
    is a bug and keeps its traceback.

    Args:
        main (`Callable`):
            Function without arguments. It returns an exit status, or `None` for success.
    """
    # What libraries tell their own developers would bury what is said to the person.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a console that cannot show «ё» must not stop the work
            stream.reconfigure(errors="replace")
    try:
        status = main() or 0
    except PreferansError as error:
        print(
            "\n" + textwrap.fill(f"Error: {error}", width=100, break_long_words=False, break_on_hyphens=False),
            file=sys.stderr,
        )
        status = 2
    except PermissionError as error:
        print(f"\nError: {error.filename}: this may not be read or written ({error.strerror}).", file=sys.stderr)
        status = 2
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except KeyboardInterrupt:
        print("\nStopped. What is finished is on disk; the same command goes on from there.", file=sys.stderr)
        status = 130
    sys.exit(status)
