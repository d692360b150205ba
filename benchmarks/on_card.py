"""
What only a card can show: memory, fp16, speed, kernels and exact resuming, in at most 8 minutes.

    python benchmarks/on_card.py --output card.json
    python benchmarks/on_card.py --output card.json --smoke      # every check with tiny models, on the CPU

No network and no weights are needed: the models have the real shapes and random weights. Each check is a separate process with a time
limit, the most valuable first. The file is written after each check, so that nothing is lost if the time ends; what did not run is
listed. A table is printed at the end.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from preferans.files import read_json, read_yaml, write_json

ROOT = Path(__file__).resolve().parents[1]
MIB = 1 << 20
CHECK_SECONDS = 180
PLANNED = [
    ("llama1b_ru", 1024),
    ("llama3b_ru", 1024),
    ("llama1b_ru", 512),
    ("llama1b_ru", 2048),
    ("llama3b_ru", 512),
    ("rugpt3large_ru", 1024),
]
TINY = {
    "llama": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 16}
    | {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512},
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 512},
}
ON_THE_CPU = {"use_cpu": "true", "fp16": "false", "dtype": "float32", "optim": "adamw_torch"}
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
        smoke (`bool`): Whether to use tiny models on the CPU.
    """

    def __init__(self, work: Path, smoke: bool):
        self.work, self.smoke = work, smoke

    def names(self) -> list[str]:
        """List the checks, most valuable first."""
        planned = PLANNED[:1] + PLANNED[-1:] if self.smoke else PLANNED
        plans = [f"plan {recipe} {length}" for recipe, length in planned]
        rest = [
            "fp16 ours",
            "resume default",
            "attention",
            "speed 1",
            "generation",
            "fp16 trl",
            "speed 4",
            "resume exact",
        ]
        return [*plans[:2], *rest, *plans[2:]]

    def run(self, name: str) -> dict[str, Any]:
        """Run one check, for example `"plan llama1b_ru 1024"`."""
        kind, *words = name.split()
        return getattr(self, kind)(*words)

    def plan(self, recipe: str, length: str) -> dict[str, Any]:
        """Four steps under the limits of a GTX 1650: the planned peak beside PyTorch's and the driver's."""
        run = self.work / f"plan_{recipe}_{length}"
        watch = _DriverMemory()
        with watch:
            self._train(recipe, run, int(length), {"max_steps": 4, "gradient_accumulation_steps": 2})
        measured = read_json(run / "provenance.json")["measured"]
        planned, peak = measured["planned_peak_bytes"], measured["peak_memory_bytes"]
        return {
            "planned_mib": planned // MIB,
            "allocated_mib": None if self.smoke else peak // MIB,
            "driver_mib": watch.peak - watch.before,
            "allocated_over_planned": None if self.smoke else round(peak / planned, 3),
            "layout": read_json(run / "provenance.json")["switches"]["pair_layout"],
            "losses": _losses(run),
        }

    def fp16(self, trainer: str) -> dict[str, Any]:
        """Two hundred steps in fp16 with the gradient scaler: NaN and skipped steps."""
        run, steps = self.work / f"fp16_{trainer}", 4 if self.smoke else 200
        keys = {
            "max_steps": steps,
            "gradient_accumulation_steps": 1,
            "learning_rate": 2e-5,
            "precompute_ref_log_probs": "false",
        }
        self._train("llama1b_ru", run, 128, keys, trl=trainer == "trl")
        losses = _losses(run)
        record = {"steps": len(losses), "nan": sum(loss != loss for loss in losses), "last_losses": losses[-3:]}
        if trainer == "ours":
            record["skipped_steps"] = read_json(run / "provenance.json")["measured"]["skipped_steps"]
        return record

    def speed(self, pairs: str) -> dict[str, Any]:
        """Seconds of each layout and of `trl dpo`, and the ratios; separate passes need a reference that is computed before."""
        keys: dict[str, Any] = {"per_device_train_batch_size": pairs, "gradient_accumulation_steps": 1}
        keys |= {
            "max_steps": 2 if self.smoke else 12,
            "gradient_checkpointing": "true",
            "precompute_ref_log_probs": "false",
        }
        seconds = {}
        for row in ("trl", "packed", "padded", "separate"):
            run = self.work / f"speed_{row}_{pairs}"
            options = {} if row == "trl" else {"pair_layout": row}
            options |= {"precompute_ref_log_probs": "true"} if row == "separate" else {}
            seconds[row] = self._train("llama1b_ru", run, 512, keys | options, trl=row == "trl")
        ratios = {f"{row}_over_trl": round(seconds["trl"] / seconds[row], 2) for row in seconds if row != "trl"}
        return {f"{row}_seconds": round(value, 1) for row, value in seconds.items()} | ratios

    def attention(self) -> dict[str, Any]:
        """Milliseconds of attention with a four-dimensional mask in each kernel, forward and backward; `None` where it is refused."""
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel

        device = "cpu" if self.smoke else "cuda"
        length = 64 if self.smoke else 2048
        shape = (1, 32, length, 64)
        query, key, value = (
            torch.randn(shape, device=device, dtype=torch.float32 if self.smoke else torch.float16, requires_grad=True)
            for _ in range(3)
        )
        mask = torch.ones(length, length, dtype=torch.bool, device=device).tril()[None, None]

        def once() -> None:
            torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask).sum().backward()
            if device == "cuda":
                torch.cuda.synchronize()

        times: dict[str, Any] = {}
        for backend in (None, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH):
            name = "default" if backend is None else backend.name.lower()
            try:
                with sdpa_kernel(backend) if backend else sdpa_kernel(list(SDPBackend.__members__.values())[1:]):
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
        prompts = self.work / "prompts.jsonl"
        rows = [
            {"id": str(number), "prompt": [{"role": "user", "content": f"w{number + 9} w8 w7"}]}
            for number in range(32)
        ]
        prompts.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        model, rates = self._model("llama1b_ru"), {}
        for batch in (1, 8, 32):
            words = [
                "--model_name_or_path",
                model,
                "--prompts",
                prompts,
                "--batch_size",
                batch,
                "--max_new_tokens",
                8 if self.smoke else 64,
            ]
            words += ["--max_prompts", min(32, 4 * batch), "--output", self.work / f"answers_{batch}.jsonl"]
            printed = self._call(["scripts/generate.py", *words, *(["--use_cpu"] if self.smoke else [])])
            found = re.findall(r"([\d,.]+) tokens/s", printed)
            rates[f"batch_{batch}_tokens_per_second"] = float(found[-1].replace(",", "")) if found else None
        return rates

    def resume(self, kernels: str) -> dict[str, Any]:
        """A run that is killed and resumed beside one that is not: are the adapters equal to the bit, and what does it cost?"""
        keys: dict[str, Any] = {"max_steps": 4, "save_steps": 2, "gradient_accumulation_steps": 1}
        keys |= {"full_determinism": "true"} if kernels == "exact" else {}
        whole, stopped = (self.work / f"resume_{kernels}_{name}" for name in ("whole", "stopped"))
        seconds = self._train("llama1b_ru", whole, 256, keys)
        shutil.copytree(whole, stopped)
        shutil.rmtree(stopped / "checkpoint-4")
        for name in ("all_results.json", "adapter_model.safetensors", "trainer_state.json", "test_log_probs.json"):
            (stopped / name).unlink()
        record = read_json(stopped / "provenance.json")
        write_json(stopped / "provenance.json", record | {"keys": record["keys"] | {"output_dir": str(stopped)}})
        self._train("llama1b_ru", stopped, 256, keys)
        equal = (whole / "adapter_model.safetensors").read_bytes() == (
            stopped / "adapter_model.safetensors"
        ).read_bytes()
        return {
            "equal_to_the_bit": equal,
            "seconds": round(seconds, 1),
            "losses": [_losses(whole)[-1], _losses(stopped)[-1]],
        }

    def _model(self, recipe: str) -> Path:
        """Return the folder of a recipe's model, which a process of its own makes, so that no context stays on the card."""
        name = read_yaml(ROOT / "recipes" / f"{recipe}.yaml")[0]["model_name_or_path"]
        folder = self.work / name.replace("/", "_")
        if not folder.is_dir():
            words = ["--make", name, "--work", self.work, *(["--smoke"] if self.smoke else [])]
            self._call([Path(__file__), *words])
        return folder

    def make(self, name: str) -> None:
        """Make a model, and pairs for it."""
        from random_models import make_model

        from preferans.memory.settings import load_shape

        config = load_shape(name)
        if self.smoke:
            config.update(TINY[config.model_type])
        making = self.work / "making"
        make_model(config, making)
        making.rename(self.work / name.replace("/", "_"))

    def _pairs(self, model: Path, length: int) -> Path:
        from random_models import make_pairs

        folder = self.work / f"pairs_{model.name}_{length}"
        if not folder.is_dir():
            make_pairs(folder, length, read_json(model / "config.json")["vocab_size"], number=16)
        return folder

    def _train(self, recipe: str, run: Path, length: int, keys: dict[str, Any], trl: bool = False) -> float:
        """Train a recipe under the limits of a GTX 1650, with our script or TRL's. Return the seconds of training."""
        model = self._model(recipe)
        length = min(length, 64) if self.smoke else length
        pairs = self._pairs(model, length)
        keys = {"save_strategy": "steps", "logging_steps": 1, "report_to": "none", "num_train_epochs": 100} | keys
        keys |= {"model_name_or_path": model, "dataset_name": pairs, "output_dir": run, "max_length": length}
        if trl:
            keys = FOR_TRL | {"eval_strategy": "no", "per_device_train_batch_size": 1} | keys
        elif not self.smoke:
            keys["hardware_profile"] = "gtx1650"
        keys |= ON_THE_CPU if self.smoke else {}
        script = ["-m", "trl.scripts.dpo"] if trl else ["scripts/dpo.py", ROOT / "recipes" / f"{recipe}.yaml"]
        printed = self._call([*script, *(word for key, value in keys.items() for word in (f"--{key}", value))])
        return float(re.findall(r"'train_runtime': '?([\d.]+)", printed)[-1])

    def _call(self, words: list[Any]) -> str:
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        done = subprocess.run(
            [sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True, env=environment, check=False
        )
        printed = done.stdout + done.stderr
        if done.returncode:
            raise SystemExit(printed[-1500:])
        return printed


class _DriverMemory:
    """The card's memory in use as the driver reports it, in MiB: before, and the highest while the `with` block runs."""

    before = peak = 0

    def __enter__(self) -> None:
        self.before = self.peak = self._used()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def __exit__(self, *_) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.2):
            self.peak = max(self.peak, self._used())

    @staticmethod
    def _used() -> int:
        query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        try:
            return int(subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0])
        except (OSError, subprocess.SubprocessError, ValueError, IndexError):
            return 0


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
        "--smoke", action="store_true", help="tiny models on the CPU, to find mistakes before a card is used"
    )
    parser.add_argument(
        "--minutes", type=float, default=8, help="time for all checks together on a card (default: %(default)s)"
    )
    parser.add_argument("--check", help=argparse.SUPPRESS)  # the options of a separate process
    parser.add_argument("--make", help=argparse.SUPPRESS)
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
        return {"status": "failed", "output": errors[-1500:]}
    return {"status": "done"} | json.loads(printed.splitlines()[-1])


def main() -> None:
    args = parse_arguments()
    if args.make:
        Checks(args.work, args.smoke).make(args.make)
        return
    if args.check:
        print(json.dumps(Checks(args.work, args.smoke).run(args.check)))
        return
    import torch

    card = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    if not (card or args.smoke):
        raise SystemExit("This machine has no card that PyTorch can use. --smoke tries every check on the CPU.")
    rows: list[dict[str, Any]] = []

    def report(row: dict[str, Any]) -> None:
        rows.append(row)
        write_json(args.output, {"card": card, "torch": torch.__version__, "smoke": args.smoke, "checks": rows})
        print(f"{row['check']}: {row['status']}, {row['check_seconds']} s", file=sys.stderr)

    end = time.monotonic() + 60 * args.minutes
    with tempfile.TemporaryDirectory() as work:
        for name in Checks(Path(work), args.smoke).names():
            start = time.monotonic()
            left = CHECK_SECONDS if args.smoke else min(end - start, CHECK_SECONDS)
            row = run_check(name, Path(work), args.smoke, left) if left > 20 else {"status": "no time left"}
            report({"check": name} | row | {"check_seconds": round(time.monotonic() - start, 1)})
    print("| check | result |\n| --- | --- |")
    for row in rows:
        found = ", ".join(
            f"{key} {value}" for key, value in row.items() if key not in ("check", "status", "check_seconds", "output")
        )
        print(f"| {row['check']} | {found or row['status']} |")


if __name__ == "__main__":
    main()
