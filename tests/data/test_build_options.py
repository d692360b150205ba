import argparse

import pytest

from preferans.data.build_options import add_oasst_arguments, add_output_arguments, parse

from ..support.tiny import ROOT


@pytest.fixture
def parse_words(monkeypatch):
    def parse_words(*words: str) -> argparse.Namespace:
        parser = argparse.ArgumentParser()
        add_oasst_arguments(parser)
        parser.add_argument("--persona", nargs="+")
        add_output_arguments(parser, "data/pairs")
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr("sys.argv", [str(ROOT / "data_builders" / "builder.py"), *words])
        return parse(parser)

    return parse_words


def test_a_command_without_options_has_no_options(parse_words):
    args = parse_words()
    assert (args.command, args.given, args.output_dir) == ("python data_builders/builder.py", [], "data/pairs")


def test_the_command_names_options_that_differ_from_their_defaults_in_the_order_of_the_help(parse_words):
    args = parse_words("--seed", "7", "--normalize_persona", "--lang", "ru", "--turns=all")
    assert args.command == "python data_builders/builder.py --turns all --normalize_persona --seed 7"
    assert args.given == ["turns", "normalize_persona", "seed"]


def test_the_command_leaves_out_private_options(parse_words):
    command = parse_words("--push_to_hub", "--repo_id", "me/pairs").command
    assert command == "python data_builders/builder.py"


def test_the_command_has_paths_of_any_machine(parse_words, tmp_path):
    (tmp_path / "rows.jsonl").touch()
    command = parse_words("--source", str(tmp_path / "rows.jsonl"), "--output_dir", str(tmp_path / "x")).command
    assert command == "python data_builders/builder.py --source rows.jsonl --output_dir x"
    sample = ROOT / "samples" / "oasst1_ru_sample.jsonl"
    assert "--source samples/oasst1_ru_sample.jsonl" in parse_words("--source", str(sample)).command
    assert "--source somebody/else" in parse_words("--source", "somebody/else").command


def test_the_command_repeats_lists_and_quotes_spaces(parse_words):
    command = parse_words("--persona", "personas/sienna.yaml", "a b").command
    assert command.endswith("--persona personas/sienna.yaml 'a b'")
