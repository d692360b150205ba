import pytest

from preferans.errors import PreferansError
from preferans.hardware import Device, decide_precision, find_device, peak_memory

CPU = Device("cpu", "CPU", (0, 0), 0)
TURING = Device("cuda", "GTX 1650 SUPER", (7, 5), 4 << 30)
AMPERE = Device("cuda", "RTX 3060", (8, 6), 12 << 30)


@pytest.mark.parametrize(
    ("device", "fp16", "bf16", "decided"),
    [
        (CPU, False, None, (False, False)),
        (CPU, False, True, (False, True)),
        (TURING, True, False, (True, False)),
        (TURING, True, None, (True, False)),
        (TURING, False, None, (False, False)),  # TRL's own default would be bf16
        (AMPERE, False, None, (False, True)),
        (AMPERE, False, False, (False, False)),
        (AMPERE, True, None, (True, False)),
    ],
)
def test_precision(device, fp16, bf16, decided):
    *flags, reason = decide_precision(device, fp16, bf16, "float32")
    assert tuple(flags) == decided
    assert "fp16" in reason if fp16 else reason


@pytest.mark.parametrize(
    ("device", "fp16", "bf16", "dtype", "cure"),
    [
        (CPU, True, None, "float16", "--fp16 false --dtype float32"),
        (CPU, False, None, "float16", "--dtype float32"),
        (TURING, False, True, "float32", "fp16: true and dtype: float16"),
        (AMPERE, True, True, "float32", "choose one"),
        (AMPERE, True, None, "bfloat16", "dtype: float16"),
        (TURING, False, None, "bfloat16", "only emulates bf16"),
        (TURING, False, None, "auto", "only emulates bf16"),
    ],
)
def test_what_the_device_cannot_do_is_refused_with_the_cure(device, fp16, bf16, dtype, cure):
    with pytest.raises(PreferansError, match=cure):
        decide_precision(device, fp16, bf16, dtype)


def test_turing_has_no_bf16_of_its_own():
    assert not TURING.has_bf16
    assert AMPERE.has_bf16


def test_this_machine(monkeypatch):
    assert find_device(use_cpu=True) == CPU
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert find_device() == CPU
    assert peak_memory() > 50 << 20
