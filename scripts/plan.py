"""
Check in seconds whether a recipe fits a card, and what to change if it does not.

    python scripts/plan.py recipes/llama1b_ru.yaml                                 # on this machine's card
    python scripts/plan.py recipes/llama3b_ru.yaml --hardware_profile gtx1650      # on a card that is not here
    python scripts/plan.py recipes/llama3b_ru.yaml --hardware_profile gtx1650 --lengths 512,1024,2048
    python scripts/plan.py recipes/llama3b_ru.yaml --hardware_profile gtx1650 --sweep

This needs no card and no weights, and for the recipes' models no network: the real trainer runs one step on tensors that have shapes
but no content. The longest pair is assumed to fill max_length. Keys of the recipe can be overridden, as in dpo.py:

    python scripts/plan.py recipes/llama1b_ru.yaml --hardware_profile gtx1650 --max_length 2048 --lora_r 32

    --hardware_profile NAME   gtx1650, rtx2060, rtx3060, t4, rtx4090 or a100; by default the card of this machine
    --system NAME             system whose desktop shares the card: Linux (none), Windows or WSL; by default this machine's
    --lengths A,B,C           one line for each max_length
    --sweep                   lengths from 256 to 2048, each with the recipe's keys, with separate passes, and with half the rank
    --plot FILE               a plot of the memory, in a file that ends in .svg or .png; one bar for each line
    --json                    for programs: verdict (fits, tight, does_not_fit), peak_bytes, reserve_bytes, usable_bytes, changes

"tight" means that the run fits if PyTorch's blocks leave few gaps. The exit status is 1 if the recipe, or one of the lengths, does not fit.
"""

import json
import sys

from preferans.errors import help_first, run

help_first(__doc__)

from preferans.memory.picture import draw
from preferans.memory.report import as_table, as_text, read_plan_command, sweep


def main() -> int:
    request = read_plan_command(sys.argv[1:])
    plans = sweep(request)
    if request.json:
        records = [{"max_length": length, "variant": variant} | plan.as_json() for length, variant, plan in plans]
        print(json.dumps(records if request.lengths else records[0], indent=2, ensure_ascii=False))
    elif request.lengths:
        print(as_table(request, plans))
    else:
        print(as_text(request, plans[0][2]))
    if request.plot:
        draw(request.plot, request, plans)
    return int(any(plan.verdict == "does_not_fit" for _, variant, plan in plans if not variant))


if __name__ == "__main__":
    run(main)
