"""What `plan.py` is asked, and how it answers."""

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .errors import PreferansError
from .hardware import MIB, PROFILES, Device, decide_precision, find_device, profile_device
from .memory import Plan, Switches, fastest_that_fits, known_shapes, ladder, load_shape, settings_of
from .recipe import read_recipe
from .starting import find_adapter, on_its_base, with_revision
from .vocabulary import trimmed_from

if TYPE_CHECKING:
    from transformers import PretrainedConfig

PICTURES = (".svg", ".png")
SWEEP_LENGTHS = (256, 512, 768, 1024, 1536, 2048)
VARIANTS = {
    "separate passes": {"separate_passes": True, "precompute_ref_log_probs": True},
    "separate passes, half the rank": {"separate_passes": True, "precompute_ref_log_probs": True, "lora_r": 0.5},
}


@dataclasses.dataclass
class Question:
    """
    What `plan.py` is asked.

    Attributes:
        said (`dict`): Keys of the recipe and the command line.
        recipe (`str`, *optional*): Path of the recipe.
        config ([`~transformers.PretrainedConfig`]): Shape of the model.
        device ([`~preferans.hardware.Device`]): Where the run shall compute.
        lengths (`list[int]`): Lengths to plan; empty for the recipe's own.
        sweep (`bool`), json (`bool`), plot (`str`, *optional*): The options of these names.
    """

    said: dict[str, Any]
    recipe: str | None
    config: "PretrainedConfig"
    device: Device
    lengths: list[int]
    sweep: bool
    json: bool
    plot: str | None = None

    @property
    def trimmed(self) -> bool:
        return trimmed_from(self.said["model_name_or_path"]) is not None


def read_plan_command(argv: list[str]) -> Question:
    """
    Read the command line of `plan.py`.

    Args:
        argv (`list[str]`):
            Without the program's name.

    Raises:
        [`PreferansError`]: on what is unknown or cannot be planned.
    """
    from trl import DPOConfig, ModelConfig, ScriptArguments

    from .training import PreferansArguments

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--hardware_profile")
    parser.add_argument("--system", choices=("Linux", "Windows", "WSL"))
    parser.add_argument("--lengths", type=_lengths, default=[])
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plot", type=_picture)
    options, rest = parser.parse_known_args(argv)
    said, recipe = read_recipe((PreferansArguments, ScriptArguments, ModelConfig, DPOConfig), rest)
    name = said.get("model_name_or_path")
    if not name:
        raise PreferansError(
            f"{recipe or 'Command line'}: the key 'model_name_or_path' is missing, so there is nothing to plan."
        )
    said = with_revision(said, recipe or "Command line")
    name = said["model_name_or_path"]
    start = None if name in known_shapes() else find_adapter(name, said.get("model_revision"))
    if start:
        said = on_its_base(said, start)
        name = start.base
    profile = options.hardware_profile or said.get("hardware_profile")
    config = load_shape(name, said.get("model_revision", "main"))
    if profile:
        device = profile_device(profile, options.system)
    elif options.system:
        raise PreferansError("--system goes with --hardware_profile: a card that is here has its own.")
    else:
        device = find_device(said.get("use_cpu", False))
        if device.kind == "cpu" and (said.get("fp16") or said.get("dtype") == "float16"):
            raise PreferansError(
                f"{recipe or 'Command line'}: this recipe is for a card, and there is none here. Name the one you mean with "
                f"--hardware_profile: {', '.join(PROFILES)}."
            )
    fp16, bf16, _ = decide_precision(
        device, said.get("fp16", False), said.get("bf16"), said.get("dtype", "float32"), config.model_type
    )
    lengths = options.lengths or (list(SWEEP_LENGTHS) if options.sweep else [])
    said |= {"fp16": fp16, "bf16": bf16}
    return Question(said, recipe, config, device, lengths, options.sweep, options.json, options.plot)


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


def sweep(asked: Question) -> list[tuple[int | None, str, Plan]]:
    """
    Make the plans that are asked for.

    Returns:
        `list[tuple]`: length (`None` for the recipe's own), variant (empty for the recipe as it is) and plan.
    """
    from tqdm.auto import tqdm

    wanted = list(_wanted(asked))
    plans = []
    with tqdm(total=len(wanted), desc="Counting bytes", disable=asked.json or not sys.stderr.isatty()) as bar:
        for length, variant, said in wanted:
            settings = settings_of(said, asked.config, asked.device)
            given = Switches(
                settings.gradient_checkpointing,
                settings.separate_passes,
                settings.activation_offloading,
                settings.head_tile,
            )
            _, plan = fastest_that_fits(
                asked.config,
                settings,
                asked.device,
                ladder(given, said),
                accumulation=said.get("gradient_accumulation_steps", 1),
                trimmed=asked.trimmed,
                with_changes=not asked.lengths,
                said=said,
                progress=bar.set_postfix_str,
            )
            plans.append((length, variant, plan))
            bar.update()
    return plans


def _wanted(asked: Question) -> Iterator[tuple[int | None, str, dict[str, Any]]]:
    positions = getattr(asked.config, "n_positions", None)
    for length in asked.lengths or [None]:
        if asked.sweep and positions and length > positions:
            continue
        said = asked.said | ({"max_length": length} if length else {})
        yield length, "", said
        for variant, keys in VARIANTS.items() if asked.sweep else ():
            rank = said.get("lora_r", 16)
            keys = keys | ({"lora_r": max(int(rank * keys["lora_r"]), 1)} if "lora_r" in keys else {})
            if any(said.get(key) != value for key, value in keys.items()):
                yield length, variant, said | keys


def mib(count: int) -> str:
    """`"1,234 MiB"`."""
    return f"{count / MIB:,.0f} MiB"


WORDS = {"fits": "fits", "tight": "tight", "does_not_fit": "does not fit"}


def _heading(asked: Question) -> str:
    device = asked.device
    where = device.in_words + (f", {device.system}" if device.kind == "cuda" else "")
    return f"{asked.said['model_name_or_path']}{f', {asked.recipe}' if asked.recipe else ''}\non {where}"


def spare(plan: Plan) -> int:
    """Bytes left when all reserves are taken off, gaps included; below zero when they are too few."""
    return plan.usable - plan.trace.peak - plan.reserve["gaps between blocks"]


def verdict_in_words(plan: Plan) -> str:
    """Such as `"fits, 182 MiB to spare"`."""
    left = spare(plan)
    return f"{WORDS[plan.verdict]}, " + (f"{mib(left)} to spare" if left >= 0 else f"{mib(-left)} over")


def chosen_by_plan(asked: Question, plan: Plan) -> str:
    """What the recipe leaves open and `dpo.py` would switch, in words; empty where that is nothing."""
    switched = []
    if plan.settings.separate_passes and asked.said.get("separate_passes") is None:
        switched.append("separate passes")
    if not plan.settings.gradient_checkpointing and asked.said.get("gradient_checkpointing") is None:
        switched.append("no checkpointing")
    return f"dpo.py then chooses {' and '.join(switched)}" if switched else ""


def as_text(asked: Question, plan: Plan) -> str:
    """One plan, to be read."""
    settings = plan.settings
    tokens = settings.prompt_tokens + max(settings.chosen_tokens, settings.rejected_tokens)
    lines = [
        _heading(asked),
        f"longest pair of {tokens:,} tokens, {settings.pairs} in a batch, "
        + ("separate passes" if settings.separate_passes else "both answers in one pass")
        + (", checkpointing" if settings.gradient_checkpointing else "")
        + f", head in tiles of {settings.head_tile:,} words",
        *([chosen_by_plan(asked, plan) + "."] if chosen_by_plan(asked, plan) else []),
        "",
    ]
    widest = max(plan.trace.by.values())
    for category, count in sorted(plan.trace.by.items(), key=lambda item: -item[1]):
        if count >= MIB / 2:
            lines.append(f"  {category:<32}{mib(count):>12}  {'█' * round(24 * count / widest)}")
    lines += [
        f"  {'peak of tensors':<32}{mib(plan.trace.peak):>12}  {plan.trace.phase}",
        "",
        *(f"  reserved: {what:<22}{mib(count):>12}" for what, count in plan.reserve.items() if count),
        f"  {'usable for tensors and gaps':<32}{mib(plan.usable):>12}",
        "",
    ]
    lines.append(f"Verdict: {verdict_in_words(plan)}.")
    if plan.verdict == "tight":
        lines.append("It runs if PyTorch's blocks leave few gaps; close what else uses the card.")
    if plan.changes:
        lines += ["", "What would change it, cheapest first (* the cheapest that make it fit):"]
        for change in plan.changes:
            keys = ", ".join(f"{k}: {str(v).lower() if isinstance(v, bool) else v}" for k, v in change.keys.items())
            price = change.price + (
                f"; a step takes about {change.time:.2f} times as long" if change.time != 1 else ""
            )
            mark = "*" if change.chosen else " "
            lines.append(f"{mark} {keys}")
            lines.append(
                f"    saves {mib(plan.trace.peak - change.peak)}; {WORDS[change.verdict]} alone. Price: {price}."
            )
        if plan.together:
            lines.append(f"Together: {mib(plan.together.peak)}.")
        else:
            lines.append("Not even all of them together are enough: take a smaller model.")
    lines += ["", "Not certain: " + "; ".join(plan.unsure) + "."] if plan.unsure else []
    return "\n".join(lines)


def as_table(asked: Question, plans: list[tuple[int | None, str, Plan]]) -> str:
    """Several plans, one a line."""
    lines = [_heading(asked), f"usable for tensors and gaps: {mib(plans[0][2].usable)}", ""]
    lines.append(f"{'max_length':>10}  {'peak':>10}  {'to spare':>10}  verdict")
    for length, variant, plan in plans:
        note = variant or chosen_by_plan(asked, plan)
        verdict = WORDS[plan.verdict] + (f"  ({note})" if note else "")
        lines.append(f"{length:>10,}  {mib(plan.trace.peak):>10}  {mib(spare(plan)):>10}  {verdict}")
    return "\n".join(lines)
