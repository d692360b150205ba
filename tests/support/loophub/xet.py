"""
Xet's content-addressed storage: chunks in xorbs, files as lists of ranges in xorbs. Everything received is unpacked and checked.

A hash is written as four little-endian numbers, so its text is not the hexadecimal form of its bytes (`text_of`).
"""

import hashlib
import struct
from typing import NamedTuple

import numpy as np
import pyarrow

from .blake3 import keyed_hash
from .errors import HubError

# Given by the protocol, one key for each kind of hash.
CHUNK_KEY = bytes.fromhex("6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229")
NODE_KEY = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
RANGE_KEY = bytes.fromhex("7f1857d6ce56ed66127ff913e7a5c3f3a4cd26d5b5db49e64124987f28fb94c3")
FILE_KEY = bytes(32)

BRANCHES = 4  # children of a node on average
ENTRY = 48  # bytes of every record of a shard
SHARD_TAG, BOOKEND = b"HFRepoMetaData", b"\xff" * 32
WITH_VERIFICATION, WITH_SHA256 = 1 << 31, 1 << 30


class Term(NamedTuple):
    """Chunks `start` to `end` (exclusive) of a xorb, `size` bytes when unpacked."""

    xorb: str
    size: int
    start: int
    end: int


class Xorb(NamedTuple):
    """`packed[offsets[i] : offsets[i + 1]]` is chunk i as sent, `chunks[i]` its content, `hashes[i]` its name."""

    packed: bytes
    offsets: list[int]
    chunks: list[bytes]
    hashes: list[bytes]


class XetStore:
    """Xorbs and files by name; a file is available as soon as its shard was accepted."""

    def __init__(self):
        self.xorbs: dict[str, Xorb] = {}
        self.files: dict[str, list[Term]] = {}

    def add_xorb(self, name: str, data: bytes) -> bool:
        """Store a xorb if its bytes match its name; return whether it is new."""
        offsets, chunks = unpack(data)
        hashes = [keyed_hash(chunk, CHUNK_KEY) for chunk in chunks]
        if text_of(tree_hash(hashes, chunks)) != name:
            raise HubError(400, "the hash of the xorb is not its name")
        new = name not in self.xorbs
        self.xorbs[name] = Xorb(data, offsets, chunks, hashes)
        return new

    def add_shard(self, data: bytes) -> dict[str, tuple[str, bytes]]:
        """
        Store all files of a shard or none.

        Returns:
            `dict[str, tuple[str, bytes]]`: Name and content of each file by its SHA-256.
        """
        accepted, contents = {}, {}
        for file_hash, terms, range_hashes, sha256 in read_shard(data):
            name, (chunks, hashes) = text_of(file_hash), self._chunks(terms)
            if keyed_hash(tree_hash(hashes, chunks), FILE_KEY) != file_hash:
                raise HubError(400, f"the chunks do not give the file {name}")
            position = 0
            for term, expected in zip(terms, range_hashes):
                count = term.end - term.start
                if keyed_hash(b"".join(hashes[position : position + count]), RANGE_KEY) != expected:
                    raise HubError(400, f"the chunks of a term do not give its hash, in the file {name}")
                position += count
            content = b"".join(chunks)
            if hashlib.sha256(content).hexdigest() != sha256:
                raise HubError(400, f"the content of the file {name} does not have the sha256 it was sent with")
            accepted[name], contents[sha256] = terms, (name, content)
        self.files.update(accepted)
        return contents

    def _chunks(self, terms: list[Term]) -> tuple[list[bytes], list[bytes]]:
        chunks, hashes = [], []
        for term in terms:
            xorb = self.xorbs.get(term.xorb)
            if xorb is None or not term.start < term.end <= len(xorb.chunks):
                raise HubError(400, f"chunks {term.start}-{term.end} of the xorb {term.xorb} were not uploaded")
            part = xorb.chunks[term.start : term.end]
            if sum(map(len, part)) != term.size:
                raise HubError(400, f"a term has another size than its chunks in the xorb {term.xorb}")
            chunks, hashes = chunks + part, hashes + xorb.hashes[term.start : term.end]
        return chunks, hashes

    def reconstruction(self, name: str, address, first: int = 0, last: int | None = None) -> dict:
        """
        Return how to assemble a file, or its bytes `first` to `last` (inclusive).

        Args:
            address (callable): Returns the address of a xorb by its name.
        """
        if name not in self.files:
            raise HubError(404, "no such file")
        terms, fetches, skipped, position = [], {}, 0, 0
        for term in self.files[name]:
            begin, position = position, position + term.size
            if position <= first or (last is not None and begin > last):
                continue
            if not terms:
                skipped = first - begin
            span = {"start": term.start, "end": term.end}
            offsets = self.xorbs[term.xorb].offsets
            terms.append({"hash": term.xorb, "unpacked_length": term.size, "range": span})
            fetch = {
                "range": span,
                "url": address(term.xorb),
                "url_range": {"start": offsets[term.start], "end": offsets[term.end] - 1},
            }
            if fetch not in fetches.setdefault(term.xorb, []):
                fetches[term.xorb].append(fetch)
        if not terms and first:
            raise HubError(416, "the range begins after the end of the file")
        return {"offset_into_first_range": skipped, "terms": terms, "fetch_info": fetches}


def unpack(data: bytes) -> tuple[list[int], list[bytes]]:
    """Return offsets (one more than chunks) and contents of a xorb's chunks; a footer follows the last chunk."""
    offsets, chunks, position = [0], [], 0
    while position + 8 <= len(data) and data[position] == 0 and data[position : position + 7] != b"XETBLOB":
        packed = int.from_bytes(data[position + 1 : position + 4], "little")
        scheme, size = data[position + 4], int.from_bytes(data[position + 5 : position + 8], "little")
        body = data[position + 8 : position + 8 + packed]
        try:
            chunk = body if scheme == 0 else pyarrow.decompress(body, size, codec="lz4", asbytes=True)
        except (OSError, ValueError) as error:
            raise HubError(400, f"chunk {len(chunks)} of the xorb does not unpack: {error}") from error
        chunk = _ungroup(chunk) if scheme == 2 else chunk
        if len(body) != packed or len(chunk) != size or scheme > 2:
            raise HubError(400, f"chunk {len(chunks)} of the xorb does not match its header")
        chunks.append(chunk)
        position += 8 + packed
        offsets.append(position)
    if not chunks:
        raise HubError(400, "the xorb holds no chunks")
    return offsets, chunks


def _ungroup(grouped: bytes) -> bytes:
    """Undo the grouping of bytes by position in each group of four."""
    source, size = np.frombuffer(grouped, np.uint8), len(grouped)
    result, position = np.empty(size, np.uint8), 0
    for place in range(4):
        count = (size + 3 - place) // 4
        result[place::4] = source[position : position + count]
        position += count
    return result.tobytes()


def read_shard(data: bytes):
    """Yield hash, terms, the terms' hashes and SHA-256 of every file in a shard."""
    if not data.startswith(SHARD_TAG):
        raise HubError(400, "this is not a shard")
    position = ENTRY

    def entry() -> bytes:
        nonlocal position
        position += ENTRY
        if position > len(data):
            raise HubError(400, "the shard is cut short")
        return data[position - ENTRY : position]

    while not (header := entry()).startswith(BOOKEND):
        flags, count = struct.unpack_from("<II", header, 32)
        terms = []
        for _ in range(count):
            row = entry()
            _, size, start, end = struct.unpack_from("<IIII", row, 32)
            terms.append(Term(text_of(row[:32]), size, start, end))
        if not flags & WITH_VERIFICATION or not flags & WITH_SHA256:
            raise HubError(400, "the shard names a file without verification or sha256")
        range_hashes = [entry()[:32] for _ in range(count)]
        yield header[:32], terms, range_hashes, text_of(entry()[:32])


def tree_hash(hashes: list[bytes], chunks: list[bytes]) -> bytes:
    """Return the root over chunks: a node ends after at least three children, at a hash divisible by four, or at nine children."""
    nodes = [(name, len(chunk)) for name, chunk in zip(hashes, chunks)]
    while len(nodes) > 1:
        parents = []
        while nodes:
            end = min(2 * BRANCHES + 1, len(nodes))
            cuts = (i + 1 for i in range(2, end) if int.from_bytes(nodes[i][0][24:], "little") % BRANCHES == 0)
            end = next(cuts, end)
            lines = "".join(f"{text_of(name)} : {size}\n" for name, size in nodes[:end])
            parents.append((keyed_hash(lines.encode(), NODE_KEY), sum(size for _, size in nodes[:end])))
            nodes = nodes[end:]
        nodes = parents
    return nodes[0][0] if nodes else bytes(32)


def text_of(name: bytes) -> str:
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", name))
