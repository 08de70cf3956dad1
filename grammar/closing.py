"""Closing plans: for every configuration a way to finish, in bytes and in tokens, and masks that keep one in budget.

The plan of a configuration is its top frame's completion followed by the plan of what its parent then waits for. Its
tokens are counted by dynamic programming over the trie. A plan found on the way to a configuration may be shorter than
the one found from there; then the shorter one is kept, so that following a plan always costs what it promised.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from grammar.automaton import Automaton, Mask
from grammar.kernels import kernel
from grammar.tables import DEAD, KEY, KIND, STACK_DATA, STACK_DEPTH, STACK_PARENT, STACK_STATE

Int32 = npt.NDArray[np.int32]
UNSPELLABLE: Final = 1 << 28
MOST_ROOFS: Final = 1 << 16
MOST_GROUPS: Final = 256
"""Kept at most, then begun anew: groups hold rows of the vocabulary's size."""
_NO_BOUND: Final = [(0, 0, UNSPELLABLE)]


@kernel
def token_counts(
    byte: npt.NDArray[np.uint8], end: Int32, token: Int32, text: npt.NDArray[np.uint8]
) -> tuple[Int32, Int32]:
    """[position]: the least number of tokens that spell text[position:], and the first of them."""
    size = text.shape[0]
    best = np.full(size + 1, UNSPELLABLE, np.int32)
    first = np.full(size + 1, -1, np.int32)
    best[size] = 0
    nodes = byte.shape[0]
    for start in range(size - 1, -1, -1):
        at = start
        node = 0
        stop = nodes
        while at < size and node < stop:
            while node < stop and byte[node] != text[at]:
                node = end[node]
            if node >= stop:
                break
            at += 1
            # Longer tokens win ties, so that plans prefer few and long.
            if token[node] >= 0 and best[at] + 1 <= best[start]:
                best[start] = best[at] + 1
                first[start] = token[node]
            stop = end[node]
            node += 1
    return best, first


class Closing:
    """The closing plans of one automaton."""

    def __init__(self, automaton: Automaton) -> None:
        self._automaton = automaton
        self._tokens: dict[int, int] = {}
        self._roofs: dict[int, int] = {}
        self._reaches: dict[tuple[Any, ...], list[tuple[int, int, int]]] = {}
        self._rests: dict[tuple[int, int], int] = {}
        self._classes: dict[tuple[int, bool], tuple[int, Int32, list[Int32]]] = {}
        self._row_bytes = 0
        self._lowered = 0
        """How often a known count was lowered: groups made before that are made again."""

    def plan(self, configuration: int) -> bytes:
        """Bytes that complete the text."""
        automaton = self._automaton
        tables = automaton.tables
        state, register, stack = automaton.configurations[configuration]
        parts: list[bytes] = []
        while state != automaton.done:
            finished = automaton.finish(state, register, stack)
            parts.append(finished[1])
            parent, data = tables.get(STACK_STATE, stack), tables.get(STACK_DATA, stack)
            target = automaton.returned_at_worst(parent, finished[0])
            assert target != DEAD, "a live configuration can be finished"
            register = automaton.used_at_worst(parent, finished[0], data) << 32
            state, stack = target, tables.get(STACK_PARENT, stack)
        return b"".join(parts)

    def refuse_unspellable(self, configuration: int) -> None:
        """Raise if the vocabulary spells no text from here to the end: with a token for every byte it always does."""

    def tokens(self, configuration: int, text: bytes | bytearray = b"") -> int:  # noqa: ARG002  (see SparseClosing)
        """How many tokens the plan takes; 0 exactly when the text is complete."""
        found = self._tokens.get(configuration)
        if found is None:
            found = 0 if self._automaton.accepts(configuration) else self._count(configuration)
            self._tokens[configuration] = found
        return found

    def _count(self, configuration: int) -> int:
        automaton = self._automaton
        trie = automaton.vocabulary.trie
        text = np.frombuffer(self.plan(configuration), np.uint8)
        best, first = token_counts(trie.byte, trie.end, trie.token, text)
        count = int(best[0])
        assert count < UNSPELLABLE, "a vocabulary with every byte spells every plan"
        if count > 0:
            moved = automaton.run(configuration, automaton.vocabulary.tokens[int(first[0])], None)
            if moved is not None and self._tokens.get(moved[0], count) > count - 1:
                self._promise(configuration, text, best, first)
        return count

    def _promise(self, configuration: int, text: npt.NDArray[np.uint8], best: Int32, first: Int32) -> None:
        """Record along the plan what each configuration on it costs at most."""
        automaton = self._automaton
        at = 0
        while at < len(text):
            token = automaton.vocabulary.tokens[int(first[at])]
            moved = automaton.run(configuration, token, None)
            if moved is None:
                return
            configuration, at = moved[0], at + len(token)
            promised = 0 if automaton.accepts(configuration) else int(best[at])
            if self._tokens.get(configuration, promised + 1) <= promised:
                return
            self._lowered += configuration in self._tokens
            self._tokens[configuration] = promised

    def mask(self, configuration: int, text: bytes | bytearray) -> Mask:  # noqa: ARG002  (see SparseClosing)
        """The legal tokens, whatever the budget."""
        return self._automaton.mask(configuration)

    def fill(
        self,
        configuration: int,
        text: bytes | bytearray,  # noqa: ARG002  (see SparseClosing)
        full: Mask,
        row: Int32,
        budget: int,
    ) -> bool:
        """The mask within `budget`; whether it lacks a token of the full one."""
        roof = self._roofs.get(configuration)
        if roof is None:
            if len(self._roofs) > MOST_ROOFS:
                self._roofs.clear()
                self._rests.clear()
            roof = self._roofs[configuration] = self._roof(configuration)
        if budget > roof:
            row[:] = full.row
            return False
        return self._fill_near(configuration, full, row, budget)

    def _fill_near(self, configuration: int, full: Mask, row: Int32, budget: int) -> bool:
        """As `fill`, where the budget may matter."""
        automaton = self._automaton
        resting = automaton.resting_place(configuration)
        bounds, rows = self._grouped(configuration, settled=resting is None)
        fitting = int(np.searchsorted(bounds, budget - 1, side="right"))
        stays = resting is not None and max(self.tokens(configuration), self.tokens(resting)) <= budget - 1
        if fitting == len(bounds) and (stays or resting is None):
            row[:] = full.row
            return False
        row[:] = rows[fitting]
        if stays:
            row |= automaton.vocabulary.settled_row
        if automaton.accepts(configuration):
            row |= automaton.vocabulary.eos_row
        return not np.array_equal(row, full.row)

    # ---------------------------------------------------------------- budgets that cannot matter

    def _roof(self, configuration: int) -> int:
        """An upper bound, in bytes, on what is left to be written after any one token; a token has a byte at least.

        What a token opens is measured once for all configurations of one view; what it leaves open below is added.
        """
        automaton = self._automaton
        view = automaton.view_of(configuration)
        reach = self._reaches.get(view)
        if reach is None:
            reach = self._reaches[view] = self._measured(configuration)
        if reach is _NO_BOUND:
            return UNSPELLABLE
        highest = 0
        stack = automaton.configurations[configuration][2]
        for popped, label, size in reach:
            node = stack
            for _ in range(popped):
                node = automaton.tables.get(STACK_PARENT, node)
            highest = max(highest, size + self._rest(node, label))
        return highest

    def _measured(self, configuration: int) -> list[tuple[int, int, int]]:
        """(ancestors popped, label returned to the next, bytes until then): the most that tokens lead to."""
        automaton, tables = self._automaton, self._automaton.tables
        stations = automaton.stations_of(configuration)
        if stations is None:
            return _NO_BOUND
        depth = tables.get(STACK_DEPTH, automaton.configurations[configuration][2])
        most: dict[tuple[int, int], int] = {}
        for state, node, above in stations:
            base, frames = node, [frame for frame, _ in above]
            if not frames and tables.get(KIND, state) == KEY:
                base, frames = tables.get(STACK_PARENT, node), [tables.get(STACK_STATE, node)]
            ways = automaton.bounds(state, frames[0] if frames else None)
            for frame in frames:
                ways = None if ways is None else automaton.bounds_above(ways, frame)
            if ways is None:
                return _NO_BOUND
            for label, size in ways.items():
                where = (depth - tables.get(STACK_DEPTH, base), label)
                most[where] = max(size, most.get(where, 0))
        return [(popped, label, size) for (popped, label), size in most.items()]

    def _rest(self, node: int, label: int) -> int:
        """The bytes of the plan once a frame above stack node `node` returned `label`."""
        automaton, tables = self._automaton, self._automaton.tables
        path: list[tuple[tuple[int, int], int]] = []
        total = 0
        while True:
            known = self._rests.get((node, label))
            target = 0 if known is not None else automaton.returned(tables.get(STACK_STATE, node), label)
            if known is not None or target in (automaton.done, DEAD):
                total = known or 0
                break
            if automaton.owes_others(tables.get(STACK_STATE, node)):
                return UNSPELLABLE
            parent = tables.get(STACK_PARENT, node)
            onward, text = automaton.finish(target, tables.get(STACK_DATA, node) << 32, parent)
            path.append(((node, label), len(text)))
            node, label = parent, onward
        for where, size in reversed(path):
            total += size
            self._rests[where] = total
        return total

    def _grouped(self, configuration: int, *, settled: bool) -> tuple[Int32, list[Int32]]:
        """Sorted costs of the legal tokens, and rows: rows[i] holds the tokens of the first i costs.

        `settled`: those of the vocabulary's settled row among them.
        """
        key = (configuration, settled)
        found = self._classes.get(key)
        if found is None or found[0] != self._lowered:
            automaton = self._automaton
            trie = automaton.vocabulary.trie if settled else automaton.vocabulary.unsettled_trie
            tokens, (which, ends), recorded = automaton.ends_of(configuration, trie)
            for number in np.flatnonzero(recorded).tolist():
                # What was closed is not remembered there: assume the worst of it.
                spelled = automaton.vocabulary.tokens[int(tokens[which == number][0])]
                moved = automaton.run(configuration, spelled, None)
                ends[number] = ends[number] if moved is None else moved[0]
            bounds, rows = self._sorted(tokens, (which, ends))
            if len(self._classes) > MOST_GROUPS:
                self._classes.clear()
                self._row_bytes = 0
            found = self._classes[key] = (self._lowered, bounds, rows)
            self._row_bytes += sum(row.nbytes for row in rows)
        return found[1], found[2]

    @property
    def nbytes(self) -> int:
        """Memory of counts and of rows by cost, roughly."""
        return 120 * len(self._tokens) + self._row_bytes

    def trim(self, most: int) -> None:
        """Drop the rows, which are made again on demand, if they take more than `most` bytes. Promises stay."""
        if self._row_bytes > most:
            self._classes.clear()
            self._row_bytes = 0

    def _sorted(self, tokens: Int32, ends: tuple[Int32, list[int]]) -> tuple[Int32, list[Int32]]:
        while True:
            before = self._lowered
            counts = np.array([self.tokens(c) for c in ends[1]], np.int32)
            if before == self._lowered:
                break
        costs = counts[ends[0]]
        bounds = np.unique(costs)
        rows = [np.zeros(self._automaton.vocabulary.words, np.int32)]
        bits = np.zeros(self._automaton.vocabulary.words * 32, np.bool_)
        for bound in bounds:
            bits[tokens[costs == bound]] = True
            rows.append(np.packbits(bits, bitorder="little").view(np.int32))
        return bounds.astype(np.int32), rows
