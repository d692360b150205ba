"""
What only a card can show: memory, fp16, speed, kernels and exact resuming, in at most 8 minutes.

    python benchmarks/on_card.py --output card.json --smoke      # every check with tiny models, on the CPU without a card
    python benchmarks/on_card.py --output card.json
    python benchmarks/on_card.py --output card.json --at_once 8  # on a large card: checks without a clock run side by side

No network and no weights are needed: the models have the real shapes and random weights. Each check is a separate process with a time
limit, the most valuable first. The file is written after each check, so that nothing is lost if the time ends; what did not run is
listed. A table is printed at the end.
"""

import argparse
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from preferans.files import read_json, read_yaml, write_json

ROOT = Path(__file__).resolve().parents[1]
MIB = 1 << 20
CHECK_SECONDS = 180
# Recipe, tokens and, if it is not the recipe's own, the layout of pairs.
PLANNED = [
    "llama1b_ru 1024",
    "llama3b_ru 1024",
    "llama3b_ru 1024 packed",
    "rugpt3large_ru 1024",
    "llama1b_ru 512",
    "llama1b_ru 2048",
    "llama3b_ru 512",
    "qwen3_1.7b_ru 1024",
]
# Layout or trainer, pairs in a batch, and what else is changed. TRL's script trains with the same keys.
TIMED = ["trl 1", "packed 1", "padded 1", "separate 1", "trl 4", "packed 4", "padded 4", "packed 1 exact"]
TIMED += [f"{layout} 1 gtx1650" for layout in ("packed", "padded", "separate")]
TIMED += ["packed 1 offloading", "packed 1 paged"]
TOGETHER = ["fp16 ours", "resume default", "resume exact", "fp16 trl"]
VARIANTS: dict[str, dict[str, Any]] = {
    "exact": {"full_determinism": "true"},
    "gtx1650": {"hardware_profile": "gtx1650", "bf16": "false", "fp16": "true", "dtype": "float16"},
    "offloading": {"activation_offloading": "true"},
    "paged": {"optim": "paged_adamw_8bit"},
}
# Tokens of prompt, chosen and rejected answer of pairs drawn from oasst1: English, all turns, cut to 512 tokens.
REAL_SIZES = [(121, 28, 23), (38, 102, 13), (23, 276, 254), (22, 285, 41), (78, 201, 116), (511, 1, 1)]
REAL_SIZES += [(27, 77, 194), (350, 162, 162), (49, 22, 20), (14, 498, 155), (20, 435, 343), (154, 308, 98)]
REAL_SIZES += [(151, 157, 16), (436, 76, 76), (231, 40, 37), (123, 192, 47)]
NOT_IN_TABLE = ("check", "status", "check_seconds", "output", "batches")
TINY = {
    "llama": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 16}
    | {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512},
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 512},
}
ON_THE_CPU = {"use_cpu": "true", "fp16": "false", "bf16": "false", "dtype": "float32", "optim": "adamw_torch"}
# What TRL's script needs to train as a recipe does; its adapters are in bf16.
FOR_TRL = {
    "load_in_4bit": "true",
    "use_bnb_nested_quant": "true",
    "use_peft": "true",
    "lora_target_modules": "all-linear",
}
FOR_TRL |= {"dtype": "float16", "fp16": "true", "bf16": "false", "lora_dropout": 0.0, "lora_r": 16, "lora_alpha": 32}


class Checks:
    """
    The checks, one method each, in one process.

    Args:
        work (`Path`): Folder for models and runs, which the checks share.
        smoke (`bool`): Whether to use tiny models.
        card (`bool`): Whether this machine has a card.
    """

    def __init__(self, work: Path, smoke: bool, card: bool):
        self.work, self.smoke, self.card = work, smoke, card

    def names(self) -> dict[str, list[str]]:
        """List the models to make, the checks that can run side by side, and those with a clock; most valuable first."""
        planned = [PLANNED[0], PLANNED[3]] if self.smoke else PLANNED
        timed = [TIMED[0], TIMED[1], TIMED[3], *TIMED[-6:]] if self.smoke else TIMED
        if not self.card:
            timed = [name for name in timed if not name.endswith(("gtx1650", "offloading", "paged"))]
        origins = ["origin llama1b_ru 512", "origin llama3b_ru 512"][: 1 if self.smoke else 2] if self.card else []
        recipes = dict.fromkeys(["llama1b_ru", *(name.split()[0] for name in planned)])
        return {
            "models": [f"make {recipe}" for recipe in recipes],
            "together": ["context", *(f"plan {name}" for name in planned), *origins, *TOGETHER],
            "alone": ["attention", *(f"speed {name}" for name in timed), "generation"],
        }

    def run(self, name: str) -> dict[str, Any]:
        """Run one check, for example `"plan llama1b_ru 1024"`."""
        kind, *words = name.split()
        return getattr(self, kind)(*words)

    def make(self, recipe: str) -> dict[str, Any]:
        """Make a recipe's model with random weights."""
        import torch
        from random_models import make_model

        from preferans.memory.settings import load_shape

        config = load_shape(read_yaml(ROOT / "recipes" / f"{recipe}.yaml")[0]["model_name_or_path"])
        if self.smoke:
            config.update(TINY[config.model_type])
        large = self.card and torch.cuda.mem_get_info()[0] > 20 << 30
        make_model(config, self._model(recipe), "cuda" if large else "cpu")
        return {}

    def context(self) -> dict[str, Any]:
        """The driver's memory for one tensor: CUDA's context, and PyTorch's first block of 2 MiB."""
        if not self.card:
            return {"driver_mib": None}
        import torch

        held = torch.ones(1, device="cuda") + 1
        return {"driver_mib": _driver_mib(os.getpid()), "tensor_bytes": held.nbytes}

    def plan(self, recipe: str, length: str, layout: str | None = None) -> dict[str, Any]:
        """Four steps under the limits of a GTX 1650: the planned peak beside PyTorch's and the driver's."""
        run = self.work / "_".join(["plan", recipe, length, *([layout] if layout else [])])
        keys = {"max_steps": 4, "gradient_accumulation_steps": 2, "hardware_profile": "gtx1650"}
        keys |= {"pair_layout": layout} if layout else {}
        pairs = self._pairs(recipe, f"filling_{length}")
        printed, driver_mib = self._train(recipe, run, pairs, int(length), keys)
        record = read_json(run / "provenance.json")
        planned, peak = record["measured"]["planned_peak_bytes"], record["measured"]["peak_memory_bytes"]
        return {
            "planned_mib": planned // MIB,
            "allocated_mib": peak // MIB if self.card else None,
            "allocated_over_planned": round(peak / planned, 3) if self.card else None,
            "driver_mib": driver_mib or None,
            "layout": record["switches"]["pair_layout"],
            "losses": _losses(run),
            "step_seconds": _step_seconds(printed),
        }

    def origin(self, recipe: str, length: str) -> dict[str, Any]:
        """Which code allocated the memory at the peak of the last batch, and before it."""
        run, output = self.work / f"origin_{recipe}_{length}", self.work / f"origin_{recipe}_{length}.json"
        keys = {"max_steps": 2, "gradient_accumulation_steps": 2, "hardware_profile": "gtx1650"}
        words = ["benchmarks/allocations.py", output]
        self._train(recipe, run, self._pairs(recipe, f"filling_{length}"), int(length), keys, dpo=words)
        return {"batches": [read_json(output)["batches"][number] for number in (0, -1)]}

    def fp16(self, trainer: str) -> dict[str, Any]:
        """Two hundred steps in fp16 with the gradient scaler: NaN and skipped steps."""
        run, steps = self.work / f"fp16_{trainer}", 4 if self.smoke else 200
        keys: dict[str, Any] = {"max_steps": steps, "gradient_accumulation_steps": 1, "learning_rate": 2e-5}
        keys |= {"precompute_ref_log_probs": "false"} | ({"hardware_profile": "gtx1650"} if trainer == "ours" else {})
        try:
            self._train("llama1b_ru", run, self._pairs("llama1b_ru", "filling_128"), 128, keys, trl=trainer == "trl")
        except SystemExit as stopped:  # expected of TRL's bf16 adapters, whose gradients the scaler cannot unscale
            printed = str(stopped)
            errors = re.findall(r"^[\d.]+ (\w+Error: .*)", printed, flags=re.MULTILINE)
            if not errors or trainer == "ours":
                raise
            return {"steps": len(_loss_times(printed)), "stopped_by": errors[-1]}
        losses = _losses(run)
        record = {"steps": len(losses), "nan": sum(loss != loss for loss in losses), "last_losses": losses[-3:]}
        if trainer == "ours":
            record["skipped_steps"] = read_json(run / "provenance.json")["measured"]["skipped_steps"]
        return record

    def speed(self, trainer: str, pairs: str, variant: str | None = None) -> dict[str, Any]:
        """Median seconds of a step in bf16 with checkpointing, after four to warm up; the reference is computed before."""
        run = self.work / "_".join(["speed", trainer, pairs, *([variant] if variant else [])])
        keys: dict[str, Any] = {"per_device_train_batch_size": pairs, "gradient_accumulation_steps": 1}
        keys |= {"max_steps": 6 if self.smoke else 24, "gradient_checkpointing": "true", "save_strategy": "no"}
        keys |= {"precompute_ref_log_probs": "true", "optim": "adamw_torch"}
        keys |= {"bf16": "true", "fp16": "false", "dtype": "bfloat16"} if self.card else {}
        keys |= {} if trainer == "trl" else {"pair_layout": trainer}
        keys |= VARIANTS[variant] if variant else {}
        printed, _ = self._train("llama1b_ru", run, self._pairs("llama1b_ru", "real"), 512, keys, trl=trainer == "trl")
        return {"step_seconds": _step_seconds(printed)}

    def attention(self) -> dict[str, Any]:
        """Milliseconds of attention with a four-dimensional mask in each kernel, forward and backward; `None` where it is refused."""
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel

        device = "cuda" if self.card else "cpu"
        length = 64 if self.smoke else 2048
        shape = (1, 32, length, 64)
        query, key, value = (
            torch.randn(shape, device=device, dtype=torch.float16 if self.card else torch.float32, requires_grad=True)
            for _ in range(3)
        )
        mask = torch.ones(length, length, dtype=torch.bool, device=device).tril()[None, None]

        def once() -> None:
            torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask).sum().backward()
            if self.card:
                torch.cuda.synchronize()

        times: dict[str, Any] = {}
        for backend in (None, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH):
            name = "default" if backend is None else backend.name.lower()
            try:
                with sdpa_kernel(backend or list(SDPBackend.__members__.values())[1:]):
                    once()
                    start = time.perf_counter()
                    for _ in range(5):
                        once()
                times[f"{name}_ms"] = round((time.perf_counter() - start) * 200, 2)
            except RuntimeError:
                times[f"{name}_ms"] = None
        return times

    def generation(self) -> dict[str, Any]:
        """Tokens per second of `scripts/generate.py` at several batch sizes."""
        prompts, rates = self.work / "prompts.jsonl", {}
        rows = [
            {"id": str(number), "prompt": [{"role": "user", "content": f"w{number + 9} w8 w7"}]}
            for number in range(32)
        ]
        prompts.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        for batch in (1, 8, 32):
            words = ["--model_name_or_path", self._model("llama1b_ru"), "--load_in_4bit", "--prompts", prompts]
            words += ["--batch_size", batch, "--max_new_tokens", 8 if self.smoke else 64]
            words += ["--max_prompts", min(32, 4 * batch), "--output", self.work / f"answers_{batch}.jsonl"]
            printed, _ = self._call(["scripts/generate.py", *words, *([] if self.card else ["--use_cpu"])])
            found = re.findall(r"([\d,.]+) tokens/s", printed)
            rates[f"batch_{batch}_tokens_per_second"] = float(found[-1].replace(",", "")) if found else None
        return rates

    def resume(self, kernels: str) -> dict[str, Any]:
        """A run that is resumed beside one that is not: are the adapters equal to the bit?"""
        keys: dict[str, Any] = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
        keys |= {"gradient_accumulation_steps": 1, "hardware_profile": "gtx1650"}
        keys |= VARIANTS["exact"] if kernels == "exact" else {}
        pairs = self._pairs("llama1b_ru", "filling_256")
        whole, stopped = (self.work / f"resume_{kernels}_{name}" for name in ("whole", "stopped"))
        self._train("llama1b_ru", whole, pairs, 256, keys)
        shutil.copytree(whole, stopped)
        shutil.rmtree(stopped / "checkpoint-4")
        for name in ("all_results.json", "adapter_model.safetensors", "trainer_state.json", "test_log_probs.json"):
            (stopped / name).unlink()
        record = read_json(stopped / "provenance.json")
        write_json(stopped / "provenance.json", record | {"keys": record["keys"] | {"output_dir": str(stopped)}})
        self._train("llama1b_ru", stopped, pairs, 256, keys)
        adapters = [(run / "adapter_model.safetensors").read_bytes() for run in (whole, stopped)]
        return {"equal_to_the_bit": adapters[0] == adapters[1], "losses": [_losses(whole), _losses(stopped)]}

    def _model(self, recipe: str) -> Path:
        return self.work / recipe

    def _pairs(self, recipe: str, name: str) -> Path:
        """Return a folder of pairs for a recipe's model: `"real"`, or `"filling_LENGTH"`."""
        from random_models import filling, make_pairs

        folder = self.work / f"pairs_{recipe}_{name}"
        if not folder.is_dir():
            length = int(name.rpartition("_")[2]) if name != "real" else 0
            length = min(length, 64) if self.smoke else length
            making = Path(tempfile.mkdtemp(dir=self.work)) / "pairs"
            vocab_size = read_json(self._model(recipe) / "config.json")["vocab_size"]
            make_pairs(making, [filling(length)] * 16 if length else REAL_SIZES, vocab_size)
            with contextlib.suppress(OSError):  # another check made it
                making.rename(folder)
        return folder

    def _train(
        self,
        recipe: str,
        run: Path,
        pairs: Path,
        length: int,
        keys: dict[str, Any],
        trl: bool = False,
        dpo: Sequence[Any] = ("scripts/dpo.py",),
    ) -> tuple[str, int]:
        """Train a recipe with our script or TRL's. Return its output and the driver's peak memory in MiB."""
        keys = {"save_strategy": "steps", "logging_steps": 1, "report_to": "none", "num_train_epochs": 100} | keys
        keys |= {"model_name_or_path": self._model(recipe), "dataset_name": pairs, "output_dir": run}
        keys |= {"max_length": min(length, 64) if self.smoke and "filling" in pairs.name else length}
        if trl:
            keys = FOR_TRL | {"eval_strategy": "no", "per_device_train_batch_size": 1} | keys
        if not self.card:
            keys = {key: value for key, value in keys.items() if key != "hardware_profile"} | ON_THE_CPU
        script = ["-m", "trl.scripts.dpo"] if trl else [*dpo, ROOT / "recipes" / f"{recipe}.yaml"]
        return self._call([*script, *(word for key, value in keys.items() for word in (f"--{key}", value))])

    def _call(self, words: list[Any]) -> tuple[str, int]:
        """Run a script. Return its output, with the time before each line, and the driver's peak memory in MiB."""
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            [sys.executable, *map(str, words)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        lines = []
        with _DriverMemory(process.pid) as memory:
            for line in process.stdout or ():
                lines.append(f"{time.monotonic():.4f} {line}")
        printed = "".join(lines)
        if process.wait():
            raise SystemExit(printed[-3000:])
        return printed, memory.peak


class _DriverMemory:
    """The highest memory of a process that the driver reports while the `with` block runs, in MiB."""

    def __init__(self, process: int):
        self.process, self.peak = process, 0

    def __enter__(self) -> "_DriverMemory":
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.2):
            self.peak = max(self.peak, _driver_mib(self.process) or 0)


def _driver_mib(process: int) -> int | None:
    """Return the memory of a process that the driver reports, or `None` if it reports none, as on Windows."""
    query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        printed = subprocess.run(query, capture_output=True, text=True, check=True).stdout
        return dict(tuple(map(int, line.split(","))) for line in printed.splitlines()).get(process)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _loss_times(printed: str) -> list[float]:
    """Return the times of the lines of losses."""
    return [float(line.split()[0]) for line in printed.splitlines() if "'loss'" in line]


def _step_seconds(printed: str) -> float | None:
    """Return the median time between the lines of losses, after the first four."""
    gaps = [after - before for before, after in itertools.pairwise(_loss_times(printed))][3:]
    return round(statistics.median(gaps), 4) if gaps else None


def _losses(run: Path) -> list[float]:
    """Return the losses of a run from its last checkpoint, or from the run itself."""
    states = [run / "trainer_state.json", *sorted(run.glob("checkpoint-*/trainer_state.json"))]
    state = next(path for path in states if path.is_file())
    return [entry["loss"] for entry in read_json(state)["log_history"] if "loss" in entry]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    parser.add_argument(
        "--smoke", action="store_true", help="tiny models, to find mistakes before a card's time is used"
    )
    parser.add_argument(
        "--at_once", type=int, default=1, help="checks without a clock at the same time (default: %(default)s)"
    )
    parser.add_argument(
        "--minutes", type=float, default=8, help="time for all checks together on a card (default: %(default)s)"
    )
    parser.add_argument("--check", help=argparse.SUPPRESS)  # the options of a separate process
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not (args.output or args.work):
        parser.error("--output is missing: the JSON file for the results")
    return args


def run_check(name: str, work: Path, smoke: bool, limit: float) -> dict[str, Any]:
    """Run a check in a process of its own, which is killed with its own processes after `limit` seconds."""
    words = ["--check", name, "--work", str(work), *(["--smoke"] if smoke else [])]
    process = subprocess.Popen(
        [sys.executable, __file__, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed, errors = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return {"status": f"stopped after {limit:.0f} s"}
    if process.returncode:
        return {"status": "failed", "output": errors[-3000:]}
    return {"status": "done"} | json.loads(printed.splitlines()[-1])


def main() -> None:
    args = parse_arguments()
    import torch

    card = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    if args.check:
        print(json.dumps(Checks(args.work, args.smoke, bool(card)).run(args.check)))
        return
    if not (card or args.smoke):
        raise SystemExit("This machine has no card that PyTorch can use. --smoke tries every check on the CPU.")
    rows: list[dict[str, Any]] = []
    writing = threading.Lock()
    end = time.monotonic() + 60 * args.minutes

    with tempfile.TemporaryDirectory() as work:

        def check(name: str) -> None:
            start = time.monotonic()
            left = CHECK_SECONDS if args.smoke else min(end - start, CHECK_SECONDS)
            row = run_check(name, Path(work), args.smoke, left) if left > 20 else {"status": "no time left"}
            seconds = round(time.monotonic() - start, 1)
            with writing:
                rows.append({"check": name} | row | {"check_seconds": seconds})
                found = {"card": card, "torch": torch.__version__, "smoke": args.smoke, "checks": rows}
                write_json(args.output, found)
                print(f"{name}: {row['status']}, {seconds} s", file=sys.stderr)

        groups = Checks(Path(work), args.smoke, bool(card)).names()
        for names, at_once in (
            (groups["models"], args.at_once),
            (groups["together"], args.at_once),
            (groups["alone"], args.at_once if args.smoke else 1),
        ):
            with ThreadPoolExecutor(at_once) as pool:
                list(pool.map(check, names))
    print("| check | result |\n| --- | --- |")
    for row in rows:
        found = ", ".join(f"{key} {value}" for key, value in row.items() if key not in NOT_IN_TABLE)
        print(f"| {row['check']} | {found or row['status']} |")


if __name__ == "__main__":
    main()
