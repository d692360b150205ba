"""Loading the models of command-line options."""

import argparse
import json
import shutil

from preferans.files import read_json, write_json
from preferans.models.load_samplers import check_sampling_arguments, load_sampler
from preferans.models.sampling_options import add_sampling_arguments


def options_of(*words) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_sampling_arguments(parser)
    args = parser.parse_args([str(word) for word in words])
    args.max_prompts, args.seed = None, 1
    check_sampling_arguments(args)
    return args


def test_single_values_override_a_preset(tiny_llama):
    model = ["--model_name_or_path", tiny_llama]
    names = ("max_new_tokens", "top_k", "top_p", "temperature")
    values = {
        options: [getattr(options_of(*model, *options), name) for name in names]
        for options in (
            (),
            ("--sampling", "greedy"),
            ("--sampling", "greedy", "--max_new_tokens", "9"),
            ("--top_p", "0.5"),
        )
    }
    assert list(values.values()) == [[150, 60, 0.9, 0.7], [150, 0, 1.0, 0], [9, 0, 1.0, 0], [150, 60, 0.5, 0.7]]


def test_generation_settings_of_a_model_are_ignored(tmp_path, tiny_llama):
    changed = shutil.copytree(tiny_llama, tmp_path / "changed")
    config = read_json(changed / "generation_config.json")
    write_json(
        changed / "generation_config.json", config | {"repetition_penalty": 9.0, "temperature": 0.1, "do_sample": True}
    )
    prompts = [{"id": str(i), "prompt": [{"role": "user", "content": f"Вопрос {i}"}]} for i in range(3)]
    answers = [
        [
            json.dumps([row["answer"] for row in load_sampler(options_of("--model_name_or_path", base, "--use_cpu", "--max_new_tokens", "20", *more)).answer(prompts, tmp_path / f"{base.name}{len(more)}.jsonl")])
            for base in (tiny_llama, changed)
        ]
        for more in ((), ("--sampling", "greedy"))
    ]  # fmt: skip
    assert all(plain == with_settings for plain, with_settings in answers)
