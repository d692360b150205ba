"""
Train the recipes' models at their full size on the CPU, and compare the counted memory with the plan's.

    python benchmarks/full_size.py
    python benchmarks/full_size.py recipes/llama1b_ru.yaml --lengths 256 512

No weights are needed: each model is built at its real shape with random weights, and `scripts/dpo.py` trains it for two steps in fp32 with
4-bit weights, on pairs that fill the length. Every tensor of the second step is counted, which must give the plan's peak to the byte. A
tokenizer with one token for each word replaces the model's own, so that the lengths are exact. Each run is a separate process; its peak
memory includes the weights that are read from the disk before they are quantized, and the counting takes some time.
"""

import argparse
import json
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

from random_models import filling, make_model, make_pairs

from preferans.files import read_json, read_yaml
from preferans.memory.live_bytes import LiveBytes
from preferans.memory.settings import load_shape
from preferans.training.dpo import PreferenceTrainer

ROOT = Path(__file__).resolve().parents[1]
# Without Gemma: the demo trains it at its full size, and gradients of 18 random layers of it overflow.
RECIPES = ("rugpt3medium_ru", "rugpt3large_ru", "llama1b_ru", "llama3b_ru")
ON_THE_CPU = {
    "use_cpu": "true",
    "dtype": "float32",
    "fp16": "false",
    "bf16": "false",
    "optim": "adamw_torch",
    "max_steps": 2,
    "logging_steps": 1,
    "gradient_accumulation_steps": 1,
    "per_device_eval_batch_size": 1,
    "precompute_ref_batch_size": 1,
    "ignore_plan": "true",
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    recipes = [str(ROOT / "recipes" / f"{name}.yaml") for name in RECIPES]
    parser.add_argument(
        "recipes", nargs="*", default=recipes, help="recipes (default: one for each model of ruGPT-3 and Llama)"
    )
    parser.add_argument("--lengths", nargs="+", type=int, default=[256, 512], help="tokens (default: 256 512)")
    parser.add_argument(
        "--count", nargs=argparse.REMAINDER, help=argparse.SUPPRESS
    )  # the options of a separate process
    return parser.parse_args()


def count(words: list[str]) -> None:
    """Run `scripts/dpo.py` in this process, and write the peak of its second step beside the run."""
    counter, times = LiveBytes(), []
    real = PreferenceTrainer.training_step

    def training_step(self, *args, **kwargs):
        times.append(os.times().elapsed)
        counter.phase = f"step {len(times)}"
        try:
            return real(self, *args, **kwargs)
        finally:
            counter.phase = None
            times[-1] = os.times().elapsed - times[-1]

    PreferenceTrainer.training_step = training_step
    sys.argv = ["scripts/dpo.py", *words]
    try:
        with counter:
            runpy.run_path(str(ROOT / "scripts" / "dpo.py"), run_name="__main__")
    finally:
        if len(times) == 2:
            peak = counter.peaks["step 2"]
            output = Path(words[words.index("--output_dir") + 1])
            found = {"counted": peak.total(), "seconds": times[1]}
            (output / "counted.json").write_text(json.dumps(found))


def run_once(recipe: str, model: Path, length: int, folder: Path, vocab_size: int) -> dict:
    """Train in a separate process. Return planned and counted bytes, seconds and the peak memory of the process."""
    data, output = folder / f"pairs_{length}", folder / f"run_{length}"
    make_pairs(data, [filling(length)] * 2, vocab_size)
    keys = ON_THE_CPU | {"model_name_or_path": model, "dataset_name": data, "output_dir": output, "max_length": length}
    words = [recipe, *(word for key, value in keys.items() for word in (f"--{key}", str(value)))]
    log = folder / f"{length}.log"
    with open(log, "w", encoding="utf-8") as file:
        process = subprocess.Popen([sys.executable, __file__, "--count", *words], cwd=ROOT, stdout=file, stderr=file)
        _, status, usage = os.wait4(process.pid, 0)
    if status or not (output / "counted.json").is_file():
        raise SystemExit(f"{recipe} at {length} tokens failed:\n{log.read_text(encoding='utf-8')[-2000:]}")
    record = read_json(output / "provenance.json")
    return read_json(output / "counted.json") | {
        "planned": record["measured"]["planned_peak_bytes"],
        "memory": usage.ru_maxrss * 1024,
        "layout": record["switches"]["pair_layout"],
    }


def main() -> None:
    args = parse_arguments()
    if args.count:
        count(args.count)
        return
    print("| recipe | tokens | layout | planned, bytes | counted, bytes | seconds per step | peak of the process |")
    print("| --- | ---: | --- | ---: | ---: | ---: | ---: |")
    for recipe in args.recipes:
        config = load_shape(read_yaml(recipe)[0]["model_name_or_path"])
        with tempfile.TemporaryDirectory() as work:
            model = Path(work) / "model"
            make_model(config, model)
            for length in args.lengths:
                run = run_once(str(Path(recipe).resolve()), model, length, Path(work), config.vocab_size)
                print(
                    f"| `{Path(recipe).stem}` | {length} | {run['layout']} | {run['planned']:,} | {run['counted']:,} | {run['seconds']:.1f} | "
                    f"{run['memory'] / 2**30:.1f} GiB |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
