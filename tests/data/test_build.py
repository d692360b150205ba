import argparse

import polars as pl
import pytest

from preferans.data.build import (
    check_output_arguments,
    finish_dataset,
    pin_revision,
    print_counts,
    split_pairs,
)
from preferans.data.oasst_rule import OASST1, OASST1_REVISION
from preferans.data.tables import preference_frame
from preferans.errors import PreferansError

from ..support.rows import preference
from ..support.tiny import SAMPLE


def arguments(**changes) -> argparse.Namespace:
    defaults = {"test_size": 0.25, "seed": 42, "format": "conversational", "output_dir": "absent", "revision": None}
    return argparse.Namespace(**defaults | changes)


def test_pins_oasst1_to_the_tested_commit():
    args = arguments(source=OASST1)
    pin_revision(args)
    assert args.revision == OASST1_REVISION


def test_keeps_the_revision_of_a_source_that_cannot_be_reached():
    args = arguments(source="somebody/else", revision="v1")
    pin_revision(args)
    assert args.revision == "v1"


def test_a_local_source_has_no_revision():
    with pytest.raises(PreferansError, match="--revision main: .* is a local source"):
        pin_revision(arguments(source=str(SAMPLE), revision="main"))


def test_the_output_folder_must_not_be_inside_the_source(tmp_path):
    with pytest.raises(PreferansError, match="would be read as part of the source"):
        pin_revision(arguments(source=str(tmp_path), output_dir=str(tmp_path / "pairs")))


@pytest.mark.parametrize("test_size", [-0.1, 1, float("nan")])
def test_refuses_a_test_size_outside_0_and_1(test_size):
    with pytest.raises(PreferansError, match="--test_size"):
        check_output_arguments(arguments(test_size=test_size))


def questions() -> pl.DataFrame:
    texts = ("Как остудить чай?", "Почему Луна не падает?", "С чего начать читать Чехова?", "Где зимуют раки?")
    prompts = [[{"role": "user", "content": text}] for text in texts]
    return preference_frame([preference(number, prompt=prompt) for number, prompt in enumerate(prompts)])


def test_splits_by_tree():
    splits, removed = split_pairs(questions(), arguments())
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 3, "test": 1}
    assert removed == 0


def test_refuses_prompts_that_are_all_near_duplicates():
    prompt = [{"role": "user", "content": "Как остудить чай?"}]
    pairs = preference_frame([preference(number, prompt=prompt) for number in range(4)])
    with pytest.raises(PreferansError, match="no training pair is left.*--test_size 0"):
        split_pairs(pairs, arguments())


def test_one_tree_has_no_test_split(capsys):
    splits, _ = split_pairs(questions().head(1), arguments())
    assert list(splits) == ["train"]
    assert "only one conversation tree" in capsys.readouterr().out


def test_prints_a_count_for_each_reason(capsys):
    print_counts({"deleted": "deleted by its author"}, {"deleted": 1234})
    assert capsys.readouterr().out == "     1,234  deleted by its author\n"


@pytest.mark.parametrize("form", ["conversational", "text"])
def test_writes_the_dataset_once(tmp_path, capsys, form):
    args = arguments(output_dir=str(tmp_path / "pairs"), format=form)
    splits, _ = split_pairs(questions(), args)
    for message in ("Written to", "already in"):
        finish_dataset(splits, args, lambda made: f"- fingerprint: `{len(made['train']):064}`\n")
        assert message in capsys.readouterr().out
    written = pl.read_parquet(tmp_path / "pairs" / "data" / "train-*.parquet")
    assert (written["prompt"].dtype == pl.String) == (form == "text")
    assert len(written) == 3
