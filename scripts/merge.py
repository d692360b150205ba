"""
Merge a run's adapter into the weights of its base model.

    python scripts/merge.py runs/rugpt3medium_sft_ru --output_dir cache/rugpt3medium_sft_ru

The result is for programs without support for adapters, and for scripts/dpo.py, which starts from one model (after scripts/sft.py:
--model_name_or_path cache/rugpt3medium_sft_ru). RUN is the folder of a finished run; the result has the run's chat template and dtype. The
base model is loaded on the CPU, never in 4 bits, with 4 bytes of memory for each weight, or 2 with dtype float16 if memory is short. The
written model is loaded again and compared with base model and adapter on Russian texts; a difference beyond rounding is an error.

If scripts/trim_vocab.py or scripts/prepare_gemma.py made the base model, the result keeps the trimmed vocabulary, which is fast to train
further. To share it, use the full one:

    python scripts/merge.py runs/llama1b_ru --full_vocabulary --output_dir models/llama1b_ru
    python scripts/merge.py runs/gemma270m_ru --base cache/gemma-3-270m --output_dir models/gemma270m_ru
    python scripts/merge.py runs/llama1b_ru --adapter_only --output_dir adapters/llama1b_ru

Both models then run with the adapter on the same texts, and different logits of the tokens they share are an error. --adapter_only writes
the adapter itself, unchanged, for everyone who has the full model.

--gguf also writes the merged model for llama.cpp, Ollama and LM Studio, with the programs of a llama.cpp checkout and a Modelfile
(docs/export.md). A model that is merged already is only converted:

    python scripts/merge.py runs/llama1b_ru --full_vocabulary --output_dir models/llama1b_ru --gguf q4_k_m --llama_cpp llama.cpp
"""

import argparse
from pathlib import Path

from preferans.errors import PreferansError, help_first, run
from preferans.release.llama_cpp import GGUF_TYPES, Tools, find_tools


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("run", metavar="RUN", help="folder of a finished run")
    parser.add_argument("--output_dir", required=True, help="folder to write")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--base",
        metavar="MODEL",
        help="folder or Hub id of the full model, or the new folder of a moved base model (default: the model that was trained)",
    )
    which.add_argument(
        "--full_vocabulary",
        action="store_true",
        help="use the model that the vocabulary was trimmed from, by its recorded name",
    )
    parser.add_argument(
        "--adapter_only",
        action="store_true",
        help="write the adapter for the full model instead of a merged model",
    )
    parser.add_argument(
        "--gguf", choices=GGUF_TYPES, help="also write a GGUF file of this type, in OUTPUT_DIR/gguf_TYPE"
    )
    parser.add_argument(
        "--llama_cpp",
        metavar="FOLDER",
        help="checkout of llama.cpp (default: the environment variable LLAMA_CPP, or programs on the path)",
    )
    parser.add_argument(
        "--persona",
        metavar="FILE",
        help="use the instruction of this character, such as personas/sienna.yaml, as system message of the Modelfile",
    )
    return parser


PARSER = make_parser()
help_first(PARSER)

from preferans.data.persona import load_persona
from preferans.files import read_json, read_jsonl
from preferans.release.gguf import check_vocabulary, export_gguf
from preferans.release.merge import merge

SAMPLE = Path(__file__).parents[1] / "samples" / "oasst1_ru_sample.jsonl"


def prepare_export(args: argparse.Namespace) -> tuple[Tools, str | None] | None:
    """Find the programs for --gguf and read the persona, before anything is merged."""
    if not args.gguf:
        if args.llama_cpp or args.persona:
            raise PreferansError(f"--{'llama_cpp' if args.llama_cpp else 'persona'} needs --gguf.")
        return None
    if args.adapter_only:
        raise PreferansError("--gguf: a GGUF file is made from a merged model. Leave out --adapter_only.")
    tools = find_tools(args.gguf, args.llama_cpp)
    provenance = Path(args.run, "provenance.json")
    if not args.full_vocabulary and (args.base or provenance.is_file()):
        check_vocabulary(args.base or read_json(provenance)["model"]["name"])
    return tools, load_persona(args.persona).instruction if args.persona else None


def main() -> None:
    args = PARSER.parse_args()
    export = prepare_export(args)
    texts = [row["text"] for row in read_jsonl(SAMPLE) if row["lang"] == "ru"]
    result = merge(args.run, args.output_dir, args.base, args.full_vocabulary, args.adapter_only, texts=texts)
    what = "adapter" if args.adapter_only else "merged model"
    if result is None:
        print(f"The {what} is already in {args.output_dir} (checksums verified).")
    else:
        print_result(result, what, args.output_dir)
    if export is None:
        return
    written = export_gguf(args.output_dir, args.gguf, *export)
    if written is None:
        print(f"The GGUF file is already in {args.output_dir}/gguf_{args.gguf} (checksum verified).")
        return
    folder, has_template = written
    if not has_template:
        print("Its chat template cannot be translated to Ollama's language: write TEMPLATE in the Modelfile by hand.")
    print(f"The GGUF file is in {folder}. For Ollama: ollama create NAME -f {folder / 'Modelfile'}")


def print_result(result: dict, what: str, output_dir: str) -> None:
    if "logit_difference" in result:
        print(
            f"Trained with {result['tokens_after']:,} of {result['tokens_before']:,} tokens. With the full vocabulary, their logits differ by "
            f"at most {result['logit_difference']:.1e}."
        )
    if "agreement" in result:
        agreement = result["agreement"]
        print(
            f"The merged model reproduces base + adapter: at {agreement['positions']} positions of Russian texts logits differ by at most "
            f"{agreement['logit_difference']:.1e} (rounding explains {agreement['bound']:.1e}; the adapter changes them by up to "
            f"{agreement['adapter_effect']:.1e}), and the likeliest token is the same at {agreement['greedy_agreement']:.1%}."
        )
    print(f"The {what} is in {output_dir}; its base model is {result['base']}.")


if __name__ == "__main__":
    run(main)
