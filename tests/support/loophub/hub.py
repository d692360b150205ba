"""The Hub without HTTP: users, tokens, repositories, commits, collections and permissions."""

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fnmatch import fnmatch

from .cards import check_card
from .errors import HubError
from .xet import XetStore

KINDS = {"models": "model", "datasets": "dataset"}
LARGE = (
    "*.arrow",
    "*.bin",
    "*.gguf",
    "*.gz",
    "*.npz",
    "*.parquet",
    "*.pkl",
    "*.pt",
    "*.pth",
    "*.safetensors",
    "*.zip",
)
LARGEST_REGULAR = 10 << 20
GITATTRIBUTES = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LARGE).encode()
REPO_NAME = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9_][\w.-]{0,94}[A-Za-z0-9_]|[A-Za-z0-9_]", re.ASCII)
NOT_LOGGED_IN = "Invalid username or password."


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True)
class Token:
    """
    Args:
        text (`str`): The token itself.
        user (`str`): Its owner.
        role (`str`): `read`, `write` or `fineGrained`.
        scopes (`tuple[tuple[str, str], ...]`): For `fineGrained`: pairs of an entity (`alice`, `lab`, `model alice/x`) and a
            permission (`repo.content.read`, `repo.write`).
        gated (`bool`): Whether it can read gated repositories.
    """

    text: str
    user: str
    role: str = "write"
    scopes: tuple[tuple[str, str], ...] = ()
    gated: bool = True


@dataclass(frozen=True)
class File:
    """A file of a commit. `oid` is git's hash of the stored content: the file, or the pointer to a large file with `sha256`."""

    size: int
    oid: str
    content: bytes | None = None
    sha256: str | None = None
    pointer_size: int = 0

    @classmethod
    def regular(cls, content: bytes) -> "File":
        return cls(len(content), git_name(content), content)

    @classmethod
    def large(cls, sha256: str, size: int) -> "File":
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
        return cls(size, git_name(pointer), None, sha256, len(pointer))


@dataclass(frozen=True)
class Commit:
    id: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str
    files: dict[str, File]


@dataclass
class Repository:
    """A git repository: commits, branches and tags."""

    kind: str
    id: str
    private: bool
    creator: str
    gated: bool | str = False
    granted: set[str] = field(default_factory=set)
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    created: str = field(default_factory=now)

    @property
    def owner(self) -> str:
        return self.id.split("/")[0]

    def add_commit(self, branch: str, files: dict[str, File], title: str, message: str, author: str) -> Commit:
        parent = self.branches.get(branch)
        listing = sorted((path, file.oid) for path, file in files.items())
        # As in git, the time is part of the name; the number keeps commits of one moment apart.
        date, number = now(), len(self.commits)
        text = repr((self.kind, self.id, parent, title, message, author, date, number, listing))
        commit = Commit(hashlib.sha1(text.encode()).hexdigest(), parent, title, message, author, date, files)
        self.commits[commit.id] = commit
        self.branches[branch] = commit.id
        return commit

    def at(self, revision: str = "main") -> Commit:
        """Return the commit of a branch, a tag or a commit's prefix."""
        name = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        commit = self.branches.get(name) or self.tags.get(name)
        if commit is None and re.fullmatch("[0-9a-f]{7,40}", name):
            commit = next((known for known in self.commits if known.startswith(name)), None)
        if commit is None:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[commit]

    def history(self, revision: str = "main") -> list[Commit]:
        """Return the commits from the newest to the first."""
        commits = [self.at(revision)]
        while commits[-1].parent:
            commits.append(self.commits[commits[-1].parent])
        return commits


@dataclass
class Collection:
    slug: str
    title: str
    owner: str
    private: bool
    description: str | None
    items: list[dict] = field(default_factory=list)
    updated: str = field(default_factory=now)


class Hub:
    """
    Users, organisations, repositories and stored files. Public methods take the client's token (`None`: anonymous) and raise
    [`HubError`] where the real Hub returns an error.
    """

    def __init__(self):
        self.organisations: dict[str, dict[str, str]] = {}
        self.users: set[str] = set()
        self.tokens: dict[str, Token] = {}
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.moved: dict[tuple[str, str], str] = {}
        self.objects: dict[str, bytes] = {}
        self.xet = XetStore()
        self.xet_names: dict[str, str] = {}
        self.xet_tokens: dict[str, str] = {}
        self.collections: dict[str, Collection] = {}
        self.secret = secrets.token_bytes()

    # People and tokens

    def add_user(self, name: str) -> None:
        self.users.add(name)

    def add_organisation(self, name: str, **roles: str) -> None:
        """Add an organisation; its members' roles are `admin`, `write`, `contributor` or `read`."""
        self.organisations[name] = roles

    def token(self, user: str, role: str = "write", scopes: tuple = (), gated: bool = True) -> str:
        """Return a user's token, the same for the same arguments until it is revoked."""
        wanted = Token("", user, role, tuple(scopes), gated)
        for token in self.tokens.values():
            if replace(token, text="") == wanted:
                return token.text
        text = "hf_" + hashlib.sha256(repr((wanted, secrets.token_hex())).encode()).hexdigest()[:34]
        self.tokens[text] = replace(wanted, text=text)
        return text

    def revoke(self, token: str) -> None:
        del self.tokens[token]

    def identify(self, text: str | None) -> Token | None:
        """Return the token with this text; an unknown one is an error."""
        if text is None:
            return None
        if text not in self.tokens:
            raise HubError(401, "Invalid credentials in Authorization header")
        return self.tokens[text]

    def whoami(self, token: Token | None) -> dict:
        if token is None:
            raise HubError(401, NOT_LOGGED_IN)
        organisations = [
            {"type": "org", "id": object_id(name), "name": name, "fullname": name, "roleInOrg": roles[token.user]}
            for name, roles in self.organisations.items()
            if token.user in roles
        ]
        access = {"displayName": f"{token.role} token", "role": token.role, "createdAt": now()}
        if token.role == "fineGrained":
            scoped: dict[str, dict] = {}
            for entity, permission in token.scopes:
                kind, _, name = entity.rpartition(" ")
                kind = kind or ("org" if entity in self.organisations else "user")
                described = {"_id": object_id(entity), "type": kind, "name": name}
                scoped.setdefault(entity, {"entity": described, "permissions": []})["permissions"].append(permission)
            access["fineGrained"] = {"canReadGatedRepos": token.gated, "global": [], "scoped": list(scoped.values())}
        return {
            "type": "user",
            "id": object_id(token.user),
            "name": token.user,
            "fullname": token.user.title(),
            "email": f"{token.user}@example.org",
            "emailVerified": True,
            "isPro": False,
            "orgs": organisations,
            "auth": {"type": "access_token", "accessToken": access},
        }

    # Who may do what

    def _role_in(self, namespace: str, user: str) -> str | None:
        return "admin" if user == namespace else self.organisations.get(namespace, {}).get(user)

    def _scope_allows(self, token: Token, permission: str, owner: str, repository: str) -> bool:
        if token.role == "fineGrained":
            return any((entity, permission) in token.scopes for entity in (owner, repository))
        return token.role == "write" or permission != "repo.write"

    def may_read(self, token: Token | None, repository: Repository) -> bool:
        if not repository.private:
            return True
        if token is None or self._role_in(repository.owner, token.user) is None:
            return False
        name = f"{repository.kind} {repository.id}"
        return any(
            self._scope_allows(token, permission, repository.owner, name)
            for permission in ("repo.content.read", "repo.write")
        )

    def may_write(self, token: Token | None, namespace: str, repository: Repository | None = None) -> bool:
        """Check whether the token can write to a repository, or create one in the namespace."""
        if token is None:
            return False
        role = self._role_in(namespace, token.user)
        by_role = role in ("admin", "write") or (
            role == "contributor" and (repository is None or repository.creator == token.user)
        )
        name = f"{repository.kind} {repository.id}" if repository else ""
        return by_role and self._scope_allows(token, "repo.write", namespace, name)

    def find(self, kind: str, name: str, token: Token | None, write: bool = False) -> Repository:
        """Return a repository that the token can read (or write); others get the same error as for a missing one."""
        repository = self.repositories.get((kind, self.moved.get((kind, name), name)))
        if repository is None or not self.may_read(token, repository):
            if token is None:
                raise HubError(401, NOT_LOGGED_IN, "RepoNotFound")
            raise HubError(404, "Repository not found", "RepoNotFound")
        if write and token is None:
            raise HubError(401, NOT_LOGGED_IN)
        if write and not self.may_write(token, repository.owner, repository):
            raise HubError(
                403, f"You don't have the required permissions to perform this operation on {kind} {repository.id}"
            )
        return repository

    def check_gate(self, repository: Repository, token: Token | None) -> None:
        """Check access to the content of a gated repository."""
        if not repository.gated:
            return
        subject = f"Access to {repository.kind} {repository.id} is restricted"
        if token is None:
            raise HubError(
                401,
                f"{subject}. You must have access to it and be authenticated to access it. Please log in.",
                "GatedRepo",
            )
        member = self._role_in(repository.owner, token.user) is not None
        if not member and token.user not in repository.granted:
            raise HubError(403, f"{subject} and you are not in the authorized list.", "GatedRepo")
        if not token.gated:
            raise HubError(
                403,
                f"{subject}. Please enable access to public gated repositories in your token's settings.",
                "GatedRepo",
            )

    # Repositories

    def create(self, kind: str, namespace: str | None, name: str, private: bool, token: Token | None) -> Repository:
        if token is None:
            raise HubError(401, NOT_LOGGED_IN)
        namespace = namespace or token.user
        full = f"{namespace}/{name}"
        if not REPO_NAME.fullmatch(name):
            raise HubError(400, f"Invalid repo name: {full}")
        if not self.may_write(token, namespace):
            raise HubError(403, f'You don\'t have the rights to create a {kind} under the namespace "{namespace}"')
        if (kind, full) in self.repositories:
            raise HubError(409, f"You already created this {kind} repo", body={"name": full})
        self.moved.pop((kind, full), None)
        repository = Repository(kind, full, private, token.user)
        repository.add_commit(
            "main", {".gitattributes": File.regular(GITATTRIBUTES)}, "initial commit", "", token.user
        )
        self.repositories[kind, full] = repository
        return repository

    def delete(self, kind: str, name: str, token: Token | None) -> None:
        repository = self.find(kind, name, token, write=True)
        del self.repositories[kind, repository.id]

    def move(self, kind: str, name: str, target: str, token: Token | None) -> None:
        repository = self.find(kind, name, token, write=True)
        namespace, _, last = target.partition("/")
        if not REPO_NAME.fullmatch(last):
            raise HubError(400, f"Invalid repo name: {target}")
        if not self.may_write(token, namespace):
            raise HubError(403, f'You don\'t have the rights to create a {kind} under the namespace "{namespace}"')
        if (kind, target) in self.repositories:
            raise HubError(409, f"The {kind} repo {target} exists already")
        del self.repositories[kind, repository.id]
        self.moved = {old: target if new == repository.id else new for old, new in self.moved.items()}
        self.moved[kind, repository.id] = target
        self.moved.pop((kind, target), None)
        repository.id = target
        self.repositories[kind, target] = repository

    def listed(self, kind: str, token: Token | None, author: str | None, search: str) -> list[Repository]:
        return [
            repository
            for repository in self.repositories.values()
            if repository.kind == kind
            and self.may_read(token, repository)
            and author in (None, repository.owner)
            and search.lower() in repository.id.lower()
        ]

    # Files

    def upload_mode(self, path: str, size: int, sample: bytes) -> str:
        name = path.rsplit("/", 1)[-1]
        large = size > LARGEST_REGULAR or b"\0" in sample or any(fnmatch(name, pattern) for pattern in LARGE)
        return "lfs" if large else "regular"

    def store(self, sha256: str, content: bytes) -> None:
        """Store a large file if its bytes match its name."""
        if hashlib.sha256(content).hexdigest() != sha256:
            raise HubError(400, "The sha256 of the uploaded content is not the one announced")
        self.objects[sha256] = content

    def store_shard(self, data: bytes) -> None:
        for sha256, (name, content) in self.xet.add_shard(data).items():
            self.objects[sha256], self.xet_names[sha256] = content, name

    def content(self, file: File) -> bytes:
        return self.objects[file.sha256] if file.sha256 else file.content

    def commit(self, repository: Repository, branch: str, operations: list[dict], token: Token) -> Commit:
        """
        Apply operations as the clients send them: a header, then `file`, `lfsFile`, `deletedFile`, `deletedFolder`.

        All operations are applied or none, and only on top of the header's parent commit, if it has one.
        """
        if not operations or operations[0].get("key") != "header":
            raise HubError(400, "The first line of a commit must be its header")
        branch = branch.removeprefix("refs/heads/")
        if branch not in repository.branches:
            raise HubError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        header, parent = operations[0]["value"], repository.branches[branch]
        if not header.get("summary"):
            raise HubError(400, "A commit needs a summary")
        if not parent.startswith(header.get("parentCommit") or parent):
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        files = dict(repository.commits[parent].files)
        for operation in operations[1:]:
            self._apply(files, operation["key"], operation["value"], repository.kind)
        return repository.add_commit(branch, files, header["summary"], header.get("description", ""), token.user)

    def _apply(self, files: dict[str, File], key: str, value: dict, kind: str) -> None:
        path = value["path"]
        if key == "file":
            content = value["content"]
            if self.upload_mode(path, len(content), b"") == "lfs" and content:
                raise HubError(400, f"{path} must be uploaded as a large file")
            if path == "README.md" and (problems := check_card(content.decode(errors="replace"), kind)[0]):
                raise HubError(400, "Invalid metadata in README.md: " + "; ".join(problems))
            files[path] = File.regular(content)
        elif key == "lfsFile":
            stored = self.objects.get(value["oid"])
            if stored is None or value.get("size", len(stored)) != len(stored):
                raise HubError(400, f"LFS pointer pointed to a file that does not exist: {path}")
            files[path] = File.large(value["oid"], len(stored))
        elif key == "deletedFile":
            if files.pop(path, None) is None:
                raise HubError(404, "A file with this name doesn't exist", "EntryNotFound")
        elif key == "deletedFolder":
            inside = [known for known in files if known.startswith(path.rstrip("/") + "/")]
            if not inside:
                raise HubError(404, "A folder with this name doesn't exist", "EntryNotFound")
            for known in inside:
                del files[known]
        else:
            raise HubError(400, f"Unknown operation: {key}")

    def add_branch(self, repository: Repository, name: str, start: str) -> None:
        if name.startswith("refs/"):
            raise HubError(400, f"Invalid reference for a branch: {name}")
        if name in repository.branches:
            raise HubError(409, f"Reference already exists: {name}")
        repository.branches[name] = repository.at(start).id

    def delete_branch(self, repository: Repository, name: str) -> None:
        if name == "main":
            raise HubError(403, "The main branch cannot be deleted")
        if repository.branches.pop(name, None) is None:
            raise HubError(404, f"Invalid rev id: {name}", "RevisionNotFound")

    def add_tag(self, repository: Repository, name: str, revision: str) -> None:
        if name in repository.tags:
            raise HubError(409, f"Tag {name} already exists")
        repository.tags[name] = repository.at(revision).id

    def delete_tag(self, repository: Repository, name: str) -> None:
        if repository.tags.pop(name, None) is None:
            raise HubError(404, f"Invalid rev id: {name}", "RevisionNotFound")

    # Collections

    def add_collection(self, namespace: str, title: str, private: bool, description: str | None, token: Token | None):
        if token is None:
            raise HubError(401, NOT_LOGGED_IN)
        if not self.may_write(token, namespace):
            raise HubError(403, f'You don\'t have the rights to create a collection under the namespace "{namespace}"')
        slug = f"{namespace}/{re.sub('[^a-z0-9]+', '-', title.lower()).strip('-')}-{object_id(namespace + title)}"
        if slug in self.collections:
            raise HubError(409, "This collection exists already", body={"slug": slug})
        self.collections[slug] = Collection(slug, title, namespace, private, description)
        return self.collections[slug]

    def find_collection(self, slug: str, token: Token | None, write: bool = False) -> Collection:
        collection = self.collections.get(slug)
        member = token is not None and collection is not None and self._role_in(collection.owner, token.user)
        if collection is None or (collection.private and not member):
            raise HubError(404, "Collection not found")
        if write and not self.may_write(token, collection.owner):
            raise HubError(403, "You don't have the required permissions to perform this operation")
        return collection

    def add_to_collection(self, slug: str, kind: str, name: str, note: str | None, token: Token | None) -> Collection:
        collection = self.find_collection(slug, token, write=True)
        self.find(kind, name, token)
        if any((item["type"], item["id"]) == (kind, name) for item in collection.items):
            raise HubError(409, "Item already in collection")
        item = {"_id": object_id(f"{slug} {kind} {name}"), "type": kind, "id": name, "position": len(collection.items)}
        collection.items.append(item | ({"note": {"text": note, "html": note}} if note else {}))
        collection.updated = now()
        return collection

    # Secrets of the addresses that need no token

    def sign(self, text: str) -> str:
        return hmac.new(self.secret, text.encode(), "sha256").hexdigest()

    def check_signature(self, text: str, signature: str) -> None:
        if not hmac.compare_digest(self.sign(text), signature):
            raise HubError(403, "The signature of this address is wrong")

    def xet_token(self, scope: str) -> str:
        token = f"xet_{secrets.token_hex(16)}"
        self.xet_tokens[token] = scope
        return token

    def check_xet_token(self, token: str | None, scope: str) -> None:
        known = self.xet_tokens.get(token or "")
        if known is None:
            raise HubError(401, "Unauthorized: this Xet token is not known")
        if scope == "write" and known != "write":
            raise HubError(403, "This Xet token only reads")

    # For tests to look at

    def files(self, kind: str, name: str, revision: str = "main") -> dict[str, bytes]:
        """Return path and content of all files of a revision."""
        commit = self.repositories[kind, name].at(revision)
        return {path: self.content(file) for path, file in commit.files.items()}

    def everything(self) -> Iterator[tuple[str, bytes]]:
        """Return every stored text with its location, to search them for secrets."""
        for (kind, name), repository in self.repositories.items():
            for commit in repository.commits.values():
                yield f"{kind} {name} {commit.id}", f"{commit.title}\n{commit.message}".encode()
                for path, file in commit.files.items():
                    if file.sha256 is None:
                        yield f"{kind} {name} {commit.id} {path}", file.content
        for sha256, content in self.objects.items():
            yield f"large file {sha256}", content
        for name, xorb in self.xet.xorbs.items():
            yield f"xorb {name}", b"".join(xorb.chunks)
        for collection in self.collections.values():
            yield f"collection {collection.slug}", json.dumps(vars(collection), ensure_ascii=False).encode()


def git_name(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def object_id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
