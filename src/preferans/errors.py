"""The error that users can fix themselves, and the start and the end of every script."""

import argparse
import errno
import logging
import os
import re
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from types import TracebackType

# If several processes fail alike, the launcher ends the others within this time, so that only one of them prints.
SECONDS_FOR_THE_FIRST = 5
SOCKS = (
    "ALL_PROXY or HTTPS_PROXY names a SOCKS proxy, which needs the package socksio. Install it: pip install socksio. Or "
    "unset the variable."
)


# The extra of setup.cfg that has an optional package.
_EXTRAS = {
    "fastapi": "rate",
    "itsdangerous": "rate",
    "markdown_it": "rate",
    "sqlalchemy": "rate",
    "uvicorn": "rate",
    "prompt_toolkit": "chat",
}
_FILE_PROBLEMS = {
    errno.EACCES: "no permission to read or write it",
    errno.EPERM: "no permission to read or write it",
    errno.EROFS: "no permission to read or write it",
    errno.EISDIR: "this is a folder, and a file is needed",
    errno.ENOTDIR: "a part of this path is a file, and a folder is needed",
    errno.EEXIST: "this is a file, and a folder is needed",
    errno.ENOENT: "there is no such file or folder",
    errno.ENAMETOOLONG: "the name is too long",
}


class PreferansError(Exception):
    """An error that the user can fix: the message names the file and the key, and what to write instead."""


DISK_IS_FULL = (
    "the disk is full, or does not allow a file of this size. Free some space, and give the same command again."
)
_DISK_FULL_CODES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Messages of Python, of Rust on Linux and Windows, and of PyTorch, which raises no OSError for its archives.
_DISK_FULL_TEXT = re.compile(
    r"No space left on device|File too large|\(os error (?:27|28|112|122)\)|inline_container\.cc.*unexpected pos|PytorchStreamWriter failed"
)


class TrainingDiverged(PreferansError):
    """The loss, a gradient or a weight became NaN, infinite or zero."""


def is_file_problem(error: BaseException) -> bool:
    """Check whether an error is about a path or a full disk, so that [`run`] reports it."""
    return isinstance(error, OSError) and error.errno in {*_FILE_PROBLEMS, *_DISK_FULL_CODES}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """
    Suggest the nearest known word.

    Returns:
        `str`: such as `" Did you mean 'learning_rate'?"`, or an empty string if no known word is near.
    """
    cutoff = 0.6 if len(word) < 5 else 0.76
    near = get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f" Did you mean '{near[0]}'?" if near else ""


@contextmanager
def disk_errors(path: object) -> Iterator[None]:
    """Turn the error of a full disk into a [`PreferansError`] that names the file or folder that is written."""
    try:
        yield
    except PreferansError:  # names its own path
        raise
    except Exception as error:
        if not is_disk_full(error):
            raise
        raise PreferansError(f"{path}: {DISK_IS_FULL}") from error


def is_disk_full(error: BaseException | None) -> bool:
    """Check whether an error, or one that it follows from, is that of a full disk; some libraries only have it as text."""
    while error is not None:
        if getattr(error, "errno", None) in _DISK_FULL_CODES or _DISK_FULL_TEXT.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def help_first(help_source: str | argparse.ArgumentParser) -> None:
    """
    Print a script's help and exit, if the command line has `--help`. Call this before the script's heavy imports.

    The process is also prepared for these imports: warnings that libraries write for their developers are hidden, processes other
    than the first print nothing, and Ctrl-C or a missing optional package during the imports ends with one line.

    Args:
        help_source (`str` or `argparse.ArgumentParser`):
            The script's docstring, or its parser. A docstring is also printed for a command line without arguments.
    """
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments) or (isinstance(help_source, str) and not arguments):
        print(help_source.strip() if isinstance(help_source, str) else help_source.format_help().rstrip())
        sys.exit(0)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    if _rank() > 0:
        # read when the libraries are imported
        for variable in ("TQDM_DISABLE", "HF_DATASETS_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_PROGRESS_BARS"):
            os.environ[variable] = "1"
        warnings.filterwarnings("ignore")
    sys.excepthook = _print_in_one_line


def _print_in_one_line(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("\nStopped.", file=sys.stderr)
    elif isinstance(error, ModuleNotFoundError) and error.name in _EXTRAS:
        cure = f'pip install -c constraints.txt -e ".[{_EXTRAS[error.name]}]"'
        print(f"\nError: the package {error.name} is not installed: {cure}", file=sys.stderr, flush=True)
        os._exit(2)  # the hook cannot return an exit status
    else:
        sys.__excepthook__(kind, error, traceback)


def _rank() -> int:
    return int(os.environ.get("RANK", 0))


def run(main: Callable[[], int | None]) -> None:
    """
    Run a script's `main` and end the process with its exit status.

    A [`PreferansError`], a problem with a path or the disk, and a full card are printed as one message and end with status 2; Ctrl-C
    ends with status 130. Any other exception is a bug and keeps its traceback. If a launcher started several processes, the first one of each machine prints; the others print
    only an error that they met alone.

    Args:
        main (`Callable`):
            Function without arguments. It returns an exit status, or `None` for success.
    """
    rank, local_rank = _rank(), int(os.environ.get("LOCAL_RANK", 0))
    if rank > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a console that cannot show «ё» must not stop the work
            stream.reconfigure(errors="replace")
    try:
        status = main() or 0
    except BrokenPipeError:  # the reader, such as head, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except KeyboardInterrupt:
        if rank == 0:
            print("\nStopped. What is finished is on disk; the same command resumes from there.", file=sys.stderr)
        status = 130
    except Exception as error:
        message = message_of(error)
        if message is None:
            raise
        if local_rank > 0:
            time.sleep(SECONDS_FOR_THE_FIRST)
        lines = f"Error{f' in process {rank}' if rank > 0 else ''}: {message}".splitlines()
        wrapped = [textwrap.fill(line, width=100, break_long_words=False, break_on_hyphens=False) for line in lines]
        print("\n" + "\n".join(wrapped), file=sys.stderr)
        status = 2
    sys.exit(status)


def message_of(error: Exception) -> str | None:
    """Return what to print for an error that the user can fix; `None` for a bug."""
    if isinstance(error, PreferansError):
        return str(error)
    if is_disk_full(error):
        return f"{getattr(error, 'filename', None) or os.getcwd()}: {DISK_IS_FULL}"
    if isinstance(error, OSError) and error.errno in _FILE_PROBLEMS:
        name = f"{error.filename}: " if error.filename else ""
        return f"{name}{_FILE_PROBLEMS[error.errno]} ({error.strerror})."
    if isinstance(error, ImportError) and "socksio" in str(error):
        return SOCKS
    if type(error).__name__ == "OutOfMemoryError":  # PyTorch's, which not every script imports
        return (
            "the card ran out of memory. Close other programs that use it, or write smaller batches or a smaller max_length; "
            "python scripts/plan.py RECIPE shows what fits."
        )
    return None
