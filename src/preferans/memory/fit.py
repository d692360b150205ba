"""What a DPO run does to fit its card: switches chosen by the memory plan, and one retreat when the card runs out all the same."""

import gc
import signal
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from ..errors import PreferansError
from ..files import read_json
from ..hardware.decisions import apply_kernels
from ..hardware.device import MIB, Device
from ..hardware.processes import count, from_main, is_sharded
from ..models.loading import prompt_text
from ..models.trimmed import trimmed_from
from ..training.prepare import Prepared
from .plan import Plan, can_separate, fastest_that_fits, ladder
from .report import WORDS, mib
from .settings import SMALLEST_TILE, Switches, load_shape, settings_of

SMALLER_RUN = (
    "Where it happened while pairs were scored, write a smaller per_device_eval_batch_size or precompute_ref_batch_size; in training, a "
    "smaller max_length or lora_r, and a new output_dir. scripts/plan.py shows what each saves."
)


class Fit(NamedTuple):
    """
    How a run is made to fit.

    Attributes:
        switches ([`Switches`]): What is switched on.
        plan ([`~preferans.memory.plan.Plan`], *optional*): `None` where nothing was planned: a model shared out among cards.
    """

    switches: Switches
    plan: Plan | None


def longest_pair(rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> tuple[int, int, int]:
    """
    Tokens of the pair that takes most memory.

    Args:
        rows ([`~datasets.Dataset`]):
            Preference rows.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Ready to train with.
        max_length (`int`, *optional*):
            Tokens that a sequence is cut to.

    Returns:
        `tuple[int, int, int]`: tokens of the prompt, of the longest and of the second longest answer after it.
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
        return prompt, *sorted((max(min(answer, cut), 1) for answer in answers), reverse=True)

    # More tokens first, then more of them in the answers, which are scored.
    return max(map(of, rows), key=lambda pair: (pair[0] + pair[1], pair[2]))


def fit(prepared: Prepared) -> Fit:
    """
    Plan a run's memory, choose what its recipe leaves open, and refuse what cannot fit.

    Left open are `gradient_checkpointing`, `separate_passes` and `head_tile`. The fastest that fits is chosen; a run that
    goes on keeps what it began with.

    Args:
        prepared ([`~preferans.training.prepare.Prepared`]):
            The run, before its model is loaded.

    Returns:
        [`Fit`].

    Raises:
        [`PreferansError`]: when the run does not fit, with the cheapest changes that would make it fit.
    """
    args, recipe_keys = prepared.training_args, prepared.recipe_keys
    begun = from_main(lambda: _begun(prepared))
    given = Switches(
        args.gradient_checkpointing,
        bool(recipe_keys.get("separate_passes")),
        args.activation_offloading,
        recipe_keys.get("head_tile") or prepared.kernels.tile,
    )
    if is_sharded():
        return Fit(given, None)
    config = load_shape(prepared.model_args.model_name_or_path, prepared.model_args.model_revision)
    keys = recipe_keys | {"fp16": args.fp16, "bf16": args.bf16}
    longest = max(
        (
            longest_pair(rows, prepared.tokenizer, args.max_length)
            for rows in (prepared.train_rows, prepared.test_rows)
        ),
        key=lambda pair: pair[0] + pair[1],
    )
    settings = settings_of(keys | given._asdict(), config, prepared.device, longest)
    switches, plan = fastest_that_fits(
        config,
        settings,
        prepared.device,
        [begun] if begun else ladder(given, recipe_keys, count()),
        accumulation=args.gradient_accumulation_steps,
        trimmed=trimmed_from(prepared.model_args.model_name_or_path) is not None,
        with_changes=not (begun or prepared.ignores_plan),
        recipe_keys=recipe_keys,
    )
    if plan.verdict == "does_not_fit" and not (begun or prepared.ignores_plan):
        raise PreferansError(f"{prepared.recipe_name}: {_too_big(plan, prepared.device)}")
    # Each process sees its own card's free memory, and all must do the same.
    switches = from_main(lambda: switches)
    tokens = longest[0] + longest[1]
    print(
        f"Memory: {mib(plan.trace.peak)} of tensors for the longest pair ({tokens:,} tokens), {switches.in_words}; PyTorch may take "
        f"{mib(plan.usable)}: {WORDS[plan.verdict]}."
    )
    if plan.verdict != "fits":
        print("*** It may run out of memory: close what else uses it. ***")
    return Fit(switches, plan)


def _begun(prepared: Prepared) -> Switches | None:
    """The switches a run began with, so that it goes on in the same way to the last bit."""
    path = prepared.output_dir / "provenance.json"
    found = read_json(path).get("switches") if path.is_file() else None
    return Switches(**found) if found else None


def _too_big(plan: Plan, device: Device) -> str:
    needed = int(plan.trace.peak * 1.05)
    text = f"this run needs {mib(needed)} and PyTorch may take {mib(plan.usable)} on {device.name}, so it would stop for lack of memory. "
    chosen = [change for change in plan.changes if change.chosen]
    if chosen:
        keys = ", ".join(
            f"{key}: {str(value).lower() if isinstance(value, bool) else value}"
            for change in chosen
            for key, value in change.keys.items()
        )
        text += f"The cheapest that makes it fit: {keys}. "
    else:
        text += "Nothing in the recipe makes it fit: take a smaller model. "
    return text + "scripts/plan.py shows where the bytes go; --ignore_plan true starts it all the same."


def apply(prepared: Prepared, switches: Switches) -> None:
    """Set the trainer's arguments and the kernels to the switches."""
    # transformers reads one name and TRL the other; they were made equal when the arguments were parsed.
    prepared.training_args.gradient_checkpointing = switches.gradient_checkpointing
    prepared.training_args.activation_checkpointing = switches.gradient_checkpointing
    prepared.training_args.activation_offloading = switches.activation_offloading
    apply_kernels(prepared.kernels._replace(tile=switches.head_tile))


def retreat(prepared: Prepared, switches: Switches) -> Switches:
    """
    The next switches that take less memory, after the card has run out of it. Loss and gradients stay the same.

    Args:
        prepared ([`~preferans.training.prepare.Prepared`]):
            The run.
        switches ([`Switches`]):
            Those it ran out with.

    Returns:
        [`Switches`].

    Raises:
        [`PreferansError`]: when all are used.
    """
    if count() > 1:
        raise PreferansError(
            f"{prepared.recipe_name}: a card ran out of memory, and several processes cannot change how they compute while others wait. Write a "
            "smaller per_device_train_batch_size, per_device_eval_batch_size or max_length in a run with a new output_dir, or launch with "
            "accelerate_configs/fsdp2.yaml."
        )
    smaller = None
    if not switches.gradient_checkpointing:
        smaller = switches._replace(gradient_checkpointing=True)
    elif not switches.separate_passes and can_separate(prepared.recipe_keys):
        smaller = switches._replace(separate_passes=True)
    elif switches.head_tile > SMALLEST_TILE:
        smaller = switches.with_smaller_tile()
    elif not switches.activation_offloading and prepared.device.kind == "cuda":
        smaller = switches._replace(activation_offloading=True)
    if smaller is None:
        raise PreferansError(
            f"{prepared.recipe_name}: out of memory, and nothing is left that would take less at the same result. {SMALLER_RUN}"
        )
    print(
        f"\n*** OUT OF MEMORY with {switches.in_words}. ***\n*** Trying once more, from the last checkpoint, with {smaller.in_words}: slower, "
        "the same loss and gradients. ***\n"
    )
    return smaller


def report_longest(prepared: Prepared, plan: Plan | None) -> Callable[[int], None] | None:
    """
    Report the peak memory of the longest pairs, which the trainer tries before the first step.

    Args:
        prepared ([`~preferans.training.prepare.Prepared`]):
            The run.
        plan ([`~preferans.memory.plan.Plan`], *optional*):
            What was planned for it.

    Returns:
        `Callable[[int], None]` or `None`: prints the measured bytes; `None` if the longest pairs are not tried. By default they are
        tried on a card only.
    """
    wanted = prepared.recipe_keys.get("longest_first")
    on_card = prepared.device.kind == "cuda"
    if is_sharded() or not (on_card if wanted is None else wanted):
        return None

    def report(peak: int) -> None:
        planned = f", {mib(plan.trace.peak)} of tensors planned" if plan and on_card else ""
        print(f"The longest pairs were tried: {mib(peak)} at the peak{planned}.")
        full = prepared.device.free_memory + 64 * MIB
        if prepared.device.belongs_to_windows and torch.cuda.memory_reserved() > full:
            print(
                "*** The card is full, and Windows uses the computer's memory instead, which is many times slower. Close other programs, "
                "or write a smaller max_length; docs/windows.md shows how to turn this off. ***"
            )

    return report


def ran_out_of_memory(train: Callable[[], None]) -> bool:
    """
    Call `train`, and free the card's memory if it ran out of it.

    Returns:
        `bool`: whether the card ran out of memory. Other errors are raised.
    """
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        train()
        return False
    except torch.OutOfMemoryError:
        pass
    signal.signal(signal.SIGINT, interrupt)  # the trainer's own handler is gone with it
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return True
