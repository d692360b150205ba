"""
Time and memory of training: scripts/dpo.py beside `trl dpo`, with the same model, pairs and options.

    python benchmarks/against_trl.py
    python benchmarks/against_trl.py --pairs 32 --rounds 3 --also --group_by_length true

The model is the offline Gemma of the demo, in 4 bits, the pairs those of the sample as plain texts, since TRL's script wants a chat
template otherwise. Each run is a process of its own on the CPU, and they take turns, so that what else the machine does meets all.
The time is TRL's own `train_runtime`, and that of asking the reference beforehand where a run does so; loading, and our scoring of
the test pairs, stand outside. Memory is the most that the process held. "as it comes" leaves out every key that a person would leave
out: TRL then recomputes activations, and our memory plan sees that there is room not to. "reference asked once" is what our recipes
say besides.
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
    parser.add_argument("--epochs", type=int, default=3, help="times that each is seen (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each; medians are shown (default: %(default)s)")
    parser.add_argument("--model", default=str(ROOT / "cache" / "gemma-3-270m-ru"), help="(default: %(default)s)")
    parser.add_argument(
        "--also", nargs=argparse.REMAINDER, default=[], help="one more row: ours with these keys; write it last"
    )
    return parser.parse_args()


def run_once(script: list[str], keys: dict, folder: Path, steps: int) -> dict:
    """One training in a process of its own: its seconds a step, those of the reference shared out, peak memory and losses."""
    keys = SAME | {"max_steps": steps, "save_steps": steps, "output_dir": folder} | keys
    words = [word for key, value in keys.items() for word in (f"--{key}", *str(value).split())]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    with open(folder.with_suffix(".log"), "w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, *script, *words], cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        log.seek(0)
        told = log.read()
    if status:
        raise SystemExit(f"{' '.join(script)} ended with status {status}:\n{told[-2000:]}")
    seconds = float(re.findall(r"'train_runtime': '?([\d.]+)", told)[-1])
    # A bar of the reference: number of batches, and seconds each or each second.
    for batches, rate, unit in re.findall(
        r"reference log probs for train[^\r\n]*?100%[^\r\n]*? (\d+)/\d+ \[[^,]*, +([\d.]+)(s/it|it/s)", told
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
        data = (
            work / f"pairs_{work.name}"
        )  # datasets would take another folder "pairs" for this one and load what it has cached
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
            ("scripts/dpo.py", "same options"): (ours, equal | {"separate_passes": "false"}),
            ("trl dpo", "as it comes"): (trl, same),
            ("scripts/dpo.py", "as it comes"): (ours, same),
            ("scripts/dpo.py", "reference asked once"): (ours, same | {"precompute_ref_log_probs": "true"}),
        }
        if args.also:
            keys = {key.removeprefix("--"): value for key, value in zip(args.also[::2], args.also[1::2], strict=True)}
            rows["scripts/dpo.py", " ".join(args.also)] = (ours, same | keys)
        found = {row: [] for row in rows}
        for number in range(args.rounds):
            for position, (row, (script, keys)) in enumerate(rows.items()):
                found[row].append(run_once(script, keys, work / f"run{number}-{position}", steps))
                print(
                    f"round {number + 1}: {row[0]}, {row[1]}: {found[row][-1]['step']:.2f} s a step", file=sys.stderr
                )
    print(f"{steps} steps of {SAME['per_device_train_batch_size']} pairs, medians of {args.rounds} runs\n")
    print("| | | seconds a step | peak memory | first and last loss |\n| --- | --- | ---: | ---: | --- |")
    for (what, how), runs in found.items():
        step, memory = (statistics.median(run[key] for run in runs) for key in ("step", "memory"))
        losses = runs[0]["losses"]
        print(f"| {what} | {how} | {step:.2f} | {memory / 2**30:.2f} GiB | {losses[0]:.4f}, {losses[-1]:.4f} |")
    print()
    for what, how in rows:
        if what == "trl dpo":
            continue
        other = found["trl dpo", "same options" if how == "same options" else "as it comes"]
        ratios = [theirs["step"] / mine["step"] for theirs, mine in zip(other, found[what, how], strict=True)]
        print(f"{how}: {statistics.median(ratios):.2f} times as fast ({', '.join(f'{r:.2f}' for r in ratios)})")


if __name__ == "__main__":
    main()
