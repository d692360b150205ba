"""
Explain a finished DPO run: what happened, why, and which line of the recipe to change.

    python scripts/explain.py runs/gemma270m_ru
    python scripts/explain.py runs/llama1b_ru runs/llama1b_ru_longer

It reads the logged metrics, the test pairs' figures and the record of the run; no model is loaded. A run without findings is healthy in
what these figures can show: whether its answers are better is a question for scripts/score.py and scripts/rate.py.
"""

import argparse
from pathlib import Path

from preferans.errors import help_first, run


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of finished DPO runs")
    return parser


PARSER = make_parser()
help_first(PARSER)

from preferans.evaluation.diagnosis import diagnose, read_evidence


def main() -> None:
    for name in PARSER.parse_args().runs:
        evidence = read_evidence(Path(name))
        found = diagnose(evidence)
        gain = evidence.scores["test_normalised_accuracy_gain"]
        print(f"{name}: {evidence.steps[-1]['step']} steps, test accuracy gain {gain.in_words()}.")
        for number, finding in enumerate(found, start=1):
            print(f"\n{number}. {finding.text}\n   Cause: {finding.cause}\n   Change: {finding.change}.")
        print("" if found else "Nothing is wrong in the training itself.\n")


if __name__ == "__main__":
    run(main)
