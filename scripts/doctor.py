"""
Look at this machine and say whether training can work on it, and what to do where it cannot.

    python scripts/doctor.py
    python scripts/doctor.py --hardware_profile gtx1650
    python scripts/doctor.py --json

It says what would be decided here: precision, Triton or PyTorch for the head, the form of attention, each with its reason.
Then it tries what a training needs: a matrix product in half precision, 4-bit weights forward and backward, the versions of the
packages, disk, the Hub's token. No network is asked and nothing is written.

With --hardware_profile a bigger card behaves like a smaller one; without a card, the decisions shown are that card's.
The exit status is 0 when training can work, and 1 when something would stop it.
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
    parser.add_argument("--hardware_profile", metavar="NAME", help=f"card to behave like: {', '.join(PROFILES)}")
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

    decided, findings = examine(args.hardware_profile)
    findings = list(findings if args.json else print_as_found(decided, findings))
    problems = sum(finding.state == "problem" for finding in findings)
    warnings = sum(finding.state == "warning" for finding in findings)
    if args.json:
        report = decided | {"findings": [finding._asdict() for finding in findings], "can_train": not problems}
        print(json.dumps(report, ensure_ascii=False, indent=2))
    elif problems:
        print(f"\nTraining would stop here: {problems} to put right, marked STOP.")
    else:
        print(f"\nTraining can work here{f'; {warnings} to look at, marked !' if warnings else ''}.")
    return int(problems > 0)


def print_as_found(decided: dict, findings: Iterator) -> Iterator:
    """Print every finding when it is made: the checks take some seconds."""
    if decided:
        print("What would be decided here")
        for case, reason in decided["precision"].items():
            show("    ", f"Precision for {case}: {reason}")
        show("    ", f"Kernels: {decided['kernels']['reason']}")
    print("\nWhat was found")
    for finding in findings:
        show(MARKS[finding.state], f"{finding.name}: {finding.text}")
        if finding.cure:
            show("    ", f"  -> {finding.cure}")
        yield finding


if __name__ == "__main__":
    run(main)
