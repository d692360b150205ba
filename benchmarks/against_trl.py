"""
Time and memory of training: scripts/dpo.py against `trl dpo`, with the same model, pairs and options.

    python benchmarks/against_trl.py
    python benchmarks/against_trl.py --batch_sizes 2 --rounds 3 --also --train_sampling_strategy group_by_length
    python benchmarks/against_trl.py --source FILE.jsonl --lang en --turns first --max_length 512

The model is the demo's Gemma in 4 bits. The pairs are those of the sample, or of an Open Assistant file, as plain texts, because TRL's
script needs a chat template otherwise. Each run is a separate process on the CPU, and the runs alternate, so that other load on the
machine affects all of them. The time is TRL's `train_runtime` plus the time of precomputing the reference, if a run does so; loading and
our scoring of the test pairs are not included. Memory is the peak of the process.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from itertools import product
from pathlib import Path

import polars

ROOT = Path(__file__).resolve().parents[1]
SAME = {
    "per_device_eval_batch_size": 8,
    "gradient_checkpointing": "false",
    "gradient_accumulation_steps": 1,
    "learning_rate": 1e-5,
    "lr_scheduler_type": "constant",
    "loss_type": "sigmoid",
    "beta": 0.1,
    "seed": 42,
    "load_in_4bit": "true",
    "use_bnb_nested_quant": "true",
    "dtype": "float32",
    "bf16": "false",
    "use_cpu": "true",
    "use_peft": "true",
    "lora_r": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.0,
    "lora_target_modules": "all-linear",
    "eval_strategy": "no",
    "logging_steps": 1,
    "report_to": "none",
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--batch_sizes", type=int, nargs="+", default=[1, 2, 4], help="pairs in a batch (default: 1 2 4)")
    add("--pairs", type=int, default=16, help="(default: %(default)s)")
    add("--rounds", type=int, default=2, help="runs of each; medians are shown (default: %(default)s)")
    add("--max_length", type=int, default=256, help="tokens (default: %(default)s)")
    add("--source", default="samples/oasst1_ru_sample.jsonl", help="file of messages (default: %(default)s)")
    add("--lang", default="ru", help="language of the messages (default: %(default)s)")
    add("--turns", default="all", help="first or all (default: %(default)s)")
    add("--model", default=str(ROOT / "cache" / "gemma-3-270m-ru"), help="(default: %(default)s)")
    add(
        "--also",
        nargs=argparse.REMAINDER,
        default=[],
        help="add a row for scripts/dpo.py with these keys; must be the last option",
    )
    return parser.parse_args()


def run_once(script: list[str], keys: dict, folder: Path, steps: int) -> dict:
    """Train in a separate process. Return seconds per step (with the reference's share), peak memory and losses."""
    keys = SAME | {"max_steps": steps, "save_steps": steps, "output_dir": folder} | keys
    words = [word for key, value in keys.items() for word in (f"--{key}", *str(value).split())]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    with open(folder.with_suffix(".log"), "w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, *script, *words], cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        log.seek(0)
        printed = log.read()
    if status:
        raise SystemExit(f"{' '.join(script)} ended with status {status}:\n{printed[-2000:]}")
    seconds = float(re.findall(r"'train_runtime': '?([\d.]+)", printed)[-1])
    # The reference's progress bar: number of batches, and seconds per batch or batches per second.
    for batches, rate, unit in re.findall(
        r"reference log probs for train[^\r\n]*?100%[^\r\n]*? (\d+)/\d+ \[[^,]*, +([\d.]+)(s/it|it/s)", printed
    )[-1:]:
        seconds += int(batches) * (float(rate) if unit == "s/it" else 1 / float(rate))
    history = json.loads((folder / f"checkpoint-{steps}" / "trainer_state.json").read_text())["log_history"]
    return {
        "step": seconds / steps,
        "memory": usage.ru_maxrss * 1024,
        "losses": [entry["loss"] for entry in history if "loss" in entry],
    }


def main() -> None:
    args = parse_arguments()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        data = work / f"pairs_{work.name}"  # a unique name, because `datasets` caches by the folder's name
        build = [sys.executable, "data_builders/oasst1_ru.py", "--source", args.source, "--lang", args.lang]
        build += ["--turns", args.turns, "--test_size", "0.05", "--format", "text", "--output_dir", str(data)]
        subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        for split, number in (("train", args.pairs), ("test", 1)):  # our script scores the test pairs; TRL's does not
            pairs = data / "data" / f"{split}-00000-of-00001.parquet"
            polars.read_parquet(pairs).sample(number, seed=1).write_parquet(pairs)
        trl, ours = ["-m", "trl.scripts.dpo"], ["scripts/dpo.py"]
        rows = {
            "trl dpo": (trl, {}),
            "scripts/dpo.py, padded": (ours, {"pair_layout": "padded"}),
            "scripts/dpo.py, packed": (ours, {"pair_layout": "packed"}),
        }
        if args.also:
            keys = {key.removeprefix("--"): value for key, value in zip(args.also[::2], args.also[1::2], strict=True)}
            rows["scripts/dpo.py, " + " ".join(args.also)] = (ours, keys)
        same = {"model_name_or_path": args.model, "dataset_name": data, "max_length": args.max_length}
        results: dict[tuple[int, str], list[dict]] = defaultdict(list)
        for number, size, row in product(range(args.rounds), args.batch_sizes, rows):
            script, keys = rows[row]
            folder = work / f"run{sum(map(len, results.values()))}"
            keys = same | {"per_device_train_batch_size": size} | keys
            results[size, row].append(run_once(script, keys, folder, args.pairs // size))
            print(
                f"round {number + 1}: batches of {size}, {row}: {results[size, row][-1]['step']:.2f} s",
                file=sys.stderr,
            )
    print("| pairs in a batch | | seconds per step | times as fast | peak memory | last loss |")
    print("| ---: | --- | ---: | --- | ---: | ---: |")
    for (size, row), runs in results.items():
        step, memory = (statistics.median(run[key] for run in runs) for key in ("step", "memory"))
        ratios = [theirs["step"] / run["step"] for theirs, run in zip(results[size, "trl dpo"], runs, strict=True)]
        each = f" ({', '.join(f'{ratio:.2f}' for ratio in ratios)})" if len(ratios) > 1 else ""
        print(
            f"| {size} | {row} | {step:.2f} | {statistics.median(ratios):.2f}{each} | {memory / 2**30:.2f} GiB | {runs[0]['losses'][-1]:.4f} |"
        )


if __name__ == "__main__":
    main()
