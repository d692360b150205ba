"""
The Hub: what can fail is asked before the work, and an upload is one commit that faults neither lose nor double.

The client retries some of its calls and not others, and a reply that is lost on its way makes it commit twice. So here the state of the
repository decides: it is read, what differs is sent as one commit on that state, and after a fault it is read again.
"""

import errno
import hashlib
import os
import random
import re
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.constants import HF_HUB_OFFLINE
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile

from ..errors import PreferansError
from ..hub_names import check_repo_id

_Result = TypeVar("Result")

HUB_TRIES = 8
CHECK_TRIES = 4  # before the work somebody sits and waits
LONGEST_WAIT = 60.0  # seconds
LONGEST_ASKED = 600.0  # seconds, that Retry-After may ask for
# How hf-xet words a status, which it has in no other form.
STATUS = re.compile(r"\bstatus (?:client|server) error \(([45]\d\d)\b")
# Statuses after which the same request may succeed. 409 and 412: somebody else has committed in between.
PASSING = (408, 409, 412, 425, 429, 500, 502, 503, 504)


class Published(NamedTuple):
    """
    An upload that was read back.

    Attributes:
        address (`str`): Page of the repository.
        commit (`str`): Commit that holds the files.
        uploaded (`list[str]`): Files that were sent; empty when the repository had them all.
        removed (`list[str]`): Files of an earlier version that were taken out.
    """

    address: str
    commit: str
    uploaded: list[str]
    removed: list[str]


def check_can_push(
    repo_id: str | None, repo_type: str = "dataset", private: bool = True, option: str = "--repo_id"
) -> None:
    """
    Check that a repository could be pushed to, before anything is computed.

    Args:
        repo_id (`str`, *optional*):
            `NAMESPACE/NAME`.
        repo_type (`str`, *optional*, defaults to `"dataset"`):
            `"dataset"` or `"model"`.
        private (`bool`, *optional*, defaults to `True`):
            Whether only its owners shall see it.
        option (`str`, *optional*, defaults to `"--repo_id"`):
            Where the name was given.

    Raises:
        [`PreferansError`]: when the name is malformed, there is no valid token, the token may not write there, or the repository is public
        and was to be private.
    """

    check_repo_id(repo_id, option)
    if HF_HUB_OFFLINE:
        raise PreferansError(f"{option} {repo_id}: HF_HUB_OFFLINE is set, so nothing can be pushed. Unset it.")
    if not get_token():
        raise PreferansError(
            f"{option} {repo_id}: you are not signed in. Make a token that may write on your page of the Hub, and run hf auth login."
        )
    api = HfApi()

    def find() -> Any:
        _check_role(api.whoami(), str(repo_id), repo_type, option)
        try:
            found = api.repo_info(repo_id, repo_type=repo_type)
        except RepositoryNotFoundError as error:
            if _status(error) != 404:  # the Hub answers 401 alike to a token that was revoked just now
                raise
            return None
        api.auth_check(repo_id, repo_type=repo_type, write=True)
        return found

    try:
        found = with_retries(find, "Asking the Hub whether you may push", tries=CHECK_TRIES)
    except PreferansError:
        raise
    except Exception as error:  # a revoked token, no network, a Hub that is down: each ends here, before the work
        raise PreferansError(f"{option} {repo_id}: {cure_of(error)}") from None
    if found and private:
        _check_private(found, str(repo_id), option)
    elif found and found.private:
        print(f"{repo_id} is a private repository and stays one; its settings on the Hub make it public.")


def _check_private(found: Any, repo_id: str, option: str = "--repo_id") -> None:
    if not found.private:
        raise PreferansError(
            f"{option} {repo_id}: this repository is public already. Say --public (hub_private_repo: false in a recipe) if the world may see "
            "what you push, or name another one."
        )


def _check_role(user: dict[str, Any], repo_id: str, repo_type: str, option: str) -> None:
    """Refuse a token that could not write: the Hub itself says so only at the end of an upload."""
    namespace = repo_id.split("/")[0]
    roles = {user["name"]: "admin"} | {
        organisation["name"]: organisation.get("roleInOrg") or "write" for organisation in user.get("orgs", [])
    }
    if namespace not in roles:
        raise PreferansError(f"{option} {repo_id}: you may push to {', '.join(roles)}, and not to {namespace}.")
    if roles[namespace] == "read":
        raise PreferansError(
            f"{option} {repo_id}: in {namespace} you may only read. Ask its owners, or push to {user['name']}."
        )
    token = user.get("auth", {}).get("accessToken", {})
    writes = token.get("role") != "read"
    if token.get("role") == "fineGrained":
        places = {("user", namespace), ("org", namespace), (repo_type, repo_id)}
        writes = any(
            "repo.write" in scope["permissions"]
            and (scope["entity"].get("type"), scope["entity"].get("name")) in places
            for scope in token.get("fineGrained", {}).get("scoped", [])
        )
    if not writes:
        raise PreferansError(
            f"{option} {repo_id}: the token '{token.get('displayName', 'in use')}' may not write there. Make one with the role write, and sign "
            "in with it: hf auth login."
        )


def upload(
    files: dict[str, Path],
    repo_id: str,
    repo_type: str,
    message: str,
    private: bool = True,
    obsolete: re.Pattern | None = None,
) -> Published:
    """
    Bring a repository to hold these files, in one commit, through faults.

    Args:
        files (`dict[str, Path]`):
            File on the disk by its name in the repository.
        repo_id (`str`):
            Checked by [`check_can_push`]. A repository that is not there is made.
        repo_type (`str`):
            `"dataset"` or `"model"`.
        message (`str`):
            Of the commit.
        private (`bool`, *optional*, defaults to `True`):
            Of a repository that is made.
        obsolete (`re.Pattern`, *optional*):
            Names of files that go when they are in the repository and not in `files`: a shard of an older dataset would be loaded
            with the new ones. The repository's history keeps them.

    Returns:
        [`Published`].

    Raises:
        [`PreferansError`]: when the Hub refuses, or does not answer for some minutes. What was sent stays there, and the same call goes on.
    """

    api = HfApi()
    sent: list[str] = []
    removed: list[str] = []

    def bring() -> Published:
        address = api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True)
        found = api.repo_info(repo_id, repo_type=repo_type)
        if private:
            _check_private(found, repo_id)  # it may have been opened since the check
        head = found.sha
        there = _files_there(api, repo_id, repo_type, head)
        missing = [name for name, path in files.items() if there.get(name) not in _marks(path)]
        gone = [name for name in there if name not in files and obsolete and obsolete.fullmatch(name)]
        if missing or gone:
            operations = [CommitOperationAdd(name, files[name]) for name in missing]
            operations += [CommitOperationDelete(name) for name in gone]
            sent.extend(name for name in missing if name not in sent)
            removed.extend(name for name in gone if name not in removed)
            head = api.create_commit(
                repo_id, operations, commit_message=message, repo_type=repo_type, parent_commit=head
            ).oid
        return Published(str(address), head, sent, removed)

    try:
        return with_retries(bring, f"Uploading to {repo_id}")
    except PreferansError:
        raise
    except Exception as error:
        raise PreferansError(
            f"{repo_id}: the upload failed. {cure_of(error)} The repository holds all of it or nothing; the same command goes on."
        ) from None


def _files_there(api: HfApi, repo_id: str, repo_type: str, commit: str) -> dict[str, str]:
    """Checksum of each file in a repository: SHA-256 of large ones, Git's own of others."""

    tree = api.list_repo_tree(repo_id, recursive=True, revision=commit, repo_type=repo_type)
    return {
        entry.path: entry.lfs.sha256 if entry.lfs else entry.blob_id for entry in tree if isinstance(entry, RepoFile)
    }


def _marks(path: Path) -> tuple[str, str]:
    """Both checksums of a file, as the Hub may hold it either way."""
    large, small = hashlib.sha256(), hashlib.sha1(f"blob {path.stat().st_size}\0".encode())
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            large.update(block)
            small.update(block)
    return large.hexdigest(), small.hexdigest()


def read_back(files: dict[str, Path], repo_id: str, repo_type: str, commit: str, folder: str | Path) -> None:
    """
    Download what was uploaded into an empty folder and compare it.

    Args:
        files (`dict[str, Path]`):
            As in [`upload`].
        repo_id (`str`), repo_type (`str`), commit (`str`):
            Where they lie.
        folder (`str` or `Path`):
            Empty folder.

    Raises:
        [`PreferansError`]: when a file cannot be read or is another one.
    """

    api = HfApi()
    for name, path in files.items():
        try:
            found = with_retries(
                lambda name=name: api.hf_hub_download(
                    repo_id, name, repo_type=repo_type, revision=commit, local_dir=folder
                ),
                f"Reading {name} back",
            )
        except Exception as error:
            raise PreferansError(
                f"{repo_id}: it was uploaded, and {name} could not be read back. {cure_of(error)} The same command looks again."
            ) from None
        if _marks(Path(found)) != _marks(path):
            raise PreferansError(
                f"{repo_id}: {name} reads back as another file than {path}. Do not trust the repository; upload again, or ask the Hub."
            )


def with_retries(call: Callable[[], _Result], what: str, tries: int = HUB_TRIES) -> _Result:
    """
    Call until it succeeds, waiting longer each time, or as long as the Hub says with `Retry-After`.

    Args:
        call (`Callable`):
            May be called again after it failed.
        what (`str`):
            What is being done, for the line that tells of a retry.
        tries (`int`, *optional*, defaults to `8`):
            Calls at most. With pauses of up to a minute eight take some three minutes.

    Returns:
        `Any`: what the call returns.

    Raises:
        `Exception`: the call's own, when trying again is no use or the tries are used up.
    """
    for number in range(1, tries):
        try:
            return call()
        except Exception as error:
            if not _may_pass(error):
                raise
            seconds = _retry_after(error)
            if seconds is None:
                seconds = min(2.0**number * random.uniform(0.75, 1.25), LONGEST_WAIT)
            print(f"{what}: {in_words(error)}. Trying again in {seconds:.0f} s ({number} of {tries - 1}).", flush=True)
        time.sleep(seconds)
    return call()


def _response(error: BaseException | None) -> Any:
    """The answer behind an error. The upload of large files hides it behind a plain one."""
    while error is not None:
        response = getattr(error, "response", None)
        if response is not None:
            return response
        error = error.__cause__
    return None


def _status(error: BaseException) -> int | None:
    response = _response(error)
    if response is not None:
        return response.status_code
    found = STATUS.search(str(error))
    return int(found[1]) if found else None


def _disk_is_full(error: BaseException) -> bool:
    """Also where a quota or the file system sets the end. hf-xet gives the number in words."""
    said = re.search(r"\(os error (\d+)\)", str(error))
    number = getattr(error, "errno", None) or (int(said[1]) if said else None)
    return number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _may_pass(error: BaseException) -> bool:
    """Whether trying again may help: the network, or a status of those that pass."""

    status = _status(error)
    if status is not None:
        return status in PASSING
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__:  # what kept the client from asking for the file
        return _may_pass(error.__cause__)
    if _disk_is_full(error) or isinstance(error, FileNotFoundError | PermissionError):
        return False
    # hf-xet, written in Rust, raises plain RuntimeErrors.
    return isinstance(error, ConnectionError | TimeoutError | RuntimeError) or type(error).__module__.startswith(
        "http"
    )


def _retry_after(error: BaseException) -> float | None:
    """Seconds that the Hub asks to wait, at most ten minutes."""
    value = getattr(_response(error), "headers", {}).get("retry-after", "")
    if value.isdigit():
        return min(float(value), LONGEST_ASKED)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return min(max(moment.timestamp() - time.time(), 0.0), LONGEST_ASKED)


def in_words(error: BaseException) -> str:
    """An error in one short line, without addresses, which may be signed, and without a token."""

    status = _status(error)
    if status is not None:
        message = getattr(error, "server_message", None) or getattr(error.__cause__, "server_message", None)
        phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
        text = f"{status} {phrase}".strip() + (f": {message}" if message else "")
    else:
        text = re.sub(r"https?://\S+", "…", str(error)) or type(error).__name__
    text = " ".join(text.split())
    for secret in {get_token(), os.environ.get("HF_TOKEN")} - {None, ""}:
        text = text.replace(str(secret), "hf_***")
    return f"{text:.300}".rstrip(". ")


def cure_of(error: BaseException) -> str:
    """What went wrong and what to do about it, in two sentences."""
    status, words = _status(error), in_words(error)
    if _disk_is_full(error):
        return f"The disk is full, or your share of it ({words}). Free some space: hf cache ls shows what the cache holds."
    if status == 401:
        return f"The Hub does not accept the token ({words}). Sign in again: hf auth login. A token in HF_TOKEN goes before that."
    if status == 403:
        return f"You may not do this there ({words}). Take a token with the role write, or name a repository of yours."
    if status == 404:
        return f"The Hub does not find it ({words}). It may have been deleted or renamed in the meantime."
    if status == 413:
        return f"The Hub finds a file too large ({words}). Split it: datasets into several parquet files, models into shards."
    if status == 400:
        return f"The Hub refuses what was sent ({words}). If it is the card, mend the lines between its dashes."
    if status in (409, 412):
        return f"Somebody else goes on changing the repository ({words}). Wait until they are done."
    if status == 429:
        return f"The Hub asks to be left in peace for a while ({words}). Try again in an hour."
    if status is not None and status >= 500:
        return (
            f"The Hub is out of order ({words}). Try again later; https://status.huggingface.co tells when it is well."
        )
    if _may_pass(error):
        return f"The connection to the Hub failed ({words}). Look whether the network is there, and try again."
    if isinstance(error, FileNotFoundError | PermissionError):
        return f"A file here cannot be read or written ({words})."
    return f"It ended with {type(error).__name__} ({words})."


def add_to_collection(repo_id: str, repo_type: str, title: str, private: bool = True) -> str:
    """
    Put a repository into a collection of its namespace, where the parts of one work stand together.

    Args:
        repo_id (`str`), repo_type (`str`):
            What to add. What is in it already stays once.
        title (`str`):
            Of the collection, which is made if there is none.
        private (`bool`, *optional*, defaults to `True`):
            Of a collection that is made.

    Returns:
        `str`: address of the collection.

    Raises:
        [`PreferansError`]: when the Hub refuses.
    """

    api, namespace = HfApi(), repo_id.split("/")[0]

    def add() -> str:
        known = next((found for found in api.list_collections(owner=namespace) if found.title == title), None)
        collection = known or api.create_collection(title, namespace=namespace, private=private, exists_ok=True)
        return api.add_collection_item(collection.slug, repo_id, repo_type, exists_ok=True).url

    try:
        return with_retries(add, f"Adding to the collection {title}")
    except Exception as error:
        raise PreferansError(
            f"--collection {title}: {repo_id} is published, and was not added. {cure_of(error)}"
        ) from None
