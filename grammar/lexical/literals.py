"""A finite set of byte strings as an automaton: enumerations, property names, spelled-out choices.

The sorted strings are read once into a trie whose nodes are numbered in order of creation, so that walking the numbers
backwards meets children before parents: equal subtrees are then found with one hash table (the minimal acyclic
automaton), in time linear in the input.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from grammar.errors import GrammarTooLarge
from grammar.kernels import fixed, kernel
from grammar.lexical.dfa import DEAD, Dfa, canonical

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

_MOST_CELLS = 1 << 25
"""Entries of the largest table made (128 MiB)."""
MAX_OVERLAID = 40_000_000
"""Entries of the part that belongs to the words, in an automaton that they are laid over."""


def literal_language(words: Iterable[bytes]) -> Dfa:
    """The language of exactly these words."""
    ordered = sorted(set(words))
    if not ordered:
        return Dfa.empty()
    parent, byte, final = _trie(*_joined(ordered))
    used = np.unique(byte[1:])
    # Bytes that occur in no word share the class after the last; if all 256 occur, there is none.
    classes = np.full(256, len(used) % 256, np.uint8)
    classes[used] = np.arange(len(used), dtype=np.uint8)
    number, count = _fold(parent, byte, final)
    labels = min(len(used) + 1, 256)
    if count * labels > _MOST_CELLS:
        raise GrammarTooLarge(f"{len(ordered)} literals need an automaton of {count} states")
    table = np.full((count, labels), DEAD, np.int32)
    table[number[parent[1:]], classes[byte[1:]]] = number[1:]
    accepting = np.zeros(count, np.bool_)
    accepting[number] = final
    return canonical(table, accepting, classes, int(number[0]))


def overlaid(
    marks: dict[bytes, int], classes: Bytes, table: Int32s, labels: Int32s
) -> tuple[Bytes, Int32s, Int32s] | None:
    """An automaton (classes, table, labels; maybe without states) with these words relabelled (-1: not a word).

    A trie of the words whose nodes shadow the states below: it goes on in these where a word is left. None: too large.
    """
    ordered = sorted(marks)
    text, ends = _joined(ordered)
    ranks = np.array([marks[word] for word in ordered], np.int32)
    found = _overlaid(text, ends, ranks, fixed(classes), fixed(table), fixed(labels), MAX_OVERLAID)
    return found if len(found[1]) else None


def _joined(ordered: list[bytes]) -> tuple[Bytes, Int64s]:
    """Sorted, different words as one text, and where each ends in it."""
    return np.frombuffer(b"".join(ordered), np.uint8), np.array([len(word) for word in ordered], np.int64).cumsum()


@kernel
def _overlaid(  # noqa: C901, PLR0912  (arrays filled in one pass)
    text: Bytes, ends: Int64s, marks: Int32s, classes: Bytes, table: Int32s, labels: Int32s, most: int
) -> tuple[Bytes, Int32s, Int32s]:
    parent, byte, final = _trie(text, ends)
    nodes, states = parent.shape[0], table.shape[0]
    # A column for each byte of a word, beside those of the automaton below.
    own = np.zeros(256, np.bool_)
    for node in range(1, nodes):
        own[byte[node]] = True
    found = np.zeros(256, np.uint8)
    below = np.zeros(256, np.int32)
    column = np.full(256, -1, np.int32)
    kinds = 0
    for b in range(256):
        known = np.int32(-1) if own[b] else column[classes[b]]
        if known < 0:
            known = np.int32(kinds)
            below[kinds] = classes[b]
            kinds += 1
            if not own[b]:
                column[classes[b]] = known
        found[b] = known
    if nodes * kinds > most:
        return found, np.empty((0, kinds), np.int32), np.empty(0, np.int32)
    joint = np.full((nodes + states, kinds), -1, np.int32)
    marked = np.full(nodes + states, -1, np.int32)
    at = np.full(nodes, -1, np.int32)
    word = 0
    for node in range(nodes):
        if node == 0:
            at[node] = 0 if states else -1
        elif at[parent[node]] >= 0:
            at[node] = table[at[parent[node]], classes[byte[node]]]
        if at[node] >= 0:
            marked[node] = labels[at[node]]
        if final[node]:
            # A word's last node is created after those of the words before.
            marked[node] = marks[word]
            word += 1
    for row in range(nodes + states):
        state = at[row] if row < nodes else row - nodes
        if row >= nodes:
            marked[row] = labels[state]
        if state >= 0:
            for kind in range(kinds):
                target = table[state, below[kind]]
                if target >= 0:
                    joint[row, kind] = target + nodes
    for node in range(1, nodes):
        joint[parent[node], found[byte[node]]] = node
    return found, joint, marked


@kernel
def _trie(text: Bytes, ends: Int64s) -> tuple[Int32s, Bytes, Bools]:
    """Parent, incoming byte and finality of each node of the trie of sorted words; node 0 is the root."""
    most = text.shape[0] + 1
    parent = np.full(most, -1, np.int32)
    byte = np.zeros(most, np.uint8)
    final = np.zeros(most, np.bool_)
    path = np.zeros(most + 1, np.int32)
    count = 1
    before_begin, before_end, begin = 0, 0, 0
    for end in ends:
        length = end - begin
        shared = 0
        while shared < length and before_begin + shared < before_end and text[begin + shared] == text[before_begin + shared]:  # noqa: E501  # fmt: skip
            shared += 1
        for at in range(shared, length):
            parent[count] = path[at]
            byte[count] = text[begin + at]
            path[at + 1] = count
            count += 1
        final[path[length]] = True
        before_begin, before_end, begin = begin, end, end
    return parent[:count], byte[:count], final[:count]


@kernel
def _fold(parent: Int32s, byte: Bytes, final: Bools) -> tuple[Int32s, int]:
    """The class of each trie node by its subtree, and how many classes there are."""
    nodes = parent.shape[0]
    first_child = np.full(nodes, -1, np.int32)
    sibling = np.full(nodes, -1, np.int32)
    number = np.full(nodes, -1, np.int32)
    capacity = 4
    while capacity < 2 * nodes:
        capacity *= 2
    slots = np.full(capacity, -1, np.int32)
    count = 0
    for node in range(nodes - 1, -1, -1):
        code = int(final[node]) + 1
        child = first_child[node]
        while child >= 0:
            code = (code * 1000003 + int(byte[child]) * 40503 + int(number[child]) + 11) % 2147483647
            child = sibling[child]
        at = code * 2654435 & (capacity - 1)
        while slots[at] >= 0 and not _same(slots[at], node, first_child, sibling, byte, number, final):
            at = (at + 1) & (capacity - 1)
        if slots[at] < 0:
            slots[at] = node
            number[node] = count
            count += 1
        else:
            number[node] = number[slots[at]]
        if node > 0:
            # Later words were created later, so prepending keeps children in byte order.
            sibling[node] = first_child[parent[node]]
            first_child[parent[node]] = node
    return number, count


@kernel
def _same(
    one: int, other: int, first_child: Int32s, sibling: Int32s, byte: Bytes, number: Int32s, final: Bools
) -> bool:
    """Whether two nodes have equal subtrees, given that their children are numbered."""
    if final[one] != final[other]:
        return False
    left, right = first_child[one], first_child[other]
    while left >= 0 and right >= 0:
        if byte[left] != byte[right] or number[left] != number[right]:
            return False
        left, right = sibling[left], sibling[right]
    return left < 0 and right < 0  # type: ignore[no-any-return]
