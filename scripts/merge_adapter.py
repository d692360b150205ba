"""
Merge a LoRA adapter into its base model; one trained with a trimmed vocabulary goes into the full model.

    python scripts/merge_adapter.py runs/llama1b_ru --output_dir models/llama1b_ru
    python scripts/merge_adapter.py runs/gemma270m_ru --base cache/gemma-3-270m --output_dir models/gemma270m_ru
    python scripts/merge_adapter.py runs/llama1b_ru --output_dir adapters/llama1b_ru --adapter_only

RUN is the folder of a finished run. The result speaks with the chat template of the run, and has the precision in which the base is
stored. Where the adapter was trained on a model from scripts/trim_vocab.py, the result has the full vocabulary: before it is written,
both models are run with the adapter on the same texts, and another result on the tokens they share is an error. With --adapter_only
the adapter itself is written, as it is, for anybody who has the full model.
"""

import argparse
from pathlib import Path

from preferans.errors import PreferansError, run
from preferans.files import new_folder, read_jsonl

SAMPLE = Path(__file__).parents[1] / "samples" / "oasst1_ru_sample.jsonl"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("adapter", metavar="RUN", help="folder with the adapter")
    add(
        "--base",
        metavar="MODEL",
        help="folder or Hub id of the full model (default: the one whose vocabulary was trimmed, or else the one trained on)",
    )
    add("--output_dir", required=True, help="folder to write; it must not be there yet")
    add("--adapter_only", action="store_true", help="write the adapter for the full model instead of a merged model")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    output_dir = Path(args.output_dir)
    if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise PreferansError(f"--output_dir {output_dir}: it is there already. Name a new folder, or delete this one.")

    from preferans.merging import choose_base, write_merged

    base = choose_base(args.adapter, args.base)
    texts = [row["text"] for row in read_jsonl(SAMPLE) if row["lang"] == "ru"]
    with new_folder(output_dir) as folder:
        result = write_merged(args.adapter, base, folder, texts, args.adapter_only)
    if "logit_difference" in result:
        print(
            f"Trained with {result['tokens_after']:,} of {result['tokens_before']:,} tokens. With all of them the logits of these differ by "
            f"at most {result['logit_difference']:.1e}."
        )
    print(f"The {'adapter for' if args.adapter_only else 'model merged into'} {base} is in {output_dir}.")


if __name__ == "__main__":
    run(main)
