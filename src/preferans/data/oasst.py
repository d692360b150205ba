"""
Turn OpenAssistant conversation trees into pairs of ranked replies.

`rank` orders the replies to one prompt, 0 is the best; it is null if the people who ranked did not agree.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator

import polars as pl

from ..text.characters import comparable
from ..text.language import without_assistant_name
from .oasst_rule import PairingRule
from .oasst_trees import ReadBatches, count_reasons, find_drop_reasons, read_trees
from .preferences import row_problem
from .tables import ROW_COLUMNS

ROUNDING = 1e-9  # in floating point, 0.9 - 0.8 is a little less than 0.1
PAIRS_AT_ONCE = 20_000  # pairs that are Python objects at the same time

# Why two ranked replies to one prompt make no pair.
PAIR_DROP_REASONS = {
    "quality_margin": "chosen is not better in quality by min_quality_margin, or a quality is missing",
    "equal_texts": "the texts differ at most in case, spaces or punctuation",
    "repeated": "the prompt has another pair with the same texts",
    "echo": "an answer begins with the prompt",
    "length_ratio": "chosen is more than max_length_ratio times as long as rejected",
    "near_duplicate": "the prompt is nearly the same as one of the test split",
}
PAIR_COLUMNS = {"rows": pl.List(pl.UInt32)} | ROW_COLUMNS | {"defect": pl.String}


def build_oasst_pairs(read: ReadBatches, rule: PairingRule) -> tuple[pl.DataFrame, dict]:
    """
    Turn oasst rows into preference pairs, and account for every row.

    Args:
        read (`Callable`): Returns the batches of rows, such as a `partial` of [`~preferans.data.oasst_source.read_rows`].
        rule ([`PairingRule`]): What makes a pair.

    Returns:
        `tuple[pl.DataFrame, dict]`: the pairs in the order of their prompts in the source, with `rows` (numbers of the source rows that
        a pair consists of) and, if the source states what is wrong with replies, the `defect` of the rejected one; and the counts: `rows`, `dropped` (by reason), `langs` (tags in the source), `prompts` (that take part),
        `ranked_pairs` (all that the ranks make), `pairs_dropped` (by reason), `compared` and `chosen_longer` (pairs before the length
        ratio is applied, and those of them whose chosen is longer). [`account`] adds the rest.
    """
    rows, counts = read_trees(read, rule.lang)
    rows = find_drop_reasons(rows)
    counts["dropped"] = count_reasons(rows, counts["dropped"])
    prompts, replies = _prompts_and_replies(rows.filter(pl.col("reason").is_null()), rule.turns)
    ranked = pair_replies(replies, rule.pairing)

    pair_counts = Counter({reason: 0 for reason in PAIR_DROP_REASONS})
    tables = [pl.DataFrame(schema=PAIR_COLUMNS)]
    compared: set[tuple] = set()
    for part in ranked.iter_slices(PAIRS_AT_ONCE):
        tables.append(pl.DataFrame(list(_pair_rows(part, rows, rule, pair_counts, compared)), schema=PAIR_COLUMNS))
    pairs = pl.concat(tables)
    if pairs["defect"].is_null().all():
        pairs = pairs.drop("defect")
    return pairs, counts | {
        "prompts": len(prompts),
        "ranked_pairs": len(ranked),
        "compared": pair_counts.pop("compared", 0),
        "chosen_longer": pair_counts.pop("chosen_longer", 0),
        "pairs_dropped": dict(pair_counts),
    }


def _prompts_and_replies(valid: pl.DataFrame, turns: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the positions of the prompts that take part, in the column `prompt`, and the rows of their replies."""
    prompts = valid.filter(pl.col("role") == "prompter")
    if turns == "first":
        prompts = prompts.filter(pl.col("parent_id").is_null())
    prompts = prompts.select(prompt="position")
    return prompts, valid.filter(pl.col("role") == "assistant").join(prompts, on="prompt", how="semi")


def pair_replies(replies: pl.DataFrame, pairing: str) -> pl.DataFrame:
    """
    Pair the ranked replies of each prompt.

    Args:
        replies (`pl.DataFrame`): `prompt` (its position), `rank` (lower is better), and `position`, by which equal ranks are ordered.
        pairing (`str`): See [`PairingRule`].

    Returns:
        `pl.DataFrame`: `prompt`, `chosen` and `rejected` (positions). Replies that share a rank make no pair.
    """
    replies = replies.select("prompt", "rank", "position").sort("prompt", "rank", "position")
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


def _pair_rows(
    ranked: pl.DataFrame, rows: pl.DataFrame, rule: PairingRule, counts: Counter, compared: set[tuple]
) -> Iterator[dict]:
    """Yield the preference rows that the rule keeps, and count the dropped pairs by reason."""
    for path, chosen, rejected in _messages(ranked, rows, rule):
        texts = [comparable(answer["text"]) for answer in (chosen, rejected)]
        comparison = (path[-1]["row"], *(hash(text) for text in sorted(texts)))
        row = {
            "rows": [message["row"] for message in (*path, chosen, rejected)],
            "id": f"{chosen['message_id']}:{rejected['message_id']}",
            "prompt": _conversation(path),
            "chosen": _answer(chosen),
            "rejected": _answer(rejected),
            "message_tree_id": chosen["message_tree_id"],
            "lang": rule.lang,
            "source": "oasst",
            "chosen_rank": chosen["rank"],
            "rejected_rank": rejected["rank"],
            "defect": rejected.get("defect"),
        }
        if not _is_better(chosen, rejected, rule.min_quality_margin):
            counts["quality_margin"] += 1
        elif texts[0] == texts[1]:
            counts["equal_texts"] += 1
        elif comparison in compared:
            counts["repeated"] += 1
        elif row_problem(row):  # the only violation of the contract that is left
            counts["echo"] += 1
        else:
            compared.add(comparison)
            counts["compared"] += 1
            counts["chosen_longer"] += len(chosen["text"]) > len(rejected["text"])
            if _is_too_long(chosen["text"], rejected["text"], row["id"], rule):
                counts["length_ratio"] += 1
            else:
                yield row


def _messages(positions: pl.DataFrame, rows: pl.DataFrame, rule: PairingRule) -> Iterator[tuple]:
    """Turn positions of a prompt and of replies to it into messages: those from the opening to the prompt as a list, and each reply."""
    parent = rows["prompt"].to_numpy()
    paths: dict[int, list[int]] = {}
    for prompt in positions["prompt"].unique():
        path = [prompt]
        while parent[path[0]] >= 0:
            path.insert(0, int(parent[path[0]]))
        paths[prompt] = path
    needed = sorted(set().union(*paths.values(), *(positions[column] for column in positions.columns)))
    messages = dict(zip(needed, rows[needed].iter_rows(named=True), strict=True))
    if rule.normalize_persona:
        for message in messages.values():
            message["text"] = without_assistant_name(message["text"])
    for prompt, *replies in positions.iter_rows():
        yield [messages[position] for position in paths[prompt]], *(messages[position] for position in replies)


def _conversation(path: list[dict]) -> list[dict]:
    return [{"role": ("user", "assistant")[depth % 2], "content": path[depth]["text"]} for depth in range(len(path))]


def _answer(message: dict) -> list[dict]:
    return [{"role": "assistant", "content": message["text"]}]


def _is_better(chosen: dict, rejected: dict, margin: float | None) -> bool:
    if margin is None:
        return True
    qualities = (chosen["quality"], rejected["quality"])
    return None not in qualities and qualities[0] - qualities[1] >= margin - ROUNDING


def _is_too_long(chosen: str, rejected: str, pair_id: str, rule: PairingRule) -> bool:
    if rule.max_length_ratio is None or len(chosen) <= rule.max_length_ratio * len(rejected) * (1 + ROUNDING):
        return False
    # The draw depends only on the pair's id and the seed, not on the order or the number of the other pairs.
    digest = hashlib.sha256(f"{rule.seed}:{pair_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 >= rule.keep_long_prob


def account(counts: dict, pairs: pl.DataFrame) -> dict:
    """
    Complete the counts of [`build_oasst_pairs`] for the pairs that are left after the split.

    Returns:
        `dict`: the counts with `used` (rows in a pair or its prompt), `unpaired` (valid rows in no pair; `used`, `unpaired` and `dropped`
        add up to `rows`), `pairs` and `prompts_with_pairs`.
    """
    used = pairs["rows"].explode().n_unique() if len(pairs) else 0
    prompts = pairs["rows"].list.slice(0, pl.col("rows").list.len() - 2).n_unique() if len(pairs) else 0
    return counts | {
        "used": used,
        "unpaired": counts["rows"] - sum(counts["dropped"].values()) - used,
        "pairs": len(pairs),
        "prompts_with_pairs": prompts,
    }


def best_replies(read: ReadBatches, rule: PairingRule) -> tuple[list[dict], dict]:
    """
    Find the best human reply to every prompt: the one with the lowest rank, or an unranked one if it is the only reply.

    Args:
        read (`Callable`): Returns the batches of rows, such as a `partial` of [`~preferans.data.oasst_source.read_rows`].
        rule ([`PairingRule`]): Of this rule, `lang`, `turns` and `normalize_persona` apply.

    Returns:
        `tuple[list[dict], dict]`: for each prompt with a valid reply, in the order of the source, `id` (of the reply), `prompt` and
        `chosen` (messages), `message_tree_id` and `chosen_rank`; and the counts `rows`, `dropped` (by reason), `langs` and `prompts`.
    """
    rows, counts = read_trees(read, rule.lang)
    rows = find_drop_reasons(rows)
    valid = rows.filter(pl.col("reason").is_null() | (pl.col("reason") == "unranked"))
    prompts, replies = _prompts_and_replies(valid, rule.turns)
    best = (
        replies.filter(pl.col("rank").is_not_null() | (pl.len().over("prompt") == 1))
        .sort("prompt", "rank", "position")
        .unique("prompt", keep="first", maintain_order=True)
    )
    chosen = [
        {
            "id": reply["message_id"],
            "prompt": _conversation(path),
            "chosen": _answer(reply),
            "message_tree_id": reply["message_tree_id"],
            "chosen_rank": reply["rank"],
        }
        for path, reply in _messages(best.select("prompt", "position"), rows, rule)
    ]
    counts["dropped"] = count_reasons(rows, counts["dropped"])
    counts["dropped"]["unranked"] -= best["rank"].null_count()  # the only reply needs no rank
    return chosen, counts | {"prompts": len(prompts)}
