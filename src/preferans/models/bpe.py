"""
Which tokens of a BPE vocabulary a language needs, and the tokenizer without the others.

Byte pair encoding merges the pieces of a token in an order that nothing outside the token changes. So a text is split as before
when each of its tokens stays, with every piece that leads to it; [`BpeTokenizer.with_pieces`] sees to the latter.
"""

import dataclasses
import functools
import json
import re
import sys
from collections.abc import Iterable
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from ..errors import PreferansError
from .letters import _is_sign

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_PLACEHOLDER = re.compile(r"<unused\d+>|\[multimodal\]")


def keeps_text(text: str, token_id: int, latin_cutoff: int, letters: frozenset[str]) -> bool:
    """
    Whether a token that stands for whole characters stays.

    Args:
        text (`str`):
            What the token stands for, without spaces.
        token_id (`int`):
            Its number in the full vocabulary: BPE learns frequent tokens first, so a low number is a frequent token.
        latin_cutoff (`int`):
            Tokens of several Latin letters stay when their number is below this.
        letters (`frozenset[str]`):
            See [`letters_of`].

    Returns:
        `bool`: `True` for anything in the letters of the language, single letters of European scripts, punctuation, symbols,
        digits from 0 to 9 and frequent Latin.
    """
    if any(character in letters for character in text) and all(
        character in letters or not character.isalnum() or character.isdecimal() for character in text
    ):
        return True
    if len(text) <= 1:
        return not text.isalpha() or text < "\u0530"  # below: Latin, Greek and Cyrillic letters
    if all(not character.isalnum() or character in "0123456789" for character in text):
        return True
    return text.isascii() and token_id < latin_cutoff


@functools.cache
def _character_pieces(letters: frozenset[str]) -> tuple[frozenset[bytes], frozenset[bytes], frozenset[bytes]]:
    """Beginnings, middles and ends of the UTF-8 bytes of letters of the language and of what is no letter or digit."""
    beginnings, middles, ends = set(), set(), set()
    for code in range(0x80, sys.maxunicode + 1):
        character = chr(code)
        if character in letters or _is_sign(character):
            encoded = character.encode()
            beginnings.update(encoded[:length] for length in range(1, len(encoded)))
            ends.update(encoded[length:] for length in range(1, len(encoded)))
            middles.add(encoded[1:3])
    return frozenset(beginnings), frozenset(middles), frozenset(ends)


def keeps_bytes(token: bytes, token_id: int, latin_cutoff: int, letters: frozenset[str]) -> bool:
    """
    Whether a token of a byte-level vocabulary stays: one that may begin or end within a character.

    Args:
        token (`bytes`):
            Bytes of UTF-8 that the token stands for.
        token_id (`int`), latin_cutoff (`int`), letters (`frozenset[str]`):
            See [`keeps_text`].

    Returns:
        `bool`: `True` for single bytes, and where the whole characters stay by [`keeps_text`] and the rest can belong to a letter
        of the language or to a symbol.
    """
    if len(token) == 1:
        return True
    beginnings, middles, ends = _character_pieces(letters)
    body = token.lstrip(bytes(range(0x80, 0xC0)))
    end_of_character = token[: len(token) - len(body)]
    if not body:
        return token in ends or token in middles
    if end_of_character and end_of_character not in ends:
        return False
    try:
        text, rest = body.decode(), b""
    except UnicodeDecodeError as error:
        text, rest = body[: error.start].decode(), body[error.start :]
        if rest not in beginnings:
            return False
    return keeps_text(text.replace(" ", ""), token_id, latin_cutoff, letters)


@dataclasses.dataclass
class BpeTokenizer:
    """
    A BPE tokenizer as `tokenizer.json` describes it.

    Args:
        spec (`dict`):
            Content of `tokenizer.json`.
        byte_level (`bool`):
            Whether tokens are written in GPT-2's alphabet of bytes (GPT-2, Llama 3, Qwen), or in characters with `▁` for a space
            and `<0xD0>` for bytes of unknown characters (Gemma).
    """

    spec: dict[str, Any]
    byte_level: bool

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, name: str) -> "BpeTokenizer":
        """
        Read a loaded tokenizer.

        Raises:
            [`PreferansError`]: when it is of a kind that cannot be cut without changing how texts are split.
        """
        if not tokenizer.is_fast:
            raise PreferansError(
                f"{name}: its tokenizer has no tokenizer.json and none can be made. Take a model that has one."
            )
        spec = json.loads(tokenizer.backend_tokenizer.to_str())
        model = spec["model"]
        if model["type"] != "BPE":
            raise PreferansError(
                f"{name}: its tokenizer is of the kind {model['type']}, and only byte pair encoding (BPE: Llama 3, Gemma, GPT-2, Qwen) "
                "can be cut: there a text is split as before when its tokens stay. Train with the full vocabulary."
            )
        if not model["merges"]:
            raise PreferansError(
                f"{name}: there is no tokenizer in it: neither tokenizer.json nor vocab.json with merges.txt. Download the model "
                "anew with these files."
            )
        byte_level = any(part["type"] == "ByteLevel" for part in _parts(spec, "pre_tokenizer"))
        if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
            raise PreferansError(
                f"{name}: its BPE tokens carry marks of the beginning or end of a word, which is not supported."
            )
        if not byte_level and not model["byte_fallback"]:
            raise PreferansError(
                f"{name}: its tokenizer cannot write unknown characters as bytes, so texts outside the language would be lost."
            )
        for part in _parts(spec, "post_processor"):
            if part["type"] not in ("ByteLevel", "TemplateProcessing"):
                raise PreferansError(
                    f"{name}: the post-processor {part['type']} of its tokenizer is not supported; TemplateProcessing is."
                )
        return cls(spec, byte_level)

    @functools.cached_property
    def numbers(self) -> dict[str, int]:
        """Number of every token. Added tokens that are no part of the BPE vocabulary come last."""
        added = {token["content"]: token["id"] for token in self.spec["added_tokens"]}
        return dict(sorted(self.spec["model"]["vocab"].items(), key=lambda item: item[1])) | added

    def keeps(self, latin_cutoff: int, letters: frozenset[str]) -> set[str]:
        """Tokens that stay whatever the corpus: those of the language, all bytes and all added ones but placeholders."""
        added = {token["content"] for token in self.spec["added_tokens"]}
        always = {content for content in added if not _PLACEHOLDER.fullmatch(content)}
        always.add(self.spec["model"].get("unk_token"))
        kept = set()
        for token, number in self.numbers.items():
            if token in added:
                keep = token in always
            elif self.byte_level:
                content = _in_bytes(token)
                keep = content is None or keeps_bytes(content, number, latin_cutoff, letters)
            elif _BYTE.fullmatch(token):
                keep = True
            else:
                keep = keeps_text(token.replace("▁", ""), number, latin_cutoff, letters)
            if keep or token in always:
                kept.add(token)
        return kept

    def with_pieces(self, tokens: Iterable[str]) -> set[str]:
        """Tokens, and every piece from which the merges build one of them."""
        ranks: dict[tuple[str, str], int] = {}
        for rank, (left, right) in enumerate(self.spec["model"]["merges"]):
            ranks.setdefault((left, right), rank)
        vocabulary = self.spec["model"]["vocab"]
        complete = set(tokens)
        for token in complete & vocabulary.keys():
            pieces, built = list(token), set(token)
            while len(pieces) > 1:
                pairs = ((ranks.get((pieces[i], pieces[i + 1]), len(ranks)), i) for i in range(len(pieces) - 1))
                rank, i = min(pairs)
                if rank == len(ranks):
                    break
                pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]
                built.add(pieces[i])
            # What the merges do not arrive at comes from elsewhere, such as a byte, or a whole word with `ignore_merges`.
            if len(pieces) == 1:
                complete |= built & vocabulary.keys()
        return complete

    def cut(self, kept: set[str]) -> tuple["BpeTokenizer", list[int]]:
        """
        Leave out all other tokens.

        Args:
            kept (`set[str]`):
                Tokens to keep, with their pieces.

        Returns:
            `tuple[BpeTokenizer, list[int]]`: the new tokenizer, and the old number of each of its tokens.
        """
        old = {token: number for token, number in self.numbers.items() if token in kept}
        new = {token: number for number, token in enumerate(old)}
        spec = json.loads(json.dumps(self.spec))
        model = spec["model"]
        model["vocab"] = {token: number for token, number in new.items() if token in model["vocab"]}
        # A merge can stay only if both of its parts and its result do.
        model["merges"] = [(a, b) for a, b in model["merges"] if a in new and b in new and a + b in new]
        spec["added_tokens"] = [
            token | {"id": new[token["content"]]} for token in spec["added_tokens"] if token["content"] in new
        ]
        for part in _parts(spec, "post_processor"):
            for special in part.get("special_tokens", {}).values():
                special["ids"] = [new[token] for token in special["tokens"]]
        if spec.get("padding"):
            spec["padding"]["pad_id"] = new[spec["padding"]["pad_token"]]
        return BpeTokenizer(spec, self.byte_level), list(old.values())


def _parts(spec: dict, key: str) -> list[dict]:
    """A component of a tokenizer, or the components of a sequence."""
    part = spec[key]
    if part is None:
        return []
    return part.get("pretokenizers", part.get("processors", [])) if part["type"] == "Sequence" else [part]


@functools.cache
def _byte_of() -> dict[str, int]:

    return {character: byte for byte, character in bytes_to_unicode().items()}


def _in_bytes(token: str) -> bytes | None:
    """Bytes of a token in GPT-2's alphabet, or `None` for a token that is not written in it."""
    try:
        return bytes(_byte_of()[character] for character in token)
    except KeyError:
        return None
