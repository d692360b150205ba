"""A client of the loopback Hub that publishes a small model for each case of tests/release/test_hub.py, with its faults."""

import contextlib
import errno
import io
import json
import os
import sys
import traceback
from pathlib import Path

import huggingface_hub.file_download
from huggingface_hub import constants
from loophub_client import fault

import preferans.release.hub
from preferans.errors import PreferansError
from preferans.release.bundle import Parcel, publish
from preferans.release.hub import check_can_push

pause = preferans.release.hub.time.sleep
waits: list[float] = []
pace = 0.0  # seconds that a wait really takes


def wait(seconds: float) -> None:
    waits.append(seconds)
    pause(min(seconds, pace))


@contextlib.contextmanager
def disk(full: bool):
    """A disk without space for downloads."""
    kept = huggingface_hub.file_download.http_get

    def write(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    huggingface_hub.file_download.http_get = write if full else kept
    try:
        yield
    finally:
        huggingface_hub.file_download.http_get = kept


def attempt(name: str, folder: Path) -> dict:
    """Run publish.py's code and return its output."""
    waits.clear()
    shown, files = io.StringIO(), {path.name: path for path in sorted(folder.iterdir())}
    with contextlib.redirect_stdout(shown):
        try:
            check_can_push(name, "model")
            end = f"sent {len(publish(Parcel('model', files), name).uploaded)}"
        except PreferansError as error:
            end = str(error)
        except Exception:
            end = f"BUG {traceback.format_exc()}"
    return {"end": end, "shown": shown.getvalue(), "waits": list(waits)}


def main() -> None:
    global pace
    preferans.release.hub.time.sleep = wait  # the module's own is everybody's: the client's waits pass as well
    own = os.environ["HF_TOKEN"]
    for case in json.loads(Path(sys.argv[1]).read_text()):
        constants.HF_HUB_DISABLE_XET = case["transport"] == "lfs"
        constants.ENDPOINT = case.get("endpoint", os.environ["HF_ENDPOINT"])
        os.environ["HF_TOKEN"] = case.get("token", own)
        pace = case.get("pace", 0.0)
        for one in case["faults"]:
            fault(**one)
        with disk(case.get("disk_full", False)):
            first = attempt(case["name"], Path(case["folder"]))
        constants.ENDPOINT, os.environ["HF_TOKEN"] = os.environ["HF_ENDPOINT"], own
        again = None if case.get("once") else attempt(case["name"], Path(case["folder"]))
        print(json.dumps({"first": first, "again": again}), flush=True)


main()
