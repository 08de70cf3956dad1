"""The value that everything regular becomes: a trimmed, minimal, canonically numbered automaton over bytes.

Two invariants carry the room: every state can still reach acceptance (so DEAD means "nothing can follow"), and equal
languages are equal values (so a language is its own cache key). Nothing here knows of regexes, numbers or formats.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Final

import numpy as np
import numpy.typing as npt

from grammar.errors import GrammarTooLarge
from grammar.kernels import fixed
from grammar.lexical.limits import DEFAULT_LIMITS, Limits
from grammar.lexical.minimise import canonical_arrays
from grammar.lexical.product import BOTH, EITHER, FIRST_ONLY, Pair, product_arrays

DEAD: Final = -1


@dataclass(frozen=True, slots=True, eq=False)
class Dfa:
    """A regular language over bytes. Build it with `canonical`, `Dfa.empty` or the operations, never field by field."""

    classes: npt.NDArray[np.uint8]
    """(256,): byte → byte class, numbered by first occurrence."""
    table: npt.NDArray[np.int32]
    """(states, n_classes): the next state or DEAD."""
    accepting: npt.NDArray[np.bool_]
    distance: npt.NDArray[np.int32]
    """(states,): the least number of bytes to acceptance."""
    start: int = 0

    @staticmethod
    def empty() -> "Dfa":
        """The language without words."""
        return canonical(np.full((1, 1), DEAD, np.int32), np.zeros(1, np.bool_), np.zeros(256, np.uint8))

    @staticmethod
    def epsilon() -> "Dfa":
        """The language of the empty word alone."""
        return canonical(np.full((1, 1), DEAD, np.int32), np.ones(1, np.bool_), np.zeros(256, np.uint8))

    @property
    def is_empty(self) -> bool:
        """Whether no word is accepted."""
        return self.states == 0

    @property
    def states(self) -> int:
        """The number of states (none for the empty language)."""
        return len(self.accepting)

    @property
    def nbytes(self) -> int:
        """The memory of the arrays."""
        return self.classes.nbytes + self.table.nbytes + self.accepting.nbytes + self.distance.nbytes

    def step(self, state: int, byte: int) -> int:
        """The state after `byte`, or DEAD."""
        return int(self.table[state, self.classes[byte]])

    def run(self, text: bytes, state: int = 0) -> int:
        """The state after `text`, or DEAD."""
        if self.is_empty:
            return DEAD
        for byte in text:
            state = int(self.table[state, self.classes[byte]])
            if state == DEAD:
                return DEAD
        return state

    def accepts(self, text: bytes) -> bool:
        """Whether `text` is a word of the language."""
        state = self.run(text)
        return state != DEAD and bool(self.accepting[state])

    def shortest(self, state: int = 0) -> bytes:
        """The lexicographically least of the byte-shortest completions of `state`.

        Consuming its first byte leaves the next state's own shortest: the suffix property closing plans rest on.
        """
        _, byte_of = np.unique(self.classes, return_index=True)
        found = bytearray()
        while not self.accepting[state]:
            targets = self.table[state]
            closer = np.flatnonzero((targets >= 0) & (self.distance[targets] == self.distance[state] - 1))
            # Classes are numbered by first byte, so the first class holds the least byte.
            found.append(int(byte_of[closer[0]]))
            state = int(targets[closer[0]])
        return bytes(found)

    def intersect(self, other: "Dfa", limits: Limits = DEFAULT_LIMITS) -> "Dfa":
        """The words of both."""
        return _combine(self, other, BOTH, limits)

    def union(self, other: "Dfa", limits: Limits = DEFAULT_LIMITS) -> "Dfa":
        """The words of either."""
        return _combine(self, other, EITHER, limits)

    def difference(self, other: "Dfa", limits: Limits = DEFAULT_LIMITS) -> "Dfa":
        """The words of this language that the other lacks."""
        return _combine(self, other, FIRST_ONLY, limits)

    def complement(self, universe: "Dfa", limits: Limits = DEFAULT_LIMITS) -> "Dfa":
        """The words of `universe` that this language lacks."""
        return universe.difference(self, limits)

    def contains(self, other: "Dfa", limits: Limits = DEFAULT_LIMITS) -> bool:
        """Whether every word of `other` is a word of this language."""
        return other.difference(self, limits).is_empty

    @property
    def is_finite(self) -> bool:
        """Whether there are finitely many words: as all states are useful, whether there is no cycle."""
        incoming = np.bincount(self.table[self.table >= 0], minlength=self.states)
        ready = [0] if self.states and incoming[0] == 0 else []
        seen = 0
        while ready:
            targets = self.table[ready.pop()]
            seen += 1
            for target in targets[targets >= 0]:
                incoming[target] -= 1
                if incoming[target] == 0:
                    ready.append(int(target))
        return seen == self.states

    @property
    def longest(self) -> int | None:
        """The length in bytes of the longest word; None if there is no longest."""
        if not self.is_finite or self.is_empty:
            return None
        alive = np.zeros(self.states, np.bool_)
        alive[0] = True
        for length in range(self.states + 1):
            targets = self.table[alive]
            alive = np.zeros(self.states, np.bool_)
            alive[targets[targets >= 0]] = True
            if not alive.any():
                return length
        raise AssertionError("a finite language has words shorter than its states")

    @property
    def fingerprint(self) -> bytes:
        """Sixteen bytes that name the language."""
        digest = hashlib.blake2b(digest_size=16)
        for array in (self.classes, self.table, self.accepting):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.digest()

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Dfa)
            and self.table.shape == other.table.shape
            and np.array_equal(self.classes, other.classes)
            and np.array_equal(self.table, other.table)
            and np.array_equal(self.accepting, other.accepting)
        )

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return f"Dfa({self.states} states, {self.table.shape[1]} classes, {self.fingerprint.hex()[:8]})"


def canonical(
    table: npt.NDArray[np.int32], accepting: npt.NDArray[np.bool_], classes: npt.NDArray[np.uint8], start: int = 0
) -> Dfa:
    """The canonical automaton of a raw one, whose table may hold useless states and need not be minimal."""
    narrow, accepts, merged, distance = canonical_arrays(
        fixed(np.ascontiguousarray(table)), fixed(accepting), fixed(classes), int(start)
    )
    for array in (narrow, accepts, merged, distance):
        array.setflags(write=False)
    return Dfa(classes=merged, table=narrow, accepting=accepts, distance=distance)


def union_all(languages: Iterable[Dfa], limits: Limits = DEFAULT_LIMITS) -> Dfa:
    """The words of any; the empty language for none."""
    return reduce(lambda one, other: one.union(other, limits), languages, Dfa.empty())


def _combine(first: Dfa, second: Dfa, operation: int, limits: Limits) -> Dfa:
    joint = first.classes.astype(np.int32) * 256 + second.classes
    codes, classes = np.unique(joint, return_inverse=True)
    pairs = np.stack([codes // 256, codes % 256], axis=1).astype(np.int32)
    pair = Pair(first.table, first.accepting, second.table, second.accepting, pairs)
    explored = product_arrays(pair, operation, limits.max_states)
    if explored is None:
        sizes = f"{first.states} and {second.states} states"
        raise GrammarTooLarge(f"combining automata of {sizes} needs more than {limits.max_states} states")
    return canonical(*explored, classes.astype(np.uint8))
