"""
Score runs and answers, and write a report for the browser.

    python scripts/score.py runs/llama1b_ru answers/after.jsonl --baseline answers/before.jsonl --output_dir reports/llama1b_ru
    python scripts/score.py answers/*.jsonl --human data/oasst1_ru --verdicts verdicts/judge.jsonl --output_dir reports/all
    python scripts/score.py runs/sweep --group_by loss_type --output_dir reports/sweep
    python scripts/score.py answers/many_models.jsonl --baseline mistral-large --language ru --output_dir reports/many

A folder is a run of scripts/dpo.py or scripts/sft.py, or a sweep with many: its held-out pairs are scored. A .jsonl file has answers of
scripts/generate.py; rows with different `model`s are different systems. All systems must have answered the same prompts. --baseline, a
file or the name of a system, compares every other system with it prompt by prompt. Every figure has a bootstrap interval; a difference
is detectable if its interval does not touch 0. --probes scores answers to probes (samples/probes/README.md), and --persona checks
whether answers stay in character. The command writes scores.json (docs/scores.md), report.html and report.md to --output_dir.
"""

import argparse
import shlex
import sys
from pathlib import Path

from preferans.errors import PreferansError, help_first, run


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("inputs", nargs="+", metavar="RUN_OR_ANSWERS", help="folders of runs, and files of answers")
    add("--baseline", metavar="FILE_OR_NAME", help="file or name of the system to compare the others with")
    add(
        "--human",
        metavar="DATASET",
        help="dataset whose chosen replies to the same prompts are added as the system 'human'",
    )
    add(
        "--verdicts",
        nargs="+",
        default=[],
        metavar="FILE",
        help="files of scripts/judge.py, and people's ratings (docs/ratings.md)",
    )
    add("--pairs", nargs="+", default=[], metavar="FILE", help="files pairs.json of scripts/evaluate_pairs.py")
    add(
        "--group_by",
        nargs="+",
        metavar="KEY",
        help="keys of the runs' recipes, such as loss_type or control: compare groups of runs over their seeds",
    )
    add("--probes", nargs="+", default=[], metavar="FILE", help="answered files of samples/probes")
    add("--persona", metavar="FILE", help="character that the answers should keep, such as personas/sienna.yaml")
    add(
        "--language",
        choices=("en", "ru"),
        default="en",
        help="language of the table and the report (default: %(default)s)",
    )
    add("--output_dir", required=True, help="folder for scores.json, report.html and report.md")
    return parser


PARSER = make_parser()
help_first(PARSER)


from preferans.data.persona import load_persona
from preferans.evaluation.answers import human_replies, line_up, pick, probes_of, read_systems, same_file
from preferans.evaluation.compare import Comparison, compare
from preferans.evaluation.other_pairs import PAIRS_FILE, read_pair_records
from preferans.evaluation.report.page import write_report
from preferans.evaluation.report.terminal import score_table
from preferans.evaluation.run_groups import expand_sweeps, group_runs
from preferans.evaluation.verdicts import read_verdicts
from preferans.files import write_json


def main() -> None:
    args = PARSER.parse_args()
    output_dir = Path(args.output_dir)
    existing = next(path for path in (output_dir, *output_dir.resolve().parents) if path.exists())
    if not existing.is_dir():
        raise PreferansError(f"--output_dir {output_dir}: {existing} is a file; a folder is needed.")

    runs = expand_sweeps([name for name in args.inputs if Path(name).is_dir()])
    files = [name for name in args.inputs if not Path(name).is_dir()]
    if args.baseline and Path(args.baseline).is_file() and not any(same_file(args.baseline, name) for name in files):
        files.insert(0, args.baseline)
    systems = [system for name in files for system in read_systems(name)]
    if not systems and any((args.baseline, args.human, args.verdicts, args.probes, args.persona)):
        raise PreferansError("Only runs are named; the other options also need a file of answers.")
    prompts = line_up(systems) if systems else {}
    references: dict[str, list[str]] = {}
    if args.human:
        human, references = human_replies(args.human, prompts)
        systems.append(human)
        prompts = line_up(systems)
    baseline = pick(args.baseline, systems) if args.baseline else None
    verdicts = read_verdicts(args.verdicts, systems, prompts) if args.verdicts else {}
    probes = probes_of(args.probes, prompts) if args.probes else {}
    persona = load_persona(args.persona) if args.persona else None
    command = shlex.join(["python", "scripts/score.py", *sys.argv[1:]])
    own_pairs = [
        path for run in runs if (path := str(Path(run) / PAIRS_FILE)) not in args.pairs and Path(path).exists()
    ]
    pairs = read_pair_records([*args.pairs, *own_pairs])
    groups = group_runs(runs, args.group_by) if args.group_by else None
    scores = compare(
        Comparison(
            systems,
            prompts,
            command,
            baseline,
            references,
            runs,
            verdicts,
            probes,
            persona,
            pairs,
            groups,
        )
    )

    write_json(output_dir / "scores.json", scores)
    written = write_report(output_dir, scores, args.language)
    print(score_table(scores, args.language))
    print(f"\n{', '.join(str(path.resolve()) for path in [output_dir / 'scores.json', *written])}")


if __name__ == "__main__":
    run(main)
