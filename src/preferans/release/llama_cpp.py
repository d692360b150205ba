"""Find and call the programs of llama.cpp, which convert and quantize a model."""

import os
import re
import shutil
import subprocess
import sys
from collections import deque
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from ..errors import PreferansError

# The first four are written by llama.cpp's converter, the others by its quantizer.
CONVERTED = ("f32", "f16", "bf16", "q8_0")
GGUF_TYPES = (*CONVERTED, "q6_k", "q5_k_m", "q4_k_m", "q4_0", "q3_k_m")
CONVERTER, QUANTIZER = "convert_hf_to_gguf.py", "llama-quantize"
_PROGRESS = re.compile(r"\d+%\||^\[\s*\d+/\s*\d+\]")


class Tools(NamedTuple):
    """Programs of llama.cpp: `converter`, and `quantizer` if the type needs it."""

    converter: Path
    quantizer: Path | None


def find_tools(gguf_type: str, llama_cpp: str | None = None) -> Tools:
    """
    Find the programs that a GGUF type needs.

    Args:
        gguf_type (`str`): One of `GGUF_TYPES`.
        llama_cpp (`str`, *optional*):
            Checkout of llama.cpp. By default the environment variable `LLAMA_CPP`, or the programs on the path.

    Raises:
        [`PreferansError`]: if a program is missing; the message shows how to install it.
    """
    named = llama_cpp or os.environ.get("LLAMA_CPP")
    if named and not Path(named).is_dir():
        raise PreferansError(f"{'--llama_cpp' if llama_cpp else 'LLAMA_CPP'} {named}: there is no such folder.")
    if find_spec("gguf") is None:
        raise PreferansError("--gguf: the packages for it are not installed: pip install gguf sentencepiece.")
    converter = Path(named, CONVERTER) if named else Path(shutil.which(CONVERTER) or CONVERTER)
    if not converter.is_file():
        raise PreferansError(
            f"--gguf {gguf_type}: llama.cpp's {CONVERTER} is not {f'in {named}' if named else 'here'}. Get it with: git clone --depth 1 "
            "https://github.com/ggml-org/llama.cpp; then repeat this command with: --llama_cpp llama.cpp"
        )
    quantizer = None
    if gguf_type not in CONVERTED:
        folders = (
            [Path(named, *parts) for parts in (("build", "bin"), ("build", "bin", "Release"), ())] if named else []
        )
        places = [shutil.which(QUANTIZER, path=folder) for folder in folders] + [shutil.which(QUANTIZER)]
        quantizer = next((Path(place).resolve() for place in places if place), None)
        if quantizer is None:
            raise PreferansError(
                f"--gguf {gguf_type}: llama.cpp's {QUANTIZER} is neither on the path nor built{f' in {named}' if named else ''}. Install it "
                "with: winget install llama.cpp (Windows) or brew install llama.cpp; or build it in the checkout with: cmake -B build && "
                f"cmake --build build --target {QUANTIZER}. The types {', '.join(CONVERTED)} do not need it."
            )
    return Tools(converter.resolve(), quantizer)


def call_program(command: list[str | Path]) -> None:
    """Run a program of llama.cpp and show only its progress."""
    program = next(Path(part).name for part in command if Path(part).name != Path(sys.executable).name)
    print(f"{program} ...", file=sys.stderr)
    last: deque[str] = deque(maxlen=20)
    try:
        with subprocess.Popen(
            [str(part) for part in command],
            env=os.environ | {"PYTHONUTF8": "1"},
            encoding="utf-8",
            errors="replace",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            shown = False
            for line in process.stdout or ():
                if _PROGRESS.search(line):
                    print(f"\r{line.rstrip():.100}", end="", file=sys.stderr, flush=True)
                    shown = True
                elif line.strip():
                    last.append(line.strip())
            if shown:
                print(file=sys.stderr)
    except OSError as error:
        raise PreferansError(f"{command[0]}: this program cannot be started ({error}).") from None
    if process.returncode == 0:
        return
    message = last[-1] if last else "no message"
    cure = "Use another version of llama.cpp, or report this to its authors with the name of the base model."
    if "pre-tokenizer" in message:
        cure = "llama.cpp does not support this base model's tokenizer, so it cannot be exported; the merged model itself is complete."
    elif "ModuleNotFoundError" in message:
        cure = "Install that package: pip install gguf sentencepiece protobuf."
    raise PreferansError(f"llama.cpp's {program} ended with status {process.returncode}: {message:.300}. {cure}")
