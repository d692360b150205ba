"""Models, optimizer state and offloading without content."""

import pytest
import torch
from transformers import AutoConfig

from preferans.memory.fake_model import optimizer_state
from preferans.memory.settings import StepSettings
from preferans.memory.trace import FORWARD, walk

from ..support.tiny import make_llama


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
