"""
Pairs that move a character from the prompt into the weights.

A model answers each prompt twice: with a persona's instruction and examples before it, which gives `chosen`, and without, which gives
`rejected`. The training prompt has no instruction, so that DPO teaches the model to be that character by itself.

    python data_builders/persona_ru.py --persona personas/sienna.yaml --prompts data/oasst1_ru --identity_questions \\
        --model_name_or_path meta-llama/Llama-3.2-1B-Instruct --load_in_4bit --dtype float16
    python data_builders/persona_ru.py --persona personas/sienna.yaml --prompts data/oasst1_ru_sample --max_prompts 20 --use_cpu \\
        --model_name_or_path cache/gemma-3-270m-ru --chat_template_path recipes/chat_templates/plain_ru.jinja
    python data_builders/persona_ru.py --persona personas/*.yaml --keep_instruction --prompts data/oasst1_ru --adapter runs/llama1b_ru

With several personas, each of them in turn answers the next prompt, and all answer the identity questions. A filter drops pairs whose answer
shows no trace of the character. Each batch of answers is saved in --answers; the same command resumes from there.
"""

import argparse
import glob
from collections import Counter
from functools import partial
from pathlib import Path

from preferans.data.build_options import add_output_arguments, parse
from preferans.data.persona import (
    IDENTITY_QUESTIONS,
    PERSONA_DROP_REASONS,
    Persona,
    load_persona,
    persona_drop_reason,
    whole_sentences,
)
from preferans.errors import PreferansError, help_first, run
from preferans.models.sampling_options import add_sampling_arguments


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--persona", nargs="+", required=True, help="persona files, such as personas/sienna.yaml; several are mixed")
    add(
        "--prompts",
        required=True,
        help="a preference dataset (folder or Hub id), a .jsonl or .parquet file with the key prompt, or a .txt file with one prompt per "
        "line",
    )
    add("--split", default="train", help="split of a dataset of prompts (default: %(default)s)")
    add("--max_prompts", type=int, help="use only this many prompts, from the first")
    add(
        "--identity_questions",
        action="store_true",
        help=f"also use «Кто ты?», «Как тебя зовут?» and {len(IDENTITY_QUESTIONS) - 2} more questions about the character",
    )
    add(
        "--keep_instruction",
        action="store_true",
        help="keep the instruction in the training prompt, to strengthen a character that is still requested by prompt",
    )
    add(
        "--answers",
        help="files of answers, without the ending _with.jsonl and _without.jsonl (default: answers/NAME_OF_OUTPUT_DIR)",
    )
    add_sampling_arguments(parser)
    add_output_arguments(parser, "data/persona_ru")
    return parser


PARSER = make_parser()
help_first(PARSER)

from preferans.data.build import REMOVED, SPLIT_RULE, check_output_arguments, finish_dataset, print_counts, split_pairs
from preferans.data.card import CardContent, counted, dataset_card
from preferans.data.chat_template import fold_system
from preferans.data.preferences import row_problem
from preferans.data.prompts import distinct_prompts, is_prompt_file, read_prompts, split_rows
from preferans.data.source import describe_source
from preferans.data.tables import preference_frame
from preferans.files import sha256_of
from preferans.models.load_samplers import check_sampling_arguments, load_sampler
from preferans.models.sampler import Sampler
from preferans.release.bundle import push_dataset
from preferans.release.hub import check_can_push

RULE = """A model answers each prompt twice. `chosen` is its answer with the instruction and the examples of the persona's file in context,
`rejected` its answer without them. Further turns that a base model writes are cut off, and so is a sentence that the limit cut. A pair is
dropped if the answer in character uses a word that breaks the character, contradicts the file, loops, or shows no more of the file's trace
words (except those of the prompt) than the plain answer. {instruction} {split_rule}"""
INSTRUCTION = {
    False: "The prompt of a pair has no instruction.",
    True: "The prompt of a pair begins with the instruction as a system message, without the examples.",
}
CURES = {
    "unfinished": "Raise --max_new_tokens.",
    "no_trace": "Use a larger model, more examples, or more traces in the persona's file.",
    "taboo": "Look at taboo_words in the persona's file.",
}
CARD_OPTIONS = ["identity_questions", "keep_instruction", "max_prompts", "test_size", "seed", "format", "batch_size"]


def find_prompts(args: argparse.Namespace) -> list[dict]:
    """Read `id`, `prompt` and `message_tree_id` of the prompts."""
    rows = read_prompts(args.prompts) if is_prompt_file(args.prompts) else split_rows(args.prompts, args.split)
    if isinstance(rows[0]["prompt"], str):
        raise PreferansError(
            f"--prompts {args.prompts}: its prompts are texts that contain the marks of a template. Build it with --format "
            "conversational, or write the bare questions into a .txt file, one per line."
        )
    prompts = distinct_prompts(rows)[: args.max_prompts]
    trees = {str(row.get("id") or number): row.get("message_tree_id") for number, row in enumerate(rows)}
    return [prompt | {"message_tree_id": trees[prompt["id"]] or prompt["id"]} for prompt in prompts]


def assign_prompts(personas: list[Persona], prompts: list[dict], identity: bool) -> list[tuple[Persona, dict]]:
    """Assign each prompt to one persona in turn, and the identity questions to all."""
    assigned = [(personas[number % len(personas)], prompt) for number, prompt in enumerate(prompts)]
    for number, question in enumerate(IDENTITY_QUESTIONS if identity else ()):
        prompt = [{"role": "user", "content": question}]
        row = {"id": f"identity{number}", "prompt": prompt, "message_tree_id": f"identity{number}"}
        assigned += [(persona, row) for persona in personas]
    return assigned


def answer_twice(assigned: list[tuple[Persona, dict]], sampler: Sampler, answers: str) -> list[tuple[dict, dict]]:
    """Sample the answers to each prompt with and without the instruction."""
    in_character = [
        {
            "id": f"{persona.slug}:{prompt['id']}",
            "prompt": fold_system(persona.in_context(prompt["prompt"]), sampler.tokenizer),
        }
        for persona, prompt in assigned
    ]
    plain = {prompt["id"]: fold_system(prompt["prompt"], sampler.tokenizer) for _, prompt in assigned}
    plain_prompts = [{"id": name, "prompt": prompt} for name, prompt in plain.items()]
    chosen = sampler.answer(in_character, f"{answers}_with.jsonl", f"{sampler.label} with instruction")
    rejected = {row["id"]: row for row in sampler.answer(plain_prompts, f"{answers}_without.jsonl")}
    return [(answer, rejected[prompt["id"]]) for answer, (_, prompt) in zip(chosen, assigned, strict=True)]


def pair_answers(persona: Persona, prompt: dict, answers: tuple[dict, dict]) -> tuple[dict, str | None]:
    """Make a preference row. Returns it with a key of `PERSONA_DROP_REASONS`, or `None` if it is kept."""
    chosen, rejected = (whole_sentences(answer) for answer in answers)
    reason = persona_drop_reason(persona, prompt["prompt"][-1]["content"], chosen, rejected)
    row = {
        "id": f"{persona.slug}:{prompt['id']}",
        "prompt": prompt["prompt"],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "message_tree_id": prompt["message_tree_id"],
        "lang": "ru",
        "source": f"persona:{persona.slug}",
    }
    if reason is None and row_problem(row):
        reason = "echo"
    return row, reason


def main() -> None:
    args = parse(PARSER)
    # cmd and PowerShell do not expand personas/*.yaml.
    args.persona = [file for pattern in args.persona for file in sorted(glob.glob(pattern)) or [pattern]]
    personas = [load_persona(path) for path in args.persona]
    if len({persona.slug for persona in personas}) < len(personas):
        raise PreferansError(f"--persona {' '.join(args.persona)}: two files have the same name. Rename one.")
    check_output_arguments(args)
    if args.push_to_hub:
        check_can_push(args.repo_id)
    check_sampling_arguments(args)
    assigned = assign_prompts(personas, find_prompts(args), args.identity_questions)
    if not assigned:
        raise PreferansError(f"--prompts {args.prompts}: there is no prompt.")
    if len(personas) > 1 and not args.keep_instruction:
        print("Several personas without --keep_instruction: the model will learn a mixture of them.")

    sampler = load_sampler(args)
    answers = (args.answers or str(Path("answers", Path(args.output_dir).resolve().name))).removesuffix(".jsonl")
    counts: Counter = Counter()
    rows = []
    for (persona, prompt), pair in zip(assigned, answer_twice(assigned, sampler, answers), strict=True):
        row, reason = pair_answers(persona, prompt, pair)
        counts[reason or "kept"] += 1
        if reason is None:
            rows.append(row)
    print(
        f"Prompts answered: {len(assigned):,}; kept by the filter: {len(rows):,} ({len(rows) / len(assigned):.0%}); dropped:"
    )
    print_counts(PERSONA_DROP_REASONS, counts)
    if not rows:
        commonest = max(PERSONA_DROP_REASONS, key=counts.__getitem__)
        raise PreferansError(
            f"--persona {' '.join(args.persona)}: no answer is left, most often because {PERSONA_DROP_REASONS[commonest]}. "
            f"{CURES.get(commonest, 'Use a larger model.')} The answers are in {answers}_with.jsonl."
        )
    splits, counts["near_duplicate"] = split_pairs(preference_frame(rows), args)
    if args.keep_instruction:  # after the split: with the same instruction, all prompts would be near duplicates
        prompts = {
            f"{persona.slug}:{prompt['id']}": fold_system(persona.instruct(prompt["prompt"]), sampler.tokenizer)
            for persona, prompt in assigned
        }
        for name, part in splits.items():
            splits[name] = preference_frame([row | {"prompt": prompts[row["id"]]} for row in part.to_dicts()])
    finish_dataset(splits, args, partial(card, args, sampler, personas, counts))
    if args.push_to_hub:
        push_dataset(args.output_dir, args.repo_id)


def card(args: argparse.Namespace, sampler: Sampler, personas: list[Persona], counts: Counter, splits: dict) -> str:
    """Write the dataset's `README.md`."""
    kept, answered = sum(map(len, splits.values())), counts.total() - counts["near_duplicate"]
    names = ", ".join(persona.name for persona in personas)
    files = ", ".join(f"`{Path(path).name}` (SHA-256 `{sha256_of(path)}`)" for path in args.persona)
    source, licence = describe_source(args.prompts)
    instructions = "\n\n".join(f"**{persona.name}**\n\n```\n{persona.instruction}\n```" for persona in personas)
    content = CardContent(
        title=f"A character in pairs: {names}",
        summary=f"{kept:,} pairs that teach a model to be {names}: `chosen` is its answer in character, `rejected` its plain answer.",
        rule=RULE.format(split_rule=SPLIT_RULE, instruction=INSTRUCTION[args.keep_instruction]),
        language="ru",
        licence=licence,
        tags=["persona", "synthetic", "self-alignment"],
        source=f"personas {files}; prompts: {source}; answers: {sampler.described}",
        command=args.command,
        options={name: getattr(args, name) for name in CARD_OPTIONS} | sampler.sampling,
        counts={
            "pairs": [
                ("prompts answered", answered),
                *counted("dropped", PERSONA_DROP_REASONS, counts),
                ("kept by the filter", counts["kept"]),
                ("share kept by the filter", f"{counts['kept'] / answered:.0%}"),
                (REMOVED, counts["near_duplicate"]),
                ("kept", kept),
            ]
        },
        notes=f"## Instructions\n\n{instructions}",
        repeatable="the same answers and options give the same; another machine may sample others",
    )
    return dataset_card(content, splits)


if __name__ == "__main__":
    run(main)
