"""Keys of a recipe that TRL's scripts do not have."""

import dataclasses

from ..hardware.device import PROFILES
from .controls import CONTROLS
from .packed_pairs import PAIR_LAYOUTS


@dataclasses.dataclass
class SharedArguments:
    """Keys of DPO and SFT recipes that no script of TRL has."""

    chat_template_kwargs: dict | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Variables of the chat template, such as {enable_thinking: false}. They apply wherever the run's template is used; a row's own "
            "chat_template_kwargs win."
        },
    )

    hardware_profile: str | None = dataclasses.field(
        default=None,
        metadata={"help": f"Smaller card to imitate, one of {', '.join(PROFILES)}."},
    )
    num_processes: int | None = dataclasses.field(
        default=None,
        metadata={"help": "Number of processes on all machines together; a launch with another number stops."},
    )


@dataclasses.dataclass
class PreferansArguments(SharedArguments):
    """Keys of a DPO recipe that TRL's script does not have; its SFTConfig already has `chat_template_path`."""

    chat_template_path: str | None = dataclasses.field(
        default=None, metadata={"help": "Jinja file with the chat template, for a base model that has none."}
    )
    pair_layout: str | None = dataclasses.field(
        default=None,
        metadata={
            "help": "How a pair runs through the model, with the same loss and gradients: packed (one row without padding, the prompt once), "
            "padded (both answers in one batch, as in TRL) or separate (one answer after the other: least memory, a sixth more "
            "time). By default packed, or padded where packing is not exact; separate if that alone fits.",
            "choices": list(PAIR_LAYOUTS),
        },
    )
    head_tile: int | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Words of the vocabulary that the LM head scores at once. By default, the memory plan decides."
        },
    )
    longest_first: bool | None = dataclasses.field(
        default=None, metadata={"help": "Try the longest pairs before the first step. By default, only on a card."}
    )
    control: str | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Train a control into a folder beside the run: swapped_labels, shuffled_labels (half of the pairs swapped) or "
            "zero_learning_rate. A gain is real only if it exceeds that of the controls.",
            "choices": list(CONTROLS),
        },
    )
    eval_pairs: list[str] | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Preference datasets of other people that are scored before and after training, on their test split if they have "
            "several. The figures are in pairs.json."
        },
    )
    ignore_plan: bool = dataclasses.field(
        default=False,
        metadata={"help": "Start a run even if it does not fit by the memory plan, or its memory cannot be planned."},
    )
