"""The Triton probe in its own process, with replacements of Triton that fail."""

import sys

import pytest

from preferans.hardware.device import probe_triton


@pytest.fixture
def fake_triton(tmp_path, monkeypatch):
    """Create an importable package `triton` whose kernels run `body`."""

    def make(body: str) -> None:
        folder = tmp_path / "triton"
        folder.mkdir()
        (folder / "__init__.py").write_text(f"def jit(function):\n    {body}\n", encoding="utf-8")
        (folder / "language.py").write_text("constexpr = int\n", encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return make


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise RuntimeError('sm_75 is not supported')", "(RuntimeError: sm_75 is not supported)"),
        ("import os; os.abort()", "a small kernel failed ("),
        ("return function", "a small kernel failed ("),  # it continues to the card, which is missing
    ],
)
def test_a_failing_triton_is_reported(fake_triton, body, words):
    fake_triton(body)
    works, reason = probe_triton()
    assert not works
    assert words in reason


def test_a_hanging_triton_is_reported(fake_triton):
    fake_triton("while True: pass")
    assert probe_triton(timeout=0.2) == (False, "a small kernel was not ready after 0.2 seconds")


def test_no_triton(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    assert probe_triton() == (False, "it is not installed")
