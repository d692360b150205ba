"""
Read OpenAssistant conversation trees, and decide which messages take part.

The columns are those of [OpenAssistant/oasst1](https://huggingface.co/datasets/OpenAssistant/oasst1), described in
[OpenAssistant Conversations](https://huggingface.co/papers/2304.07327).

The source is read twice, in batches: first to find the trees with a message in the language, then to keep their rows. A source of
millions of rows therefore fits in memory (docs/scale.md).
"""

from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
import polars as pl

from ..text.language import is_prose_russian

# What str.strip() removes; polars would leave four control characters.
_BLANKS = "".join(character for character in map(chr, range(0x3001)) if character.isspace())
# Why a row takes no part. A row is counted once, under the first reason that applies.
ROW_DROP_REASONS = {
    "duplicate_id": "the same message_id appears earlier in the source",
    "other_language": "written in another language",
    "deleted": "deleted",
    "not_approved": "review_result is not true",
    "synthetic": "written by a model",
    "tree_not_ready": "tree_state is not ready_for_export",
    "no_text": "no text",
    "not_russian": "tagged ru, but most of its letters are not Russian",
    "orphan": "an earlier message is missing from its tree, or the parents form a circle",
    "wrong_role": "its role is unknown, or does not alternate with that of the message before it",
    "ancestor": "an earlier message of the conversation is dropped",
    "unranked": "a reply without a rank",
}
_REASON = pl.Enum(list(ROW_DROP_REASONS))

ReadBatches = Callable[[], Iterable[pl.DataFrame]]


def read_trees(read: ReadBatches, lang: str) -> tuple[pl.DataFrame, dict]:
    """
    Read the conversation trees that have a message in a language.

    Args:
        read (`Callable`): Returns the batches of rows. It is called twice.
        lang (`str`): Language tag.

    Returns:
        `tuple[pl.DataFrame, dict]`: the rows of these trees as [`condense`] returns them, each `message_id` once, and the counts `rows`,
        `langs` (tags in the source) and `dropped` (rows with a repeated id, and rows of other trees).
    """
    ids, trees, langs = [], [], set()
    for batch in read():
        ids.append(batch["message_id"])
        trees.append(batch["message_tree_id"].filter(batch["lang"] == lang).unique())
        langs.update(batch["lang"].drop_nulls().unique())
    first = pl.concat(ids).is_first_distinct()
    del ids  # the largest part of memory
    with_lang = pl.concat(trees).unique().implode()
    kept, number = [], 0
    for batch in read():
        is_kept = first.slice(number, len(batch)) & batch["message_tree_id"].is_in(with_lang)
        kept.append(condense(batch.with_row_index("row", offset=number).filter(is_kept), lang))
        number += len(batch)
    rows = pl.concat(kept)
    dropped = {"duplicate_id": number - first.sum(), "other_language": first.sum() - len(rows)}
    return rows, {"rows": number, "langs": sorted(langs), "dropped": dropped}


def condense(batch: pl.DataFrame, lang: str) -> pl.DataFrame:
    """
    Judge messages by their own columns, and keep only what pairing needs.

    Args:
        batch (`pl.DataFrame`): Rows with the columns of `OASST_COLUMNS`, and `row`, the number in the source.
        lang (`str`): Language tag to keep.

    Returns:
        `pl.DataFrame`: `row`, the ids, `role`, `rank`, `reason` (a key of `ROW_DROP_REASONS`, or null), `text`
        (null if there is a reason, else without outer blanks and with Unix line endings), and `defect` and `quality` if the batch has them.
    """
    batch = batch.with_columns(pl.col("text").str.replace_all("\r\n?", "\n").str.strip_chars(_BLANKS))
    not_russian = pl.repeat(False, len(batch), eager=True)
    if lang == "ru":
        # Most texts have only Russian letters, which polars checks faster than Python.
        has_others = batch["text"].str.contains(r"[\p{L}--а-яёА-ЯЁ]") & (batch["lang"] == lang)
        suspects = has_others.fill_null(False).arg_true()
        not_russian = not_russian.scatter(suspects, [not is_prose_russian(text) for text in batch["text"][suspects]])
    # A null flag means: not approved, not deleted, not synthetic.
    reason = _first_reason(
        other_language=pl.col("lang").ne_missing(lang),
        deleted=pl.col("deleted").fill_null(False),
        not_approved=pl.col("review_result").ne_missing(True),
        synthetic=pl.col("synthetic").fill_null(False),
        tree_not_ready=pl.col("tree_state").ne_missing("ready_for_export"),
        no_text=pl.col("text").fill_null("") == "",
        not_russian=not_russian,
    )
    return batch.select(
        pl.col("row").cast(pl.UInt32),
        "message_id",
        "parent_id",
        "message_tree_id",
        "role",
        pl.col("rank").cast(pl.Int32),
        *[column for column in ("defect", "quality") if column in batch.columns],
        reason=reason,
        text=pl.when(reason.is_null()).then(pl.col("text")),
    )


def _first_reason(**conditions: pl.Expr | pl.Series) -> pl.Expr:
    return pl.coalesce([pl.when(condition).then(pl.lit(name, _REASON)) for name, condition in conditions.items()])


def find_drop_reasons(rows: pl.DataFrame) -> pl.DataFrame:
    """
    Judge messages by the conversation before them.

    Args:
        rows (`pl.DataFrame`): Whole trees, as [`read_trees`] returns them.

    Returns:
        `pl.DataFrame`: the rows with every `reason` filled in, `position` (number in this table) and `prompt`, the position of the
        message before, -1 for none.
    """
    rows = rows.with_columns(position=pl.int_range(pl.len(), dtype=pl.Int64))
    parents = rows.select("message_tree_id", parent_id="message_id", parent_role="role", prompt="position")
    rows = rows.join(parents, on=["parent_id", "message_tree_id"], how="left", maintain_order="left")
    opens, has_parent = pl.col("parent_id").is_null(), pl.col("prompt").is_not_null()
    expected_role = (
        pl.when(opens | (pl.col("parent_role") == "assistant")).then(pl.lit("prompter")).otherwise(pl.lit("assistant"))
    )
    rows = rows.with_columns(
        wrong_role=~pl.col("role").is_in(["prompter", "assistant"])
        | ((pl.col("role") != expected_role) & (opens | has_parent)),
        lost=~opens & ~has_parent,
        unranked=(pl.col("role") == "assistant") & pl.col("rank").is_null(),
        prompt=pl.col("prompt").fill_null(-1),
    )
    bad = (rows["reason"].is_not_null() | rows["wrong_role"]).to_numpy()
    orphan, bad_ancestor = _look_up(rows["prompt"].to_numpy(), bad, rows["lost"].to_numpy())
    late = _first_reason(
        orphan=pl.Series(orphan),
        wrong_role=pl.col("wrong_role"),
        ancestor=pl.Series(bad_ancestor),
        unranked=pl.col("unranked"),
    )
    return rows.with_columns(reason=pl.coalesce("reason", late)).drop("parent_role", "wrong_role", "lost", "unranked")


def _look_up(parent: np.ndarray, bad: np.ndarray, lost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Find, for each message, whether the way up from it ends in a missing message or in a circle, and whether a message above it is bad.

    Each round doubles how far every message has looked, so that the deepest conversation takes a few rounds.
    """
    bad, lost, jump = bad.copy(), lost.copy(), parent.copy()
    for _ in range(len(parent).bit_length() + 1):
        going = np.flatnonzero(jump >= 0)
        targets = jump[going]
        bad[going] |= bad[targets]
        lost[going] |= lost[targets]
        jump[going] = jump[targets]
    return lost | (jump >= 0), np.where(parent >= 0, bad[parent], False)


def count_reasons(rows: pl.DataFrame, dropped: dict[str, int]) -> dict[str, int]:
    """Count the rows of whole trees by reason, together with the rows that [`read_trees`] dropped."""
    reasons = Counter(rows["reason"].drop_nulls().to_list()) + Counter(dropped)
    return {reason: reasons[reason] for reason in ROW_DROP_REASONS}
