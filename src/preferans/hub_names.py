"""Names on the Hub: their form, their revision, and their commit in the cache."""

import re
from pathlib import Path

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id

from .errors import SOCKS, PreferansError


def split_revision(name: str) -> tuple[str, str | None]:
    """
    Split `NAMESPACE/NAME@REVISION` into name and revision. An `@` in the name of an existing folder belongs to the folder.
    """
    if "@" not in name or Path(name).exists():
        return name, None
    before, revision = name.rsplit("@", 1)
    return before, revision or None


def commit_in_cache(name: str, revision: str | None = None) -> str | None:
    """Commit of a Hub model whose configuration was just read by branch or tag; `None` for a folder."""
    if Path(name).exists():
        return None
    found = try_to_load_from_cache(name, "config.json", revision=revision)
    return Path(found).parent.name if isinstance(found, str) else None


def is_hub_id(name: str) -> bool:
    """Whether the name of a model or dataset has the form of a Hub id and is not a local folder."""
    return bool(re.fullmatch(r"[\w-][\w.-]*/[\w.-]+(@\S+)?", name)) and not Path(name).exists() and name.split("/")[0] not in (
        "cache", "data", "runs", "models",
    )  # fmt: skip


def can_be_on_hub(name: str) -> bool:
    """Whether a name can be a Hub id, with or without a namespace and a revision. A path such as `data/pairs` cannot."""
    return is_hub_id(name) or bool(re.fullmatch(r"[\w-][\w.-]*(@\S+)?", name))


def unreadable(name: str, error: BaseException, kind: str = "dataset") -> str:
    """
    Describe why a dataset or model cannot be read from the Hub, and what to do.

    Args:
        name (`str`): Its id, without a revision.
        error (`BaseException`): What the client raised.
        kind (`str`, *optional*, defaults to `"dataset"`): `"dataset"` or `"model"`.
    """
    chain, words = [error], str(error)
    while (deeper := chain[-1].__cause__ or chain[-1].__context__) and deeper not in chain:
        chain.append(deeper)
    reason = f"{type(error).__name__}: {' '.join(words.split()):.300}"
    kinds = {kind.__name__ for one in chain for kind in type(one).__mro__}
    statuses = [
        one.response.status_code for one in chain if isinstance(one, HfHubHTTPError) and one.response is not None
    ]
    page = f"{constants.ENDPOINT}/{'datasets/' if kind == 'dataset' else ''}{name}"
    if any(isinstance(one, ImportError) and "socksio" in str(one) for one in chain):
        return SOCKS
    if constants.HF_HUB_OFFLINE:
        return (
            f"there is no such file or folder, HF_HUB_OFFLINE is set, and the {kind} is not in the cache. Unset HF_HUB_OFFLINE once to "
            f"download it ({reason})."
        )
    if "gated" in words.lower():
        return f"the {kind} is gated. Request access on its page, {page}, then sign in: hf auth login."
    if "Revision" in words or "RevisionNotFoundError" in kinds:
        return f"the {kind} has no such revision ({reason}). Correct the part after '@'."
    if kinds & {"DatasetNotFoundError", "RepositoryNotFoundError"} or set(statuses) & {401, 403, 404}:
        return (
            f"there is no such file or folder here, and on the Hub there is no such {kind}, or it is private ({reason}). Correct the name; for "
            "a private one, sign in: hf auth login."
        )
    if kinds & {"TransportError", "ConnectionError", "LocalEntryNotFoundError"} or any(
        status >= 500 for status in statuses
    ):
        return (
            f"there is no such file or folder here, and the Hub at {constants.ENDPOINT} cannot be reached ({reason}). Check the network, "
            "HTTPS_PROXY and HF_ENDPOINT."
        )
    return f"the {kind} cannot be read from the Hub ({reason})."


def check_repo_id(repo_id: str | None, option: str = "--repo_id") -> None:
    """
    Check the form of a repository's name.

    Raises:
        [`PreferansError`]: if it is not NAMESPACE/NAME with characters that the Hub allows.
    """
    if not repo_id or repo_id.count("/") != 1 or not all(repo_id.split("/")):
        raise PreferansError(
            f"{option} {repo_id}: name the repository as NAMESPACE/NAME, such as anna/oasst1-ru-preferences."
        )
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise PreferansError(f"{option} {repo_id}: the Hub does not allow this name ({error}).") from None
