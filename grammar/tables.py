"""The integer tables that compiled walks read: states, their rows, pushes, pops, stacks, string counters, used keys.

A *state* is one integer: what the top frame is waiting for. Its row maps byte classes to operations. A *stack node* is
(parent node, state to return to, data). Rows are filled when a walk first needs them.

Everything lies in one int32 array, `mem`, in segments whose places are in one small int64 array, `h`: a kernel call
then passes two arrays, where thirty would cost more than the step they serve. What is written once (rows, counts, bit
sets) is a *block*, known by its place in `mem` and never moved. A full segment moves to fresh room at the end, and a
full `mem` is copied into one many times the size, so a view into it is good until the next write only. Fresh
memory costs nothing until it is touched: a grammar takes what it uses, and thousands of small ones can live side by
side. One writer: the owning automaton.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from grammar.errors import GrammarTooLarge

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

DEAD: Final = -1
ABSENT: Final = -2
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
LISTED: Final = 4
"""A word of a list, of which the frame below says which are left: as a key (so kernels ask for kind >= KEY), but not
remembered as used."""

COLUMNS: Final = 290
"""256 raw bytes, then decoded control characters (256 + code), the decoded quote and backslash."""
QUOTE: Final = 288
BACKSLASH: Final = 289

# Scratch in `h` that a walk reads and reports.
BUMP: Final = 0
MISSING: Final = 1
MISSING_LABEL: Final = 2
VISIBLE: Final = 3
INTERNED: Final = 4
DATA_SEEN: Final = 5
MAX_BLANKS: Final = 6
BASE_DEPTH: Final = 7
STACK_ROOM: Final = 8

# Where the segments begin; after each, its capacity.
(
    OFFSET, CLASSMAP, KIND, SPEC, ALLOW_OFFSET, MAPS, PUSH_RETURN, PUSH_CHILD, PUSH_KEY, STACK_PARENT,
    STACK_STATE, STACK_DATA, STACK_DEPTH, SPEC_BASE, SPEC_MINIMUM, SPEC_MAXIMUM, SPEC_OFFSET, SPEC_WORDS, SPEC_STRICT,
    USED_PARENT, USED_LAST, RETURN_TABLE, USED_TABLE,
) = range(10, 10 + 2 * 23, 2)  # fmt: skip
_HEADER: Final = 10 + 2 * 23
_SMALL: Final = 64
_GROWTH: Final = (1 << 13, 1 << 17, 1 << 26, 1 << 28, 1 << 31)
"""The sizes of `mem`, in cells. What costs is to touch memory for the first time, some milliseconds a megabyte on a
virtual machine, and so to copy: more than half a megabyte is hardly ever copied."""
MOST_CELLS: Final = (1 << 31) - 1
"""Offsets are 32-bit numbers."""
_SCRATCH: Final = 128
"""Stack nodes that a walk finds free; one that needs more says so and goes on once there is more."""


def operation(code: int, argument: int = 0) -> int:
    """One cell of a row."""
    return (code << SHIFT) | argument


class Tables:
    """The segments, with counts of what is in use."""

    def __init__(self, max_cells: int = 1 << 26) -> None:
        self.mem: Int32 = np.zeros(min(_GROWTH[0], max_cells), np.int32)
        self._max_cells = max_cells
        self.h: Int64 = np.zeros(_HEADER, np.int64)
        # What Python reads one by one, it reads through these: an element of an array costs ten times as much.
        self._cells = self.mem.data
        self._base = [0] * _HEADER
        self._capacity = [0] * _HEADER
        self.top = 0
        self.states = self.maps = self.pushes = self.stacks = self.specs = 0
        self.used_count = 1
        self._used_nodes = 1
        self._filled = {RETURN_TABLE: 0, USED_TABLE: 0}
        self._push_ids: dict[tuple[int, int, bool], int] = {}
        self._stack_ids: dict[tuple[int, int, int], int] = {}
        self._used_ids: dict[tuple[int, int], int] = {}
        self._used_words: dict[tuple[int, bytes], int] = {}
        self._used_keys: list[frozenset[bytes]] = [frozenset()]
        for table in (RETURN_TABLE, USED_TABLE):
            self._place(table, self.take(3 * _SMALL), _SMALL)
        self.reserve_scratch(0)

    def lift_limit(self) -> None:
        """Let the tables grow as far as one text needs: the constraint was accepted, and no generation may be stranded.

        Who generates sees to it that they are made anew where many texts have filled them.
        """
        self._max_cells = MOST_CELLS

    @property
    def nbytes(self) -> int:
        """Memory in use: touched cells and the dictionaries beside them, roughly."""
        return 4 * self.top + 200 * (len(self._push_ids) + self.stacks + self.used_count) + 400 * self.states

    def get(self, segment: int, at: int) -> int:
        """One entry."""
        return self._cells[self._base[segment] + at]

    def put(self, segment: int, at: int, value: int) -> None:
        """Set one entry."""
        self._cells[self._base[segment] + at] = value

    def part(self, segment: int, start: int, stop: int) -> Int32:
        """A view of some entries."""
        base = self._base[segment]
        return self.mem[base + start : base + stop]

    def add_states(self, count: int) -> int:
        """Room for `count` new states, rows unfilled; the first one's number."""
        first = self.states
        self.states += count
        if self.states > self._capacity[ALLOW_OFFSET]:
            for segment in (OFFSET, CLASSMAP, KIND, SPEC, ALLOW_OFFSET):
                self._room(segment, self.states)
        return first

    def add_map(self, classmap: npt.NDArray[np.uint8]) -> int:
        """Register a map of COLUMNS entries."""
        self._room(MAPS, (self.maps + 1) * COLUMNS)
        self.part(MAPS, self.maps * COLUMNS, (self.maps + 1) * COLUMNS)[:] = classmap
        self.maps += 1
        return self.maps - 1

    def add_cells(self, cells: Int32 | list[int]) -> int:
        """A block of these cells; its place."""
        first = self.take(len(cells))
        self.mem[first : first + len(cells)] = cells
        return first

    def block(self, first: int, size: int) -> Int32:
        """A view of a block."""
        return self.mem[first : first + size]

    def set_row(self, state: int, offset: int, classmap: int) -> None:
        """The state's row is the block at `offset` (kept plus one: zero means unfilled)."""
        self.put(OFFSET, state, offset + 1)
        self.put(CLASSMAP, state, classmap)

    def is_filled(self, state: int) -> bool:
        """Whether the state has its row."""
        return self.get(OFFSET, state) != 0

    def cell(self, state: int, column: int) -> int:
        """The operation of a filled state in a column."""
        at = self.get(MAPS, self.get(CLASSMAP, state) * COLUMNS + column)
        return self._cells[self.get(OFFSET, state) - 1 + at]

    def push_id(self, return_state: int, child: int, *, key: bool = False) -> int:
        """The number of the push of `child` over `return_state`."""
        ident = (return_state, child, key)
        found = self._push_ids.get(ident)
        if found is None:
            found = self._push_ids[ident] = self.add_pushes(return_state, [child])
            self.put(PUSH_KEY, found, key)
        return found

    def add_pushes(self, return_state: int, children: list[int]) -> int:
        """Number the pushes of these children, of values, over `return_state`; the first one's number."""
        first = self.pushes
        self.pushes = stop = first + len(children)
        if stop > self._capacity[PUSH_KEY]:
            for segment in (PUSH_RETURN, PUSH_CHILD, PUSH_KEY):
                self._room(segment, stop)
        self.part(PUSH_RETURN, first, stop)[:] = return_state
        self.part(PUSH_CHILD, first, stop)[:] = children
        return first

    def stack_id(self, parent: int, state: int, data: int) -> int:
        """The interned stack node."""
        ident = (parent, state, data)
        found = self._stack_ids.get(ident)
        if found is None:
            found = self._stack_ids[ident] = self.stacks
            self.stacks += 1
            self.reserve_scratch(0)
            depth = 0 if found == 0 else self.get(STACK_DEPTH, parent) + 1
            self.put(STACK_PARENT, found, parent)
            self.put(STACK_STATE, found, state)
            self.put(STACK_DATA, found, data)
            self.put(STACK_DEPTH, found, depth)
        return found

    def reserve_scratch(self, used: int) -> None:
        """Keep room for scratch nodes above the interned ones."""
        needed = self.stacks + used + _SCRATCH
        if needed <= self._capacity[STACK_DEPTH]:
            return
        for segment in (STACK_PARENT, STACK_STATE, STACK_DATA, STACK_DEPTH):
            self._room(segment, needed)
        self.h[STACK_ROOM] = self._capacity[STACK_DEPTH]

    def set_return(self, state: int, label: int, target: int) -> None:
        """What follows when a child returns `label` to `state` (DEAD: nothing)."""
        self._hash_put(RETURN_TABLE, state, label, target)

    def add_spec(self, base: int, *, minimum: int = 0, maximum: int = -1, strict: bool = False) -> int:
        """Register a string automaton whose first state is `base`."""
        number = self.specs
        self.specs += 1
        entries = (
            (SPEC_BASE, base), (SPEC_MINIMUM, minimum), (SPEC_MAXIMUM, maximum), (SPEC_OFFSET, 0), (SPEC_WORDS, 0),
            (SPEC_STRICT, strict),
        )  # fmt: skip
        for segment, value in entries:
            self._room(segment, self.specs)
            self.put(segment, number, value)
        return number

    def add_counts(self, spec: int, counts: Int32) -> None:
        """Attach the table of characters still needed."""
        self.put(SPEC_OFFSET, spec, self.add_cells(counts))

    def add_reach(self, spec: int, reach: Int32, words: int) -> None:
        """Attach the bit sets of key classes that each state can still reach."""
        self.put(SPEC_OFFSET, spec, self.add_cells(reach))
        self.put(SPEC_WORDS, spec, words)

    def used_with(self, used: int, key: bytes) -> int:
        """The set of used keys with one more: sets are chains, keys are nodes of one trie; 0 is the empty set."""
        known = self._used_words.get((used, key))
        if known is not None:
            return known
        node = 1
        for byte in key:
            following = self._hash_get(USED_TABLE, node, byte)
            if following is None:
                self._used_nodes += 1
                following = self._used_nodes
                self._hash_put(USED_TABLE, node, byte, following)
            node = following
        ident = (used, node)
        found = self._used_ids.get(ident)
        if found is None:
            found = self._used_ids[ident] = self.used_count
            self.used_count += 1
            for segment, value in ((USED_PARENT, used), (USED_LAST, node)):
                self._room(segment, self.used_count)
                self.put(segment, found, value)
            self._used_keys.append(self._used_keys[used] | {key})
        return found

    def used_keys(self, used: int) -> frozenset[bytes]:
        """The keys of a set."""
        return self._used_keys[used]

    def take(self, size: int) -> int:
        """A block of so many cells, to be written; its place."""
        first = self.top
        if first + size > self._max_cells:
            raise GrammarTooLarge(f"tables of more than {4 * self._max_cells} bytes")
        self.top = first + size
        if self.top > len(self.mem):
            enough = next(size for size in _GROWTH if size >= self.top)
            larger = np.zeros(min(self._max_cells, enough), np.int32)
            larger[:first] = self.mem[:first]
            self.mem = larger
            self._cells = larger.data
        return first

    def _room(self, segment: int, needed: int) -> None:
        """Make the segment hold `needed` entries, moving it if it must grow."""
        capacity = self._capacity[segment]
        if needed <= capacity:
            return
        larger = max(_SMALL, 2 * capacity, needed)
        fresh, old = self.take(larger), self._base[segment]
        self.mem[fresh : fresh + capacity] = self.mem[old : old + capacity]
        self._place(segment, fresh, larger)

    def _place(self, segment: int, base: int, capacity: int) -> None:
        self.h[segment], self.h[segment + 1] = self._base[segment], self._capacity[segment] = base, capacity

    def _slot(self, table: int, first: int, second: int) -> int:
        mask, base, cells = self._capacity[table] - 1, self._base[table], self._cells
        at = (first * 40503 + second * 2654435) & mask
        while True:
            slot = base + 3 * at
            held = cells[slot]
            if held == 0 or (held == first + 1 and cells[slot + 1] == second):
                return slot
            at = (at + 1) & mask

    def _hash_get(self, table: int, first: int, second: int) -> int | None:
        slot = self._slot(table, first, second)
        return self._cells[slot + 2] if self._cells[slot] else None

    def _hash_put(self, table: int, first: int, second: int, value: int) -> None:
        if 2 * self._filled[table] >= self._capacity[table]:
            self._rehash(table)
        slot, cells = self._slot(table, first, second), self._cells
        if cells[slot] == 0:
            self._filled[table] += 1
        cells[slot], cells[slot + 1], cells[slot + 2] = first + 1, second, value

    def _rehash(self, table: int) -> None:
        base, capacity = self._base[table], self._capacity[table]
        old = self.mem[base : base + 3 * capacity].reshape(-1, 3).copy()
        self._place(table, self.take(12 * capacity), 4 * capacity)
        for first, second, value in old[old[:, 0] != 0].tolist():
            slot = self._slot(table, first - 1, second)
            self.mem[slot : slot + 3] = (first, second, value)
