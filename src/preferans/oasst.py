"""
OpenAssistant conversation trees: reading rows, deciding which messages count, pairing ranked replies.

The columns are those of [OpenAssistant/oasst1](https://huggingface.co/datasets/OpenAssistant/oasst1), described in
[OpenAssistant Conversations](https://huggingface.co/papers/2304.07327). `rank` orders the replies of one prompt, 0 being
the best; it is empty where the people who ranked did not agree.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import combinations, pairwise
from pathlib import Path

from .errors import PreferansError
from .files import read_jsonl

OASST1 = "OpenAssistant/oasst1"
OASST1_REVISION = "fdf72ae0827c1cda404aff25b6603abec9e3399b"

COLUMNS = {
    "message_id": str,
    "parent_id": str,
    "text": str,
    "role": str,
    "lang": str,
    "review_result": bool,
    "deleted": bool,
    "rank": int,
    "synthetic": bool,
    "message_tree_id": str,
    "tree_state": str,
}
TURNS = ("first", "all")
PAIRINGS = ("best_worst", "adjacent", "all")

# Why a row takes no part, in the order in which the question is asked. A row falls out once, for the first reason.
DROP_REASONS = {
    "duplicate_id": "the same message_id stands earlier in the source",
    "other_language": "written in another language",
    "deleted": "deleted",
    "not_approved": "review_result is not true",
    "synthetic": "written by a model",
    "tree_not_ready": "tree_state is not ready_for_export",
    "no_text": "no text",
    "orphan": "its parent is missing, or the parents form a circle",
    "ancestor": "a message before it in the conversation falls out",
    "unranked": "a reply without a rank",
}


def read_rows(source: str, revision: str | None = None) -> list[dict]:
    """
    Read oasst rows from a file, a folder or the Hub.

    Args:
        source (`str`):
            A `.jsonl`, `.json` (one object a line) or `.parquet` file, a folder of such files, or the id of a dataset on
            the Hub, of which all splits are read.
        revision (`str`, *optional*):
            Commit, branch or tag, for a dataset on the Hub.

    Returns:
        `list[dict]`: one dictionary per row with the keys of `COLUMNS`, in the order of the source (the files of a folder
        in the order of their names).

    Raises:
        [`PreferansError`]: when nothing can be read from `source`, a column is missing, or a value has the wrong type.
    """
    path = Path(source)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in (".jsonl", ".json", ".parquet"))
        if not files:
            raise PreferansError(f"--source {source}: the folder holds no .jsonl, .json or .parquet file.")
        return [row for file in files for row in _checked(_read_file(file), file)]
    if path.exists():
        return list(_checked(_read_file(path), path))
    if path.suffix in (".jsonl", ".json", ".parquet") or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", source):
        raise PreferansError(f"--source {source}: there is no such file or folder.")
    return list(_checked(_read_hub(source, revision), source))


def _read_file(path: Path) -> list[dict]:
    if path.suffix != ".parquet":
        return read_jsonl(path)
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    try:
        table = pq.read_table(path)
    except (ArrowException, OSError) as error:
        raise PreferansError(f"{path}: this is not a readable parquet file ({error}).") from None
    return table.select([column for column in COLUMNS if column in table.column_names]).to_pylist()


def _read_hub(source: str, revision: str | None) -> Iterator[dict]:
    from datasets import load_dataset

    try:
        splits = load_dataset(source, revision=revision)
    except Exception as error:  # the client raises a dozen kinds, and each means: not to be had
        raise PreferansError(
            f"--source {source}: there is no such file or folder here, and the Hub does not give a dataset of that name "
            f"({type(error).__name__}: {error})."
        ) from None
    for rows in splits.values():
        yield from rows.select_columns([column for column in COLUMNS if column in rows.column_names])


def _checked(rows: Iterable[dict], origin: str | Path) -> Iterator[dict]:
    number = 0
    for number, row in enumerate(rows, start=1):
        for column, kind in COLUMNS.items():
            if column not in row:
                raise PreferansError(
                    f"{origin}, row {number}: the column '{column}' is missing. An oasst source has the columns "
                    f"{', '.join(COLUMNS)}."
                )
            value = row[column]
            # bool is an int to Python, but not to a person
            if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
                raise PreferansError(
                    f"{origin}, row {number}: '{column}' must be {kind.__name__} or null, got {value!r:.60}."
                )
        for column in ("message_id", "message_tree_id", "role"):
            if not row[column]:
                raise PreferansError(f"{origin}, row {number}: '{column}' is empty.")
        if row["text"] and any("\ud800" <= character <= "\udfff" for character in row["text"]):
            raise PreferansError(
                f"{origin}, row {number}: 'text' holds half of a character (a lone surrogate), which no file in UTF-8 can "
                "keep. Mend or drop the row."
            )
        yield {column: row[column] for column in COLUMNS}
    if not number:
        raise PreferansError(f"{origin}: there is not one row in it.")


def row_drop_reason(row: dict, lang: str) -> str | None:
    """
    Why a message cannot take part, judged by its own columns alone.

    Args:
        row (`dict`):
            Message with the keys of `COLUMNS`.
        lang (`str`):
            Language tag to keep, such as `"ru"`.

    Returns:
        `str` or `None`: a key of `DROP_REASONS`, or `None` for a message that may take part.
    """
    if row["lang"] != lang:
        return "other_language"
    # The flags may be null as well, and null is no approval, no deletion and no model.
    if row["deleted"]:
        return "deleted"
    if row["review_result"] is not True:
        return "not_approved"
    if row["synthetic"]:
        return "synthetic"
    if row["tree_state"] != "ready_for_export":
        return "tree_not_ready"
    if not (row["text"] or "").strip():
        return "no_text"
    return None


def find_drop_reasons(messages: dict[str, dict], lang: str) -> dict[str, str | None]:
    """
    Why each message falls out, judged by its own columns and by the conversation before it.

    Args:
        messages (`dict[str, dict]`):
            Every message of the source by its id, of all languages: a reply whose parent was filtered out beforehand
            could not be told from an orphan.
        lang (`str`):
            Language tag to keep.

    Returns:
        `dict[str, str | None]`: a key of `DROP_REASONS`, or `None` for a message that takes part, by message id.
    """
    in_context: dict[str, str | None] = {}  # the verdict as a message of a conversation, where no rank is needed
    for message_id in messages:
        chain, current, verdict = [], message_id, None
        on_chain = set()
        while current is not None and current not in in_context:
            if current not in messages or current in on_chain:
                verdict = "orphan"
                break
            chain.append(current)
            on_chain.add(current)
            current = messages[current]["parent_id"]
        else:
            if current is not None and in_context[current] is not None:
                verdict = "orphan" if in_context[current] == "orphan" else "ancestor"
        for member in reversed(chain):
            own = row_drop_reason(messages[member], lang)
            in_context[member] = own or verdict
            if in_context[member] not in (None, "orphan"):
                verdict = "ancestor"
    return {
        message_id: verdict or ("unranked" if _is_unranked_reply(messages[message_id]) else None)
        for message_id, verdict in in_context.items()
    }


def _is_unranked_reply(row: dict) -> bool:
    return row["role"] == "assistant" and row["rank"] is None


def pair_replies(replies: list[dict], pairing: str) -> list[tuple[dict, dict]]:
    """
    Pair the ranked replies of one prompt.

    Args:
        replies (`list[dict]`):
            Messages with an integer `rank`, lower being better.
        pairing (`str`):
            `"best_worst"` pairs the lowest rank with the highest, `"adjacent"` the neighbours in rank order, `"all"` every
            reply with every reply ranked below it.

    Returns:
        `list[tuple[dict, dict]]`: (chosen, rejected). Replies that share a rank make no pair.
    """
    ordered = sorted(replies, key=lambda reply: reply["rank"])  # stable: the order of the source decides among equals
    if pairing == "best_worst":
        candidates = [(ordered[0], ordered[-1])] if ordered else []
    elif pairing == "adjacent":
        candidates = list(pairwise(ordered))
    elif pairing == "all":
        candidates = list(combinations(ordered, 2))
    else:
        raise ValueError(f"pairing must be one of {PAIRINGS}, got {pairing!r}")
    return [(chosen, rejected) for chosen, rejected in candidates if chosen["rank"] < rejected["rank"]]


def build_pairs(
    rows: Iterable[dict], lang: str = "ru", turns: str = "first", pairing: str = "best_worst"
) -> tuple[list[dict], dict]:
    """
    Turn oasst rows into preference pairs, and account for every row.

    Args:
        rows (`Iterable[dict]`):
            Rows with the keys of `COLUMNS`.
        lang (`str`, *optional*, defaults to `"ru"`):
            Language tag to keep.
        turns (`str`, *optional*, defaults to `"first"`):
            `"first"` takes the prompts that open a conversation, `"all"` every prompter message with the conversation
            before it as context.
        pairing (`str`, *optional*, defaults to `"best_worst"`):
            See [`pair_replies`].

    Returns:
        `tuple[list[dict], dict]`: the preference rows, in the order of the prompts in the source, and the counts: `rows`,
        `dropped` (by reason), `unpaired` (sound rows that stand in no pair), `used` (the others; the three add up to `rows`),
        `prompts` (that count), `prompts_with_pairs`, `pairs` and `equal_texts` (pairs not made because both texts are the same).
    """
    messages: dict[str, dict] = {}
    dropped = Counter({reason: 0 for reason in DROP_REASONS})
    total = 0
    for row in rows:
        total += 1
        if row["message_id"] in messages:
            dropped["duplicate_id"] += 1
        else:
            messages[row["message_id"]] = row
    verdicts = find_drop_reasons(messages, lang)
    dropped.update(verdict for verdict in verdicts.values() if verdict)

    replies = defaultdict(list)
    for message_id, row in messages.items():
        if row["role"] == "assistant" and verdicts[message_id] is None and row["parent_id"] is not None:
            replies[row["parent_id"]].append(row)

    pairs, used, prompts, prompts_with_pairs, equal_texts = [], set(), 0, 0, 0
    for message_id, row in messages.items():
        if row["role"] != "prompter" or verdicts[message_id] or (turns == "first" and row["parent_id"] is not None):
            continue
        prompts += 1
        candidates = pair_replies(replies[message_id], pairing)
        different = [
            (chosen, rejected) for chosen, rejected in candidates if chosen["text"].strip() != rejected["text"].strip()
        ]
        equal_texts += len(candidates) - len(different)
        prompts_with_pairs += bool(different)
        conversation = _conversation(messages, row) if different else []
        used.update(message["message_id"] for pair in different for message in pair)
        used.update(message["message_id"] for message in conversation)
        turns_before = [_turn(message) for message in conversation]
        pairs.extend(_preference_row(turns_before, chosen, rejected) for chosen, rejected in different)
    counts = {
        "rows": total,
        "used": len(used),
        "unpaired": total - sum(dropped.values()) - len(used),
        "dropped": dict(dropped),
        "prompts": prompts,
        "prompts_with_pairs": prompts_with_pairs,
        "pairs": len(pairs),
        "equal_texts": equal_texts,
    }
    return pairs, counts


def _conversation(messages: dict[str, dict], row: dict) -> list[dict]:
    turns = []
    while row is not None:
        turns.append(row)
        row = messages[row["parent_id"]] if row["parent_id"] is not None else None
    return turns[::-1]


def _turn(row: dict) -> dict:
    return {"role": "user" if row["role"] == "prompter" else "assistant", "content": row["text"].strip()}


def _preference_row(conversation: list[dict], chosen: dict, rejected: dict) -> dict:
    return {
        "id": f"{chosen['message_id']}:{rejected['message_id']}",
        "prompt": conversation,
        "chosen": [_turn(chosen)],
        "rejected": [_turn(rejected)],
        "message_tree_id": chosen["message_tree_id"],
        "lang": chosen["lang"],
        "source": "oasst",
        "chosen_rank": chosen["rank"],
        "rejected_rank": rejected["rank"],
    }
