"""
Compare the rounds of a model that improves itself, and stop at a regression.

    python scripts/rounds.py runs/self_round0 runs/self_round1 --answers answers/self/held_out --human data/oasst1_ru --output_dir reports/self

runs/self_align.sh calls this after every round. The folder of answers has those of every run and of the base to the same held-out
prompts (scripts/generate.py --with_base). Each round is compared with the one before and with the base, prompt by prompt: the share of
answers that are empty, incomplete, loop, are not in Russian or have foreign words, known words, variety, and likeness to people's
replies. Pairs of a recipe's eval_pairs count too. If a round is significantly worse in one of them, the exit status is 1, and the round
before is the best one. The command writes rounds.json and rounds.html, with one line for each round.
"""

import argparse
from pathlib import Path

from preferans.errors import PreferansError, help_first, run


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="folders of the rounds, the first round first")
    add("--answers", required=True, metavar="FOLDER", help="answers of every round and of the base")
    add("--human", metavar="DATASET", help="dataset with people's replies to the same prompts")
    add("--output_dir", required=True, help="folder for rounds.json and rounds.html")
    return parser


PARSER = make_parser()
help_first(PARSER)

from preferans.evaluation.answers import human_replies, line_up, read_systems
from preferans.evaluation.report.rounds_page import rounds_page
from preferans.evaluation.rounds import GUARDS, compare_rounds
from preferans.files import write_json, write_text


def main() -> int:
    args = PARSER.parse_args()
    runs = [Path(name) for name in args.runs]
    systems = [system for path in sorted(Path(args.answers).glob("*.jsonl")) for system in read_systems(str(path))]
    by_name = {system.name: system for system in systems}
    if missing := [path.name for path in runs if path.name not in by_name]:
        raise PreferansError(
            f"--answers {args.answers}: there are no answers of {', '.join(missing)}. Generate them first."
        )
    others = [system for system in systems if system.name not in {path.name for path in runs}]
    if len(others) != 1:
        names = ", ".join(system.name for system in others) or "none"
        raise PreferansError(f"--answers {args.answers}: one system, the base, must be no round; got {names}.")
    rounds = [by_name[path.name] for path in runs]
    prompts = line_up([others[0], *rounds])
    references = human_replies(args.human, prompts)[1] if args.human else {}
    record = compare_rounds(others[0], rounds, prompts, references, runs)
    folder = Path(args.output_dir)
    write_json(folder / "rounds.json", record)
    write_text(folder / "rounds.html", rounds_page(record))
    for one in record["rounds"]:
        figures = ", ".join(f"{name} {one['scores'][name]['value']:.3f}" for name in GUARDS if name in one["scores"])
        print(f"{one['name']}: {figures}")
        if one["regressions"]:
            print(f"  significantly worse: {', '.join(one['regressions'])}")
    print(f"\n{folder / 'rounds.html'}. The best round is {record['best']}.")
    if record["stopped"]:
        print("The loop stops here.")
    return int(record["stopped"])


if __name__ == "__main__":
    run(main)
