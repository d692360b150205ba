"""The unmodified clients in separate processes, because they read the Hub's address when they are imported."""

import hashlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from ..tiny import ROOT
from .hub import File, Repository
from .server import LoopHub

STARTUP = Path(__file__).parent / "startup"
# What would lead a client elsewhere, or let it find another cache or token.
FOREIGN = ("HF_", "HUGGING_FACE_", "HUGGINGFACE_", "TRANSFORMERS_", "XDG_")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
DEFAULT = object()


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


class TestHub(LoopHub):
    """A Hub with users, and clients for it. The clients' home folders are created in `folder`."""

    __test__ = False

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = folder
        self.add_user("alice")
        self.add_user("bob")
        self.add_organisation("lab", alice="write", bob="read")

    def seed(self, kind: str, name: str, files: dict[str, bytes], **settings) -> Repository:
        """
        Create a repository with files without a request.

        Args:
            kind (`str`): `model` or `dataset`.
            settings: `private`, `gated`, `granted`.
        """
        repository = Repository(kind, name, settings.pop("private", False), name.split("/")[0], **settings)
        made = {}
        for path, content in files.items():
            if self.upload_mode(path, len(content), content[:512]) == "lfs":
                sha256 = hashlib.sha256(content).hexdigest()
                self.store(sha256, content)
                made[path] = File.large(sha256, len(content))
            else:
                made[path] = File.regular(content)
        repository.add_commit("main", made, "initial commit", "", repository.creator)
        self.repositories[kind, name] = repository
        return repository

    def environment(self, token=DEFAULT, xet: bool = True, home: Path | None = None, **more: str) -> dict[str, str]:
        """
        Return environment variables for a process that can reach this Hub only.

        Args:
            token (`str`, *optional*): A token, by default alice's write token; `None` for no token.
            xet (`bool`, *optional*, defaults to `True`): Transfer large files over Xet, or else over LFS.
            home (`Path`, *optional*): HF_HOME with the caches, by default a new and empty one.
            more: Further variables, e.g. `HF_HUB_OFFLINE="1"`.
        """
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(FOREIGN) and name.lower() not in PROXIES
        }
        paths = [str(STARTUP), str(ROOT / "src"), *filter(None, [kept.get("PYTHONPATH")])]
        ours = {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home or tempfile.mkdtemp(prefix="home-", dir=self.folder)),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "HF_HUB_DISABLE_XET": "0" if xet else "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUTF8": "1",
        }
        token = self.token("alice") if token is DEFAULT else token
        return kept | ours | ({"HF_TOKEN": token} if token else {}) | more

    def run(
        self, command: str | list, *, token=DEFAULT, xet=True, home=None, check=True, timeout=120, **more: str
    ) -> subprocess.CompletedProcess:
        """
        Run Python with this Hub only, from the repository's root, and wait for it.

        Args:
            command (`str` or `list`): Python source, or a script's path with its arguments.
            check (`bool`, *optional*, defaults to `True`): Raise with its output if it fails.
        """
        arguments = ["-c", command] if isinstance(command, str) else [str(part) for part in command]
        done = subprocess.run(
            [sys.executable, *arguments],
            env=self.environment(token, xet, home, **more),
            cwd=ROOT,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=timeout,
        )
        if check and done.returncode:
            raise AssertionError(f"The client failed with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def ask(self, method: str, path: str, body=None, token: str | None = None, **headers: str) -> Answer:
        """Send one plain request without a client; a `body` that is not bytes is sent as JSON."""
        host = urlsplit(self.url)
        connection = http.client.HTTPConnection(host.hostname, host.port, timeout=30)
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        try:
            connection.request(method, path, content, sent)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()
