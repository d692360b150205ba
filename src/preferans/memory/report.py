"""The command line of `plan.py`, and its output as text, table and JSON."""

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from typing import Any

from tqdm.auto import tqdm
from transformers import PretrainedConfig
from trl import DPOConfig, ModelConfig, ScriptArguments

from ..errors import PreferansError
from ..hardware.device import MIB, PROFILES, Device, find_device, profile_device
from ..models.lora_modules import check_lora_modules
from ..models.trimmed import trimmed_from
from ..training.arguments import PreferansArguments
from ..training.key_limits import check_numbers
from ..training.prepare import choose_precision, resolve_base_model
from ..training.recipe import read_recipe
from .changes import Change, keys_in_words
from .plan import Plan, PlanOptions, fastest_that_fits, ladder
from .settings import LAYOUT_WORDS, Switches, known_shapes, load_shape, settings_of

PICTURES = (".svg", ".png")
SWEEP_LENGTHS = (256, 512, 768, 1024, 1536, 2048)
VARIANTS: dict[str, dict[str, Any]] = {
    "separate passes": {"pair_layout": "separate", "precompute_ref_log_probs": True},
    "separate passes, half the rank": {"pair_layout": "separate", "precompute_ref_log_probs": True, "lora_r": 0.5},
}


@dataclasses.dataclass
class PlanRequest:
    """
    The command line of `plan.py`.

    Attributes:
        recipe_keys (`dict`): Keys of the recipe and the command line.
        recipe_path (`str`, *optional*): Path of the recipe.
        config ([`~transformers.PretrainedConfig`]): Shape of the model.
        device ([`~preferans.hardware.device.Device`]): Device of the run.
        lengths (`list[int]`): Lengths to plan; empty for the recipe's own.
    """

    recipe_keys: dict[str, Any]
    recipe_path: str | None
    config: PretrainedConfig
    device: Device
    lengths: list[int]
    sweep: bool
    json: bool
    plot: str | None = None

    @property
    def trimmed(self) -> bool:
        return trimmed_from(self.recipe_keys["model_name_or_path"]) is not None


def read_plan_command(argv: list[str]) -> PlanRequest:
    """
    Read the command line of `plan.py`.

    Args:
        argv (`list[str]`): The command line without the program's name.

    Raises:
        [`PreferansError`]: if an option is unknown, or the recipe cannot be planned.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--hardware_profile")
    parser.add_argument("--system", choices=("Linux", "Windows", "WSL"))
    parser.add_argument("--lengths", type=_lengths, default=[])
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plot", type=_picture)
    options, rest = parser.parse_known_args(argv)
    keys, recipe_path = read_recipe((PreferansArguments, ScriptArguments, ModelConfig, DPOConfig), rest)
    recipe_name = recipe_path or "Command line"
    if not keys.get("model_name_or_path"):
        raise PreferansError(f"{recipe_name}: the key 'model_name_or_path' is missing, so there is nothing to plan.")
    check_numbers(keys, recipe_name)
    keys, _ = resolve_base_model(keys, recipe_name, known_models=known_shapes())
    config = load_shape(keys["model_name_or_path"], keys.get("model_revision", "main"))
    check_lora_modules(keys, config, recipe_name)
    device = _device(options, keys, recipe_name)
    keys, _ = choose_precision(keys, device, config)
    lengths = options.lengths or (list(SWEEP_LENGTHS) if options.sweep else [])
    return PlanRequest(keys, recipe_path, config, device, lengths, options.sweep, options.json, options.plot)


def _device(options: argparse.Namespace, keys: dict[str, Any], recipe_name: str) -> Device:
    """Return the card of the profile, or this machine's device."""
    profile = options.hardware_profile or keys.get("hardware_profile")
    if profile:
        return profile_device(profile, options.system)
    if options.system:
        raise PreferansError("--system needs --hardware_profile: the card of this machine has its own system.")
    device = find_device(keys.get("use_cpu", False))
    if device.kind == "cpu" and (keys.get("fp16") or keys.get("dtype") == "float16"):
        raise PreferansError(
            f"{recipe_name}: this recipe needs a card, and this machine has none. Choose a card with "
            f"--hardware_profile: {', '.join(PROFILES)}."
        )
    return device


def _lengths(text: str) -> list[int]:
    lengths = [int(word) if word.strip().isdigit() else 0 for word in text.split(",")]
    if any(length < 8 for length in lengths):
        raise PreferansError(
            f"--lengths {text}: write numbers of tokens from 8 on, with commas: --lengths 512,1024,2048."
        )
    return lengths


def _picture(path: str) -> str:
    if not path.lower().endswith(PICTURES):
        raise PreferansError(f"--plot {path}: end the file's name in {' or '.join(PICTURES)}.")
    return path


def sweep(request: PlanRequest) -> list[tuple[int | None, str, Plan]]:
    """
    Make the requested plans.

    Returns:
        `list[tuple]`: length (`None` for the recipe's own), variant (empty for the recipe itself) and plan.
    """
    variants = list(_variants(request))
    plans = []
    with tqdm(total=len(variants), desc="Counting bytes", disable=request.json or not sys.stderr.isatty()) as bar:
        for length, variant, recipe_keys in variants:
            settings = settings_of(recipe_keys, request.config, request.device)
            given = Switches(**{key: getattr(settings, key) for key in Switches._fields})
            options = PlanOptions(recipe_keys, request.trimmed, not request.lengths, bar.set_postfix_str)
            tries = ladder(given, recipe_keys)
            _, plan = fastest_that_fits(request.config, settings, request.device, tries, options)
            plans.append((length, variant, plan))
            bar.update()
    return plans


def _variants(request: PlanRequest) -> Iterator[tuple[int | None, str, dict[str, Any]]]:
    positions = getattr(request.config, "n_positions", None)
    lengths: list[int | None] = [*request.lengths] or [None]
    for length in lengths:
        if request.sweep and positions and length > positions:
            continue
        recipe_keys = request.recipe_keys | ({"max_length": length} if length else {})
        yield length, "", recipe_keys
        for variant, keys in VARIANTS.items() if request.sweep else ():
            rank = recipe_keys.get("lora_r", 16)
            keys = keys | ({"lora_r": max(int(rank * keys["lora_r"]), 1)} if "lora_r" in keys else {})
            if any(recipe_keys.get(key) != value for key, value in keys.items()):
                yield length, variant, recipe_keys | keys


def mib(count: int) -> str:
    """Format bytes, for example `"1,234 MiB"`."""
    return f"{count / MIB:,.0f} MiB"


WORDS = {"fits": "fits", "tight": "tight", "does_not_fit": "does not fit"}


def _heading(request: PlanRequest) -> str:
    device = request.device
    where = device.in_words + (f", {device.system}" if device.kind == "cuda" else "")
    return f"{request.recipe_keys['model_name_or_path']}{f', {request.recipe_path}' if request.recipe_path else ''}\non {where}"


def spare(plan: Plan) -> int:
    """Return the bytes left after all reserves, including gaps; negative if memory is short."""
    return plan.usable - plan.trace.peak - plan.reserve["gaps between blocks"]


def verdict_in_words(plan: Plan) -> str:
    """Return for example `"fits, 182 MiB to spare"`."""
    left = spare(plan)
    return f"{WORDS[plan.verdict]}, " + (f"{mib(left)} to spare" if left >= 0 else f"{mib(-left)} over")


def chosen_by_plan(request: PlanRequest, plan: Plan) -> str:
    """Return what `dpo.py` would choose for keys that the recipe leaves open, or an empty string."""
    switched = []
    if plan.settings.pair_layout == "separate" and request.recipe_keys.get("pair_layout") is None:
        switched.append("separate passes")
    if not plan.settings.gradient_checkpointing and request.recipe_keys.get("gradient_checkpointing") is None:
        switched.append("no checkpointing")
    return f"dpo.py then chooses {' and '.join(switched)}" if switched else ""


def as_text(request: PlanRequest, plan: Plan) -> str:
    """Format one plan."""
    settings = plan.settings
    tokens = settings.prompt_tokens + max(settings.chosen_tokens, settings.rejected_tokens)
    passes = LAYOUT_WORDS[settings.pair_layout]
    checkpointing = ", checkpointing" if settings.gradient_checkpointing else ""
    chosen = chosen_by_plan(request, plan)
    lines = [
        _heading(request),
        f"longest pair of {tokens:,} tokens, {settings.pairs} in a batch, {passes}{checkpointing}, head in tiles of "
        f"{settings.head_tile:,} words",
        *([f"{chosen}."] if chosen else []),
        "",
    ]
    widest = max(plan.trace.by.values())
    for category, count in sorted(plan.trace.by.items(), key=lambda item: -item[1]):
        if count >= MIB / 2:
            lines.append(f"  {category:<32}{mib(count):>12}  {'█' * round(24 * count / widest)}")
    lines += [
        f"  {'peak of tensors':<32}{mib(plan.trace.peak):>12}  {plan.trace.phase}",
        "",
        *(f"  reserved: {purpose:<22}{mib(count):>12}" for purpose, count in plan.reserve.items() if count),
        f"  {'usable for tensors and gaps':<32}{mib(plan.usable):>12}",
        "",
        f"Verdict: {verdict_in_words(plan)}.",
    ]
    if plan.verdict == "tight":
        lines.append("It fits if PyTorch's blocks leave few gaps; close other programs that use the card.")
    if plan.changes:
        lines += ["", "Changes that save memory, cheapest first (* the cheapest that make it fit):"]
        lines += [line for change in plan.changes for line in _change_lines(plan, change)]
        if plan.together:
            lines.append(f"Together: {mib(plan.together.peak)}.")
        else:
            lines.append("All of them together are not enough: use a smaller model.")
    lines += ["", "Uncertain: " + "; ".join(plan.unsure) + "."] if plan.unsure else []
    return "\n".join(lines)


def _change_lines(plan: Plan, change: Change) -> list[str]:
    cost = change.price + (f"; a step takes about {change.time:.2f} times as long" if change.time != 1 else "")
    saved = mib(plan.trace.peak - change.peak)
    return [
        f"{'*' if change.chosen else ' '} {keys_in_words(change.keys)}",
        f"    saves {saved}; {WORDS[change.verdict]} alone. Cost: {cost}.",
    ]


def as_table(request: PlanRequest, plans: list[tuple[int | None, str, Plan]]) -> str:
    """Format several plans, one per line."""
    lines = [_heading(request), f"usable for tensors and gaps: {mib(plans[0][2].usable)}", ""]
    lines.append(f"{'max_length':>10}  {'peak':>10}  {'to spare':>10}  verdict")
    for length, variant, plan in plans:
        note = variant or chosen_by_plan(request, plan)
        verdict = WORDS[plan.verdict] + (f"  ({note})" if note else "")
        lines.append(f"{length:>10,}  {mib(plan.trace.peak):>10}  {mib(spare(plan)):>10}  {verdict}")
    return "\n".join(lines)
