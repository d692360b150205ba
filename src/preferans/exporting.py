"""
Merged models as GGUF files, for llama.cpp, Ollama and LM Studio.

llama.cpp itself converts and quantizes; here it is found, called, and what it wrote is checked. A package of its own on PyPI it has
not: those that copy its converter there are not its authors'.
"""

import os
import re
import shutil
import subprocess
import sys
from collections import deque
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from .errors import PreferansError
from .files import new_folder, read_json, sha256_of, write_json, write_text
from .model_card import MERGED
from .vocabulary import trimmed_from, trimmed_in_words

MANIFEST = "preferans_gguf.json"
# The first four are written by llama.cpp's converter, the others by its quantizer.
CONVERTED = ("f32", "f16", "bf16", "q8_0")
GGUF_TYPES = (*CONVERTED, "q6_k", "q5_k_m", "q4_k_m", "q4_0", "q3_k_m")
CONVERTER, QUANTIZER = "convert_hf_to_gguf.py", "llama-quantize"
_OUTTYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
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


def check_vocabulary(model: str) -> None:
    """
    Check that llama.cpp can know the tokenizer of a model.

    Raises:
        [`PreferansError`]: when its vocabulary was trimmed.
    """
    record = trimmed_from(model)
    if record is not None:
        raise PreferansError(
            f"--gguf: the vocabulary of {model} is {trimmed_in_words(record)}, and llama.cpp tells tokenizers by what they make of one text, "
            "so it does not know this one. Put the adapter into the full model with --full_vocabulary, or with --base FOLDER."
        )


def export_gguf(
    model: str | Path, gguf_type: str, tools: Tools, system: str | None = None
) -> tuple[Path, bool] | None:
    """
    Write a merged model as a GGUF file, with a Modelfile for Ollama beside it.

    Args:
        model (`str` or `Path`):
            Folder that [`~merging.merge`] wrote.
        gguf_type (`str`):
            One of `GGUF_TYPES`.
        tools ([`Tools`]):
            See [`find_tools`].
        system (`str`, *optional*):
            System message for the Modelfile.

    Returns:
        `tuple[Path, bool]` or `None`: the folder, `gguf_TYPE` in that of the model, and whether the chat template is in the Modelfile;
        `None` when it is there already.

    Raises:
        [`PreferansError`]: when llama.cpp fails, or what it wrote is not the model.
    """
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    from .ollama import modelfile

    model = Path(model).resolve()
    target, name = model / f"gguf_{gguf_type}", f"{model.name}-{gguf_type.upper()}.gguf"
    made_of = {"weights_sha256": read_json(model / MERGED)["weights_sha256"], "type": gguf_type, "system": system}
    if (target / MANIFEST).is_file() and (target / name).is_file():
        found = read_json(target / MANIFEST)
        if {key: found.get(key) for key in made_of} == made_of and found["sha256"] == sha256_of(target / name):
            return None
    config, tokenizer = AutoConfig.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    with new_folder(target) as folder:
        stored = str(config.dtype).removeprefix("torch.")
        first = gguf_type if tools.quantizer is None else _OUTTYPES[stored]
        whole = folder / (name if tools.quantizer is None else "whole.gguf")
        _call([sys.executable, tools.converter, model, "--outtype", first, "--outfile", whole])
        if tools.quantizer is not None:
            _call([tools.quantizer, whole, folder / name, gguf_type.upper()])
            whole.unlink()
        adds_first = check_gguf(folder / name, model, gguf_type, tokenizer)
        ends = GenerationConfig.from_pretrained(model).eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        licence = model / "NOTICE"
        text, has_template = modelfile(
            name,
            tokenizer,
            tokenizer.convert_ids_to_tokens([token for token in ends if token is not None]),
            getattr(config.get_text_config(), "max_position_embeddings", None),
            adds_first,
            system,
            licence.read_text(encoding="utf-8") if licence.is_file() else None,
        )
        write_text(folder / "Modelfile", text)
        write_json(folder / MANIFEST, made_of | {"sha256": sha256_of(folder / name)})
    return target, has_template


def check_gguf(file: Path, model: Path, gguf_type: str, tokenizer: Any) -> bool:
    """
    Check that a GGUF file holds a model: every tensor in its size, the vocabulary, the chat template, and the type that was asked for.

    Args:
        file (`Path`):
            GGUF file.
        model (`Path`):
            Folder with the model's safetensors.
        gguf_type (`str`):
            One of `GGUF_TYPES`.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            The model's tokenizer.

    Returns:
        `bool`: whether programs set the first token themselves.

    Raises:
        [`PreferansError`]: names what is missing.
    """
    import gguf
    from safetensors import safe_open

    try:
        reader = gguf.GGUFReader(file)
    except (ValueError, OSError, IndexError) as error:
        raise PreferansError(f"{file.name}: llama.cpp wrote no readable GGUF file ({error}).") from None
    said = {
        key: field.contents()
        for key, field in reader.fields.items()
        if not key.endswith((".merges", ".scores", ".token_type"))
    }
    architecture = said["general.architecture"]
    numbers = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(numbers[architecture], said[f"{architecture}.block_count"])
    there = {tensor.name: int(tensor.n_elements) for tensor in reader.tensors}
    wrong, tables = [], {"token_embd.weight", "output.weight"}  # may have rows for no token, which go
    for weights in sorted(model.glob("*.safetensors")):
        with safe_open(weights, "pt") as stored:
            for key in stored.keys():  # noqa: SIM118, it is no dict
                name, shape = names.get_name(key, try_suffixes=(".weight", ".bias")), stored.get_slice(key).get_shape()
                size = 1
                for side in shape:
                    size *= side
                if name not in there or (name not in tables and there[name] != size):
                    wrong.append(key)
    kind = gguf.LlamaFileType["ALL_F32" if gguf_type == "f32" else f"MOSTLY_{gguf_type.upper()}"]
    tokens = said["tokenizer.ggml.tokens"]
    problems = {
        f"{len(wrong)} tensors are missing or of another size ({', '.join(wrong[:3])})": bool(wrong),
        f"it has {len(tokens)} tokens, and the tokenizer {len(tokenizer)}": len(tokens) < len(tokenizer),
        "it has another chat template": said.get("tokenizer.chat_template") != tokenizer.chat_template,
        f"it is of type {said['general.file_type']}, not {kind.value}": said["general.file_type"] != kind.value,
    }
    found = [problem for problem, is_there in problems.items() if is_there]
    if found:
        raise PreferansError(
            f"{file.name}: llama.cpp did not write the model that is in {model}: {'; '.join(found)}. Nothing was kept. Take another version "
            "of llama.cpp."
        )
    return said.get(
        "tokenizer.ggml.add_bos_token",
        said["tokenizer.ggml.model"] == "llama" or said.get("tokenizer.ggml.pre") == "llama-bpe",
    )


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
