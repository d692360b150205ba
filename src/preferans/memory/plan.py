"""
Whether a run fits a card, told in seconds before it starts, and what to change where it does not.

The bytes of PyTorch's tensors are counted by [`~preferans.memory.trace.trace`]. What else lies on a card is reserved: CUDA's
context, the desktop, and the gaps between PyTorch's blocks.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import psutil
from transformers import PretrainedConfig

from ..errors import PreferansError
from ..hardware.device import CONTEXT_BYTES, DESKTOP_BYTES, Device
from .changes import Change, possible_changes
from .settings import SMALLEST_TILE, StepSettings, Switches
from .trace import Trace, trace

# The caching allocator's gaps take 5 to 10 % of what is allocated.
LEAST_GAPS, MOST_GAPS = 0.05, 0.10
# Their steps were compared with real ones, to the byte, on the CPU.
COMPARED = ("llama", "gpt2", "gemma3_text", "qwen2")


def can_separate(recipe_keys: dict[str, Any]) -> bool:
    """Whether separate passes may be switched on for these keys, see [`~preferans.training.separate_passes.SeparatePassesTrainer`]."""
    dropout = recipe_keys.get("disable_dropout") is False and recipe_keys.get("lora_dropout") != 0.0
    return bool(recipe_keys.get("precompute_ref_log_probs")) and not dropout


def ladder(given: Switches, recipe_keys: dict[str, Any], processes: int = 1) -> list[Switches]:
    """
    What to try where a recipe leaves it open, fastest first.

    Args:
        given ([`Switches`]):
            With TRL's defaults for what is left open.
        recipe_keys (`dict`):
            Keys that the recipe or the command line sets.
        processes (`int`, *optional*, defaults to 1):
            Number of processes. Several cannot separate their passes.

    Returns:
        `list[Switches]`.
    """
    checkpointing = (
        [False, True] if recipe_keys.get("gradient_checkpointing") is None else [given.gradient_checkpointing]
    )
    separate = [given.separate_passes]
    if recipe_keys.get("separate_passes") is None and processes == 1 and can_separate(recipe_keys):
        separate = [False, True]
    # Recomputing is a pass for both answers, separate passes are one for the first.
    found = sorted(
        (given._replace(gradient_checkpointing=c, separate_passes=s) for c in checkpointing for s in separate),
        key=lambda switches: 2 * switches.gradient_checkpointing + switches.separate_passes,
    )
    if recipe_keys.get("head_tile") is None and given.head_tile > SMALLEST_TILE:
        found.append(found[-1].with_smaller_tile())
    return found


def fastest_that_fits(
    config: PretrainedConfig,
    settings: StepSettings,
    device: Device,
    tries: list[Switches],
    **options: Any,
) -> tuple[Switches, "Plan"]:
    """
    Plan with one set of switches after the other, until the run fits.

    Args:
        config, settings, device:
            See [`make_plan`].
        tries (`list[Switches]`):
            See [`ladder`].
        options:
            Other arguments of [`make_plan`]. Changes are looked for only where nothing fits.

    Returns:
        `tuple[Switches, Plan]`: the first that fits, or the last.
    """
    with_changes = options.pop("with_changes", True)
    for switches in tries:
        changed = dataclasses.replace(settings, **switches._asdict())
        plan = make_plan(config, changed, device, with_changes=False, **options)
        if plan.verdict == "fits":
            return switches, plan
    return switches, make_plan(config, changed, device, with_changes=with_changes, **options) if with_changes else plan


class Plan(NamedTuple):
    """
    The memory of a run.

    Attributes:
        verdict (`str`): `"fits"`, `"tight"` (only if PyTorch's blocks leave few gaps) or `"does_not_fit"`.
        trace ([`~preferans.memory.trace.Trace`]): Peak of PyTorch's tensors.
        reserve (`dict[str, int]`): Bytes kept free, by what takes them.
        usable (`int`): Bytes that PyTorch may take, gaps included.
        settings ([`~preferans.memory.settings.StepSettings`]): What was planned.
        changes (`list[Change]`): Cheapest first; empty when the run fits.
        together (`Trace`, *optional*): Peak with all chosen changes.
        unsure (`list[str]`): Why the prediction may be off.
    """

    verdict: str
    trace: Trace
    reserve: dict[str, int]
    usable: int
    settings: StepSettings
    changes: list[Change]
    together: Trace | None
    unsure: list[str]

    def as_json(self) -> dict[str, Any]:
        """The plan for programs: keys `verdict`, `peak_bytes`, `reserve_bytes`, `usable_bytes`, `changes` and others."""
        return {
            "verdict": self.verdict,
            "peak_bytes": {"total": self.trace.peak, "moment": self.trace.phase, "by_category": self.trace.by},
            "reserve_bytes": self.reserve,
            "usable_bytes": self.usable,
            "changes": [change._asdict() for change in self.changes],
            "peak_bytes_with_chosen_changes": self.together.peak if self.together else None,
            "settings": dataclasses.asdict(self.settings),
            "unsure": self.unsure,
        }


def verdict_of(peak: int, usable: int) -> str:
    """The verdict on a peak of tensors, given the bytes that they and the gaps between them may take."""
    if peak * (1 + MOST_GAPS) <= usable:
        return "fits"
    return "tight" if peak * (1 + LEAST_GAPS) <= usable else "does_not_fit"


def room(device: Device) -> tuple[int, dict[str, int]]:
    """
    What a device leaves to PyTorch.

    Args:
        device ([`~preferans.hardware.device.Device`]):
            A real one, whose free memory was looked at, or one of a profile.

    Returns:
        `tuple[int, dict[str, int]]`: bytes that may be used, and the bytes reserved by what takes them.
    """
    if device.kind == "cpu":
        memory = psutil.virtual_memory()
        return memory.available, {"other programs": memory.total - memory.available}
    reserve = {"CUDA context": CONTEXT_BYTES, "desktop": DESKTOP_BYTES.get(device.system, 0)}
    others = device.memory - device.free_memory - sum(reserve.values())
    if device.profile is None and others != 0:
        # A real card tells what is taken, and its context already is.
        reserve = {"CUDA context, desktop and other programs": device.memory - device.free_memory}
    return device.free_memory, reserve


def make_plan(
    config: PretrainedConfig,
    settings: StepSettings,
    device: Device,
    accumulation: int = 1,
    trimmed: bool = False,
    with_changes: bool = True,
    recipe_keys: dict[str, Any] | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Plan:
    """
    Plan a run.

    Args:
        config ([`~transformers.PretrainedConfig`]):
            See [`load_shape`].
        settings ([`~preferans.memory.settings.StepSettings`]):
            See [`settings_of`].
        device ([`~preferans.hardware.device.Device`]):
            Where it shall run.
        accumulation (`int`, *optional*, defaults to 1):
            The recipe's `gradient_accumulation_steps`, for changes of the batch.
        trimmed (`bool`, *optional*, defaults to `False`):
            Whether the vocabulary was trimmed already.
        with_changes (`bool`, *optional*, defaults to `True`):
            Whether to look for changes where the run does not fit.
        recipe_keys (`dict`, *optional*):
            The recipe's keys, among which some cannot be counted.
        progress (`Callable`, *optional*):
            Is told in words what is being counted.

    Returns:
        [`Plan`].
    """

    progress("this recipe")
    found = _traced(trace, config, settings)
    usable, reserve = room(device)
    reserve = reserve | {"gaps between blocks": int(found.peak * MOST_GAPS)}
    verdict = verdict_of(found.peak, usable)
    unsure = doubts(config, settings, recipe_keys)
    if verdict == "fits" or not with_changes:
        return Plan(verdict, found, reserve, usable, settings, [], None, unsure)

    options, changes = possible_changes(config, settings, accumulation, trimmed), []
    for option in options:
        progress(option.in_words)
        peak = _traced(trace, *option.apply(config, settings)).peak
        changes.append(
            Change(option.keys, option.price, option.time, peak, verdict_of(peak, usable), False, option.equal)
        )
    chosen, together = _choose(config, settings, options, changes, usable, found)
    changes = [change._replace(chosen=number in chosen) for number, change in enumerate(changes)]
    saving = [change for change in changes if change.peak < found.peak]
    return Plan(verdict, found, reserve, usable, settings, saving, together, unsure)


def _traced(trace: Callable, config: PretrainedConfig, settings: StepSettings) -> Trace:
    try:
        return trace(config, settings)
    except PreferansError:
        raise
    except Exception as error:
        raise PreferansError(
            f"The memory of a model of the type {config.model_type} with these keys cannot be planned ({type(error).__name__}: "
            f"{' '.join(str(error).split()):.200}). Train with --ignore_plan true, with short pairs first."
        ) from error


def _choose(config, settings, options, changes, usable, found) -> tuple[set[int], Trace | None]:
    """
    Numbers of the cheapest changes that make the run fit, and its peak with them: the first that does alone, or as many in a row
    as it takes. Nothing, when not even all together do.
    """

    alone = next((number for number, change in enumerate(changes) if change.verdict == "fits"), None)
    if alone is not None:
        return {alone}, trace(*options[alone].apply(config, settings))
    taken, best = {}, found
    for number, option in enumerate(options):
        if verdict_of(best.peak, usable) == "fits":
            break
        applied = option.apply(config, settings)
        after = trace(*applied)
        if after.peak < best.peak:
            taken[tuple(option.keys)] = number  # a shorter length takes the place of the longer one
            (config, settings), best = applied, after
    if verdict_of(best.peak, usable) == "does_not_fit":
        return set(), None
    return set(taken.values()), best


def doubts(config: PretrainedConfig, settings: StepSettings, recipe_keys: dict[str, Any] | None = None) -> list[str]:
    """Why a prediction may be off."""
    reasons = [
        f"{key} is not counted"
        for key in ("load_in_8bit", "lora_modules_to_save", "use_liger_kernel")
        if (recipe_keys or {}).get(key)
    ]
    if settings.emulate_cuda:
        reasons.append("what CUDA's kernels take inside is reckoned, not measured on a card")
    if config.model_type not in COMPARED:
        reasons.append(f"no step of a {config.model_type} model was compared with its prediction")
    if settings.attn_implementation not in (None, "sdpa", "eager"):
        reasons.append(f"attn_implementation {settings.attn_implementation} is counted as sdpa")
    return reasons
