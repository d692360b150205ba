"""
Put a run's adapter into the weights of its base model, and write the two as one model.

    python scripts/merge.py --adapter runs/rugpt3medium_sft_ru --output_dir cache/rugpt3medium_sft_ru

Two programs want this: scripts/dpo.py, which starts from one model (after scripts/sft.py: --model_name_or_path
cache/rugpt3medium_sft_ru), and any program that does not know adapters. The base model is loaded on the CPU in the run's dtype,
never in 4 bits, which needs about 2 bytes of the machine's memory for each weight with dtype float16 and 4 with float32. A
card is not used.
"""

import argparse

from preferans.errors import run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--adapter", required=True, help="folder of a finished run")
    parser.add_argument("--output_dir", required=True, help="folder of the model to write")
    args = parser.parse_args()

    from preferans.merging import merge_adapter

    if merge_adapter(args.adapter, args.output_dir):
        print(f"The merged model is in {args.output_dir}.")
    else:
        print(f"The merged model is already in {args.output_dir} (checksums verified).")


if __name__ == "__main__":
    run(main)
