"""Closing plans over a vocabulary that lacks bytes: what cannot be finished with its tokens is not begun.

With a token for every byte whatever a text still needs can be spelled, and `Closing` never asks. Without (no byte
fallback, a few letters only), a position may have completions and none of them spellable. So here a position counts as
alive only with a witness: a run of tokens, found by following closing plans where the vocabulary spells them and by
searching over tokens, nearest plan first, where it does not. Every position on a witness is alive too, so a generation
that keeps to living positions is never stranded. A search that finds nothing within `MOST_STEPS` counts as "no": such a
position is given up, never a promise.
"""

from heapq import heappop, heappush
from typing import Final

import numpy as np

from grammar.automaton import Automaton
from grammar.closing import UNSPELLABLE, Closing, Int32, spelling
from grammar.errors import UnsatisfiableConstraint
from grammar.states import Mask

MOST_STEPS: Final = 400
Node = tuple[int, bytes]
"""A configuration, and the text of its open key or item where later ones must differ from it."""
Move = tuple[int, Int32]
"""Where it leads, and the tokens that lead there."""


class SparseClosing(Closing):
    """As `Closing`; every answer depends on what the vocabulary can spell."""

    def __init__(self, automaton: Automaton) -> None:
        super().__init__(automaton)
        self._promised: dict[Node, int] = {}
        """Tokens to the end, or UNSPELLABLE. Once given up a position stays so: masks and advance must agree."""
        self._moves: dict[Node, list[Move]] = {}
        self._masks: dict[Node, tuple[Int32, int]] = {}
        self._held_bytes = 0
        """What moves and masks hold: they are made again on demand. Promises are not, so they stay."""

    def refuse_unspellable(self, configuration: int) -> None:
        """Raise if these tokens spell no text from here to the end."""
        if self.tokens(configuration, b"") >= UNSPELLABLE:
            raise UnsatisfiableConstraint("this vocabulary cannot spell what the constraint needs")

    def tokens(self, configuration: int, text: bytes | bytearray = b"") -> int:
        """How many tokens the witness takes; UNSPELLABLE if there is none."""
        node = self._node(configuration, bytes(text))
        found = self._promised.get(node)
        if found is None:
            self._search(configuration, bytes(text))
            found = self._promised[node]
        return found

    def mask(self, configuration: int, text: bytes | bytearray) -> Mask:
        """The tokens after which these tokens can complete the text."""
        return Mask(self._full(configuration, bytes(text))[0])

    def fill(self, configuration: int, text: bytes | bytearray, full: Mask, row: Int32, budget: int) -> bool:
        """The mask within `budget`; whether it lacks a token of the full one."""
        if budget - 1 >= self._full(configuration, bytes(text))[1]:
            row[:] = full.row
            return False
        row[:] = self._row(configuration, bytes(text), budget - 1)[0]
        return not np.array_equal(row, full.row)

    def _full(self, configuration: int, text: bytes) -> tuple[Int32, int]:
        """The mask without a budget, and the most tokens that any of its tokens leaves to be taken."""
        node = self._node(configuration, text)
        found = self._masks.get(node)
        if found is None:
            found = self._row(configuration, text, UNSPELLABLE - 1)
            if node in self._moves:
                self._masks[node] = found
                self._held_bytes += found[0].nbytes
        return found

    def _row(self, configuration: int, text: bytes, most: int) -> tuple[Int32, int]:
        bits = np.zeros(self._automaton.vocabulary.words * 32, np.bool_)
        spelled, longest = self._automaton.vocabulary.tokens, 0
        for after, tokens in self._moves_of(configuration, text):
            left = self.tokens(after, text + spelled[tokens[0]])
            if left <= most:
                bits[tokens] = True
                longest = max(longest, left)
        row: Int32 = np.packbits(bits, bitorder="little").view(np.int32)
        if self._automaton.accepts(configuration):
            row |= self._automaton.vocabulary.eos_row
        return row, longest

    def _node(self, configuration: int, text: bytes) -> Node:
        return configuration, self._automaton.open_value(configuration, text)

    @property
    def nbytes(self) -> int:
        """Memory of promises, moves and masks, roughly."""
        return self.kept_bytes + self._held_bytes

    @property
    def kept_bytes(self) -> int:
        """The part of it that `trim` does not drop."""
        return 250 * len(self._promised)

    def trim(self, most: int) -> None:
        """Drop moves and masks if they take more than `most` bytes."""
        if self._held_bytes > most:
            self._moves.clear()
            self._masks.clear()
            self._held_bytes = 0

    def _moves_of(self, configuration: int, text: bytes) -> list[Move]:
        """What each token leads to, each place once."""
        node = self._node(configuration, text)
        found = None if node[1] else self._moves.get(node)
        if found is None:
            automaton = self._automaton
            tokens, (which, ends), recorded = automaton.ends_of(configuration, automaton.vocabulary.trie)
            found, is_bound = [], bool(node[1])
            for number, end in enumerate(ends):
                same, closed = tokens[which == number], recorded[number] is not None
                if closed or automaton.open_value(end, text + automaton.vocabulary.tokens[same[0]]):
                    found += self._remembered(configuration, text, same)
                    is_bound = True
                else:
                    found.append((end, same))
            if not is_bound:
                self._moves[node] = found
                self._held_bytes += sum(200 + same.nbytes for _, same in found)
        return found

    def _remembered(self, configuration: int, text: bytes, tokens: Int32) -> list[Move]:
        """As `_moves_of`, for tokens whose very text may matter later."""
        automaton = self._automaton
        places: dict[Node, list[int]] = {}
        for token in tokens.tolist():
            moved = automaton.advance(configuration, token, text)
            if moved is not None:
                longer = text + automaton.vocabulary.tokens[token]
                places.setdefault(self._node(moved[0], longer), []).append(token)
        return [(node[0], np.array(same, np.int32)) for node, same in places.items()]

    # ---------------------------------------------------------------- witnesses

    def _search(self, configuration: int, text: bytes) -> None:
        """Settle the position: promise it and all on the way to the end, or give up what was seen."""
        start = self._node(configuration, text)
        before: dict[Node, Node | None] = {start: None}
        queue: list[tuple[int, int, int, int, bytes]] = [(0, 0, configuration, 0, text)]
        steps = 0
        while queue and steps < MOST_STEPS:
            _, _, at, depth, spelled = heappop(queue)
            node = self._node(at, spelled)
            left = self._known(at, spelled)
            if left < UNSPELLABLE:
                self._keep(before, node, left)
                return
            steps += 1
            for after, tokens in self._moves_of(at, spelled):
                longer = spelled + self._automaton.vocabulary.tokens[tokens[0]]
                following = self._node(after, longer)
                if following in before or self._promised.get(following, 0) >= UNSPELLABLE:
                    continue
                before[following] = node
                far = depth + 1 + len(self.plan(after))
                heappush(queue, (far, len(before), after, depth + 1, longer))
        for node in [start] if queue else before:
            self._promised.setdefault(node, UNSPELLABLE)

    def _keep(self, before: dict[Node, Node | None], node: Node, left: int) -> None:
        at: Node | None = node
        while at is not None:
            self._lower(at, left)
            at, left = before[at], left + 1

    def _lower(self, node: Node, left: int) -> None:
        self._promised[node] = min(left, self._promised.get(node, left))

    def _known(self, configuration: int, text: bytes) -> int:
        """What is promised here, or what the plan takes if these tokens spell it."""
        node = self._node(configuration, text)
        found = self._promised.get(node)
        if found is None:
            found = 0 if self._automaton.accepts(configuration) else self._planned(configuration, text)
            if found < UNSPELLABLE:
                self._lower(node, found)
        return found

    def _planned(self, configuration: int, text: bytes) -> int:
        """Follow the plan in tokens; what it takes is promised all along it."""
        automaton = self._automaton
        trie = automaton.vocabulary.trie
        plan = np.frombuffer(self.plan(configuration), np.uint8)
        count, path = spelling(trie.byte, trie.end, trie.token, trie.tops, plan)
        if count >= UNSPELLABLE:
            return UNSPELLABLE
        nodes = []
        for taken, token in enumerate(path.tolist()):
            nodes.append((self._node(configuration, text), count - taken))
            moved = automaton.advance(configuration, token, text)
            if moved is None:
                return UNSPELLABLE
            configuration, text = moved[0], text + automaton.vocabulary.tokens[token]
        if not automaton.accepts(configuration):
            return UNSPELLABLE
        if any(self._promised.get(node, 0) >= UNSPELLABLE for node, _ in nodes):
            return UNSPELLABLE
        for node, left in nodes:
            self._lower(node, left)
        return count
