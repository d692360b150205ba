"""Names on the Hub: their form, their revision, and their commit in the cache."""

import re
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from .errors import PreferansError


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
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+(@\S+)?", name)) and not Path(name).exists() and name.split("/")[0] not in (
        "cache", "data", "runs", "models",
    )  # fmt: skip


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
