"""The folder of a run: provenance, complete checkpoints, and a lock."""

import platform
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open

from ..errors import PreferansError
from ..files import entries, read_json, sha256_of, write_json
from ..hardware.processes import count, from_main

# Written last: it marks a finished run.
FINISHED_FILE = "all_results.json"
BEFORE_FILE = "test_log_probs_before.json"
PACKAGES = ("torch", "trl", "transformers", "peft", "bitsandbytes", "accelerate", "datasets", "preferans")
# FSDP saves the optimizer in optimizer.bin, DeepSpeed in a folder that the file `latest` names.
CHECKPOINT_FILES = (
    ("adapter_model.safetensors",),
    ("optimizer.pt", "optimizer.bin", "latest"),
    ("scheduler.pt",),
    ("trainer_state.json",),
)


def is_complete_checkpoint(checkpoint: Path, num_processes: int = 1) -> bool:
    """
    Check whether a checkpoint folder is complete, so that training can resume from it: no file is missing or truncated.

    Args:
        checkpoint (`Path`)
        num_processes (`int`, *optional*, defaults to `1`): Processes of the run, each of which writes its random state.
    """
    states = ["rng_state.pth"] if num_processes == 1 else [f"rng_state_{rank}.pth" for rank in range(num_processes)]
    wanted = (*CHECKPOINT_FILES, *((state,) for state in states))
    if not all(any((checkpoint / name).exists() for name in names) for names in wanted):
        return False
    try:
        read_json(checkpoint / "trainer_state.json")  # written last
        with safe_open(checkpoint / "adapter_model.safetensors", "pt"):
            pass  # compares the file's size with its header
    except (PreferansError, SafetensorError, OSError):
        return False
    # PyTorch writes archives, whose directory is at the end.
    saved = [path for pattern in ("*.pt", "*.pth", "*.bin") for path in checkpoint.glob(pattern)]
    return all(zipfile.is_zipfile(path) for path in saved)


def last_checkpoint(output_dir: str | Path, num_processes: int = 1) -> str | None:
    """Return the newest complete checkpoint of a run, or `None`. Incomplete ones, as left by a kill or a full disk, are ignored."""
    folders = [folder for folder in Path(output_dir).glob("checkpoint-*") if folder.name.split("-")[1].isdigit()]
    for folder in sorted(folders, key=lambda folder: int(folder.name.split("-")[1]), reverse=True):
        if is_complete_checkpoint(folder, num_processes):
            return str(folder)
        print(f"{folder} is incomplete or damaged, and is ignored.")
    return None


LOCK_NAME = "process.lock"
# Keys that do not affect the adapter.
WITHOUT_EFFECT = (
    "dataloader_num_workers", "dataloader_persistent_workers", "dataloader_pin_memory", "dataloader_prefetch_factor",
    "dataset_num_proc", "ddp_timeout", "disable_tqdm", "do_eval", "do_predict", "do_train", "eval_accumulation_steps", "eval_steps",
    "eval_strategy", "hub_model_id", "hub_private_repo", "hub_strategy", "ignore_plan", "log_level", "log_level_replica",
    "logging_first_step", "logging_steps", "logging_strategy", "longest_first", "output_dir", "per_device_eval_batch_size",
    "precompute_ref_batch_size", "project", "push_to_hub", "report_to", "run_name", "save_steps", "save_strategy", "save_total_limit",
    "skip_memory_metrics", "torch_empty_cache_steps", "trackio_bucket_id", "trackio_space_id", "trackio_static_space_id",
)  # fmt: skip


@contextmanager
def only_process(output_dir: str | Path) -> Iterator[None]:
    """
    Lock a run's folder against a second run: after Ctrl-C, the launcher ends before the training process has saved.

    The main process holds the lock, and the operating system releases it when the process ends. A run on another machine is not
    detected.

    Raises:
        [`PreferansError`]: if another process trains in the folder.
    """
    lock = FileLock(Path(output_dir) / LOCK_NAME)
    from_main(lambda: _acquire(lock))
    try:
        yield
    finally:
        if lock.is_locked:
            with suppress(OSError):  # Windows does not delete an open file; there release() does
                Path(lock.lock_file).unlink()
            lock.release()


def _acquire(lock: FileLock) -> None:
    Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise PreferansError(
            f"output_dir {Path(lock.lock_file).parent}: another process is training in this folder. Wait until it has saved its "
            "checkpoint, or end it."
        ) from None


def kept_scores(output_dir: str | Path, compute: Callable[[], list[dict[str, float]]]) -> list[dict[str, float]]:
    """
    Return the log-probabilities of the test pairs before training.

    They are computed once and saved in the run's folder, because a resumed run does not have the untrained adapter.

    Args:
        output_dir (`str` or `Path`): Folder of the run.
        compute (`Callable`): Computes them; it is called in every process.
    """
    file = Path(output_dir) / BEFORE_FILE
    if not from_main(file.exists):
        scores = compute()
        from_main(lambda: write_json(file, scores))
    return from_main(lambda: read_json(file))


def provenance(
    recipe: str | None, recipe_keys: dict[str, Any], dataset: dict[str, Any], seed: int, commit: str | None = None
) -> dict[str, Any]:
    """
    Return everything that is needed to reproduce a run, as JSON.

    Args:
        recipe (`str`, *optional*): Path of the recipe.
        recipe_keys (`dict`): Every key that the recipe or the command line sets.
        dataset (`dict`): Name, fingerprint and sizes of the dataset.
        seed (`int`)
        commit (`str`, *optional*): Commit of a base model on the Hub.
    """
    model_name = recipe_keys.get("model_name_or_path", "")
    template = recipe_keys.get("chat_template_path")
    weights = sorted(Path(model_name).glob("*.safetensors")) if Path(model_name).is_dir() else []
    return {
        "recipe": recipe,
        "keys": dict(sorted(recipe_keys.items())),
        "dataset": dataset,
        "model": {
            "name": model_name,
            "revision": (commit or recipe_keys.get("model_revision", "main")) if not weights else None,
            "weights_sha256": {file.name: sha256_of(file) for file in weights},
        },
        "chat_template_sha256": sha256_of(template) if template and Path(template).is_file() else None,
        "seed": seed,
        "num_processes": count(),
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def _git_commit() -> str | None:
    try:
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def check_run_dir(output_dir: str | Path, run: dict[str, Any]) -> None:
    """
    Check that a run's folder is empty or has the same run, so that two runs never mix.

    Args:
        output_dir (`str` or `Path`): Folder of the run.
        run (`dict`): See [`provenance`].

    Raises:
        [`PreferansError`]: if the folder has another run or other files.
    """
    path = Path(output_dir) / "provenance.json"
    file = next((folder for folder in (Path(output_dir), *Path(output_dir).parents) if folder.is_file()), None)
    if file:
        raise PreferansError(f"output_dir {output_dir}: {file} is a file. Name a folder.")
    if not path.exists():
        if Path(output_dir).exists() and {entry.name for entry in entries(output_dir)} - {LOCK_NAME}:
            raise PreferansError(
                f"output_dir {output_dir}: the folder is not empty and is not a run. Name a new folder."
            )
        return
    old = read_json(path)
    contents = {
        "dataset_name": (old["dataset"]["fingerprint"], run["dataset"]["fingerprint"]),
        "model_name_or_path": (old["model"]["weights_sha256"], run["model"]["weights_sha256"]),
        "chat_template_path": (old["chat_template_sha256"], run["chat_template_sha256"]),
        "the adapter it starts from": (_start_of(old), _start_of(run)),
    }
    # A path may change if its content is the same. num_processes is compared below by its real value, because batches and random
    # states depend on it.
    moved = {key for key, (there, here) in contents.items() if there and there == here}
    keys = sorted((set(old["keys"]) | set(run["keys"])) - {"num_processes", *WITHOUT_EFFECT} - moved)
    differences = [
        f"{key}: {old['keys'].get(key)!r} there, {run['keys'].get(key)!r} here"
        for key in keys
        if old["keys"].get(key) != run["keys"].get(key)
    ]
    there, here = old.get("num_processes", 1), run["num_processes"]
    if there != here:
        differences.append(f"num_processes: {there} there, {here} here")
    differences += [f"{key}: the content has changed" for key, (there, here) in contents.items() if there != here]
    if differences:
        raise PreferansError(
            f"output_dir {output_dir}: the folder has a run of another recipe ({'; '.join(differences)}). Name another "
            "output_dir, or delete the folder."
        )


def _start_of(run: dict[str, Any]) -> str | None:
    return (run.get("started_from") or {}).get("sha256")
