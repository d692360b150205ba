"""What counts as live memory of the card, and what does not."""

import torch

from preferans.memory.live_bytes import LiveBytes
from preferans.memory.settings import StepSettings
from preferans.memory.trace import FORWARD, walk

from ..support.tiny import make_llama


def test_memory_elsewhere_is_not_counted():
    counter = LiveBytes()
    with counter:
        tensor = torch.zeros(1000)
        away = tensor.to("meta")
    assert counter.live == 4000
    assert away.shape == tensor.shape


def test_offloaded_activations_are_off_the_card_and_parameters_stay(tmp_path):
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(make_llama(tmp_path / "llama"))
    phase = "pass 1, backward, upper half"
    lengths = {"prompt_tokens": 40, "chosen_tokens": 200, "rejected_tokens": 200}
    kept, away = (
        walk(config, StepSettings(**lengths, gradient_checkpointing=False, activation_offloading=offloading))[phase]
        for offloading in (False, True)
    )
    assert away[FORWARD] < kept[FORWARD] / 10
    assert away.total() < kept.total() - kept[FORWARD] / 2
