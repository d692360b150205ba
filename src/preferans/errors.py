"""One kind of error for what a person can put right, and the door every script leaves through."""

import logging
import os
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterable
from difflib import get_close_matches

# Of several processes that fail alike the launcher ends the others within this time, so that one of them has the word.
SECONDS_FOR_THE_FIRST = 5


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
    is a bug and keeps its traceback. Where a launcher started several processes, the first of each machine speaks, and another one
    only of an error that it met alone.

    Args:
        main (`Callable`):
            Function without arguments. It returns an exit status, or `None` for success.
    """
    # What libraries tell their own developers would bury what is said to the person.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    number, number_here = int(os.environ.get("RANK", 0)), int(os.environ.get("LOCAL_RANK", 0))
    if number > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        for library in ("TQDM_DISABLE", "HF_DATASETS_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_PROGRESS_BARS"):
            os.environ[library] = "1"  # read when the library is imported
        warnings.filterwarnings("ignore")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a console that cannot show «ё» must not stop the work
            stream.reconfigure(errors="replace")
    try:
        status = main() or 0
    except PreferansError as error:
        if number_here > 0:
            time.sleep(SECONDS_FOR_THE_FIRST)
        where = f" in process {number}" if number > 0 else ""
        print(
            "\n" + textwrap.fill(f"Error{where}: {error}", width=100, break_long_words=False, break_on_hyphens=False),
            file=sys.stderr,
        )
        status = 2
    except PermissionError as error:
        print(f"\nError: {error.filename}: this may not be read or written ({error.strerror}).", file=sys.stderr)
        status = 2
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # PyTorch's, which not every script imports
            raise
        print(
            "\nError: the card ran out of memory. Close what else uses it, or write smaller batches or a smaller max_length; "
            "python scripts/plan.py RECIPE says what fits.",
            file=sys.stderr,
        )
        status = 2
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except KeyboardInterrupt:
        if number == 0:
            print("\nStopped. What is finished is on disk; the same command goes on from there.", file=sys.stderr)
        status = 130
    sys.exit(status)
