"""
How long `data_builders/oasst1_ru.py` takes, beside the first notebook's pandas self-join, on data of oasst1's shape.

    python benchmarks/build_pairs.py
    python benchmarks/build_pairs.py --scales 1 10 100 --turns all --pairing all

The rows are made up: 84,437 of them at scale 1, in trees that branch as those of oasst1 do, 8.6 % of the trees in Russian, with
random words of as many letters and all of oasst1's 18 columns. Every route reads the same parquet files, in a process of its own. The
builder does its whole job, from reading to the written dataset with its card. The notebook's route loads the table into pandas,
joins it with itself and keeps the Russian opening prompts; "lean" does the same with no more columns than the builder reads.
Neither is run beyond scale 10, where the joined table outgrows a small machine's memory. "pairing" is the part of the builder that
takes the place of that join: from the files to the pairs, without the search for near-duplicates, the card and the writing.
"""

import argparse
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROWS = 84_437
# How many messages have 0, 1, 2, … replies, by depth, counted on the 2,022 English messages of oasst1's validation split.
BRANCHING = (
    (0, 2, 19, 142, 23, 2),
    (176, 364, 14, 9, 1, 4),
    (168, 43, 103, 118, 10, 1),
    (503, 144, 0, 1),
    (130, 10, 6, 1),
    (1,),
)
RUSSIAN_SHARE = 0.086
MEDIAN_LENGTH = {"prompter": (81, 1.0), "assistant": (542, 1.0)}  # characters, and the spread of their logarithm


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scales", type=int, nargs="+", default=[1, 10], help="(default: 1 10)")
    parser.add_argument("--turns", default="first", help="as of the builder (default: %(default)s)")
    parser.add_argument("--pairing", default="best_worst", help="as of the builder (default: %(default)s)")
    parser.add_argument("--num_proc", type=int, default=1, help="as of the builder (default: %(default)s)")
    parser.add_argument(
        "--folder", help="where to make the data, up to 3 GB at scale 100 (default: a temporary folder)"
    )
    parser.add_argument("--job", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def make_rows(seed: int) -> list[dict]:
    """One unit of `ROWS` rows, in whole trees but for the last."""
    draw, quick = np.random.default_rng(seed), random.Random(seed)
    texts = {
        lang: word_pool(quick, letters)
        for lang, letters in (("ru", "абвгдежзийклмнопрстуфхцчшщыьэюя"), ("en", "abcdefghijklmnopqrstuvwxyz"))
    }
    shares = [np.array(counts) / sum(counts) for counts in BRANCHING]
    rows: list[dict] = []
    while len(rows) < ROWS:
        lang = "ru" if quick.random() < RUSSIAN_SHARE else "en"
        tree = identifier(quick)
        level = [(None, tree, None)]
        for depth, share in enumerate(shares):
            following = []
            for parent, name, rank in level:
                rows.append(message(name, parent, tree, depth, rank, lang, texts[lang], quick))
                replies = draw.choice(len(share), p=share)
                ranks = list(range(replies)) if depth % 2 == 0 and replies > 1 else [None] * replies
                quick.shuffle(ranks)
                following += [(name, identifier(quick), rank) for rank in ranks]
            level = following
    return rows[:ROWS]


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


def message(name, parent, tree, depth, rank, lang, pool, quick) -> dict:
    role = ("prompter", "assistant")[depth % 2]
    median, spread = MEDIAN_LENGTH[role]
    length = int(min(20_000, quick.lognormvariate(0, spread) * median)) + 10
    start = quick.randrange(len(pool) - length)
    return {
        "message_id": name,
        "parent_id": parent,
        "text": pool[start : start + length],
        "role": role,
        "lang": lang,
        "review_result": quick.random() > 0.02,
        "deleted": quick.random() < 0.02,
        "rank": rank,
        "synthetic": False,
        "message_tree_id": tree,
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
    import polars as pl
    from tqdm import tqdm

    for unit in tqdm(range(scale), desc=f"Making data, scale {scale}", unit="unit"):
        if not (folder / f"{unit:03}.parquet").exists():
            pl.DataFrame(make_rows(unit), infer_schema_length=None).write_parquet(folder / "unfinished")
            (folder / "unfinished").rename(folder / f"{unit:03}.parquet")


def notebook_route(folder: str, columns: list[str] | None) -> int:
    """What the first notebook did: the table into pandas, joined with itself."""
    import pandas as pd

    files = sorted(Path(folder).glob("*.parquet"))
    rows = pd.concat([pd.read_parquet(file, columns=columns) for file in files], ignore_index=True)
    joined = rows.merge(rows, left_on="message_id", right_on="parent_id", how="left", suffixes=("", "_reply"))
    return len(joined[(joined["lang"] == "ru") & joined["parent_id"].isna()])


def builder_route(folder: str, options: list[str]) -> int:
    import polars as pl

    sys.argv = ["data_builders/oasst1_ru.py", "--source", folder, *options]
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data_builders"))
    import oasst1_ru

    oasst1_ru.main()
    return pl.scan_parquet(Path(options[-1], "data", "*.parquet")).select(pl.len()).collect().item()


def pairing_route(folder: str, turns: str, pairing: str, num_proc: int) -> int:
    from preferans.data.oasst import build_oasst_pairs, in_processes
    from preferans.data.oasst_rule import PairingRule
    from preferans.data.oasst_source import read_rows

    rule = PairingRule(turns=turns, pairing=pairing)
    return len(build_oasst_pairs(read_rows(folder), rule, f"{folder}.shards", in_processes(num_proc))[0])


def measure(route: str, folder: Path, options: list[str]) -> dict:
    """Run one route in a process of its own; seconds include the imports, memory is the greatest resident size of any process."""
    start = time.perf_counter()
    command = [sys.executable, __file__, *options[:6], "--job", route, json.dumps([str(folder), options])]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"The route {route} failed:\n{run.stderr}")
    return {"seconds": time.perf_counter() - start} | json.loads(run.stdout.splitlines()[-1])


def main() -> None:
    args = parse_arguments()
    if args.job:
        from preferans.data.oasst_source import OASST_COLUMNS

        folder, options = json.loads(args.job[1])
        made = {
            "data": lambda: make_data(Path(folder), options),
            "builder": lambda: builder_route(folder, options),
            "pairing": lambda: pairing_route(folder, args.turns, args.pairing, args.num_proc),
            "notebook": lambda: notebook_route(folder, None),
            "lean": lambda: notebook_route(folder, list(OASST_COLUMNS)),
        }[args.job[0]]()
        kilobytes = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        print(json.dumps({"memory": kilobytes / 2**20, "made": made}))
        return
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(args.folder or temporary)
        print(f"{'scale':>6} {'rows':>10} {'route':>9} {'seconds':>8} {'GiB':>6}  result", flush=True)
        for scale in args.scales:
            folder = home / f"scale{scale}"
            folder.mkdir(parents=True, exist_ok=True)
            # in a process of its own, for its memory is inherited as a peak by those that are measured
            making = [sys.executable, __file__, "--job", "data", json.dumps([str(folder), scale])]
            subprocess.run(making, stdout=subprocess.DEVNULL, check=True)
            output = home / f"pairs{scale}"
            options = [
                "--turns",
                args.turns,
                "--pairing",
                args.pairing,
                "--num_proc",
                str(args.num_proc),
                "--output_dir",
                str(output),
            ]
            routes = {"builder": "pairs", "pairing": "pairs"} | (
                dict.fromkeys(("notebook", "lean"), "rows of prompts and replies") if scale <= 10 else {}
            )
            for route, unit in routes.items():
                shutil.rmtree(output, ignore_errors=True)
                got = measure(route, folder, options)
                made = f"{got['made']:,} {unit}" if isinstance(got["made"], int) else got["made"]
                print(
                    f"{scale:>6} {scale * ROWS:>10,} {route:>9} {got['seconds']:>8.1f} {got['memory']:>6.2f}  {made}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
