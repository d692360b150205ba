"""The predicted bytes of a step against the bytes of the real step, on the CPU, where both can be counted alike."""

import gc

import pytest
from transformers import AutoConfig

from preferans.memory.live_bytes import LiveBytes
from preferans.memory.settings import StepSettings
from preferans.memory.trace import walk

from ..support.tiny import make_gemma3, make_gpt2, make_llama, make_qwen2
from ..support.trainers import build_trainer

LENGTHS = {"prompt_tokens": 40, "chosen_tokens": 60, "rejected_tokens": 47}
EQUAL_LENGTHS = {"prompt_tokens": 20, "chosen_tokens": 50, "rejected_tokens": 50}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "llama": make_llama(folder / "llama"),
        "gpt2": make_gpt2(folder / "gpt2"),
        "gemma3": make_gemma3(folder / "gemma3"),
        "qwen2": make_qwen2(folder / "qwen2"),
    }


def measured_peak(model, run, settings: StepSettings) -> int:
    """Most bytes alive in the second step of a real trainer, when the optimizer has its state."""
    counter = LiveBytes()
    with counter:
        trainer = build_trainer(
            model,
            run,
            load_in_4bit=settings.load_in_4bit,
            lora_r=settings.lora_r,
            ours={"separate_passes": settings.separate_passes},
            gradient_checkpointing=settings.gradient_checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False},
            precompute_ref_log_probs=settings.precompute_ref_log_probs,
            loss_type=list(settings.loss_type),
            optim="adamw_torch",
        )
        pair = {
            "prompt_ids": [5] * settings.prompt_tokens,
            "chosen_ids": [6] * settings.chosen_tokens,
            "rejected_ids": [7] * settings.rejected_tokens,
        }
        if settings.precompute_ref_log_probs:
            pair |= {"ref_chosen_logps": -3.0, "ref_rejected_logps": -4.0}
        batch = trainer._prepare_inputs(trainer.data_collator([pair] * settings.pairs))
        trainer.create_optimizer()
        if settings.gradient_checkpointing:  # as `train` does
            trainer.model.gradient_checkpointing_enable({"use_reentrant": False})
        trainer.current_gradient_accumulation_steps = 1
        for phase in (None, "the second step"):
            if settings.accumulates:
                trainer.training_step(trainer.model, batch)
            counter.phase = phase
            trainer.training_step(trainer.model, batch)
            counter.phase = None
            trainer.optimizer.step()
            trainer.optimizer.zero_grad()
            gc.collect()
    return counter.peaks["the second step"].total()


CASES = [
    {},
    EQUAL_LENGTHS,
    {"prompt_tokens": 3, "chosen_tokens": 200, "rejected_tokens": 100},
    {"gradient_checkpointing": False},
    {"lora_r": 8},
    {"pairs": 3},
    {"accumulates": True, "lora_r": 32},
    {"load_in_4bit": False},
    {"precompute_ref_log_probs": False},
    {"loss_type": ("sigmoid", "sft")},
    {"loss_type": ("sigmoid_norm", "sft"), "gradient_checkpointing": False},
    {"separate_passes": True},
    {"separate_passes": True, "gradient_checkpointing": False, **EQUAL_LENGTHS},
    {"separate_passes": True, "loss_type": ("sigmoid", "sft"), "pairs": 2, "lora_r": 16},
]


# Every case with Llama, and with each other architecture those in which it goes its own way.
EVERYWHERE = (0, 3, 5, 7, 13)
PAIRED = [("llama", case) for case in CASES]
PAIRED += [(name, CASES[number]) for name in ("gpt2", "gemma3", "qwen2") for number in EVERYWHERE]


@pytest.mark.parametrize(("architecture", "case"), PAIRED, ids=str)
def test_the_prediction_is_the_real_step_to_the_byte(models, tmp_path, architecture, case):
    cpu = {
        "emulate_cuda": False,
        "fp16": False,
        "dtype": "float32",
        "grouped_heads": True,
        "lora_r": 4,
        "lora_alpha": 8,
    }
    settings = StepSettings(**(cpu | LENGTHS | case))
    phases = walk(AutoConfig.from_pretrained(models[architecture]), settings)
    predicted = max(peak.total() for phase, peak in phases.items() if phase != "an evaluation batch")
    assert predicted == measured_peak(models[architecture], tmp_path, settings)


def test_a_model_is_quantized_for_real_after_a_prediction(models, tmp_path):
    walk(AutoConfig.from_pretrained(models["llama"]), StepSettings(**LENGTHS))
    assert build_trainer(models["llama"], tmp_path, max_steps=1).train().metrics["train_loss"] > 0
