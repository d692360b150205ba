"""
Near-duplicate prompts, which would leak the test set into training.

Two prompts are near-duplicates if the Jaccard similarity of their sets of five-letter pieces is at least 0.7. Case, punctuation and the dots of
«ё» are ignored. Candidates come from MinHash, the method of [On the resemblance and containment of
documents](https://doi.org/10.1109/SEQUEN.1997.666900); each is then compared exactly.
"""

from collections.abc import Iterable, Iterator, Sequence
from zlib import crc32

import polars as pl
from datasketch import MinHash, MinHashLSH

from .language import WORD_OR_NUMBER
from .phrases import lowered

_THRESHOLD = 0.7
_PIECE = 5
# 16 bands of 4: a pair at the threshold is found with probability 0.99, one at 0.8 with 0.9998.
_BANDS, _BAND_ROWS = 16, 4


def bare_words(text: str) -> str:
    """Reduce a text to its words and numbers in lower case, with «е» for «ё»; a text without either is only stripped."""
    return " ".join(WORD_OR_NUMBER.findall(lowered(text))) or text.strip()


def _pieces(text: str) -> set[bytes]:
    padded = f" {bare_words(text)} "
    return {
        padded[start : start + _PIECE].encode("utf-8", "surrogatepass")
        for start in range(max(1, len(padded) - _PIECE + 1))
    }


def _sketches(pieces: Iterable[set[bytes]]) -> Iterator[MinHash]:
    return MinHash.generator(pieces, num_perm=_BANDS * _BAND_ROWS, hashfunc=crc32)


def near_duplicates(texts: Sequence[str], others: Sequence[str]) -> list[int | None]:
    """
    Find near-duplicates of texts among other texts.

    Returns:
        `list[int | None]`: for each of `texts`, the position in `others` of the most similar near-duplicate (the first of equally similar
        ones), or `None`.
    """
    same: dict[str, int] = {}
    for position, other in enumerate(others):
        same.setdefault(bare_words(other), position)
    matches = [same.get(bare_words(text)) for text in texts]
    unmatched = [position for position, match in enumerate(matches) if match is None]
    if not unmatched or not others:
        return matches

    index = MinHashLSH(num_perm=_BANDS * _BAND_ROWS, params=(_BANDS, _BAND_ROWS))
    other_pieces = [_pieces(other) for other in others]
    for position, sketch in enumerate(_sketches(other_pieces)):
        index.insert(position, sketch)
    sketches = _sketches(_pieces(texts[position]) for position in unmatched)
    for position, sketch in zip(unmatched, sketches, strict=True):
        pieces = _pieces(texts[position])
        scores = [
            (len(pieces & other_pieces[other]) / len(pieces | other_pieces[other]), -other)
            for other in index.query(sketch)
        ]
        best, negative_position = max(scores, default=(0.0, 0))
        if best >= _THRESHOLD:
            matches[position] = -negative_position
    return matches


def user_texts(prompt: list[dict] | str) -> tuple[str, str]:
    """
    Extract the first user message of a prompt, and all user messages. Without one, all messages count; for a plain text, both are the
    text.
    """
    if isinstance(prompt, str):
        return prompt, prompt
    messages = [message["content"] for message in prompt if message["role"] == "user"]
    messages = messages or [message["content"] for message in prompt] or [""]
    return messages[0], "\n".join(messages)


def find_leaks(training: Sequence[tuple[str, str]], held_out: Sequence[tuple[str, str]]) -> list[int | None]:
    """
    Find training prompts with a near-duplicate in the test split.

    Args:
        training (`Sequence[tuple[str, str]]`), held_out (`Sequence[tuple[str, str]]`): [`user_texts`] of the training and test prompts.

    Returns:
        `list[int | None]`: for each training prompt, the position of a test prompt with a nearly equal first message or nearly equal messages,
        or `None`.
    """
    leaks: list[int | None] = [None] * len(training)
    several_turns = any(first != everything for first, everything in (*training, *held_out))
    for part in (0, 1) if several_turns else (0,):
        positions: dict[str, int] = {}
        for position, texts in enumerate(held_out):
            positions.setdefault(texts[part], position)
        distinct_texts = list(dict.fromkeys(texts[part] for texts in training))
        matches = dict(zip(distinct_texts, near_duplicates(distinct_texts, list(positions)), strict=True))
        test_positions = list(positions.values())
        for number, texts in enumerate(training):
            match = matches[texts[part]]
            if leaks[number] is None and match is not None:
                leaks[number] = test_positions[match]
    return leaks


def drop_near_duplicates(splits: dict[str, pl.DataFrame]) -> tuple[dict[str, pl.DataFrame], int]:
    """
    Remove training rows with a near-duplicate prompt in the test split, see [`find_leaks`].

    Args:
        splits (`dict[str, pl.DataFrame]`): Preference rows by split, `train` and `test`, or a single split, which is not changed.

    Returns:
        `tuple[dict[str, pl.DataFrame], int]`: the remaining rows by split, and the number of removed rows.
    """
    if len(splits) < 2:
        return splits, 0
    leaks = find_leaks(
        *([user_texts(row[0]) for row in splits[name].select("prompt").iter_rows()] for name in ("train", "test"))
    )
    kept = splits["train"].filter(pl.Series([leak is None for leak in leaks], dtype=pl.Boolean))
    return splits | {"train": kept}, len(splits["train"]) - len(kept)
