"""The form of names on the Hub, and why one cannot be read."""

import re

import httpx2
import pytest
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from preferans.errors import PreferansError
from preferans.hub_names import can_be_on_hub, check_repo_id, commit_in_cache, is_hub_id, split_revision, unreadable


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("anna/model", ("anna/model", None)),
        ("anna/model@v1.0", ("anna/model", "v1.0")),
        ("anna/model@", ("anna/model", None)),
    ],
)
def test_a_revision_follows_the_at_sign(name, parts):
    assert split_revision(name) == parts


def test_the_at_sign_of_an_existing_folder_belongs_to_its_name(tmp_path):
    folder = tmp_path / "model@home"
    folder.mkdir()
    assert split_revision(str(folder)) == (str(folder), None)


@pytest.mark.parametrize(
    ("name", "is_id"),
    [("anna/model", True), ("anna/model@v1", True), ("runs/llama1b_ru", False), ("gpt2", False), ("a/b/c", False)],
)
def test_a_hub_id_has_a_namespace_and_is_no_local_folder(name, is_id):
    assert is_hub_id(name) == is_id


def test_an_existing_folder_is_no_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "anna" / "model").mkdir(parents=True)
    assert not is_hub_id("anna/model") and commit_in_cache("anna/model") is None


def test_a_model_that_is_not_in_the_cache_has_no_commit():
    assert commit_in_cache("anna/no-such-model-anywhere") is None


@pytest.mark.parametrize(
    ("name", "can_be"),
    [("anna/pairs", True), ("pairs", True), ("anna/pairs@v1", True), ("data/pairs", False), ("a/b/c", False)]
    + [(name, False) for name in ("./pairs", "~/pairs", "/pairs", "C:\\pairs", "https://hub/anna/pairs", ".")],
)
def test_a_path_cannot_be_on_the_hub(name, can_be):
    assert can_be_on_hub(name) == can_be


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def response(status: int) -> HfHubHTTPError:
    request = httpx2.Request("GET", "https://hub")
    return HfHubHTTPError("refused", response=httpx2.Response(status, request=request))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DatasetNotFoundError("Dataset 'a/b' doesn't exist on the Hub or cannot be accessed."), "no such dataset, or it is private"),
        (DatasetNotFoundError("Dataset 'a/b' is a gated dataset on the Hub."), "gated. Request access on its page, https://.*/datasets/a/b, then sign in"),
        (DatasetNotFoundError("Revision 'x' doesn't exist for dataset 'a/b' on the Hub."), "no such revision"),
        (response(401), "or it is private .* hf auth login"),
        (response(503), "cannot be reached .* HTTPS_PROXY"),
        (ConnectionError("Couldn't reach 'a/b' on the Hub (LocalEntryNotFoundError)"), "cannot be reached"),
        (LocalEntryNotFoundError("no network"), "cannot be reached"),
        (caused(OSError("Can't load"), httpx2.ConnectError("[Errno 111] Connection refused")), "cannot be reached"),
        (httpx2.ProxyError("407 Proxy Authentication Required"), "cannot be reached .* HTTPS_PROXY"),
        (caused(OSError("Can't load"), ImportError("the 'socksio' package is not installed")), "needs the package socksio"),
        (ValueError("what?"), r"cannot be read from the Hub \(ValueError: what\?\)"),
    ],
)  # fmt: skip
def test_reasons_of_an_unreadable_dataset_are_told_apart(error, words, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert re.search(words, unreadable("a/b", error))


def test_offline_is_the_reason_without_a_network():
    assert "HF_HUB_OFFLINE is set" in unreadable("a/b", ConnectionError("offline"))


@pytest.mark.parametrize("repo_id", [None, "model", "anna/", "/model", "a/b/c", "anna/model--", "anna/мой"])
def test_a_malformed_repository_name_is_rejected(repo_id):
    with pytest.raises(PreferansError, match="--repo_id"):
        check_repo_id(repo_id)
    check_repo_id("anna/oasst1-ru-preferences")
