"""The canonical form of a deterministic automaton: trimmed, minimal, numbered in one way only.

Equal languages get equal arrays, so a language can be compared, hashed and cached by content. Minimisation is
Valmari's refinement of partial automata (Information Processing Letters 112, 2012): O(transitions · log states), and
it needs no dead state, which suits tables that are mostly dead.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from grammar.kernels import kernel

Int32s = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

_HASH_PRIME: Final = 2147483647


class _Blocks(NamedTuple):
    """A partition of 0 … n − 1 that is only ever refined; the elements of a block lie side by side."""

    elements: Int32s
    place: Int32s
    """Where each element lies."""
    block_of: Int32s
    first: Int32s
    past: Int32s
    marked: Int32s
    """How many elements at the front of each block are marked."""
    touched: Int32s
    """Stack of the blocks with marks."""
    counts: Int32s
    """The number of blocks, and the height of the stack."""


@kernel
def canonical_arrays(
    table: Int32s, accepting: Bools, classes: Bytes, start: int
) -> tuple[Int32s, Bools, Bytes, Int32s]:
    """Table, acceptance, byte classes and distances of the canonical automaton (no states: the empty language)."""
    number, kept = _useful_numbers(table, accepting, start)
    if kept == 0:
        return np.empty((0, 1), np.int32), np.empty(0, np.bool_), np.zeros(256, np.uint8), np.empty(0, np.int32)
    trimmed, final = _renumbered(table, accepting, number, kept)
    small, merged = _merge_columns(trimmed, classes)
    block_of, blocks = _equivalence(small, final)
    quotient, accepts = _renumbered(small, final, block_of, blocks)
    narrow, merged = _merge_columns(quotient, merged)
    result, accepts = _renumbered(narrow, accepts, _breadth_first(narrow, block_of[number[start]]), blocks)
    return result, accepts, merged, _distances(result, accepts)


@kernel
def _renumbered(table: Int32s, accepting: Bools, number: Int32s, count: int) -> tuple[Int32s, Bools]:
    """The automaton with state q called number[q] (−1: dropped); states of one number must agree."""
    renumbered = np.full((count, table.shape[1]), -1, np.int32)
    accepts = np.zeros(count, np.bool_)
    for state in range(table.shape[0]):
        new = number[state]
        if new < 0:
            continue
        accepts[new] = accepting[state]
        for label in range(table.shape[1]):
            if table[state, label] >= 0:
                renumbered[new, label] = number[table[state, label]]
    return renumbered, accepts


@kernel
def _useful_numbers(table: Int32s, accepting: Bools, start: int) -> tuple[Int32s, int]:
    """Numbers for the states on some path from the start to acceptance, −1 for the others; and their count."""
    reached = _breadth_first(table, start)
    distance = _distances(table, accepting)
    number = np.full(table.shape[0], -1, np.int32)
    kept = 0
    for state in range(table.shape[0]):
        if reached[state] >= 0 and distance[state] >= 0:
            number[state] = kept
            kept += 1
    return number, kept


@kernel
def _breadth_first(table: Int32s, start: int) -> Int32s:
    """A number for each state reached from the start, breadth first, classes in order; −1 for the others."""
    states, labels = table.shape
    number = np.full(states, -1, np.int32)
    queue = np.empty(states, np.int32)
    queue[0] = start
    number[start] = 0
    head, tail = 0, 1
    while head < tail:
        state = queue[head]
        head += 1
        for label in range(labels):
            target = table[state, label]
            if target >= 0 and number[target] < 0:
                number[target] = tail
                queue[tail] = target
                tail += 1
    return number


@kernel
def _sources(table: Int32s) -> tuple[Int32s, Int32s]:
    """The sources of the transitions into state q: sources[first[q]:first[q + 1]]."""
    states, labels = table.shape
    first = np.zeros(states + 1, np.int32)
    for state in range(states):
        for label in range(labels):
            if table[state, label] >= 0:
                first[table[state, label] + 1] += 1
    for state in range(states):
        first[state + 1] += first[state]
    fill = first[:states].copy()
    sources = np.empty(first[states], np.int32)
    for state in range(states):
        for label in range(labels):
            target = table[state, label]
            if target >= 0:
                sources[fill[target]] = state
                fill[target] += 1
    return first, sources


@kernel
def _distances(table: Int32s, accepting: Bools) -> Int32s:
    """The least number of bytes from each state to acceptance, −1 if it is out of reach."""
    first, sources = _sources(table)
    distance = np.full(table.shape[0], -1, np.int32)
    queue = np.empty(table.shape[0], np.int32)
    head, tail = 0, 0
    for state in range(table.shape[0]):
        if accepting[state]:
            distance[state] = 0
            queue[tail] = state
            tail += 1
    while head < tail:
        target = queue[head]
        head += 1
        for at in range(first[target], first[target + 1]):
            source = sources[at]
            if distance[source] < 0:
                distance[source] = distance[target] + 1
                queue[tail] = source
                tail += 1
    return distance


@kernel
def _merge_columns(table: Int32s, classes: Bytes) -> tuple[Int32s, Bytes]:
    """Give bytes whose columns agree one class; classes are numbered by their first byte."""
    states, labels = table.shape
    hashes = np.zeros(labels, np.int64)
    for state in range(states):
        for label in range(labels):
            hashes[label] = (hashes[label] * 1000003 + table[state, label] + 7) % _HASH_PRIME
    kept = np.empty(labels, np.int32)
    new_label = np.full(labels, -1, np.int32)
    count = 0
    merged = np.empty(256, np.uint8)
    for byte in range(256):
        label = int(classes[byte])
        if new_label[label] < 0:
            found = _equal_column(table, hashes, kept[:count], label)
            if found == count:
                kept[count] = label
                count += 1
            new_label[label] = found
        merged[byte] = new_label[label]
    smaller = np.empty((states, count), np.int32)
    for state in range(states):
        for label in range(count):
            smaller[state, label] = table[state, kept[label]]
    return smaller, merged


@kernel
def _equal_column(table: Int32s, hashes: npt.NDArray[np.int64], kept: Int32s, label: int) -> int:
    """Which of the kept columns equals column `label`; their number if none does."""
    for index in range(kept.shape[0]):
        if hashes[kept[index]] == hashes[label]:
            same = True
            for state in range(table.shape[0]):
                same = same and table[state, kept[index]] == table[state, label]
            if same:
                return index
    return int(kept.shape[0])


@kernel
def _one_block(size: int) -> _Blocks:
    elements = np.arange(size).astype(np.int32)
    blocks = _Blocks(
        elements,
        elements.copy(),
        np.zeros(size, np.int32),
        np.zeros(size + 1, np.int32),
        np.zeros(size + 1, np.int32),
        np.zeros(size + 1, np.int32),
        np.empty(size + 1, np.int32),
        np.zeros(2, np.int32),
    )
    blocks.past[0] = size
    blocks.counts[0] = 1
    return blocks


@kernel
def _mark(blocks: _Blocks, element: int) -> None:
    """Mark an element that is not yet marked, for the next split."""
    block = blocks.block_of[element]
    at = blocks.place[element]
    to = blocks.first[block] + blocks.marked[block]
    other = blocks.elements[to]
    blocks.elements[at] = other
    blocks.place[other] = at
    blocks.elements[to] = element
    blocks.place[element] = to
    if blocks.marked[block] == 0:
        blocks.touched[blocks.counts[1]] = block
        blocks.counts[1] += 1
    blocks.marked[block] += 1


@kernel
def _split(blocks: _Blocks) -> None:
    """Split each block with marked and unmarked elements; the smaller part gets the new number."""
    while blocks.counts[1] > 0:
        blocks.counts[1] -= 1
        block = blocks.touched[blocks.counts[1]]
        middle = blocks.first[block] + blocks.marked[block]
        smaller_first = blocks.marked[block] <= blocks.past[block] - middle
        blocks.marked[block] = 0
        if middle == blocks.past[block]:
            continue
        new = blocks.counts[0]
        blocks.counts[0] += 1
        if smaller_first:
            blocks.first[new] = blocks.first[block]
            blocks.past[new] = middle
            blocks.first[block] = middle
        else:
            blocks.past[new] = blocks.past[block]
            blocks.first[new] = middle
            blocks.past[block] = middle
        for at in range(blocks.first[new], blocks.past[new]):
            blocks.block_of[blocks.elements[at]] = new


@kernel
def _transitions(table: Int32s) -> tuple[Int32s, Int32s, _Blocks]:
    """Tails and heads of all transitions, by class, and their partition by class."""
    count = 0
    for state in range(table.shape[0]):
        for label in range(table.shape[1]):
            if table[state, label] >= 0:
                count += 1
    tails = np.empty(count, np.int32)
    heads = np.empty(count, np.int32)
    cords = _one_block(count)
    cords.counts[0] = 0
    at = 0
    for label in range(table.shape[1]):
        begin = at
        for state in range(table.shape[0]):
            if table[state, label] >= 0:
                tails[at] = state
                heads[at] = table[state, label]
                cords.block_of[at] = cords.counts[0]
                at += 1
        if at > begin:
            cords.first[cords.counts[0]] = begin
            cords.past[cords.counts[0]] = at
            cords.counts[0] += 1
    return tails, heads, cords


@kernel
def _by_head(heads: Int32s, states: int) -> tuple[Int32s, Int32s]:
    """The transitions into state q: into[first[q]:first[q + 1]]."""
    first = np.zeros(states + 1, np.int32)
    for head in heads:
        first[head + 1] += 1
    for state in range(states):
        first[state + 1] += first[state]
    fill = first[:states].copy()
    into = np.empty(heads.shape[0], np.int32)
    for transition in range(heads.shape[0]):
        into[fill[heads[transition]]] = transition
        fill[heads[transition]] += 1
    return first, into


@kernel
def _equivalence(table: Int32s, accepting: Bools) -> tuple[Int32s, int]:
    """The block of each state in the coarsest congruence, and the number of blocks; every state must be useful."""
    states = _one_block(table.shape[0])
    for state in range(table.shape[0]):
        if accepting[state]:
            _mark(states, state)
    _split(states)
    tails, heads, cords = _transitions(table)
    first, into = _by_head(heads, table.shape[0])
    block, cord = 1, 0
    while cord < cords.counts[0]:
        for at in range(cords.first[cord], cords.past[cord]):
            _mark(states, tails[cords.elements[at]])
        _split(states)
        cord += 1
        while block < states.counts[0]:
            for at in range(states.first[block], states.past[block]):
                state = states.elements[at]
                for index in range(first[state], first[state + 1]):
                    _mark(cords, into[index])
            _split(cords)
            block += 1
    return states.block_of, int(states.counts[0])
