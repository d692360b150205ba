"""
Time and memory of training: scripts/dpo.py against `trl dpo`, with the same model, pairs and options.

    python benchmarks/against_trl.py
    python benchmarks/against_trl.py --pairs 32 --rounds 3 --also --group_by_length true

The model is the demo's Gemma in 4 bits. The pairs are those of the sample as plain texts, because TRL's script needs a chat template
otherwise. Each run is a separate process on the CPU, and the runs alternate, so that other load on the machine affects all of them.
The time is TRL's `train_runtime` plus the time of precomputing the reference, if a run does so; loading and our scoring of the test
pairs are not included. Memory is the peak of the process. "defaults" leaves out every key that a user would leave out: TRL then
recomputes activations, while our memory plan keeps them if they fit. "packed pairs" has the same options as the first rows. "precomputed reference" adds that key of our recipes.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import polars

ROOT = Path(__file__).resolve().parents[1]
SAME = {
    "max_length": 256,
    "per_device_train_batch_size": 2,
    "per_device_eval_batch_size": 8,
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
    parser.add_argument("--pairs", type=int, default=16, help="(default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=3, help="epochs (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each; medians are shown (default: %(default)s)")
    parser.add_argument("--model", default=str(ROOT / "cache" / "gemma-3-270m-ru"), help="(default: %(default)s)")
    parser.add_argument(
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
        build = [sys.executable, "data_builders/oasst1_ru.py", "--source", "samples/oasst1_ru_sample.jsonl"]
        build += ["--turns", "all", "--test_size", "0.05", "--format", "text", "--output_dir", str(data)]
        subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        pairs = data / "data" / "train-00000-of-00001.parquet"
        polars.read_parquet(pairs).sample(args.pairs, seed=1).write_parquet(pairs)
        steps = args.pairs * args.epochs // SAME["per_device_train_batch_size"]
        same = {"model_name_or_path": args.model, "dataset_name": data}
        trl, ours = ["-m", "trl.scripts.dpo"], ["scripts/dpo.py"]
        equal = same | {"gradient_checkpointing": "false"}
        rows = {
            ("trl dpo", "same options"): (trl, equal),
            ("scripts/dpo.py", "same options"): (ours, equal | {"pair_layout": "padded"}),
            ("scripts/dpo.py", "packed pairs"): (ours, equal | {"pair_layout": "packed"}),
            ("trl dpo", "defaults"): (trl, same),
            ("scripts/dpo.py", "defaults"): (ours, same),
            ("scripts/dpo.py", "precomputed reference"): (ours, same | {"precompute_ref_log_probs": "true"}),
        }
        if args.also:
            keys = {key.removeprefix("--"): value for key, value in zip(args.also[::2], args.also[1::2], strict=True)}
            rows["scripts/dpo.py", " ".join(args.also)] = (ours, same | keys)
        results: dict[tuple[str, str], list[dict]] = {row: [] for row in rows}
        for number in range(args.rounds):
            for position, (row, (script, keys)) in enumerate(rows.items()):
                results[row].append(run_once(script, keys, work / f"run{number}-{position}", steps))
                print(
                    f"round {number + 1}: {row[0]}, {row[1]}: {results[row][-1]['step']:.2f} s per step",
                    file=sys.stderr,
                )
    print(f"{steps} steps of {SAME['per_device_train_batch_size']} pairs, medians of {args.rounds} runs\n")
    print("| | | seconds per step | peak memory | first and last loss |\n| --- | --- | ---: | ---: | --- |")
    for (script_name, options), runs in results.items():
        step, memory = (statistics.median(run[key] for run in runs) for key in ("step", "memory"))
        losses = runs[0]["losses"]
        print(
            f"| {script_name} | {options} | {step:.2f} | {memory / 2**30:.2f} GiB | {losses[0]:.4f}, {losses[-1]:.4f} |"
        )
    print()
    for script_name, options in rows:
        if script_name == "trl dpo":
            continue
        other = results["trl dpo", "same options" if options in ("same options", "packed pairs") else "defaults"]
        ratios = [
            theirs["step"] / ours["step"] for theirs, ours in zip(other, results[script_name, options], strict=True)
        ]
        print(f"{options}: {statistics.median(ratios):.2f} times as fast ({', '.join(f'{r:.2f}' for r in ratios)})")


if __name__ == "__main__":
    main()
