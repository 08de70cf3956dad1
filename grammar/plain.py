"""Plain string content: which tokens of it a string state takes, without a step for each byte of each token.

A token of plain content (no quote, no backslash, no control character) never leaves the string, so only the string's
own automaton decides. Two things make that cheap. A state from which no plain text of up to n characters dies takes all
tokens of up to n characters: one precomputed row. What is longer is walked over a trie of plain tokens alone, each node
one record, with nothing but the automaton's table in the loop.
"""

# ruff: noqa: C901, PLR0912, PLR0913, PLR0917, PLR1714, SIM110
# (A kernel's inner loop is one function; numba compares faster than it looks up.)

from typing import Final

import numpy as np
import numpy.typing as npt

from grammar.codes import IMPOSSIBLE
from grammar.kernels import kernel

Int32 = npt.NDArray[np.int32]
Uint8 = npt.NDArray[np.uint8]

BYTE: Final = 0
DEPTH: Final = 1
END: Final = 2
TOKEN: Final = 3
TALL: Final = 4
FIELDS: Final = 5
"""The columns of a record of a trie node, of plain tokens; TALL: the most characters of a token in its subtree."""

ENDLESS: Final = 1 << 20
"""More characters than any token has."""
_MOST_STEPS: Final = 20_000


@kernel
def records(byte: Uint8, end: Int32, token: Int32, depth: Int32, characters: Int32) -> Int32:
    """One record for each node of a trie, in preorder; `characters` counts those of each token."""
    count = byte.shape[0]
    found = np.empty((count, FIELDS), np.int32)
    for node in range(count - 1, -1, -1):
        found[node, BYTE], found[node, DEPTH] = byte[node], depth[node]
        found[node, END], found[node, TOKEN] = end[node], token[node]
        tall = np.int32(0)
        t = token[node]
        if t >= 0:
            tall = characters[t]
        child = node + 1
        while child < end[node]:
            tall = max(tall, found[child, TALL])
            child = end[child]
        found[node, TALL] = tall
    return found


@kernel
def meets(reach: Int32, state: int, allow: Int32) -> bool:
    """Whether the state can still reach some class that is allowed: bit sets, reach[state, word] and allow[word]."""
    for word in range(allow.shape[0]):
        if reach[state, word] & allow[word]:
            return True
    return False


@kernel
def sure_characters(
    table: Int32, classes: Uint8, reach: Int32, allow: Int32, free: Int32, free_classes: Uint8, start: int, most: int
) -> int:
    """How many characters of plain text surely leave `start` live, whatever they are; ENDLESS: any number.

    Live is a state that `meets` what is allowed.

    Breadth first through the pairs with `free`, the automaton of all texts, which says what bytes make a character. An
    unfinished character counts as one. At most `most` are told apart; where many states are reached, fewer than true.
    """
    inner = free.shape[0]
    seen = np.zeros(table.shape[0] * inner, np.bool_)
    pairs = np.empty((256, 2), np.int64)
    kinds = 0
    known = np.zeros(table.shape[1] * free.shape[1], np.bool_)
    for byte in range(0x20, 256):
        if byte == 0x22 or byte == 0x5C or known[classes[byte] * free.shape[1] + free_classes[byte]]:
            continue
        known[classes[byte] * free.shape[1] + free_classes[byte]] = True
        pairs[kinds, 0], pairs[kinds, 1] = classes[byte], free_classes[byte]
        kinds += 1
    states = np.empty(table.shape[0], np.int64)
    states[0] = start
    seen[start * inner] = True
    inside = np.empty(table.shape[0] * inner, np.int64)
    first, last, length, steps = 0, 1, 0, 0
    while first < last:
        if length == most:
            return length
        stop = last
        for at in range(first, stop):
            depth = 1
            inside[0] = states[at] * inner
            while depth:
                depth -= 1
                q, u = inside[depth] // inner, inside[depth] % inner
                for k in range(kinds):
                    after = free[u, pairs[k, 1]]
                    if after < 0:
                        continue
                    target = table[q, pairs[k, 0]]
                    if target < 0 or not meets(reach, int(target), allow):
                        return length
                    if seen[target * inner + after]:
                        continue
                    seen[target * inner + after] = True
                    if after == 0:
                        states[last] = target
                        last += 1
                    else:
                        inside[depth] = target * inner + after
                        depth += 1
                steps += kinds
                if steps > _MOST_STEPS:
                    return length
        first = stop
        length += 1
    return ENDLESS


@kernel
def loops(table: Int32, classes: Uint8, free: Int32, free_classes: Uint8) -> npt.NDArray[np.bool_]:
    """[state]: whether every character of plain text leads back to it.

    Read off `free`, the automaton of all texts: each path from its start to its start is a character.
    """
    states, inner = table.shape[0], free.shape[0]
    found = np.zeros(states, np.bool_)
    seen = np.full(states * inner, -1, np.int32)
    todo = np.empty(states * inner, np.int64)
    for q in range(states):
        length = 1
        todo[0] = q * inner
        while length:
            length -= 1
            s, u = todo[length] // inner, todo[length] % inner
            for byte in range(0x20, 256):
                after = free[u, free_classes[byte]]
                if after < 0 or byte == 0x22 or byte == 0x5C:
                    continue
                target = table[s, classes[byte]]
                if target < 0 or (after == 0 and target != q):
                    length = -1
                    break
                if after and seen[target * inner + after] != q:
                    seen[target * inner + after] = q
                    todo[length] = target * inner + after
                    length += 1
            if length < 0:
                break
        found[q] = length == 0
    return found


@kernel
def add_plain(
    nodes: Int32,
    same: Int32,
    tops: Int32,
    longest: int,
    sure: int,
    table: Int32,
    classes: Uint8,
    reach: Int32,
    allow: Int32,
    start: int,
    row: Int32,
) -> None:
    """Set the bits of the plain tokens that leave `start` live; those of up to `sure` characters are set already.

    `tops` has the node of each first byte, for dead ones are not even looked at; `longest` is in bytes.
    """
    states = np.empty(longest + 1, np.int64)
    states[0] = start
    for first in range(0x20, 256):
        node = tops[first]
        if node < 0 or table[start, classes[first]] < 0:
            continue
        stop = nodes[node, END]
        while node < stop:
            depth = nodes[node, DEPTH]
            target = np.int64(-1)
            if nodes[node, TALL] > sure:
                target = np.int64(table[states[depth - 1], classes[nodes[node, BYTE]]])
            if target < 0 or not meets(reach, int(target), allow):
                node = nodes[node, END]
                continue
            states[depth] = target
            t = nodes[node, TOKEN]
            while t >= 0:
                row[t >> 5] |= np.int32(1) << np.int32(t & 31)
                t = same[t]
            node += 1


@kernel
def add_counted(
    nodes: Int32,
    same: Int32,
    tops: Int32,
    longest: int,
    sure: int,
    table: Int32,
    classes: Uint8,
    needed: Int32,
    most: int,
    start: int,
    count: int,
    row: Int32,
) -> None:
    """As `add_plain`, where characters count: `count` came before, at most `most` may come (-1: no matter).

    needed[state, missing]: the characters that a text from there has at least, if so many are missing to the minimum.
    """
    states = np.empty(longest + 1, np.int64)
    counts = np.empty(longest + 1, np.int64)
    states[0], counts[0] = start, count
    minimum = needed.shape[1] - 1
    for first in range(0x20, 256):
        node = tops[first]
        if node < 0 or table[start, classes[first]] < 0:
            continue
        stop = nodes[node, END]
        while node < stop:
            depth = nodes[node, DEPTH]
            byte = nodes[node, BYTE]
            target = np.int64(-1)
            if nodes[node, TALL] > sure:
                target = np.int64(table[states[depth - 1], classes[byte]])
            if target < 0:
                node = nodes[node, END]
                continue
            length = counts[depth - 1]
            if byte < 0x80 or byte >= 0xC0:
                length += 1
            least = needed[target, max(minimum - length, 0)]
            if least >= IMPOSSIBLE or (most >= 0 and length + least > most):
                node = nodes[node, END]
                continue
            states[depth], counts[depth] = target, length
            t = nodes[node, TOKEN]
            while t >= 0:
                row[t >> 5] |= np.int32(1) << np.int32(t & 31)
                t = same[t]
            node += 1
