"""The token trie as flat arrays in preorder, so that a compiled walk skips a dead subtree with one assignment.

Node 0 is the first child of the (implicit) root. `end[n]` is the first node after n's subtree, `depth[n]` counts bytes
from 1, `token[n]` is one token spelled by the path to n (or -1); further tokens with the same bytes hang on `same`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from grammar.kernels import fixed, kernel

Int32 = npt.NDArray[np.int32]
Uint8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Trie:
    """Preorder arrays over a set of tokens; `same[t]` is the next token with t's bytes, or -1."""

    byte: Uint8
    end: Int32
    token: Int32
    depth: Int32
    same: Int32
    tops: Int32
    """(256,): the node of each byte that a token begins with, or -1."""
    longest: int
    arrays: tuple[Uint8, Int32, Int32, Int32, Int32] = field(init=False)
    """What every walk is given, in its order."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "arrays", (self.byte, self.end, self.token, self.depth, self.same))

    @property
    def nbytes(self) -> int:
        """Bytes held by the arrays."""
        return (
            self.tops.nbytes
            + self.byte.nbytes
            + self.end.nbytes
            + self.token.nbytes
            + self.depth.nbytes
            + self.same.nbytes
        )


def build_trie(tokens: Sequence[bytes], ids: Sequence[int], size: int) -> Trie:
    """The trie of `tokens[i]` for i in `ids`, none of them empty; `size` is the number of all token ids."""
    order = sorted(ids, key=lambda i: tokens[i])
    text = np.frombuffer(b"".join([tokens[i] for i in order]), dtype=np.uint8)
    lengths = np.array([len(tokens[i]) for i in order], dtype=np.int64)
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    same = np.full(size, -1, np.int32)
    byte, end, token, depth = _preorder(text, starts, np.array(order, dtype=np.int32), same)
    longest = int(lengths.max()) if order else 0
    return Trie(fixed(byte), fixed(end), fixed(token), fixed(depth), fixed(same), _tops(byte, end), longest)


def restored_trie(arrays: Sequence[bytes], longest: int) -> Trie:
    """The trie whose `arrays` these are, as bytes. They stay read-only."""
    byte = np.frombuffer(arrays[0], np.uint8)
    end, token, depth, same = (np.frombuffer(each, np.int32) for each in arrays[1:])
    return Trie(byte, end, token, depth, same, _tops(byte, end), longest)


@kernel
def pure_subtrees(end: Int32, token: Int32, same: Int32, chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """[node]: whether all tokens in the node's subtree are among the chosen ones."""
    pure = np.ones(end.shape[0], np.bool_)
    for node in range(end.shape[0] - 1, -1, -1):
        t = token[node]
        while t >= 0:
            pure[node] &= chosen[t]
            t = same[t]
        child = node + 1
        while child < end[node]:
            pure[node] &= pure[child]
            child = end[child]
    return pure


def part_of(trie: Trie, chosen: npt.NDArray[np.bool_]) -> Trie:
    """The trie of some of a trie's tokens; tokens of the same bytes are chosen together."""
    byte, end, token, depth = _chosen_part(*trie.arrays[:4], fixed(chosen))
    longest = int(depth.max()) if len(depth) else 0
    return Trie(fixed(byte), fixed(end), fixed(token), fixed(depth), trie.same, _tops(byte, end), longest)


@kernel
def _chosen_part(
    byte: Uint8, end: Int32, token: Int32, depth: Int32, chosen: npt.NDArray[np.bool_]
) -> tuple[Uint8, Int32, Int32, Int32]:
    """The nodes on the way to a chosen token, in the same order."""
    count = byte.shape[0]
    kept = np.zeros(count + 1, np.int32)
    for node in range(count - 1, -1, -1):
        if token[node] >= 0 and chosen[token[node]]:
            kept[node] = 1
        child = node + 1
        while child < end[node] and kept[node] == 0:
            kept[node] = kept[child]
            child = end[child]
    number = np.zeros(count + 1, np.int32)
    for node in range(count):
        number[node + 1] = number[node] + kept[node]
    total = number[count]
    bytes_, ends = np.zeros(total, np.uint8), np.zeros(total, np.int32)
    tokens, depths = np.full(total, -1, np.int32), np.zeros(total, np.int32)
    for node in range(count):
        if kept[node]:
            at = number[node]
            bytes_[at], depths[at], ends[at] = byte[node], depth[node], number[end[node]]
            if token[node] >= 0 and chosen[token[node]]:
                tokens[at] = token[node]
    return bytes_, ends, tokens, depths


def _tops(byte: Uint8, end: Int32) -> Int32:
    tops = np.full(256, -1, np.int32)
    node = 0
    while node < len(byte):
        tops[byte[node]] = node
        node = int(end[node])
    return tops


@kernel
def _preorder(
    text: Uint8, starts: npt.NDArray[np.int64], order: Int32, same: Int32
) -> tuple[Uint8, Int32, Int32, Int32]:
    count = order.shape[0]
    total = text.shape[0]
    byte = np.zeros(total, np.uint8)
    end = np.zeros(total, np.int32)
    token = np.full(total, -1, np.int32)
    depth = np.zeros(total, np.int32)
    open_nodes = np.zeros(total + 1, np.int32)
    used = 0
    level = 0
    for k in range(count):
        start = starts[k]
        length = starts[k + 1] - start
        shared = 0
        if k > 0:
            before = starts[k - 1]
            limit = min(length, starts[k] - before)
            while shared < limit and text[before + shared] == text[start + shared]:
                shared += 1
        while level > shared:
            level -= 1
            end[open_nodes[level]] = used
        for position in range(shared, length):
            byte[used] = text[start + position]
            depth[used] = position + 1
            open_nodes[level] = used
            level += 1
            used += 1
        node = open_nodes[level - 1]
        if token[node] >= 0:
            same[order[k]] = token[node]
        token[node] = order[k]
    while level > 0:
        level -= 1
        end[open_nodes[level]] = used
    return byte[:used].copy(), end[:used].copy(), token[:used].copy(), depth[:used].copy()
