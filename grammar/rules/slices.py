"""Terminals that go on as they are, such as names, numbers and quoted text: most of a vocabulary decided by two bytes.

Behind its first byte, or its second, such a terminal stays in one state for a whole set of bytes. A token whose bytes
from the second on are all in the set is then legal if its first two bytes lead into that state: a lookup by pairs of
bytes. Only the other tokens are walked, and of these tokens those whose first two bytes lead elsewhere.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from grammar.kernels import kernel
from grammar.lexical import Dfa
from grammar.trie import Trie, part_of
from grammar.vocabulary import Vocabulary

FEWEST_BYTES: Final = 24
MOST_SETS: Final = 3
"""Of the sets of a grammar so many are used, the largest first."""
MOST_KEPT: Final = 6

Bools = npt.NDArray[np.bool_]
Uint8 = npt.NDArray[np.uint8]
Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """The tokens of one vocabulary, parted by one set of bytes."""

    within: Bools
    """(256,): the set."""
    ids: npt.NDArray[np.int64]
    """Tokens of at least two bytes, all but the first in the set."""
    pairs: npt.NDArray[np.int64]
    """Their first two bytes, as one number."""
    trie: Trie
    """These tokens."""
    seconds: npt.NDArray[np.int64]
    """[first * 256 + second]: the node of these two bytes in `trie`, or -1."""
    rest: Trie
    """All others."""

    def row(self, good: Bools, words: int) -> npt.NDArray[np.int32]:
        """The mask of the tokens whose first two bytes are `good`, (65536,)."""
        bits = np.zeros(32 * words, np.bool_)
        bits[self.ids[good[self.pairs]]] = True
        return np.packbits(bits, bitorder="little").view(np.int32)


def loops(languages: Iterable[Dfa]) -> list[bytes]:
    """The sets of bytes that some state of these languages stays under, the largest first."""
    found: dict[bytes, int] = {}
    for language in languages:
        stays = (language.table == np.arange(language.states, dtype=np.int32)[:, None])[:, language.classes]
        for row in stays[np.count_nonzero(stays, axis=1) >= FEWEST_BYTES]:
            within = bytes(np.flatnonzero(row).tolist())
            found[within] = len(within)
    return sorted(found, key=lambda within: (-found[within], within))[:MOST_SETS]


@lru_cache(maxsize=MOST_KEPT)
def slice_of(vocabulary: Vocabulary, within: bytes) -> Slice:
    """The slice of a vocabulary by a set of bytes; kept, for many grammars have the same."""
    whole, inside = vocabulary.trie, _bits(within)
    pair_of = _pairs(*whole.arrays, inside)
    ids = np.flatnonzero(pair_of >= 0)
    trie, rest = part_of(whole, pair_of >= 0), part_of(whole, pair_of < 0)
    return Slice(inside, ids, pair_of[ids], trie, _seconds(trie.byte, trie.depth), rest)


@kernel
def _pairs(byte: Uint8, end: Int32, token: Int32, depth: Int32, same: Int32, inside: Bools) -> npt.NDArray[np.int64]:
    """[token]: its first two bytes, if it has two and all but the first are inside; else -1."""
    found = np.full(same.shape[0], -1, np.int64)
    first, second, node = 0, 0, 0
    while node < byte.shape[0]:
        if depth[node] == 1:
            first = byte[node]
            node += 1
            continue
        if not inside[byte[node]]:
            node = end[node]
            continue
        if depth[node] == 2:
            second = byte[node]
        t = token[node]
        while t >= 0:
            found[t] = first * 256 + second
            t = same[t]
        node += 1
    return found


@kernel
def _seconds(byte: Uint8, depth: Int32) -> npt.NDArray[np.int64]:
    """[first * 256 + second]: the node of these two bytes, or -1."""
    found = np.full(1 << 16, -1, np.int64)
    first = 0
    for node in range(byte.shape[0]):
        if depth[node] == 1:
            first = byte[node]
        elif depth[node] == 2:
            found[first * 256 + byte[node]] = node
    return found


def _bits(within: Sequence[int]) -> Bools:
    found = np.zeros(256, np.bool_)
    found[list(within)] = True
    return found
