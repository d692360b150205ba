"""
Score a run and its answers, and write a report that a browser opens.

    python scripts/score.py runs/llama1b_ru answers/after.jsonl --baseline answers/before.jsonl --output_dir reports/llama1b_ru

A folder is a run of scripts/dpo.py: its held-out pairs are scored. A .jsonl file holds answers of scripts/generate.py: they are
measured, and compared with --baseline prompt by prompt. Every figure comes with a bootstrap interval. --output_dir receives
scores.json and report.html.
"""

import argparse
import dataclasses
from pathlib import Path

from preferans.errors import PreferansError, run
from preferans.files import read_json, read_jsonl, write_json


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("inputs", nargs="+", metavar="RUN_OR_ANSWERS", help="a run's folder, an answers file, or both")
    parser.add_argument("--baseline", help="answers to compare with, to the same prompts")
    parser.add_argument("--output_dir", required=True, help="folder of scores.json and report.html")
    return parser.parse_args()


def read_answers(path: str) -> list[dict]:
    rows = read_jsonl(path)
    for number, row in enumerate(rows, start=1):
        for key in ("id", "prompt", "answer", "model", "finish_reason"):
            if key not in row:
                raise PreferansError(
                    f"{path}, answer {number}: '{key}' is missing. Answers are made by scripts/generate.py."
                )
    if not rows:
        raise PreferansError(f"{path}: there is not one answer in it.")
    return rows


def read_run(folder: str) -> dict:
    """Arguments of `pair_scores`, as the run left them."""
    if not (Path(folder) / "all_results.json").is_file():
        raise PreferansError(
            f"{folder}: this is not a finished run. Give the dpo.py command again; it goes on where it stopped."
        )
    tested = read_json(Path(folder) / "test_log_probs.json")
    return {key: tested[key] for key in ("before", "after", "beta", "per_token", "groups")}


def same_prompts(baseline: list[dict], answers: list[dict], names: tuple[str, str]) -> list[dict]:
    """The baseline's answers in the order of the others."""
    by_id = {row["id"]: row for row in baseline}
    for row in answers:
        if row["id"] not in by_id or by_id[row["id"]]["prompt"] != row["prompt"]:
            raise PreferansError(
                f"--baseline {names[0]} and {names[1]} answer different prompts ({row['id']} is not in both), so they cannot be compared. "
                "Make both with the same dataset, split and --max_prompts."
            )
    if len(baseline) != len(answers):
        raise PreferansError(
            f"--baseline {names[0]} has {len(baseline)} answers and {names[1]} has {len(answers)}: make both with the same --max_prompts."
        )
    return [by_id[row["id"]] for row in answers]


def main() -> None:
    args = parse_arguments()
    runs = [name for name in args.inputs if Path(name).is_dir()]
    files = [name for name in args.inputs if not Path(name).is_dir()]
    if len(runs) > 1 or len(files) > 1:
        raise PreferansError(
            "Name at most one run and one file of answers; what it is compared with goes to --baseline."
        )
    if args.baseline and not files:
        raise PreferansError("--baseline needs a file of answers to compare with.")

    from preferans.report import ANSWER_TITLES, PAIR_TITLES, write_report
    from preferans.scoring import answer_differences, answer_scores, pair_scores, verdict

    pairs = pair_scores(**read_run(runs[0])) if runs else {}
    answers = read_answers(files[0]) if files else []
    baseline = same_prompts(read_answers(args.baseline), answers, (args.baseline, files[0])) if args.baseline else []
    systems = {rows[0]["model"]: answer_scores(rows) for rows in (baseline, answers) if rows}
    if baseline and len(systems) < 2:
        raise PreferansError(
            f"{args.baseline} and {files[0]} name the same system '{answers[0]['model']}': give each a --label when generating."
        )
    differences = answer_differences(baseline, answers) if baseline else {}

    plain = {
        "pairs": {name: dataclasses.asdict(score) for name, score in pairs.items()},
        "answers": {
            name: {key: dataclasses.asdict(score) for key, score in scores.items()} for name, scores in systems.items()
        },
        "differences": {key: dataclasses.asdict(score) for key, score in differences.items()},
    }
    output_dir = Path(args.output_dir)
    write_json(output_dir / "scores.json", plain)
    samples = list(zip(baseline or answers, answers if baseline else [None] * len(answers), strict=True))
    write_report(output_dir / "report.html", runs[0] if runs else None, pairs, systems, differences, samples)

    for key, score in pairs.items():
        print(f"{PAIR_TITLES[key]:<55} {score.in_words()}")
    for name, scores in systems.items():
        print(f"\nAnswers of {name}")
        for key, score in scores.items():
            print(f"  {ANSWER_TITLES[key]:<53} {score.in_words()}")
    if differences:
        print("\nDifference, after minus before on the same prompts")
        for key, score in differences.items():
            print(f"  {ANSWER_TITLES[key]:<53} {score.in_words()}: {verdict(score)}")
    print(f"\nReport: {(output_dir / 'report.html').resolve()}")


if __name__ == "__main__":
    run(main)
