"""
Check a preference dataset before training on it, and repair it.

    python scripts/check_data.py data/oasst1_ru
    python scripts/check_data.py data/oasst1_ru --model_name_or_path meta-llama/Llama-3.2-1B-Instruct --max_length 512
    python scripts/check_data.py pairs.jsonl --fix data/pairs_fixed

The dataset may be in any of TRL's preference formats: with or without a column for the prompt, of messages or of plain texts. If a model
is named, its tokenizer is loaded (not its weights), and rows are shown as the trainer sees them. The exit status is 1 if a problem would
harm the training, and 0 otherwise; with --fix, this is about the repaired dataset.
"""

import argparse
import io
import json
import sys

from preferans.data.build_options import parse
from preferans.errors import PreferansError, help_first, run
from preferans.models.sampling_options import add_template_variables


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add(
        "dataset",
        metavar="DATASET",
        help="folder, file (.jsonl, .json, .csv, .parquet), or id of a dataset on the Hub",
    )
    add("--config", help="configuration of the dataset")
    add("--fix", metavar="FOLDER", help="write a repaired dataset to this folder, and check it again")
    add("--json", action="store_true", help="print the results as JSON")
    add(
        "--model_name_or_path",
        help="folder or Hub id of the model to train: its tokens and chat template are checked too",
    )
    add("--chat_template_path", help="Jinja file, for a base model without a chat template")
    add_template_variables(parser)
    add(
        "--max_length",
        type=int,
        default=1024,
        help="tokens of prompt and answer, as in the recipe (default: %(default)s)",
    )
    add(
        "--language",
        help="language that the answers should be in; only ru is checked, any other turns this check off (default: that of the rows' lang, "
        "else ru)",
    )
    return parser


PARSER = make_parser()
help_first(PARSER)


from preferans.data.check import check_dataset
from preferans.data.check_report import fixed_text, report_text
from preferans.data.formats import LANGUAGE_TAG, dataset_format, dataset_language, read_dataset
from preferans.data.repair import check_fix_dir, write_fixed
from preferans.models.loading import load_checked_tokenizer


def check_arguments(args: argparse.Namespace) -> None:
    if args.max_length < 1:
        raise PreferansError(f"--max_length {args.max_length}: it must be at least 1.")
    for option in ("chat_template_path", "chat_template_kwargs"):
        if getattr(args, option) and not args.model_name_or_path:
            raise PreferansError(f"--{option} needs a tokenizer: add --model_name_or_path.")
    if args.language and not LANGUAGE_TAG.fullmatch(args.language):
        raise PreferansError(f"--language {args.language}: it must be a language tag, such as ru or en.")


def main() -> int:
    args = parse(PARSER)
    check_arguments(args)
    if isinstance(sys.stdout, io.TextIOWrapper):  # damaged texts may contain lone surrogates
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")

    if args.fix:
        check_fix_dir(args.fix, args.dataset)
    splits = read_dataset(args.dataset, args.config)
    language = args.language or dataset_language(splits)
    tokenizer = None
    if args.model_name_or_path:
        conversational, _ = dataset_format(splits)
        tokenizer = load_checked_tokenizer(
            args.model_name_or_path, args.chat_template_path, conversational, args.chat_template_kwargs
        )
    report = check_dataset(splits, tokenizer, args.max_length, language)
    results = report.as_json(args.dataset)
    if not args.json:
        print(report_text(report, args.dataset))
    if args.fix:
        counts, report = write_fixed(args, splits, tokenizer, language)
        results["fixed"] = {"counts": counts} | report.as_json(args.fix)
        if not args.json:
            print(fixed_text(args.fix, counts, report))
    if args.json:
        print(json.dumps(results, ensure_ascii=False, indent=2))
    return int(report.harmful)


if __name__ == "__main__":
    run(main)
