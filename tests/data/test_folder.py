import pytest

from preferans.data.folder import load_checked_splits, load_preferences, stored_fingerprint
from preferans.data.preferences import fingerprint
from preferans.errors import PreferansError
from preferans.files import write_jsonl

from ..support.rows import preference, write_preferences


def test_reads_the_present_content_of_a_folder(tmp_path):
    """`datasets` caches a local folder with a card by its name alone, not by its content."""
    for parent, rows in (("a", [preference(1)]), ("b", [preference(2), preference(3)]), ("a", [preference(4)])):
        write_preferences(tmp_path / parent / "pairs", {"train": rows})
        assert load_preferences(str(tmp_path / parent / "pairs"))["train"].to_list() == rows


def test_a_dataset_that_cannot_be_loaded_is_an_error(tmp_path):
    with pytest.raises(PreferansError, match="there is no such folder"):
        load_preferences(str(tmp_path / "absent"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(PreferansError, match="cannot be read as a dataset"):
        load_preferences(str(tmp_path / "empty"))


def test_the_fingerprint_is_read_from_the_card(tmp_path):
    splits = {"train": [preference(1)]}
    assert stored_fingerprint(tmp_path / "pairs") is None
    write_preferences(tmp_path / "pairs", splits)
    assert stored_fingerprint(tmp_path / "pairs") == fingerprint(splits)
    (tmp_path / "pairs" / "data" / "train-00000-of-00001.parquet").unlink()
    assert stored_fingerprint(tmp_path / "pairs") is None


def test_loads_and_checks_two_splits(preference_folder):
    train, test = load_checked_splits(str(preference_folder), None, "train", "test")
    assert (len(train), len(test)) == (6, 2)
    with pytest.raises(PreferansError, match="there is no split 'validation', only "):
        load_checked_splits(str(preference_folder), None, "train", "validation")
    with pytest.raises(PreferansError, match="conversation trees are in both"):
        load_checked_splits(str(preference_folder), None, "train", "train")


def test_an_invalid_row_is_named_with_its_split(preference_folder):
    write_jsonl(preference_folder / "test.jsonl", [preference(7, chosen=[])])
    with pytest.raises(PreferansError, match=r"pairs, split test, row 1 \(id c7:r7\): 'chosen' is missing"):
        load_checked_splits(str(preference_folder), None, "train", "test")
