"""
Russian preference pairs of a human reply and a model's own answer.

The best human reply to an OpenAssistant prompt becomes `chosen`; the given model's answer to the same prompt, sampled with the settings
of the project's first notebook (150 new tokens, top_k 60, top_p 0.9, temperature 0.7), becomes `rejected`.

    python data_builders/oasst1_ru_sampled.py --model_name_or_path meta-llama/Llama-3.2-1B-Instruct --load_in_4bit --dtype float16
    python data_builders/oasst1_ru_sampled.py --adapter runs/llama1b_ru --num_samples 4 --pick closest_length
    python data_builders/oasst1_ru_sampled.py --source samples/oasst1_ru_sample.jsonl --max_prompts 24 --use_cpu \\
        --model_name_or_path cache/gemma-3-270m-ru --chat_template_path recipes/chat_templates/plain_ru.jinja

Each batch of answers is saved in --answers; the same command resumes from there.
"""

import argparse
import hashlib
from collections import Counter
from functools import partial
from pathlib import Path

from preferans.data.build_options import add_oasst_arguments, add_output_arguments, parse
from preferans.data.oasst_rule import PairingRule
from preferans.errors import PreferansError, help_first, run
from preferans.models.sampling_options import add_sampling_arguments

PICKS = {
    "random": "of several samples, one is drawn",
    "closest_length": "of several samples, the one whose length is closest to that of `chosen` is used",
    "all": "each sample that differs from the others makes a pair",
}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add_oasst_arguments(parser)
    add("--max_prompts", type=int, help="use only this many prompts, from the first")
    add("--num_samples", type=int, default=1, help="answers to sample for each prompt (default: %(default)s)")
    add(
        "--pick",
        choices=PICKS,
        default="random",
        help="which of several samples becomes the rejected one. random: drawn with --seed; closest_length: the one closest in length to "
        "the human reply, so that length does not give the better answer away; all: each makes a pair (default: %(default)s)",
    )
    add("--answers", help="file of samples (default: answers/NAME_OF_OUTPUT_DIR.jsonl)")
    add_sampling_arguments(parser)
    add_output_arguments(parser, "data/oasst1_ru_sampled")
    return parser


PARSER = make_parser()
help_first(PARSER)

from preferans.data.build import (
    REMOVED,
    SPLIT_RULE,
    check_output_arguments,
    finish_dataset,
    pin_revision,
    print_counts,
    split_pairs,
)
from preferans.data.card import CardContent, counted, dataset_card
from preferans.data.oasst import best_replies
from preferans.data.oasst_source import read_rows
from preferans.data.oasst_trees import ROW_DROP_REASONS
from preferans.data.preferences import row_problem
from preferans.data.sampled import SAMPLE_CHANGES, SAMPLE_DROP_REASONS, tidy_sample
from preferans.data.source import describe_source
from preferans.data.tables import preference_frame
from preferans.models.load_samplers import check_sampling_arguments, load_sampler
from preferans.models.sampler import Sampler
from preferans.release.bundle import push_dataset
from preferans.release.hub import check_can_push

RULE = """A prompt counts if it and all messages before it are in the language (by their tag and, for `ru`, by most of their letters), not
deleted, approved by reviewers, not synthetic, and in a finished tree. `chosen` is its human reply with the lowest rank, or its only one.
`rejected` is sampled from the model; {pick}. A repetition of the prompt at the beginning of a sample is cut off, and so are a last word that
the limit cut and any further turns. A sample that is then empty, or equal to `chosen`, makes no pair. {split_rule}"""
NOT_USED = {"not_picked": "another sample for the prompt was picked", "chosen_echo": "chosen begins with the prompt"}
CARD_OPTIONS = [
    "lang",
    "turns",
    "normalize_persona",
    "max_prompts",
    "num_samples",
    "pick",
    "test_size",
    "seed",
    "format",
    "batch_size",
]


def check_arguments(args: argparse.Namespace) -> None:
    if args.num_samples < 1:
        raise PreferansError(f"--num_samples {args.num_samples}: it must be at least 1.")
    check_output_arguments(args)
    if args.push_to_hub:
        check_can_push(args.repo_id)
    check_sampling_arguments(args)
    if args.num_samples > 1 and args.temperature == 0:
        raise PreferansError("--temperature 0 gives the same sample every time: leave out --num_samples, or raise it.")


def pair_samples(reply: dict, samples: list[dict], args: argparse.Namespace, counts: Counter) -> list[dict]:
    """Make the preference rows of one prompt from its human reply and the samples that --pick chooses."""
    chosen = reply["chosen"][0]["content"]
    usable: dict[str, str] = {}
    for number, sample in enumerate(samples):
        text, events = tidy_sample(sample, chosen)
        if text in usable.values():
            text, events = None, [*events, "repeated"]
        counts.update(events)
        if text is not None:
            usable[f"{sample['model']}#{number}"] = text
    names = sorted(usable)
    if args.pick == "closest_length":
        names = sorted(names, key=lambda name: abs(len(usable[name]) - len(chosen)))[:1]
    elif args.pick == "random":
        # The draw depends on the reply's own id, so that other prompts do not change it.
        draw = {name: hashlib.sha256(f"{args.seed}:{reply['id']}:{name}".encode()).digest() for name in names}
        names = sorted(names, key=draw.__getitem__)[:1]
    rows = [
        {
            "id": f"{reply['id']}:{name}",
            "prompt": reply["prompt"],
            "chosen": reply["chosen"],
            "rejected": [{"role": "assistant", "content": usable[name]}],
            "message_tree_id": reply["message_tree_id"],
            "lang": args.lang,
            "source": f"oasst+{name.rpartition('#')[0]}",
            "chosen_rank": reply["chosen_rank"],
            "rejected_rank": None,
        }
        for name in names
    ]
    counts["not_picked"] += len(usable) - len(rows)
    valid = [row for row in rows if row_problem(row) is None]
    counts["chosen_echo"] += len(rows) - len(valid)
    return valid


def main() -> None:
    args = parse(PARSER)
    check_arguments(args)
    pin_revision(args)
    rule = PairingRule(lang=args.lang, turns=args.turns, normalize_persona=args.normalize_persona)
    replies, row_counts = best_replies(partial(read_rows, args.source, args.revision), rule)
    if not replies:
        raise PreferansError(f"--source {args.source}: no prompt with a valid reply is left for --lang {args.lang}.")
    row_counts["with_reply"] = len(replies)
    replies = replies[: args.max_prompts]
    row_counts["sampled"] = len(replies)
    print(
        f"Prompts that count: {row_counts['prompts']:,}; with a human reply: {row_counts['with_reply']:,}; sampled: {len(replies):,}."
    )

    numbers = range(args.num_samples)
    prompts = [{"id": f"{reply['id']}#{n}", "prompt": reply["prompt"]} for reply in replies for n in numbers]
    sampler = load_sampler(args)
    answers = sampler.answer(prompts, args.answers or Path("answers", f"{Path(args.output_dir).name}.jsonl"))
    by_reply: dict[str, list[dict]] = {}
    for answer in answers:
        by_reply.setdefault(answer["id"].rpartition("#")[0], []).append(answer)
    counts = Counter(samples=len(answers))
    rows = [row for reply in replies for row in pair_samples(reply, by_reply[reply["id"]], args, counts)]
    print(f"Samples: {len(answers):,}:")
    print_counts(SAMPLE_CHANGES | SAMPLE_DROP_REASONS | NOT_USED, counts)
    if not rows:
        raise PreferansError(
            "No sample can be a rejected answer. Read the samples in the file of answers, and check the chat template."
        )
    splits, counts["near_duplicate"] = split_pairs(preference_frame(rows), args)
    finish_dataset(splits, args, partial(card, args, sampler, row_counts, counts))
    if args.push_to_hub:
        push_dataset(args.output_dir, args.repo_id)


def card(args: argparse.Namespace, sampler: Sampler, row_counts: dict, counts: Counter, splits: dict) -> str:
    """Write the dataset's `README.md`."""
    source, licence = describe_source(args.source, args.revision)
    kept = sum(map(len, splits.values()))
    content = CardContent(
        title="Human replies against a model's own answers",
        summary=f"{kept:,} pairs: `chosen` is the best human reply to a prompt, `rejected` an answer of `{sampler.label}`.",
        rule=RULE.format(split_rule=SPLIT_RULE, pick=PICKS[args.pick]),
        language=args.lang,
        licence=licence,
        tags=["human-feedback", "synthetic"],
        source=f"{source}. Rejected answers: {sampler.described}",
        command=args.command,
        options={name: getattr(args, name) for name in CARD_OPTIONS} | sampler.sampling,
        counts={
            "rows": [
                ("read", row_counts["rows"]),
                *counted("dropped", ROW_DROP_REASONS, row_counts["dropped"]),
                ("prompts that count", row_counts["prompts"]),
                ("prompts with a human reply", row_counts["with_reply"]),
                ("prompts sampled", row_counts["sampled"]),
            ],
            "samples": [
                ("sampled", counts["samples"]),
                *counted("changed", SAMPLE_CHANGES, counts),
                *counted("not used", SAMPLE_DROP_REASONS | NOT_USED, counts),
                (REMOVED, counts["near_duplicate"]),
                ("pairs kept", kept),
            ],
        },
        repeatable="the same samples and options give the same; another machine may sample others",
    )
    return dataset_card(content, splits)


if __name__ == "__main__":
    run(main)
