"""Packages and keys of the trainer, checked before a model is loaded."""

import pytest
from trl import DPOConfig

from preferans.errors import PreferansError
from preferans.training.trainer_parts import check_trainer_parts


def arguments(**keys) -> DPOConfig:
    return DPOConfig("run", use_cpu=True, bf16=False, **({"report_to": "none"} | keys))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"report_to": "wandb"}, "r.yaml: report_to wandb: WandbCallback requires wandb to be installed"),
        ({"optim": "galore_adamw"}, "r.yaml: optim galore_adamw: You need to install `galore_torch`"),
        ({"optim": "lomo"}, "r.yaml: optim lomo: You need to install `lomo_optim`"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "cosine_with_min_lr, lr_scheduler_kwargs {}: One of min_lr"),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "missing 1 required positional argument: 'num_decay_steps'"),
        ({"dataloader_persistent_workers": True}, "r.yaml: dataloader keys: persistent_workers option needs"),
        ({"gradient_checkpointing_kwargs": {"nope": 1}}, "unexpected keyword argument 'nope'"),
        ({"lr_scheduler_kwargs": {"nope": 1}}, "unexpected keyword argument 'nope'"),
    ],
)
def test_names_the_key_and_the_reason(keys, words):
    with pytest.raises(PreferansError) as caught:
        check_trainer_parts(arguments(**keys), "r.yaml")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"report_to": "all"},
        {"gradient_checkpointing_kwargs": {"use_reentrant": True}},
        {"optim": "paged_adamw_8bit"},
        {"optim": "adamw_8bit", "max_steps": 3, "warmup_steps": 0.1},
        {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 1e-7}},
    ],
)
def test_accepts_what_trains(keys):
    check_trainer_parts(arguments(**keys), "r.yaml")
