"""Trainers on tiny models, ready for a step."""

from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer
from trl import DPOConfig, ModelConfig

from preferans.hardware.device import Device
from preferans.models.loading import load_model
from preferans.training.dpo import PreferenceTrainer

from .rows import preference
from .tiny import CHAT_TEMPLATE

CPU = Device("cpu", "CPU", (0, 0), 0)


def build_trainer(
    model: Path,
    run: Path,
    trainer_class=PreferenceTrainer,
    load_in_4bit=True,
    ours=None,
    lora_r=4,
    lora_dropout=0.0,
    use_dora=False,
    config_class=DPOConfig,
    rows=None,
    **changes,
):
    """
    Build a trainer with eight pairs or `rows`, as `dpo.py` does; `changes` are keys of `config_class`, `ours` of `trainer_class`.
    """
    settings = {
        "output_dir": str(run),
        "use_cpu": True,
        "bf16": False,
        "learning_rate": 5e-6,
        "max_steps": 4,
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 3,
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 1,
    }
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = tokenizer.chat_template or CHAT_TEMPLATE
    model_args = ModelConfig(str(model), load_in_4bit=load_in_4bit, use_bnb_nested_quant=True, dtype="float32")
    return trainer_class(
        model=load_model(model_args, CPU),
        args=config_class(**(settings | changes)),
        train_dataset=rows or Dataset.from_list([preference(number) for number in range(8)]),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=lora_r,
            lora_alpha=8,
            lora_dropout=lora_dropout,
            use_dora=use_dora,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
        **(ours or {}),
    )


def randomize(trainer) -> None:
    """Move the adapter away from its initial zeros, which would hide a missing gradient."""
    torch.manual_seed(3)
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:  # zero at the start
            parameter.data = torch.randn_like(parameter) * 0.1


def first_batch(trainer) -> dict[str, torch.Tensor]:
    """Return the first batch of an epoch, after moving the adapter away from its start."""
    randomize(trainer)
    return trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))


def adapter_weights(trainer) -> dict[str, torch.Tensor]:
    """Return copies of the trained weights by name."""
    return {
        name: parameter.detach().clone()
        for name, parameter in trainer.model.named_parameters()
        if parameter.requires_grad
    }


def gradients(trainer, batch) -> dict[str, torch.Tensor]:
    trainer.model.train()
    trainer.model.zero_grad()
    trainer.compute_loss(trainer.model, batch).backward()
    return {
        name: parameter.grad.clone() for name, parameter in trainer.model.named_parameters() if parameter.requires_grad
    }
