"""Keyed BLAKE3, which Xet uses for names and the standard library lacks. All 1024-byte leaves are hashed at once."""

import numpy as np

START = np.array(
    [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19], dtype=np.uint32
)
PERMUTATION = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8]
CHUNK_START, CHUNK_END, PARENT, ROOT, KEYED = 1, 2, 4, 8, 16
CHUNK, BLOCK = 1024, 64


def keyed_hash(data: bytes, key: bytes) -> bytes:
    """
    Args:
        data (`bytes`): Data of any length.
        key (`bytes`): 32 bytes.

    Returns:
        `bytes`: 32 bytes.
    """
    words = np.frombuffer(key, dtype="<u4").astype(np.uint32)
    full = max(len(data) - 1, 0) // CHUNK  # the last chunk may be short, and is hashed apart
    last = data[full * CHUNK :]
    if not full:
        return _chunk_values(last, 1, words, 0, ROOT)[:, 0].astype("<u4").tobytes()
    values = np.concatenate(
        [_chunk_values(data[: full * CHUNK], full, words, 0), _chunk_values(last, 1, words, full)], axis=1
    )
    while values.shape[1] > 1:
        pairs = values.shape[1] // 2
        blocks = np.concatenate([values[:, 0 : 2 * pairs : 2], values[:, 1 : 2 * pairs : 2]])
        flags = KEYED | PARENT | (ROOT if values.shape[1] == 2 else 0)
        parents = _compress(np.repeat(words[:, None], pairs, axis=1), blocks, np.zeros(pairs, np.uint64), BLOCK, flags)
        values = np.concatenate([parents, values[:, 2 * pairs :]], axis=1)
    return values[:, 0].astype("<u4").tobytes()


def _chunk_values(data: bytes, count: int, key: np.ndarray, first: int, extra: int = 0) -> np.ndarray:
    """Return the chaining values, shape (8, count), of `count` chunks of equal length from chunk number `first`."""
    length = len(data) // count
    blocks = max(-(-length // BLOCK), 1)
    padded = np.zeros((count, blocks * BLOCK), np.uint8)
    padded[:, :length] = np.frombuffer(data, np.uint8).reshape(count, length)
    words = padded.view("<u4").reshape(count, blocks, 16).transpose(1, 2, 0).astype(np.uint32)
    values = np.repeat(key[:, None], count, axis=1)
    counters = np.arange(first, first + count, dtype=np.uint64)
    for number in range(blocks):
        flags = KEYED | (CHUNK_START if number == 0 else 0)
        size = BLOCK
        if number == blocks - 1:
            flags, size = flags | CHUNK_END | extra, length - number * BLOCK
        values = _compress(values, words[number], counters, size, flags)
    return values


def _compress(values: np.ndarray, block: np.ndarray, counters: np.ndarray, size: int, flags: int) -> np.ndarray:
    count = values.shape[1]
    a, b, c = values[:4], values[4:], np.repeat(START[:4, None], count, axis=1)
    low, high = (counters & 0xFFFFFFFF).astype(np.uint32), (counters >> np.uint64(32)).astype(np.uint32)
    d = np.stack([low, high, np.full(count, size, np.uint32), np.full(count, flags, np.uint32)])
    for _ in range(7):
        a, b, c, d = _mix(a, b, c, d, block[0:8:2], block[1:8:2])
        b, c, d = b[[1, 2, 3, 0]], c[[2, 3, 0, 1]], d[[3, 0, 1, 2]]  # diagonals become columns
        a, b, c, d = _mix(a, b, c, d, block[8:16:2], block[9:16:2])
        b, c, d = b[[3, 0, 1, 2]], c[[2, 3, 0, 1]], d[[1, 2, 3, 0]]
        block = block[PERMUTATION]
    return np.concatenate([a ^ c, b ^ d])


def _mix(a, b, c, d, first, second):
    a = a + b + first
    d = _rotate(d ^ a, 16)
    c = c + d
    b = _rotate(b ^ c, 12)
    a = a + b + second
    d = _rotate(d ^ a, 8)
    c = c + d
    b = _rotate(b ^ c, 7)
    return a, b, c, d


def _rotate(words: np.ndarray, bits: int) -> np.ndarray:
    return (words >> np.uint32(bits)) | (words << np.uint32(32 - bits))
