"""Try the parts of a trainer that need no model, so that a missing package costs seconds and not an hour."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments, get_scheduler
from transformers.integrations import get_reporting_integration_callbacks

from ..errors import PreferansError

ERRORS = (ImportError, ValueError, TypeError, RuntimeError, AttributeError)


def check_trainer_parts(args: TrainingArguments, recipe_name: str) -> None:
    """
    Build what reports the run, its optimizer, its learning rate schedule and a data loader, and discard them.

    Args:
        args ([`~transformers.TrainingArguments`]): Keys of the trainer.
        recipe_name (`str`): The recipe's path for messages.

    Raises:
        [`PreferansError`]: names the key, with the reason of the library.
    """
    with _errors_of(f"{recipe_name}: report_to {', '.join(args.report_to)}"):
        for reporter in get_reporting_integration_callbacks(args.report_to):
            reporter()
    model = torch.nn.Linear(1, 1)
    with _errors_of(f"{recipe_name}: optim {args.optim.value}"):
        optimizer_class, options = Trainer.get_optimizer_cls_and_kwargs(args, model)
        optimizer = optimizer_class(model.parameters(), **options)
    schedule = args.lr_scheduler_type.value
    with _errors_of(
        f"{recipe_name}: lr_scheduler_type {schedule}, lr_scheduler_kwargs {args.lr_scheduler_kwargs or {}}"
    ):
        steps = args.max_steps if args.max_steps > 0 else 100
        get_scheduler(schedule, optimizer, args.get_warmup_steps(steps), steps, args.lr_scheduler_kwargs)
    _try_others(args, recipe_name)


def _try_others(args: TrainingArguments, recipe_name: str) -> None:
    options = {
        key: getattr(args, f"dataloader_{key}") for key in ("num_workers", "persistent_workers", "prefetch_factor")
    }
    with _errors_of(f"{recipe_name}: dataloader keys"):
        DataLoader([0], **options)
    if args.gradient_checkpointing and args.gradient_checkpointing_kwargs:
        with _errors_of(f"{recipe_name}: gradient_checkpointing_kwargs {args.gradient_checkpointing_kwargs}"):
            checkpoint(
                torch.nn.Identity(),
                torch.zeros(1, requires_grad=True),
                **({"use_reentrant": False} | args.gradient_checkpointing_kwargs),
            )


@contextmanager
def _errors_of(keys: str) -> Iterator[None]:
    try:
        yield
    except ERRORS as error:
        raise PreferansError(f"{keys}: {' '.join(str(error).split())}") from error
