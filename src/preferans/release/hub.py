"""
Upload to the Hub in one commit, with permissions checked first.

The client retries only some of its calls, and commits twice if a reply is lost. So the state of the repository decides: it is read, the
difference is sent as one commit on that state, and after a fault the state is read again.
"""

import errno
import hashlib
import os
import random
import re
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.constants import HF_HUB_OFFLINE
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile

from ..errors import SOCKS, PreferansError
from ..hub_names import check_repo_id

_Result = TypeVar("_Result")

HUB_TRIES = 8
CHECK_TRIES = 4  # the user is waiting
LONGEST_WAIT = 60.0  # seconds
LONGEST_RETRY_AFTER = 600.0  # seconds
# hf-xet gives a status only in its message.
STATUS = re.compile(r"\bstatus (?:client|server) error \(([45]\d\d)\b")
# The same request may succeed after these. 409 and 412: another commit came in between.
PASSING = (408, 409, 412, 425, 429, 500, 502, 503, 504)


class Published(NamedTuple):
    """
    A finished upload.

    Attributes:
        address (`str`): Page of the repository.
        commit (`str`): Commit that holds the files.
        uploaded (`list[str]`): Files that were sent; empty if the repository had them all.
        removed (`list[str]`): Files of an earlier version that were removed.
    """

    address: str
    commit: str
    uploaded: list[str]
    removed: list[str]


def check_can_push(
    repo_id: str | None, repo_type: str = "dataset", private: bool = True, option: str = "--repo_id"
) -> None:
    """
    Check that a repository can be pushed to, before anything is computed.

    Args:
        repo_id (`str`, *optional*): `NAMESPACE/NAME`.
        repo_type (`str`, *optional*, defaults to `"dataset"`): `"dataset"` or `"model"`.
        private (`bool`, *optional*, defaults to `True`): Whether the repository must be private.
        option (`str`, *optional*, defaults to `"--repo_id"`): The option that gave the name, for messages.

    Raises:
        [`PreferansError`]: if the name is malformed, there is no valid token, the token has no write access, or the repository is public
        and should be private.
    """
    check_repo_id(repo_id, option)
    if HF_HUB_OFFLINE:
        raise PreferansError(f"{option} {repo_id}: HF_HUB_OFFLINE is set, so nothing can be pushed. Unset it.")
    if not get_token():
        raise PreferansError(
            f"{option} {repo_id}: you are not signed in. Create a token with write access on your settings page of the Hub, and run hf auth login."
        )
    api = HfApi()

    def find() -> Any:
        _check_role(api.whoami(), str(repo_id), repo_type, option)
        try:
            found = api.repo_info(repo_id, repo_type=repo_type)
        except RepositoryNotFoundError as error:
            if _status(error) != 404:  # the Hub also answers 401 to a token that was just revoked
                raise
            return None
        api.auth_check(repo_id, repo_type=repo_type, write=True)
        return found

    try:
        found = with_retries(find, "Checking your write access", tries=CHECK_TRIES)
    except PreferansError:
        raise
    except Exception as error:  # a revoked token, no network, a Hub that is down
        raise PreferansError(f"{option} {repo_id}: {cure_of(error)}") from None
    if found and private:
        _check_private(found, str(repo_id), option)
    elif found and found.private:
        print(
            f"{repo_id} is a private repository and stays private; you can make it public in its settings on the Hub."
        )


def _check_private(found: Any, repo_id: str, option: str = "--repo_id") -> None:
    if not found.private:
        raise PreferansError(
            f"{option} {repo_id}: this repository is already public. Add --public (hub_private_repo: false in a recipe) if everyone may see "
            "what you push, or name another repository."
        )


def _check_role(user: dict[str, Any], repo_id: str, repo_type: str, option: str) -> None:
    """Check that the token has write access. The Hub itself reports this only at the end of an upload."""
    namespace = repo_id.split("/")[0]
    roles = {user["name"]: "admin"} | {
        organisation["name"]: organisation.get("roleInOrg") or "write" for organisation in user.get("orgs", [])
    }
    if namespace not in roles:
        raise PreferansError(f"{option} {repo_id}: you have access to {', '.join(roles)}, but not to {namespace}.")
    if roles[namespace] == "read":
        raise PreferansError(
            f"{option} {repo_id}: you have only read access to {namespace}. Ask its owners, or push to {user['name']}."
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
            f"{option} {repo_id}: the token '{token.get('displayName', 'in use')}' has no write access there. Create one with the role write, "
            "and sign in with it: hf auth login."
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
    Upload files in one commit, and retry after faults.

    Args:
        files (`dict[str, Path]`): Local file by its name in the repository.
        repo_id (`str`): Checked by [`check_can_push`]. A missing repository is created.
        repo_type (`str`): `"dataset"` or `"model"`.
        message (`str`): Commit message.
        private (`bool`, *optional*, defaults to `True`): Visibility of a repository that is created.
        obsolete (`re.Pattern`, *optional*):
            Names of files that are deleted if they are in the repository and not in `files`: a shard of an older dataset would be loaded
            with the new ones. The repository's history keeps them.

    Raises:
        [`PreferansError`]: if the Hub refuses, or does not answer for some minutes. The same call resumes the upload.
    """
    api = HfApi()
    sent: list[str] = []
    removed: list[str] = []

    def commit() -> Published:
        address = api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True)
        repository = api.repo_info(repo_id, repo_type=repo_type)
        if private:
            _check_private(repository, repo_id)  # it may have been made public since the check
        head = repository.sha
        remote = _remote_checksums(api, repo_id, repo_type, head)
        missing = [name for name, path in files.items() if remote.get(name) not in _both_checksums(path)]
        gone = [name for name in remote if name not in files and obsolete and obsolete.fullmatch(name)]
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
        return with_retries(commit, f"Uploading to {repo_id}")
    except PreferansError:
        raise
    except Exception as error:
        raise PreferansError(
            f"{repo_id}: the upload failed. {cure_of(error)} The repository has all files or none; the same command resumes."
        ) from None


def _remote_checksums(api: HfApi, repo_id: str, repo_type: str, commit: str) -> dict[str, str]:
    """Checksum of each file in a repository: SHA-256 of large files, Git's of others."""
    tree = api.list_repo_tree(repo_id, recursive=True, revision=commit, repo_type=repo_type)
    return {
        entry.path: entry.lfs.sha256 if entry.lfs else entry.blob_id for entry in tree if isinstance(entry, RepoFile)
    }


def _both_checksums(path: Path) -> tuple[str, str]:
    """SHA-256 and Git's checksum of a file: the Hub may have either."""
    large, small = hashlib.sha256(), hashlib.sha1(f"blob {path.stat().st_size}\0".encode())
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            large.update(block)
            small.update(block)
    return large.hexdigest(), small.hexdigest()


def read_back(files: dict[str, Path], repo_id: str, repo_type: str, commit: str, folder: str | Path) -> None:
    """
    Download what was uploaded into an empty folder and compare it.

    Raises:
        [`PreferansError`]: if a file cannot be read or differs.
    """
    api = HfApi()
    download = partial(api.hf_hub_download, repo_id, repo_type=repo_type, revision=commit, local_dir=folder)
    for name, path in files.items():
        try:
            copy = with_retries(partial(download, filename=name), f"Reading {name} back")
        except Exception as error:
            raise PreferansError(
                f"{repo_id}: it was uploaded, but {name} could not be read back. {cure_of(error)} The same command checks again."
            ) from None
        if _both_checksums(Path(copy)) != _both_checksums(path):
            raise PreferansError(
                f"{repo_id}: {name} on the Hub differs from {path}. Do not use the repository; upload again, or contact the Hub."
            )


def with_retries(call: Callable[[], _Result], what: str, tries: int = HUB_TRIES) -> _Result:
    """
    Call until it succeeds. The pauses grow, or are those that the Hub sets with `Retry-After`.

    Args:
        call (`Callable`): Function that may be called again after an error.
        what (`str`): The task, for the message about a retry.
        tries (`int`, *optional*, defaults to `8`): Maximum number of calls; eight take about three minutes.

    Raises:
        `Exception`: the call's own, if a retry cannot help or no try is left.
    """
    for number in range(1, tries):
        try:
            return call()
        except Exception as error:
            if not _is_temporary(error):
                raise
            seconds = _retry_after(error)
            if seconds is None:
                seconds = min(2.0**number * random.uniform(0.75, 1.25), LONGEST_WAIT)
            print(f"{what}: {in_words(error)}. Retrying in {seconds:.0f} s ({number} of {tries - 1}).", flush=True)
        time.sleep(seconds)
    return call()


def _response(error: BaseException | None) -> Any:
    """The HTTP response of an error or of its cause: the upload of large files wraps it."""
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
    """Whether the disk, a quota or a file size limit is full. hf-xet gives the number only in its message."""
    number_in_text = re.search(r"\(os error (\d+)\)", str(error))
    number = getattr(error, "errno", None) or (int(number_in_text[1]) if number_in_text else None)
    return number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _is_temporary(error: BaseException) -> bool:
    """Whether a retry may help: a network error, or a status in `PASSING`."""
    status = _status(error)
    if status is not None:
        return status in PASSING
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__:  # why the file was not downloaded
        return _is_temporary(error.__cause__)
    if _disk_is_full(error) or isinstance(error, FileNotFoundError | PermissionError):
        return False
    # hf-xet, written in Rust, raises plain RuntimeErrors.
    return isinstance(error, ConnectionError | TimeoutError | RuntimeError) or type(error).__module__.startswith(
        "http"
    )


def _retry_after(error: BaseException) -> float | None:
    """Seconds in the Hub's `Retry-After`, at most ten minutes."""
    value = getattr(_response(error), "headers", {}).get("retry-after", "")
    if value.isdigit():
        return min(float(value), LONGEST_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return min(max(moment.timestamp() - time.time(), 0.0), LONGEST_RETRY_AFTER)


def in_words(error: BaseException) -> str:
    """An error in one short line, without tokens and without addresses, which may be signed."""
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
    """The cause of an error and its cure, in two sentences."""
    status, words = _status(error), in_words(error)
    if _disk_is_full(error):
        return f"The disk or your quota is full ({words}). Free some space: hf cache ls lists the cache."
    if status == 401:
        return f"The Hub does not accept the token ({words}). Sign in again: hf auth login. A token in HF_TOKEN takes precedence."
    if status == 403:
        return f"You have no permission ({words}). Use a token with the role write, or name your own repository."
    if status == 404:
        return f"The Hub cannot find it ({words}). It may have been deleted or renamed."
    if status == 413:
        return f"A file is too large for the Hub ({words}). Split it: datasets into several parquet files, models into shards."
    if status == 400:
        return f"The Hub rejects the upload ({words}). If the card is the cause, fix its YAML header."
    if status in (409, 412):
        return f"Someone else keeps changing the repository ({words}). Wait until they have finished."
    if status == 429:
        return f"The Hub is rate-limiting you ({words}). Try again in an hour."
    if status is not None and status >= 500:
        return f"The Hub is down ({words}). Try again later; https://status.huggingface.co shows its state."
    if _is_temporary(error):
        return f"The connection to the Hub failed ({words}). Check the network, and try again."
    if isinstance(error, FileNotFoundError | PermissionError):
        return f"A local file cannot be read or written ({words})."
    if isinstance(error, ImportError) and "socksio" in words:
        return SOCKS
    return f"It ended with {type(error).__name__} ({words})."


def add_to_collection(repo_id: str, repo_type: str, title: str, private: bool = True) -> str:
    """
    Add a repository to a collection of its namespace.

    Args:
        repo_id (`str`), repo_type (`str`): The repository.
        title (`str`): Title of the collection, which is created if it does not exist.
        private (`bool`, *optional*, defaults to `True`): Visibility of a collection that is created.

    Returns:
        `str`: address of the collection.

    Raises:
        [`PreferansError`]: if the Hub refuses.
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
            f"--collection {title}: {repo_id} is published, but could not be added. {cure_of(error)}"
        ) from None
