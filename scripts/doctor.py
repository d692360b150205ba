"""
Check whether training can work on this machine, with a remedy for each problem.

    python scripts/doctor.py
    python scripts/doctor.py --hardware_profile gtx1650
    python scripts/doctor.py --json

It prints the decisions for a run here with their reasons: precision, Triton or PyTorch for the head, the form of attention. Then it
tries what training needs: a matrix product in half precision, 4-bit weights forward and backward, package versions, disk space and the
Hub token. It does not use the network and writes nothing.

With --hardware_profile, a larger card imitates a smaller one; without a card, the decisions are those of the profile.
The exit status is 0 if training can work, and 1 if something would stop it.
"""

import argparse
import json
import textwrap
from collections.abc import Iterator

from preferans.errors import help_first, run
from preferans.hardware.device import PROFILES


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--hardware_profile", metavar="NAME", help=f"card to imitate: {', '.join(PROFILES)}")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    return parser


PARSER = make_parser()
help_first(PARSER)


from preferans.hardware.doctor import examine

MARKS = {"ok": "ok  ", "note": "--  ", "skipped": "--  ", "warning": "!   ", "problem": "STOP"}


def show(mark: str, text: str) -> None:
    text = text if text.endswith(".") else text + "."
    print(textwrap.fill(text, 100, initial_indent=mark + " ", subsequent_indent=" " * 9, break_on_hyphens=False))


def main() -> int:
    args = PARSER.parse_args()
    decisions, checks = examine(args.hardware_profile)
    results = list(checks if args.json else print_results(decisions, checks))
    problems = sum(result.state == "problem" for result in results)
    warnings = sum(result.state == "warning" for result in results)
    if args.json:
        report = decisions | {"findings": [result._asdict() for result in results], "can_train": not problems}
        print(json.dumps(report, ensure_ascii=False, indent=2))
    elif problems:
        print(
            f"\nTraining cannot work here: fix the {problems} {'problem' if problems == 1 else 'problems'} marked STOP."
        )
    else:
        print(f"\nTraining can work here{f'; check the {warnings} marked !' if warnings else ''}.")
    return int(problems > 0)


def print_results(decisions: dict, checks: Iterator) -> Iterator:
    """Print each result as soon as it is known, because the checks need some seconds."""
    if decisions:
        print("Decisions for a run here")
        for case, reason in decisions["precision"].items():
            show("    ", f"Precision for {case}: {reason}")
        show("    ", f"Kernels: {decisions['kernels']['reason']}")
    print("\nChecks")
    for result in checks:
        show(MARKS[result.state], f"{result.name}: {result.text}")
        if result.cure:
            show("    ", f"  -> {result.cure}")
        yield result


if __name__ == "__main__":
    run(main)
