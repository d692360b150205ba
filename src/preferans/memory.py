"""
Whether a run fits a card, told in seconds before it starts, and what to change where it does not.

The bytes of PyTorch's tensors are counted by [`~preferans.memory_trace.trace`]. What else lies on a card is reserved: CUDA's
context, the desktop, and the gaps between PyTorch's blocks.
"""

import copy
import dataclasses
import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import PreferansError, did_you_mean
from .hardware import CONTEXT_BYTES, DESKTOP_BYTES, Device, decide_kernels

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from .memory_trace import StepSettings, Trace

# The caching allocator's gaps take 5 to 10 % of what is allocated.
LEAST_GAPS, MOST_GAPS = 0.05, 0.10
# A short prompt leaves most tokens to be scored: the worst case of a length.
SHORT_PROMPT = 32
SMALLEST_TILE = 1024
TRIMMED_VOCABULARY = 32_768
# Their steps were compared with real ones, to the byte, on the CPU.
COMPARED = ("llama", "gpt2", "gemma3_text", "qwen2")


def known_shapes() -> dict[str, dict]:
    """Shapes of the recipes' models on the Hub, which are part of this package."""
    return json.loads(files(__package__).joinpath("model_shapes.json").read_text(encoding="utf-8"))


def load_shape(name: str, revision: str = "main") -> "PretrainedConfig":
    """
    The shape of a model, without its weights.

    Args:
        name (`str`):
            Folder or Hub id. The shapes of the recipes' models are part of this package; for others on the Hub the
            configuration is downloaded.
        revision (`str`, *optional*, defaults to `"main"`):
            Revision on the Hub.

    Returns:
        [`~transformers.PretrainedConfig`]: the text model's configuration.

    Raises:
        [`PreferansError`]: when there is none.
    """
    from transformers import AutoConfig

    shapes = known_shapes()
    if name in shapes and not Path(name, "config.json").is_file():
        shape = dict(shapes[name])
        return AutoConfig.for_model(shape.pop("model_type"), **shape)
    try:
        return AutoConfig.from_pretrained(name, revision=revision).get_text_config()
    except (OSError, ValueError) as error:
        raise PreferansError(
            f"model_name_or_path {name}: its shape cannot be read ({' '.join(str(error).split()):.200}).{did_you_mean(name, shapes)} "
            f"Without the Hub these are known: {', '.join(shapes)}."
        ) from None


def settings_of(
    said: dict[str, Any], config: "PretrainedConfig", device: Device, pair: tuple[int, int, int] | None = None
) -> "StepSettings":
    """
    What a recipe means for the memory of a step.

    Args:
        said (`dict`):
            Keys that the recipe or the command line sets; the others have TRL's defaults.
        config ([`~transformers.PretrainedConfig`]):
            See [`load_shape`].
        device ([`~preferans.hardware.Device`]):
            Where the run shall compute.
        pair (`tuple[int, int, int]`, *optional*):
            Tokens of prompt, chosen and rejected answer of the longest pair. By default a pair that fills `max_length`.

    Returns:
        [`~preferans.memory_trace.StepSettings`].

    Raises:
        [`PreferansError`]: when no length is known, or it is more than the model has positions for.
    """
    from trl import DPOConfig, ModelConfig

    from .memory_trace import StepSettings
    from .training import PreferansArguments

    defaults = {
        field.name: field.default_factory() if field.default is dataclasses.MISSING else field.default
        for kind in (ModelConfig, DPOConfig, PreferansArguments)
        for field in dataclasses.fields(kind)
        if field.init and (field.default, field.default_factory) != (dataclasses.MISSING, dataclasses.MISSING)
    }

    def value(key: str) -> Any:
        return said.get(key, defaults[key])

    max_length = value("max_length")
    if pair is None:
        if max_length is None:
            raise PreferansError(
                "max_length is not set, so no longest pair is known: name lengths, --lengths 512,1024."
            )
        prompt = min(SHORT_PROMPT, max_length // 4)
        pair = (prompt, max_length - prompt, max(max_length - prompt - 1, 1))
    longest = pair[0] + max(pair[1:])
    positions = getattr(config, "n_positions", None)  # learned positions end; rotary ones do not
    if positions and longest > positions:
        raise PreferansError(
            f"max_length {longest}: the model knows no position beyond {positions}. Write max_length: {positions}."
        )
    on_card = device.kind == "cuda"
    dtype = value("dtype")
    if dtype in ("auto", None):
        dtype = str(getattr(config, "dtype", None) or "float32").removeprefix("torch.")
    half = bool(value("fp16") or value("bf16") or dtype in ("float16", "bfloat16"))
    kernels = decide_kernels(device, config.vocab_size, half)
    targets = value("lora_target_modules")
    named = {
        key: value(key)
        for key in (
            "load_in_4bit", "use_bnb_nested_quant", "bnb_4bit_quant_type", "lora_r", "lora_alpha", "lora_dropout",
            "use_dora", "disable_dropout", "gradient_checkpointing", "activation_offloading", "precompute_ref_log_probs",
            "attn_implementation",
        )
    }  # fmt: skip
    evaluated = [value("per_device_eval_batch_size")]
    if value("precompute_ref_log_probs"):
        evaluated.append(value("precompute_ref_batch_size") or value("per_device_train_batch_size"))
    return StepSettings(
        *pair,
        pairs=value("per_device_train_batch_size"),
        accumulates=value("gradient_accumulation_steps") > 1,
        dtype=dtype,
        evaluated_pairs=max(evaluated),
        fp16=bool(value("fp16")),
        bf16=bool(value("bf16")),
        lora_target_modules=targets if isinstance(targets, str | None) else _one_or_all(targets),
        optim=str(value("optim")),
        loss_type=tuple(_as_list(value("loss_type"))),
        separate_passes=bool(value("separate_passes")),
        head_tile=min(value("head_tile") or kernels.tile, config.vocab_size),
        grouped_heads=kernels.attention == "grouped",
        triton=kernels.triton,
        emulate_cuda=on_card,
        **named,
    )


def _as_list(value: Any) -> list:
    return value if isinstance(value, list) else [value]


def _one_or_all(targets: list[str]) -> tuple[str, ...] | str:
    """As TRL reads them: a list of one word is the word, since `all-linear` is none of the layers' names."""
    return targets[0] if len(targets) == 1 else tuple(targets)


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

    def with_smaller_tile(self) -> "Switches":
        """A quarter of the tile, but not less than what still saves something."""
        return self._replace(head_tile=max(self.head_tile // 4, SMALLEST_TILE))


def can_separate(said: dict[str, Any]) -> bool:
    """Whether separate passes may be switched on for these keys, see [`~preferans.separate_passes.SeparatePassesTrainer`]."""
    dropout = said.get("disable_dropout") is False and said.get("lora_dropout") != 0.0
    return bool(said.get("precompute_ref_log_probs")) and not dropout


def ladder(given: Switches, said: dict[str, Any], processes: int = 1) -> list[Switches]:
    """
    What to try where a recipe leaves it open, fastest first.

    Args:
        given ([`Switches`]):
            With TRL's defaults for what is left open.
        said (`dict`):
            Keys that the recipe or the command line sets.
        processes (`int`, *optional*, defaults to 1):
            Number of processes. Several cannot separate their passes.

    Returns:
        `list[Switches]`.
    """
    checkpointing = [False, True] if said.get("gradient_checkpointing") is None else [given.gradient_checkpointing]
    separate = [given.separate_passes]
    if said.get("separate_passes") is None and processes == 1 and can_separate(said):
        separate = [False, True]
    # Recomputing is a pass for both answers, separate passes are one for the first.
    found = sorted(
        (given._replace(gradient_checkpointing=c, separate_passes=s) for c in checkpointing for s in separate),
        key=lambda switches: 2 * switches.gradient_checkpointing + switches.separate_passes,
    )
    if said.get("head_tile") is None and given.head_tile > SMALLEST_TILE:
        found.append(found[-1].with_smaller_tile())
    return found


def fastest_that_fits(
    config: "PretrainedConfig",
    settings: "StepSettings",
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


class Change(NamedTuple):
    """
    A change of the recipe that saves memory.

    Attributes:
        keys (`dict`): Keys to set.
        price (`str`): What it costs, in words.
        time (`float`): Time of a step as a multiple of today's, counted in passes through the model.
        peak (`int`): Peak with this change alone, in bytes.
        verdict (`str`): With this change alone.
        chosen (`bool`): Whether it belongs to the cheapest changes that make the run fit.
        equal (`bool`): Whether loss and gradients stay the same.
    """

    keys: dict[str, Any]
    price: str
    time: float
    peak: int
    verdict: str
    chosen: bool
    equal: bool


class Plan(NamedTuple):
    """
    The memory of a run.

    Attributes:
        verdict (`str`): `"fits"`, `"tight"` (only if PyTorch's blocks leave few gaps) or `"does_not_fit"`.
        trace ([`~preferans.memory_trace.Trace`]): Peak of PyTorch's tensors.
        reserve (`dict[str, int]`): Bytes kept free, by what takes them.
        usable (`int`): Bytes that PyTorch may take, gaps included.
        settings ([`~preferans.memory_trace.StepSettings`]): What was planned.
        changes (`list[Change]`): Cheapest first; empty when the run fits.
        together (`Trace`, *optional*): Peak with all chosen changes.
        unsure (`list[str]`): Why the prediction may be off.
    """

    verdict: str
    trace: "Trace"
    reserve: dict[str, int]
    usable: int
    settings: "StepSettings"
    changes: list[Change]
    together: "Trace | None"
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


def judge(peak: int, usable: int) -> str:
    """The verdict on a peak of tensors, given the bytes that they and the gaps between them may take."""
    if peak * (1 + MOST_GAPS) <= usable:
        return "fits"
    return "tight" if peak * (1 + LEAST_GAPS) <= usable else "does_not_fit"


def room(device: Device) -> tuple[int, dict[str, int]]:
    """
    What a device leaves to PyTorch.

    Args:
        device ([`~preferans.hardware.Device`]):
            A real one, whose free memory was looked at, or one of a profile.

    Returns:
        `tuple[int, dict[str, int]]`: bytes that may be used, and the bytes reserved by what takes them.
    """
    if device.kind == "cpu":
        import psutil

        memory = psutil.virtual_memory()
        return memory.available, {"other programs": memory.total - memory.available}
    reserve = {"CUDA context": CONTEXT_BYTES, "desktop": DESKTOP_BYTES.get(device.system, 0)}
    others = device.memory - device.free_memory - sum(reserve.values())
    if device.profile is None and others != 0:
        # A real card tells what is taken, and its context already is.
        reserve = {"CUDA context, desktop and other programs": device.memory - device.free_memory}
    return device.free_memory, reserve


def make_plan(
    config: "PretrainedConfig",
    settings: "StepSettings",
    device: Device,
    accumulation: int = 1,
    trimmed: bool = False,
    with_changes: bool = True,
    said: dict[str, Any] | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Plan:
    """
    Plan a run.

    Args:
        config ([`~transformers.PretrainedConfig`]):
            See [`load_shape`].
        settings ([`~preferans.memory_trace.StepSettings`]):
            See [`settings_of`].
        device ([`~preferans.hardware.Device`]):
            Where it shall run.
        accumulation (`int`, *optional*, defaults to 1):
            The recipe's `gradient_accumulation_steps`, for changes of the batch.
        trimmed (`bool`, *optional*, defaults to `False`):
            Whether the vocabulary was trimmed already.
        with_changes (`bool`, *optional*, defaults to `True`):
            Whether to look for changes where the run does not fit.
        said (`dict`, *optional*):
            The recipe's keys, among which some cannot be counted.
        progress (`Callable`, *optional*):
            Is told in words what is being counted.

    Returns:
        [`Plan`].
    """
    from .memory_trace import trace

    progress("this recipe")
    found = _traced(trace, config, settings)
    usable, reserve = room(device)
    reserve = reserve | {"gaps between blocks": int(found.peak * MOST_GAPS)}
    verdict = judge(found.peak, usable)
    unsure = doubts(config, settings, said)
    if verdict == "fits" or not with_changes:
        return Plan(verdict, found, reserve, usable, settings, [], None, unsure)

    options, changes = possible_changes(config, settings, accumulation, trimmed), []
    for option in options:
        progress(option.in_words)
        peak = _traced(trace, *option.apply(config, settings)).peak
        changes.append(Change(option.keys, option.price, option.time, peak, judge(peak, usable), False, option.equal))
    chosen, together = _choose(config, settings, options, changes, usable, found)
    changes = [change._replace(chosen=number in chosen) for number, change in enumerate(changes)]
    saving = [change for change in changes if change.peak < found.peak]
    return Plan(verdict, found, reserve, usable, settings, saving, together, unsure)


def _traced(trace: Callable, config: "PretrainedConfig", settings: "StepSettings") -> "Trace":
    try:
        return trace(config, settings)
    except PreferansError:
        raise
    except Exception as error:
        raise PreferansError(
            f"The memory of a model of the type {config.model_type} with these keys cannot be planned ({type(error).__name__}: "
            f"{' '.join(str(error).split()):.200}). Train with --ignore_plan true, with short pairs first."
        ) from error


class Option(NamedTuple):
    """
    A way to save memory.

    Attributes:
        keys (`dict`), price (`str`), time (`float`), equal (`bool`): See [`Change`].
        fields (`dict`): Fields of [`~preferans.memory_trace.StepSettings`] to change.
        vocab_size (`int`, *optional*): Vocabulary to change to.
    """

    keys: dict[str, Any]
    price: str
    time: float
    equal: bool
    fields: dict[str, Any]
    vocab_size: int | None = None

    @property
    def in_words(self) -> str:
        return ", ".join(
            f"{key}: {str(value).lower() if isinstance(value, bool) else value}" for key, value in self.keys.items()
        )

    def apply(self, config: "PretrainedConfig", settings: "StepSettings") -> tuple["PretrainedConfig", "StepSettings"]:
        """Shape and settings with this change."""
        settings = dataclasses.replace(settings, **self.fields)
        if self.vocab_size:
            config = copy.deepcopy(config)
            config.vocab_size = self.vocab_size
            settings = dataclasses.replace(settings, head_tile=min(settings.head_tile, self.vocab_size))
        return config, settings


def possible_changes(
    config: "PretrainedConfig", settings: "StepSettings", accumulation: int = 1, trimmed: bool = False
) -> list[Option]:
    """
    Changes of a recipe that may save memory, cheapest first.

    Args:
        config, settings, accumulation, trimmed:
            See [`make_plan`].

    Returns:
        `list[Option]`.
    """
    # Passes through the model in a step: forward, recomputation, and backward, which is as much as forward for a frozen base.
    passes = 3 if settings.gradient_checkpointing else 2
    options = []

    def add(keys: dict, price: str, time: float, equal: bool, fields: dict, vocab_size: int | None = None) -> None:
        options.append(Option(keys, price, time, equal, fields, vocab_size))

    if settings.evaluated_pairs > settings.pairs:
        keys = {"per_device_eval_batch_size": settings.pairs, "precompute_ref_batch_size": settings.pairs}
        add(keys, "evaluation in smaller batches", 1.0, True, {"evaluated_pairs": settings.pairs})
    if settings.pairs > 1:
        keys = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": accumulation * settings.pairs}
        if settings.evaluated_pairs > 1:
            keys |= {"per_device_eval_batch_size": 1, "precompute_ref_batch_size": 1}
        fields = {"pairs": 1, "evaluated_pairs": 1, "accumulates": True}
        add(keys, "smaller products, little on a small card", 1.0, True, fields)
    if settings.head_tile > SMALLEST_TILE:
        tile = max(settings.head_tile // 4, SMALLEST_TILE)
        add({"head_tile": tile}, "more and smaller products in the head", 1.0, True, {"head_tile": tile})
    if settings.emulate_cuda and "8bit" not in settings.optim:
        keys = {"optim": "paged_adamw_8bit"}
        add(keys, "Adam's moments are rounded to 8 bits", 1.0, False, keys)
    if not settings.gradient_checkpointing:
        keys = {"gradient_checkpointing": True}
        add(keys, "activations are computed twice", 3 / 2, True, keys)
    if not settings.separate_passes:
        keys = {"separate_passes": True, "precompute_ref_log_probs": True}
        time = 1 + (1 - 1 / (2 * settings.pairs)) / passes
        add(keys, "one more forward pass for every sequence but one", time, True, keys)
    if not trimmed and config.vocab_size > 2 * TRIMMED_VOCABULARY:
        keys = {"model_name_or_path": "a folder from scripts/trim_vocab.py"}
        add(keys, "words of other languages take more tokens", 1.0, False, {}, TRIMMED_VOCABULARY)
    if settings.emulate_cuda and not settings.activation_offloading:
        keys = {"activation_offloading": True}
        add(keys, "kept activations travel to the computer's memory and back, in each step", 1.2, True, keys)
    if settings.lora_r > 4:
        keys = {"lora_r": settings.lora_r // 2, "lora_alpha": settings.lora_alpha // 2}
        add(keys, "the adapter can learn less", 1.0, False, keys)
    longest = settings.prompt_tokens + max(settings.chosen_tokens, settings.rejected_tokens)
    for share in (3 / 4, 1 / 2):
        length = int(longest * share) // 64 * 64
        answer = length - settings.prompt_tokens
        if answer >= settings.prompt_tokens:
            fields = {
                "chosen_tokens": min(settings.chosen_tokens, answer),
                "rejected_tokens": min(settings.rejected_tokens, answer - 1),
            }
            add({"max_length": length}, "the ends of longer answers are cut off", share, False, fields)
    return options


def _choose(config, settings, options, changes, usable, found) -> tuple[set[int], "Trace | None"]:
    """
    Numbers of the cheapest changes that make the run fit, and its peak with them: the first that does alone, or as many in a row
    as it takes. Nothing, when not even all together do.
    """
    from .memory_trace import trace

    alone = next((number for number, change in enumerate(changes) if change.verdict == "fits"), None)
    if alone is not None:
        return {alone}, trace(*options[alone].apply(config, settings))
    taken, best = {}, found
    for number, option in enumerate(options):
        if judge(best.peak, usable) == "fits":
            break
        applied = option.apply(config, settings)
        after = trace(*applied)
        if after.peak < best.peak:
            taken[tuple(option.keys)] = number  # a shorter length takes the place of the longer one
            (config, settings), best = applied, after
    if judge(best.peak, usable) == "does_not_fit":
        return set(), None
    return set(taken.values()), best


def doubts(config: "PretrainedConfig", settings: "StepSettings", said: dict[str, Any] | None = None) -> list[str]:
    """Why a prediction may be off."""
    reasons = [
        f"{key} is not counted"
        for key in ("load_in_8bit", "lora_modules_to_save", "use_liger_kernel")
        if (said or {}).get(key)
    ]
    if settings.emulate_cuda:
        reasons.append("what CUDA's kernels take inside is reckoned, not measured on a card")
    if config.model_type not in COMPARED:
        reasons.append(f"no step of a {config.model_type} model was compared with its prediction")
    if settings.attn_implementation not in (None, "sdpa", "eager"):
        reasons.append(f"attn_implementation {settings.attn_implementation} is counted as sdpa")
    return reasons
