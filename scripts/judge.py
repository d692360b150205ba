"""
Have a served model judge answers: scores by five criteria, and verdicts on each two answers.

    python scripts/judge.py answers/before.jsonl answers/after.jsonl --endpoint http://localhost:8000/v1 --model Qwen/Qwen3-14B \\
        --output verdicts.jsonl
    python scripts/judge.py answers/before.jsonl answers/after.jsonl --endpoint http://localhost:8000/v1 --model Qwen/Qwen3-14B \\
        --output verdicts.jsonl --human ratings.jsonl
    python scripts/score.py answers/after.jsonl --baseline answers/before.jsonl --verdicts verdicts.jsonl --output_dir reports/judged

Each answer is scored from 1 to 5 for relevance, clarity, completeness, originality and style, reasons first. Each two answers to one
prompt are shown in both orders: one of them is better only where the judge says so both times, otherwise it is a tie. The judge is not
told whose answers they are. A reply that cannot be read is asked for again, and in the end counted as unreadable.

Every verdict is written as it comes; a stopped command goes on where it was when it is given again. With --human, a file as docs/ratings.md
shows it, the judge's agreement with people is computed: look at it before you believe the rest. The answers leave this machine if
the endpoint is on another one. docs/judge.md says more.
"""

import argparse
from pathlib import Path

from preferans.errors import PreferansError, help_first, run
from preferans.models.endpoint import Endpoint, add_endpoint_arguments


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("answers", nargs="+", metavar="ANSWERS", help="answers of scripts/generate.py, each file to the same prompts")
    add_endpoint_arguments(parser, required=True)
    add("--output", required=True, help="file of verdicts to write, ending in .jsonl")
    add("--only", choices=("scores", "pair"), help="ask only for scores, or only for verdicts on pairs")
    add(
        "--human", metavar="RATINGS", nargs="+", help="people's ratings of the same answers, to compare the judge with"
    )
    add(
        "--max_new_tokens",
        type=int,
        default=1024,
        help="longest reply; for a model that thinks first, more (default: %(default)s)",
    )
    add("--price_in", type=float, help="price of a million tokens read, to show the cost")
    add("--price_out", type=float, help="price of a million tokens written")
    add("--seed", type=int, default=42, help="(default: %(default)s)")
    return parser


PARSER = make_parser()
help_first(PARSER)

from preferans.data.ratings import read_ratings
from preferans.evaluation.answers import line_up, read_systems
from preferans.evaluation.judge import CRITERIA, Judge
from preferans.evaluation.judge_run import QUESTION_KINDS, agreement, judge_answers, summary, tokens


def main() -> int:
    args = PARSER.parse_args()
    if not args.output.endswith(".jsonl"):
        raise PreferansError(f"--output {args.output}: the file of verdicts must end in .jsonl.")
    for path in [*args.answers, *(args.human or [])]:
        if Path(path).is_dir():
            raise PreferansError(f"{path}: this is a folder. Name the files in it.")
    for name in ("max_new_tokens", "price_in", "price_out"):
        if getattr(args, name) is not None and not getattr(args, name) > 0:
            raise PreferansError(f"--{name} {getattr(args, name)}: it must be more than 0.")

    def cost(prompt_tokens: int, completion_tokens: int) -> str:
        words = f"{prompt_tokens:,} tokens read, {completion_tokens:,} written"
        if args.price_in is None and args.price_out is None:
            return words
        price = (prompt_tokens * (args.price_in or 0) + completion_tokens * (args.price_out or 0)) / 1e6
        return f"{words}, cost {price:.4g}"

    systems = [system for path in args.answers for system in read_systems(path)]
    prompts = line_up(systems)
    if args.only == "pair" and len(systems) < 2:
        raise PreferansError("--only pair: name the answers of at least two systems.")
    judgements = read_ratings(args.human) if args.human else []
    judge = Judge(Endpoint(args.endpoint, args.model, args.workers), args.seed, args.max_new_tokens)
    kinds = [args.only] if args.only else QUESTION_KINDS
    rows, refused = judge_answers(judge, systems, prompts, args.output, kinds, price=cost)

    show_summary(rows)
    if problem := next((row["problem"] for row in rows if row["problem"]), None):
        print(f"The first reply that could not be read: {problem}")
    if judgements:
        show_agreement(agreement(rows, systems, prompts, judgements))
    print(f"\n{len(rows)} verdicts in {args.output}: {cost(**tokens(rows))}.")
    if refused:
        print(
            f"{len(refused)} questions were refused and have no verdict; the first: {refused[0]} The same command asks them again."
        )
    return int(bool(refused))


def show_summary(rows: list[dict]) -> None:

    found = summary(rows)
    for system, scores in found["scores"].items():
        readable = scores["answers"] > scores["unreadable"]
        means = (
            ", ".join(f"{criterion} {scores[criterion]:.2f}" for criterion in CRITERIA) if readable else "no scores"
        )
        print(f"{system}: {means} ({scores['answers']} answers, {scores['unreadable']} unreadable)")
    for (first, second), count in found["pairs"].items():
        print(
            f"{first} better {count['wins']}, {second} better {count['losses']}, tie {count['ties']}, tie because the orders disagree "
            f"{count['split']} (the answer shown first won twice {count['shown_first']}, the one shown second {count['shown_second']}), "
            f"unreadable {count['unreadable']}"
        )


def show_agreement(found) -> None:
    print(
        f"\nAgreement with people on pairs: Cohen's kappa {found.pairs.in_words()}; the same verdict in {found.same:.0%}"
    )
    for criterion, kappa in found.criteria.items():
        print(
            f"  {criterion:<13} quadratic kappa {kappa.in_words()}; Krippendorff's alpha among people {found.people[criterion]:.3f}, "
            f"with the judge {found.together[criterion]:.3f}"
        )


if __name__ == "__main__":
    run(main)
