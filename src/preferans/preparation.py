"""What every training script does before its model is loaded, so that a mistake costs seconds and not an hour."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import PreferansError
from .hardware import (
    Decisions,
    Device,
    apply_kernels,
    apply_profile,
    decide_kernels,
    decide_precision,
    find_device,
    peak_memory,
)
from .preferences import fingerprint, load_checked_splits
from .processes import check_processes, from_main
from .pushing import check_push_keys, publish_run
from .recipe import fill
from .run_folder import check_run_dir, provenance
from .starting import StartingAdapter, check_base, commit_in_cache, find_adapter, on_its_base, with_revision

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase, TrainingArguments
    from trl import ModelConfig

    from .guards import GuardedTrainer


@dataclasses.dataclass
class Prepared:
    """
    A run that can start: its recipe, data and folder are checked, and nothing heavy is loaded.

    Attributes:
        filled (`list`): The dataclasses of the recipe's keys, in the order they were asked for.
        model_args ([`~trl.ModelConfig`]): Which model, in which precision, and its adapter.
        training_args ([`~transformers.TrainingArguments`]): Keys of the trainer.
        device ([`~preferans.hardware.Device`]): Where the run computes.
        precision (`str`): In which precision, and why.
        kernels ([`~preferans.hardware.Decisions`]): With which kernels, and why.
        train_rows ([`~datasets.Dataset`]), test_rows ([`~datasets.Dataset`]): Preference rows, without prompts that are too long.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): Ready to train with.
        origin (`dict`): See [`~run_folder.provenance`].
        place (`str`): What to call the recipe in a message.
        start ([`~starting.StartingAdapter`], *optional*): The adapter that training goes on from.
    """

    filled: list[Any]
    model_args: "ModelConfig"
    training_args: "TrainingArguments"
    device: Device
    precision: str
    kernels: Decisions
    train_rows: "Dataset"
    test_rows: "Dataset"
    tokenizer: "PreTrainedTokenizerBase"
    origin: dict[str, Any]
    place: str
    start: StartingAdapter | None = None

    @property
    def output_dir(self) -> Path:
        return Path(self.training_args.output_dir)

    @property
    def ignores_plan(self) -> bool:
        return bool(self.origin["keys"].get("ignore_plan"))


def prepare(kinds: tuple[type, ...], said: dict[str, Any], recipe: str | None) -> Prepared | None:
    """
    Check all that can be checked before a model is loaded, and hold this process to the card's profile and kernels.

    Args:
        kinds (`tuple[type, ...]`):
            Dataclasses whose fields are the recipe's keys, with [`~training.HardwareArguments`], [`~trl.ScriptArguments`],
            [`~trl.ModelConfig`] and a kind of [`~transformers.TrainingArguments`] among them.
        said (`dict`):
            Keys that the recipe or the command line sets, see [`~recipe.read_recipe`].
        recipe (`str`, *optional*):
            Path of the recipe.

    Returns:
        [`Prepared`] or `None`: `None` when the folder holds this very run, finished.

    Raises:
        [`PreferansError`]: in one paragraph, on everything that would stop the run later.
    """
    from transformers import TrainingArguments
    from trl import ModelConfig, ScriptArguments

    from .training import check_model_exists, drop_long_prompts, load_config, load_tokenizer

    place = recipe or "Command line"
    for key in ("model_name_or_path", "dataset_name", "output_dir"):
        if not said.get(key):
            raise PreferansError(f"{place}: the key '{key}' is missing.")
    said = with_revision(said, place)
    pushes = from_main(lambda: check_push_keys(said, place))
    start = find_adapter(said["model_name_or_path"], said.get("model_revision"))
    if start:
        said = _from_adapter(said, start, place)
    check_model_exists(said["model_name_or_path"])
    if start:
        check_base(start)
    device = find_device(said.get("use_cpu", False), said.get("hardware_profile"))
    if device.kind == "cpu" and said.get("activation_offloading"):
        raise PreferansError(
            f"{place}: activation_offloading: true moves activations from the card to the machine's memory, and this run computes on the "
            "CPU, where there is nothing to offload to. Add --activation_offloading false to try it here."
        )
    config = load_config(said["model_name_or_path"], said.get("model_revision", "main"))
    dtype = said.get("dtype", "float32")
    fp16, bf16, precision = decide_precision(
        device, said.get("fp16", False), said.get("bf16"), dtype, config.model_type
    )
    half = fp16 or bf16 or dtype in ("float16", "bfloat16")
    kernels = decide_kernels(device, config.get_text_config().vocab_size, half=half)
    filled = fill(kinds, said | {"fp16": fp16, "bf16": bf16, "use_cpu": device.kind == "cpu"}, recipe)
    script_args, model_args, training_args = (
        next(arguments for arguments in filled if isinstance(arguments, kind))
        for kind in (ScriptArguments, ModelConfig, TrainingArguments)
    )
    training_args.push_to_hub = False  # the trainer would upload pickled arguments, and say nothing of a failure
    if not model_args.use_peft:
        raise PreferansError(f"{place}: use_peft must be true; Preferans trains LoRA adapters.")
    check_processes(
        said.get("num_processes"),
        model_args.load_in_4bit,
        getattr(training_args, "precompute_ref_log_probs", False),
        find_card=device.kind == "cuda",
    )
    print(f"Precision: {precision}; adapters in fp32.\nKernels: {kernels.reason}.")
    apply_profile(device)
    apply_kernels(kernels)

    train_rows, test_rows = load_checked_splits(
        script_args.dataset_name,
        script_args.dataset_config,
        script_args.dataset_train_split,
        script_args.dataset_test_split,
    )
    print(f"Dataset: {len(train_rows)} training and {len(test_rows)} test pairs, all sound.")
    described = {
        "name": script_args.dataset_name,
        "fingerprint": fingerprint({"train": train_rows.to_list(), "test": test_rows.to_list()}),
        "train_pairs": len(train_rows),
        "test_pairs": len(test_rows),
    }
    commit = commit_in_cache(said["model_name_or_path"], said.get("model_revision"))
    origin = from_main(lambda: provenance(recipe, said, described, training_args.seed, commit))
    origin["started_from"] = start.described() if start else None
    from_main(lambda: check_run_dir(training_args.output_dir, origin))
    if from_main(Path(training_args.output_dir, "all_results.json").exists):
        print(f"This run is finished: {training_args.output_dir}.{'' if pushes else ' Nothing to do.'}")
        if pushes:
            from_main(lambda: publish_run(training_args.output_dir, said))
        return None

    tokenizer = load_tokenizer(
        *(
            (start.name, start.revision)
            if start and start.has_tokenizer
            else (said["model_name_or_path"], model_args.model_revision)
        ),
        said.get("chat_template_path"),
        chat=not isinstance(train_rows[0]["prompt"], str),
    )
    train_rows, test_rows = (
        drop_long_prompts(rows, tokenizer, training_args.max_length, f"The {split} split")
        for rows, split in ((train_rows, "training"), (test_rows, "test"))
    )
    return Prepared(
        filled,
        model_args,
        training_args,
        device,
        precision,
        kernels,
        train_rows,
        test_rows,
        tokenizer,
        origin,
        place,
        start,
    )


def _from_adapter(said: dict[str, Any], start: StartingAdapter, place: str) -> dict[str, Any]:
    """Keys of a run that goes on from an adapter: its base model, and the adapter's own shape."""
    from .processes import is_sharded

    if is_sharded():
        raise PreferansError(
            f"{place}: model_name_or_path {start.name} is an adapter, and with FSDP or DeepSpeed training starts from a model only. Merge it: "
            "scripts/merge.py."
        )
    others = {key: said[key] for key in start.keys if key in said and not _same(said[key], start.keys[key])}
    shape = ", ".join(f"{key} {_in_one_word(value)}" for key, value in start.keys.items() if value)
    print(f"Starting from the adapter {start.name} on {start.base}, which is the reference as well ({shape}).")
    if others:
        print(
            f"Its shape is decided: the recipe's {', '.join(f'{key} {_in_one_word(value)}' for key, value in others.items())} is passed over."
        )
    return on_its_base(said, start)


def _same(said: Any, found: Any) -> bool:
    said, found = (sorted(value) if isinstance(value, list) else value for value in (said, found))
    return said == found or [said] == found


def _in_one_word(value: Any) -> str:
    return "+".join(value) if isinstance(value, list) else str(value)


def measured(
    trainer: "GuardedTrainer", prepared: Prepared, checkpoint: str | None, seconds: float
) -> dict[str, float | str | None]:
    """
    What a run's `provenance.json` says of the training itself.

    Args:
        trainer ([`~preferans.guards.GuardedTrainer`]):
            After training.
        prepared ([`Prepared`]):
            What it started from.
        checkpoint (`str`, *optional*):
            Checkpoint that it went on from.
        seconds (`float`):
            How long it trained in this session.
    """
    return {
        "device": prepared.device.name,
        "precision": prepared.precision,
        "kernels": prepared.kernels.reason,
        "world_size": trainer.accelerator.num_processes,
        "epochs": trainer.state.epoch,
        "resumed_from": checkpoint,
        "train_seconds": round(seconds, 1),
        "tokens_per_second": round(trainer._total_train_tokens / seconds, 1),
        "skipped_steps": trainer.skipped_steps,
        "peak_memory_bytes": peak_memory(),
    }
