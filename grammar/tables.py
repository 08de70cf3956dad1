"""The integer tables that compiled walks read: states, their rows, pushes, pops, stacks, string counters, used keys.

A *state* is one integer: what the top frame is waiting for. Its row maps byte classes to operations. A *stack node* is
(parent node, state to return to, data). Rows are filled when a walk first needs them; all arrays only ever grow, by
allocate-copy-swap, so a reader holding an old view stays right. One writer: the automaton that owns the tables.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

DEAD: Final = -1
SHIFT: Final = 26
ARGUMENT: Final = (1 << SHIFT) - 1
STEP: Final = 0
POP: Final = 1
"""Consume the byte and return to the parent with a label."""
KEEP: Final = 2
"""Return to the parent with a label, then give it the same byte: how numbers end."""
PUSH: Final = 3
ESCAPE: Final = 4
GAP_BLANK: Final = 5
GAP_NEWLINE: Final = 6
GAP_TAB: Final = 7

PLAIN: Final = 0
STRING: Final = 1
COUNTED: Final = 2
KEY: Final = 3

COLUMNS: Final = 290
"""256 raw bytes, then decoded control characters (256 + code), the decoded quote and backslash."""
QUOTE: Final = 288
BACKSLASH: Final = 289


def operation(code: int, argument: int = 0) -> int:
    """One cell of a row."""
    return (code << SHIFT) | argument


class View(NamedTuple):
    """The arrays as kernels take them."""

    offset: Int64
    classmap: Int32
    kind: npt.NDArray[np.uint8]
    spec: Int32
    flat: Int32
    maps: npt.NDArray[np.uint8]
    push_return: Int32
    push_child: Int32
    push_key: npt.NDArray[np.uint8]
    stack_parent: Int32
    stack_state: Int32
    stack_data: Int32
    stack_depth: Int32
    return_keys: Int64
    return_values: Int32
    spec_base: Int32
    spec_minimum: Int64
    spec_maximum: Int64
    spec_offset: Int64
    spec_words: Int32
    spec_strict: npt.NDArray[np.uint8]
    counts: Int32
    reach: npt.NDArray[np.uint64]
    allow: npt.NDArray[np.uint64]
    allow_offset: Int32
    used_edges: Int64
    used_nodes: Int32
    used_parent: Int32
    used_last: Int32
    meta: Int64


def slot(keys: Int64, key: int) -> int:
    """Where `key` is or belongs in an open-addressing table (the kernels' `find` in Python)."""
    mask = len(keys) - 1
    at = ((key % 2147483647) * 2654435 + (key >> 20)) & mask
    while keys[at] >= 0 and keys[at] != key:
        at = (at + 1) & mask
    return int(at)


class HashTable:
    """int64 → int32 by linear probing, at most half full."""

    def __init__(self) -> None:
        self.keys: Int64 = np.full(64, -1, np.int64)
        self.values: Int32 = np.zeros(64, np.int32)
        self.count = 0

    def put(self, key: int, value: int) -> None:
        """Add or replace."""
        if 2 * self.count >= len(self.keys):
            self._grow()
        at = slot(self.keys, key)
        if self.keys[at] < 0:
            self.count += 1
        self.values[at] = value
        self.keys[at] = key

    def _grow(self) -> None:
        old_keys, old_values = self.keys, self.values
        self.keys = np.full(len(old_keys) * 4, -1, np.int64)
        self.values = np.zeros(len(old_keys) * 4, np.int32)
        for key, value in zip(old_keys.tolist(), old_values.tolist(), strict=True):
            if key >= 0:
                at = slot(self.keys, key)
                self.keys[at] = key
                self.values[at] = value


def _grown(array: npt.NDArray, size: int, fill: int = 0) -> npt.NDArray:  # type: ignore[type-arg]
    shape = (max(size, 2 * array.shape[0]), *array.shape[1:])
    larger = np.full(shape, fill, array.dtype)
    larger[: array.shape[0]] = array
    return larger


class Tables:
    """The growable arrays behind `View`, with counts of what is in use."""

    def __init__(self) -> None:
        self.states = 0
        self.offset: Int64 = np.full(256, -1, np.int64)
        self.classmap: Int32 = np.zeros(256, np.int32)
        self.kind = np.zeros(256, np.uint8)
        self.spec: Int32 = np.zeros(256, np.int32)
        self.allow_offset: Int32 = np.zeros(256, np.int32)
        self.cells = 0
        self.flat: Int32 = np.full(4096, DEAD, np.int32)
        self.map_count = 0
        self.maps = np.zeros((8, COLUMNS), np.uint8)
        self.pushes = 0
        self.push_return: Int32 = np.zeros(64, np.int32)
        self.push_child: Int32 = np.zeros(64, np.int32)
        self.push_key = np.zeros(64, np.uint8)
        self._push_ids: dict[tuple[int, int, bool], int] = {}
        self.stacks = 0
        self.stack_parent: Int32 = np.zeros(4096, np.int32)
        self.stack_state: Int32 = np.zeros(4096, np.int32)
        self.stack_data: Int32 = np.zeros(4096, np.int32)
        self.stack_depth: Int32 = np.zeros(4096, np.int32)
        self._stack_ids: dict[tuple[int, int, int], int] = {}
        self.returns = HashTable()
        self.specs = 0
        self.spec_base: Int32 = np.zeros(16, np.int32)
        self.spec_minimum: Int64 = np.zeros(16, np.int64)
        self.spec_maximum: Int64 = np.zeros(16, np.int64)
        self.spec_offset: Int64 = np.zeros(16, np.int64)
        self.spec_words: Int32 = np.zeros(16, np.int32)
        self.spec_strict = np.zeros(16, np.uint8)
        self.counts: Int32 = np.zeros(0, np.int32)
        self.reach = np.zeros(0, np.uint64)
        self.allow = np.zeros(64, np.uint64)
        self.allows = 0
        self.used_trie = HashTable()
        self.used_count = 1
        self.used_parent: Int32 = np.zeros(16, np.int32)
        self.used_last: Int32 = np.zeros(16, np.int32)
        self._used_ids: dict[tuple[int, int], int] = {}
        self._used_nodes = 1
        self.meta: Int64 = np.zeros(8, np.int64)
        self._view: View | None = None

    @property
    def nbytes(self) -> int:
        """Bytes held by the larger arrays."""
        return int(
            self.flat.nbytes + self.counts.nbytes + self.reach.nbytes + self.allow.nbytes + self.maps.nbytes
            + self.states * 40 + self.stacks * 120 + self.pushes * 80 + self.returns.keys.nbytes * 2
        )  # fmt: skip

    def view(self) -> View:
        """The arrays as of now."""
        if self._view is None:
            self._view = View(
                self.offset, self.classmap, self.kind, self.spec, self.flat, self.maps,
                self.push_return, self.push_child, self.push_key,
                self.stack_parent, self.stack_state, self.stack_data, self.stack_depth,
                self.returns.keys, self.returns.values,
                self.spec_base, self.spec_minimum, self.spec_maximum, self.spec_offset, self.spec_words,
                self.spec_strict, self.counts, self.reach, self.allow, self.allow_offset,
                self.used_trie.keys, self.used_trie.values, self.used_parent, self.used_last, self.meta,
            )  # fmt: skip
        return self._view

    def add_states(self, count: int) -> int:
        """Room for `count` new states, rows unfilled; the first one's number."""
        first = self.states
        self.states += count
        if self.states > len(self.offset):
            self.offset = _grown(self.offset, self.states, -1)
            self.classmap = _grown(self.classmap, self.states)
            self.kind = _grown(self.kind, self.states)
            self.spec = _grown(self.spec, self.states)
            self.allow_offset = _grown(self.allow_offset, self.states)
            self._view = None
        return first

    def add_map(self, classmap: npt.NDArray[np.uint8]) -> int:
        """Register a map of COLUMNS entries."""
        if self.map_count == len(self.maps):
            self.maps = _grown(self.maps, self.map_count + 1)
            self._view = None
        self.maps[self.map_count] = classmap
        self.map_count += 1
        return self.map_count - 1

    def add_cells(self, cells: npt.NDArray[np.int32] | list[int]) -> int:
        """Append cells; their offset."""
        first = self.cells
        self.cells += len(cells)
        if self.cells > len(self.flat):
            self.flat = _grown(self.flat, self.cells, DEAD)
            self._view = None
        self.flat[first : self.cells] = cells
        return first

    def push_id(self, return_state: int, child: int, *, key: bool = False) -> int:
        """The number of the push of `child` over `return_state`."""
        ident = (return_state, child, key)
        found = self._push_ids.get(ident)
        if found is None:
            found = self.pushes
            self.pushes += 1
            if found == len(self.push_return):
                self.push_return = _grown(self.push_return, self.pushes)
                self.push_child = _grown(self.push_child, self.pushes)
                self.push_key = _grown(self.push_key, self.pushes)
                self._view = None
            self.push_return[found], self.push_child[found], self.push_key[found] = return_state, child, key
            self._push_ids[ident] = found
        return found

    def stack_id(self, parent: int, state: int, data: int) -> int:
        """The interned stack node."""
        ident = (parent, state, data)
        found = self._stack_ids.get(ident)
        if found is None:
            found = self.stacks
            self.stacks += 1
            self.reserve_scratch(0)
            self.stack_parent[found], self.stack_state[found], self.stack_data[found] = ident
            self.stack_depth[found] = 0 if found == 0 else self.stack_depth[parent] + 1
            self._stack_ids[ident] = found
        return found

    def reserve_scratch(self, used: int) -> None:
        """Keep room for scratch nodes above the interned ones."""
        needed = self.stacks + used + 2048
        if needed > len(self.stack_parent):
            self.stack_parent = _grown(self.stack_parent, needed)
            self.stack_state = _grown(self.stack_state, needed)
            self.stack_data = _grown(self.stack_data, needed)
            self.stack_depth = _grown(self.stack_depth, needed)
            self._view = None

    def set_return(self, state: int, label: int, target: int) -> None:
        """What follows when a child returns `label` to `state` (DEAD: nothing)."""
        keys = self.returns.keys
        self.returns.put((state << 32) | label, target)
        if self.returns.keys is not keys:
            self._view = None

    def add_spec(self, base: int, *, minimum: int = 0, maximum: int = -1, strict: bool = False) -> int:
        """Register a string automaton whose first state is `base`."""
        if self.specs == len(self.spec_base):
            for name in ("spec_base", "spec_minimum", "spec_maximum", "spec_offset", "spec_words", "spec_strict"):
                setattr(self, name, _grown(getattr(self, name), self.specs + 1))
        number = self.specs
        self.specs += 1
        self.spec_base[number], self.spec_minimum[number], self.spec_maximum[number] = base, minimum, maximum
        self.spec_strict[number] = strict
        self._view = None
        return number

    def add_counts(self, spec: int, counts: npt.NDArray[np.int32]) -> None:
        """Attach the table of characters still needed."""
        self.spec_offset[spec] = len(self.counts)
        self.counts = np.concatenate([self.counts, counts])
        self._view = None

    def add_reach(self, spec: int, reach: npt.NDArray[np.uint64], words: int) -> None:
        """Attach the bit sets of key classes that each state can still reach."""
        self.spec_offset[spec] = len(self.reach)
        self.spec_words[spec] = words
        self.reach = np.concatenate([self.reach, reach])
        self._view = None

    def add_allow(self, words: list[int]) -> int:
        """Store a bit set of key classes; its offset."""
        first = self.allows
        self.allows += len(words)
        if self.allows > len(self.allow):
            self.allow = _grown(self.allow, self.allows)
            self._view = None
        self.allow[first : self.allows] = words
        return first

    def used_with(self, used: int, key: bytes) -> int:
        """The set of used keys `used` with one more: sets are chains, keys are nodes of one trie. 0 is the empty set."""
        node = 1
        for byte in key:
            edge = (node << 8) | byte
            at = slot(self.used_trie.keys, edge)
            if self.used_trie.keys[at] >= 0:
                node = int(self.used_trie.values[at])
            else:
                self._used_nodes += 1
                self.used_trie.put(edge, self._used_nodes)
                node = self._used_nodes
                self._view = None
        ident = (used, node)
        found = self._used_ids.get(ident)
        if found is None:
            found = self.used_count
            self.used_count += 1
            if found == len(self.used_parent):
                self.used_parent = _grown(self.used_parent, self.used_count)
                self.used_last = _grown(self.used_last, self.used_count)
                self._view = None
            self.used_parent[found], self.used_last[found] = ident
            self._used_ids[ident] = found
        return found
