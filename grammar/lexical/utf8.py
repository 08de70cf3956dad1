"""From automata over classes of code points to automata over UTF-8 bytes.

A partition of the code points becomes a small decoder: a trie whose leaves are classes and whose equal subtrees are
shared, so that "any character" costs seven inner nodes. An automaton over classes is lowered by giving each distinct
row of non-ASCII targets its own copy of the decoder; minimisation then folds what is alike.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt

from grammar.errors import GrammarTooLarge
from grammar.lexical.codepoints import LAST, Partition, partition
from grammar.lexical.dfa import DEAD, Dfa, canonical
from grammar.lexical.limits import DEFAULT_LIMITS, Limits

Cell = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Decoder:
    """Row 0 reads a lead byte, row 1 + t a continuation at node t. Entries: class, or `leaves` + node, or −1."""

    table: npt.NDArray[np.int32]
    byte_classes: npt.NDArray[np.uint8]
    """(128,): the column of each byte from 0x80 on."""
    leaves: int


def lower(
    table: Sequence[Sequence[int]], accepting: Sequence[bool], partition: Partition, limits: Limits = DEFAULT_LIMITS
) -> Dfa:
    """The byte automaton of one over the classes of `partition`; `table[state][class]`, state 0 starts."""
    states = len(table)
    wide = np.array(table, np.int32).reshape(states, partition.count)
    ascii_classes, ascii_columns = _ascii_part(partition)
    numbering, cells = _beyond_ascii(partition)
    decoder = _decoder(cells)
    beyond = wide[:, numbering]
    rows: dict[bytes, int] = {}
    row_of = np.array([rows.setdefault(row.tobytes(), len(rows)) for row in beyond], np.int64)
    nodes = len(decoder.table) - 1
    if states + len(rows) * nodes > 10 * limits.max_states:
        raise GrammarTooLarge(f"character classes over {states} states need more than {limits.max_states} byte states")
    distinct = np.frombuffer(b"".join(rows), np.int32).reshape(len(rows), len(numbering))
    # Column k of `goal` is where the decoder's entry k leads, for each distinct row; the last column is "nowhere".
    node_ids = states + np.arange(len(rows) * nodes, dtype=np.int32).reshape(len(rows), nodes)
    nowhere = np.full((len(rows), 1), DEAD, np.int32)
    goal = np.concatenate([distinct, node_ids, nowhere], axis=1)
    ascii_count, byte_count = len(ascii_columns), decoder.table.shape[1]
    result = np.full((states + len(rows) * nodes, ascii_count + byte_count), DEAD, np.int32)
    result[:states, :ascii_count] = wide[:, ascii_columns]
    result[:states, ascii_count:] = goal[:, decoder.table[0]][row_of]
    if nodes:
        result[states:, ascii_count:] = goal[:, decoder.table[1:]].reshape(len(rows) * nodes, byte_count)
    classes = np.concatenate([ascii_classes, decoder.byte_classes + np.uint8(ascii_count)])
    accepts = np.zeros(len(result), np.bool_)
    accepts[:states] = accepting
    return canonical(result, accepts, classes)


@cache
def universe() -> Dfa:
    """Every well-formed UTF-8 text: no surrogates, no overlong forms."""
    return lower([[0]], [True], partition(()))


@lru_cache(maxsize=512)
def _ascii_part(partition: Partition) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The column of each ASCII byte, and the partition's class of each column."""
    columns: dict[int, int] = {}
    classes = np.empty(128, np.uint8)
    for low, high, number in partition.cells:
        if low > 0x7F:
            break
        classes[low : min(high, 0x7F) + 1] = columns.setdefault(number, len(columns))
    return classes, np.array(list(columns), np.int64)


@lru_cache(maxsize=512)
def _beyond_ascii(partition: Partition) -> tuple[npt.NDArray[np.int64], tuple[Cell, ...]]:
    """The classes that occur beyond ASCII, and the cells there with these classes renumbered by occurrence."""
    numbers: dict[int, int] = {}
    cells: list[Cell] = []
    for low, high, number in partition.cells:
        if high >= 0x80:
            renumbered = numbers.setdefault(number, len(numbers))
            if cells and cells[-1][2] == renumbered and cells[-1][1] + 1 == max(low, 0x80):
                cells[-1] = (cells[-1][0], high, renumbered)
            else:
                cells.append((max(low, 0x80), high, renumbered))
    return np.array(list(numbers), np.int64), tuple(cells)


@lru_cache(maxsize=256)
def _decoder(cells: tuple[Cell, ...]) -> _Decoder:
    """The shared decoding trie of the multi-byte code points in `cells`."""
    leaves = 1 + max(number for _, _, number in cells)
    builder = _TrieBuilder(cells, leaves)
    root = np.full(256, -1, np.int32)
    for lead in range(0xC2, 0xE0):
        root[lead] = builder.block((lead & 0x1F) << 6, 1)
    for lead in range(0xE0, 0xF0):
        root[lead] = builder.block((lead & 0x0F) << 12, 2)
    for lead in range(0xF0, 0xF5):
        root[lead] = builder.block((lead & 0x07) << 18, 3)
    table = np.full((1 + len(builder.nodes), 256), -1, np.int32)
    table[0] = root
    for row, number in builder.nodes.items():
        table[1 + number, 0x80:0xC0] = row
    columns, byte_classes = np.unique(table[:, 0x80:], axis=1, return_inverse=True)
    return _Decoder(table=columns, byte_classes=byte_classes.reshape(-1).astype(np.uint8), leaves=leaves)


class _TrieBuilder:
    """Hash-consed inner nodes: equal rows of 64 children are one node."""

    _SHORTEST = (0, 0x80, 0x800, 0x10000)  # the least code point with this many continuation bytes

    def __init__(self, cells: tuple[Cell, ...], leaves: int) -> None:
        self._cells = cells
        self._lows = [low for low, _, _ in cells]
        self._leaves = leaves
        self._uniform: dict[tuple[int, int], int] = {}
        self.nodes: dict[tuple[int, ...], int] = {}

    def block(self, base: int, depth: int, shortest: int | None = None) -> int:
        """The trie entry that reads `depth` continuation bytes after the prefix whose first code point is `base`."""
        shortest = self._SHORTEST[depth] if shortest is None else shortest
        if depth == 0:
            return self._leaf(base) if base >= shortest else -1
        size = 1 << (6 * depth)
        if base + size <= shortest or base > LAST:
            return -1
        cell = self._cells[max(bisect_right(self._lows, base) - 1, 0)]
        uniform = base >= shortest and cell[0] <= base and base + size - 1 <= cell[1]
        if uniform and (depth, cell[2]) in self._uniform:
            return self._uniform[depth, cell[2]]
        step = size >> 6
        row = tuple(self.block(base + child * step, depth - 1, shortest) for child in range(64))
        entry = -1 if max(row) < 0 else self._leaves + self.nodes.setdefault(row, len(self.nodes))
        if uniform:
            self._uniform[depth, cell[2]] = entry
        return entry

    def _leaf(self, code: int) -> int:
        low, high, number = self._cells[max(bisect_right(self._lows, code) - 1, 0)]
        return number if low <= code <= high else -1
