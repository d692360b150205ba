"""
Checks of several processes, and their communication.

`accelerate launch --cpu --num_processes 2` silently starts one process, FSDP on the CPU is silently ignored, and `srun` starts copies that
are not connected. Each would train something other than requested, so each is an error here.
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
    wanted: int | None, load_in_4bit: bool = False, precompute_ref_log_probs: bool = False, find_card: bool = True
) -> None:
    """
    Check the number of processes, and that the recipe's keys fit the way in which they share the model.

    Call it after the training arguments are created, which connects the processes, and before a model is loaded.

    Args:
        wanted (`int`, *optional*): The recipe's `num_processes`; `None` accepts any number.
        load_in_4bit (`bool`, *optional*, defaults to `False`), precompute_ref_log_probs (`bool`, *optional*, defaults to `False`):
            The recipe's keys of these names.
        find_card (`bool`, *optional*, defaults to `True`): Whether every process needs its own card.

    Raises:
        [`PreferansError`]: names what was requested, what exists, and the remedy.
    """
    state = PartialState()
    number = state.num_processes
    problem = _missing_processes(wanted, number)
    if problem:
        raise PreferansError(
            f"{problem}, but {'one process runs' if number == 1 else f'{number} processes run'}. On cards, use accelerate launch with "
            "accelerate_configs/ddp.yaml or fsdp2.yaml, and --num_processes set to the number of cards of all machines together. On "
            "the CPU, accelerate launch always starts one process: use python -m torch.distributed.run --standalone --nproc_per_node 2 "
            "scripts/dpo.py. docs/several_cards.md shows each."
        )
    if find_card:
        _check_cards()
    if _is_set("ACCELERATE_USE_FSDP"):
        _check_fsdp(state, precompute_ref_log_probs)
    if _is_set("ACCELERATE_USE_DEEPSPEED") and state.distributed_type != DistributedType.DEEPSPEED:
        raise PreferansError(
            "The launch requests DeepSpeed, but accelerate ignores it on the CPU and in a single process. Launch with "
            "accelerate_configs/deepspeed_zero3.yaml on at least two cards, or without it: accelerate_configs/ddp.yaml."
        )
    if is_sharded() and load_in_4bit:
        raise PreferansError(
            "load_in_4bit: true cannot be combined with FSDP or ZeRO-3, which do not shard 4-bit weights. Write load_in_4bit: false to "
            "shard 16-bit weights, or, if the model in 4 bits fits one card, launch with accelerate_configs/ddp.yaml."
        )


def _check_fsdp(state: PartialState, precompute_ref_log_probs: bool) -> None:
    if state.distributed_type in (DistributedType.NO, DistributedType.MULTI_CPU):
        where = "on the CPU" if state.num_processes > 1 else "in a single process"
        raise PreferansError(
            f"The launch requests FSDP, but accelerate ignores it {where}, and every process would hold the complete model. Launch with "
            "accelerate_configs/fsdp2.yaml on at least two cards, or without FSDP: accelerate_configs/ddp.yaml."
        )
    if os.environ.get("FSDP_VERSION") != "2":
        raise PreferansError(
            "The accelerate config has FSDP 1, which cannot shard fp32 adapters together with 16-bit weights. Write fsdp_version: 2 under "
            "fsdp_config, as in accelerate_configs/fsdp2.yaml."
        )
    if os.environ.get("FSDP_STATE_DICT_TYPE") != "FULL_STATE_DICT":
        raise PreferansError(
            "The accelerate config does not have fsdp_state_dict_type: FULL_STATE_DICT, and a stopped run cannot resume from other "
            "checkpoints. Write it under fsdp_config; only the adapter is saved, which is small."
        )
    if precompute_ref_log_probs:
        raise PreferansError(
            "precompute_ref_log_probs: true cannot be combined with FSDP: it runs before the model is sharded, with the complete model in "
            "every process. Write false: the reference is then the same sharded model with its adapter disabled."
        )


def _missing_processes(wanted: int | None, number: int) -> str | None:
    """Return what requests another number of processes than exist, or `None`."""
    if wanted is not None and wanted != number:
        return f"num_processes is {wanted}"
    # Without a distributed launcher, accelerate exports these two exactly if several processes are requested.
    if number == 1 and "WORLD_SIZE" not in os.environ and {"MASTER_ADDR", "MASTER_PORT"} <= set(os.environ):
        return (
            "Several processes are requested (MASTER_ADDR and MASTER_PORT are set; unset them if they are left over)"
        )
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
    if tasks > number:
        return f"srun started {tasks} tasks that are not connected (start one accelerate launch per machine instead)"
    machines = int(os.environ.get("SLURM_STEP_NUM_NODES", 1))
    if machines > number // int(os.environ.get("LOCAL_WORLD_SIZE", 1)):
        return f"srun started this on {machines} machines that are not connected (see --num_machines and --main_process_ip)"
    return None


def _check_cards() -> None:
    here, cards = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
    if torch.cuda.is_available() and here > cards:
        raise PreferansError(
            f"{here} processes run on this machine, which has {cards} {'card' if cards == 1 else 'cards'}. Set --num_processes of "
            f"accelerate launch to {cards} for this machine alone, or to the number of cards of all machines."
        )


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "true", "yes", "on")


def is_sharded() -> bool:
    """Check whether the launch requests a sharded model: FSDP or DeepSpeed."""
    return _is_set("ACCELERATE_USE_FSDP") or _is_set("ACCELERATE_USE_DEEPSPEED")


def receives_weights() -> bool:
    """
    Check whether this process gets its part of the weights from the main process instead of reading them.

    transformers 5.23 reads them in every process in spite of `fsdp_cpu_ram_efficient_loading`: a 70B model would fill a machine's
    memory once per card.
    """
    return _is_set("ACCELERATE_USE_FSDP") and _is_set("FSDP_CPU_RAM_EFFICIENT_LOADING") and not is_main()


def check_sharded(model: Any) -> None:
    """
    Check that a model prepared for training is sharded if the launch requests FSDP.

    Raises:
        [`PreferansError`]: names a parameter that is not sharded.
    """
    if not _is_set("ACCELERATE_USE_FSDP"):
        return
    complete = [name for name, parameter in model.named_parameters() if not isinstance(parameter, DTensor)]
    if complete:
        raise PreferansError(
            f"The launch requests FSDP, but {len(complete)} parameters are not sharded ({', '.join(complete[:3])} …), so the model needs as "
            "much memory on each card as without it. Launch with accelerate_configs/fsdp2.yaml on at least two cards."
        )


def count() -> int:
    """Return the number of processes of this run."""
    return PartialState().num_processes


def is_main() -> bool:
    """Check whether this is the process that writes and prints."""
    return PartialState().is_main_process


def local_part(tensor: Any) -> Any:
    """Return this process's part of a tensor, which may be sharded."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def highest(number: float) -> float:
    """
    Return the highest of all processes' numbers.

    Decisions to stop use this, because the others would wait for a process that stops alone.
    """
    state = PartialState()
    if state.num_processes == 1:
        return number
    numbers = torch.tensor([number], dtype=torch.float32, device=state.device)
    torch.distributed.all_reduce(numbers, op=torch.distributed.ReduceOp.MAX)
    return numbers.item()


def from_main(work: Callable[[], _Result]) -> _Result:
    """
    Call `work` in the main process only, and return its result, which can be pickled, in every process.

    Raises:
        [`PreferansError`] or `OSError`: in every process, if `work` raised it.
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
