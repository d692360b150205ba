import pytest

from preferans.data.folder import load_checked_splits, load_preferences, missing_splits
from preferans.errors import PreferansError
from preferans.files import write_jsonl

from ..support.rows import preference, write_preferences


def test_reads_the_present_content_of_a_folder(tmp_path):
    """`datasets` caches a local folder with a card by its name alone, not by its content."""
    for parent, rows in (("a", [preference(1)]), ("b", [preference(2), preference(3)]), ("a", [preference(4)])):
        write_preferences(tmp_path / parent / "pairs", {"train": rows})
        assert load_preferences(str(tmp_path / parent / "pairs"))["train"].to_list() == rows


def test_a_dataset_that_cannot_be_loaded_is_an_error(tmp_path):
    with pytest.raises(PreferansError, match="there is no such file or folder"):
        load_preferences(str(tmp_path / "absent"))
    for name, words in (
        ("data/absent", "Build it first"),
        ("pairs.jsonl", "Build it first"),
        ("~/pairs", "write the whole path"),
        ("https://huggingface.co/datasets/anna/pairs", "Write the id alone"),
        ("C:\\data\\pairs", "there is no such file or folder"),
        ("anna/pairs", "HF_HUB_OFFLINE is set"),
    ):
        with pytest.raises(PreferansError, match=words):
            load_preferences(name)


def test_loads_and_checks_two_splits(preference_folder):
    train, test = load_checked_splits(str(preference_folder), None, "train", "test")
    assert (len(train), len(test)) == (6, 2)
    with pytest.raises(
        PreferansError, match="there is no split 'validation', only .* Write 'dataset_test_split: test'"
    ):
        load_checked_splits(str(preference_folder), None, "train", "validation")
    with pytest.raises(PreferansError, match="conversation trees are in both"):
        load_checked_splits(str(preference_folder), None, "train", "train")


def test_an_invalid_row_is_named_with_its_split(preference_folder):
    write_jsonl(preference_folder / "test.jsonl", [preference(7, chosen=[])])
    with pytest.raises(PreferansError, match=r"pairs, split test, row 1 \(id c7:r7\): 'chosen' is missing"):
        load_checked_splits(str(preference_folder), None, "train", "test")


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        (
            ["train"],
            "there is no split 'test', only train. Hold out pairs for the test: put them into a file test.jsonl",
        ),
        (
            ["train", "validation"],
            "there is no split 'test', only train, validation. Write 'dataset_test_split: validation'.",
        ),
        (
            ["train_sft", "train_prefs", "test_sft", "test_prefs"],
            "there is no split 'train' and no split 'test', only train_sft, train_prefs, test_sft, test_prefs. Write "
            "'dataset_train_split: train_prefs' and 'dataset_test_split: test_prefs'.",
        ),
        (["a", "b"], "Write 'dataset_train_split: NAME' and 'dataset_test_split: NAME'."),
        (["train", "test"], None),
    ],
)
def test_a_missing_split_is_named_with_the_likely_one(splits, words):
    message = missing_splits({"dataset_train_split": "train", "dataset_test_split": "test"}, splits)
    assert message == words or words in message
    assert missing_splits({"--split": "dev"}, ["train"], "{} {}").endswith("Write '--split train'.")


def read_from_hub(hub, name: str, **environment) -> str:
    code = f"""
from preferans.data.folder import load_preferences
from preferans.errors import run
run(lambda: print(dict(load_preferences({name!r}).num_rows)))
"""
    done = hub.run(code, check=False, **environment)
    assert "Traceback" not in done.stderr, done.stderr
    return " ".join((done.stdout + done.stderr).split())


def test_faults_of_the_hub_are_told_apart(hub):
    hub.seed("dataset", "anna/pairs", {"train.jsonl": b'{"prompt": "a"}\n'})
    hub.seed("dataset", "anna/secret", {"train.jsonl": b'{"prompt": "a"}\n'}, private=True)
    hub.seed("dataset", "anna/gated", {"train.jsonl": b'{"prompt": "a"}\n'}, gated="manual")
    assert "{'train': 1}" in read_from_hub(hub, "anna/pairs")
    for name, token in (("anna/absent", None), ("anna/secret", None)):
        printed = read_from_hub(hub, name, token=token)
        assert "there is no such dataset, or it is private" in printed and "hf auth login" in printed
    printed = read_from_hub(hub, "anna/gated", token=hub.token("bob", gated=False))
    assert "the dataset is gated. Request access" in printed
    assert "no such revision" in read_from_hub(hub, "anna/pairs@absent")


def test_a_socks_proxy_without_its_package_is_named(hub):
    printed = read_from_hub(hub, "anna/pairs", ALL_PROXY="socks5://127.0.0.1:9", NO_PROXY="")
    assert "needs the package socksio" in printed and "no such dataset" not in printed
