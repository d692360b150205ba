"""The form of names on the Hub."""

import pytest

from preferans.errors import PreferansError
from preferans.hub_names import check_repo_id, commit_in_cache, is_hub_id, split_revision


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


@pytest.mark.parametrize("repo_id", [None, "model", "anna/", "/model", "a/b/c", "anna/model--", "anna/мой"])
def test_a_malformed_repository_name_is_rejected(repo_id):
    with pytest.raises(PreferansError, match="--repo_id"):
        check_repo_id(repo_id)
    check_repo_id("anna/oasst1-ru-preferences")
