"""Where the legal tokens of a configuration lead, each with its end, in groups, or roughly."""

from typing import Final

import numpy as np
import numpy.typing as npt

from grammar import gathering
from grammar.frames.languages import Machine
from grammar.masks import Masks
from grammar.tables import COUNTED, KEY, KIND, PLAIN
from grammar.trie import Trie
from grammar.vocabulary import Vocabulary

Int32 = npt.NDArray[np.int32]

MAX_STATIONS: Final = 512
FEW_ENDS: Final = 256
"""Room for the places where the tokens of one mask lead; more is made when it is needed."""


class Destinations(Masks):
    """Where the tokens of a mask lead: what masks within a budget are made of."""

    def __init__(self, vocabulary: Vocabulary, *, max_blanks: int, max_bytes: int) -> None:
        super().__init__(vocabulary, max_blanks=max_blanks, max_bytes=max_bytes)
        self._ends = np.zeros((FEW_ENDS, 5), np.int64)

    def resting_places(self, configuration: int) -> list[tuple[Int32, int]]:
        """For a configuration in a string or key that may go on as it likes: (plain tokens, where they lead).

        All of whole characters, which lead back to where they began, or, where characters are counted, those of each
        length. Empty elsewhere.
        """
        state, register, stack = self.configurations[configuration]
        kind = self.tables.get(KIND, state)
        if kind == PLAIN or register & 31:
            return []
        content = self.content_at(state)
        at = state - content.base
        if kind == COUNTED:
            return self._places_by_length(configuration, content.machine) if at == 0 and content.is_any else []
        if at not in content.free:
            return []
        if kind == KEY:
            frame = self._frame_at(stack)
            if register or not frame.shape.is_simple or not self._key_lives(content, frame)[at]:
                return []
        return [(self.vocabulary.settled_row, configuration)]

    def _places_by_length(self, configuration: int, machine: Machine) -> list[tuple[Int32, int]]:
        state, register, stack = self.configurations[configuration]
        count, found = register >> 32, []
        for length, row in self.vocabulary.settled_lengths:
            if machine.most is not None and count + length > machine.most:
                break
            after = count + length if machine.most is not None else min(count + length, max(machine.least, count))
            found.append((row, self.configuration(state, after << 32, stack)))
        return found

    def ends_of(self, configuration: int, trie: Trie) -> tuple[Int32, tuple[Int32, list[int]], list[int | None]]:
        """The legal tokens of `trie`, and for each the index of the configuration it leads to, in the list beside.

        The last list has for each one of its tokens if they closed a key or item not yet remembered as used there.
        """
        tables, vocabulary = self.tables, self.vocabulary
        self.mask(configuration)
        arrays = (*trie.arrays, *self._pure_parts(configuration, trie))
        lists = np.empty(vocabulary.size, np.int32), np.empty(vocabulary.size, np.int32)
        while True:
            self._begin(*self.configurations[configuration])
            slots = np.empty(1 << (2 * len(self._ends)).bit_length(), np.int32)
            count, distinct, pending = gathering.collect(
                tables.mem, tables.h, *arrays, self._levels, self._work, *lists, self._ends, slots
            )
            if distinct == len(self._ends):
                self._ends = np.zeros((4 * distinct, 5), np.int64)
            elif pending:
                self._fill_missing(self._work[: min(pending, len(self._work))].copy())
            else:
                break
        found = self._ends[:distinct].tolist()
        # Interning overwrites the scratch region, so the chains are read out first.
        scratch = tables.stacks
        chains = [self._chain(st, scratch) for _, _, st, _, _ in found]
        numbers = []
        for (s, reg, _, _, _), (base, above) in zip(found, chains, strict=True):
            node = base
            for return_state, data in reversed(above):
                node = tables.stack_id(node, return_state, data)
            numbers.append(self.configuration(s, reg, node))
        return lists[0][:count], (lists[1][:count], numbers), [end[4] if end[3] else None for end in found]

    def _pure_parts(self, configuration: int, trie: Trie) -> tuple[npt.NDArray[np.bool_], int, npt.NDArray[np.bool_]]:
        """Subtrees of plain content only, and where it leads back: the string's first state, free states from it on."""
        state, register, _ = self.configurations[configuration]
        if trie is not self.vocabulary.trie or self.tables.get(KIND, state) == PLAIN or register & 31:
            return np.zeros(len(trie.byte), np.bool_), 0, np.zeros(0, np.bool_)
        content = self.content_at(state)
        free = np.zeros(len(content.machine.labels), np.bool_)
        free[list(content.free)] = True
        return self.vocabulary.pure, content.base, free

    def stations_of(self, configuration: int) -> list[tuple[int, int, list[tuple[int, int]]]] | None:
        """Where one token can lead, roughly: (state, interned stack node, what was pushed above it, last first).

        All states of one string or key automaton are taken for its first. None: too many to tell.
        """
        state, register, stack = self.configurations[configuration]
        tables, vocabulary = self.tables, self.vocabulary
        self.mask(configuration)
        # Without a quote in it no token leaves a string; then it stays within the one automaton.
        in_string = tables.get(KIND, state) != PLAIN
        trie = vocabulary.special_trie if in_string and not register & 31 else vocabulary.trie
        found = np.zeros((MAX_STATIONS, 2), np.int64)
        while True:
            self._begin(state, register, stack)
            arrays = (trie.byte, trie.end, trie.token, trie.depth)
            count, pending = gathering.stations(tables.mem, tables.h, *arrays, self._levels, self._work, found)
            if not pending:
                break
            self._fill_missing(self._work[: min(pending, len(self._work))].copy())
        if count == MAX_STATIONS:
            return None
        places = found[:count].tolist()
        if in_string:
            places.append([self.content_at(state).base, stack])
        return [(s, *self._chain(st, tables.stacks)) for s, st in places]
