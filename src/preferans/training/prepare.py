"""
Check a run before its model is loaded, so that a mistake costs seconds and not an hour.

[`prepare`] runs the steps in order; `scripts/plan.py` shares [`resolve_base_model`] and [`choose_precision`].
"""

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PretrainedConfig, PreTrainedTokenizerBase, TrainingArguments
from trl import DPOConfig, ModelConfig, ScriptArguments

from ..data.chat_template import fit_to_template, pair_texts, prompt_text
from ..data.folder import load_checked_splits
from ..data.preferences import fingerprint
from ..errors import PreferansError
from ..hardware.decisions import Decisions, apply_kernels, decide_kernels, decide_precision
from ..hardware.device import Device, apply_profile, find_device
from ..hardware.processes import check_processes, from_main, is_sharded
from ..hub_names import commit_in_cache
from ..models.loading import check_model_exists, check_stored_bits, check_token_ids, load_config, load_tokenizer
from ..models.lora_modules import check_lora_modules, lora_targets
from ..models.starting_adapter import StartingAdapter, check_base, find_adapter, on_its_base, with_revision
from .controls import control_rows
from .cut_pairs import report_cut_pairs, warn_of_plain_texts
from .data_warnings import warn_of_data
from .key_limits import check_numbers
from .recipe import fill
from .run_folder import FINISHED_FILE, check_run_dir, provenance
from .trainer_parts import check_trainer_parts

REQUIRED_KEYS = ("model_name_or_path", "dataset_name", "output_dir")


@dataclasses.dataclass
class Prepared:
    """
    A run that can start: recipe, data and folder are checked, and no model is loaded.

    Attributes:
        model_args ([`~trl.ModelConfig`]): The model, its precision and its adapter.
        training_args ([`~transformers.TrainingArguments`]): Keys of the trainer.
        device ([`~preferans.hardware.device.Device`]): Where the run computes.
        precision (`str`): The precision of the run and the reason for it.
        kernels ([`~preferans.hardware.decisions.Decisions`]): The kernels of the run and the reason for them.
        train_rows ([`~datasets.Dataset`]), test_rows ([`~datasets.Dataset`]): Preference rows, without prompts that are too long.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): Ready to train with.
        provenance (`dict`): See [`~preferans.training.run_folder.provenance`].
        recipe_name (`str`): The recipe's path for messages, or `"Command line"`.
        starting_adapter ([`~preferans.models.starting_adapter.StartingAdapter`], *optional*): The adapter that training continues.
    """

    model_args: ModelConfig
    training_args: TrainingArguments
    device: Device
    precision: str
    kernels: Decisions
    train_rows: Dataset
    test_rows: Dataset
    tokenizer: PreTrainedTokenizerBase
    provenance: dict[str, Any]
    recipe_name: str
    starting_adapter: StartingAdapter | None = None

    @property
    def output_dir(self) -> Path:
        return Path(self.training_args.output_dir)

    @property
    def recipe_keys(self) -> dict[str, Any]:
        """Every key that the recipe or the command line sets."""
        return self.provenance["keys"]

    @property
    def ignores_plan(self) -> bool:
        return bool(self.recipe_keys.get("ignore_plan"))


def prepare(argument_types: tuple[type, ...], recipe_keys: dict[str, Any], recipe_path: str | None) -> Prepared | None:
    """
    Check a run before its model is loaded, and apply the card's profile and kernels to this process.

    Args:
        argument_types (`tuple[type, ...]`):
            Dataclasses with the recipe's keys as fields, among them [`~preferans.training.arguments.SharedArguments`],
            [`~trl.ScriptArguments`], [`~trl.ModelConfig`] and a subclass of [`~transformers.TrainingArguments`].
        recipe_keys (`dict`): Keys that the recipe or the command line sets.
        recipe_path (`str`, *optional*): Path of the recipe.

    Returns:
        [`Prepared`] or `None`: `None` if the run is finished.

    Raises:
        [`PreferansError`]: for everything that would stop the run later.
    """
    recipe_name = recipe_path or "Command line"
    check_required_keys(recipe_keys, recipe_name)
    check_numbers(recipe_keys, recipe_name)
    keys, adapter = resolve_base_model(recipe_keys, recipe_name)
    check_base_model(keys, adapter, recipe_keys, recipe_name)
    device = find_device(keys.get("use_cpu", False), keys.get("hardware_profile"))
    check_offloading(keys, device, recipe_name)
    config = load_config(keys["model_name_or_path"], keys.get("model_revision", "main"))
    check_stored_bits(config, keys.get("load_in_4bit", False), keys.get("load_in_8bit", False), recipe_name)
    if adapter is None:
        check_lora_modules(keys, config, recipe_name)
    precision_keys, precision = choose_precision(keys, device, config)
    kernels = decide_kernels(device, config.get_text_config().vocab_size, half=computes_in_half(precision_keys))
    arguments = fill(argument_types, precision_keys | {"use_cpu": device.kind == "cpu"}, recipe_path)
    script_args, model_args, training_args = check_arguments(arguments, keys, device, recipe_name)
    print(f"Precision: {precision}; adapters in fp32.\nKernels: {kernels.reason}.")
    apply_profile(device)
    apply_kernels(kernels)

    train_rows, test_rows, dataset = load_rows(script_args)
    warn_of_data(train_rows, test_rows)
    train_rows = control_rows(train_rows, keys.get("control"), training_args.seed)
    run = record_run(keys, recipe_path, dataset, training_args, adapter)
    if from_main(Path(training_args.output_dir, FINISHED_FILE).exists):
        print(f"This run is finished: {training_args.output_dir}.")
        return None
    conversational = not isinstance(train_rows[0]["prompt"], str)
    tokenizer = load_run_tokenizer(keys, model_args, adapter, conversational)
    train_rows, test_rows = (
        fit_to_template(rows, tokenizer, f"The {split} split")
        for split, rows in (("training", train_rows), ("test", test_rows))
    )
    check_embeddings((train_rows, test_rows), tokenizer, config, keys["model_name_or_path"])
    max_length = training_args.max_length
    train_rows = drop_long_prompts(train_rows, tokenizer, max_length, "The training split")
    test_rows = drop_long_prompts(test_rows, tokenizer, max_length, "The test split")
    warn_of_plain_texts(train_rows, tokenizer, keys["model_name_or_path"])
    if isinstance(training_args, DPOConfig) and training_args.truncation_mode == "keep_start":
        cut, _ = report_cut_pairs(train_rows, tokenizer, max_length, "The training split")
        run["dataset"]["truncated_train_pairs"] = cut
        report_cut_pairs(test_rows, tokenizer, max_length, "The test split")
    return Prepared(
        model_args=model_args,
        training_args=training_args,
        device=device,
        precision=precision,
        kernels=kernels,
        train_rows=train_rows,
        test_rows=test_rows,
        tokenizer=tokenizer,
        provenance=run,
        recipe_name=recipe_name,
        starting_adapter=adapter,
    )


def check_arguments(
    arguments: list[Any], keys: dict[str, Any], device: Device, recipe_name: str
) -> tuple[ScriptArguments, ModelConfig, TrainingArguments]:
    """
    Return the script's, the model's and the trainer's arguments, and check them against the processes of the run.

    Raises:
        [`PreferansError`]: if no adapter is trained, the processes are not those of the recipe, or a part of the trainer cannot be built.
    """
    script_args, model_args, training_args = (
        next(one for one in arguments if isinstance(one, kind))
        for kind in (ScriptArguments, ModelConfig, TrainingArguments)
    )
    model_args.lora_target_modules = lora_targets(model_args.lora_target_modules)
    # The trainer would upload pickled arguments and hide failures; the script publishes instead.
    training_args.push_to_hub = False
    if not model_args.use_peft:
        raise PreferansError(f"{recipe_name}: use_peft must be true; Preferans trains LoRA adapters.")
    check_processes(
        keys.get("num_processes"),
        model_args.load_in_4bit,
        getattr(training_args, "precompute_ref_log_probs", False),
        find_card=device.kind == "cuda",
    )
    check_trainer_parts(training_args, recipe_name)
    if keys.get("control") == "zero_learning_rate":
        training_args.learning_rate = 0.0
    return script_args, model_args, training_args


def record_run(
    keys: dict[str, Any],
    recipe_path: str | None,
    dataset: dict[str, Any],
    training_args: TrainingArguments,
    adapter: StartingAdapter | None,
) -> dict[str, Any]:
    """
    Return the run's provenance, and check that its folder is empty or has the same run.

    Raises:
        [`PreferansError`]: see [`~preferans.training.run_folder.check_run_dir`].
    """
    commit = commit_in_cache(keys["model_name_or_path"], keys.get("model_revision"))
    run = from_main(lambda: provenance(recipe_path, keys, dataset, training_args.seed, commit))
    run["started_from"] = adapter.described() if adapter else None
    from_main(lambda: check_run_dir(training_args.output_dir, run))
    return run


def check_required_keys(recipe_keys: dict[str, Any], recipe_name: str) -> None:
    """Check that the keys without a default are set."""
    for key in REQUIRED_KEYS:
        if not recipe_keys.get(key):
            raise PreferansError(f"{recipe_name}: the key '{key}' is missing.")


def resolve_base_model(
    recipe_keys: dict[str, Any], recipe_name: str, known_models: Collection[str] = ()
) -> tuple[dict[str, Any], StartingAdapter | None]:
    """
    Find the base model of `model_name_or_path`, which can have a revision after an `@`, or be an adapter.

    Args:
        recipe_keys (`dict`): Keys that the recipe or the command line sets.
        recipe_name (`str`): The recipe's path for messages.
        known_models (`Collection[str]`, *optional*): Names of models for which the Hub is not queried.

    Returns:
        `tuple[dict, StartingAdapter | None]`: the keys with the base model's name and revision and the adapter's own shape, and the
        adapter if there is one.

    Raises:
        [`PreferansError`]: if two revisions are given, or training cannot continue the adapter.
    """
    keys = with_revision(recipe_keys, recipe_name)
    name = keys["model_name_or_path"]
    adapter = None if name in known_models else find_adapter(name, keys.get("model_revision"))
    return (on_its_base(keys, adapter) if adapter else keys), adapter


def check_base_model(
    keys: dict[str, Any], adapter: StartingAdapter | None, recipe_keys: dict[str, Any], recipe_name: str
) -> None:
    """
    Check that the base model exists, and for an adapter that the base has the weights it was trained on.

    For an adapter, also print the keys of the recipe that it overrides.

    Raises:
        [`PreferansError`]: if the model is missing or changed, or the run is sharded and starts from an adapter.
    """
    if adapter and is_sharded():
        raise PreferansError(
            f"{recipe_name}: model_name_or_path {adapter.name} is an adapter, and with FSDP or DeepSpeed training starts from a model "
            "only. Merge it: scripts/merge.py."
        )
    if adapter:
        shape = ", ".join(f"{key} {_in_one_word(value)}" for key, value in adapter.keys.items() if value)
        print(f"Starting from the adapter {adapter.name} on {adapter.base}, which is also the reference ({shape}).")
        ignored = [
            f"{key} {_in_one_word(recipe_keys[key])}"
            for key, value in adapter.keys.items()
            if key in recipe_keys and not _equal(recipe_keys[key], value)
        ]
        if ignored:
            print(f"The adapter has its own shape: the recipe's {', '.join(ignored)} is ignored.")
    check_model_exists(keys["model_name_or_path"])
    if adapter:
        check_base(adapter)


def check_offloading(keys: dict[str, Any], device: Device, recipe_name: str) -> None:
    """Check that activations are offloaded from a card only."""
    if device.kind == "cpu" and keys.get("activation_offloading"):
        raise PreferansError(
            f"{recipe_name}: activation_offloading: true moves activations from the card to the computer's memory, but this run computes "
            "on the CPU. Add --activation_offloading false to try it here."
        )


def choose_precision(keys: dict[str, Any], device: Device, config: PretrainedConfig) -> tuple[dict[str, Any], str]:
    """
    Set `fp16` and `bf16` for the device.

    Returns:
        `tuple[dict, str]`: the keys with both set, and the precision with its reason.

    Raises:
        [`PreferansError`]: see [`~preferans.hardware.decisions.decide_precision`].
    """
    fp16, bf16, reason = decide_precision(
        device, keys.get("fp16", False), keys.get("bf16"), keys.get("dtype", "float32"), config.model_type
    )
    return keys | {"fp16": fp16, "bf16": bf16}, reason


def computes_in_half(keys: dict[str, Any]) -> bool:
    """Check whether activations are in fp16 or bf16."""
    return bool(keys.get("fp16") or keys.get("bf16") or keys.get("dtype") in ("float16", "bfloat16"))


def load_rows(script_args: ScriptArguments) -> tuple[Dataset, Dataset, dict[str, Any]]:
    """
    Load and check both splits of the dataset.

    Returns:
        `tuple[Dataset, Dataset, dict]`: training rows, test rows, and the dataset's name, fingerprint and sizes for `provenance.json`.

    Raises:
        [`PreferansError`]: see [`~preferans.data.folder.load_checked_splits`].
    """
    train_rows, test_rows = load_checked_splits(
        script_args.dataset_name,
        script_args.dataset_config,
        script_args.dataset_train_split,
        script_args.dataset_test_split,
    )
    print(f"Dataset: {len(train_rows)} training and {len(test_rows)} test pairs, all valid.")
    dataset = {
        "name": script_args.dataset_name,
        "fingerprint": fingerprint({"train": train_rows.to_list(), "test": test_rows.to_list()}),
        "train_pairs": len(train_rows),
        "test_pairs": len(test_rows),
    }
    return train_rows, test_rows, dataset


def load_run_tokenizer(
    keys: dict[str, Any], model_args: ModelConfig, adapter: StartingAdapter | None, conversational: bool
) -> PreTrainedTokenizerBase:
    """Load the starting adapter's tokenizer if it has one, otherwise the base model's."""
    name, revision = keys["model_name_or_path"], model_args.model_revision
    if adapter and adapter.has_tokenizer:
        name, revision = adapter.name, adapter.revision
    return load_tokenizer(
        name, revision, keys.get("chat_template_path"), conversational, keys.get("chat_template_kwargs")
    )


def check_embeddings(
    splits: tuple[Dataset, Dataset], tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, name: str
) -> None:
    """Check that the model has an embedding for every token of the rows."""
    texts = (text for rows in splits for row in rows for text in pair_texts(row, tokenizer))
    check_token_ids(tokenizer, config.get_text_config().vocab_size, texts, f"model_name_or_path {name}")


def drop_long_prompts(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int | None, rows_name: str
) -> Dataset:
    """
    Drop rows whose prompt alone fills `max_length`, and print their number; TRL drops them without a message.

    Args:
        rows ([`~datasets.Dataset`]): Preference rows.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): Tokenizer with a chat template.
        max_length (`int`, *optional*): Tokens of prompt and answer together; `None` keeps every row.
        rows_name (`str`): Name of the rows for messages.

    Raises:
        [`PreferansError`]: if no row is left.
    """
    if max_length is None:
        return rows
    lengths = [
        len(tokenizer(prompt_text(row["prompt"], tokenizer), add_special_tokens=False)["input_ids"]) for row in rows
    ]
    kept = [i for i, length in enumerate(lengths) if length < max_length]
    if not kept:
        raise PreferansError(
            f"{rows_name}: every prompt alone is longer than max_length {max_length} (the shortest has {min(lengths)} tokens). "
            "Raise max_length."
        )
    if len(kept) < len(rows):
        print(f"{rows_name}: dropped {len(rows) - len(kept)} pairs whose prompt alone fills max_length {max_length}.")
    return rows.select(kept)


def _equal(one: Any, other: Any) -> bool:
    one, other = (sorted(value) if isinstance(value, list) else value for value in (one, other))
    return one == other or [one] == other


def _in_one_word(value: Any) -> str:
    return "+".join(value) if isinstance(value, list) else str(value)
