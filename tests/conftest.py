import importlib.util
import os
import sys
import tempfile
from pathlib import Path

# Set before any library reads them: no test uses the network.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# The cache of `datasets`, here and in called scripts, is separate from the user's own.
CACHE = tempfile.TemporaryDirectory(prefix="preferans-tests-", ignore_cleanup_errors=True)
os.environ["HF_DATASETS_CACHE"] = CACHE.name
os.environ["HF_MODULES_CACHE"] = f"{CACHE.name}/modules"
os.environ["HF_METRICS_CACHE"] = f"{CACHE.name}/metrics"

import hypothesis
import pytest

from preferans.files import write_jsonl
from preferans.hardware.decisions import restore_kernels

from .support.rows import preference
from .support.served import served
from .support.tiny import ROOT, make_llama

# A slow machine is not a failure.
hypothesis.settings.register_profile("preferans", deadline=None)
hypothesis.settings.load_profile("preferans")

SHARED_DATA = ROOT.parent / "shared" / "data"


def pytest_collection_modifyitems(items) -> None:
    """Start with the tests that may take longest, which other workers would otherwise wait for at the end."""

    def limit(item) -> int:
        marker = item.get_closest_marker("timeout")
        return marker.args[0] if marker else 0

    items.sort(key=limit, reverse=True)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real oasst rows, which are not part of the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the folder of real oasst rows is missing; it is not part of the project")
    return SHARED_DATA


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory) -> Path:
    return make_llama(tmp_path_factory.mktemp("tiny") / "llama")


@pytest.fixture
def preference_folder(tmp_path) -> Path:
    """A dataset folder with six training and two test pairs."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    write_jsonl(folder / "train.jsonl", [preference(number) for number in range(6)])
    write_jsonl(folder / "test.jsonl", [preference(number) for number in range(6, 8)])
    return folder


@pytest.fixture
def hub(tmp_path_factory):
    """A Hub on this machine; see `tests/support/loophub`."""
    from .support.loophub import TestHub

    made = TestHub(tmp_path_factory.mktemp("hub"))
    yield made.start()
    made.close()
    assert not made.problems(), "\n".join(made.problems())


@pytest.fixture
def call_script(monkeypatch):
    """Run a script's `main` in this process, from the repository's root, with a command line."""

    def call(path: str, *arguments: str):
        specification = importlib.util.spec_from_file_location(Path(path).stem + "_script", ROOT / path)
        module = importlib.util.module_from_spec(specification)
        monkeypatch.setitem(sys.modules, specification.name, module)
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", [path, *map(str, arguments)])
        specification.loader.exec_module(module)
        return module.main()

    yield call
    restore_kernels()  # training scripts set them for the whole process


@pytest.fixture
def make_trainer(tiny_llama, tmp_path):
    from .support.trainers import build_trainer

    def make(*args, **changes):
        return build_trainer(tiny_llama, tmp_path / "run", *args, **changes)

    return make


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Address of a real server that loads any model folder by its path."""
    with served(tmp_path_factory.mktemp("server") / "home") as url:
        yield url


@pytest.fixture
def hasty(monkeypatch):
    """No API key of the user, and almost no wait between tries."""
    import openai

    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for name in ("INITIAL_RETRY_DELAY", "MAX_RETRY_DELAY"):
        monkeypatch.setattr(openai._base_client, name, 0.001)


@pytest.fixture
def patient(hasty, monkeypatch):
    """A real server closes the connection after an error; a client that retries too fast would still use it."""
    import openai

    for name in ("INITIAL_RETRY_DELAY", "MAX_RETRY_DELAY"):
        monkeypatch.setattr(openai._base_client, name, 0.2)
