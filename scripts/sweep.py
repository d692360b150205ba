"""
Train a recipe with every combination of several values.

    python scripts/sweep.py recipes/gemma270m_ru.yaml --loss_type sigmoid ipo sigmoid_norm --seed 1 2 3
    python scripts/sweep.py recipes/llama1b_ru.yaml --learning_rate 1e-5 5e-6 --config_file accelerate_configs/gtx1650.yaml
    python scripts/sweep.py recipes/gemma270m_ru.yaml --loss_type "sigmoid_norm sft" sft --seed 1 2 3 --output_dir runs/losses

Every key of scripts/dpo.py can have several values; a value that is itself a list is written in quotes. Each combination is a run in
its own folder below --output_dir (by default runs/sweep_NAME). All combinations are checked before the first run. The same command
resumes: a finished run is skipped. A run that fails does not stop the others.

Compare the runs with: python scripts/score.py runs/sweep_NAME --group_by loss_type --output_dir reports/sweep_NAME
"""

import sys

from preferans.errors import PreferansError, help_first, run

help_first(__doc__)

import itertools
import re
import shlex
import subprocess
from pathlib import Path

from trl import DPOConfig, ModelConfig, ScriptArguments

from preferans.training.arguments import PreferansArguments
from preferans.training.recipe import read_recipe
from preferans.training.run_folder import FINISHED_FILE

ARGUMENT_TYPES = (PreferansArguments, ScriptArguments, ModelConfig, DPOConfig)
OWN_OPTIONS = {"output_dir": "", "config_file": "accelerate_configs/cpu.yaml"}


def main() -> int:
    recipe, keys, options = read_words(sys.argv[1:])
    folder = Path(options["output_dir"] or f"runs/sweep_{Path(recipe).stem}")
    cells = list(itertools.product(*([(key, value) for value in values] for key, values in keys.items())))
    commands = {}
    for cell in cells:
        words = [word for key, value in cell for word in (f"--{key}", *shlex.split(value))]
        run_dir = folder / "_".join(folder_name(key, value) for key, value in cell)
        if run_dir in commands:
            raise PreferansError(f"Two combinations have the folder {run_dir}. Write each value once.")
        commands[run_dir] = [recipe, *words, "--output_dir", run_dir.as_posix()]
        read_recipe(ARGUMENT_TYPES, commands[run_dir])
    failed = []
    for number, (run_dir, command) in enumerate(commands.items(), start=1):
        print(f"\n== {number}/{len(commands)}  {run_dir}", flush=True)
        if (run_dir / FINISHED_FILE).is_file():
            print("Finished before.")
            continue
        launch = [
            sys.executable,
            "-m",
            "accelerate.commands.launch",
            "--quiet",
            "--config_file",
            options["config_file"],
        ]
        if subprocess.run([*launch, str(Path(__file__).with_name("dpo.py")), *command]).returncode:
            failed.append(run_dir)
    if failed:
        print(f"\nNot finished: {', '.join(map(str, failed))}. The same command tries them again.", file=sys.stderr)
        return 1
    compared = " ".join(key for key in keys if key != "seed") or "seed"
    print(f"\nNext: python scripts/score.py {folder} --group_by {compared} --output_dir reports/{folder.name}")
    return 0


def read_words(words: list[str]) -> tuple[str, dict[str, list[str]], dict[str, str]]:
    """Read `RECIPE.yaml --key value value …`: the recipe, the values of each key, and the options of this script."""
    recipe, *rest = words
    if not recipe.endswith((".yaml", ".yml")):
        raise PreferansError(f"'{recipe}': name a recipe that ends in .yaml first, then --key value value …")
    keys: dict[str, list[str]] = {}
    for word in rest:
        if word.startswith("--"):
            key = word[2:]
            if key in keys:
                raise PreferansError(f"--{key} is given twice. Write all its values after one --{key}.")
            keys[key] = []
        elif keys:
            keys[list(keys)[-1]].append(word)
        else:
            raise PreferansError(f"'{word}' is out of place. The order is: a recipe, then --key value value …")
    if empty := [key for key, values in keys.items() if not values]:
        raise PreferansError(f"--{empty[0]} has no value.")
    options = {}
    for name, default in OWN_OPTIONS.items():
        values = keys.pop(name, [default])
        if len(values) > 1:
            raise PreferansError(f"--{name} takes one value.")
        options[name] = values[0]
    if not keys:
        raise PreferansError("Name at least one key with its values, such as --seed 1 2 3.")
    return recipe, keys, options


def folder_name(key: str, value: str) -> str:
    return f"{key}-{re.sub(r'[^A-Za-z0-9.+-]+', '-', value)}"


if __name__ == "__main__":
    run(main)
