"""Closing plans: for every configuration a way to finish, in bytes and in tokens, and masks that keep one in budget.

The plan of a configuration is its top frame's completion followed by the plan of what its parent then waits for. Its
tokens are counted by dynamic programming over the trie. A plan found on the way to a configuration may be shorter than
the one found from there; then the shorter one is kept, so that following a plan always costs what it promised.

Where keys or items must differ from those that came, a plan depends on what came, and a key that one token closes is
not known to the mask: it is taken for the shortest, after which the rest is longest. In bytes, that is: how many tokens
a text takes does not grow with its length. So there bytes are counted, which as many tokens can always spell.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from grammar import gathering
from grammar.automaton import Automaton
from grammar.kernels import kernel
from grammar.states import Mask
from grammar.tables import DEAD, KEY, KIND, LISTED, STACK_DATA, STACK_DEPTH, STACK_PARENT, STACK_STATE

Int32 = npt.NDArray[np.int32]
UNSPELLABLE: Final = 1 << 28
MOST_ROOFS: Final = 1 << 16
MOST_GROUPS: Final = 256
"""Kept at most, then begun anew: groups hold rows of the vocabulary's size."""
_NO_BOUND: Final = [(0, 0, UNSPELLABLE)]


@kernel
def spelling(
    byte: npt.NDArray[np.uint8], end: Int32, token: Int32, tops: Int32, text: npt.NDArray[np.uint8]
) -> tuple[int, Int32]:
    """The least number of tokens that spell the text, UNSPELLABLE if none do, and these tokens."""
    size = text.shape[0]
    best = np.full(size + 1, UNSPELLABLE, np.int32)
    first = np.full(size + 1, -1, np.int32)
    after = np.zeros(size + 1, np.int32)
    best[size] = 0
    for start in range(size - 1, -1, -1):
        at = start
        node = int(tops[text[start]])
        # To hop over the first bytes of all tokens, sibling by sibling, would take longer than all the rest.
        stop = -1 if node < 0 else int(end[node])
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
                after[start] = at
            stop = end[node]
            node += 1
    count = int(best[0])
    path = np.zeros(count if count < UNSPELLABLE else 0, np.int32)
    at = 0
    for i in range(path.shape[0]):
        path[i] = first[at]
        at = after[at]
    return count, path


class Closing:
    """The closing plans of one automaton."""

    def __init__(self, automaton: Automaton) -> None:
        self._automaton = automaton
        self._by_bytes = automaton.may_owe_others
        self._tokens: dict[int, int] = {}
        self._roofs: dict[int, int] = {}
        self._reaches: dict[tuple[Any, ...], list[tuple[int, int, int]]] = {}
        self._rests: dict[tuple[int, int], int] = {}
        self._classes: dict[int, tuple[int, Int32, list[Int32]]] = {}
        self._row_bytes = 0
        self._underway: dict[int, tuple[Int32, int]] = {}
        """Paths of tokens along which promises were made, each up to here: (the path, tokens of it already taken)."""
        self._path_bytes = 0
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
        if configuration in self._underway:
            self._promise_next(configuration)
        return found

    def _count(self, configuration: int) -> int:
        automaton = self._automaton
        trie = automaton.vocabulary.trie
        text = np.frombuffer(self.plan(configuration), np.uint8)
        if self._by_bytes:
            count, path = len(text), trie.token[trie.tops[text]]
        else:
            count, path = spelling(trie.byte, trie.end, trie.token, trie.tops, text)
        assert count < UNSPELLABLE, "a vocabulary with every byte spells every plan"
        self._follow(configuration, path, 0)
        return count

    def _promise_next(self, configuration: int) -> None:
        """Record what the next configuration along the path costs at most.

        One step whenever a count is asked for: to go to the end of each plan at once would be quadratic in its length.
        """
        automaton = self._automaton
        path, taken = self._underway.pop(configuration)
        self._path_bytes -= path.nbytes
        moved = automaton.run(configuration, automaton.vocabulary.tokens[path[taken]], None)
        if moved is None:
            return
        promised = 0 if automaton.accepts(moved[0]) else len(path) - taken - 1
        if self._tokens.get(moved[0], promised + 1) <= promised:
            return
        self._lowered += moved[0] in self._tokens
        self._tokens[moved[0]] = promised
        self._follow(moved[0], path, taken + 1)

    def _follow(self, configuration: int, path: Int32, taken: int) -> None:
        replaced = self._underway.pop(configuration, None)
        if replaced is not None:
            self._path_bytes -= replaced[0].nbytes
        if self._tokens.get(configuration) != 0 and taken < len(path):
            self._underway[configuration] = path, taken
            self._path_bytes += path.nbytes

    def mask(self, configuration: int, text: bytes | bytearray) -> Mask:  # noqa: ARG002  (see SparseClosing)
        """The legal tokens, whatever the budget."""
        return self._automaton.mask(configuration)

    def is_ample(self, configuration: int, budget: int) -> bool:
        """Whether no legal token leaves more to be taken than the budget allows."""
        roof = self._roofs.get(configuration)
        if roof is None:
            if len(self._roofs) > MOST_ROOFS:
                self._roofs.clear()
                self._rests.clear()
            roof = self._roofs[configuration] = self._roof(configuration)
        if budget > roof:
            return True
        bounds, _ = self._grouped(configuration)
        return not len(bounds) or bool(bounds[-1] < budget)

    def fill(
        self,
        configuration: int,
        text: bytes | bytearray,  # noqa: ARG002  (see SparseClosing)
        full: Mask,
        row: Int32,
        budget: int,
    ) -> bool:
        """The mask within `budget`; whether it lacks a token of the full one."""
        if self.is_ample(configuration, budget):
            row[:] = full.row
            return False
        bounds, rows = self._grouped(configuration)
        row[:] = rows[int(np.searchsorted(bounds, budget - 1, side="right"))]
        if self._automaton.accepts(configuration):
            row |= self._automaton.vocabulary.eos_row
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
            if not frames and tables.get(KIND, state) in (KEY, LISTED):
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

    def _grouped(self, configuration: int) -> tuple[Int32, list[Int32]]:
        """Sorted costs of the legal tokens, and rows: rows[i] holds the tokens of the first i costs."""
        self.tokens(configuration)  # What is promised here has to be promised on along the path.
        found = self._classes.get(configuration)
        if found is None or found[0] != self._lowered:
            bounds, rows = self._sorted(configuration)
            if len(self._classes) > MOST_GROUPS:
                self._classes.clear()
                self._row_bytes = 0
            found = self._classes[configuration] = (self._lowered, bounds, rows)
            self._row_bytes += sum(row.nbytes for row in rows)
        return found[1], found[2]

    @property
    def nbytes(self) -> int:
        """Memory of counts and of rows by cost, roughly."""
        return self.kept_bytes + self._row_bytes

    @property
    def kept_bytes(self) -> int:
        """The part of it that `trim` does not drop: what was promised to matchers under way."""
        return 120 * (len(self._tokens) + len(self._underway)) + self._path_bytes

    def trim(self, most: int) -> None:
        """Drop the rows, which are made again on demand, if they take more than `most` bytes. Promises stay."""
        if self._row_bytes > most:
            self._classes.clear()
            self._row_bytes = 0

    def _sorted(self, configuration: int) -> tuple[Int32, list[Int32]]:
        automaton = self._automaton
        vocabulary = automaton.vocabulary
        resting = automaton.resting_places(configuration)
        trie = vocabulary.unsettled_trie if resting else vocabulary.trie
        tokens, (which, ends), recorded = automaton.ends_of(configuration, trie)
        for number, token in enumerate(recorded):
            if token is not None:
                # What was closed is not remembered there: assume the worst of it.
                moved = automaton.run(configuration, vocabulary.tokens[token], None)
                ends[number] = ends[number] if moved is None else moved[0]
        counts = self._settled_counts([*ends, *(place for _, place in resting)])
        bounds = np.unique(counts)
        ranks = np.searchsorted(bounds, counts) + 1
        rows = np.zeros((len(bounds) + 1, vocabulary.words), np.int32)
        gathering.set_ranked(tokens, which, ranks, rows)
        for (row, _), rank in zip(resting, ranks[len(ends) :], strict=True):
            rows[rank] |= row
        return bounds, list(np.bitwise_or.accumulate(rows, axis=0))

    def _settled_counts(self, configurations: list[int]) -> Int32:
        """What each costs, once counting one no longer lowers another."""
        while True:
            before = self._lowered
            counts = np.array([self.tokens(c) for c in configurations], np.int32)
            if before == self._lowered:
                return counts
