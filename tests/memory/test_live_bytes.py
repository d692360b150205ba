"""Counting of live bytes."""

import torch

from preferans.memory.live_bytes import LiveBytes


def test_memory_on_other_devices_is_not_counted():
    counter = LiveBytes()
    with counter:
        tensor = torch.zeros(1000)
        away = tensor.to("meta")
    assert counter.live == 4000
    assert away.shape == tensor.shape
