"""
Several processes of one run: whether all that were asked for are there, and how they act as one.

`accelerate launch --cpu --num_processes 2` starts one process and says nothing, FSDP on the CPU is passed over in silence, and
`srun` happily starts copies that do not know of each other. Each would train something else than what was asked for, so each is
refused here.
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from accelerate import DistributedType, PartialState
from accelerate.utils import broadcast_object_list
from torch.distributed.tensor import DTensor

from ..errors import PreferansError

_Result = TypeVar("_Result")


def check_processes(
    asked: int | None, load_in_4bit: bool = False, precompute_ref_log_probs: bool = False, find_card: bool = True
) -> None:
    """
    Check that the processes of this run are those that were asked for, and that the recipe suits how they share the model.

    Call it when the training arguments exist, which connect the processes, and before a model is loaded.

    Args:
        asked (`int`, *optional*):
            The recipe's `num_processes`. `None` leaves the number to the launcher.
        load_in_4bit (`bool`, *optional*, defaults to `False`), precompute_ref_log_probs (`bool`, *optional*, defaults to `False`):
            These keys of the recipe.
        find_card (`bool`, *optional*, defaults to `True`):
            Whether every process needs a card of its own.

    Raises:
        [`PreferansError`]: names what was asked for, what there is, and the cure.
    """

    state = PartialState()
    number = state.num_processes
    started = _missing_processes(asked, number)
    if started:
        raise PreferansError(
            f"{started}, but {'one process runs' if number == 1 else f'{number} processes run'}. On cards, use accelerate launch with "
            "accelerate_configs/ddp.yaml or fsdp2.yaml, and --num_processes set to the number of cards of all machines together. On "
            "the CPU, accelerate launch starts one process whatever it is told: use python -m torch.distributed.run --standalone "
            "--nproc_per_node 2 scripts/dpo.py. docs/several_cards.md shows each."
        )
    if find_card:
        _check_cards()
    if _told("ACCELERATE_USE_FSDP"):
        if state.distributed_type in (DistributedType.NO, DistributedType.MULTI_CPU):
            where = "on the CPU" if number > 1 else "in a single process"
            raise PreferansError(
                f"FSDP was asked for, but accelerate passes it over {where}, and every process would hold the whole model. Launch with "
                "accelerate_configs/fsdp2.yaml on at least two cards, or without FSDP: accelerate_configs/ddp.yaml."
            )
        if os.environ.get("FSDP_VERSION") != "2":
            raise PreferansError(
                "The accelerate config asks for FSDP 1, which cannot shard adapters in fp32 beside weights in 16 bits. Write "
                "fsdp_version: 2 under fsdp_config, as accelerate_configs/fsdp2.yaml does."
            )
        if os.environ.get("FSDP_STATE_DICT_TYPE") != "FULL_STATE_DICT":
            raise PreferansError(
                "The accelerate config does not ask for fsdp_state_dict_type: FULL_STATE_DICT, and from other checkpoints a stopped run "
                "would not go on. Write it under fsdp_config; only the adapter is saved, which is small."
            )
    if _told("ACCELERATE_USE_DEEPSPEED") and state.distributed_type != DistributedType.DEEPSPEED:
        raise PreferansError(
            "DeepSpeed was asked for, but accelerate passes it over on the CPU and in a single process. Launch with "
            "accelerate_configs/deepspeed_zero3.yaml on at least two cards, or without it: accelerate_configs/ddp.yaml."
        )
    if is_sharded() and load_in_4bit:
        raise PreferansError(
            "load_in_4bit: true does not go together with FSDP or ZeRO-3: weights in 4 bits would stay whole on every card. Write "
            "load_in_4bit: false, so that weights in 16 bits are shared out; or, when the model in 4 bits fits one card, launch with "
            "accelerate_configs/ddp.yaml."
        )
    if _told("ACCELERATE_USE_FSDP") and precompute_ref_log_probs:
        raise PreferansError(
            "precompute_ref_log_probs: true does not go together with FSDP: it would be done before the model is shared out, with the "
            "whole model in every process. Write false: the reference is then the same sharded model with its adapter switched off."
        )


def _missing_processes(asked: int | None, number: int) -> str | None:
    """What asked for another number of processes than there are, in words."""
    if asked is not None and asked != number:
        return f"num_processes is {asked}"
    # Without a distributed launcher, accelerate exports these two exactly when it was told to start several processes.
    if number == 1 and "WORLD_SIZE" not in os.environ and {"MASTER_ADDR", "MASTER_PORT"} <= set(os.environ):
        return (
            "Several processes were asked for (MASTER_ADDR and MASTER_PORT are set; unset them if that is a leftover)"
        )
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
    if tasks > number:
        return f"srun started {tasks} tasks that do not know of each other (start one accelerate launch per machine instead)"
    machines = int(os.environ.get("SLURM_STEP_NUM_NODES", 1))
    if machines > number // int(os.environ.get("LOCAL_WORLD_SIZE", 1)):
        return f"srun started this on {machines} machines that do not know of each other (see --num_machines and --main_process_ip)"
    return None


def _check_cards() -> None:

    here, cards = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
    if torch.cuda.is_available() and here > cards:
        raise PreferansError(
            f"{here} processes run on this machine, which has {cards} {'card' if cards == 1 else 'cards'} for them. Give accelerate "
            f"launch --num_processes {cards} for this machine alone, or the cards of all machines together."
        )


def _told(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "true", "yes", "on")


def is_sharded() -> bool:
    """Whether the launcher asked for a model of which each process holds a part: FSDP or DeepSpeed."""
    return _told("ACCELERATE_USE_FSDP") or _told("ACCELERATE_USE_DEEPSPEED")


def receives_weights() -> bool:
    """
    Whether this process gets its part of the weights from the main one, and must not read them all itself.

    transformers 5.23 reads them in every process although `fsdp_cpu_ram_efficient_loading` says otherwise: a 70B model would
    fill a machine's memory once for each card.
    """
    return _told("ACCELERATE_USE_FSDP") and _told("FSDP_CPU_RAM_EFFICIENT_LOADING") and not is_main()


def check_sharded(model: Any) -> None:
    """
    Check that a model prepared for training is really shared out, where FSDP was asked for.

    Args:
        model (`torch.nn.Module`):
            The model as the trainer prepared it.

    Raises:
        [`PreferansError`]: names a parameter that every process holds as a whole.
    """

    if not _told("ACCELERATE_USE_FSDP"):
        return
    whole = [name for name, parameter in model.named_parameters() if not isinstance(parameter, DTensor)]
    if whole:
        raise PreferansError(
            f"FSDP was asked for, but {len(whole)} parameters are whole in every process ({', '.join(whole[:3])} …), so the model "
            "takes as much of each card as without it. Launch with accelerate_configs/fsdp2.yaml on at least two cards."
        )


def count() -> int:
    """Number of processes of this run."""

    return PartialState().num_processes


def is_main() -> bool:
    """Whether this is the process that writes and speaks."""

    return PartialState().is_main_process


def local_part(tensor: Any) -> Any:
    """What this process holds of a tensor that may be shared out."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def highest(number: float) -> float:
    """
    The highest of the numbers that the processes bring, the same in each of them.

    Decisions to stop go through this: a process that stopped alone would leave the others waiting for it.
    """

    state = PartialState()
    if state.num_processes == 1:
        return number
    numbers = torch.tensor([number], dtype=torch.float32, device=state.device)
    torch.distributed.all_reduce(numbers, op=torch.distributed.ReduceOp.MAX)
    return numbers.item()


def from_main(work: Callable[[], _Result]) -> _Result:
    """
    Do something in the main process only, such as reading or writing the run's folder, and tell the others what came of it.

    Args:
        work (`Callable`):
            Function without arguments, whose result can be pickled.

    Returns:
        Its result, in every process.

    Raises:
        [`PreferansError`] or `OSError`: in every process, when the main one met it.
    """

    state = PartialState()
    if state.num_processes == 1:
        return work()
    result, error = None, None
    if state.is_main_process:
        try:
            result = work()
        except (PreferansError, OSError) as caught:
            error = caught
    result, error = broadcast_object_list([result, error], from_process=0)
    if error is not None:
        raise error
    return result
