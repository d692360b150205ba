"""Models served by `transformers serve` on the loopback interface; the server always ends with the tests."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def served(home: Path) -> Iterator[str]:
    """
    Serve any model folder by its path.

    Args:
        home (`Path`):
            Empty folder used as the Hub's cache.

    Yields:
        `str`: the address, once the server answers.
    """
    (home / "hub").mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["-m", "transformers.cli.transformers", "serve", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, *command, "--device", "cpu", "--dtype", "float32"],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output = []
        for line in process.stdout:  # it prints a line when it is ready
            output.append(line)
            if "Uvicorn running" in line:
                break
        else:
            raise RuntimeError("transformers serve ended: " + "".join(output))
        threading.Thread(target=process.stdout.read, daemon=True).start()  # or a full pipe would stop it
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()
