"""Command-line options that name a model and how to sample from it."""

import argparse
import json
from typing import Any

# Chat models answer at greater length than a base model: replies of Open Assistant have 215 to 290 tokens.
CHAT_MAX_NEW_TOKENS = 512
# The settings of the first notebook, whose answers were rated.
PROTOTYPE_SAMPLING = {"max_new_tokens": 150, "top_k": 60, "top_p": 0.9, "temperature": 0.7}
SAMPLINGS = {
    "prototype": PROTOTYPE_SAMPLING,
    "greedy": PROTOTYPE_SAMPLING | {"top_k": 0, "top_p": 1.0, "temperature": 0.0},
}


def add_model_arguments(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """Add the options for a model; with `several`, more than one adapter can be named."""
    add = parser.add_argument
    many: dict[str, Any] = {"nargs": "+"} if several else {}
    add("--model_name_or_path", help="folder or Hub id of the base model (default: that of --adapter)")
    add(
        "--adapter", **many, help=f"folder of a finished run{', or of several with one base model' if several else ''}"
    )
    add("--label", **many, help="name of this system in tables (default: the adapter's or the model's folder)")
    add("--chat_template_path", help="Jinja file, for a base model without a chat template")
    add_template_variables(parser)
    add("--load_in_4bit", action="store_true", help="hold the base model in 4 bits (NF4, double quantization)")
    add("--dtype", choices=("float32", "float16", "bfloat16"), default="float32", help="(default: %(default)s)")
    add("--use_cpu", action="store_true", help="do not use a card")


def add_template_variables(parser: argparse.ArgumentParser) -> None:
    """Add the option for variables of the chat template."""
    parser.add_argument(
        "--chat_template_kwargs",
        type=_json_object,
        metavar="JSON",
        help="""variables of the chat template, such as '{"enable_thinking": false}' (default: those of the adapter's run)""",
    )


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(
            f"""{text}: write a JSON object in quotes, such as '{{"enable_thinking": false}}'"""
        )
    return value


def add_sampling_arguments(parser: argparse.ArgumentParser, several: bool = False, batches: bool = True) -> None:
    """Add the options of [`add_model_arguments`] and those of sampling, with a batch size if there are `batches`."""
    add_model_arguments(parser, several)
    add = parser.add_argument
    if batches:
        add(
            "--batch_size",
            type=int,
            default=16,
            help="prompts per batch: more is faster and needs more memory; the answers stay the same (default: %(default)s)",
        )
    add(
        "--sampling",
        choices=SAMPLINGS,
        default="prototype",
        help="prototype: as in the first notebook; greedy: always the most likely token. The next four options change single values "
        "(default: %(default)s)",
    )
    notes = {
        "max_new_tokens": "maximum length of an answer in tokens",
        "top_k": "sample from this many most likely tokens; 0: from all",
        "top_p": "sample from the most likely tokens with this total probability; 1: from all",
        "temperature": "below 1, likely tokens are sampled more often, above 1 less often; 0: always the most likely token",
    }
    for name, value in PROTOTYPE_SAMPLING.items():
        default = ", ".join(f"{sampling} {values[name]:g}" for sampling, values in SAMPLINGS.items())
        if name == "max_new_tokens":
            default = f"default: {CHAT_MAX_NEW_TOKENS}, or {value} for a base model, which needs a chat template file"
        add(f"--{name}", type=type(value), help=f"{notes[name]} ({default})")
