"""
Answer the prompts of a dataset with a base model or with an adapter on it.

    python scripts/generate.py --model_name_or_path meta-llama/Llama-3.2-1B-Instruct --load_in_4bit --dtype float16 \\
        --dataset_name data/oasst1_ru --output answers/before.jsonl
    python scripts/generate.py --adapter runs/llama1b_ru --dataset_name data/oasst1_ru --output answers/after.jsonl

With --adapter, the base model, its precision and the chat template are those of the run; --dtype and --load_in_4bit are for a
base model alone. Answers are written batch by batch as
JSON lines; a stopped command goes on where it was when it is given again. Sampling is that of the project's first notebook:
150 new tokens, top_k 60, top_p 0.9, temperature 0.7.
"""

import argparse

from preferans.errors import PreferansError, run
from preferans.generation import (
    add_sampling_arguments,
    check_sampling_arguments,
    distinct_prompts,
    load_sampler,
)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--dataset_name", required=True, help="preference dataset whose prompts are answered, each once")
    add("--split", default="test", help="its split (default: %(default)s)")
    add("--max_prompts", type=int, help="answer only the first so many prompts")
    add("--output", required=True, help="file of answers to write, ending in .jsonl")
    add("--seed", type=int, default=42, help="(default: %(default)s)")
    add_sampling_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    if not args.output.endswith(".jsonl"):
        raise PreferansError(f"--output {args.output}: the file of answers must end in .jsonl.")
    check_sampling_arguments(args)

    from preferans.preferences import check_rows, load_preferences

    dataset = load_preferences(args.dataset_name)
    if args.split not in dataset:
        raise PreferansError(f"--split {args.split}: {args.dataset_name} has only {', '.join(dataset)}.")
    rows = dataset[args.split].to_list()
    check_rows(rows, f"{args.dataset_name}, split {args.split}")
    prompts = distinct_prompts(rows)[: args.max_prompts]
    answers = load_sampler(args, chat=not isinstance(prompts[0]["prompt"], str)).answer(prompts, args.output)
    empty = sum(not row["answer"] for row in answers)
    stopped = sum(row["finish_reason"] == "stop" for row in answers)
    print(f"{len(answers)} answers in {args.output}: {stopped} ended by the model, {empty} empty.")


if __name__ == "__main__":
    run(main)
