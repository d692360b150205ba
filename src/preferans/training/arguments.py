"""Keys of a recipe that TRL's scripts do not have."""

import dataclasses

from ..hardware.device import PROFILES


@dataclasses.dataclass
class HardwareArguments:
    """
    Keys of a recipe that no script of TRL's knows.

    Args:
        hardware_profile (`str`, *optional*):
            Card of [`~preferans.hardware.device.PROFILES`] that a bigger one shall behave like.
        num_processes (`int`, *optional*):
            Number of processes that the run must have, on all machines together. A launch that gets another number stops.
    """

    hardware_profile: str | None = dataclasses.field(
        default=None,
        metadata={"help": f"Card that a bigger one shall behave like, to try a recipe for it: {', '.join(PROFILES)}."},
    )
    num_processes: int | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Number of processes that the run must have, on all machines together; a launch that gets another stops."
        },
    )


@dataclasses.dataclass
class PreferansArguments(HardwareArguments):
    """
    Keys of a recipe that TRL's DPO script does not know; its SFTConfig has `chat_template_path` already.

    Args:
        chat_template_path (`str`, *optional*):
            Jinja file with the chat template, for a base model that has none.
        separate_passes (`bool`, *optional*):
            Whether the chosen and the rejected answer run through the model one after the other, see
            [`~preferans.training.separate_passes.SeparatePassesTrainer`]. Left out, they do where the memory plan needs it.
        head_tile (`int`, *optional*):
            Words of the vocabulary that the LM head scores at once. Left out, the memory plan chooses.
        longest_first (`bool`, *optional*):
            Whether the longest pairs are tried before the first step. Left out, they are on a card.
        ignore_plan (`bool`, *optional*, defaults to `False`):
            Whether to start a run that the memory plan says will not fit.

    Another one is that of [`HardwareArguments`].
    """

    chat_template_path: str | None = dataclasses.field(
        default=None, metadata={"help": "Jinja file with the chat template, for a base model that has none."}
    )
    separate_passes: bool | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Run chosen and rejected answers one after the other: less memory, about a sixth more time, the same gradients. "
            "Left out, the memory plan decides."
        },
    )
    head_tile: int | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Words of the vocabulary that the LM head scores at once. Left out, the memory plan decides."
        },
    )
    longest_first: bool | None = dataclasses.field(
        default=None, metadata={"help": "Try the longest pairs before the first step. Left out: on a card."}
    )
    ignore_plan: bool = dataclasses.field(
        default=False, metadata={"help": "Start even a run that the memory plan says will not fit."}
    )
