"""
Score adapters beside their base on preference pairs, without training.

    python scripts/evaluate_pairs.py data/oasst1_ru --adapter runs/llama1b_ru --output_dir pairs/llama1b_ru
    python scripts/evaluate_pairs.py data/oasst1_ru other_pairs.jsonl --adapter runs/llama1b_ru runs/llama1b_ipo --output_dir pairs/both
    python scripts/evaluate_pairs.py data/ruhhh --split all --by category --adapter runs/llama1b_ru --output_dir pairs/ruhhh

A dataset is a folder, a file or an id on the Hub in any of TRL's preference formats. For every dataset and adapter, the command computes
how often the chosen answer is likelier, per token and summed, before and after training; the reward accuracy and margin against the base;
the same where the chosen answer is longer and where it is shorter, and length-balanced; and what the length and a linear model on words
get right without any language model. Intervals draw whole conversations.

Pairs are cut to --max_length as in training. The log-probabilities are saved batch by batch in --output_dir, and the same command
resumes. pairs.json there has all figures; scripts/score.py --pairs shows them in the report.
"""

import argparse

from preferans.errors import PreferansError, help_first, run
from preferans.models.sampling_options import add_model_arguments


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("datasets", nargs="+", metavar="DATASET", help="folders, files or Hub ids of preference datasets")
    add("--split", default="test", help="split of datasets with several, or 'all' (default: %(default)s)")
    add("--by", metavar="COLUMN", help="column whose values are also scored apart, such as category")
    add(
        "--max_length",
        type=int,
        help="tokens of prompt and answer together (default: that of the first adapter's run)",
    )
    add("--batch_size", type=int, default=8, help="pairs per batch (default: %(default)s)")
    add("--output_dir", required=True, help="folder for pairs.json and the log-probabilities")
    add_model_arguments(parser, several=True)
    parser.set_defaults(seed=0, max_prompts=None, sampling="greedy")
    parser.set_defaults(max_new_tokens=None, top_k=None, top_p=None, temperature=None)
    return parser


PARSER = make_parser()
help_first(PARSER)

from pathlib import Path

from tqdm import tqdm

from preferans.evaluation.answers import same_file
from preferans.evaluation.other_pairs import (
    PAIRS_FILE,
    PAIRS_SCHEMA,
    PairSet,
    ScoredPairs,
    dataset_record,
    has_training_pairs,
    read_pair_set,
    record_lines,
)
from preferans.files import write_json
from preferans.models.adapters import run_keys
from preferans.models.load_samplers import check_sampling_arguments, load_samplers, with_base
from preferans.models.pair_log_probs import PairTokens, answer_log_probs, cut_tokens
from preferans.models.sampler import Sampler
from preferans.resumable import ResumableRows


def main() -> None:
    args = PARSER.parse_args()
    if not args.adapter:
        raise PreferansError(
            "--adapter is missing: name the folder of a finished run, or of several with one base model."
        )
    check_sampling_arguments(args)
    keys = [run_keys(adapter) for adapter in args.adapter]
    max_length = args.max_length or keys[0].get("max_length")
    pair_sets = [read_pair_set(name, args.split) for name in args.datasets]
    systems = with_base(load_samplers(args))
    records = []
    for pair_set in pair_sets:
        kept, pair_set.too_long = cut_tokens(pair_set.pairs, systems[0].tokenizer, max_length)
        if not kept:
            raise PreferansError(f"{pair_set.name}: every prompt alone fills --max_length {max_length}. Raise it.")
        pair_set.pairs, tokens = [pair for pair, _ in kept], [one for _, one in kept]
        pair_set.cut = sum(one.is_cut for one in tokens)
        log_probs = [measure(system, pair_set, tokens, max_length, Path(args.output_dir)) for system in systems]
        *adapters, base = log_probs
        names = [system.label for system in systems[:-1]]
        scored = ScoredPairs(base, dict(zip(names, adapters, strict=True)))
        for name, own in zip(names, keys, strict=True):
            scored.beta[name] = own.get("beta", 0.1)
            scored.per_token[name] = "sigmoid_norm" in own.get("loss_type", [])
            if own.get("dataset_name") and same_file(own["dataset_name"], pair_set.name):
                scored.in_domain.add(name)
        records.append(dataset_record(pair_set, scored, args.by))
        print("\n".join(record_lines(records[-1])))
        if scored.in_domain and has_training_pairs(pair_set):
            print(
                f"  {', '.join(sorted(scored.in_domain))} was trained on some of these pairs: its figures prove nothing."
            )
    path = Path(args.output_dir) / PAIRS_FILE
    about = {"schema": PAIRS_SCHEMA, "base": systems[-1].label, "max_length": max_length, "split": args.split}
    write_json(path, about | {"datasets": records})
    print(f"\n{path}. Next: python scripts/score.py {args.adapter[0]} --pairs {path} --output_dir reports/pairs")


def measure(
    system: Sampler, pair_set: PairSet, tokens: list[PairTokens], max_length: int | None, folder: Path
) -> list[dict]:
    """Compute the log-probabilities that the folder does not have yet, and return all in the order of the pairs."""
    constant = {
        "dataset": pair_set.name,
        "system": system.label,
        "weights": system.weights["sha256"],
        "template": system.weights["chat_template_sha256"],
        "max_length": max_length,
    }

    def key_of(row: dict, location: str) -> str:
        for key, value in constant.items():
            if row[key] != value:
                raise PreferansError(
                    f"{location}: this row has {key} {row[key]!r:.80}, and the command {value!r:.80}. Name another --output_dir."
                )
        return row["label"]

    name = "".join(letter if letter.isalnum() else "_" for letter in f"{pair_set.name}_{system.label}")
    rows = ResumableRows(folder / f"{name}.jsonl", key_of, "log-probability")
    missing = [one for one in tokens if one.label not in rows.rows]
    with (
        tqdm(total=len(tokens), initial=len(tokens) - len(missing), desc=f"{pair_set.name}, {system.label}") as bar,
        rows.appending() as append,
    ):

        def save(results: dict[str, dict[str, float]]) -> None:
            append({label: constant | {"label": label} | result for label, result in results.items()})
            bar.update(len(results))

        answer_log_probs(system, missing, save)
    return [rows.rows[one.label] for one in tokens]


if __name__ == "__main__":
    run(main)
