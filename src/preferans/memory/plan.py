"""
Check in seconds whether a run fits a card, and what to change if it does not.

[`~preferans.memory.trace.trace`] counts the bytes of PyTorch's tensors. Memory for CUDA's context, the desktop, and the gaps between
PyTorch's blocks is reserved.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import psutil
from transformers import PretrainedConfig

from ..errors import PreferansError
from ..hardware.device import CONTEXT_BYTES, DESKTOP_BYTES, Device
from .changes import Change, Option, keys_in_words, possible_changes
from .settings import SMALLEST_TILE, StepSettings, Switches, has_dropout
from .trace import Trace, trace

# Gaps of the caching allocator, as shares of the allocated bytes.
LEAST_GAPS, MOST_GAPS = 0.05, 0.10
# Architectures whose steps were compared with real ones, to the byte, on the CPU.
COMPARED = ("llama", "gpt2", "gemma3_text", "qwen2", "qwen3")


def can_separate(recipe_keys: dict[str, Any]) -> bool:
    """Check whether these keys allow separate passes, see [`~preferans.training.separate_passes.SeparatePassesTrainer`]."""
    return bool(recipe_keys.get("precompute_ref_log_probs")) and not has_dropout(recipe_keys)


def ladder(given: Switches, recipe_keys: dict[str, Any], processes: int = 1) -> list[Switches]:
    """
    List the switches to try for the keys that a recipe leaves open, fastest first.

    Args:
        given ([`Switches`]): The recipe's switches, with the defaults for open keys.
        recipe_keys (`dict`): Keys that the recipe or the command line sets.
        processes (`int`, *optional*, defaults to 1): Number of processes. Separate passes need a single one.
    """
    checkpointing = (
        [False, True] if recipe_keys.get("gradient_checkpointing") is None else [given.gradient_checkpointing]
    )
    layouts = [given.pair_layout]
    if recipe_keys.get("pair_layout") is None and processes == 1 and can_separate(recipe_keys):
        layouts.append("separate")
    # Recomputing is a pass for both answers, separate passes are one for the first answer.
    tries = sorted(
        (given._replace(gradient_checkpointing=c, pair_layout=layout) for c in checkpointing for layout in layouts),
        key=lambda switches: 2 * switches.gradient_checkpointing + (switches.pair_layout == "separate"),
    )
    if recipe_keys.get("head_tile") is None and given.head_tile > SMALLEST_TILE:
        tries.append(tries[-1].with_smaller_tile())
    return tries


@dataclass(frozen=True)
class PlanOptions:
    """
    Options of a plan.

    Args:
        recipe_keys (`dict`, *optional*): The recipe's keys. Some of them cannot be counted.
        trimmed (`bool`, *optional*, defaults to `False`): Whether the vocabulary is trimmed already.
        with_changes (`bool`, *optional*, defaults to `True`): Whether to look for changes if the run does not fit.
        progress (`Callable`, *optional*): Receives a description of what is counted.
        traces (`dict`, *optional*): Traces so far, by shape and settings.
    """

    recipe_keys: dict[str, Any] = field(default_factory=dict)
    trimmed: bool = False
    with_changes: bool = True
    progress: Callable[[str], None] = lambda text: None
    traces: dict[tuple[str, StepSettings], Trace] = field(default_factory=dict)


def fastest_that_fits(
    config: PretrainedConfig,
    settings: StepSettings,
    device: Device,
    tries: list[Switches],
    options: PlanOptions,
) -> tuple[Switches, "Plan"]:
    """
    Plan with one set of switches after another until the run fits.

    Returns:
        `tuple[Switches, Plan]`: the first that fits, or the last. Changes are looked for only if none fits.
    """
    without_changes = dataclasses.replace(options, with_changes=False)
    for switches in tries:
        changed = dataclasses.replace(settings, **switches._asdict())
        plan = make_plan(config, changed, device, without_changes)
        if plan.verdict == "fits":
            return switches, plan
    return switches, make_plan(config, changed, device, options) if options.with_changes else plan


class Plan(NamedTuple):
    """
    The memory of a run.

    Attributes:
        verdict (`str`): `"fits"`, `"tight"` (only if PyTorch's blocks leave few gaps) or `"does_not_fit"`.
        trace ([`~preferans.memory.trace.Trace`]): Peak of PyTorch's tensors.
        reserve (`dict[str, int]`): Reserved bytes by purpose.
        usable (`int`): Bytes available to PyTorch, including gaps.
        settings ([`~preferans.memory.settings.StepSettings`]): Settings of the planned step.
        changes (`list[Change]`): Cheapest first; empty if the run fits.
        together (`Trace`, *optional*): Peak with all chosen changes.
        unsure (`list[str]`): Reasons why the estimate may be wrong.
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
        """Return the plan as JSON: keys `verdict`, `peak_bytes`, `reserve_bytes`, `usable_bytes`, `changes` and others."""
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
    """Return the verdict on a peak of tensors, given the bytes available for them and their gaps."""
    if peak * (1 + MOST_GAPS) <= usable:
        return "fits"
    return "tight" if peak * (1 + LEAST_GAPS) <= usable else "does_not_fit"


def room(device: Device) -> tuple[int, dict[str, int]]:
    """Return the bytes available to PyTorch on a device, real or of a profile, and the reserved bytes by purpose."""
    if device.kind == "cpu":
        memory = psutil.virtual_memory()
        return memory.available, {"other programs": memory.total - memory.available}
    reserve = {"CUDA context": CONTEXT_BYTES, "desktop": DESKTOP_BYTES.get(device.system, 0)}
    others = device.memory - device.free_memory - sum(reserve.values())
    if device.profile is None and others != 0:
        # A real card reports its used memory, which already includes the context.
        reserve = {"CUDA context, desktop and other programs": device.memory - device.free_memory}
    return device.free_memory, reserve


def make_plan(
    config: PretrainedConfig, settings: StepSettings, device: Device, options: PlanOptions | None = None
) -> Plan:
    """
    Plan the memory of a run.

    Args:
        config ([`~transformers.PretrainedConfig`]): See [`~preferans.memory.settings.load_shape`].
        settings ([`~preferans.memory.settings.StepSettings`]): See [`~preferans.memory.settings.settings_of`].
        device ([`~preferans.hardware.device.Device`]): Device of the run.
        options ([`PlanOptions`], *optional*)
    """
    options = options or PlanOptions()
    options.progress("this recipe")
    traced = _traced(config, settings, options)
    usable, reserve = room(device)
    reserve = reserve | {"gaps between blocks": int(traced.peak * MOST_GAPS)}
    verdict = verdict_of(traced.peak, usable)
    unsure = doubts(config, settings, options.recipe_keys)
    if verdict == "fits" or not options.with_changes:
        return Plan(verdict, traced, reserve, usable, settings, [], None, unsure)
    accumulation = options.recipe_keys.get("gradient_accumulation_steps", 1)
    possible, changes = possible_changes(config, settings, accumulation, options.trimmed), []
    for option in possible:
        options.progress(keys_in_words(option.keys))
        peak = _traced(*option.apply(config, settings), options).peak
        alone = verdict_of(peak, usable)
        changes.append(Change(option.keys, option.price, option.time, peak, alone, False, option.equal))
    fitting = next((number for number, change in enumerate(changes) if change.verdict == "fits"), None)
    together: Trace | None
    if fitting is not None:
        chosen, together = {fitting}, _traced(*possible[fitting].apply(config, settings), options)
    else:
        useful = [number for number, change in enumerate(changes) if change.peak < traced.peak]
        chosen, together = _cheapest_together(config, settings, {n: possible[n] for n in useful}, usable, options)
    changes = [change._replace(chosen=number in chosen) for number, change in enumerate(changes)]
    saving = [change for change in changes if change.peak < traced.peak]
    return Plan(verdict, traced, reserve, usable, settings, saving, together, unsure)


class UnplannedMemory(PreferansError):
    """The memory of a model cannot be planned, although it may train."""


def _traced(config: PretrainedConfig, settings: StepSettings, options: PlanOptions) -> Trace:
    key = config.to_json_string(), settings
    try:
        options.traces[key] = options.traces.get(key) or trace(config, settings)
        return options.traces[key]
    except PreferansError:
        raise
    except Exception as error:
        reason = f"({type(error).__name__}: {' '.join(str(error).split()):.200})"
        # transformers and PEFT reject a model's and an adapter's keys with these errors; training would end in the same way.
        if isinstance(error, (ValueError, ImportError)):
            raise PreferansError(
                f"A model of the type {config.model_type} cannot be built with these keys {reason}."
            ) from error
        raise UnplannedMemory(
            f"The memory of a model of the type {config.model_type} with these keys cannot be planned {reason}; "
            "--ignore_plan true trains without a plan."
        ) from error


def _cheapest_together(
    config: PretrainedConfig, settings: StepSettings, possible: dict[int, Option], usable: int, options: PlanOptions
) -> tuple[set[int], Trace | None]:
    """Apply changes, cheapest first, until the run fits; return their numbers and the peak, or `None` if all are not enough."""
    applied = config, settings
    for option in possible.values():
        applied = option.apply(*applied)
    if verdict_of(_traced(*applied, options).peak, usable) == "does_not_fit":
        return set(), None
    best, taken = _traced(config, settings, options), {}
    for number, option in possible.items():
        if verdict_of(best.peak, usable) == "fits":
            break
        applied = option.apply(config, settings)
        after = _traced(*applied, options)
        if after.peak < best.peak:
            taken[tuple(option.keys)] = number  # a shorter length replaces a longer one
            (config, settings), best = applied, after
    return (set(taken.values()), best) if verdict_of(best.peak, usable) != "does_not_fit" else (set(), None)


def doubts(config: PretrainedConfig, settings: StepSettings, recipe_keys: dict[str, Any]) -> list[str]:
    """List the reasons why an estimate may be wrong."""
    reasons = [f"{key} is not counted" for key in ("load_in_8bit", "lora_modules_to_save") if recipe_keys.get(key)]
    if settings.emulate_cuda:
        reasons.append("the internal memory of CUDA's kernels is estimated, not measured on a card")
    if config.model_type not in COMPARED:
        reasons.append(f"the estimate for {config.model_type} models was not compared with real steps")
    if settings.attn_implementation not in (None, "sdpa", "eager"):
        reasons.append(f"attn_implementation {settings.attn_implementation} is counted as sdpa")
    return reasons
