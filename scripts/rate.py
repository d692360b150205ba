"""
Have people rate answers on a page in the browser, and show the results.

    python scripts/rate.py answers/before.jsonl answers/after.jsonl --human data/oasst1_ru
    python scripts/rate.py answers/after.jsonl --mode score
    python scripts/rate.py --results
    python scripts/rate.py --export ratings/ratings.jsonl

Answers are files of scripts/generate.py. With --mode compare, raters see the answers of two systems to one prompt, without the systems'
names and in random order, and choose the better one. With --mode score, they see one answer and give it one to five points for relevance,
clarity, completeness, originality and style. The page works with the keyboard alone. Several raters may use it at once, each under their
own name.

A rating is on the disk, in the SQLite file --ratings, before the next answer appears. Stop with Ctrl-C at any time: the same command
resumes. The page is only open to this machine, unless --host names another address; raters then need the password that is printed at the
start. --export writes the format of docs/ratings.md, which data_builders/ratings_ru.py turns into preference pairs and scripts/score.py
takes as --verdicts.
"""

import argparse

from preferans.errors import PreferansError, help_first, run


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("answers", nargs="*", metavar="ANSWERS", help="files of answers (.jsonl)")
    add(
        "--mode",
        choices=("compare", "score"),
        help="compare two answers, or score one (default: compare if there are several systems)",
    )
    add("--human", metavar="DATASET", help="dataset whose chosen replies are shown after a rating, on request")
    add("--ratings", default="ratings/ratings.sqlite", metavar="FILE", help="file of ratings (default: %(default)s)")
    add("--results", action="store_true", help="print the results and exit")
    add("--export", metavar="FILE", help="write the ratings to a .jsonl, .csv or .parquet file and exit")
    add(
        "--language",
        choices=("ru", "en"),
        default="ru",
        help="language of the page and the results (default: %(default)s)",
    )
    add(
        "--overlap",
        type=float,
        default=0.2,
        help="share of the items that all raters rate, to measure their agreement; each other item is rated once (default: %(default)s)",
    )
    add("--seed", type=int, default=42, help="seed of the order of items and sides (default: %(default)s)")
    add(
        "--host",
        default="127.0.0.1",
        help="address of the page; 0.0.0.0 opens it to your network (default: %(default)s)",
    )
    add("--port", type=int, default=8765, help="(default: %(default)s)")
    return parser


PARSER = make_parser()
help_first(PARSER)

from pathlib import Path

from preferans.evaluation.answers import human_replies, line_up, read_systems
from preferans.people.export import check_export, export_ratings
from preferans.people.item_source import make_items
from preferans.people.results import rating_results
from preferans.people.results_text import results_in_words
from preferans.people.serving import serve
from preferans.people.store import RatingStore
from preferans.people.studio import Studio
from preferans.people.words import people_words


def main() -> None:
    args = PARSER.parse_args()
    check_arguments(args)
    if args.results or args.export:
        show(args)
        return
    systems = [system for name in args.answers for system in read_systems(name)]
    prompts = line_up(systems)
    references = human_replies(args.human, prompts)[1] if args.human else {}
    mode = args.mode or ("compare" if len(systems) > 1 else "score")
    items = make_items(systems, prompts, mode, references)
    if not items:
        raise PreferansError(
            f"{' '.join(args.answers)}: there is nothing to {mode}. --mode compare needs answers of two systems that differ."
        )
    store = RatingStore(args.ratings)
    store.add_items(items)
    print(f"{len(items):,} items to {mode}, {len(store.ratings()):,} ratings so far in {args.ratings}.")
    serve(Studio(store, items, args.language, args.seed, args.overlap, args.host, args.port))
    print(
        f"\n{len(store.ratings()):,} ratings in {args.ratings}. Next: python scripts/rate.py --results --ratings {args.ratings}"
    )


def check_arguments(args: argparse.Namespace) -> None:
    if not 0 <= args.overlap <= 1:
        raise PreferansError(f"--overlap {args.overlap}: it must be a share from 0 to 1, such as 0.2.")
    if not 0 < args.port < 65_536:
        raise PreferansError(f"--port {args.port}: it must be from 1 to 65535, such as 8765.")
    if args.export:
        check_export(args.export)
    if (args.results or args.export) and args.answers:
        raise PreferansError("--results and --export read --ratings; leave out the files of answers.")
    if not (args.results or args.export or args.answers):
        raise PreferansError("Name the files of answers to rate, such as answers/before.jsonl answers/after.jsonl.")


def show(args: argparse.Namespace) -> None:
    """Print the results, or write the export, of a file of ratings."""
    if not Path(args.ratings).is_file():
        raise PreferansError(f"--ratings {args.ratings}: there is no such file. Rate answers first.")
    judgements = RatingStore(args.ratings).judgements()
    if not judgements:
        raise PreferansError(f"--ratings {args.ratings}: nothing is rated yet.")
    if args.results:
        print(results_in_words(rating_results(judgements), people_words(args.language)))
    if args.export:
        export_ratings(judgements, args.export)
        scored = any(row["scores"] for row in judgements)
        print(f"{len(judgements):,} ratings in {args.export}.")
        print(f"Next: python data_builders/ratings_ru.py --source {args.export}{' --by totals' if scored else ''}")


if __name__ == "__main__":
    run(main)
