"""Publishing to the Hub: what can fail is asked before the work, not after it."""

from .errors import PreferansError


def check_can_push(repo_id: str | None) -> None:
    """
    Check that a repository could be pushed to, before anything is computed.

    Args:
        repo_id (`str`, *optional*):
            `NAMESPACE/NAME`.

    Raises:
        [`PreferansError`]: when the name is malformed, there is no valid token, or the token may not write there. A
        read-only token is not refused by the Hub before the upload itself.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    if not repo_id or repo_id.count("/") != 1:
        raise PreferansError(
            f"--repo_id {repo_id}: name the repository as NAMESPACE/NAME, such as anna/oasst1-ru-preferences."
        )
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise PreferansError(f"--repo_id {repo_id}: the Hub does not take this name ({error}).") from None
    try:
        user = HfApi().whoami()
    except Exception as error:  # no token, a revoked token, no network: each ends here, before the work
        raise PreferansError(
            f"--push_to_hub: the Hub does not recognise you ({' '.join(str(error).split()):.200}). Sign in with `hf auth login` "
            "and a token that may write."
        ) from None
    role = user.get("auth", {}).get("accessToken", {}).get("role")
    if role == "read":
        raise PreferansError(
            "--push_to_hub: the token may only read. Make one with the role write, and sign in with it."
        )
    namespaces = [user["name"], *(organisation["name"] for organisation in user.get("orgs", []))]
    namespace = repo_id.split("/")[0]
    if namespace not in namespaces:
        raise PreferansError(f"--repo_id {repo_id}: you may push to {', '.join(namespaces)}, and not to {namespace}.")


def push_dataset(folder: str, repo_id: str) -> str:
    """
    Upload a dataset folder in one commit, to a private repository that is made if there is none.

    Args:
        folder (`str`):
            Dataset folder in the Hub's layout.
        repo_id (`str`):
            `NAMESPACE/NAME`, checked by [`check_can_push`].

    Returns:
        `str`: address of the dataset.

    Raises:
        [`PreferansError`]: when the Hub refuses it. The folder stays, and the same command tries again.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    try:
        address = api.create_repo(repo_id, repo_type="dataset", private=True, exist_ok=True)
        api.upload_folder(
            repo_id=repo_id, repo_type="dataset", folder_path=folder, commit_message="Upload preference dataset"
        )
    except (HfHubHTTPError, OSError) as error:
        raise PreferansError(
            f"--push_to_hub: the upload to {repo_id} failed ({' '.join(str(error).split()):.300}). The dataset is in {folder}; the same "
            "command tries again."
        ) from None
    return str(address)
