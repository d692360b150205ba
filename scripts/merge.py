"""
Put a run's adapter into the weights of its base model, and write the two as one model.

    python scripts/merge.py runs/rugpt3medium_sft_ru --output_dir cache/rugpt3medium_sft_ru

Two programs want this: scripts/dpo.py, which starts from one model (after scripts/sft.py: --model_name_or_path
cache/rugpt3medium_sft_ru), and any program that does not know adapters. RUN is the folder of a finished run. The result speaks
with the run's chat template and has the run's dtype. The base model is loaded on the CPU, never in 4 bits; a card is not used. It
takes 4 bytes of the machine's memory for each weight, or 2 with dtype float16 where there are not that many. The written model is
read again and compared with base model and adapter on Russian texts; it is refused when their logits differ by more than rounding.

Where the base model came from scripts/trim_vocab.py, or from scripts/prepare_gemma.py, the result has its trimmed vocabulary, fast to
go on training with. To give it to others, take the full one:

    python scripts/merge.py runs/llama1b_ru --full_vocabulary --output_dir models/llama1b_ru
    python scripts/merge.py runs/gemma270m_ru --base cache/gemma-3-270m --output_dir models/gemma270m_ru
    python scripts/merge.py runs/llama1b_ru --adapter_only --output_dir adapters/llama1b_ru

Then both models are run with the adapter on the same texts, and another result on the tokens they share is an error. With
--adapter_only the adapter itself is written, as it is, for anybody who has the full model.

With --gguf the merged model is also written for llama.cpp, Ollama and LM Studio, by the programs of a llama.cpp checkout, with a
Modelfile beside it (docs/export.md); a model that is merged already is only converted:

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
        help="folder or Hub id of the full model, or the new folder of a base model that was moved (default: the model trained on)",
    )
    which.add_argument(
        "--full_vocabulary",
        action="store_true",
        help="take the model whose vocabulary was trimmed, by the name it had then",
    )
    parser.add_argument(
        "--adapter_only",
        action="store_true",
        help="write the adapter for the full model instead of a merged model",
    )
    parser.add_argument(
        "--gguf", choices=GGUF_TYPES, help="write a GGUF file of this type as well, into OUTPUT_DIR/gguf_TYPE"
    )
    parser.add_argument(
        "--llama_cpp",
        metavar="FOLDER",
        help="checkout of llama.cpp (default: the environment variable LLAMA_CPP, or what is on the path)",
    )
    parser.add_argument(
        "--persona",
        metavar="FILE",
        help="make the instruction of this character, such as personas/sienna.yaml, the Modelfile's system message",
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
    """What --gguf takes, before anything is merged."""
    if not args.gguf:
        if args.llama_cpp or args.persona:
            raise PreferansError(
                f"--{'llama_cpp' if args.llama_cpp else 'persona'} is for --gguf, which is not there."
            )
        return None
    if args.adapter_only:
        raise PreferansError("--gguf: a GGUF file is made of a merged model. Leave --adapter_only out.")
    tools = find_tools(args.gguf, args.llama_cpp)
    origin = Path(args.run, "provenance.json")
    if not args.full_vocabulary and (args.base or origin.is_file()):
        check_vocabulary(args.base or read_json(origin)["model"]["name"])
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
        tell(result, what, args.output_dir)
    if export is None:
        return
    written = export_gguf(args.output_dir, args.gguf, *export)
    if written is None:
        print(f"The GGUF file is already in {args.output_dir}/gguf_{args.gguf} (checksum verified).")
        return
    folder, has_template = written
    if not has_template:
        print("Its chat template could not be put into Ollama's language: write TEMPLATE into the Modelfile by hand.")
    print(f"The GGUF file is in {folder}. For Ollama: ollama create NAME -f {folder / 'Modelfile'}")


def tell(result: dict, what: str, output_dir: str) -> None:
    if "logit_difference" in result:
        print(
            f"Trained with {result['tokens_after']:,} of {result['tokens_before']:,} tokens. With all of them the logits of these differ by "
            f"at most {result['logit_difference']:.1e}."
        )
    if "agreement" in result:
        found = result["agreement"]
        print(
            f"Merged, it says what base model and adapter say: at {found['positions']} positions of Russian texts logits differ by at most "
            f"{found['logit_difference']:.1e} (rounding explains {found['bound']:.1e}; the adapter changes them by up to "
            f"{found['adapter_effect']:.1e}), and the likeliest token is the same at {found['greedy_agreement']:.1%}."
        )
    print(f"The {what} is in {output_dir}; its base model is {result['base']}.")


if __name__ == "__main__":
    run(main)
