"""Masks: the row to begin with, the walk over what remains, and which configurations share the result."""

from typing import Any

import numpy as np
import numpy.typing as npt

from grammar import rows, walk
from grammar.content import Content
from grammar.frames.objects import ObjectFrame
from grammar.kernels import fixed
from grammar.states import Mask, States
from grammar.tables import (
    ALLOW_OFFSET,
    COUNTED,
    DATA_SEEN,
    KEY,
    KIND,
    LISTED,
    PLAIN,
    SPEC,
    SPEC_OFFSET,
    SPEC_WORDS,
    STACK_DATA,
    STACK_PARENT,
    STACK_STATE,
    VISIBLE,
)
from grammar.trie import Trie
from grammar.vocabulary import Vocabulary

Int32 = npt.NDArray[np.int32]


class Masks(States):
    """The legal tokens of each configuration, computed once by the compiled walk.

    Masks are shared between configurations that one token cannot tell apart: the key of a mask is the state, the
    saturated register and only as many ancestors as some token returned to.
    """

    def __init__(self, vocabulary: Vocabulary, *, max_blanks: int, max_bytes: int) -> None:
        super().__init__(vocabulary, max_blanks=max_blanks, max_bytes=max_bytes)
        self._key_live: dict[tuple[int, bool], npt.NDArray[np.bool_]] = {}
        self._shared: dict[tuple[Any, ...], Mask] = {}
        self._views: dict[tuple[int, int], list[tuple[int, bool]]] = {}
        self._rows: dict[int, Mask] = {}
        self._work = np.zeros((1 << 8, 8), np.int64)
        self._noted = np.zeros((1 << 8, 8), np.int64)

    def mask(self, configuration: int) -> Mask:
        """The legal tokens, end tokens included."""
        found = self._masks[configuration]
        if found is None:
            found = self._masks[configuration] = self._find_mask(configuration)
        return found

    def _find_mask(self, configuration: int) -> Mask:
        return self._seen(*self.configurations[configuration])[0]

    def _seen(self, state: int, register: int, stack: int) -> tuple[Mask, int, bool]:
        """The mask, and what it depends on: so many ancestors, and whether their data."""
        saturated = self._saturated(state, register)
        same = self._alike(state)
        views = self._views.setdefault((same, saturated), [])
        for visible, with_data in views:
            found = self._shared.get(self._mask_key(same, saturated, register, stack, visible, with_data))
            if found is not None:
                return found, visible, with_data
        row, visible, with_data = self._compute(state, register, stack)
        if (visible, with_data) not in views:
            views.append((visible, with_data))
        if self.is_accepting(state, register, stack):
            row |= self.vocabulary.eos_row
        mask = self._mask_of(row)
        self._shared[self._mask_key(same, saturated, register, stack, visible, with_data)] = mask
        return mask, visible, with_data

    def _mask_of(self, row: Int32) -> Mask:
        """The mask with this content: equal rows are held once."""
        ident = rows.content_hash(row)
        known = self._rows.get(ident)
        if known is not None and rows.equal(known.row, fixed(row)):
            return known
        row.setflags(write=False)
        mask = Mask(row)
        self._rows.setdefault(ident, mask)
        return mask

    def _mask_key(
        self, state: int, saturated: int, register: int, stack: int, visible: int, with_data: bool
    ) -> tuple[Any, ...]:
        tables = self.tables
        states, data = [], []
        for _ in range(visible):
            states.append(tables.get(STACK_STATE, stack))
            data.append(tables.get(STACK_DATA, stack))
            stack = tables.get(STACK_PARENT, stack)
        if with_data:
            return (state, saturated, tuple(states), register >> 32, tuple(data))
        return (state, saturated, tuple(states))

    def _alike(self, state: int) -> int:
        """The state, or another with the same masks: digits are counted, but no token spells forty."""
        tag, base = self._keys[state][0], self._keys[state][-1]
        if tag != "in number":
            return state
        return int(base + self._contents[base].alike[state - base])

    def _saturated(self, state: int, register: int) -> int:
        """The register as far as one token can tell."""
        kind = self.tables.get(KIND, state)
        if kind == PLAIN:
            low = register & 0xFFFFFFFF
            return max(low, 2 + self.max_blanks - self.vocabulary.trie.longest) if low >= 2 else low
        if kind != COUNTED or register & 31:
            return register
        return self.content_at(state).saturated(register >> 32)

    def view_of(self, configuration: int) -> tuple[Any, ...]:
        """What one token can tell of a configuration: those of one view have the same mask."""
        self.mask(configuration)
        state, register, stack = self.configurations[configuration]
        saturated, same = self._saturated(state, register), self._alike(state)
        for visible, with_data in self._views.get((same, saturated), ()):
            key = self._mask_key(same, saturated, register, stack, visible, with_data)
            if key in self._shared:
                # States that are alike for one token may differ in what remains to be written.
                return (state, *key)
        return (configuration,)

    def _compute(self, state: int, register: int, stack: int) -> tuple[Int32, int, bool]:
        """Walk: the row, how many ancestors it depends on, and whether it depends on data."""
        tables = self.tables
        if not tables.is_filled(state):
            self.fill(state)
        loose = self._loose_key(state, register, stack)
        if loose is not None:
            return self._compute_key(state, register, stack, loose)
        row, tries = self._begun(state, register, stack)
        meta = self._begin(state, register, stack)
        # What follows a quote is the same for all tokens that have one inside: it is made known once, first.
        begin = 0x22 if tables.get(KIND, state) != PLAIN and not register & 31 else -1
        for trie, start in tries:
            self._levels[0, 1] = start
            if not self._walk(trie, begin, -1, row):
                self._walk(trie, -1, begin, row)
        return row, int(meta[VISIBLE]), bool(meta[DATA_SEEN])

    def _walk(self, trie: Trie, begin: int, skip: int, row: Int32) -> bool:
        """Walk as `walk.walk_children` does, filling what is missing, until nothing is; whether that was all."""
        tables = self.tables
        pending, is_all = walk.walk_children(
            tables.mem, tables.h, *trie.arrays, trie.tops, begin, skip, self._levels, self._work, row
        )
        if pending > len(self._work):
            self._work = np.zeros((2 * pending, 8), np.int64)
            return self._walk(trie, begin, skip, row)
        self._complete(trie, pending, row)
        return is_all

    def _complete(self, trie: Trie, pending: int, row: Int32) -> None:
        """Fill what the noted places lack and walk on from them."""
        tables, arrays = self.tables, trie.arrays
        while pending:
            # What is noted next goes to the other list.
            before, self._work, self._noted = self._work, self._noted, self._work
            self._fill_missing(before[:pending])
            noted = pending
            while True:
                pending = walk.resume(tables.mem, tables.h, *arrays, self._levels, before, noted, self._work, row)
                if pending <= len(self._work):
                    break
                self._work = np.zeros((2 * pending, 8), np.int64)

    def _begun(self, state: int, register: int, stack: int) -> tuple[Int32, list[tuple[Trie, int]]]:
        """The row to begin with, and tries of the tokens that remain to be walked, each with its register."""
        vocabulary, kind = self.vocabulary, self.tables.get(KIND, state)
        if kind == PLAIN:
            return np.zeros(vocabulary.words, np.int32), [(self.outside, register)]
        if register & 31:
            return np.zeros(vocabulary.words, np.int32), [(vocabulary.trie, register)]
        content = self.content_at(state)
        at = state - content.base
        if kind == LISTED:
            reach, left = self._reach(content), self.words_left(self.tables.get(STACK_STATE, stack))
            return content.plain_row(at, reach, left, is_finite=True), [(vocabulary.special_trie, register)]
        if kind != KEY:
            row, tries = content.begin(at, register >> 32)
            return row, [(trie, count << 32) for trie, count in tries]
        frame = self._frame_at(stack)
        if not frame.shape.is_simple or not self._key_lives(content, frame)[at]:
            is_open = bool(frame.allowed & frame.shape.rest)
            row = content.plain_row(at, *self._key_reach(content, frame), is_finite=not is_open)
            return row, [(vocabulary.special_trie, register)]
        is_loose = register == 0 and at in content.free
        return vocabulary.slices[-1].copy(), [
            (vocabulary.ending_trie if is_loose else vocabulary.special_trie, register)
        ]

    def _loose_key(self, state: int, register: int, stack: int) -> int | None:
        """For a key that may still become any: the state of a key that is none of the names, if that is another."""
        if self.tables.get(KIND, state) != KEY or register & 31:
            return None
        content = self.content_at(state)
        frame = self._frame_at(stack)
        if len(content.free) != 1 or not frame.shape.is_simple:
            return None
        if not self._key_lives(content, frame)[state - content.base]:
            return None
        (at,) = content.free
        loose = content.base + at
        return None if state == loose and register == 0 else loose

    def _compute_key(self, state: int, register: int, stack: int, loose: int) -> tuple[Int32, int, bool]:
        """As `_compute`, from the mask of a key that is none of the names: few tokens go on along one."""
        mask, visible, with_data = self._seen(loose, 0, stack)
        row = mask.row.copy()
        meta = self._begin(state, register, stack)
        tables, trie = self.tables, self.vocabulary.special_trie
        pending = walk.walk_named(tables.mem, tables.h, *trie.arrays, loose, self._levels, self._work, row)
        if pending > len(self._work):
            self._work = np.zeros((2 * pending, 8), np.int64)
            return self._compute_key(state, register, stack, loose)
        self._complete(trie, pending, row)
        return row, max(int(meta[VISIBLE]), visible), bool(meta[DATA_SEEN]) or with_data

    def _frame_at(self, stack: int) -> ObjectFrame:
        """The object that the key above this stack node belongs to."""
        frame: ObjectFrame = self._keys[self.tables.get(STACK_STATE, stack)][1]
        return frame

    def _key_lives(self, content: Content, frame: ObjectFrame) -> npt.NDArray[np.bool_]:
        """[state]: whether the key may still become an open one that the object allows; for simple shapes.

        Without patterns every text goes on as some open key, if one is allowed: all characters' beginnings live.
        """
        allowed = bool(frame.allowed & frame.shape.rest)
        found = self._key_live.get((content.base, allowed))
        if found is None:
            machine = content.machine
            found = (machine.table[:, machine.classes[0x61]] >= 0) & allowed
            self._key_live[content.base, allowed] = found
        return found

    def _key_reach(self, content: Content, frame: ObjectFrame) -> tuple[Int32, Int32]:
        """The classes that each state of a key's machine can reach, and those that the object allows, as bit sets."""
        reach = self._reach(content)
        return reach, fixed(bit_words(frame.allowed, reach.shape[1]))

    def _reach(self, content: Content) -> Int32:
        """[state, word]: the labels that each state of a key's machine, or of a list's, can reach, as bit sets."""
        spec = self.tables.get(SPEC, content.base)
        words, offset = self.tables.get(SPEC_WORDS, spec), self.tables.get(SPEC_OFFSET, spec)
        return fixed(self.tables.block(offset, len(content.machine.labels) * words).reshape(-1, words))

    def words_left(self, parent: int) -> Int32:
        """The words of a list that are left for the item which returns to this state, as a bit set."""
        return fixed(self.tables.block(self.tables.get(ALLOW_OFFSET, parent), self._keys[parent][2].size))


def bit_words(bits: int, words: int) -> Int32:
    """A bit set as 32-bit words."""
    return np.frombuffer(bits.to_bytes(4 * words, "little"), np.int32)
