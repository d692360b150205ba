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
from hashlib import sha256
from pathlib import Path

from preferans.errors import PreferansError, run
from preferans.files import read_json, sha256_of


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--model_name_or_path", help="folder or Hub id of the base model; left out, the one of --adapter")
    add("--adapter", help="folder of a finished run")
    add("--dataset_name", required=True, help="preference dataset whose prompts are answered, each once")
    add("--split", default="test", help="its split (default: %(default)s)")
    add("--max_prompts", type=int, help="answer only the first so many prompts")
    add("--output", required=True, help="file of answers to write, ending in .jsonl")
    add("--label", help="name of this system in tables (default: the adapter's or the model's folder)")
    add("--chat_template_path", help="Jinja file, for a base model without a chat template")
    add("--load_in_4bit", action="store_true", help="hold the base model in 4 bits (NF4, double quantization)")
    add("--dtype", choices=("float32", "float16", "bfloat16"), default="float32", help="(default: %(default)s)")
    add("--use_cpu", action="store_true", help="do not use a card")
    add(
        "--batch_size",
        type=int,
        default=16,
        help="prompts at a time: more is faster and takes more memory (default: %(default)s)",
    )
    add("--max_new_tokens", type=int, default=150, help="(default: %(default)s)")
    add("--top_k", type=int, default=60, help="(default: %(default)s)")
    add("--top_p", type=float, default=0.9, help="(default: %(default)s)")
    add("--temperature", type=float, default=0.7, help="0 takes the likeliest token (default: %(default)s)")
    add("--seed", type=int, default=42, help="(default: %(default)s)")
    return parser.parse_args()


# What decides a base model's weights and their precision, as a recipe names it.
MODEL_KEYS = (
    "model_name_or_path",
    "model_revision",
    "dtype",
    "load_in_4bit",
    "bnb_4bit_quant_type",
    "use_bnb_nested_quant",
    "attn_implementation",
)


def model_keys(args: argparse.Namespace) -> dict:
    """The base model as the run that made the adapter had it, or else as the command says."""
    if not args.adapter:
        keys = {"load_in_4bit": args.load_in_4bit, "use_bnb_nested_quant": True, "dtype": args.dtype}
        return keys | {"model_name_or_path": args.model_name_or_path}
    run_keys = read_json(Path(args.adapter) / "provenance.json")["keys"]
    args.use_cpu = args.use_cpu or run_keys.get("use_cpu", False)
    args.chat_template_path = args.chat_template_path or run_keys.get("chat_template_path")
    keys = {key: run_keys[key] for key in MODEL_KEYS if key in run_keys}
    return keys | ({"model_name_or_path": args.model_name_or_path} if args.model_name_or_path else {})


def main() -> None:
    args = parse_arguments()
    if args.adapter and not (Path(args.adapter) / "adapter_model.safetensors").is_file():
        raise PreferansError(
            f"--adapter {args.adapter}: there is no adapter in it. Name the folder of a finished run."
        )
    if not args.output.endswith(".jsonl"):
        raise PreferansError(f"--output {args.output}: the file of answers must end in .jsonl.")
    for name in ("batch_size", "max_new_tokens", "max_prompts"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise PreferansError(f"--{name} {getattr(args, name)}: it must be at least 1.")

    from preferans.training import check_model_exists, load_model, load_tokenizer

    keys = model_keys(args)
    check_model_exists(keys["model_name_or_path"])
    from trl import ModelConfig

    from preferans.generation import distinct_prompts, generate_answers, load_adapter
    from preferans.hardware import decide_precision, find_device
    from preferans.preferences import check_rows, load_preferences

    dataset = load_preferences(args.dataset_name)
    if args.split not in dataset:
        raise PreferansError(f"--split {args.split}: {args.dataset_name} has only {', '.join(dataset)}.")
    rows = dataset[args.split].to_list()
    check_rows(rows, f"{args.dataset_name}, split {args.split}")
    prompts = distinct_prompts(rows)[: args.max_prompts]

    model_args = ModelConfig(**keys)
    tokenizer = load_tokenizer(model_args.model_name_or_path, model_args.model_revision, args.chat_template_path)
    device = find_device(args.use_cpu)
    decide_precision(device, fp16=False, bf16=False, dtype=model_args.dtype)
    model = load_model(model_args, device)
    if args.adapter:
        model = load_adapter(model, args.adapter)
    files = [
        *Path(model_args.model_name_or_path).glob("*.safetensors"),
        *Path(args.adapter or "-").glob("*.safetensors"),
    ]
    weights = keys | {
        "sha256": [sha256_of(file) for file in sorted(files)],
        "chat_template_sha256": sha256(tokenizer.chat_template.encode()).hexdigest(),
    }
    sampling = {name: getattr(args, name) for name in ("max_new_tokens", "top_k", "top_p", "temperature")}
    label = args.label or Path(args.adapter or model_args.model_name_or_path).name
    answers = generate_answers(
        model, tokenizer, prompts, args.output, label, weights, sampling, args.batch_size, args.seed
    )
    empty = sum(not row["answer"] for row in answers)
    stopped = sum(row["finish_reason"] == "stop" for row in answers)
    print(f"{len(answers)} answers in {args.output}: {stopped} ended by the model, {empty} empty.")


if __name__ == "__main__":
    run(main)
