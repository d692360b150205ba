"""Options of a model and its sampling."""

import argparse

from preferans.models.sampling_options import PROTOTYPE_SAMPLING, add_sampling_arguments


def test_the_default_is_that_of_the_notebook():
    assert PROTOTYPE_SAMPLING == {"max_new_tokens": 150, "top_k": 60, "top_p": 0.9, "temperature": 0.7}


def test_several_adapters_only_on_request():
    single, several = argparse.ArgumentParser(), argparse.ArgumentParser()
    add_sampling_arguments(single)
    add_sampling_arguments(several, several=True)
    assert single.parse_args(["--adapter", "a"]).adapter == "a"
    assert several.parse_args(["--adapter", "a", "b"]).adapter == ["a", "b"]
