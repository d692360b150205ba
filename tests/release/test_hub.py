"""
What can go wrong between publish.py and the Hub, at each of its steps: what the person sees, and that nothing is lost or doubled.

docs/hub.md has the table of the faults, and these tests hold it to what happens: each of its rows stands for the cases of that name here.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from email.utils import formatdate
from itertools import count, cycle
from pathlib import Path
from time import monotonic, sleep, time
from typing import ClassVar

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from preferans.release.hub import cure_of, with_retries

from ..support.loophub import TestHub
from ..support.loophub.hub import File
from ..support.runs import command
from ..support.tiny import ROOT

PAGE = ROOT / "docs" / "hub.md"
CARD = b"---\nlicense: mit\n---\n# A model\n"
# Where a fault hits: the transport, if only one goes that way, the method, and the address.
STEPS = {
    "who": (None, "GET", "/api/whoami-v2"),
    "find": (None, "GET", "/api/models/{name}$"),
    "create": (None, "POST", "/api/repos/create"),
    "list": (None, "GET", "/{name}/tree/"),
    "card": (None, "POST", "/api/validate-yaml"),
    "preupload": (None, "POST", "/{name}/preupload/"),
    "ask for LFS": ("lfs", "POST", "/{name}.git/info/lfs/objects/batch"),
    "send by LFS": ("lfs", "PUT", "/lfs/"),
    "ask for Xet": ("xet", "GET", "/{name}/xet-write-token/"),
    "send by Xet": ("xet", "POST", "/v1/xorbs/"),
    "describe to Xet": ("xet", "POST", "/v1/shards"),
    "commit": (None, "POST", "/{name}/commit/"),
    "look back": (None, "HEAD", "/{name}/resolve/"),
    "read back": (None, "GET", "/{name}/resolve/"),
    "read by LFS": ("lfs", "GET", "/cdn/"),
    "ask to read by Xet": ("xet", "GET", "/{name}/xet-read-token/"),
    "read by Xet": ("xet", "GET", "/xorbs/"),
}
AFTER_THE_COMMIT = list(STEPS)[-5:]
FAULTS = {
    "401": {"status": 401},
    "403": {"status": 403},
    "404": {"status": 404},
    "409": {"status": 409},
    "412": {"status": 412},
    "413": {"status": 413},
    "429": {"status": 429},
    "429, Retry-After: 7": {"status": 429, "headers": {"Retry-After": "7"}},
    "500": {"status": 500},
    "503": {"status": 503},
    "connection reset": {"reset": 0},
    "connection reset within the body": {"reset": 20},
    "reply lost": {"lost": True},
    "reply lost behind 504": {"lost": True, "status": 504},
    "reply cut short": {"cut": 3},
}
REFUSALS = ("401", "403", "404", "413")
# An address that has expired is asked for anew by hf-xet itself.
GOES_ON = {("403", "read by Xet")}


def page_rows() -> dict[str, tuple[str, str]]:
    """Each fault: what is printed and how it ends, as documented."""
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    start = rows.index(("Fault", "What you see", "How it ends"))
    return {fault: (seen, end) for fault, seen, end in rows[start + 1 :] if not fault.startswith("-")}


@pytest.fixture(scope="module")
def met(tmp_path_factory):
    """All cases of one process, met once: name of the fault, its step, what was shown, and the Hub."""
    hub = TestHub(tmp_path_factory.mktemp("hub")).start()
    numbers, transports, cases = count(), cycle(["xet", "lfs"]), []

    def add(fault: str, step: str, what: dict | None = None, transport: str | None = None, **settings) -> dict:
        name = f"alice/case-{next(numbers)}"
        folder = tmp_path_factory.mktemp("model")
        files = {"README.md": CARD, "config.json": b"{}\n", "model.safetensors": os.urandom(3000)} | settings.pop(
            "files", {}
        )
        for file, content in files.items():
            (folder / file).write_bytes(content)
        only, method, path = STEPS.get(step, (None, "", ""))
        faults = [{"method": method, "path": path.format(name=name)} | what] if what else []
        case = {
            "name": name,
            "folder": str(folder),
            "transport": only or transport or next(transports),
            "faults": faults,
        }
        cases.append(case | settings | {"fault": fault, "step": step})
        return cases[-1]

    for fault, what in FAULTS.items():
        for step in STEPS:
            bodiless = STEPS[step][1] in ("GET", "HEAD")
            if (bodiless and fault.endswith("body")) or (step, fault) == ("look back", "reply cut short"):
                continue
            case = add(fault, step, what, once="lost" not in what and what.get("status", 0) > 404 and fault != "413")
            if (fault, step) == ("409", "create"):  # the Hub's response if the repository exists
                hub.seed("model", case["name"], {}, private=True)
                case["faults"][0]["body"] = {
                    "error": "You already created this model repo",
                    "url": f"{hub.url}/{case['name']}",
                }
    for transport in ("xet", "lfs"):
        for fault, status in (("503 that stays", 503), ("429 that stays", 429), ("412 that stays", 412)):
            add(fault, "commit", {"status": status, "times": float("inf")}, transport, once=True)
        later = formatdate(time() + 500, usegmt=True)
        add("429, Retry-After with a date", "commit", {"status": 429, "headers": {"Retry-After": later}}, transport)
        add("429, Retry-After: 86400", "commit", {"status": 429, "headers": {"Retry-After": "86400"}}, transport)
        add("the Hub is down for a while", "commit", {"down": 0.6}, transport, pace=0.3)
        add("the Hub is down for a while", "who", {"down": 0.6}, transport, pace=0.5)
        add("the Hub is down", "who", None, transport, endpoint="http://127.0.0.1:9")
        add(
            "a card that is not valid",
            "card",
            None,
            transport,
            files={"README.md": b"---\nlicense: license\n---\n"},
            once=True,
        )
        add("the disk is full", "read back", None, transport, disk_full=True)

        token = hub.token("alice", scopes=((transport, "of its own"),))
        case = add("the token is revoked in the middle", "commit", None, transport, token=token)
        hub.fault("POST", f"/{case['name']}/preupload/", then=lambda token=token: hub.revoke(token))

        case = add("someone commits in between", "commit", None, transport)
        hub.fault("POST", f"/{case['name']}/commit/", then=lambda name=case["name"]: other_commit(hub, name))

        case = add("the repository is deleted in the middle", "list", None, transport)
        hub.fault(
            "GET", f"/{case['name']}/tree/", then=lambda name=case["name"]: hub.repositories.pop(("model", name))
        )

        case = add("the repository is made public in the middle", "create", None, transport, once=True)
        hub.seed("model", case["name"], {}, private=True)
        hub.fault("GET", f"/{case['name']}/auth-check/write", then=lambda name=case["name"]: open_up(hub, name))

        case = add("another file comes back", "read back", None, transport, once=True)
        hub.fault("HEAD", f"/{case['name']}/resolve/", then=lambda name=case["name"]: change(hub, name))

    file = hub.folder / "cases.json"
    file.write_text(json.dumps(cases))
    done = hub.run(
        ["tests/support/publisher.py", file],
        timeout=300,
        HF_XET_CLIENT_RETRY_BASE_DELAY="10ms",  # its waits are in Rust, and pass in real time
    )
    for case, line in zip(cases, done.stdout.splitlines(), strict=True):
        case |= json.loads(line)
    hub.close()
    yield {"hub": hub, "cases": cases, "log": done.stdout + done.stderr}


def other_commit(hub, name: str) -> None:
    repository = hub.repositories["model", name]
    repository.add_commit("main", repository.at().files | {"notes.txt": File.regular(b"mine")}, "Mine", "", "alice")


def open_up(hub, name: str) -> None:
    hub.repositories["model", name].private = False


def change(hub, name: str) -> None:
    hub.repositories["model", name].at().files["config.json"] = File.regular(b'{"damaged": true}')


def test_the_docs_have_one_row_for_each_fault(met):
    here = {case["fault"] for case in met["cases"]} | TWO_PROCESSES
    assert sorted(page_rows()) == sorted(here) and len(here) >= 25


def test_no_fault_shows_a_traceback_or_a_token(met):
    hub = met["hub"]
    assert not hub.problems()
    assert not [case["first"]["end"] for case in met["cases"] if "BUG" in str(case["first"]) + str(case["again"])]
    secrets = [*hub.tokens, "signature="]
    for case in met["cases"]:
        assert not [secret for secret in secrets if secret in json.dumps([case["first"], case["again"]])]
    assert not [token for token in hub.tokens if token in met["log"]]
    assert "Traceback" not in met["log"]
    for place, content in hub.everything():
        assert not [token for token in hub.tokens if token.encode() in content], place


def test_each_fault_ends_as_documented(met):
    rows = page_rows()
    for case in met["cases"]:
        seen, end = rows[case["fault"]]
        first = case["first"]
        context = f"{case['fault']} at {case['step']} over {case['transport']}: {first}"
        if end.startswith("stops") and (case["fault"], case["step"]) not in GOES_ON:
            assert all(phrase in first["end"] for phrase in re.findall("`([^`]+)`", seen)), context
        else:
            assert first["end"].startswith("sent "), context
            if first["shown"]:
                assert re.search(r"Retrying in \d+ s", first["shown"]), context
        # Where nothing helps, nobody is made to wait.
        if case["fault"] in REFUSALS and "Retry" not in first["shown"]:
            assert not first["waits"], context


def test_after_each_fault_every_file_is_stored_once(met):
    """Whole or not at all after the first call; after the second, whole, in one commit, and sent once."""
    hub = met["hub"]
    for case in met["cases"]:
        context = f"{case['fault']} at {case['step']} over {case['transport']}: {case['first']}, {case['again']}"
        repository = hub.repositories.get(("model", case["name"]))
        if case["fault"] == "another file comes back":
            continue
        stored = hub.files("model", case["name"]) if repository else {}
        sent = {path.name: path.read_bytes() for path in Path(case["folder"]).iterdir()}
        stored.pop(".gitattributes", None)
        commits = len(repository.history()) if repository else 0
        done = case["first"]["end"].startswith("sent ")
        if case["again"] is None and not done:
            assert stored == {} and commits <= 1, context
            continue
        others = {"notes.txt": b"mine"} if case["fault"] == "someone commits in between" else {}
        assert stored == sent | others, context
        assert commits == 2 + len(others), context
        if case["again"]:
            assert case["again"]["end"] == ("sent 0" if done or case["step"] in AFTER_THE_COMMIT else "sent 3"), (
                context
            )


def test_retry_after_is_honoured(met):
    for case in met["cases"]:
        waits = case["first"]["waits"]
        inside_xet = STEPS[case["step"]][2].startswith("/v1/") or case["step"] in ("ask for Xet", "read by Xet")
        if case["fault"] == "429, Retry-After: 7" and not inside_xet and case["step"] != "look back":
            assert waits and 7 <= sum(waits) <= 9, case
        if case["fault"] == "429, Retry-After with a date":
            assert 300 < sum(waits) <= 500, case
        if case["fault"] == "429, Retry-After: 86400":
            assert waits == [600], case
        if case["fault"] == "503 that stays":
            assert len(waits) == 7 and 120 < sum(waits) < 240, case


def test_a_network_error_while_reading_back_is_retried(monkeypatch):
    """The client reports a file that is missing in its cache, by a subclass of FileNotFoundError."""
    calls = []

    def read() -> str:
        calls.append(1)
        if len(calls) == 1:
            raise LocalEntryNotFoundError("cannot find the files in the cache") from ConnectionError("refused")
        return "read"

    monkeypatch.setattr("preferans.release.hub.time.sleep", calls.append)
    assert with_retries(read, "Reading back") == "read" and len(calls) == 3
    lost = LocalEntryNotFoundError("cannot find the files in the cache")
    lost.__cause__ = ConnectionError("refused")
    assert "pip install socksio" in cure_of(ImportError("the 'socksio' package is not installed"))
    assert cure_of(lost).startswith("The connection to the Hub failed")


# Two processes, and one that is killed


TWO_PROCESSES = {
    "two publish the same at once",
    "two publish different things at once",
    "killed before the commit",
    "killed after the commit",
}


@pytest.fixture
def model(tmp_path):
    def make(name: str, **files: bytes):
        folder = tmp_path / name
        folder.mkdir()
        contents = {"README.md": CARD, "config.json": b"{}\n", "model.safetensors": os.urandom(3000)} | {
            file.replace("_", "."): content for file, content in files.items()
        }
        for file, content in contents.items():
            (folder / file).write_bytes(content)
        return folder, contents

    return make


def start(hub, folder, name: str, xet: bool) -> subprocess.Popen:
    command = [sys.executable, "scripts/publish.py", str(folder), "--repo_id", name]
    environment = hub.environment(xet=xet)
    return subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def stored(hub, name: str) -> dict[str, bytes]:
    return {path: content for path, content in hub.files("model", name).items() if path != ".gitattributes"}


@pytest.mark.parametrize("xet", [True, False], ids=["xet", "lfs"])
@pytest.mark.parametrize("arrives", [False, True], ids=["before", "after"])
def test_killed_at_the_commit(hub, model, xet, arrives, monkeypatch):
    folder, contents = model("one")
    started = []
    if arrives:
        commit = hub.commit

        def commit_and_kill(*arguments):
            made = commit(*arguments)
            started[0].kill()
            return made

        monkeypatch.setattr(hub, "commit", commit_and_kill)
    else:
        hub.fault("POST", "/alice/one/commit/", then=lambda: started[0].kill(), reset=0)
    started.append(start(hub, folder, "alice/one", xet))
    started[0].communicate(timeout=60)
    assert started[0].returncode == -signal.SIGKILL
    assert stored(hub, "alice/one") == (contents if arrives else {})
    monkeypatch.undo()
    again = start(hub, folder, "alice/one", xet)
    shown = again.communicate(timeout=60)[0]
    assert again.returncode == 0, shown
    assert ("nothing to upload" in shown) == arrives, shown
    assert stored(hub, "alice/one") == contents
    assert len(hub.repositories["model", "alice/one"].history()) == 2


@pytest.mark.parametrize("same", [True, False], ids=["the same", "different things"])
def test_two_processes_publish_at_once(hub, model, same):
    one, contents = model("one", one_txt=b"one")
    two, others = (
        (one, contents) if same else model("two", model_safetensors=contents["model.safetensors"], two_txt=b"two")
    )

    def wait_for_the_other() -> None:
        """Hold up the first to commit until the other has, so that it commits on a state that is gone."""
        deadline = monotonic() + 60
        while len(hub.repositories["model", "alice/one"].history()) == 1 and monotonic() < deadline:
            sleep(0.02)

    hub.fault("POST", "/alice/one/commit/", then=wait_for_the_other)
    processes = [start(hub, folder, "alice/one", xet) for folder, xet in ((one, True), (two, False))]
    shown = [process.communicate(timeout=90)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], shown
    assert stored(hub, "alice/one") == contents | others
    assert len(hub.repositories["model", "alice/one"].history()) == (2 if same else 3)
    assert "412 Precondition Failed" in "".join(shown)


class TestWriteAccess:
    """In seconds, and before a model is loaded: the model's folder does not even hold weights."""

    @pytest.fixture
    def commands(self, things, tiny_llama, pairs, tmp_path):
        model = tmp_path / "model"
        shutil.copytree(tiny_llama, model, ignore=shutil.ignore_patterns("*.safetensors"))
        keys = {"push_to_hub": "true"}

        def make(repo_id: str) -> dict[str, list]:
            out = tmp_path / "out"
            return {
                "dpo": command("dpo", model, pairs, out, hub_model_id=repo_id, **keys),
                "builder": [
                    "data_builders/oasst1_ru.py",
                    "--source",
                    "none.jsonl",
                    "--output_dir",
                    out,
                    "--push_to_hub",
                    "--repo_id",
                    repo_id,
                ],
                "publish": ["scripts/publish.py", things["run"], "--repo_id", repo_id],
            }

        return make

    CASES: ClassVar = {
        "a read-only token": ("alice/new", ("alice", "read"), "the token 'read token' has no write access there"),
        "a fine-grained token for another repository": (
            "alice/new",
            ("alice", "fineGrained", (("model alice/other", "repo.write"), ("dataset alice/other", "repo.write"))),
            "the token 'fineGrained token' has no write access there",
        ),
        "a foreign namespace": ("bob/new", ("alice",), "you have access to alice, lab, but not to bob"),
        "an organisation that one only reads": ("lab/new", ("bob",), "you have only read access to lab"),
        "no token": ("alice/new", None, "you are not signed in"),
        "a revoked token": ("alice/new", "hf_" + "x" * 34, "The Hub does not accept the token"),
        "a public repository": ("alice/public", ("alice",), "this repository is already public"),
        "no namespace": ("new", ("alice",), "name the repository as NAMESPACE/NAME"),
        "a name that the Hub does not take": ("alice/new--", ("alice",), "the Hub does not allow this name"),
    }

    @pytest.mark.parametrize("case", CASES)
    def test_check_can_push_names_the_problem(self, hub, case):
        repo_id, who, message = self.CASES[case]
        for kind in ("model", "dataset"):
            hub.seed(kind, "alice/public", {})
        token = who if who is None or isinstance(who, str) else hub.token(*who)
        code = "from preferans.errors import run; from preferans.release.hub import check_can_push; import os; "
        code += "run(lambda: check_can_push(os.environ['REPO'], os.environ['KIND']))"
        for kind in ("model", "dataset"):
            done = hub.run(code, token=token, check=False, REPO=repo_id, KIND=kind)
            shown = " ".join(done.stderr.split())
            assert done.returncode == 2 and message in shown and repo_id in shown, shown
            assert not token or token not in done.stdout + done.stderr
        assert not hub.asked("POST|PUT|DELETE")

    @pytest.mark.parametrize("script", ["dpo", "builder", "publish"])
    def test_every_script_checks_write_access_first(self, hub, commands, script, tmp_path):
        token = hub.token("alice", "read")
        start = monotonic()
        done = hub.run(commands("alice/new")[script], token=token, check=False)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "the token 'read token' has no write access there" in " ".join(done.stderr.split())
        assert monotonic() - start < 40, "seconds, on a machine that is busy"
        assert not (tmp_path / "out").exists() and not hub.asked("POST|PUT|DELETE")

    def test_a_fine_grained_token_with_write_access_is_accepted(self, hub):
        hub.seed("model", "alice/there", {}, private=True)
        code = "from preferans.release.hub import check_can_push; check_can_push('alice/there', 'model')"
        for scope in ("model alice/there", "alice"):
            hub.run(code, token=hub.token("alice", "fineGrained", ((scope, "repo.write"),)))

    def test_a_contributor_pushes_only_to_their_own_repositories(self, hub):
        hub.add_organisation("press", alice="contributor", bob="admin")
        hub.seed("model", "press/of-bob", {}, private=True)
        code = "from preferans.release.hub import check_can_push; from preferans.errors import run; run(lambda: check_can_push('press/of-bob', 'model'))"
        done = hub.run(code, check=False)
        assert done.returncode == 2 and "You have no permission" in " ".join(done.stderr.split())

    def test_a_public_repository_needs_the_public_option(self, hub, things):
        hub.seed("dataset", "alice/public", {})
        words = ["scripts/publish.py", things["answers"], "--repo_id", "alice/public"]
        assert "already public" in " ".join(hub.run(words, check=False).stderr.split())
        assert "downloaded again and equal" in hub.run([*words, "--public"]).stdout
        hub.seed("dataset", "alice/private", {}, private=True)
        assert "is a private repository and stays private" in hub.run([*words[:3], "alice/private", "--public"]).stdout
        assert hub.repositories["dataset", "alice/private"].private
