"""The loopback Hub of the tests: a check that it lacked would hide a bug of the library."""

import base64
import hashlib
import json
import random
import re
import struct
import threading
import time
from math import inf
from textwrap import dedent

import hf_xet
import pytest

from .support.loophub import HubError, TestHub, xet
from .support.loophub.blake3 import keyed_hash
from .support.loophub.cards import check_card
from .support.loophub.routes import ROUTES

PATHS = {
    "kinds": "models",
    "id": "alice/secret",
    "revision": "main",
    "path": "notes.txt",
    "prefix": "",
    "scope": "read",
}


def commit_body(path: str = "a.txt", content: bytes = b"text", parent: str | None = None, **large) -> bytes:
    """A commit of one file, as the clients send it; of a large one if `oid` and `size` are given."""
    header = {"summary": f"Add {path}", "description": ""} | ({"parentCommit": parent} if parent else {})
    file = {"path": path, "content": base64.b64encode(content).decode(), "encoding": "base64"}
    operation = (
        {"key": "lfsFile", "value": {"path": path, "algo": "sha256"} | large}
        if large
        else {"key": "file", "value": file}
    )
    return b"\n".join(json.dumps(line).encode() for line in ({"key": "header", "value": header}, operation))


def push(hub, name: str, token: str, **what):
    return hub.ask("POST", f"/api/models/{name}/commit/main", commit_body(**what), token)


class TestWhoSeesWhat:
    @pytest.mark.parametrize(
        "method, template",
        [
            (method, template)
            for methods, _, template, _ in ROUTES
            if "{id}" in template
            for method in methods.split("|")
        ],
    )
    def test_a_private_repository_is_hidden_from_others(self, hub, method, template):
        hub.seed("model", "alice/secret", {"notes.txt": b"hidden"}, private=True)
        path = re.sub(r"\{(\w+)\}", lambda match: PATHS[match[1]], template)
        missing = path.replace("secret", "missing")
        for token, status in ((hub.token("bob"), 404), (None, 401)):
            response = hub.ask(method, path, {}, token)
            assert (response.status, response.headers["X-Error-Code"]) == (status, "RepoNotFound")
            assert b"hidden" not in response.body
            assert hub.ask(method, missing, {}, token)[::2] == response[::2]

    def test_lists_contain_visible_repositories_only(self, hub):
        hub.seed("dataset", "alice/open", {})
        hub.seed("dataset", "alice/secret", {}, private=True)
        hub.seed("dataset", "lab/secret", {}, private=True)

        def names(token):
            return [entry["id"] for entry in hub.ask("GET", "/api/datasets", token=token).json]

        assert names(None) == ["alice/open"]
        assert names(hub.token("bob")) == ["alice/open", "lab/secret"]
        assert names(hub.token("alice")) == ["alice/open", "alice/secret", "lab/secret"]
        assert [entry["id"] for entry in hub.ask("GET", "/api/datasets?author=lab", token=hub.token("bob")).json] == [
            "lab/secret"
        ]

    def test_a_moved_private_repository_stays_hidden(self, hub):
        hub.seed("model", "alice/old", {"a.txt": b"1"}, private=True)
        alice = hub.token("alice")
        assert (
            hub.ask(
                "POST", "/api/repos/move", {"fromRepo": "alice/old", "toRepo": "alice/new", "type": "model"}, alice
            ).status
            == 200
        )
        response = hub.ask("GET", "/api/models/alice/old/revision/main", token=alice)
        assert (response.status, response.headers["Location"]) == (307, "/api/models/alice/new/revision/main")
        response = hub.ask("GET", "/api/models/alice/old/revision/main", token=hub.token("bob"))
        assert (response.status, response.headers["X-Error-Code"]) == (404, "RepoNotFound")

    def test_signed_addresses_need_their_signature(self, hub):
        content = b"\0" * 100
        name = hashlib.sha256(content).hexdigest()
        hub.seed("model", "alice/x", {"w.bin": content})
        assert hub.ask("GET", f"/cdn/{name}").status == 403
        assert hub.ask("GET", f"/cdn/{name}?signature={hub.sign('other')}").status == 403
        assert hub.ask("GET", f"/cdn/{name}?signature={hub.sign(name)}").body == content
        assert hub.ask("GET", f"/cdn/{name}?signature={hub.sign(name)}", token=hub.token("alice")).status == 400
        assert hub.ask("PUT", f"/lfs/{name}", content).status == 403

    def test_a_gated_repository_shows_its_files_to_members(self, hub):
        repository = hub.seed("model", "meta/llama", {"config.json": b"{}"}, gated="manual")
        address = "/meta/llama/resolve/main/config.json"
        for token, status in ((None, 401), (hub.token("bob"), 403)):
            for path in (address, "/api/models/meta/llama/auth-check", "/api/models/meta/llama/xet-read-token/main"):
                response = hub.ask("GET", path, token=token)
                assert (response.status, response.headers["X-Error-Code"]) == (status, "GatedRepo")
        assert hub.ask("GET", "/api/models/meta/llama", token=hub.token("bob")).json["gated"] == "manual"
        repository.granted.add("bob")
        assert hub.ask("GET", address, token=hub.token("bob")).body == b"{}"
        assert hub.ask("GET", address, token=hub.token("bob", gated=False)).status == 403


class TestWhoMayWrite:
    def test_roles(self, hub):
        for owner in ("alice", "lab"):
            hub.seed("model", f"{owner}/x", {})
        alice = [("model alice/x", "repo.write")]
        allowed = {
            ("alice", "write", ()): {"alice/x", "lab/x", "alice", "lab"},
            ("alice", "read", ()): set(),
            ("bob", "write", ()): set(),
            ("alice", "fineGrained", ()): set(),
            ("alice", "fineGrained", tuple(alice)): {"alice/x"},
            ("alice", "fineGrained", (("lab", "repo.write"),)): {"lab/x", "lab"},
            ("alice", "fineGrained", (("alice", "repo.content.read"),)): set(),
            ("bob", "fineGrained", tuple(alice)): set(),
        }
        for (user, role, scopes), expected in allowed.items():
            token, done = hub.token(user, role, scopes), set()
            for name in ("alice/x", "lab/x"):
                status = push(hub, name, token).status
                assert status == hub.ask("GET", f"/api/models/{name}/auth-check/write", token=token).status
                assert status in (200, 403)
                done |= {name} if status == 200 else set()
            for namespace in ("alice", "lab"):
                body = {"name": f"new-{len(hub.requests)}", "organization": namespace, "type": "model"}
                done |= {namespace} if hub.ask("POST", "/api/repos/create", body, token).status == 200 else set()
            assert done == expected, (user, role, scopes)

    def test_a_contributor_writes_to_their_own_repositories(self, hub):
        hub.add_organisation("press", alice="contributor", bob="admin")
        for user in ("alice", "bob"):
            body = {"name": user, "organization": "press", "type": "model", "private": True}
            assert hub.ask("POST", "/api/repos/create", body, hub.token(user)).status == 200
        response = [push(hub, f"press/{name}", hub.token("alice")).status for name in ("alice", "bob")]
        assert response == [200, 403]
        assert hub.ask("GET", "/api/models/press/bob", token=hub.token("alice")).status == 200
        assert push(hub, "press/alice", hub.token("bob")).status == 200

    def test_whoami_returns_the_role(self, hub):
        response = hub.ask("GET", "/api/whoami-v2", token=hub.token("bob", "read")).json
        assert (response["name"], response["auth"]["accessToken"]["role"]) == ("bob", "read")
        assert [(one["name"], one["roleInOrg"]) for one in response["orgs"]] == [("lab", "read")]
        fine = hub.token("alice", "fineGrained", [("model alice/x", "repo.write"), ("lab", "repo.content.read")])
        scoped = hub.ask("GET", "/api/whoami-v2", token=fine).json["auth"]["accessToken"]["fineGrained"]["scoped"]
        assert [(one["entity"]["type"], one["entity"]["name"], one["permissions"]) for one in scoped] == [
            ("model", "alice/x", ["repo.write"]),
            ("org", "lab", ["repo.content.read"]),
        ]

    def test_a_revoked_token_is_rejected(self, hub):
        hub.seed("model", "alice/x", {})
        token = hub.token("alice")
        assert push(hub, "alice/x", token).status == 200
        hub.revoke(token)
        for response in (push(hub, "alice/x", token), hub.ask("GET", "/api/whoami-v2", token=token)):
            assert (response.status, response.headers["X-Error-Message"]) == (
                401,
                "Invalid credentials in Authorization header",
            )
        assert hub.token("alice") != token
        assert hub.ask("GET", "/api/whoami-v2").status == 401

    def test_xet_tokens_are_limited_to_their_purpose(self, hub):
        hub.seed("model", "alice/x", {})
        reading = hub.ask("GET", "/api/models/alice/x/xet-read-token/main").json["accessToken"]
        assert hub.ask("GET", "/api/models/alice/x/xet-write-token/main", token=hub.token("bob")).status == 403
        for path in (f"/v1/xorbs/default/{'0' * 64}", "/v1/shards"):
            assert [hub.ask("POST", path, b"", token).status for token in (None, hub.token("alice"), reading)] == [
                401,
                401,
                403,
            ]
        assert hub.ask("GET", f"/v1/reconstructions/{'0' * 64}").status == 401


class TestCommits:
    def test_a_commit_needs_its_parent_as_head(self, hub):
        first = hub.seed("model", "alice/x", {}).branches["main"]
        token = hub.token("alice")
        second = push(hub, "alice/x", token, path="b.txt", parent=first).json["commitOid"]
        response = push(hub, "alice/x", token, path="c.txt", parent=first)
        assert response.status == 412 and b"A commit has happened since" in response.body
        assert push(hub, "alice/x", token, path="d.txt", parent=second[:7]).status == 200
        assert push(hub, "alice/x", token, path="e.txt").status == 200
        assert sorted(hub.files("model", "alice/x")) == ["b.txt", "d.txt", "e.txt"]

    def test_one_of_two_simultaneous_commits_wins(self, hub):
        parent, statuses = hub.seed("model", "alice/x", {}).branches["main"], []
        token = hub.token("alice")

        def commit(number):
            statuses.append(push(hub, "alice/x", token, path=f"{number}.txt", parent=parent).status)

        threads = [threading.Thread(target=commit, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(statuses) == [200] + [412] * 7
        assert len(hub.files("model", "alice/x")) == 1

    def test_a_commit_is_all_or_nothing(self, hub):
        hub.seed("model", "alice/x", {"a.txt": b"1", "folder/b.txt": b"2"})
        delete = {"key": "deletedFile", "value": {"path": "a.txt"}}
        missing = {"key": "deletedFile", "value": {"path": "folder"}}
        folder = {"key": "deletedFolder", "value": {"path": "folder/"}}
        header = {"key": "header", "value": {"summary": "Delete"}}

        def send(*lines):
            body = b"\n".join(json.dumps(line).encode() for line in lines)
            return hub.ask("POST", "/api/models/alice/x/commit/main", body, hub.token("alice"))

        assert send(header, delete, missing).headers["X-Error-Code"] == "EntryNotFound"
        assert sorted(hub.files("model", "alice/x")) == ["a.txt", "folder/b.txt"]
        assert send(delete).status == 400
        assert send(header, delete, folder).status == 200
        assert hub.files("model", "alice/x") == {}

    def test_the_same_files_get_different_commits(self, hub):
        made = [hub.seed("model", name, {"a.txt": b"1"}) for name in ("alice/x", "alice/y", "alice/x")]
        for repository in made:
            repository.add_commit("main", repository.at().files, "Again", "", "alice")
        commits = [commit.id for repository in made for commit in repository.history()]
        assert len(set(commits)) == 6

    def test_a_card_must_be_valid(self, hub):
        hub.seed("model", "alice/x", {})
        response = push(hub, "alice/x", hub.token("alice"), path="README.md", content=b"---\nlicense: license\n---\n")
        assert response.status == 400 and b'\\"license\\" with value' in response.body


class TestStorage:
    @pytest.fixture(scope="class")
    def pushed(self, tmp_path_factory):
        """What the real client sent for a file that is stored, one that LZ4 packs, and one that is grouped by bytes."""
        hub = TestHub(tmp_path_factory.mktemp("pushed")).start()
        code = """
            import random, struct
            from huggingface_hub import CommitOperationAdd, HfApi
            random.seed(1)
            contents = {
                "noise.bin": random.randbytes(700_000),
                "text.bin": b"".join(b"line %d of a long text\\n" % i for i in range(30_000)),
                "floats.bin": struct.pack("<60000f", *(random.gauss(0, 0.02) for _ in range(60_000))),
            }
            HfApi().create_repo("alice/x")
            HfApi().create_commit("alice/x", [CommitOperationAdd(*file) for file in contents.items()], commit_message="Add")
        """
        hub.run(dedent(code))
        hub.close()
        assert not hub.problems()
        return hub

    @pytest.fixture
    def sent(self, pushed):
        """Its xorbs by their names, and its shard."""
        xorbs = {request.path.rsplit("/", 1)[1]: request.body for request in pushed.asked("POST", "/v1/xorbs/")}
        return xorbs, pushed.asked("POST", "/v1/shards")[0].body

    def test_files_of_the_real_client_are_reassembled(self, pushed):
        contents, schemes = pushed.files("model", "alice/x"), set()
        assert {name: len(content) for name, content in contents.items() if name.endswith(".bin")} == {
            "floats.bin": 240_000,
            "noise.bin": 700_000,
            "text.bin": sum(len(b"line %d of a long text\n" % number) for number in range(30_000)),
        }
        for xorb in pushed.xet.xorbs.values():
            schemes |= {xorb.packed[offset + 4] for offset in xorb.offsets[:-1]}
            assert len(xorb.chunks) > 9  # more than one level of the tree
        assert schemes == {0, 1, 2}

    @pytest.mark.parametrize("size", [1, 64, 65, 1023, 1024, 1025, 2048, 5000, 8000])
    def test_hashes_are_those_of_the_real_client(self, size, tmp_path):
        content = random.Random(size).randbytes(size)
        (tmp_path / "file").write_bytes(content)
        chunk = keyed_hash(content, xet.CHUNK_KEY)
        expected = hf_xet.hash_files([str(tmp_path / "file")])[0].hash
        assert xet.text_of(keyed_hash(xet.tree_hash([chunk], [content]), xet.FILE_KEY)) == expected

    def test_blake3(self):
        """From BLAKE3's published test vectors: bytes 0 to 250 over and over, with a fixed key."""
        key = b"whats the Elvish word for friend"
        expected = {
            0: "92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26",
            1024: "75c46f6f3d9eb4f55ecaaee480db732e6c2105546f1e675003687c31719c7ba4",
            102400: "1c35d1a5811083fd7119f5d5d1ba027b4d01c0c6c49fb6ff2cf75393ea5db4a7",
        }
        for size, digest in expected.items():
            assert keyed_hash(bytes(number % 251 for number in range(size)), key).hex() == digest

    def test_a_damaged_xorb_is_rejected(self, sent):
        for name, data in sent[0].items():
            for damaged in (data[:20] + bytes([data[20] ^ 1]) + data[21:], data[: len(data) // 2], b""):
                with pytest.raises(HubError, match="400"):
                    xet.XetStore().add_xorb(name, damaged)
            with pytest.raises(HubError, match="not its name"):
                xet.XetStore().add_xorb("0" * 64, data)

    def test_a_damaged_shard_is_rejected(self, sent):
        xorbs, shard = sent
        store = xet.XetStore()
        with pytest.raises(HubError, match="were not uploaded"):
            store.add_shard(shard)
        assert all(store.add_xorb(name, data) for name, data in xorbs.items())
        assert not any(store.add_xorb(name, data) for name, data in xorbs.items())
        # The first file: its header, its terms, their hashes, its sha256, 48 bytes each.
        terms = struct.unpack_from("<I", shard, 48 + 36)[0]
        places = {
            "do not give the file": 48,
            "were not uploaded": 96,
            "another size": 96 + 36,
            "of a term do not give its hash": 96 + 48 * terms,
            "the sha256 it was sent with": 96 + 96 * terms,
        }
        for message, place in places.items():
            damaged = shard[:place] + bytes([shard[place] ^ 1]) + shard[place + 1 :]
            with pytest.raises(HubError, match=message):
                store.add_shard(damaged)
        for cut in (10, 100, 96 + 96 * terms):
            with pytest.raises(HubError, match="not a shard|cut short"):
                store.add_shard(shard[:cut])
        assert store.files == {}
        assert len(store.add_shard(shard)) == len(store.files) == 3

    def test_lfs_stores_announced_files_only(self, hub):
        hub.seed("model", "alice/x", {})
        token, content = hub.token("alice"), b"\0" * 1000
        name = hashlib.sha256(content).hexdigest()

        def batch():
            body = {"operation": "upload", "objects": [{"oid": name, "size": 1000}]}
            return hub.ask("POST", "/alice/x.git/info/lfs/objects/batch", body, token).json["objects"][0]

        def verify(size):
            return hub.ask("POST", "/alice/x.git/info/lfs/objects/verify", {"oid": name, "size": size}, token).status

        upload = batch()["actions"]["upload"]["href"].removeprefix(hub.url)
        assert hub.ask("PUT", upload, content[:-1] + b"1").status == 400
        assert hub.ask("PUT", upload, content[:-1]).status == 400
        assert verify(1000) == 404
        assert push(hub, "alice/x", token, path="w.bin", oid=name, size=1000).status == 400
        assert hub.ask("PUT", upload, content).status == 200
        assert (verify(999), verify(1000)) == (404, 200)
        assert "actions" not in batch()
        assert push(hub, "alice/x", token, path="w.bin", oid=name, size=999).status == 400
        assert push(hub, "alice/x", token, path="w.bin", content=content).status == 400  # not as a regular file
        assert push(hub, "alice/x", token, path="w.bin", oid=name, size=1000).status == 200
        assert hub.files("model", "alice/x") == {"w.bin": content}


class TestReading:
    def test_pages_list_every_entry_once(self, hub):
        paths = [f"folder/{number:03}.txt" for number in range(120)] + ["top.txt"]
        hub.seed("dataset", "alice/x", dict.fromkeys(paths, b"1"))

        def follow(path):
            pages = []
            while path:
                response = hub.ask("GET", path)
                pages.append(response.json)
                link = re.fullmatch(r'<(.*)>; rel="next"', response.headers.get("Link", ""))
                path = link and link[1].removeprefix(hub.url)
            return pages

        pages = follow("/api/datasets/alice/x/tree/main?recursive=True&limit=50")
        assert [len(page) for page in pages] == [50, 50, 22]
        assert sorted(entry["path"] for page in pages for entry in page) == sorted([*paths, "folder"])
        pages = follow("/api/datasets/alice/x/tree/main/folder?expand=true")
        assert [len(page) for page in pages] == [50, 50, 20]
        assert all(entry["lastCommit"]["title"] == "initial commit" for page in pages for entry in page)
        assert [entry["path"] for entry in follow("/api/datasets/alice/x/tree/main")[0]] == ["folder", "top.txt"]
        assert hub.ask("GET", "/api/datasets/alice/x/tree/main/other").headers["X-Error-Code"] == "EntryNotFound"

    def test_headers_and_ranges(self, hub):
        content = bytes(range(200))
        commit = hub.seed("model", "alice/x", {"a.txt": b"0123456789", "w.bin": content}).branches["main"]
        response = hub.ask("HEAD", "/alice/x/resolve/main/a.txt")
        git = hashlib.sha1(b"blob 10\0" + b"0123456789").hexdigest()
        assert (response.headers["X-Repo-Commit"], response.headers["ETag"], response.headers["Content-Length"]) == (
            commit,
            f'"{git}"',
            "10",
        )
        for wanted, status, got in [
            ("2-4", 206, b"234"),
            ("7-", 206, b"789"),
            ("-2", 206, b"89"),
            ("5-99", 206, b"56789"),
            ("10-", 416, None),
        ]:
            part = hub.ask("GET", f"/alice/x/resolve/{commit[:8]}/a.txt", Range=f"bytes={wanted}")
            assert part.status == status and (got is None or part.body == got)
        response = hub.ask("HEAD", "/alice/x/resolve/main/w.bin")
        assert response.status == 302 and response.headers["Location"].startswith("http://localhost:")
        assert (response.headers["X-Linked-Size"], response.headers["X-Linked-ETag"]) == (
            "200",
            f'"{hashlib.sha256(content).hexdigest()}"',
        )
        response = hub.ask("GET", "/alice/x/resolve/main/none")
        assert (response.status, response.headers["X-Error-Code"], response.headers["X-Repo-Commit"]) == (
            404,
            "EntryNotFound",
            commit,
        )
        assert hub.ask("GET", "/alice/x/resolve/none/a.txt").headers["X-Error-Code"] == "RevisionNotFound"

    def test_a_range_of_a_xet_file_can_be_read(self):
        store = xet.XetStore()
        store.xorbs["x"] = xet.Xorb(b"", [0, 10, 30, 60], [b"a" * 10, b"b" * 20, b"c" * 30], [b""] * 3)
        store.files["f"] = [xet.Term("x", 30, 1, 2), xet.Term("x", 30, 2, 3), xet.Term("x", 10, 0, 1)]
        response = store.reconstruction("f", str.upper, 35, 60)
        assert (response["offset_into_first_range"], [term["range"]["start"] for term in response["terms"]]) == (
            5,
            [2, 0],
        )
        assert response["fetch_info"]["x"][0] == {
            "range": {"start": 2, "end": 3},
            "url": "X",
            "url_range": {"start": 30, "end": 59},
        }
        with pytest.raises(HubError, match="416"):
            store.reconstruction("f", str, 70)


class TestCards:
    @pytest.mark.parametrize(
        "head, kind, problem",
        [
            ("license: license", "model", '"license"'),
            ("license: [mit, nonsense]", "dataset", '"license"'),
            ("language: русский", "model", '"language"'),
            ("base_model: ../run/merged", "model", '"base_model"'),
            ("tags: [1]", "model", '"tags"'),
            ("pipeline_tag: [text-generation]", "model", '"pipeline_tag"'),
            ("model-index: [{name: x, results: []}]", "model", "results"),
            (
                "model-index: [{results: [{task: {type: a}, dataset: {type: b, name: c}, metrics: [{type: d, value: 1}]}]}]",
                "model",
                "name",
            ),
            (
                "model-index: [{name: x, results: [{task: {type: a}, dataset: {type: b}, metrics: []}]}]",
                "model",
                "dataset.name",
            ),
            (
                "model-index: [{name: x, results: [{task: {type: a}, dataset: {type: b, name: c}, metrics: [{type: d}]}]}]",
                "model",
                "metrics",
            ),
            ("size_categories: many", "dataset", '"size_categories"'),
            ("configs: [{data_files: x}]", "dataset", "config_name"),
            ("configs: [{config_name: a}, {config_name: a}]", "dataset", "twice"),
            ("a: b: c", "model", "Invalid YAML"),
            ("- a", "model", "mapping"),
        ],
    )
    def test_errors(self, head, kind, problem):
        errors, _ = check_card(f"---\n{head}\n---\n# Title", kind)
        assert len(errors) == 1 and problem in errors[0]

    def test_real_cards_pass(self):
        head = {
            "license": "llama3.2",
            "language": ["ru"],
            "base_model": "meta-llama/Llama-3.2-1B-Instruct",
            "datasets": ["alice/pairs"],
            "library_name": "peft",
            "pipeline_tag": "text-generation",
            "widget": [{"text": "Привет"}],
        }
        assert check_card(f"---\n{json.dumps(head)}\n---\n", "model") == ([], [])
        assert check_card("# No metadata", "model")[1] == ["empty or missing yaml metadata in repo card"]


class TestFaults:
    def test_a_fault_occurs_the_given_number_of_times(self, hub):
        fault = hub.fault("GET", "/whoami", status=429, headers={"Retry-After": "7"}, times=2, skip=1)
        responses = [hub.ask("GET", "/api/whoami-v2", token=hub.token("alice")) for _ in range(5)]
        assert [one.status for one in responses] == [200, 429, 429, 200, 200]
        assert [one.headers.get("Retry-After") for one in responses] == [None, "7", "7", None, None]
        assert fault.hits == 2 and hub.problems() == []
        assert [request.fault for request in hub.asked("GET", "/whoami")] == [
            None,
            "status 429",
            "status 429",
            None,
            None,
        ]

    def test_a_fault_hits_matching_requests_only(self, hub):
        hub.seed("model", "alice/x", {})
        hub.fault("POST|PUT", r"/alice/x/commit/", status=503)
        assert hub.ask("GET", "/api/models/alice/x/commits/main").status == 200
        assert hub.ask("GET", "/api/models/alice/x/auth-check").status == 200
        assert [push(hub, "alice/x", hub.token("alice")).status for _ in range(2)] == [503, 200]

    def test_an_unused_fault_is_a_problem(self, tmp_path):
        hub = TestHub(tmp_path).start()
        hub.fault("GET", "/whoami", status=500, times=2)
        hub.fault("GET", "/refs", status=500, times=inf)
        hub.ask("GET", "/api/whoami-v2")
        assert len(hub.problems()) == 2
        assert hub.problems()[0] == "1 instead of 2 requests met the fault: GET /whoami (status 500)"
        hub.ask("GET", "/api/whoami-v2")
        hub.ask("GET", "/api/models/a/b/refs")
        assert hub.problems() == []
        hub.close()

    def test_an_unknown_route_is_a_problem(self, tmp_path):
        hub = TestHub(tmp_path).start()
        assert hub.ask("GET", "/api/spaces/a/b").status == 404
        assert hub.problems() == ["unknown route: GET /api/spaces/a/b"]
        hub.close()

    def test_a_reset_request_has_no_effect(self, hub):
        hub.seed("model", "alice/x", {})
        hub.fault("POST", "/commit/", reset=0)
        hub.fault("POST", "/commit/", reset=20)
        for _ in range(2):
            with pytest.raises(ConnectionError):
                push(hub, "alice/x", hub.token("alice"))
        assert hub.files("model", "alice/x") == {}
        assert push(hub, "alice/x", hub.token("alice")).status == 200
        assert [request.fault for request in hub.asked("POST", "/commit/")] == ["reset 0", "reset 20", None]

    def test_a_lost_reply_keeps_the_effect(self, hub):
        hub.seed("model", "alice/x", {})
        hub.fault("POST", "/commit/", lost=True)
        hub.fault("POST", "/commit/", lost=True, status=504)
        with pytest.raises(ConnectionError):
            push(hub, "alice/x", hub.token("alice"), path="first.txt")
        assert sorted(hub.files("model", "alice/x")) == ["first.txt"]
        assert push(hub, "alice/x", hub.token("alice"), path="second.txt").status == 504
        assert sorted(hub.files("model", "alice/x")) == ["first.txt", "second.txt"]
        assert [request.status for request in hub.asked("POST", "/commit/")] == [None, 504]

    def test_a_cut_body_ends_early(self, hub):
        hub.seed("model", "alice/x", {"a.txt": b"0123456789"})
        hub.fault("GET", "/resolve/", cut=4)
        with pytest.raises(Exception, match="4 bytes read, 6 more expected"):
            hub.ask("GET", "/alice/x/resolve/main/a.txt")
        assert hub.ask("GET", "/alice/x/resolve/main/a.txt").body == b"0123456789"

    def test_a_delayed_request_runs_its_action(self, hub):
        token = hub.token("alice")
        hub.fault("GET", "/whoami", delay=0.2, then=lambda: hub.revoke(token))
        start = time.perf_counter()
        assert hub.ask("GET", "/api/whoami-v2", token=token).status == 401
        assert time.perf_counter() - start >= 0.2

    def test_down_and_up_again(self, hub):
        address = ("GET", "/api/whoami-v2", None, hub.token("alice"))
        with hub.down():
            with pytest.raises(ConnectionRefusedError):
                hub.ask(*address)
        assert hub.ask(*address).status == 200
        hub.fault("GET", "/whoami", down=0.3)
        with pytest.raises(ConnectionError):
            hub.ask(*address)
        with pytest.raises(ConnectionRefusedError):
            hub.ask(*address)
        deadline = time.monotonic() + 10
        while True:
            try:
                assert hub.ask(*address).status == 200
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.02)


class TestClients:
    def test_clients_use_this_hub_only(self, hub, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "hf_of_the_person")
        monkeypatch.setenv("HTTPS_PROXY", "http://example.org")
        ours = hub.environment(token=None, xet=False, HF_HUB_OFFLINE="1")
        assert "HF_TOKEN" not in ours and "HTTPS_PROXY" not in ours and "HF_DATASETS_CACHE" not in ours
        assert (ours["HF_ENDPOINT"], ours["HF_HUB_DISABLE_XET"], ours["HF_HUB_OFFLINE"]) == (hub.url, "1", "1")
        assert hub.environment()["HF_HOME"] != hub.environment()["HF_HOME"]
        done = hub.run("import socket; socket.create_connection(('huggingface.co', 443))", check=False)
        assert "tests use no other" in done.stderr
        with pytest.raises(AssertionError, match="ZeroDivisionError"):
            hub.run("1 / 0")

    def test_repositories_by_the_real_client(self, hub):
        hub.seed("model", "meta/llama", {"config.json": b"{}"}, gated="auto")
        hub.seed("model", "bob/secret", {}, private=True)
        done = hub.run(
            """
import pytest
from huggingface_hub import HfApi, ModelCard, auth_check, hf_hub_download
from huggingface_hub.errors import *

api = HfApi()
assert api.create_repo("x", private=True) == api.create_repo("alice/x", exist_ok=True)
assert api.model_info("alice/x").private
with pytest.raises(HfHubHTTPError, match="409"):
    api.create_repo("x")
with pytest.raises(HfHubHTTPError, match="rights to create"):
    api.create_repo("bob/x")
with pytest.raises(RepositoryNotFoundError):
    api.model_info("bob/secret")
with pytest.raises(GatedRepoError):
    hf_hub_download("meta/llama", "config.json")
with pytest.raises(GatedRepoError):
    auth_check("meta/llama")
with pytest.raises(ValueError, match='"license" with value'):
    api.upload_file(path_or_fileobj=b"---\\nlicense: license\\n---\\n", path_in_repo="README.md", repo_id="alice/x")

api.create_branch("alice/x", branch="try/one")
first = api.upload_file(path_or_fileobj=b"one", path_in_repo="a.txt", repo_id="alice/x", revision="try/one").oid
api.create_tag("alice/x", tag="v1", revision="try/one")
with pytest.raises(HfHubHTTPError, match="409"):
    api.create_tag("alice/x", tag="v1")
assert not api.file_exists("alice/x", "a.txt") and api.file_exists("alice/x", "a.txt", revision="v1")
assert {ref.name: ref.target_commit for ref in api.list_repo_refs("alice/x").tags} == {"v1": first}
with pytest.raises(RevisionNotFoundError):
    api.upload_file(path_or_fileobj=b"one", path_in_repo="a.txt", repo_id="alice/x", revision="none")
api.upload_file(path_or_fileobj=b"two", path_in_repo="a.txt", repo_id="alice/x", parent_commit=api.model_info("alice/x").sha)
with pytest.raises(HfHubHTTPError, match="412"):
    api.upload_file(path_or_fileobj=b"three", path_in_repo="a.txt", repo_id="alice/x", parent_commit=first)
assert [commit.title for commit in api.list_repo_commits("alice/x")] == ["Upload a.txt with huggingface_hub", "initial commit"]
api.delete_tag("alice/x", tag="v1")
api.delete_branch("alice/x", branch="try/one")

reader = HfApi(token=__import__("os").environ["READER"])
assert reader.create_repo("alice/x", exist_ok=True).repo_id == "alice/x"  # so the role must be asked for
with pytest.raises(HfHubHTTPError, match="403"):
    reader.upload_file(path_or_fileobj=b"no", path_in_repo="no.txt", repo_id="alice/x")

api.move_repo("alice/x", "lab/y")
assert open(hf_hub_download("alice/x", "a.txt"), "rb").read() == b"two"
api.upload_file(path_or_fileobj=b"four", path_in_repo="b.txt", repo_id="alice/x")
api.update_repo_settings("lab/y", private=False, gated="manual")
assert (api.model_info("lab/y").private, api.model_info("lab/y").gated) == (False, "manual")
collection = api.create_collection("Русские предпочтения", description="Adapters", exists_ok=True)
assert api.create_collection("Русские предпочтения", exists_ok=True).slug == collection.slug
collection = api.add_collection_item(collection.slug, "lab/y", "model", note="ours")
assert [(item.item_id, item.note) for item in collection.items] == [("lab/y", "ours")]
assert len(api.add_collection_item(collection.slug, "lab/y", "model", exists_ok=True).items) == 1
api.create_repo("d", repo_type="dataset")
assert [one.id for one in api.list_datasets(author="alice")] == ["alice/d"]
api.delete_repo("d", repo_type="dataset")
assert not api.repo_exists("alice/d", repo_type="dataset")
            """,
            READER=hub.token("alice", "read"),
        )
        assert done.stdout == ""
        assert hub.files("model", "lab/y")["b.txt"] == b"four"

    def test_uploads_by_the_real_client_with_faults(self, hub):
        """The client waits as long as the response requires, and commits twice if a response is lost."""
        hub.seed("model", "alice/x", {})
        hub.fault("POST", "/preupload/", status=429, headers={"Retry-After": "0"})
        hub.run("""
import pathlib
from loophub_client import fault
fault("POST", "/commit/", lost=True)
from huggingface_hub import HfApi
folder = pathlib.Path(__import__("os").environ["HF_HOME"], "folder")
folder.mkdir()
(folder / "w.bin").write_bytes(bytes(5000))
HfApi().upload_folder(folder_path=folder, repo_id="alice/x")
        """)
        assert [request.status for request in hub.asked("POST", "/preupload/")] == [429, 200]
        assert [request.status for request in hub.asked("POST", "/commit/")] == [None, 200]
        assert len(hub.repositories["model", "alice/x"].history()) == 3

    @pytest.mark.parametrize("over_xet", [True, False], ids=["xet", "lfs"])
    def test_the_environment_chooses_the_transport(self, hub, over_xet):
        hub.seed("model", "alice/x", {})
        code = """
            from huggingface_hub import HfApi, hf_hub_download
            HfApi().upload_file(path_or_fileobj=bytes(5000), path_in_repo="w.bin", repo_id="alice/x")
            assert open(hf_hub_download("alice/x", "w.bin"), "rb").read() == bytes(5000)
        """
        hub.run(dedent(code), xet=over_xet)
        assert hub.files("model", "alice/x") == {"w.bin": bytes(5000)}
        assert_transport(hub, over_xet, not over_xet)

    def test_round_trips(self, hub, tmp_path, tiny_llama):
        """A dataset with two configurations and an adapter, over both transports, pulled into empty caches and equal."""
        hub.run(ROUND_TRIP, TINY=str(tiny_llama), WORK=str(tmp_path))
        for transport in ("xet", "lfs"):
            stored = hub.files("model", f"lab/adapter-{transport}")
            for path in ("adapter_model.safetensors", "adapter_config.json"):
                assert stored[path] == (tmp_path / transport / "adapter" / path).read_bytes()
            files = hub.repositories["dataset", f"alice/pairs-{transport}"].at().files
            large = [file.sha256 for path, file in files.items() if path.endswith(".parquet")]
            assert len(large) == 4
            assert [name in hub.xet_names for name in large] == [transport == "xet"] * 4
        assert_transport(hub, True, True)
        token = hub.token("alice").encode()
        assert not [place for place, content in hub.everything() if token in content]


def assert_transport(hub, over_xet: bool, over_lfs: bool) -> None:
    """Files went up and down over these ways and no others."""
    assert bool(hub.asked("POST", "/v1/shards")) == bool(hub.asked("GET", "/xorbs/")) == over_xet
    assert bool(hub.asked("PUT", "/lfs/")) == bool(hub.asked("GET", "/cdn/")) == over_lfs


# One process for both: importing the libraries takes most of the time. The environment variable's setting is changed in between.
ROUND_TRIP = """
import os
from pathlib import Path

import torch
from datasets import Dataset, DatasetDict, load_dataset
from huggingface_hub import constants
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

tiny = os.environ["TINY"]


def round_trip_of_a_dataset(name, folder):
    pushed = {
        config: DatasetDict(
            train=Dataset.from_dict({"prompt": [f"{name} {config} {number}" for number in range(50)]}),
            test=Dataset.from_dict({"prompt": [f"{name} {config}, последний"]}),
        )
        for config in ("conversations", "pairs")
    }
    for config, dataset in pushed.items():
        dataset.push_to_hub(name, config_name=config, private=True)
    for config, dataset in pushed.items():
        pulled = load_dataset(name, config, cache_dir=str(folder / "cache"))
        assert {split: rows[:] for split, rows in pulled.items()} == {split: rows[:] for split, rows in dataset.items()}


def round_trip_of_an_adapter(name, folder):
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny), config)
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    model.save_pretrained(folder / "adapter")
    model.push_to_hub(name, private=True)
    tokenizer.push_to_hub(name)
    cache = str(folder / "models")
    base = AutoModelForCausalLM.from_pretrained(tiny)
    ids = tokenizer("Привет, мир!", return_tensors="pt")
    with torch.no_grad():
        plain = base.eval()(**ids).logits
        pulled = PeftModel.from_pretrained(base, name, cache_dir=cache).eval()(**ids).logits
        assert torch.equal(model.eval()(**ids).logits, pulled) and not torch.equal(plain, pulled)
    assert AutoTokenizer.from_pretrained(name, cache_dir=cache)("Привет, мир!").input_ids == ids["input_ids"][0].tolist()


torch.manual_seed(0)
for transport in ("xet", "lfs"):
    constants.HF_HUB_DISABLE_XET = transport == "lfs"
    folder = Path(os.environ["WORK"], transport)
    round_trip_of_a_dataset(f"alice/pairs-{transport}", folder)
    round_trip_of_an_adapter(f"lab/adapter-{transport}", folder)
"""
