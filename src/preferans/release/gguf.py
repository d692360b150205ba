"""
Export a merged model as a GGUF file for llama.cpp, Ollama and LM Studio.

llama.cpp converts and quantizes; this module calls it and checks the result. The authors of llama.cpp publish no Python package of the
converter.
"""

import math
import sys
from pathlib import Path
from typing import Any

from safetensors import safe_open
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from ..errors import PreferansError
from ..files import new_folder, read_json, sha256_of, write_json, write_text
from ..models.trimmed import trimmed_from, trimmed_in_words
from .llama_cpp import Tools, call_program
from .model_card import MERGED
from .ollama import ExportedModel, modelfile

MANIFEST = "preferans_gguf.json"
_OUTTYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


def check_vocabulary(model: str) -> None:
    """
    Check that llama.cpp can recognise the tokenizer of a model.

    Raises:
        [`PreferansError`]: if its vocabulary was trimmed.
    """
    record = trimmed_from(model)
    if record is not None:
        raise PreferansError(
            f"--gguf: the vocabulary of {model} is {trimmed_in_words(record)}, and llama.cpp recognises tokenizers by the tokens of one "
            "text, so it does not recognise this one. Merge the adapter into the full model with --full_vocabulary, or with --base FOLDER."
        )


def export_gguf(
    model: str | Path, gguf_type: str, tools: Tools, system: str | None = None
) -> tuple[Path, bool] | None:
    """
    Write a merged model as a GGUF file, with a Modelfile for Ollama beside it.

    Args:
        model (`str` or `Path`): Folder written by [`~preferans.release.merge.merge`].
        gguf_type (`str`): One of `GGUF_TYPES`.
        tools ([`Tools`]): See [`~preferans.release.llama_cpp.find_tools`].
        system (`str`, *optional*): System message for the Modelfile.

    Returns:
        `tuple[Path, bool]` or `None`: the folder (`gguf_TYPE` inside the model's folder) and whether the chat template is in the
        Modelfile; `None` if the file exists already.

    Raises:
        [`PreferansError`]: if llama.cpp fails, or its file does not contain the model.
    """
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
        call_program([sys.executable, tools.converter, model, "--outtype", first, "--outfile", whole])
        if tools.quantizer is not None:
            call_program([tools.quantizer, whole, folder / name, gguf_type.upper()])
            whole.unlink()
        adds_first = check_gguf(folder / name, model, gguf_type, tokenizer)
        ends = GenerationConfig.from_pretrained(model).eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        licence = model / "NOTICE"
        exported = ExportedModel(
            name,
            tokenizer,
            tokenizer.convert_ids_to_tokens([token for token in ends if token is not None]),
            getattr(config.get_text_config(), "max_position_embeddings", None),
            adds_first,
            licence.read_text(encoding="utf-8") if licence.is_file() else None,
        )
        text, has_template = modelfile(exported, system)
        write_text(folder / "Modelfile", text)
        write_json(folder / MANIFEST, made_of | {"sha256": sha256_of(folder / name)})
    return target, has_template


def check_gguf(file: Path, model: Path, gguf_type: str, tokenizer: Any) -> bool:
    """
    Check the tensors and their sizes, the vocabulary, the chat template and the type of a GGUF file against the model.

    Returns:
        `bool`: whether programs add the first token themselves.

    Raises:
        [`PreferansError`]: if something is missing or differs.
    """
    import gguf

    try:
        reader = gguf.GGUFReader(file)
    except (ValueError, OSError, IndexError) as error:
        raise PreferansError(f"{file.name}: llama.cpp wrote no readable GGUF file ({error}).") from None
    metadata = {
        key: field.contents()
        for key, field in reader.fields.items()
        if not key.endswith((".merges", ".scores", ".token_type"))
    }
    architecture = metadata["general.architecture"]
    numbers = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(numbers[architecture], metadata[f"{architecture}.block_count"])
    wrong = _wrong_tensors(model, names, {tensor.name: int(tensor.n_elements) for tensor in reader.tensors})
    kind = gguf.LlamaFileType["ALL_F32" if gguf_type == "f32" else f"MOSTLY_{gguf_type.upper()}"]
    tokens = metadata["tokenizer.ggml.tokens"]
    problems = {
        f"{len(wrong)} tensors are missing or of another size ({', '.join(wrong[:3])})": bool(wrong),
        f"it has {len(tokens)} tokens, and the tokenizer {len(tokenizer)}": len(tokens) < len(tokenizer),
        "it has another chat template": metadata.get("tokenizer.chat_template") != tokenizer.chat_template,
        f"it is of type {metadata['general.file_type']}, not {kind.value}": metadata["general.file_type"]
        != kind.value,
    }
    found = [problem for problem, is_there in problems.items() if is_there]
    if found:
        raise PreferansError(
            f"{file.name}: llama.cpp did not write the model in {model}: {'; '.join(found)}. Nothing was kept. Use another version of "
            "llama.cpp."
        )
    return metadata.get(
        "tokenizer.ggml.add_bos_token",
        metadata["tokenizer.ggml.model"] == "llama" or metadata.get("tokenizer.ggml.pre") == "llama-bpe",
    )


def _wrong_tensors(model: Path, names: Any, sizes: dict[str, int]) -> list[str]:
    """Tensors of the model that are missing in the GGUF file or have another size there."""
    wrong, tables = [], {"token_embd.weight", "output.weight"}  # may have unused rows, which llama.cpp drops
    for weights in sorted(model.glob("*.safetensors")):
        with safe_open(weights, "pt") as stored:
            for key in stored.keys():  # noqa: SIM118, it is no dict
                name = names.get_name(key, try_suffixes=(".weight", ".bias"))
                size = math.prod(stored.get_slice(key).get_shape())
                if name not in sizes or (name not in tables and sizes[name] != size):
                    wrong.append(key)
    return wrong
