"""A model's vocabulary as the grammar sees it: byte strings in a trie, and slices of plain string content.

A token made only of plain string content (valid UTF-8 from a character's start; no quote, backslash or control
character) is legal in every unconstrained string, so those tokens are precomputed as bit rows by character count and
only the few others are walked. Special and padding ids are b"" and never legal; end ids are legal where a text may end.
A special token that is named to the vocabulary is spelled with a byte that no text contains: only a grammar that asks
for it by name allows it.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from grammar.errors import GrammarError
from grammar.kernels import fixed
from grammar.plain import records
from grammar.sealed import seal, unseal
from grammar.trie import Int32, Trie, build_trie, pure_subtrees, restored_trie

_TABLES_VERSION: Final = 2
_TRIES: Final = ("trie", "special_trie", "ending_trie", "plain_trie", "structural_trie")

_STRUCTURAL: Final = b'{}[]",:-+.0123456789eEtrufalsn \n\t'
"""The bytes of JSON outside of strings."""
_NUMBER: Final = re.compile(rb"-?[0-9]*(?:\.[0-9]*)?(?:[eE]?[+-]?[0-9]*)?")
"""A part of a number, or nothing."""
MOST_ENDINGS: Final = 4
"""Tokens are parted by the plain characters that they begin with up to so many."""
_MARK: Final = b"\xff"


def special_spelling(name: str) -> bytes:
    """How a special token is spelled in automata: no UTF-8 text contains the first byte."""
    return _MARK + name.encode()


class Vocabulary:
    """Tokens by id. Immutable; the derived arrays are built at first use and shared by all grammars."""

    def __init__(
        self, tokens: Sequence[bytes], eos_token_ids: Sequence[int], special_tokens: Mapping[str, int] | None = None
    ) -> None:
        """`special_tokens` names special ids (b"" among `tokens`) that tool calls and tags may ask for."""
        spelled = [bytes(token) for token in tokens]
        self.special_tokens = MappingProxyType(dict(special_tokens or {}))
        for name, token_id in self.special_tokens.items():
            if not 0 <= token_id < len(spelled) or spelled[token_id]:
                raise ValueError(
                    f"special token {name!r} has the id of a token that spells text, or of none: {token_id}"
                )
            spelled[token_id] = special_spelling(name)
        self.tokens: tuple[bytes, ...] = tuple(spelled)
        self.eos_token_ids: tuple[int, ...] = tuple(dict.fromkeys(int(i) for i in eos_token_ids))
        self._endings: dict[tuple[int, int | None], Trie] = {}
        self._is_prepared = False
        self.size = len(self.tokens)
        self.words = (self.size + 31) // 32
        for token_id in self.eos_token_ids:
            if not 0 <= token_id < self.size:
                raise ValueError(f"end token id {token_id} is outside the vocabulary of {self.size}")

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of the content: the same for equal vocabularies, whatever the process."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(np.array([len(t) for t in self.tokens], np.int64).tobytes())
        digest.update(b"".join(self.tokens))
        digest.update(np.array(self.eos_token_ids, np.int64).tobytes())
        return digest.hexdigest()

    def prepare(self) -> None:
        """Build the arrays that masks are made with: seconds for a large vocabulary, once, and not within a mask."""
        if not self._is_prepared:
            _ = (
                self.trie,
                self.structural_trie,
                self.special_trie,
                self.slices,
                self.plain,
                self.spelled,
                self.number_run,
            )
            for length in range(MOST_ENDINGS):
                _ = self.endings(length), self.endings_from(length)
            self._is_prepared = True

    def tables_to_bytes(self) -> bytes:
        """The derived arrays (tries, slices), for a disk: building them takes seconds for a large vocabulary."""
        tries = {name: [a.tobytes() for a in getattr(self, name).arrays] for name in _TRIES}
        longest = {name: getattr(self, name).longest for name in _TRIES}
        rows = self.slices
        content = (self.fingerprint, tries, longest, rows.shape[0], rows.tobytes(), self._plain_characters.tobytes())
        return seal(b"vocabulary", _TABLES_VERSION, msgspec.msgpack.encode(content))

    def use_tables(self, data: bytes) -> None:
        """Take the arrays that `tables_to_bytes` wrote for an equal vocabulary; GrammarError if they are not those."""
        content = msgspec.msgpack.decode(unseal(b"vocabulary", _TABLES_VERSION, data))
        fingerprint, tries, longest, count, rows, plain = content
        if fingerprint != self.fingerprint:
            raise GrammarError("these tables were made for another vocabulary")
        for name in _TRIES:
            self.__dict__[name] = restored_trie(tries[name], longest[name])
        self.__dict__["slices"] = np.frombuffer(rows, np.int32).reshape(count, -1)
        self.__dict__["_plain_characters"] = np.frombuffer(plain, np.int32)

    @cached_property
    def spelling_ids(self) -> list[int]:
        """Ids of tokens that spell text or are special by name: neither empty nor end tokens."""
        unusual = set(self.eos_token_ids)
        if self.special_tokens:
            # A piece of a special spelling is none.
            named = set(self.special_tokens.values())
            unusual |= {i for i, token in enumerate(self.tokens) if _MARK in token and i not in named}
        return [i for i, token in enumerate(self.tokens) if token and i not in unusual]

    @cached_property
    def trie(self) -> Trie:
        """All tokens that spell text."""
        return build_trie(self.tokens, self.spelling_ids, self.size)

    @cached_property
    def structural_trie(self) -> Trie:
        """The tokens that can come outside of JSON strings: up to a quote they are punctuation, numbers and words."""
        ids = [i for i in self.spelling_ids if not self.tokens[i].partition(b'"')[0].strip(_STRUCTURAL)]
        return build_trie(self.tokens, ids, self.size)

    @cached_property
    def number_run(self) -> int:
        """The most bytes with which a token can go on in a number."""
        return max((len(_NUMBER.match(token)[0]) for token in self.tokens), default=0)  # type: ignore[index]

    @cached_property
    def special_trie(self) -> Trie:
        """The tokens that are in no slice: they can leave a string, escape in it, or begin inside a character."""
        plain = self._plain_characters
        return build_trie(self.tokens, [i for i in self.spelling_ids if plain[i] == 0], self.size)

    @cached_property
    def plain_trie(self) -> Trie:
        """The other tokens, those of plain content, which only a string's own automaton judges."""
        plain = self._plain_characters
        return build_trie(self.tokens, [i for i in self.spelling_ids if plain[i]], self.size)

    @cached_property
    def plain(self) -> tuple[Int32, Int32, Int32, int]:
        """What a walk of plain content is given: a record for each node of `plain_trie`, what `content` says."""
        trie = self.plain_trie
        nodes = records(trie.byte, trie.end, trie.token, trie.depth, fixed(self._plain_characters))
        return fixed(nodes), trie.same, trie.tops, trie.longest

    @cached_property
    def ending_trie(self) -> Trie:
        """The special tokens without the plain content that they begin with, for states that such content leaves alone.

        Thousands of tokens differ only in what comes before the quote: here they hang on one node.
        """
        return self._endings_trie(0, None)

    def endings(self, length: int) -> Trie:
        """Of these, the tokens that begin with so many plain characters."""
        found = self._endings.get((length, length))
        if found is None:
            found = self._endings[length, length] = self._endings_trie(length, length)
        return found

    def endings_from(self, least: int) -> Trie:
        """Of these, the tokens that begin with at least so many plain characters."""
        if least == 0:
            return self.ending_trie
        found = self._endings.get((least, None))
        if found is None:
            found = self._endings[least, None] = self._endings_trie(least, None)
        return found

    def _endings_trie(self, least: int, most: int | None) -> Trie:
        endings, ids = self._parted, []
        for i, (length, _) in endings.items():
            if length >= least and (most is None or length <= most):
                ids.append(i)
        spelled = [b""] * self.size
        for i in ids:
            spelled[i] = endings[i][1]
        return build_trie(spelled, ids, self.size)

    @cached_property
    def _parted(self) -> dict[int, tuple[int, bytes]]:
        """By special token that plain content may precede: the characters of that content, and the rest."""
        found = {}
        for i in self.spelling_ids:
            if self._plain_characters[i] == 0:
                ending = _ending(self.tokens[i])
                if ending:
                    found[i] = _plain_length(self.tokens[i][: len(self.tokens[i]) - len(ending)]), ending
        return found

    @cached_property
    def settled_row(self) -> Int32:
        """The tokens of plain string content that end with a whole character: a free string state stays on them."""
        bits = np.zeros(self.words * 32, np.bool_)
        bits[self._settled] = True
        return np.packbits(bits, bitorder="little").view(np.int32)

    @cached_property
    def settled_lengths(self) -> list[tuple[int, Int32]]:
        """(characters, the settled tokens of so many) for each length that there is, ascending."""
        plain, found = self._plain_characters[self._settled], []
        for length in np.unique(plain).tolist():
            bits = np.zeros(self.words * 32, np.bool_)
            bits[np.array(self._settled)[plain == length]] = True
            found.append((length, np.packbits(bits, bitorder="little").view(np.int32)))
        return found

    @cached_property
    def pure(self) -> npt.NDArray[np.bool_]:
        """[node]: whether all tokens in the subtree of this node of `trie` are settled."""
        settled = np.zeros(self.size, np.bool_)
        settled[self._settled] = True
        return pure_subtrees(self.trie.end, self.trie.token, self.trie.same, settled)

    @cached_property
    def unsettled_trie(self) -> Trie:
        """All other tokens."""
        settled = set(self._settled)
        return build_trie(self.tokens, [i for i in self.spelling_ids if i not in settled], self.size)

    @cached_property
    def _settled(self) -> list[int]:
        plain = self._plain_characters
        return [i for i in self.spelling_ids if plain[i] and _is_whole(self.tokens[i])]

    @cached_property
    def slices(self) -> npt.NDArray[np.int32]:
        """Row n: the tokens of plain string content with at most n characters (an unfinished one counts)."""
        plain = self._plain_characters
        longest = max(1, int(plain.max(initial=0)))
        bits = np.zeros((longest + 1, self.words * 32), np.bool_)
        for count in range(1, longest + 1):
            bits[count, : self.size] = (plain > 0) & (plain <= count)
        return np.packbits(bits, axis=1, bitorder="little").view(np.int32)

    @cached_property
    def spelled(self) -> tuple[npt.NDArray[np.uint8], list[int]]:
        """All tokens' bytes in one array, and where each begins (with one more entry for the end)."""
        starts = [0, *np.cumsum([len(token) for token in self.tokens]).tolist()]
        return np.frombuffer(b"".join(self.tokens), np.uint8), starts

    @cached_property
    def eos_row(self) -> Int32:
        """The end tokens as a bit row."""
        bits = np.zeros(self.words * 32, np.bool_)
        bits[list(self.eos_token_ids)] = True
        return np.packbits(bits, bitorder="little").view(np.int32)

    @cached_property
    def single_bytes(self) -> dict[bytes, int]:
        """The tokens of one byte."""
        return {self.tokens[i]: i for i in self.spelling_ids if len(self.tokens[i]) == 1}

    @cached_property
    def lacking_bytes(self) -> frozenset[int]:
        """The bytes that UTF-8 text can hold and that are no token."""
        return frozenset(
            byte for byte in range(0xF5) if byte not in (0xC0, 0xC1) and bytes([byte]) not in self.single_bytes
        )

    @cached_property
    def has_every_byte(self) -> bool:
        """Whether every byte that UTF-8 text can hold is a token: then whatever is legal can be spelled."""
        return not self.lacking_bytes

    @cached_property
    def _plain_characters(self) -> npt.NDArray[np.int32]:
        """Characters of each plain token; 0 for the others."""
        counts = np.zeros(self.size, np.int32)
        for i in self.spelling_ids:
            counts[i] = _plain_length(self.tokens[i])
        return counts


def _ending(token: bytes) -> bytes:
    """The token from its first quote or backslash on; empty if text cannot go on with what comes before."""
    at = next((i for i, b in enumerate(token) if b in (0x22, 0x5C)), len(token))
    return token[at:] if at == 0 or (_plain_length(token[:at]) and _is_whole(token[:at])) else b""


def _is_whole(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _plain_length(token: bytes) -> int:
    if any(b < 0x20 or b in (0x22, 0x5C) for b in token):
        return 0
    try:
        return len(token.decode("utf-8"))
    except UnicodeDecodeError as error:
        # An unfinished last character is fine if some continuation finishes it.
        if error.reason != "unexpected end of data" or error.end != len(token):
            return 0
        return len(token[: error.start].decode("utf-8")) + 1
