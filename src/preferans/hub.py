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
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .errors import PreferansError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Result = TypeVar("Result")

TRIES = 8
LONGEST_WAIT = 60.0  # seconds
# Statuses after which the same request may succeed. 409 and 412: somebody else has committed in between.
PASSING = (408, 409, 412, 425, 429, 500, 502, 503, 504)


class Published(NamedTuple):
    """
    An upload that was read back.

    Attributes:
        address (`str`): Page of the repository.
        commit (`str`): Commit that holds the files.
        uploaded (`list[str]`): Files that were sent; empty when the repository had them all.
    """

    address: str
    commit: str
    uploaded: list[str]


def check_repo_id(repo_id: str | None, option: str = "--repo_id") -> None:
    """
    Check the form of a repository's name.

    Raises:
        [`PreferansError`]: when it is not NAMESPACE/NAME in the Hub's letters.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    if not repo_id or repo_id.count("/") != 1 or not all(repo_id.split("/")):
        raise PreferansError(
            f"{option} {repo_id}: name the repository as NAMESPACE/NAME, such as anna/oasst1-ru-preferences."
        )
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise PreferansError(f"{option} {repo_id}: the Hub does not take this name ({error}).") from None


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
    from huggingface_hub import HfApi
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    check_repo_id(repo_id, option)
    if HF_HUB_OFFLINE:
        raise PreferansError(f"{option} {repo_id}: HF_HUB_OFFLINE is set, so nothing can be pushed. Unset it.")
    api = HfApi()
    try:
        user = with_retries(api.whoami, "asking the Hub who you are", tries=3)
    except Exception as error:  # no token, a revoked token, no network: each ends here, before the work
        raise PreferansError(
            f"{option} {repo_id}: the Hub does not recognise you ({in_words(error)}). Sign in with `hf auth login` and a token that may write."
        ) from None
    _check_role(user, str(repo_id), option)
    try:
        found = with_retries(lambda: api.repo_info(repo_id, repo_type=repo_type), "asking for the repository", tries=3)
    except RepositoryNotFoundError:
        return
    except (HfHubHTTPError, OSError) as error:
        raise PreferansError(f"{option} {repo_id}: the Hub does not answer for it ({in_words(error)}).") from None
    if private and not found.private:
        raise PreferansError(
            f"{option} {repo_id}: this repository is public already. Say --public (hub_private_repo: false in a recipe) if the world may see "
            "it, or name another one."
        )


def _check_role(user: dict[str, Any], repo_id: str, option: str) -> None:
    """Refuse a token that could not write: the Hub itself says so only at the end of an upload."""
    namespace = repo_id.split("/")[0]
    roles = {user["name"]: "admin"} | {
        organisation["name"]: organisation.get("roleInOrg") or "write" for organisation in user.get("orgs", [])
    }
    if namespace not in roles:
        raise PreferansError(f"{option} {repo_id}: you may push to {', '.join(roles)}, and not to {namespace}.")
    token = user.get("auth", {}).get("accessToken", {})
    writes = token.get("role") != "read"
    if token.get("role") == "fineGrained":
        scopes = token.get("fineGrained", {}).get("scoped", [])
        writes = any(
            "repo.write" in scope["permissions"] and scope["entity"].get("name") in (namespace, repo_id)
            for scope in scopes
        )
    if not writes:
        raise PreferansError(
            f"{option} {repo_id}: the token '{token.get('displayName', 'in use')}' may not write there. Make one with the role write, and sign "
            "in with it: hf auth login."
        )
    if roles[namespace] == "read":
        raise PreferansError(
            f"{option} {repo_id}: in {namespace} you may only read. Ask its owners, or push to {user['name']}."
        )


def upload(
    files: dict[str, Path],
    repo_id: str,
    repo_type: str,
    message: str,
    private: bool = True,
    obsolete: Callable[[str], bool] = lambda name: False,
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
        obsolete (`Callable`, *optional*):
            Says of a file's name whether it goes when it is in the repository and not in `files`: a shard of an older dataset
            would be loaded with the new ones.

    Returns:
        [`Published`].

    Raises:
        [`PreferansError`]: when the Hub refuses, or does not answer for some minutes. What was sent stays there, and the same call goes on.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi()
    sent: list[str] = []

    def bring() -> Published:
        address = api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True)
        head = api.repo_info(repo_id, repo_type=repo_type).sha
        there = _files_there(api, repo_id, repo_type, head)
        missing = [name for name, path in files.items() if there.get(name) not in _marks(path)]
        gone = [name for name in there if name not in files and obsolete(name)]
        if missing or gone:
            operations = [CommitOperationAdd(name, files[name]) for name in missing]
            operations += [CommitOperationDelete(name) for name in gone]
            sent.extend(name for name in missing if name not in sent)
            head = api.create_commit(
                repo_id, operations, commit_message=message, repo_type=repo_type, parent_commit=head
            ).oid
        return Published(str(address), head, sent)

    try:
        return with_retries(bring, f"uploading to {repo_id}")
    except Exception as error:
        raise PreferansError(
            f"{repo_id}: the upload failed. {cure_of(error)} The same command goes on; nothing is sent twice."
        ) from None


def _files_there(api: "HfApi", repo_id: str, repo_type: str, commit: str) -> dict[str, str]:
    """Checksum of each file in a repository: SHA-256 of large ones, Git's own of others."""
    from huggingface_hub.hf_api import RepoFile

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
    from huggingface_hub import HfApi

    api = HfApi()
    for name, path in files.items():
        try:
            found = with_retries(
                lambda name=name: api.hf_hub_download(
                    repo_id, name, repo_type=repo_type, revision=commit, local_dir=folder
                ),
                f"reading {name} back",
            )
        except Exception as error:
            raise PreferansError(
                f"{repo_id}: it was uploaded, and {name} could not be read back. {cure_of(error)}"
            ) from None
        if _marks(Path(found)) != _marks(path):
            raise PreferansError(
                f"{repo_id}: {name} reads back as another file than {path}. Do not trust the repository; upload again, or ask the Hub."
            )


def with_retries(
    call: Callable[[], Result], what: str, tries: int = TRIES, wait: Callable[[float], None] | None = None
) -> Result:
    """
    Call until it succeeds, waiting longer each time, as long as the Hub says with `Retry-After`.

    Args:
        call (`Callable`):
            May be called again after it failed.
        what (`str`):
            What is being done, for the line that tells of a retry.
        tries (`int`, *optional*, defaults to `8`):
            Calls at most; with pauses of up to a minute these are some three minutes.
        wait (`Callable`, *optional*):
            Sleeps for so many seconds.

    Returns:
        `Any`: what the call returns.

    Raises:
        `Exception`: the call's own, when trying again is no use or the tries are used up.
    """
    for number in range(1, tries + 1):
        try:
            return call()
        except Exception as error:
            if number == tries or not _may_pass(error):
                raise
            seconds = _retry_after(error) or min(2.0**number * random.uniform(0.75, 1.25), LONGEST_WAIT)
            print(f"{what}: {in_words(error)}. Trying again in {seconds:.0f} s ({number} of {tries - 1}).", flush=True)
            (wait or time.sleep)(seconds)
    raise AssertionError("unreachable")


def _status(error: BaseException) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is None and isinstance(error, ConnectionError | RuntimeError):
        # hf-xet, written in Rust, and the upload of large files give the status in words only.
        found = re.search(r"\b([45]\d\d)\b", str(error))
        status = int(found[1]) if found else None
    return status


def _may_pass(error: BaseException) -> bool:
    """Whether trying again may help: the network, or a status of those that pass."""
    status = _status(error)
    if status is not None:
        return status in PASSING
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.ENOENT):
        return False
    module = type(error).__module__.split(".")[0]
    return isinstance(error, ConnectionError | TimeoutError | RuntimeError) or module.startswith("http")


def _retry_after(error: BaseException) -> float | None:
    """Seconds that the Hub asks to wait, at most ten minutes."""
    value = getattr(getattr(error, "response", None), "headers", {}).get("retry-after", "")
    return min(float(value), 600.0) if value.replace(".", "", 1).isdigit() else None


def in_words(error: BaseException) -> str:
    """An error in one short line, without a token that may stand in it."""
    from huggingface_hub import get_token

    text = " ".join(str(error).split()) or type(error).__name__
    for secret in {get_token(), os.environ.get("HF_TOKEN")} - {None, ""}:
        text = text.replace(str(secret), "hf_***")
    return f"{text:.300}"


def cure_of(error: BaseException) -> str:
    """What went wrong and what to do about it, in two sentences."""
    status, words = _status(error), in_words(error)
    if status == 401:
        return f"The token is no longer valid ({words}). Sign in again: hf auth login."
    if status == 403:
        return f"You may not do this there ({words}). Take a token with the role write, or name a repository of yours."
    if status == 404:
        return f"The Hub does not find it ({words}). It may have been deleted or renamed in the meantime."
    if status == 413:
        return f"The Hub finds a file too large ({words}). Datasets are best in several parquet files below 5 GB."
    if status == 400:
        return f"The Hub refuses what was sent ({words}). If it is the card, look at the lines between its dashes."
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "The disk is full. Free some space (hf cache ls shows what the cache holds)."
    return f"The Hub did not answer as it should ({words})."


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
    from huggingface_hub import HfApi

    api, namespace = HfApi(), repo_id.split("/")[0]

    def add() -> str:
        known = next((found for found in api.list_collections(owner=namespace) if found.title == title), None)
        collection = known or api.create_collection(title, namespace=namespace, private=private, exists_ok=True)
        return api.add_collection_item(collection.slug, repo_id, repo_type, exists_ok=True).url

    try:
        return with_retries(add, f"adding to the collection {title}")
    except Exception as error:
        raise PreferansError(
            f"--collection {title}: {repo_id} is published, and was not added. {cure_of(error)}"
        ) from None
