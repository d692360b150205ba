"""
OpenAssistant conversation trees: reading rows, deciding which messages count, pairing ranked replies.

The columns are those of [OpenAssistant/oasst1](https://huggingface.co/datasets/OpenAssistant/oasst1), described in
[OpenAssistant Conversations](https://huggingface.co/papers/2304.07327). `rank` orders the replies of one prompt, 0 being
the best; it is empty where the people who ranked did not agree.

Rows come in batches and are condensed at once: the text of a row that cannot take part is not kept. A source of more than
`SHARD_ROWS` rows is laid out on disk in shards, a conversation tree lying whole in one of them, and [`build_shard`] turns
each into pairs by itself: in this process, in several, or as a map step of any engine (docs/scale.md).
"""

import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from ..errors import PreferansError
from ..text.language import is_prose_russian, without_assistant_name
from .oasst_rule import PairingRule
from .preferences import row_problem
from .tables import ROW_COLUMNS

# What str.strip() takes away; polars would leave four control characters.
_BLANKS = "".join(character for character in map(chr, range(0x3001)) if character.isspace())
ROUNDING = 1e-9  # 0.9 - 0.8 is a little less than 0.1 to a computer
SHARD_ROWS = 1_000_000  # a source of more rows is paired shard by shard
SHARDS = 32

# Why a row takes no part, in the order in which the question is asked. A row falls out once, for the first reason.
ROW_DROP_REASONS = {
    "duplicate_id": "the same message_id stands earlier in the source",
    "other_language": "written in another language",
    "deleted": "deleted",
    "not_approved": "review_result is not true",
    "synthetic": "written by a model",
    "tree_not_ready": "tree_state is not ready_for_export",
    "no_text": "no text",
    "not_russian": "tagged ru, but most of its letters are not Russian",
    "orphan": "a message before it is missing from its tree, or the parents form a circle",
    "wrong_role": "its role is unknown, or does not alternate with that of the message before it",
    "ancestor": "a message before it in the conversation falls out",
    "unranked": "a reply without a rank",
}
_REASON = pl.Enum(list(ROW_DROP_REASONS))
# Why two ranked replies of one prompt make no pair.
PAIR_DROP_REASONS = {
    "quality_margin": "chosen is not better in quality by min_quality_margin, or a quality is not given",
    "equal_texts": "both texts are the same",
    "echo": "chosen begins with the prompt",
    "length_ratio": "chosen is more than max_length_ratio times as long as rejected",
    "near_duplicate": "the prompt is nearly the same as one of the test split",
}
PAIR_COLUMNS = {"order": pl.UInt32, "rows": pl.List(pl.UInt32)} | ROW_COLUMNS


def condense(batch: pl.DataFrame, lang: str, first_row: int) -> pl.DataFrame:
    """
    Judge messages by their own columns, and keep no more than pairing needs.

    Args:
        batch (`pl.DataFrame`):
            Rows with the columns of `COLUMNS`.
        lang (`str`):
            Language tag to keep.
        first_row (`int`):
            Number of the batch's first row in the whole source.

    Returns:
        `pl.DataFrame`: in any order, `row` (number in the source), the ids, `role`, `rank`, `reason` (a key of `ROW_DROP_REASONS`, or null),
        and `text`, null where the row falls out, else without blanks around it and with Unix line endings.
    """
    batch = batch.with_row_index("row", offset=first_row)
    # Other languages are the bulk of a source: their texts are not even looked at.
    ours = batch.filter(pl.col("lang") == lang)
    others = batch.filter(pl.col("lang").ne_missing(lang)).with_columns(text=pl.lit(None, pl.String))
    ours = ours.with_columns(pl.col("text").str.replace_all("\r\n?", "\n").str.strip_chars(_BLANKS))
    not_russian = pl.repeat(False, len(ours), eager=True)
    if lang == "ru":
        # Most texts have no letter but Russian ones, which polars sees faster than we can.
        suspects = ours["text"].str.contains(r"[\p{L}--а-яёА-ЯЁ]").fill_null(False)
        suspect_texts = ours["text"].filter(suspects).to_list()
        not_russian = not_russian.scatter(suspects.arg_true(), [not is_prose_russian(text) for text in suspect_texts])
    reasons = [
        # The flags may be null as well, and null is no approval, no deletion and no model.
        ("deleted", pl.col("deleted").fill_null(False)),
        ("not_approved", pl.col("review_result").ne_missing(True)),
        ("synthetic", pl.col("synthetic").fill_null(False)),
        ("tree_not_ready", pl.col("tree_state").ne_missing("ready_for_export")),
        ("no_text", pl.col("text").fill_null("") == ""),
        ("not_russian", not_russian),
    ]
    reason = pl.coalesce([pl.when(condition).then(pl.lit(name)) for name, condition in reasons])
    ours = ours.with_columns(reason=reason.cast(_REASON))
    ours = ours.with_columns(text=pl.when(pl.col("reason").is_null()).then(pl.col("text")))
    others = others.with_columns(reason=pl.lit("other_language", _REASON))
    quality = ["quality"] if "quality" in batch.columns else []
    return pl.concat([ours, others]).select(
        pl.col("row").cast(pl.UInt32),
        "message_id",
        "parent_id",
        "message_tree_id",
        "role",
        pl.col("rank").cast(pl.Int32),
        "reason",
        "text",
        *quality,
    )


def find_drop_reasons(rows: pl.DataFrame) -> pl.DataFrame:
    """
    Judge messages by the conversation before them.

    Args:
        rows (`pl.DataFrame`):
            Whole trees, as [`condense`] gives them, each `message_id` once.

    Returns:
        `pl.DataFrame`: the rows in the order of the source with every `reason` filled in, and `parent`, the position of the
        message before, -1 where there is none.
    """
    rows = rows.sort("row")
    here = rows.select(
        "message_tree_id",
        parent_id="message_id",
        parent_role="role",
        parent=pl.int_range(pl.len(), dtype=pl.Int64),
    )
    rows = rows.join(here, on=["parent_id", "message_tree_id"], how="left", maintain_order="left")
    expected = (
        pl.when(pl.col("parent_id").is_null() | (pl.col("parent_role") == "assistant"))
        .then(pl.lit("prompter"))
        .otherwise(pl.lit("assistant"))
    )
    alien = ~pl.col("role").is_in(["prompter", "assistant"])
    misplaced = (pl.col("role") != expected) & (pl.col("parent_id").is_null() | pl.col("parent").is_not_null())
    rows = rows.with_columns(
        wrong_role=alien | misplaced,
        lost=pl.col("parent_id").is_not_null() & pl.col("parent").is_null(),
        unranked=(pl.col("role") == "assistant") & pl.col("rank").is_null(),
        parent=pl.col("parent").fill_null(-1),
    )
    bad = (rows["reason"].is_not_null() | rows["wrong_role"]).to_numpy()
    orphan, ancestor = _look_up(rows["parent"].to_numpy(), bad, rows["lost"].to_numpy())
    late = {"orphan": orphan, "wrong_role": rows["wrong_role"], "ancestor": ancestor, "unranked": rows["unranked"]}
    late = [pl.when(pl.Series(name, condition)).then(pl.lit(name)) for name, condition in late.items()]
    return rows.with_columns(reason=pl.coalesce("reason", *(reason.cast(_REASON) for reason in late))).drop(
        "parent_role", "wrong_role", "lost", "unranked"
    )


def _look_up(parent: np.ndarray, bad: np.ndarray, lost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    For each message: does the way up from it end in a missing message or in a circle, and is a message above it bad? Each round
    doubles how far every message has looked, so that the deepest conversation takes a few rounds.
    """
    bad, lost, jump = bad.copy(), lost.copy(), parent.copy()
    for _ in range(len(parent).bit_length() + 1):
        going = np.flatnonzero(jump >= 0)
        targets = jump[going]
        bad[going] |= bad[targets]
        lost[going] |= lost[targets]
        jump[going] = jump[targets]
    return lost | (jump >= 0), np.where(parent >= 0, bad[parent], False)


def pair_replies(replies: pl.DataFrame, pairing: str) -> pl.DataFrame:
    """
    Pair the ranked replies of each prompt.

    Args:
        replies (`pl.DataFrame`):
            `prompt` (which prompt they answer), `rank` (lower is better), `row` and `position`.
        pairing (`str`):
            See [`Rule`].

    Returns:
        `pl.DataFrame`: `prompt`, `chosen` and `rejected` (positions). Replies that share a rank make no pair.
    """
    # the order of the source decides among equal ranks
    replies = replies.sort("prompt", "rank", "row").select("prompt", "rank", "position")
    if pairing == "best_worst":
        both = replies.group_by("prompt", maintain_order=True).agg(
            chosen=pl.col("position").first(),
            rejected=pl.col("position").last(),
            better=pl.col("rank").first(),
            worse=pl.col("rank").last(),
        )
    elif pairing == "adjacent":
        both = replies.select(
            "prompt",
            chosen="position",
            better="rank",
            rejected=pl.col("position").shift(-1).over("prompt"),
            worse=pl.col("rank").shift(-1).over("prompt"),
        ).drop_nulls("rejected")
    else:
        numbered = replies.with_row_index("order")
        both = (
            numbered.join(numbered, on="prompt", suffix="_worse", maintain_order="left_right")
            .filter(pl.col("order") < pl.col("order_worse"))
            .select("prompt", chosen="position", better="rank", rejected="position_worse", worse="rank_worse")
        )
    return both.filter(pl.col("better") < pl.col("worse")).select("prompt", "chosen", "rejected")


def build_shard(rows: pl.DataFrame, rule: PairingRule) -> tuple[pl.DataFrame, dict]:
    """
    Turn whole conversation trees into preference pairs, and account for every row. A pure function: the map step.

    Args:
        rows (`pl.DataFrame`):
            Whole trees, as [`condense`] gives them, each `message_id` once.
        rule ([`Rule`]):
            What makes a pair.

    Returns:
        `tuple[pl.DataFrame, dict]`: the pairs (the columns of a preference row, `order` to sort by and `rows`, the numbers of
        the rows a pair is made of) and the counts, see [`build_oasst_pairs`].
    """
    # Parents stand in the same tree, so that a tree without a row in the language needs no second look.
    ours = rows.filter(pl.col("reason").ne_missing("other_language")).select("message_tree_id").unique()
    elsewhere = len(rows)
    rows = find_drop_reasons(rows.join(ours, on="message_tree_id", how="semi"))
    elsewhere -= len(rows)
    sound = rows.with_row_index("position").filter(pl.col("reason").is_null())
    prompts = _prompts(sound, rule.turns)
    replies = sound.filter(pl.col("role") == "assistant").with_columns(prompt=pl.col("parent").cast(pl.UInt32))
    replies = replies.join(prompts.select(prompt="position"), on="prompt", how="semi")
    both = pair_replies(replies, rule.pairing)

    texts = _texts(rows, rule) if len(both) else []
    paths = _paths(rows["parent"].to_list(), both["prompt"].unique().to_list())
    ids, trees, ranks, numbers = (rows[name].to_list() for name in ("message_id", "message_tree_id", "rank", "row"))
    quality = rows["quality"].to_list() if "quality" in rows.columns else None
    counts = Counter({reason: 0 for reason in PAIR_DROP_REASONS})
    pairs = []
    for prompt, chosen, rejected in both.iter_rows():
        name = f"{ids[chosen]}:{ids[rejected]}"
        if rule.min_quality_margin is not None and not _is_better(
            quality[chosen], quality[rejected], rule.min_quality_margin
        ):
            counts["quality_margin"] += 1
            continue
        if texts[chosen] == texts[rejected]:
            counts["equal_texts"] += 1
            continue
        row = {
            "order": numbers[prompt],
            "rows": [numbers[position] for position in (*paths[prompt], chosen, rejected)],
            "id": name,
            "prompt": _conversation(paths[prompt], texts),
            "chosen": [{"role": "assistant", "content": texts[chosen]}],
            "rejected": [{"role": "assistant", "content": texts[rejected]}],
            "message_tree_id": trees[chosen],
            "lang": rule.lang,
            "source": "oasst",
            "chosen_rank": ranks[chosen],
            "rejected_rank": ranks[rejected],
        }
        if row_problem(row):  # the one part of the contract that the rule does not see to
            counts["echo"] += 1
            continue
        counts["compared"] += 1
        counts["chosen_longer"] += len(texts[chosen]) > len(texts[rejected])
        if _falls_for_length(texts[chosen], texts[rejected], name, rule):
            counts["length_ratio"] += 1
            continue
        pairs.append(row)
    table = pl.DataFrame(pairs, schema=PAIR_COLUMNS).sort("order", maintain_order=True)
    reasons = Counter(rows["reason"].drop_nulls().to_list()) + Counter(other_language=elsewhere)
    return table, {
        "rows": len(rows) + elsewhere,
        "dropped": {reason: reasons[reason] for reason in ROW_DROP_REASONS},
        "prompts": len(prompts),
        "ranked_pairs": len(both),
        "compared": counts.pop("compared", 0),
        "chosen_longer": counts.pop("chosen_longer", 0),
        "pairs_dropped": dict(counts),
    }


def _prompts(sound: pl.DataFrame, turns: str) -> pl.DataFrame:
    prompts = sound.filter(pl.col("role") == "prompter")
    return prompts.filter(pl.col("parent_id").is_null()) if turns == "first" else prompts


def _texts(rows: pl.DataFrame, rule: PairingRule) -> list[str | None]:
    texts = rows["text"].to_list()
    return [text and without_assistant_name(text) for text in texts] if rule.normalize_persona else texts


def _paths(parent: list[int], prompts: list[int]) -> dict[int, list[int]]:
    """Positions of the messages of a conversation, from its opening to the prompt."""
    paths = {}
    for prompt in prompts:
        path, position = [], prompt
        while position >= 0:
            path.append(position)
            position = parent[position]
        paths[prompt] = path[::-1]
    return paths


def _conversation(path: list[int], texts: list[str]) -> list[dict]:
    return [
        {"role": ("user", "assistant")[depth % 2], "content": texts[position]} for depth, position in enumerate(path)
    ]


def _is_better(chosen: float | None, rejected: float | None, margin: float) -> bool:
    return chosen is not None and rejected is not None and chosen - rejected >= margin - ROUNDING


def _falls_for_length(chosen: str, rejected: str, name: str, rule: PairingRule) -> bool:
    if rule.max_length_ratio is None or len(chosen) <= rule.max_length_ratio * len(rejected) * (1 + ROUNDING):
        return False
    # a draw of its own for each pair, so that no pair's fate hangs on the order or the number of the others
    digest = hashlib.sha256(f"{rule.seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 >= rule.keep_long_prob


def build_oasst_pairs(
    batches: Iterable[pl.DataFrame],
    rule: PairingRule,
    work_dir: str | Path,
    run: Callable[[Callable, list[Path]], Iterable] = map,
    shard_rows: int = SHARD_ROWS,
) -> tuple[pl.DataFrame, dict]:
    """
    Turn oasst rows into preference pairs, and account for every row.

    Args:
        batches (`Iterable[pl.DataFrame]`):
            Rows, see [`read_rows`].
        rule ([`Rule`]):
            What makes a pair.
        work_dir (`str` or `Path`):
            Folder for the shards of a large source. Made when it is needed and removed afterwards; of what stands there before,
            only shards of a build that was killed may be replaced.
        run (`Callable`, *optional*, defaults to `map`):
            What calls a function on each shard's file and gives the results in order: `map`, [`in_processes`], or the client of
            an engine whose workers see `work_dir` (docs/scale.md).
        shard_rows (`int`, *optional*, defaults to `SHARD_ROWS`):
            Rows paired at a time. The pairs do not depend on it.

    Returns:
        `tuple[pl.DataFrame, dict]`: the pairs, in the order of the prompts in the source, with `rows` (numbers of the rows that
        a pair is made of), and the counts: `rows`, `dropped` (by reason), `prompts` (that take part), `ranked_pairs` (that
        the ranks make), `langs` (tags in the source), `pairs_dropped` (by reason), `compared` and `chosen_longer` (pairs before
        the length ratio is applied, and those among them whose chosen is longer). [`account`] adds the rest.
    """
    waiting, shards, hashes, number, langs = [], None, [], 0, set()
    try:
        for batch in batches:
            langs.update(batch["lang"].drop_nulls().unique())
            table = condense(batch, rule.lang, number)
            number += len(table)
            hashes.append(batch["message_id"].hash())  # in the order of the source
            waiting.append(table)
            if sum(map(len, waiting)) > shard_rows:
                shards = shards or _ShardWriter(Path(work_dir))
                shards.write(waiting)
                waiting = []
        if shards is not None and waiting:
            shards.write(waiting)
        if shards is None:
            rows = pl.concat(waiting).sort("row")
            unique = rows.filter(pl.col("message_id").is_first_distinct())
            parts = [build_shard(unique, rule)]
            repeated = len(rows) - len(unique)
        else:
            files = shards.close()
            repeats = _repeated_rows(files, pl.concat(hashes))
            work = partial(_build_file, repeated=repeats, rule=rule)
            parts = list(tqdm(run(work, files), total=len(files), desc="Pairing", unit="shard"))
            repeated = len(repeats)
        tables, counts = zip(*parts, strict=True)
        counts = _add_up(counts)
        counts["langs"] = sorted(langs)
        counts["rows"] += repeated
        counts["dropped"]["duplicate_id"] += repeated
        # every pair of a prompt comes from one shard, in order already
        return pl.concat(tables).sort("order", maintain_order=True).drop("order"), counts
    finally:
        if shards is not None:
            shutil.rmtree(work_dir, ignore_errors=True)


def account(counts: dict, pairs: pl.DataFrame) -> dict:
    """
    Complete the counts of [`build_oasst_pairs`] by what stands in the finished pairs.

    Args:
        counts (`dict`):
            Counts of [`build_oasst_pairs`].
        pairs (`pl.DataFrame`):
            The pairs that are left, with `rows`.

    Returns:
        `dict`: the counts with `used` (rows that stand in a pair or its prompt), `unpaired` (sound rows that stand in none; with
        `dropped` the three add up to `rows`), `pairs` and `prompts_with_pairs`.
    """
    used = pairs["rows"].explode().n_unique() if len(pairs) else 0
    return counts | {
        "used": used,
        "unpaired": counts["rows"] - sum(counts["dropped"].values()) - used,
        "pairs": len(pairs),
        "prompts_with_pairs": pairs["rows"].list.slice(0, pl.col("rows").list.len() - 2).n_unique()
        if len(pairs)
        else 0,
    }


def _add_up(counts: Iterable[dict]) -> dict:
    total: dict = {}
    for part in counts:
        for key, value in part.items():
            total[key] = _add_up([total.get(key, {}), value]) if isinstance(value, dict) else total.get(key, 0) + value
    return total


def in_processes(number: int) -> Callable[[Callable, list[Path]], Iterable]:
    """A `run` for [`build_oasst_pairs`] that works on so many shards at a time."""
    if number == 1:
        return map

    def run(work: Callable, files: list[Path]) -> Iterator:
        # spawn: polars holds threads, which a forked process would wait for for ever
        with ProcessPoolExecutor(number, mp_context=get_context("spawn")) as pool:
            yield from pool.map(work, files)

    return run


def shard_of(message_tree_id: pl.Expr) -> pl.Expr:
    """Which of `SHARDS` shards a conversation tree lies in."""
    return message_tree_id.hash(seed=0) % SHARDS


class _ShardWriter:
    def __init__(self, folder: Path):
        if folder.exists() and any(not re.fullmatch(r"\d{3}\.parquet", file.name) for file in folder.iterdir()):
            raise PreferansError(f"{folder}: the folder for shards holds something else. Name a new one.")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder, self.writers = folder, {}

    def write(self, tables: list[pl.DataFrame]) -> None:

        rows = pl.concat(tables).with_columns(shard=shard_of(pl.col("message_tree_id")))
        for (shard,), part in rows.partition_by("shard", as_dict=True, include_key=False).items():
            # an Enum is a dictionary to Arrow, and each batch would need the same one
            table = part.with_columns(pl.col("reason").cast(pl.String)).to_arrow()
            if shard not in self.writers:
                self.writers[shard] = pq.ParquetWriter(self.folder / f"{shard:03}.parquet", table.schema)
            self.writers[shard].write_table(table)

    def close(self) -> list[Path]:
        for writer in self.writers.values():
            writer.close()
        return sorted(self.folder.glob("*.parquet"))


def _repeated_rows(files: list[Path], hashes: pl.Series) -> pl.Series:
    """Numbers of rows whose id stands earlier in the source, in whichever shard: equal hashes first, then the ids themselves."""
    suspects = hashes.is_duplicated().arg_true().cast(pl.UInt32)
    if not len(suspects):
        return suspects
    suspects = suspects.implode()
    scan = pl.scan_parquet(files, glob=False).select("row", "message_id").filter(pl.col("row").is_in(suspects))
    rows = scan.collect(engine="streaming").sort("row")
    return rows.filter(~pl.col("message_id").is_first_distinct())["row"]


def _build_file(file: Path, repeated: pl.Series, rule: PairingRule) -> tuple[pl.DataFrame, dict]:
    rows = pl.read_parquet(file, glob=False).with_columns(pl.col("reason").cast(_REASON)).sort("row")
    return build_shard(rows.filter(~pl.col("row").is_in(repeated.implode())), rule)


def best_replies(batches: Iterable[pl.DataFrame], rule: PairingRule) -> tuple[list[dict], dict]:
    """
    The best human reply to every prompt.

    Args:
        batches (`Iterable[pl.DataFrame]`):
            Rows, see [`read_rows`].
        rule ([`Rule`]):
            Its `lang`, `turns` and `normalize_persona` say which prompts and what becomes of the texts.

    Returns:
        `tuple[list[dict], dict]`: for each prompt with a sound reply, in the order of the source, `id` (of the reply), `prompt` and
        `chosen` (messages), `message_tree_id`, `chosen_rank` and `rows` (numbers of the rows it is made of); and the counts
        `rows`, `dropped` (by reason) and `prompts`. Of several replies the lowest rank is the best; a reply without a rank
        is, where it is the only one.
    """
    rows, number = [], 0
    for batch in batches:
        rows.append(condense(batch, rule.lang, number))
        number += len(batch)
    rows = pl.concat(rows).sort("row")
    unique = find_drop_reasons(rows.filter(pl.col("message_id").is_first_distinct())).with_row_index("position")
    sound = unique.filter(pl.col("reason").is_null() | (pl.col("reason") == "unranked"))
    prompts = _prompts(sound, rule.turns)
    replies = sound.filter(pl.col("role") == "assistant").join(
        prompts.select(parent=pl.col("position").cast(pl.Int64)), on="parent", how="semi"
    )
    alone = pl.len().over("parent") == 1
    best = (
        replies.filter(pl.col("rank").is_not_null() | alone)
        .sort("parent", "rank", "row")
        .unique("parent", keep="first", maintain_order=True)
    )
    texts = _texts(unique, rule)
    numbers = unique["row"].to_list()
    paths = _paths(unique["parent"].to_list(), best["parent"].to_list())
    found = [
        {
            "id": reply["message_id"],
            "prompt": _conversation(paths[reply["parent"]], texts),
            "chosen": [{"role": "assistant", "content": texts[reply["position"]]}],
            "message_tree_id": reply["message_tree_id"],
            "chosen_rank": reply["rank"],
            "rows": [numbers[position] for position in (*paths[reply["parent"]], reply["position"])],
        }
        for reply in best.iter_rows(named=True)
    ]
    dropped = Counter(unique["reason"].drop_nulls().to_list())
    dropped["duplicate_id"] = len(rows) - len(unique)
    dropped["unranked"] -= best["rank"].null_count()  # the only reply needs no rank
    return found, {
        "rows": len(rows),
        "dropped": {reason: dropped[reason] for reason in ROW_DROP_REASONS},
        "prompts": len(prompts),
    }


def prototype_tables(batches: Iterable[pl.DataFrame], lang: str) -> dict[str, pl.DataFrame]:
    """
    The first notebook's table: every opening prompt of a language beside each of its replies, with nothing filtered.

    Args:
        batches (`Iterable[pl.DataFrame]`):
            Rows, see [`read_rows`].
        lang (`str`):
            Language tag of the prompts.

    Returns:
        `dict[str, pl.DataFrame]`: for each split of the source (of files by their names) a table with `text` and `answer`; a
        prompt without a reply has one row with a null answer.
    """
    parts: dict[str, list[pl.DataFrame]] = {}
    for batch in batches:
        origin = batch["origin"][0].lower()
        found = re.search(r"(?<![a-z])(validation|test)(?![a-z])", origin)
        split = found[1] if found else "train"
        parts.setdefault(split, []).append(batch.select("message_id", "parent_id", "text", "lang"))
    tables = {}
    for split, rows in parts.items():
        rows = pl.concat(rows)
        prompts = rows.filter((pl.col("lang") == lang) & pl.col("parent_id").is_null())
        replies = rows.select(message_id="parent_id", answer="text")
        table = prompts.join(replies, on="message_id", how="left", maintain_order="left_right").select(
            "text", "answer"
        )
        if len(table):
            tables[split] = table
    return tables
