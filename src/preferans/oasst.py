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
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl
from tqdm.auto import tqdm

from .cards import DATA_ENDINGS, source_files
from .errors import PreferansError
from .files import iter_jsonl
from .language import is_prose_russian, without_assistant_name
from .preferences import ROW_COLUMNS, row_problem

OASST1 = "OpenAssistant/oasst1"
OASST1_REVISION = "fdf72ae0827c1cda404aff25b6603abec9e3399b"

COLUMNS = {
    "message_id": pl.String,
    "parent_id": pl.String,
    "text": pl.String,
    "role": pl.String,
    "lang": pl.String,
    "review_result": pl.Boolean,
    "deleted": pl.Boolean,
    "rank": pl.Int64,
    "synthetic": pl.Boolean,
    "message_tree_id": pl.String,
    "tree_state": pl.String,
}
_JSON_TYPES = {pl.String: str, pl.Boolean: bool, pl.Int64: int}
TURNS = ("first", "all")
PAIRINGS = ("best_worst", "adjacent", "all")
# What str.strip() takes away; polars would leave four control characters.
_BLANKS = "".join(character for character in map(chr, range(0x3001)) if character.isspace())
ROUNDING = 1e-9  # 0.9 - 0.8 is a little less than 0.1 to a computer
READ_ROWS = 20_000  # rows in one batch
SHARD_ROWS = 1_000_000  # a source of more rows is paired shard by shard
SHARDS = 32

# Why a row takes no part, in the order in which the question is asked. A row falls out once, for the first reason.
DROP_REASONS = {
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
_REASON = pl.Enum(list(DROP_REASONS))
# Why two ranked replies of one prompt make no pair.
PAIR_DROP_REASONS = {
    "quality_margin": "chosen is not better in quality by min_quality_margin, or a quality is not given",
    "equal_texts": "both texts are the same",
    "echo": "chosen begins with the prompt",
    "length_ratio": "chosen is more than max_length_ratio times as long as rejected",
    "near_duplicate": "the prompt is nearly the same as one of the test split",
}
PAIR_COLUMNS = {"order": pl.UInt32, "rows": pl.List(pl.UInt32)} | ROW_COLUMNS


@dataclass(frozen=True)
class Rule:
    """
    What makes a pair.

    Args:
        lang (`str`, *optional*, defaults to `"ru"`):
            Language tag to keep. With `"ru"` the text itself must be mostly Russian, too.
        turns (`str`, *optional*, defaults to `"first"`):
            `"first"` takes the prompts that open a conversation, `"all"` every prompter message with the conversation
            before it as context.
        pairing (`str`, *optional*, defaults to `"best_worst"`):
            `"best_worst"` pairs the lowest rank with the highest, `"adjacent"` the neighbours in rank order, `"all"` every
            reply with every reply ranked below it. Replies that share a rank make no pair.
        min_quality_margin (`float`, *optional*):
            The mean `quality` label, from 0 to 1, of chosen must exceed that of rejected by at least so much.
        normalize_persona (`bool`, *optional*, defaults to `False`):
            Take the name that Russian Open Assistant texts give the assistant out of them, see
            [`~language.without_assistant_name`].
        max_length_ratio (`float`, *optional*):
            A chosen more than so many times as long as its rejected, in characters, is kept with `keep_long_prob` only.
        keep_long_prob (`float`, *optional*, defaults to `0.0`):
            Probability from 0 to 1, drawn for each pair from its id and `seed`.
        seed (`int`, *optional*, defaults to `42`):
            Seed of that draw.
    """

    lang: str = "ru"
    turns: str = "first"
    pairing: str = "best_worst"
    min_quality_margin: float | None = None
    normalize_persona: bool = False
    max_length_ratio: float | None = None
    keep_long_prob: float = 0.0
    seed: int = 42

    def __post_init__(self):
        for name, choices in (("turns", TURNS), ("pairing", PAIRINGS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {getattr(self, name)!r}")


def read_rows(source: str, revision: str | None = None, labels: bool = False) -> Iterator[pl.DataFrame]:
    """
    Read oasst rows from a file, a folder or the Hub, in batches.

    Args:
        source (`str`):
            A `.jsonl`, `.jsonl.gz`, `.json` (one object a line) or `.parquet` file, a folder of `.jsonl`, `.jsonl.gz` and
            `.parquet` files, or the id of a dataset on the Hub, of which all splits are read.
        revision (`str`, *optional*):
            Commit, branch or tag, for a dataset on the Hub.
        labels (`bool`, *optional*, defaults to `False`):
            Whether to read the column `labels` as well, as `quality`.

    Yields:
        `pl.DataFrame`: the columns of `COLUMNS`, `origin` (name of the file or split) and, if asked for, `quality`, in the
        order of the source (the files of a folder in the order of their names).

    Raises:
        [`PreferansError`]: when nothing can be read from `source`, a column is missing, or a value has the wrong type.
    """
    found = False
    for batch in _read_any(source, Path(source), revision, labels):
        found = True
        yield batch
    if not found:
        raise PreferansError(f"{source}: there is not one row in it.")


def _read_any(source: str, path: Path, revision: str | None, labels: bool) -> Iterator[pl.DataFrame]:
    if path.is_dir():
        files = source_files(path)
        if not files:
            raise PreferansError(f"--source {source}: the folder holds no {', '.join(DATA_ENDINGS)} file.")
    elif path.exists():
        files = [path]
    elif path.name.endswith((*DATA_ENDINGS, ".json")) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", source):
        raise PreferansError(f"--source {source}: there is no such file or folder.")
    else:
        yield from _read_hub(source, revision, labels)
        return
    for file in files:
        for batch in (_read_parquet if file.suffix == ".parquet" else _read_jsonl)(file, labels):
            yield batch.with_columns(origin=pl.lit(file.name))


def _read_jsonl(path: Path, labels: bool) -> Iterator[pl.DataFrame]:
    schema = COLUMNS | ({"quality": pl.Float64} if labels else {})
    rows = []
    for number, row in enumerate(iter_jsonl(path), start=1):
        rows.append(_checked_row(row, f"{path}, row {number}", labels))
        if len(rows) == READ_ROWS:
            yield pl.DataFrame(rows, schema=schema, orient="row")
            rows = []
    if rows:
        yield pl.DataFrame(rows, schema=schema, orient="row")


def _checked_row(row: dict, place: str, labels: bool) -> tuple:
    values = []
    for column, kind in COLUMNS.items():
        if column not in row:
            raise PreferansError(f"{place}: {_missing_column(column)}")
        value, kind = row[column], _JSON_TYPES[kind]
        # bool is an int to Python, but not to a person
        if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise PreferansError(f"{place}: '{column}' must be {kind.__name__} or null, got {value!r:.60}.")
        if kind is int and value is not None and not -(2**31) <= value < 2**31:
            raise PreferansError(f"{place}: '{column}' is far out of any range.")
        if kind is str and value and not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            raise PreferansError(
                f"{place}: '{column}' holds half of a character (a lone surrogate), which no file in UTF-8 can keep. "
                "Mend or drop the row."
            )
        values.append(value)
    for column in ("message_id", "message_tree_id", "role"):
        if not row[column]:
            raise PreferansError(f"{place}: '{column}' is empty.")
    if labels:
        if "labels" not in row:
            raise PreferansError(f"{place}: {_missing_column('labels')}")
        values.append(_quality(row["labels"], place))
    return tuple(values)


def _missing_column(column: str) -> str:
    return f"the column '{column}' is missing. An oasst source has the columns {', '.join(COLUMNS)} and labels."


def _quality(labels: dict | None, place: str) -> float | None:
    try:
        value = dict(zip(labels["name"], labels["value"], strict=True)).get("quality") if labels else None
        return value if value is None else float(value)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise PreferansError(
            f"{place}: 'labels' must hold the lists name and value of equal length, got {labels!r:.80}."
        ) from None


def _read_parquet(path: Path, labels: bool) -> Iterator[pl.DataFrame]:
    wanted = [*COLUMNS, *(["labels"] if labels else [])]
    try:
        scan = pl.scan_parquet(path, glob=False)
        scan = scan.select([column for column in wanted if column in scan.collect_schema()])
        for start in range(0, scan.select(pl.len()).collect().item(), READ_ROWS * 5):
            yield _checked_table(scan.slice(start, READ_ROWS * 5).collect(), str(path), start, labels)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise PreferansError(f"{path}: this is not a readable parquet file ({error}).") from None


def _read_hub(source: str, revision: str | None, labels: bool) -> Iterator[pl.DataFrame]:
    from datasets import load_dataset

    try:
        splits = load_dataset(source, revision=revision)
    except Exception as error:  # the client raises a dozen kinds, and each means: not to be had
        raise PreferansError(
            f"--source {source}: there is no such file or folder here, and the Hub does not give a dataset of that name "
            f"({type(error).__name__}: {error})."
        ) from None
    wanted = [*COLUMNS, *(["labels"] if labels else [])]
    for split, rows in splits.items():
        rows = rows.select_columns([column for column in wanted if column in rows.column_names])
        for start in range(0, len(rows), READ_ROWS):
            table = rows.with_format("arrow")[start : start + READ_ROWS]
            batch = _checked_table(pl.DataFrame(table), f"{source}, split {split}", start, labels)
            yield batch.with_columns(origin=pl.lit(split))


def _checked_table(frame: pl.DataFrame, origin: str, before: int, labels: bool) -> pl.DataFrame:
    columns = {}
    for column, kind in COLUMNS.items():
        if column not in frame.columns:
            raise PreferansError(f"{origin}: {_missing_column(column)}")
        values = frame[column]
        try:
            # pandas writes a column of whole numbers with gaps as floats
            columns[column] = values if values.dtype == kind else _cast(values, kind)
        except (pl.exceptions.PolarsError, ValueError):
            raise PreferansError(
                f"{origin}: '{column}' must be {_JSON_TYPES[kind].__name__} or null, and the file has {values.dtype}."
            ) from None
    checked = pl.DataFrame(columns)
    faults = {
        f"'{column}' is empty": pl.col(column).is_null() | (pl.col(column).str.len_bytes() == 0)
        for column in ("message_id", "message_tree_id", "role")
    }
    faults["'rank' is far out of any range"] = ~pl.col("rank").is_between(-(2**31), 2**31 - 1)
    found = checked.select(**{words: fault.any() for words, fault in faults.items()}).row(0, named=True)
    for words in (words for words, is_there in found.items() if is_there):
        row = checked.select(faults[words].arg_true().first()).item()
        raise PreferansError(f"{origin}, row {before + row + 1}: {words}.")
    if labels:
        if "labels" not in frame.columns:
            raise PreferansError(f"{origin}: {_missing_column('labels')}")
        quality = [_quality(value, origin) for value in frame["labels"].to_list()]
        checked = checked.with_columns(quality=pl.Series(quality, dtype=pl.Float64))
    return checked


def _cast(values: pl.Series, kind: type[pl.DataType]) -> pl.Series:
    numeric = values.dtype.is_numeric() and kind == pl.Int64
    if not (numeric or values.dtype == pl.Null or values.dtype in (pl.Categorical, pl.Enum)):
        raise ValueError
    cast = values.cast(kind, strict=True)
    if numeric and not (cast.cast(pl.Float64) == values.cast(pl.Float64)).fill_null(True).all():
        raise ValueError
    return cast


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
        `pl.DataFrame`: in any order, `row` (number in the source), the ids, `role`, `rank`, `reason` (a key of `DROP_REASONS`, or null),
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


def judge(rows: pl.DataFrame) -> pl.DataFrame:
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


def build_shard(rows: pl.DataFrame, rule: Rule) -> tuple[pl.DataFrame, dict]:
    """
    Turn whole conversation trees into preference pairs, and account for every row. A pure function: the map step.

    Args:
        rows (`pl.DataFrame`):
            Whole trees, as [`condense`] gives them, each `message_id` once.
        rule ([`Rule`]):
            What makes a pair.

    Returns:
        `tuple[pl.DataFrame, dict]`: the pairs (the columns of a preference row, `order` to sort by and `rows`, the numbers of
        the rows a pair is made of) and the counts, see [`build_pairs`].
    """
    # Parents stand in the same tree, so that a tree without a row in the language needs no second look.
    ours = rows.filter(pl.col("reason").ne_missing("other_language")).select("message_tree_id").unique()
    elsewhere = len(rows)
    rows = judge(rows.join(ours, on="message_tree_id", how="semi"))
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
        "dropped": {reason: reasons[reason] for reason in DROP_REASONS},
        "prompts": len(prompts),
        "ranked_pairs": len(both),
        "compared": counts.pop("compared", 0),
        "chosen_longer": counts.pop("chosen_longer", 0),
        "pairs_dropped": dict(counts),
    }


def _prompts(sound: pl.DataFrame, turns: str) -> pl.DataFrame:
    prompts = sound.filter(pl.col("role") == "prompter")
    return prompts.filter(pl.col("parent_id").is_null()) if turns == "first" else prompts


def _texts(rows: pl.DataFrame, rule: Rule) -> list[str | None]:
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


def _falls_for_length(chosen: str, rejected: str, name: str, rule: Rule) -> bool:
    if rule.max_length_ratio is None or len(chosen) <= rule.max_length_ratio * len(rejected) * (1 + ROUNDING):
        return False
    # a draw of its own for each pair, so that no pair's fate hangs on the order or the number of the others
    digest = hashlib.sha256(f"{rule.seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 >= rule.keep_long_prob


def build_pairs(
    batches: Iterable[pl.DataFrame],
    rule: Rule,
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
    Complete the counts of [`build_pairs`] by what stands in the finished pairs.

    Args:
        counts (`dict`):
            Counts of [`build_pairs`].
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
    """A `run` for [`build_pairs`] that works on so many shards at a time."""
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
        import pyarrow.parquet as pq

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


def _build_file(file: Path, repeated: pl.Series, rule: Rule) -> tuple[pl.DataFrame, dict]:
    rows = pl.read_parquet(file, glob=False).with_columns(pl.col("reason").cast(_REASON)).sort("row")
    return build_shard(rows.filter(~pl.col("row").is_in(repeated.implode())), rule)


def best_replies(batches: Iterable[pl.DataFrame], rule: Rule) -> tuple[list[dict], dict]:
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
    unique = judge(rows.filter(pl.col("message_id").is_first_distinct())).with_row_index("position")
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
        "dropped": {reason: dropped[reason] for reason in DROP_REASONS},
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
