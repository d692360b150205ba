"""Fit a DPO run to its card, with one retry after running out of memory."""

import gc
import signal
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from ..data.chat_template import prompt_text
from ..errors import PreferansError
from ..files import read_json
from ..hardware.decisions import apply_kernels
from ..hardware.device import MIB, Device
from ..hardware.processes import count, from_main, is_sharded
from ..models.trimmed import trimmed_from
from ..training.prepare import Prepared
from .changes import keys_in_words
from .plan import Plan, PlanOptions, UnplannedMemory, can_separate, fastest_that_fits, ladder
from .report import WORDS, mib
from .settings import SMALLEST_TILE, Switches, load_shape, settings_of, why_padded

SMALLER_RUN = (
    "If it happened while pairs were scored, write a smaller per_device_eval_batch_size or precompute_ref_batch_size; in training, a "
    "smaller max_length or lora_r, and a new output_dir. scripts/plan.py shows what each saves."
)


class Fit(NamedTuple):
    """The switches of a run, and its plan; the plan is `None` for a model that is sharded among cards or cannot be planned."""

    switches: Switches
    plan: Plan | None


def longest_pair(rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> tuple[int, int, int]:
    """
    Find the pair that needs most memory.

    Args:
        rows ([`~datasets.Dataset`]): Preference rows.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): The run's tokenizer.
        max_length (`int`, *optional*): Tokens that a sequence is cut to.

    Returns:
        `tuple[int, int, int]`: tokens of its prompt, of its longer answer and of its shorter answer.
    """

    def length(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    def of(row: dict[str, Any]) -> tuple[int, int, int]:
        prompt = length(prompt_text(row["prompt"], tokenizer))
        answers = [
            length(row[side]) + 1
            if isinstance(row[side], str)
            else length(tokenizer.apply_chat_template(row["prompt"] + row[side], tokenize=False)) - prompt
            for side in ("chosen", "rejected")
        ]
        cut = max((max_length or prompt + max(answers)) - prompt, 1)
        shorter, longer = sorted(max(min(answer, cut), 1) for answer in answers)
        return prompt, longer, shorter

    # Most tokens first, then most tokens in the answers, which are scored.
    return max(map(of, rows), key=lambda pair: (pair[0] + pair[1], pair[2]))


def fit(prepared: Prepared) -> Fit:
    """
    Plan a run's memory, choose what its recipe leaves open, and stop a run that does not fit.

    `gradient_checkpointing`, `pair_layout` and `head_tile` may be left open. The fastest setting that fits is chosen; a run that
    is resumed keeps its switches.

    Args:
        prepared ([`~preferans.training.prepare.Prepared`]): The run, before its model is loaded.

    Raises:
        [`PreferansError`]: if the run does not fit, with the cheapest changes that would make it fit.
    """
    args, recipe_keys, model_args = prepared.training_args, prepared.recipe_keys, prepared.model_args
    begun = from_main(lambda: _begun(prepared))
    config = load_shape(model_args.model_name_or_path, model_args.model_revision)
    layout = recipe_keys.get("pair_layout")
    if layout is None:
        reason = "the model is sharded" if is_sharded() else why_padded(recipe_keys, config)
        layout = "padded" if reason else "packed"
        if reason:
            print(f"Pairs are padded: {reason}.")
    tile = recipe_keys.get("head_tile") or prepared.kernels.tile
    given = Switches(args.gradient_checkpointing, layout, args.activation_offloading, tile)
    if is_sharded():
        return Fit(given, None)
    pairs = [
        longest_pair(rows, prepared.tokenizer, args.max_length) for rows in (prepared.train_rows, prepared.test_rows)
    ]
    longest = max(pairs, key=lambda pair: pair[0] + pair[1])
    keys = recipe_keys | {"fp16": args.fp16, "bf16": args.bf16} | given._asdict()
    settings = settings_of(keys, config, prepared.device, longest)
    may_not_fit = begun or prepared.ignores_plan
    options = PlanOptions(recipe_keys, trimmed_from(model_args.model_name_or_path) is not None, not may_not_fit)
    tries = [begun] if begun else ladder(given, recipe_keys, count())
    try:
        switches, plan = fastest_that_fits(config, settings, prepared.device, tries, options)
    except UnplannedMemory as error:
        if not prepared.ignores_plan:
            raise
        print(f"*** {error} Training starts with {tries[-1].in_words}. ***")
        return Fit(tries[-1], None)
    if plan.verdict == "does_not_fit" and not may_not_fit:
        raise PreferansError(f"{prepared.recipe_name}: {_too_big(plan, prepared.device)}")
    # Each process sees its own card's free memory, and all must use the same switches.
    switches = from_main(lambda: switches)
    print(
        f"Memory: {mib(plan.trace.peak)} of tensors for the longest pair ({longest[0] + longest[1]:,} tokens), {switches.in_words}; "
        f"available to PyTorch: {mib(plan.usable)}: {WORDS[plan.verdict]}."
    )
    if plan.verdict != "fits":
        print("*** The run may run out of memory: close other programs that use it. ***")
    return Fit(switches, plan)


def _begun(prepared: Prepared) -> Switches | None:
    """Return the switches of the run so far, so that a resumed run is identical to the last bit."""
    path = prepared.output_dir / "provenance.json"
    switches = read_json(path).get("switches") if path.is_file() else None
    if switches and "separate_passes" in switches:  # the name before pair_layout
        switches["pair_layout"] = "separate" if switches.pop("separate_passes") else "padded"
    return Switches(**switches) if switches else None


def _too_big(plan: Plan, device: Device) -> str:
    needed = int(plan.trace.peak * 1.05)
    text = f"this run needs {mib(needed)}, but PyTorch has {mib(plan.usable)} on {device.name}, so it would run out of memory. "
    chosen = [change for change in plan.changes if change.chosen]
    if chosen:
        keys = ", ".join(keys_in_words(change.keys) for change in chosen)
        text += f"The cheapest change that makes it fit: {keys}. "
    else:
        text += "No change of the recipe makes it fit: use a smaller model. "
    return text + "scripts/plan.py shows what needs the memory; --ignore_plan true starts the run anyway."


def apply(prepared: Prepared, switches: Switches) -> None:
    """Apply the switches to the trainer's arguments and the kernels."""
    # transformers reads the first key and TRL the second.
    prepared.training_args.gradient_checkpointing = switches.gradient_checkpointing
    prepared.training_args.activation_checkpointing = switches.gradient_checkpointing
    prepared.training_args.activation_offloading = switches.activation_offloading
    apply_kernels(prepared.kernels._replace(tile=switches.head_tile))


def retreat(prepared: Prepared, switches: Switches) -> Switches:
    """
    Return switches that need less memory, after the card ran out of it. Loss and gradients stay the same.

    Args:
        prepared ([`~preferans.training.prepare.Prepared`]): The run.
        switches ([`Switches`]): The switches with which it ran out of memory.

    Raises:
        [`PreferansError`]: if no such switches are left.
    """
    if count() > 1:
        raise PreferansError(
            f"{prepared.recipe_name}: a card ran out of memory, and one of several processes cannot change its settings while the others wait. Write a "
            "smaller per_device_train_batch_size, per_device_eval_batch_size or max_length in a run with a new output_dir, or launch with "
            "accelerate_configs/fsdp2.yaml."
        )
    smaller = None
    if not switches.gradient_checkpointing:
        smaller = switches._replace(gradient_checkpointing=True)
    elif switches.pair_layout != "separate" and can_separate(prepared.recipe_keys):
        smaller = switches._replace(pair_layout="separate")
    elif switches.head_tile > SMALLEST_TILE:
        smaller = switches.with_smaller_tile()
    elif not switches.activation_offloading and prepared.device.kind == "cuda":
        smaller = switches._replace(activation_offloading=True)
    if smaller is None:
        raise PreferansError(
            f"{prepared.recipe_name}: out of memory, and no setting is left that needs less memory for the same result. {SMALLER_RUN}"
        )
    print(
        f"\n*** OUT OF MEMORY with {switches.in_words}. ***\n*** Retrying from the last checkpoint with {smaller.in_words}: slower, "
        "the same loss and gradients. ***\n"
    )
    return smaller


def report_longest(prepared: Prepared, plan: Plan | None) -> Callable[[int], None] | None:
    """
    Return a function that reports the peak memory of the longest pairs, which the trainer tries before the first step.

    It is `None` if the longest pairs are not tried; by default they are tried on a card only.
    """
    wanted = prepared.recipe_keys.get("longest_first")
    on_card = prepared.device.kind == "cuda"
    if is_sharded() or not (on_card if wanted is None else wanted):
        return None

    def report(peak: int) -> None:
        planned = f", {mib(plan.trace.peak)} of tensors planned" if plan and on_card else ""
        print(f"Tried the longest pairs: peak {mib(peak)}{planned}.")
        full = prepared.device.free_memory + 64 * MIB
        if prepared.device.belongs_to_windows and torch.cuda.memory_reserved() > full:
            print(
                "*** The card is full, and Windows uses the computer's memory instead, which is many times slower. Close other programs, "
                "or set a smaller max_length; docs/windows.md explains how to disable this. ***"
            )

    return report


def ran_out_of_memory(train: Callable[[], None]) -> bool:
    """Call `train`. Return whether the card ran out of memory, and free its memory then; other errors are raised."""
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        train()
        return False
    except torch.OutOfMemoryError:
        pass
    signal.signal(signal.SIGINT, interrupt)  # the trainer's own handler no longer works
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return True
