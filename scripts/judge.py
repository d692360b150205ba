"""
Judge answers with a served model: scores by five criteria, and verdicts on every two answers.

    python scripts/judge.py answers/before.jsonl answers/after.jsonl --endpoint http://localhost:8000/v1 --model Qwen/Qwen3-14B \\
        --output verdicts.jsonl
    python scripts/judge.py answers/before.jsonl answers/after.jsonl --endpoint http://localhost:8000/v1 --model Qwen/Qwen3-14B \\
        --output verdicts.jsonl --human ratings.jsonl
    python scripts/score.py answers/after.jsonl --baseline answers/before.jsonl --verdicts verdicts.jsonl --output_dir reports/judged

Each answer is scored from 1 to 5 for relevance, clarity, completeness, originality and style, with the reason first. Every two answers
to one prompt are shown in both orders: one is better only if the judge prefers it both times, otherwise it is a tie. The judge does not
see the names of the systems. An unreadable reply is requested again, and finally counted as unreadable.

Every verdict is saved at once, and the same command resumes after a stop. --human computes the judge's agreement with people's ratings
(docs/ratings.md): check it before you trust the verdicts. Prompts and answers are sent to the endpoint, which may be another machine.
See docs/judge.md for details.
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
    add("answers", nargs="+", metavar="ANSWERS", help="answers of scripts/generate.py, all to the same prompts")
    add_endpoint_arguments(parser, required=True)
    add("--output", required=True, help="file of verdicts to write or resume, ending in .jsonl")
    add("--only", choices=("scores", "pair"), help="only scores, or only verdicts on pairs")
    add(
        "--human", metavar="RATINGS", nargs="+", help="people's ratings of the same answers, to compare the judge with"
    )
    add(
        "--max_new_tokens",
        type=int,
        default=1024,
        help="maximum length of a reply; a reasoning model needs more (default: %(default)s)",
    )
    add("--price_in", type=float, help="price of a million tokens read, to show the cost")
    add("--price_out", type=float, help="price of a million tokens written")
    add("--seed", type=int, default=42, help="(default: %(default)s)")
    return parser


PARSER = make_parser()
help_first(PARSER)

from preferans.data.ratings import read_ratings
from preferans.evaluation.answers import line_up, read_systems
from preferans.evaluation.judge import Judge
from preferans.evaluation.judge_run import (
    QUESTION_KINDS,
    JudgeTask,
    TokenPrices,
    agreement_with_people,
    judge_answers,
    summary_in_words,
    tokens,
)


def check_arguments(args: argparse.Namespace) -> None:
    if not args.output.endswith(".jsonl"):
        raise PreferansError(f"--output {args.output}: the file of verdicts must end in .jsonl.")
    for path in [*args.answers, *(args.human or [])]:
        if Path(path).is_dir():
            raise PreferansError(f"{path}: this is a folder. Name the files in it.")
    for name in ("max_new_tokens", "price_in", "price_out"):
        if getattr(args, name) is not None and not getattr(args, name) > 0:
            raise PreferansError(f"--{name} {getattr(args, name)}: it must be more than 0.")


def main() -> int:
    args = PARSER.parse_args()
    check_arguments(args)
    systems = [system for path in args.answers for system in read_systems(path)]
    task = JudgeTask(systems, line_up(systems), [args.only] if args.only else QUESTION_KINDS)
    if args.only == "pair" and len(systems) < 2:
        raise PreferansError("--only pair: name the answers of at least two systems.")
    ratings = read_ratings(args.human) if args.human else []
    judge = Judge(Endpoint(args.endpoint, args.model, args.workers), args.seed, args.max_new_tokens)
    prices = TokenPrices(args.price_in, args.price_out)
    rows, refused = judge_answers(judge, task, args.output, prices=prices)

    print(*summary_in_words(rows), sep="\n")
    if problem := next((row["problem"] for row in rows if row["problem"]), None):
        print(f"The first unreadable reply: {problem}")
    if ratings:
        print("", *agreement_with_people(rows, task, ratings).in_words(), sep="\n")
    print(f"\n{len(rows)} verdicts in {args.output}: {prices.in_words(**tokens(rows))}.")
    if refused:
        print(
            f"The server refused {len(refused)} questions, which have no verdict; the first: {refused[0]} Run the same command to try again."
        )
    return int(bool(refused))


if __name__ == "__main__":
    run(main)
