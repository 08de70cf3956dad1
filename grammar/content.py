"""The machine of a string, key or number in the tables, and what plain content does to its states.

One object for each machine of a grammar; what it tells is worked out when it is first asked for.
"""

from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from grammar import plain
from grammar.codes import IMPOSSIBLE
from grammar.frames.languages import Machine, any_string, characters_needed
from grammar.kernels import fixed
from grammar.lexical.graphs import alike_within
from grammar.trie import Trie
from grammar.vocabulary import MOST_ENDINGS, Vocabulary

Int32 = npt.NDArray[np.int32]


class Content:
    """One machine, whose states stand in the tables from `base` on."""

    def __init__(self, vocabulary: Vocabulary, machine: Machine, base: int) -> None:
        self.vocabulary = vocabulary
        self.machine = machine
        self.base = base

    @property
    def is_counted(self) -> bool:
        """Whether its characters are counted."""
        return self.machine.least > 0 or self.machine.most is not None

    @cached_property
    def is_any(self) -> bool:
        """Whether the machine, its length aside, takes every text."""
        return _is_any(self.machine)

    @cached_property
    def free(self) -> frozenset[int]:
        """The states, counted from `base`, to which every plain character leads back, if lengths do not count."""
        if self.is_counted or self.machine.literal:
            return frozenset()
        return frozenset(np.flatnonzero(plain.loops(*self._automaton, *_free())).tolist())

    @cached_property
    def _automaton(self) -> tuple[Int32, npt.NDArray[np.uint8]]:
        return fixed(self.machine.table), fixed(self.machine.classes)

    @cached_property
    def needed(self) -> Int32:
        """As `characters_needed`."""
        if self.is_any:
            return _any_needed(self.machine.least)
        return fixed(characters_needed(self.machine))

    @cached_property
    def most_needed(self) -> int:
        """One more than the most characters that any state of this counted machine can still need."""
        return int(self.needed[self.needed < IMPOSSIBLE].max()) + 1

    @cached_property
    def all_live(self) -> tuple[Int32, Int32]:
        """What each state reaches, and what is allowed, of one class: the machine is trimmed, so all states live."""
        return fixed(np.ones((len(self.machine.labels), 1), np.int32)), fixed(np.ones(1, np.int32))

    @cached_property
    def alike(self) -> Int32:
        """[state of a number]: the first state that no token tells apart from it."""
        steps = max(1, self.vocabulary.number_run)
        return alike_within(fixed(self.machine.table), fixed(self.machine.labels), steps)

    def saturated(self, count: int) -> int:
        """What one token can tell of a register that has counted so many characters."""
        missing = max(self.machine.least - count, 0)
        if self.machine.most is None:
            return missing << 32
        longest = self.vocabulary.trie.longest
        return missing << 32 | min(self.machine.most - count, longest + self.most_needed) << 5

    def begin(self, at: int, count: int) -> tuple[Int32, list[tuple[Trie, int]]]:
        """In a string, in the at-th state: the tokens that stay inside, and tries of the others, each with the count of
        characters from which it is to be walked."""
        vocabulary, machine = self.vocabulary, self.machine
        if at in self.free:
            return vocabulary.slices[-1].copy(), [(vocabulary.ending_trie, 0)]
        if not self.is_counted:
            return self.plain_row(at, *self.all_live), [(vocabulary.special_trie, 0)]
        left = None if machine.most is None else machine.most - count
        missing = max(machine.least - count, 0)
        if not self.is_any or at:
            return self._counted_row(at, count, missing, left), [(vocabulary.special_trie, count)]
        longest = len(vocabulary.slices) - 1
        row = vocabulary.slices[longest if left is None else min(left, longest)].copy()
        if missing < MOST_ENDINGS and (left is None or left >= vocabulary.special_trie.longest):
            exact = [(vocabulary.endings(length), count + length) for length in range(missing)]
            return row, [*exact, (vocabulary.endings_from(missing), count + missing)]
        return row, [(vocabulary.special_trie, count)]

    def plain_row(self, at: int, reach: Int32, allow: Int32, *, is_finite: bool = False) -> Int32:
        """The plain tokens that lead from the at-th state to states which reach what is allowed (as `plain.meets`).

        Where only some words are allowed (`is_finite`), not every character goes on.
        """
        vocabulary = self.vocabulary
        sure = 0 if is_finite else min(self._sure(at, reach, allow), len(vocabulary.slices) - 1)
        row: Int32 = vocabulary.slices[sure].copy()
        if sure < len(vocabulary.slices) - 1:
            plain.add_plain(*vocabulary.plain, sure, *self._automaton, reach, allow, at, row)
        return row

    def _counted_row(self, at: int, count: int, missing: int, left: int | None) -> Int32:
        vocabulary = self.vocabulary
        sure = self._sure(at, *self.all_live, missing)
        if sure < missing:
            sure = 0  # what surely lives may not live long enough
        sure = min(sure, len(vocabulary.slices) - 1)
        if left is not None:
            sure = max(min(sure, left - self.most_needed), 0)
        row: Int32 = vocabulary.slices[sure].copy()
        if sure < len(vocabulary.slices) - 1:
            plain.add_counted(
                *vocabulary.plain,
                sure,
                *self._automaton,
                self.needed,
                -1 if left is None else left + count,
                at,
                count,
                row,
            )
        return row

    def _sure(self, at: int, reach: Int32, allow: Int32, missing: int = 0) -> int:
        """As `sure_characters`, told apart up to the longest plain token's, and what is missing to the least length."""
        if self.machine.literal:
            return 0
        most = max(len(self.vocabulary.slices) - 1, missing)
        return plain.sure_characters(*self._automaton, reach, allow, *_free(), at, most)


@lru_cache(maxsize=1)
def _free() -> tuple[Int32, npt.NDArray[np.uint8]]:
    """The automaton of all texts, as kernels take it."""
    free = any_string()
    return fixed(free.table), fixed(free.classes)


def _is_any(machine: Machine) -> bool:
    free = any_string()
    return (
        machine.table.shape == free.table.shape
        and np.array_equal(machine.table, free.table)
        and np.array_equal(machine.classes, free.classes)
        and np.array_equal(machine.labels >= 0, free.accepting)
    )


@lru_cache(maxsize=64)
def _any_needed(least: int) -> Int32:
    free = any_string()
    labels = np.where(free.accepting, 0, -1).astype(np.int32)
    return fixed(characters_needed(Machine(free.classes, free.table, labels, least=least)))
