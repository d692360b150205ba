"""The Hub's routes."""

import base64
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, quote, unquote

from .cards import check_card, read_metadata
from .errors import HubError
from .hub import KINDS, NOT_LOGGED_IN, Collection, Commit, File, Hub, Repository, object_id

PLACES = {
    "kinds": "models|datasets",
    "id": "[^/]+/[^/]+",
    "slug": "[^/]+/[^/]+",
    "revision": "[^/]+",
    "name": "[^/]+",
    "hash": "[0-9a-f]{64}",
    "scope": "read|write",
    "path": ".+",
    "prefix": "(?:datasets/)?",
}
ROUTES: list[tuple[str, re.Pattern, str, Callable]] = []
XET_TOKEN_LASTS = 3600  # seconds


@dataclass
class Request:
    """A request and its result; `status` is `None` if no response was sent."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    origin: str
    body: bytes = b""
    status: int | None = None
    fault: str | None = None
    problem: str | None = None

    @property
    def bearer(self) -> str | None:
        scheme, _, text = self.headers.get("authorization", "").partition(" ")
        return text if scheme == "Bearer" else None

    @property
    def json(self) -> dict:
        try:
            return json.loads(self.body or b"{}")
        except ValueError as error:
            raise HubError(400, "The body is not JSON") from error

    def one(self, name: str, default: str | None = None) -> str | None:
        return self.query.get(name, [default])[0]

    def flag(self, name: str) -> bool:
        return (self.one(name) or "").lower() in ("true", "1")

    def __str__(self) -> str:
        return f"{self.method} {self.path} -> {self.status or self.problem or self.fault}"


@dataclass
class Response:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, value, status: int = 200, **headers: str) -> "Response":
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return cls(status, json.dumps(value).encode(), {"Content-Type": "application/json"} | named)


class UnknownRoute(Exception):
    """The Hub has no such route."""


def route(methods: str, template: str):
    """Register a function for a path; `{name}` is a part described in `PLACES`."""
    pattern = re.sub(r"\{(\w+)\}", lambda match: f"(?P<{match[1]}>{PLACES[match[1]]})", template.replace(".", r"\."))

    def register(function: Callable) -> Callable:
        ROUTES.append((methods, re.compile(pattern), template, function))
        return function

    return register


def answer(hub: Hub, request: Request) -> Response:
    """Find the route of a request and return its response; an error is a response too."""
    try:
        for methods, pattern, _, function in ROUTES:
            match = pattern.fullmatch(request.path.partition("?")[0])
            if match and request.method in methods.split("|"):
                moved = _redirect(hub, request, match.groupdict())
                places = {name: unquote(text) for name, text in match.groupdict().items()}
                return moved or function(hub, request, **places)
        raise UnknownRoute(f"{request.method} {request.path}")
    except HubError as error:
        response = Response.of({"error": error.message} | error.body, error.status)
        response.headers["X-Error-Message"] = " ".join(error.message.split()).encode("ascii", "replace").decode()
        if error.code:
            response.headers["X-Error-Code"] = error.code
        response.headers |= error.headers
        return response


def _redirect(hub: Hub, request: Request, places: dict[str, str]) -> Response | None:
    """Return the new address of a moved repository for those who can see it."""
    kind = KINDS[places.get("kinds") or places.get("prefix", "").rstrip("/") or "models"]
    if (kind, places.get("id")) not in hub.moved:
        return None
    target = hub.find(kind, places["id"], _token(hub, request)).id
    return Response(307, headers={"Location": request.path.replace(places["id"], target, 1)})


def _token(hub: Hub, request: Request):
    return hub.identify(request.bearer)


def _find(hub: Hub, request: Request, kinds: str, id: str, write: bool = False) -> Repository:
    return hub.find(KINDS[kinds], id, _token(hub, request), write)


def _page(request: Request, items: list, size: int) -> Response:
    """Return one page of a list, with the next page's address in `Link`."""
    size, start = min(int(request.one("limit") or size), size), int(request.one("cursor") or 0)
    response = Response.of(items[start : start + size])
    if start + size < len(items):
        address = request.path.partition("?")[0]
        query = {name: values for name, values in request.query.items() if name != "cursor"} | {
            "cursor": [str(start + size)]
        }
        text = "&".join(f"{quote(name)}={quote(value)}" for name, values in query.items() for value in values)
        response.headers["Link"] = f'<{request.origin}{address}?{text}>; rel="next"'
    return response


# People


@route("GET", "/api/whoami-v2")
def whoami(hub: Hub, request: Request) -> Response:
    return Response.of(hub.whoami(_token(hub, request)))


@route("GET", "/api/agent-harnesses")
def harnesses(hub: Hub, request: Request) -> Response:
    """Return the programs that the client reports in its headers and output: none."""
    return Response.of({"standardEnvVars": [], "harnesses": {}})


# Repositories


def _web(request: Request, kind: str, name: str) -> str:
    return f"{request.origin}/{'' if kind == 'model' else kind + 's/'}{name}"


def _is_private(body: dict) -> bool:
    return body.get("visibility") == "private" or bool(body.get("private"))


@route("POST", "/api/repos/create")
def create(hub: Hub, request: Request) -> Response:
    body, token = request.json, _token(hub, request)
    kind = body.get("type") or "model"
    if kind not in KINDS.values():
        raise UnknownRoute(f"creation of a {kind}")
    try:
        made = hub.create(kind, body.get("organization"), body["name"], _is_private(body), token)
    except HubError as error:
        if error.status == 409:
            error.body = {"url": _web(request, kind, error.body["name"])}
        raise
    return Response.of({"url": _web(request, kind, made.id), "name": made.id, "id": object_id(made.id)})


@route("DELETE", "/api/repos/delete")
def delete(hub: Hub, request: Request) -> Response:
    body, token = request.json, _token(hub, request)
    if token is None:
        raise HubError(401, NOT_LOGGED_IN)
    hub.delete(body.get("type") or "model", f"{body.get('organization') or token.user}/{body['name']}", token)
    return Response.of({})


@route("POST", "/api/repos/move")
def move(hub: Hub, request: Request) -> Response:
    body = request.json
    hub.move(body["type"], body["fromRepo"], body["toRepo"], _token(hub, request))
    return Response.of({})


@route("PUT", "/api/{kinds}/{id}/settings")
def settings(hub: Hub, request: Request, kinds: str, id: str) -> Response:
    repository, body = _find(hub, request, kinds, id, write=True), request.json
    if "visibility" in body or "private" in body:
        repository.private = _is_private(body)
    if "gated" in body:
        repository.gated = body["gated"]
    return Response.of({"private": repository.private, "gated": repository.gated})


@route("GET", "/api/{kinds}")
def listing(hub: Hub, request: Request, kinds: str) -> Response:
    found = hub.listed(KINDS[kinds], _token(hub, request), request.one("author"), request.one("search") or "")
    return _page(request, [_info(hub, repository, repository.at()) for repository in found], 1000)


@route("GET", "/api/{kinds}/{id}/auth-check")
def check_read(hub: Hub, request: Request, kinds: str, id: str) -> Response:
    hub.check_gate(_find(hub, request, kinds, id), _token(hub, request))
    return Response.of({})


@route("GET", "/api/{kinds}/{id}/auth-check/write")
def check_write(hub: Hub, request: Request, kinds: str, id: str) -> Response:
    _find(hub, request, kinds, id, write=True)
    return Response.of({})


@route("GET", "/api/{kinds}/{id}")
def info(hub: Hub, request: Request, kinds: str, id: str, revision: str = "main") -> Response:
    repository = _find(hub, request, kinds, id)
    content = _info(hub, repository, repository.at(revision), request.flag("blobs"))
    if wanted := request.query.get("expand", []) + request.query.get("expand[]", []):
        content = {name: value for name, value in content.items() if name in ("_id", "id", *wanted)}
    return Response.of(content)


@route("GET", "/api/{kinds}/{id}/revision/{revision}")
def info_at(hub: Hub, request: Request, kinds: str, id: str, revision: str) -> Response:
    return info(hub, request, kinds, id, revision)


def _info(hub: Hub, repository: Repository, commit: Commit, blobs: bool = False) -> dict:
    card = _card_of(commit)
    content = {
        "_id": object_id(f"{repository.kind} {repository.id}"),
        "id": repository.id,
        "author": repository.owner,
        "sha": commit.id,
        "private": repository.private,
        "gated": repository.gated,
        "disabled": False,
        "createdAt": repository.created,
        "lastModified": commit.date,
        "downloads": 0,
        "likes": 0,
        "tags": [tag for tag in card.get("tags") or [] if isinstance(tag, str)],
        "siblings": [_sibling(path, file, blobs) for path, file in sorted(commit.files.items())],
        "usedStorage": sum(file.size for file in commit.files.values()),
    }
    if card:
        content["cardData"] = card
    if repository.kind == "model":
        content["modelId"] = repository.id
        content |= {key: card[key] for key in ("pipeline_tag", "library_name", "model-index") if key in card}
    return content


def _card_of(commit: Commit) -> dict:
    """Return the card's metadata, which was checked at commit; dates become texts for JSON."""
    card = commit.files.get("README.md")
    metadata = read_metadata(card.content.decode()) if card and card.content else None
    return json.loads(json.dumps(metadata or {}, default=str))


def _sibling(path: str, file: File, blobs: bool) -> dict:
    content = {"rfilename": path}
    if blobs:
        content |= {"size": file.size, "blobId": file.oid}
        if file.sha256:
            content["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": file.pointer_size}
    return content


# Branches, tags, commits


@route("GET", "/api/{kinds}/{id}/refs")
def refs(hub: Hub, request: Request, kinds: str, id: str) -> Response:
    repository = _find(hub, request, kinds, id)

    def listed(names: dict[str, str], folder: str) -> list[dict]:
        return [{"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": at} for name, at in names.items()]

    branches, tags = listed(repository.branches, "heads"), listed(repository.tags, "tags")
    return Response.of({"branches": branches, "tags": tags, "converts": [], "pullRequests": []})


@route("GET", "/api/{kinds}/{id}/commits/{revision}")
def commits(hub: Hub, request: Request, kinds: str, id: str, revision: str) -> Response:
    history = _find(hub, request, kinds, id).history(revision)
    content = [
        {"id": one.id, "title": one.title, "message": one.message, "date": one.date, "authors": [{"user": one.author}]}
        for one in history
    ]
    return _page(request, content, 50)


@route("POST|DELETE", "/api/{kinds}/{id}/branch/{revision}")
def branch(hub: Hub, request: Request, kinds: str, id: str, revision: str) -> Response:
    repository = _find(hub, request, kinds, id, write=True)
    if request.method == "DELETE":
        hub.delete_branch(repository, revision)
    else:
        hub.add_branch(repository, revision, request.json.get("startingPoint") or "main")
    return Response.of({})


@route("POST|DELETE", "/api/{kinds}/{id}/tag/{revision}")
def tag(hub: Hub, request: Request, kinds: str, id: str, revision: str) -> Response:
    repository = _find(hub, request, kinds, id, write=True)
    if request.method == "DELETE":
        hub.delete_tag(repository, revision)
    else:
        hub.add_tag(repository, request.json["tag"], revision)
    return Response.of({})


# Reading files


def _entry(hub: Hub, path: str, file: File, commit: Commit | None) -> dict:
    content = {"type": "file", "path": path, "size": file.size, "oid": file.oid}
    if file.sha256:
        content["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": file.pointer_size}
        if file.sha256 in hub.xet_names:
            content["xetHash"] = hub.xet_names[file.sha256]
    return content | _last_commit(commit)


def _folder(path: str, commit: Commit | None) -> dict:
    return {"type": "directory", "path": path, "oid": object_id(path), "size": 0} | _last_commit(commit)


def _last_commit(commit: Commit | None) -> dict:
    return {"lastCommit": {"id": commit.id, "title": commit.title, "date": commit.date}} if commit else {}


@route("GET", "/api/{kinds}/{id}/tree/{revision}")
def tree(hub: Hub, request: Request, kinds: str, id: str, revision: str, path: str = "") -> Response:
    commit = _find(hub, request, kinds, id).at(revision)
    start = path.strip("/") + "/" if path.strip("/") else ""
    shown = commit if request.flag("expand") else None
    entries = {}
    for name, file in sorted(commit.files.items()):
        if not name.startswith(start):
            continue
        parts = name[len(start) :].split("/")
        folders = ["/".join(parts[:depth]) for depth in range(1, len(parts))]
        for folder in folders if request.flag("recursive") else folders[:1]:
            entries[start + folder] = _folder(start + folder, shown)
        if request.flag("recursive") or not folders:
            entries[name] = _entry(hub, name, file, shown)
    if start and not entries:
        raise HubError(
            404, f'{path} does not exist on "{revision}"', "EntryNotFound", headers={"X-Repo-Commit": commit.id}
        )
    return _page(request, list(entries.values()), 50 if shown else 1000)


@route("GET", "/api/{kinds}/{id}/tree/{revision}/{path}")
def subtree(hub: Hub, request: Request, kinds: str, id: str, revision: str, path: str) -> Response:
    return tree(hub, request, kinds, id, revision, path)


@route("POST", "/api/{kinds}/{id}/paths-info/{revision}")
def paths_info(hub: Hub, request: Request, kinds: str, id: str, revision: str) -> Response:
    commit = _find(hub, request, kinds, id).at(revision)
    if "json" in request.headers.get("content-type", ""):
        paths, expand = request.json["paths"], request.json.get("expand")
    else:
        form = parse_qs(request.body.decode())
        paths, expand = form.get("paths", []), form.get("expand", [""])[0].lower() == "true"
    shown, content = commit if expand else None, []
    for path in (path.strip("/") for path in paths):
        if path in commit.files:
            content.append(_entry(hub, path, commit.files[path], shown))
        elif any(name.startswith(path + "/") for name in commit.files):
            content.append(_folder(path, shown))
    return Response.of(content)


@route("GET|HEAD", "/{prefix}{id}/resolve/{revision}/{path}")
def resolve(hub: Hub, request: Request, prefix: str, id: str, revision: str, path: str) -> Response:
    kinds = prefix.rstrip("/") or "models"
    repository = _find(hub, request, kinds, id)
    hub.check_gate(repository, _token(hub, request))
    commit = repository.at(revision)
    file = commit.files.get(path)
    if file is None:
        raise HubError(404, "Entry not found", "EntryNotFound", headers={"X-Repo-Commit": commit.id})
    headers = {"X-Repo-Commit": commit.id, "ETag": f'"{file.sha256 or file.oid}"', "Accept-Ranges": "bytes"}
    if file.sha256 is None:
        return _bytes(request, file.content, headers)
    headers |= {"X-Linked-Size": str(file.size), "X-Linked-ETag": f'"{file.sha256}"'}
    if file.sha256 in hub.xet_names:
        refresh = f"{request.origin}/api/{kinds}/{repository.id}/xet-read-token/{commit.id}"
        headers |= {
            "X-Xet-Hash": hub.xet_names[file.sha256],
            "X-Xet-Refresh-Route": refresh,
            "Link": f'<{refresh}>; rel="xet-auth"',
        }
    # Large files lie on another host, as on the real Hub: clients must not take the token along.
    elsewhere = request.origin.replace("127.0.0.1", "localhost")
    address = f"{elsewhere}/cdn/{file.sha256}?signature={hub.sign(file.sha256)}"
    return Response(302, headers=headers | {"Location": address})


@route("GET|HEAD", "/cdn/{hash}")
def stored(hub: Hub, request: Request, hash: str) -> Response:
    if request.bearer:
        raise HubError(400, "Only one way to authorize is allowed: a token was sent with a signed address")
    hub.check_signature(hash, request.one("signature") or "")
    return _bytes(request, hub.objects[hash], {"ETag": f'"{hash}"', "Accept-Ranges": "bytes"})


def _bytes(request: Request, content: bytes, headers: dict[str, str]) -> Response:
    """Return the content, or the requested `Range` of it."""
    headers = {"Content-Type": "application/octet-stream"} | headers
    wanted = _range(request)
    if wanted is None:
        return Response(200, content, headers)
    first, last = wanted
    if first is None:
        first, last = max(0, len(content) - last), None
    if first >= len(content):
        raise HubError(416, "The range begins after the end", headers={"Content-Range": f"bytes */{len(content)}"})
    last = len(content) - 1 if last is None else min(last, len(content) - 1)
    headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
    return Response(206, content[first : last + 1], headers)


def _range(request: Request) -> tuple[int | None, int | None] | None:
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
    if match is None or match[0] == "bytes=-":
        return None
    return tuple(int(text) if text else None for text in match.groups())


# Writing files


@route("POST", "/api/validate-yaml")
def validate_card(hub: Hub, request: Request) -> Response:
    errors, warnings = check_card(request.json["content"], request.json.get("repoType") or "model")
    content = {"errors": [{"message": text} for text in errors], "warnings": [{"message": text} for text in warnings]}
    return Response.of(content, 400 if errors else 200)


@route("POST", "/api/{kinds}/{id}/preupload/{revision}")
def preupload(hub: Hub, request: Request, kinds: str, id: str, revision: str) -> Response:
    commit, content = _find(hub, request, kinds, id, write=True).at(revision), []
    for file in request.json["files"]:
        mode = hub.upload_mode(file["path"], file["size"], base64.b64decode(file.get("sample") or ""))
        entry = {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}
        if known := commit.files.get(file["path"]):
            entry["oid"] = known.sha256 or known.oid
        content.append(entry)
    return Response.of({"files": content, "commitOid": commit.id})


@route("POST", "/api/{kinds}/{id}/commit/{revision}")
def commit(hub: Hub, request: Request, kinds: str, id: str, revision: str) -> Response:
    repository = _find(hub, request, kinds, id, write=True)
    try:
        operations = [json.loads(line) for line in request.body.splitlines() if line.strip()]
        for operation in operations:
            if operation["key"] == "file":
                operation["value"]["content"] = base64.b64decode(operation["value"]["content"], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise HubError(400, f"The body is not a commit: {error}") from error
    made = hub.commit(repository, revision, operations, _token(hub, request))
    address = f"{_web(request, repository.kind, repository.id)}/commit/{made.id}"
    return Response.of({"success": True, "commitOid": made.id, "commitUrl": address, "hookOutput": ""})


@route("POST", "/{prefix}{id}.git/info/lfs/objects/batch")
def lfs_batch(hub: Hub, request: Request, prefix: str, id: str) -> Response:
    _find(hub, request, prefix.rstrip("/") or "models", id, write=True)
    content = []
    for one in request.json["objects"]:
        entry = {"oid": one["oid"], "size": one["size"]}
        if one["oid"] not in hub.objects:
            signature = f"signature={hub.sign(one['oid'])}"
            entry["actions"] = {
                "upload": {"href": f"{request.origin}/lfs/{one['oid']}?{signature}"},
                "verify": {
                    "href": f"{_web(request, KINDS[prefix.rstrip('/') or 'models'], id)}.git/info/lfs/objects/verify"
                },
            }
        content.append(entry)
    return Response.of({"transfer": "basic", "objects": content}, Content_Type="application/vnd.git-lfs+json")


@route("PUT", "/lfs/{hash}")
def lfs_upload(hub: Hub, request: Request, hash: str) -> Response:
    hub.check_signature(hash, request.one("signature") or "")
    hub.store(hash, request.body)
    return Response()


@route("POST", "/{prefix}{id}.git/info/lfs/objects/verify")
def lfs_verify(hub: Hub, request: Request, prefix: str, id: str) -> Response:
    _find(hub, request, prefix.rstrip("/") or "models", id, write=True)
    stored = hub.objects.get(request.json["oid"])
    if stored is None or len(stored) != request.json["size"]:
        raise HubError(404, "Not found: this object was not uploaded, or has another size")
    return Response.of({})


# Xet


@route("GET", "/api/{kinds}/{id}/xet-{scope}-token/{revision}")
def xet_token(hub: Hub, request: Request, kinds: str, id: str, scope: str, revision: str) -> Response:
    repository = _find(hub, request, kinds, id, write=scope == "write")
    hub.check_gate(repository, _token(hub, request))
    repository.at(revision)
    token, expires = hub.xet_token(scope), int(time.time()) + XET_TOKEN_LASTS
    headers = {
        "X-Xet-Cas-Url": request.origin,
        "X-Xet-Access-Token": token,
        "X-Xet-Token-Expiration": str(expires),
    }
    response = Response.of({"accessToken": token, "exp": expires, "casUrl": request.origin})
    response.headers |= headers
    return response


@route("POST", "/v1/xorbs/default/{hash}")
def xorb_upload(hub: Hub, request: Request, hash: str) -> Response:
    hub.check_xet_token(request.bearer, "write")
    return Response.of({"was_inserted": hub.xet.add_xorb(hash, request.body)})


@route("POST", "/v1/shards")
def shard_upload(hub: Hub, request: Request) -> Response:
    hub.check_xet_token(request.bearer, "write")
    hub.store_shard(request.body)
    return Response.of({"result": 1})


@route("GET", "/v1/chunks/{name}/{hash}")
def known_chunk(hub: Hub, request: Request, name: str, hash: str) -> Response:
    hub.check_xet_token(request.bearer, "read")
    raise HubError(404, "This chunk is not tracked")


@route("POST", "/v1/xorb-grants/default/{hash}")
@route("GET", "/v2/reconstructions/{hash}")
@route("POST", "/v2/shards")
def newer(hub: Hub, request: Request, hash: str = "") -> Response:
    """Reject newer protocols, which the client tries first, so that it uses the first version."""
    raise HubError(404, "Not found")


@route("GET", "/v1/reconstructions/{hash}")
def reconstruction(hub: Hub, request: Request, hash: str) -> Response:
    hub.check_xet_token(request.bearer, "read")
    first, last = _range(request) or (0, None)

    def address(xorb: str) -> str:
        return f"{request.origin}/xorbs/{xorb}?signature={hub.sign(xorb)}"

    return Response.of(hub.xet.reconstruction(hash, address, first or 0, last))


@route("GET", "/xorbs/{hash}")
def xorb(hub: Hub, request: Request, hash: str) -> Response:
    hub.check_signature(hash, request.one("signature") or "")
    return _bytes(request, hub.xet.xorbs[hash].packed, {})


# Collections


def _collection(collection: Collection, status: int = 200) -> Response:
    content = {
        "slug": collection.slug,
        "title": collection.title,
        "owner": {"name": collection.owner, "type": "user"},
        "items": collection.items,
        "lastUpdated": collection.updated,
        "position": 0,
        "private": collection.private,
        "theme": "green",
        "upvotes": 0,
        "description": collection.description,
    }
    return Response.of(content, status)


@route("GET", "/api/collections")
def list_collections(hub: Hub, request: Request) -> Response:
    token, owner, content = _token(hub, request), request.one("owner"), []
    for collection in hub.collections.values():
        try:
            hub.find_collection(collection.slug, token)
        except HubError:
            continue
        if owner in (None, collection.owner):
            listed = json.loads(_collection(collection).body)
            del listed["position"]  # which the client counts for itself
            content.append(listed)
    return _page(request, content, 100)


@route("POST", "/api/collections")
def add_collection(hub: Hub, request: Request) -> Response:
    body = request.json
    made = hub.add_collection(
        body["namespace"], body["title"], bool(body.get("private")), body.get("description"), _token(hub, request)
    )
    return _collection(made)


@route("GET", "/api/collections/{slug}")
def collection(hub: Hub, request: Request, slug: str) -> Response:
    return _collection(hub.find_collection(slug, _token(hub, request)))


@route("POST", "/api/collections/{slug}/items")
def add_item(hub: Hub, request: Request, slug: str) -> Response:
    item = request.json["item"]
    return _collection(
        hub.add_to_collection(slug, item["type"], item["id"], request.json.get("note"), _token(hub, request))
    )
