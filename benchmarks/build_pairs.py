"""
Time and memory of `data_builders/oasst1_ru.py`, against the first notebook's pandas self-join, on data with oasst1's shape.

    python benchmarks/build_pairs.py
    python benchmarks/build_pairs.py --scales 1 10 100 --turns all --pairing all

The rows are random: 84,437 at scale 1, in trees that branch as those of oasst1 do, 8.6 % of the trees in Russian, with random words of the
same lengths and all of oasst1's 18 columns. Each route reads the same parquet files in a process of its own:

    builder   the whole command, from the files to the dataset with its card
    pairing   its part that replaces the join: from the files to the pairs
    notebook  the first notebook's table: loaded into pandas, joined with itself, Russian opening prompts kept
    lean      the same with only the columns that the builder reads

The last two are not run beyond scale 10, because the joined table outgrows a small machine's memory.
"""

import argparse
import json
import random
import resource
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
from tqdm import tqdm

from preferans.data.oasst import build_oasst_pairs
from preferans.data.oasst_rule import PairingRule
from preferans.data.oasst_source import OASST_COLUMNS, read_rows

ROWS = 84_437
# Numbers of messages with 0, 1, 2, … replies, by depth, counted on the 2,022 English messages of oasst1's validation split.
BRANCHING = (
    (0, 2, 19, 142, 23, 2),
    (176, 364, 14, 9, 1, 4),
    (168, 43, 103, 118, 10, 1),
    (503, 144, 0, 1),
    (130, 10, 6, 1),
    (1,),
)
RUSSIAN_SHARE = 0.086
MEDIAN_LENGTH = {
    "prompter": (81, 1.0),
    "assistant": (542, 1.0),
}  # characters, and the standard deviation of their logarithm


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--scales", type=int, nargs="+", default=[1, 10], help="(default: 1 10)")
    add("--turns", default="first", help="as in the builder (default: %(default)s)")
    add("--pairing", default="best_worst", help="as in the builder (default: %(default)s)")
    add("--folder", help="where to write the data, up to 3 GB at scale 100 (default: a temporary folder)")
    add("--job", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def make_rows(seed: int) -> list[dict]:
    """Make one unit of `ROWS` rows, in whole trees except the last."""
    return list(islice(make_trees(seed), ROWS))


def make_trees(seed: int) -> Iterator[dict]:
    draw, quick = np.random.default_rng(seed), random.Random(seed)
    texts = {
        lang: word_pool(quick, letters)
        for lang, letters in (("ru", "абвгдежзийклмнопрстуфхцчшщыьэюя"), ("en", "abcdefghijklmnopqrstuvwxyz"))
    }
    shares = [np.array(counts) / sum(counts) for counts in BRANCHING]
    while True:
        lang = "ru" if quick.random() < RUSSIAN_SHARE else "en"
        tree = identifier(quick)
        level = [{"message_id": tree, "parent_id": None, "message_tree_id": tree, "rank": None, "lang": lang}]
        for depth, share in enumerate(shares):
            following = []
            for keys in level:
                yield message(keys, ("prompter", "assistant")[depth % 2], texts[lang], quick)
                replies = draw.choice(len(share), p=share)
                ranks = list(range(replies)) if depth % 2 == 0 and replies > 1 else [None] * replies
                quick.shuffle(ranks)
                parent = {"parent_id": keys["message_id"]}
                following += [keys | parent | {"message_id": identifier(quick), "rank": rank} for rank in ranks]
            level = following


def identifier(quick: random.Random) -> str:
    digits = f"{quick.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def word_pool(quick: random.Random, letters: str) -> str:
    words = ["".join(quick.choices(letters, k=quick.randint(2, 10))) for _ in range(20_000)]
    return " ".join(quick.choices(words, k=300_000))


TOXICITY = ("toxicity", "severe_toxicity", "obscene", "identity_attack", "insult", "threat", "sexual_explicit")
LABELS = (
    "spam",
    "lang_mismatch",
    "pii",
    "not_appropriate",
    "hate_speech",
    "sexual_content",
    "quality",
    "toxicity",
    "humor",
    "creativity",
    "violence",
)


def message(keys: dict, role: str, pool: str, quick: random.Random) -> dict:
    """Make one row, given its place in a tree."""
    median, spread = MEDIAN_LENGTH[role]
    length = int(min(20_000, quick.lognormvariate(0, spread) * median)) + 10
    start = quick.randrange(len(pool) - length)
    return keys | {
        "text": pool[start : start + length],
        "role": role,
        "review_result": quick.random() > 0.02,
        "deleted": quick.random() < 0.02,
        "synthetic": False,
        "tree_state": "ready_for_export",
        "user_id": identifier(quick),
        "created_date": f"2023-02-{quick.randint(1, 28):02}T{quick.randint(0, 23):02}:00:00.000000+00:00",
        "review_count": 3,
        "model_name": None,
        "detoxify": {label: quick.random() for label in TOXICITY},
        "emojis": {"name": ["+1", "_skip_reply"], "count": [quick.randint(1, 9), 1]},
        "labels": {"name": list(LABELS), "value": [quick.random() for _ in LABELS], "count": [3] * len(LABELS)},
    }


def make_data(folder: Path, scale: int) -> None:
    for unit in tqdm(range(scale), desc=f"Making data, scale {scale}", unit="unit"):
        if not (folder / f"{unit:03}.parquet").exists():
            pl.DataFrame(make_rows(unit), infer_schema_length=None).write_parquet(folder / "unfinished")
            (folder / "unfinished").rename(folder / f"{unit:03}.parquet")


def notebook_route(folder: str, columns: list[str] | None) -> int:
    """Load the table into pandas and join it with itself, as the first notebook did."""
    files = sorted(Path(folder).glob("*.parquet"))
    rows = pd.concat([pd.read_parquet(file, columns=columns) for file in files], ignore_index=True)
    joined = rows.merge(rows, left_on="message_id", right_on="parent_id", how="left", suffixes=("", "_reply"))
    return len(joined[(joined["lang"] == "ru") & joined["parent_id"].isna()])


def builder_route(folder: str, options: list[str]) -> int:
    sys.argv = ["data_builders/oasst1_ru.py", "--source", folder, *options]
    runpy.run_path(str(Path(__file__).resolve().parents[1] / "data_builders" / "oasst1_ru.py"))["main"]()
    return pl.scan_parquet(Path(options[-1], "data", "*.parquet")).select(pl.len()).collect().item()


def pairing_route(folder: str, turns: str, pairing: str) -> int:
    rule = PairingRule(turns=turns, pairing=pairing)
    return len(build_oasst_pairs(partial(read_rows, folder), rule)[0])


def run_job(args: argparse.Namespace) -> None:
    """Run one route in this process, and print its time, without the imports above, and its peak resident memory."""
    folder, options = json.loads(args.job[1])
    routes = {
        "data": lambda: make_data(Path(folder), options),
        "builder": lambda: builder_route(folder, options),
        "pairing": lambda: pairing_route(folder, args.turns, args.pairing),
        "notebook": lambda: notebook_route(folder, None),
        "lean": lambda: notebook_route(folder, list(OASST_COLUMNS)),
    }
    start = time.perf_counter()
    made = routes[args.job[0]]()
    seconds = time.perf_counter() - start
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "memory": kilobytes / 2**20, "made": made}))


def start_job(route: str, folder: Path, options: list[str] | int, *arguments: str) -> dict:
    """Run one route in a process of its own: its memory would otherwise include that of earlier routes."""
    command = [sys.executable, __file__, *arguments, "--job", route, json.dumps([str(folder), options])]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if run.returncode:
        sys.exit(f"The route {route} failed.")
    return json.loads(run.stdout.splitlines()[-1])


def main() -> None:
    args = parse_arguments()
    if args.job:
        run_job(args)
        return
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(args.folder or temporary)
        print(f"{'scale':>6} {'rows':>10} {'route':>9} {'seconds':>8} {'GiB':>6}  result", flush=True)
        for scale in args.scales:
            folder, output = home / f"scale{scale}", home / f"pairs{scale}"
            folder.mkdir(parents=True, exist_ok=True)
            start_job("data", folder, scale)
            arguments = ["--turns", args.turns, "--pairing", args.pairing]
            routes = {"builder": "pairs", "pairing": "pairs"}
            if scale <= 10:
                routes |= dict.fromkeys(("notebook", "lean"), "rows of prompts and replies")
            for route, unit in routes.items():
                shutil.rmtree(output, ignore_errors=True)
                result = start_job(route, folder, [*arguments, "--output_dir", str(output)], *arguments)
                print(
                    f"{scale:>6} {scale * ROWS:>10,} {route:>9} {result['seconds']:>8.1f} {result['memory']:>6.2f}  "
                    f"{result['made']:,} {unit}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
