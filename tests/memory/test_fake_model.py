"""Models, optimizer state and offloading without content."""

import pytest
import torch
from transformers import AutoConfig

from preferans.memory.fake_model import optimizer_state
from preferans.memory.settings import StepSettings
from preferans.memory.trace import FORWARD, walk

from ..support.tiny import make_llama

HEADS = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128}
GPTJ = {"n_embd": 64, "n_layer": 3, "n_head": 4, "rotary_dim": 8, "n_positions": 512}


@pytest.mark.parametrize(
    ("architecture", "shape"),
    [
        ("gemma2", HEADS | {"num_hidden_layers": 3, "num_key_value_heads": 2, "head_dim": 16}),
        ("bloom", {"hidden_size": 64, "n_layer": 3, "n_head": 4}),
        ("gptj", GPTJ),
        ("codegen", GPTJ | {"n_ctx": 512}),
        ("xglm", {"d_model": 64, "num_layers": 3, "attention_heads": 4, "ffn_dim": 128}),
        ("gpt_neo", {"hidden_size": 64, "num_heads": 4, "num_layers": 3, "attention_types": [[["global"], 3]]}),
    ],
)
def test_plans_architectures_without_sdpa(architecture, shape):
    """transformers chooses the attention that an architecture supports."""
    config = AutoConfig.for_model(architecture, vocab_size=600, **shape)
    lengths = {"prompt_tokens": 40, "chosen_tokens": 200, "rejected_tokens": 200}
    short, long = (
        walk(config, StepSettings(**lengths | {"prompt_tokens": prompt}, gradient_checkpointing=False))[
            "pass 1, backward, upper half"
        ]
        for prompt in (40, 80)
    )
    assert 0 < short[FORWARD] < long[FORWARD]


@pytest.mark.parametrize(("optim", "size"), [("adamw_torch", 2 * 4 * 8192), ("paged_adamw_8bit", 2 * (8192 + 4 * 32))])
def test_adam_keeps_two_moments_in_32_or_8_bits(optim, size):
    layer = torch.nn.Linear(128, 64, bias=False)
    state = optimizer_state(layer, StepSettings(optim=optim))
    assert sum(tensor.nbytes for tensor in state) == size


def test_small_moments_stay_in_32_bits():
    layer = torch.nn.Linear(8, 8, bias=False)
    assert sum(tensor.nbytes for tensor in optimizer_state(layer, StepSettings(optim="adamw_8bit"))) == 2 * 4 * 64


def test_offloaded_activations_are_off_the_card_and_parameters_stay(tmp_path):
    config = AutoConfig.from_pretrained(make_llama(tmp_path / "llama"))
    phase = "pass 1, backward, upper half"
    lengths = {"prompt_tokens": 40, "chosen_tokens": 200, "rejected_tokens": 200}
    kept, away = (
        walk(config, StepSettings(**lengths, gradient_checkpointing=False, activation_offloading=offloading))[phase]
        for offloading in (False, True)
    )
    assert away[FORWARD] < kept[FORWARD] / 10
    assert away.total() < kept.total() - kept[FORWARD] / 2
