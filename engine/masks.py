"""The bit rows of a step, and those that steps share.

What it is for: one buffer for all masks, handed out row by row. Most masks of a step are rows that a grammar shares
between positions: each is copied here once, keeps its place as long as there is room, and is known by name to whoever
wants to keep it too (a device). What may not enter: grammars, what the tokens are.

The idea: a row is free, taken for this step (`take`), or kept (`share`). When kept rows are many and none is free, the
one not used for longest is given up, but never one that this step uses.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.marking import is_choice

if TYPE_CHECKING:
    from grammar import Mask

Names = Mapping[int, object]  # by row
NO_NAMES: Names = MappingProxyType({})

_FIRST_ROWS = 16


class MaskRows:
    """Rows of ceil(width / 32) words; bit i of word w says whether token 32·w + i is legal.

    At most `most_kept` rows are kept beyond the step that asks for them.
    """

    def __init__(self, width: int, most_kept: int = 1024) -> None:
        self._words = (width + 31) // 32
        self._rows = np.zeros((_FIRST_ROWS, self._words), np.int32)
        self._free = list(range(_FIRST_ROWS))
        self._taken: list[int] = []
        self._most_kept = most_kept
        self._places: OrderedDict[Mask, int] = OrderedDict()  # least recently used first
        self._used: dict[int, int] = {}  # kept rows: the step that used them last
        self._choices: dict[int, bool] = {}  # of kept rows
        self._step = 0
        self._bans: dict[frozenset[int], int] = {}
        self.names: dict[int, Mask] = {}  # of kept rows; a mask is never another's content

    def clear(self) -> None:
        """A new step begins: rows that were taken are free again, kept ones stay."""
        self._free += self._taken
        self._taken.clear()
        self._bans.clear()
        self._step += 1

    @property
    def rows(self) -> NDArray[np.int32]:
        """All rows; those neither taken nor kept hold anything."""
        return self._rows

    def row(self, index: int) -> NDArray[np.int32]:
        """A view, valid until the next `take` or `share`."""
        row: NDArray[np.int32] = self._rows[index]
        return row

    def share(self, mask: Mask) -> int:
        """The row with this mask, which must not be written to."""
        index = self._places.get(mask)
        if index is None:
            index = self._places[mask] = self._room()
            self.names[index] = mask
            self._rows[index] = mask.row
            self._choices[index] = is_choice(self._rows[index])
        else:
            self._places.move_to_end(mask)
        self._used[index] = self._step
        return index

    def take(self) -> int:
        """An unused row, of any content."""
        if not self._free:
            self._grow()
        index = self._free.pop()
        self._taken.append(index)
        return index

    def give_back(self, index: int) -> None:
        """The row that was taken last is not needed."""
        assert index == self._taken[-1]
        self._free.append(self._taken.pop())

    def has_choice(self, index: int) -> bool:
        """Whether the row allows at least two tokens."""
        known = self._choices.get(index)
        return is_choice(self._rows[index]) if known is None else known

    def all_but(self, banned: frozenset[int]) -> int:
        """The row in which all but these are legal; made once a step."""
        if banned not in self._bans:
            index = self.take()
            bits = np.ones(32 * self._words, np.bool_)
            bits[list(banned)] = False
            self._rows[index] = np.packbits(bits, bitorder="little").view(np.int32)
            self._bans[banned] = index
        return self._bans[banned]

    def _room(self) -> int:
        """A row to keep something in."""
        if len(self._places) >= self._most_kept:
            mask, index = next(iter(self._places.items()))
            if self._used[index] != self._step:
                del self._places[mask], self.names[index], self._used[index], self._choices[index]
                return index
        if not self._free:
            self._grow()
        return self._free.pop()

    def _grow(self) -> None:
        size = len(self._rows)
        self._free += range(size, 2 * size)
        self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
