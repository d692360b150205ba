"""
Tokens of a BPE vocabulary that a language needs, and the tokenizer without the others.

Byte pair encoding merges the pieces of a token in an order that depends only on the token. So a text is split as before if all its tokens
are kept, with every piece from which they are built; see [`BpeTokenizer.with_pieces`].
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
    Check whether a token of complete characters is kept.

    These are tokens in the letters of the language, single letters of European scripts, punctuation, symbols, digits from 0 to 9 and
    frequent Latin.

    Args:
        text (`str`): Text of the token, without spaces.
        token_id (`int`): Its id in the full vocabulary. BPE learns frequent tokens first, so a low id is a frequent token.
        latin_cutoff (`int`): Tokens of several Latin letters are kept if their id is below this.
        letters (`frozenset[str]`): See [`~preferans.models.letters.letters_of`].
    """
    if any(character in letters for character in text) and all(
        character in letters or not character.isalnum() or character.isdecimal() for character in text
    ):
        return True
    if len(text) <= 1:
        return not text.isalpha() or text < "\u0530"  # Latin, Greek and Cyrillic letters are below
    if all(not character.isalnum() or character in "0123456789" for character in text):
        return True
    return text.isascii() and token_id < latin_cutoff


@functools.cache
def _character_pieces(letters: frozenset[str]) -> tuple[frozenset[bytes], frozenset[bytes], frozenset[bytes]]:
    """Return starts, middles and ends of the UTF-8 bytes of the language's letters and of signs."""
    starts, middles, ends = set[bytes](), set[bytes](), set[bytes]()
    for code in range(0x80, sys.maxunicode + 1):
        character = chr(code)
        if character in letters or _is_sign(character):
            encoded = character.encode()
            starts.update(encoded[:length] for length in range(1, len(encoded)))
            ends.update(encoded[length:] for length in range(1, len(encoded)))
            middles.add(encoded[1:3])
    return frozenset(starts), frozenset(middles), frozenset(ends)


def keeps_bytes(token: bytes, token_id: int, latin_cutoff: int, letters: frozenset[str]) -> bool:
    """
    Check whether a token of a byte-level vocabulary is kept, which can start or end within a character.

    These are single bytes, and tokens whose complete characters are kept by [`keeps_text`] while the rest can belong to a letter of the
    language or to a symbol.

    Args:
        token (`bytes`): UTF-8 bytes of the token.
        token_id (`int`), latin_cutoff (`int`), letters (`frozenset[str]`): See [`keeps_text`].
    """
    if len(token) == 1:
        return True
    starts, middles, ends = _character_pieces(letters)
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
        if rest not in starts:
            return False
    return keeps_text(text.replace(" ", ""), token_id, latin_cutoff, letters)


@dataclasses.dataclass
class BpeTokenizer:
    """
    A BPE tokenizer as in `tokenizer.json`.

    Args:
        spec (`dict`): Content of `tokenizer.json`.
        byte_level (`bool`):
            Whether tokens are in GPT-2's alphabet of bytes (GPT-2, Llama 3, Qwen), or in characters with `▁` for a space and `<0xD0>`
            for bytes of unknown characters (Gemma).
    """

    spec: dict[str, Any]
    byte_level: bool

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, name: str) -> "BpeTokenizer":
        """
        Read a loaded tokenizer.

        Raises:
            [`PreferansError`]: if this kind of tokenizer cannot be trimmed without splitting texts differently.
        """
        if not tokenizer.is_fast:
            raise PreferansError(
                f"{name}: its tokenizer has no tokenizer.json, and none can be created. Use a model that has one."
            )
        spec = json.loads(tokenizer.backend_tokenizer.to_str())
        model = spec["model"]
        if model["type"] != "BPE":
            raise PreferansError(
                f"{name}: its tokenizer has the type {model['type']}, but only byte pair encoding (BPE: Llama 3, Gemma, GPT-2, Qwen) can be "
                "trimmed and still split texts as before. Train with the full vocabulary."
            )
        if not model["merges"]:
            raise PreferansError(
                f"{name}: it has no tokenizer: neither tokenizer.json nor vocab.json with merges.txt. Download the model again with these "
                "files."
            )
        byte_level = any(part["type"] == "ByteLevel" for part in _parts(spec, "pre_tokenizer"))
        if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
            raise PreferansError(
                f"{name}: its BPE tokens have marks of the start or end of a word, which are not supported."
            )
        if not byte_level and not model["byte_fallback"]:
            raise PreferansError(
                f"{name}: its tokenizer has no byte fallback, so texts in other languages would be lost."
            )
        for part in _parts(spec, "post_processor"):
            if part["type"] not in ("ByteLevel", "TemplateProcessing"):
                raise PreferansError(
                    f"{name}: the post-processor {part['type']} of its tokenizer is not supported; only TemplateProcessing is."
                )
        return cls(spec, byte_level)

    @functools.cached_property
    def numbers(self) -> dict[str, int]:
        """Ids of all tokens. Added tokens outside the BPE vocabulary come last."""
        added = {token["content"]: token["id"] for token in self.spec["added_tokens"]}
        return dict(sorted(self.spec["model"]["vocab"].items(), key=lambda item: item[1])) | added

    def keeps(self, latin_cutoff: int, letters: frozenset[str]) -> set[str]:
        """Return the tokens that are kept for any corpus: of the language, all bytes, and all added ones except placeholders."""
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
        """Return the tokens with every piece from which the merges build them."""
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
            # Tokens that the merges do not reach have another origin, such as bytes, or complete words with `ignore_merges`.
            if len(pieces) == 1:
                complete |= built & vocabulary.keys()
        return complete

    def cut(self, kept: set[str]) -> tuple["BpeTokenizer", list[int]]:
        """
        Remove all tokens except `kept`, which includes their pieces.

        Returns:
            `tuple[BpeTokenizer, list[int]]`: the new tokenizer, and the old id of each of its tokens.
        """
        old = {token: number for token, number in self.numbers.items() if token in kept}
        new = {token: number for number, token in enumerate(old)}
        spec = json.loads(json.dumps(self.spec))
        model = spec["model"]
        model["vocab"] = {token: number for token, number in new.items() if token in model["vocab"]}
        # A merge is kept only if both of its parts and its result are.
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
    """Return a component of a tokenizer, or the components of a sequence, as a list."""
    part = spec[key]
    if part is None:
        return []
    return part.get("pretokenizers", part.get("processors", [])) if part["type"] == "Sequence" else [part]


@functools.cache
def _byte_of() -> dict[str, int]:
    return {character: byte for byte, character in bytes_to_unicode().items()}


def _in_bytes(token: str) -> bytes | None:
    """Return the bytes of a token in GPT-2's alphabet, or `None` if it is not in this alphabet."""
    try:
        return bytes(_byte_of()[character] for character in token)
    except KeyError:
        return None
