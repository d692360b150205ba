"""
Tokens per second: scripts/generate.py against the first notebook's loop, one prompt at a time.

    python benchmarks/generate.py
    python benchmarks/generate.py --batch_sizes 8 16 32 --max_prompts 24 --rounds 1

All use the same loaded model, prompts and sampling: 150 new tokens, top_k 60, top_p 0.9, temperature 0.7. Loop and batches alternate,
so that other load on the machine affects both, after a warm-up on a few short prompts. Only the tokens of the answers count: neither
the end token nor padding. Each ratio compares runs of the same round.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--model", default=str(ROOT / "cache" / "gemma-3-270m-ru"), help="(default: %(default)s)")
    add("--load_in_4bit", action="store_true", help="hold the model in 4 bits, as the demo does")
    add("--batch_sizes", type=int, nargs="+", default=[8, 16, 32], help="(default: %(default)s)")
    add("--max_prompts", type=int, default=32, help="(default: %(default)s)")
    add("--max_new_tokens", type=int, default=150, help="(default: %(default)s)")
    add("--rounds", type=int, default=2, help="(default: %(default)s)")
    add("--use_cpu", action="store_true", help="do not use a card")
    return parser.parse_args()


def one_by_one(sampler, prompts: list[dict]) -> int:
    """Answer with one `generate` per prompt, as in the notebook. Return the number of tokens in the answers."""
    import torch

    from preferans.data.chat_template import prompt_text
    from preferans.models.sampler import stop_token_ids

    stop_ids = stop_token_ids(sampler.model, sampler.tokenizer)
    tokens = 0
    for row in prompts:
        text = prompt_text(row["prompt"], sampler.tokenizer)
        inputs = sampler.tokenizer(text, return_tensors="pt", add_special_tokens=False)
        inputs = {key: inputs[key].to(sampler.model.device) for key in ("input_ids", "attention_mask")}
        with torch.no_grad():
            output = sampler.model.generate(
                **inputs,
                **sampler.sampling,
                do_sample=True,
                eos_token_id=stop_ids,
                pad_token_id=sampler.tokenizer.pad_token_id,
            )
        answer = output[0, inputs["input_ids"].shape[1] :].tolist()
        tokens += len(answer) - (answer[-1] in stop_ids)
    return tokens


def in_batches(sampler, prompts: list[dict], batch_size: int) -> int:
    """Answer as scripts/generate.py does. Return the number of tokens in the answers."""
    sampler.batch_size = batch_size
    with tempfile.TemporaryDirectory() as folder:
        answers = sampler.answer(prompts, Path(folder) / "answers.jsonl")
    return sum(row["new_tokens"] for row in answers)


def main() -> None:
    args = parse_arguments()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ["TQDM_DISABLE"] = "1"

    import psutil
    import torch

    from preferans.files import read_jsonl
    from preferans.models.load_samplers import load_sampler
    from preferans.models.sampling_options import PROTOTYPE_SAMPLING

    rows = read_jsonl(ROOT / "samples" / "oasst1_ru_sample.jsonl")
    opening = [row for row in rows if row["parent_id"] is None][: args.max_prompts]
    prompts = [{"id": row["message_id"], "prompt": [{"role": "user", "content": row["text"]}]} for row in opening]
    sampler = load_sampler(
        Namespace(
            model_name_or_path=args.model,
            adapter=None,
            label=None,
            chat_template_path=str(ROOT / "recipes" / "chat_templates" / "plain_ru.jinja"),
            load_in_4bit=args.load_in_4bit,
            dtype="float32",
            use_cpu=args.use_cpu,
            batch_size=1,
            seed=42,
            **PROTOTYPE_SAMPLING | {"max_new_tokens": args.max_new_tokens},
        )
    )
    methods = {"one by one": lambda rows: one_by_one(sampler, rows)} | {
        f"batches of {size}": lambda rows, size=size: in_batches(sampler, rows, size) for size in args.batch_sizes
    }
    sampling = sampler.sampling
    sampler.sampling = sampling | {"max_new_tokens": 4}
    for method in methods.values():
        method(prompts[:2])
    sampler.sampling = sampling
    speeds_of = {name: [] for name in methods}
    for number in range(args.rounds):
        for name, method in methods.items():
            torch.manual_seed(number)
            sampler.seed = number
            start = time.perf_counter()
            tokens = method(prompts)
            seconds = time.perf_counter() - start
            speeds_of[name].append(tokens / seconds)
            load = psutil.getloadavg()[0]
            print(
                f"round {number + 1}: {name}: {tokens} tokens in {seconds:.1f} s, {tokens / seconds:.1f} tokens/s; load {load:.1f}",
                file=sys.stderr,
                flush=True,
            )
    print(
        f"{len(prompts)} prompts, up to {args.max_new_tokens} tokens each, {sampler.model.device}, {torch.get_num_threads()} threads; "
        f"medians of {args.rounds} rounds\n"
    )
    print("| | tokens per second | times as fast, by round |\n| --- | ---: | --- |")
    for name, speeds in speeds_of.items():
        ratios = [speed / loop for speed, loop in zip(speeds, speeds_of["one by one"], strict=True)]
        print(f"| {name} | {statistics.median(speeds):.1f} | {', '.join(f'{ratio:.2f}' for ratio in ratios)} |")


if __name__ == "__main__":
    main()
