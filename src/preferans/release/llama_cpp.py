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
    """Programs of llama.cpp: `converter`, and `quantizer` where the type needs it."""

    converter: Path
    quantizer: Path | None


def find_tools(gguf_type: str, llama_cpp: str | None = None) -> Tools:
    """
    Find what a type of GGUF takes.

    Args:
        gguf_type (`str`):
            One of `GGUF_TYPES`.
        llama_cpp (`str`, *optional*):
            Folder of a checkout of llama.cpp; by default the one that the environment variable `LLAMA_CPP` names, or else the programs
            on the path.

    Raises:
        [`PreferansError`]: says what is missing and how to get it.
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
            "https://github.com/ggml-org/llama.cpp; then give this command again with: --llama_cpp llama.cpp"
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
                f"cmake --build build --target {QUANTIZER}. The types {', '.join(CONVERTED)} do without it."
            )
    return Tools(converter.resolve(), quantizer)


def _call(command: list[str | Path]) -> None:
    """Run a program of llama.cpp, showing its progress alone."""
    program = next(Path(part).name for part in command if Path(part).name != Path(sys.executable).name)
    print(f"{program} ...", file=sys.stderr)
    last: deque[str] = deque(maxlen=20)
    options = {"encoding": "utf-8", "errors": "replace", "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    try:
        with subprocess.Popen(
            [str(part) for part in command], env=os.environ | {"PYTHONUTF8": "1"}, **options
        ) as process:
            shown = False
            for line in process.stdout:
                if _PROGRESS.search(line):
                    print(f"\r{line.rstrip():.100}", end="", file=sys.stderr, flush=True)
                    shown = True
                elif line.strip():
                    last.append(line.strip())
            if shown:
                print(file=sys.stderr)
    except OSError as error:
        raise PreferansError(f"{command[0]}: this program does not start ({error}).") from None
    if process.returncode == 0:
        return
    said = last[-1] if last else "it said nothing"
    cure = "Take another version of llama.cpp, or report it there with the name of the base model."
    if "pre-tokenizer" in said:
        cure = "llama.cpp does not know this base model's tokenizer, so there can be no GGUF of it; the merged model itself is complete."
    elif "ModuleNotFoundError" in said:
        cure = "Install that package: pip install gguf sentencepiece protobuf."
    raise PreferansError(f"llama.cpp's {program} ended with status {process.returncode}: {said:.300}. {cure}")
