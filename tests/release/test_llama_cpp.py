"""The programs of llama.cpp: found, or named with how to install them."""

import re
import sys

import pytest

from preferans.errors import PreferansError
from preferans.release.llama_cpp import CONVERTER, find_tools


def test_a_missing_program_is_named_with_its_install_command(tmp_path, monkeypatch):
    monkeypatch.delenv("LLAMA_CPP", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PreferansError, match=re.escape("git clone --depth 1 https://github.com/ggml-org/llama.cpp")):
        find_tools("f16")
    with pytest.raises(PreferansError, match="there is no such folder"):
        find_tools("f16", str(tmp_path / "nowhere"))
    (tmp_path / CONVERTER).touch()
    assert find_tools("q8_0", str(tmp_path)).quantizer is None
    with pytest.raises(
        PreferansError, match="winget install llama.cpp .* cmake --build build --target llama-quantize"
    ):
        find_tools("q4_k_m", str(tmp_path))
    program = tmp_path / "build" / "bin" / f"llama-quantize{'.exe' if sys.platform == 'win32' else ''}"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    monkeypatch.setenv("LLAMA_CPP", str(tmp_path))
    assert find_tools("q4_k_m").quantizer == program
