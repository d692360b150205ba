"""
Answer prompts with a base model, with one or several adapters on it, or with a served model.

    python scripts/generate.py --model_name_or_path meta-llama/Llama-3.2-1B-Instruct --load_in_4bit --dtype float16 \\
        --dataset_name data/oasst1_ru --output answers/before.jsonl
    python scripts/generate.py --adapter runs/llama1b_ru --dataset_name data/oasst1_ru --output answers/after.jsonl
    python scripts/generate.py --adapter runs/llama1b_ru --with_base --dataset_name data/oasst1_ru --output answers/
    python scripts/generate.py --adapter runs/llama1b_ru runs/llama1b_ipo --prompts questions.txt --output answers/
    python scripts/generate.py --adapter runs/llama1b_ru --persona personas/sienna.yaml --prompts questions.txt \\
        --sampling greedy --label sienna --output answers/sienna.jsonl
    python scripts/generate.py --endpoint http://localhost:8000/v1 --model Qwen/Qwen3-14B --prompts questions.txt \\
        --output answers/qwen.jsonl

Prompts come from a split of a dataset, or from a file: .txt with one question per line, .jsonl or .parquet with `prompt` (a question or
messages) and `id`. With --adapter, the base model, its precision and the chat template are those of the run; --dtype and
--load_in_4bit are for a base model alone, and for an adapter that was not trained by Preferans. Several adapters share one loaded base,
and each writes its own file in the folder --output; --with_base adds the base itself, so that both differ in the adapter alone. With --endpoint, an OpenAI-compatible server (vLLM, llama.cpp, Ollama,
transformers serve; docs/judge.md) answers, --workers prompts at a time; the prompts leave this machine if the server is elsewhere.

Answers are written batch by batch as JSON lines, and the same command resumes. Each prompt has its own random numbers: its answer
depends on --seed and its id, not on its batch. Thinking between <think> and </think> is removed. NAME.stats.json beside the answers
has the speed.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from preferans.errors import PreferansError, help_first, run
from preferans.models.endpoint import add_endpoint_arguments
from preferans.models.sampling_options import add_sampling_arguments


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--dataset_name", help="dataset whose distinct prompts are answered")
    source.add_argument("--prompts", metavar="FILE", help="file of prompts: .txt, .jsonl, .jsonl.gz or .parquet")
    add("--split", default="test", help="split of --dataset_name (default: %(default)s)")
    add("--max_prompts", type=int, help="answer only this many prompts, from the first")
    add(
        "--persona",
        metavar="FILE",
        help="character whose instruction is put before each prompt, such as personas/sienna.yaml",
    )
    add(
        "--num_answers",
        type=int,
        default=1,
        help="answers to each prompt; their ids end with #0, #1, … (default: %(default)s)",
    )
    add(
        "--with_base",
        action="store_true",
        help="also answer with the base model of --adapter: the same weights, precision, template and random numbers, without the adapter",
    )
    add("--output", required=True, help="file of answers that ends in .jsonl; a folder for several systems")
    add("--seed", type=int, default=42, help="(default: %(default)s)")
    add_sampling_arguments(parser, several=True)
    add_endpoint_arguments(parser)
    return parser


PARSER = make_parser()
help_first(PARSER)

from preferans.data.persona import load_persona
from preferans.data.prompts import distinct_prompts, read_prompts, split_rows
from preferans.files import write_json
from preferans.models.load_samplers import base_label, check_sampling_arguments, labels_of, load_samplers, with_base
from preferans.models.sampler import Sampler
from preferans.models.served import ServedModel, served_model


def output_files(args: argparse.Namespace) -> list[str]:
    """Return the file of answers of each system."""
    labels = labels_of(args)
    if args.with_base:
        if not args.adapter:
            raise PreferansError(
                "--with_base: name the adapter with --adapter; without one, the base model answers anyway."
            )
        labels.append(base_label(args))
    if len(labels) == 1 and not args.output.endswith(".jsonl"):
        raise PreferansError(f"--output {args.output}: the file of answers must end in .jsonl.")
    if len(labels) == 1:
        return [args.output]
    if args.output.endswith(".jsonl") or Path(args.output).is_file():
        raise PreferansError(f"--output {args.output}: several systems write several files. Name a folder.")
    return [str(Path(args.output) / f"{label.replace('/', '_')}.jsonl") for label in labels]


def main() -> None:
    args = PARSER.parse_args()
    outputs = output_files(args)
    check_sampling_arguments(args)
    if args.num_answers < 1 or (args.num_answers > 1 and args.temperature == 0):
        raise PreferansError(
            f"--num_answers {args.num_answers}: it must be at least 1, and with --temperature 0 all answers are the same."
        )

    persona = load_persona(args.persona) if args.persona else None
    prompts = (
        read_prompts(args.prompts) if args.prompts else distinct_prompts(split_rows(args.dataset_name, args.split))
    )
    prompts = [{"id": row["id"], "prompt": row["prompt"]} for row in prompts[: args.max_prompts]]
    if args.num_answers > 1:
        prompts = [row | {"id": f"{row['id']}#{number}"} for row in prompts for number in range(args.num_answers)]
    systems: Sequence[Sampler | ServedModel]
    if args.endpoint:
        systems = [served_model(args, *labels_of(args))]
    else:
        systems = load_samplers(args, chat=not isinstance(prompts[0]["prompt"], str))
        systems = with_base(systems) if args.with_base else systems
    for system, output in zip(systems, outputs, strict=True):
        system.persona = persona
        answers = system.answer(prompts, output)
        if system.stats:
            write_json(Path(output).with_suffix(".stats.json"), system.stats)
        empty = sum(not row["answer"] for row in answers)
        stopped = sum(row["finish_reason"] == "stop" for row in answers)
        limited = sum(row["finish_reason"] == "length" for row in answers)
        print(f"{len(answers)} answers in {output}: {stopped} ended by the model, {empty} empty.")
        if limited:
            print(f"{limited} ({limited / len(answers):.0%}) were cut at --max_new_tokens {args.max_new_tokens}.")
        thought = sum(not row["answer"] and row.get("thinking", False) for row in answers)
        if thought:
            print(f"{thought} of the empty answers are only thinking, which is removed. Raise --max_new_tokens.")


if __name__ == "__main__":
    run(main)
