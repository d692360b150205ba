"""
Prompts that are nearly the same: of a prompt that stands in both splits, the test would ask what training has told.

Two prompts are near-duplicates when at least `THRESHOLD` of the five-letter pieces that either has are in both (their Jaccard
similarity), after case, punctuation and the dots of «ё» are taken away. Candidates come from MinHash, the method of [On the
resemblance and containment of documents](https://doi.org/10.1109/SEQUEN.1997.666900), and each is then compared exactly.
"""

from collections.abc import Sequence
from zlib import crc32

import polars as pl
from datasketch import MinHash, MinHashLSH

from .language import WORD_OR_NUMBER

THRESHOLD = 0.7
PIECE = 5
# 16 bands of 4: a pair at the threshold is found with probability 0.99, one at 0.8 with 0.9998.
BANDS, BAND_ROWS = 16, 4


def bare_words(text: str) -> str:
    """A text in lower case, words and numbers only, «ё» as «е»; one without either as it is."""
    return " ".join(WORD_OR_NUMBER.findall(text.lower().replace("ё", "е"))) or text.strip()


def _pieces(text: str) -> set[bytes]:
    padded = f" {bare_words(text)} "
    return {
        padded[start : start + PIECE].encode("utf-8", "surrogatepass")
        for start in range(max(1, len(padded) - PIECE + 1))
    }


def near_duplicates(texts: Sequence[str], others: Sequence[str]) -> list[int | None]:
    """
    Find near-duplicates of texts among other texts.

    Args:
        texts (`Sequence[str]`):
            Texts to look up.
        others (`Sequence[str]`):
            Texts to find them among.

    Returns:
        `list[int | None]`: for each of `texts` the position in `others` of a near-duplicate, the first of the most similar, or
        `None`.
    """
    same: dict[str, int] = {}
    for position, other in enumerate(others):
        same.setdefault(bare_words(other), position)
    found = [same.get(bare_words(text)) for text in texts]
    unknown = [position for position, match in enumerate(found) if match is None]
    if not unknown or not others:
        return found

    index = MinHashLSH(num_perm=BANDS * BAND_ROWS, params=(BANDS, BAND_ROWS))
    other_pieces = [_pieces(other) for other in others]
    for position, sketch in enumerate(MinHash.generator(other_pieces, num_perm=BANDS * BAND_ROWS, hashfunc=crc32)):
        index.insert(position, sketch)
    sketches = MinHash.generator(
        (_pieces(texts[position]) for position in unknown), num_perm=BANDS * BAND_ROWS, hashfunc=crc32
    )
    for position, sketch in zip(unknown, sketches, strict=True):
        candidates = index.query(sketch)
        if candidates:
            pieces = _pieces(texts[position])
            scores = [
                (len(pieces & other_pieces[other]) / len(pieces | other_pieces[other]), -other) for other in candidates
            ]
            best, other = max(scores)
            found[position] = -other if best >= THRESHOLD else None
    return found


def user_texts(prompt: list[dict] | str) -> tuple[str, str]:
    """What a person says in a prompt: how they open the conversation, and all of it. Of a plain text, it is the text itself."""
    if isinstance(prompt, str):
        return prompt, prompt
    said = [message["content"] for message in prompt if message["role"] == "user"]
    return said[0], "\n".join(said)


def find_leaks(training: Sequence[tuple[str, str]], held_out: Sequence[tuple[str, str]]) -> list[int | None]:
    """
    Find training prompts that tell what the test asks.

    Args:
        training (`Sequence[tuple[str, str]]`), held_out (`Sequence[tuple[str, str]]`):
            What is asked in the training and in the test split, see [`user_texts`].

    Returns:
        `list[int | None]`: for each training prompt the position of a test prompt that opens nearly alike, or says nearly the
        same in all, or `None`.
    """
    found: list[int | None] = [None] * len(training)
    deeper = any(opening != whole for opening, whole in (*training, *held_out))
    for part in (0, 1) if deeper else (0,):
        first: dict[str, int] = {}
        for position, said in enumerate(held_out):
            first.setdefault(said[part], position)
        positions = list(first.values())
        distinct = list(dict.fromkeys(said[part] for said in training))
        matches = dict(zip(distinct, near_duplicates(distinct, list(first)), strict=True))
        for number, said in enumerate(training):
            match = matches[said[part]]
            if found[number] is None and match is not None:
                found[number] = positions[match]
    return found


def drop_near_duplicates(splits: dict[str, pl.DataFrame]) -> tuple[dict[str, pl.DataFrame], int]:
    """
    Remove training rows whose prompt is nearly one of the test split, see [`find_leaks`].

    Args:
        splits (`dict[str, pl.DataFrame]`):
            Preference rows by split.

    Returns:
        `tuple[dict[str, pl.DataFrame], int]`: the splits without such rows, and how many were removed.
    """
    if len(splits) < 2:
        return splits, 0
    leaks = find_leaks(
        *([user_texts(row[0]) for row in splits[name].select("prompt").iter_rows()] for name in ("train", "test"))
    )
    kept = splits["train"].filter(pl.Series([leak is None for leak in leaks], dtype=pl.Boolean))
    return splits | {"train": kept}, len(splits["train"]) - len(kept)
