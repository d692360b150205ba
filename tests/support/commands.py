"""Run the project's commands in a separate process."""

import subprocess

from .tiny import ROOT


def run_command(*command, check: bool = True, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """Run a command in the repository's root, and return its exit status and output."""
    done = subprocess.run(
        [*map(str, command)], cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=500, env=env
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done
