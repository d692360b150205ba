"""What a DPO run does to fit its card: switches chosen by the memory plan, and one retreat when the card runs out all the same."""

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import PreferansError
from .files import read_json
from .hardware import MIB, Device, apply_kernels
from .memory import Plan, load_shape, make_plan, settings_of
from .memory_report import WORDS, mib
from .preparation import Prepared
from .processes import count, from_main, is_sharded
from .vocabulary import trimmed_from

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

SMALLEST_TILE = 1024


class Switches(NamedTuple):
    """
    What changes the memory of a step, and neither its loss nor its gradients.

    Attributes:
        gradient_checkpointing (`bool`), separate_passes (`bool`), activation_offloading (`bool`), head_tile (`int`):
            The recipe's keys of these names.
    """

    gradient_checkpointing: bool
    separate_passes: bool
    activation_offloading: bool
    head_tile: int

    @property
    def in_words(self) -> str:
        """Such as `"separate passes, checkpointing, head in tiles of 4,096 words"`."""
        words = ["separate passes" if self.separate_passes else "both answers in one pass"]
        words += ["checkpointing"] * self.gradient_checkpointing + ["offloading"] * self.activation_offloading
        return ", ".join([*words, f"head in tiles of {self.head_tile:,} words"])


class Fit(NamedTuple):
    """
    How a run is made to fit.

    Attributes:
        switches ([`Switches`]): What is switched on.
        plan ([`~preferans.memory.Plan`], *optional*): `None` where nothing was planned: a model shared out among cards.
    """

    switches: Switches
    plan: Plan | None


def longest_pair(
    rows: "Dataset", tokenizer: "PreTrainedTokenizerBase", max_length: int | None
) -> tuple[int, int, int]:
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
    from .training import prompt_text

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

    return max(map(of, rows), key=lambda pair: (pair[0] + pair[1], pair[2]))


def fit(prepared: Prepared) -> Fit:
    """
    Plan a run's memory, choose what its recipe leaves open, and refuse what cannot fit.

    Left open are `gradient_checkpointing`, `separate_passes` and `head_tile`. The fastest that fits is chosen; a run that
    goes on keeps what it began with.

    Args:
        prepared ([`~preferans.preparation.Prepared`]):
            The run, before its model is loaded.

    Returns:
        [`Fit`].

    Raises:
        [`PreferansError`]: when the run does not fit, with the cheapest changes that would make it fit.
    """
    args, said = prepared.training_args, prepared.origin["keys"]
    begun = from_main(lambda: _begun(prepared))
    given = Switches(
        args.gradient_checkpointing,
        bool(said.get("separate_passes")),
        args.activation_offloading,
        said.get("head_tile") or prepared.kernels.tile,
    )
    if is_sharded():
        return Fit(given, None)
    config = load_shape(prepared.model_args.model_name_or_path, prepared.model_args.model_revision)
    keys = said | {"fp16": args.fp16, "bf16": args.bf16}
    longest = longest_pair(prepared.train_rows, prepared.tokenizer, args.max_length)
    settings = settings_of(keys | given._asdict(), config, prepared.device, longest)
    trimmed = trimmed_from(prepared.model_args.model_name_or_path) is not None

    def planned(switches: Switches, with_changes: bool = False) -> Plan:
        changed = dataclasses.replace(settings, **switches._asdict())
        accumulation = args.gradient_accumulation_steps
        return make_plan(config, changed, prepared.device, accumulation, trimmed, with_changes)

    ladder = [begun] if begun else _ladder(given, said)
    for switches in ladder:
        plan = planned(switches)
        if plan.verdict == "fits":
            break
    if plan.verdict == "does_not_fit" and not prepared.ignores_plan:
        plan = planned(switches, with_changes=True)
        raise PreferansError(f"{prepared.place}: {_too_big(plan, prepared.device)}")
    tokens = longest[0] + longest[1]
    print(
        f"Memory: {mib(plan.trace.peak)} of tensors for the longest pair ({tokens:,} tokens), {switches.in_words}; PyTorch may take "
        f"{mib(plan.usable)}: {WORDS[plan.verdict]}."
    )
    if plan.verdict == "tight":
        print("It runs if PyTorch's blocks leave few gaps: close what else uses the memory.")
    return Fit(switches, plan)


def _begun(prepared: Prepared) -> Switches | None:
    """The switches a run began with, so that it goes on in the same way to the last bit."""
    path = prepared.output_dir / "provenance.json"
    found = read_json(path).get("switches") if path.is_file() else None
    return Switches(**found) if found else None


def _ladder(given: Switches, said: dict[str, Any]) -> list[Switches]:
    """What to try where the recipe leaves it open, fastest first."""
    checkpointing = [False, True] if said.get("gradient_checkpointing") is None else [given.gradient_checkpointing]
    separate = [given.separate_passes]
    if said.get("separate_passes") is None and said.get("precompute_ref_log_probs") and count() == 1:
        separate = [False, True]
    # Recomputing is a pass for both answers, separate passes are one for the first.
    ladder = sorted(
        (given._replace(gradient_checkpointing=c, separate_passes=s) for c in checkpointing for s in separate),
        key=lambda switches: 2 * switches.gradient_checkpointing + switches.separate_passes,
    )
    if said.get("head_tile") is None and given.head_tile > SMALLEST_TILE:
        ladder.append(ladder[-1]._replace(head_tile=max(given.head_tile // 4, SMALLEST_TILE)))
    return ladder


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
    prepared.training_args.gradient_checkpointing = switches.gradient_checkpointing
    prepared.training_args.activation_offloading = switches.activation_offloading
    apply_kernels(prepared.kernels._replace(tile=switches.head_tile))


def retreat(prepared: Prepared, switches: Switches) -> Switches:
    """
    The next switches that take less memory, after the card has run out of it. Loss and gradients stay the same.

    Args:
        prepared ([`~preferans.preparation.Prepared`]):
            The run.
        switches ([`Switches`]):
            Those it ran out with.

    Returns:
        [`Switches`].

    Raises:
        [`PreferansError`]: when all are used.
    """
    smaller = None
    if not switches.gradient_checkpointing:
        smaller = switches._replace(gradient_checkpointing=True)
    elif not switches.separate_passes and prepared.training_args.precompute_ref_log_probs and count() == 1:
        smaller = switches._replace(separate_passes=True)
    elif switches.head_tile > SMALLEST_TILE:
        smaller = switches._replace(head_tile=max(switches.head_tile // 4, SMALLEST_TILE))
    elif not switches.activation_offloading and prepared.device.kind == "cuda":
        smaller = switches._replace(activation_offloading=True)
    if smaller is None:
        raise PreferansError(
            f"{prepared.place}: out of memory, and nothing is left that would take less at the same result. Write a smaller max_length or "
            "lora_r; scripts/plan.py shows what each saves. The checkpoints so far are kept."
        )
    print(
        f"\n*** OUT OF MEMORY with {switches.in_words}. ***\n*** Trying once more, from the last checkpoint, with {smaller.in_words}: slower, "
        "the same loss and gradients. ***\n"
    )
    return smaller


def tell_longest(prepared: Prepared, plan: Plan | None):
    """
    What is said of the peak memory of the longest pairs, tried before the first step.

    Returns:
        `Callable[[int], None]`: takes the measured bytes.
    """

    def tell(peak: int) -> None:
        import torch

        print(
            f"The longest pairs were tried: {mib(peak)} at the peak"
            + (f", {mib(plan.trace.peak)} of tensors planned." if plan and prepared.device.kind == "cuda" else ".")
        )
        if (
            prepared.device.belongs_to_windows
            and torch.cuda.memory_reserved() > prepared.device.free_memory + 64 * MIB
        ):
            print(
                "*** The card is full and Windows lends it the computer's memory, which is many times slower. Close other programs, or "
                "write a smaller max_length; docs/windows.md says how to forbid it. ***"
            )

    return tell
