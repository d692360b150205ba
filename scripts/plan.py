"""
Tell in seconds whether a recipe fits a card, and what to change where it does not.

    python scripts/plan.py recipes/llama1b_ru.yaml                                 # on this machine's card
    python scripts/plan.py recipes/llama3b_ru.yaml --hardware_profile gtx1650      # on a card you do not have here
    python scripts/plan.py recipes/llama3b_ru.yaml --hardware_profile gtx1650 --lengths 512,1024,2048
    python scripts/plan.py recipes/llama3b_ru.yaml --hardware_profile gtx1650 --sweep

No card and no weights are needed, and for the recipes' models no network: a step of the real trainer is walked through with tensors
that have shapes and no content. The longest pair is taken to fill max_length. Keys of the recipe can be overridden, as in dpo.py:

    python scripts/plan.py recipes/llama1b_ru.yaml --hardware_profile gtx1650 --max_length 2048 --lora_r 32

    --hardware_profile NAME   gtx1650, rtx2060, rtx3060, t4, rtx4090 or a100; without it, the card of this machine
    --system NAME             whose desktop shares the card: Linux (none), Windows or WSL; without it, this machine's
    --lengths A,B,C           one line for each max_length
    --sweep                   lengths from 256 to 2048, each as the recipe says, with separate passes, and with more
    --plot FILE               a picture of where the bytes go, in a file that ends in .svg or .png; one bar for each line
    --json                    for programs: verdict (fits, tight, does_not_fit), peak_bytes, reserve_bytes, usable_bytes, changes

"tight" means that it fits if PyTorch's blocks leave few gaps. Exit status 1 when the recipe, or one of the lengths, does not fit.
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
        found = [{"max_length": length, "variant": variant} | plan.as_json() for length, variant, plan in plans]
        print(json.dumps(found if request.lengths else found[0], indent=2, ensure_ascii=False))
    elif request.lengths:
        print(as_table(request, plans))
    else:
        print(as_text(request, plans[0][2]))
    if request.plot:
        draw(request.plot, request, plans)
    return int(any(plan.verdict == "does_not_fit" for _, variant, plan in plans if not variant))


if __name__ == "__main__":
    run(main)
