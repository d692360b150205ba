"""The traced bytes of a step against those of a real step on the CPU."""

import gc

import pytest
from transformers import AutoConfig, GPT2Config, LlamaConfig

from preferans.memory.live_bytes import LiveBytes
from preferans.memory.settings import StepSettings, load_shape
from preferans.memory.trace import trace, walk

from ..support.tiny import make_gemma3, make_gpt2, make_llama, make_qwen2, make_qwen3
from ..support.trainers import build_trainer

LENGTHS = {"prompt_tokens": 40, "chosen_tokens": 60, "rejected_tokens": 47}
LLAMA_1B = "meta-llama/Llama-3.2-1B-Instruct"
SHAPE = {
    "vocab_size": 3000,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}
EQUAL_LENGTHS = {"prompt_tokens": 20, "chosen_tokens": 50, "rejected_tokens": 50}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "llama": make_llama(folder / "llama"),
        "gpt2": make_gpt2(folder / "gpt2"),
        "gemma3": make_gemma3(folder / "gemma3"),
        "qwen2": make_qwen2(folder / "qwen2"),
        "qwen3": make_qwen3(folder / "qwen3"),
    }


def measured_peak(model, run, settings: StepSettings) -> int:
    """Return the peak of the second step of a real trainer, when the optimizer has its state."""
    counter = LiveBytes()
    with counter:
        trainer = build_trainer(
            model,
            run,
            load_in_4bit=settings.load_in_4bit,
            lora_r=settings.lora_r,
            use_dora=settings.use_dora,
            ours={"pair_layout": settings.pair_layout},
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
    {"pair_layout": "separate"},
    {"pair_layout": "separate", "gradient_checkpointing": False, **EQUAL_LENGTHS},
    {"pair_layout": "packed", "pairs": 2},
    {"pair_layout": "separate", "loss_type": ("sigmoid", "sft"), "pairs": 2, "lora_r": 16},
    {"pair_layout": "packed", "gradient_checkpointing": False, "precompute_ref_log_probs": False},
    {"use_dora": True},
    {"use_dora": True, "load_in_4bit": False, "gradient_checkpointing": False},
]


# Every case with Llama, and with each other architecture the cases in which it differs.
EVERYWHERE = (0, 3, 5, 7, 13, 15)
PAIRED = [("llama", case) for case in CASES]
PAIRED += [(name, CASES[number]) for name in ("gpt2", "gemma3", "qwen2", "qwen3") for number in EVERYWHERE]


@pytest.mark.parametrize(("architecture", "case"), PAIRED, ids=str)
def test_the_trace_equals_a_real_step_to_the_byte(models, tmp_path, architecture, case):
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
    traced = max(peak.total() for phase, peak in phases.items() if phase != "an evaluation batch")
    assert traced == measured_peak(models[architecture], tmp_path, settings)


def test_the_trial_of_the_longest_pairs_needs_what_a_later_batch_needs(models, tmp_path, monkeypatch):
    counter, batches = LiveBytes(), []
    with counter:
        trainer = build_trainer(models["llama"], tmp_path, gradient_accumulation_steps=2, lora_r=32)
        trainer.create_optimizer()
        step = trainer.training_step
        monkeypatch.setattr(trainer, "training_step", lambda model, batch: batches.append(batch) or step(model, batch))
        counter.phase = "trial"
        trainer.try_longest()
        for phase in (None, "later batch"):
            counter.phase = None
            step(trainer.model, batches[0])
            counter.phase = phase
            step(trainer.model, batches[0])
            counter.phase = None
            trainer.optimizer.step()
            trainer.optimizer.zero_grad()
    trial, later = (counter.peaks[phase].total() for phase in ("trial", "later batch"))
    assert trial == pytest.approx(later, abs=5000)  # Adam's counters of steps


def test_a_real_model_can_be_quantized_after_a_trace(models, tmp_path):
    walk(AutoConfig.from_pretrained(models["llama"]), StepSettings(**LENGTHS))
    assert build_trainer(models["llama"], tmp_path, max_steps=1).train().metrics["train_loss"] > 0


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"pair_layout": "separate", "lora_r": 64, "chosen_tokens": 30, "rejected_tokens": 20},
        {"gradient_checkpointing": False},
        {"pair_layout": "separate", "gradient_checkpointing": False, "optim": "paged_adamw_8bit"},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(num_hidden_layers=7, **SHAPE),
        GPT2Config(n_layer=6, n_embd=64, n_head=4, n_positions=512, vocab_size=3000),
    ],
    ids=["llama", "gpt2"],
)
def test_extrapolation_from_three_and_four_layers_is_exact(config, settings):
    settings = StepSettings(**({"prompt_tokens": 20, "chosen_tokens": 100, "rejected_tokens": 90} | settings))
    whole = max(peak.total() for peak in walk(config, settings).values())
    assert trace(config, settings).peak == whole


def test_the_weights_of_llama_have_their_known_size():
    """Written out by hand from the shapes: 4 bits, 8-bit scales of 64 weights, and scales of those of 256 in fp32."""
    settings = StepSettings(prompt_tokens=32, chosen_tokens=480, rejected_tokens=479, head_tile=4096)
    found = trace(load_shape(LLAMA_1B), settings)
    linear = 16 * (2 * 2048 * 2048 + 2 * 2048 * 512 + 3 * 2048 * 8192)
    assert found.by["weights in 4 bits"] == pytest.approx(linear * (0.5 + 1 / 64 + 4 / (64 * 256)), rel=1e-3)
    assert found.by["embeddings and head"] == 128256 * 2048 * 2
    lora = 16 * 16 * (2 * 2 * 2048 + 2 * (2048 + 512) + 3 * (2048 + 8192))
    assert found.by["adapter weights"] == 4 * lora
    assert found.by["optimizer state"] == 8 * lora
