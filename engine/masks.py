"""The bit rows of one step.

What it is for: one buffer for all masks of a step, handed out row by row and reused by the next. What may not enter:
what the bits mean.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class MaskRows:
    """Rows of ceil(width / 32) words; bit i of word w says whether token 32·w + i is legal."""

    def __init__(self, width: int) -> None:
        self._words = (width + 31) // 32
        self._rows = np.zeros((16, self._words), np.int32)
        self._used = 0
        self._bans: dict[frozenset[int], int] = {}

    def clear(self) -> None:
        """A new step begins."""
        self._used = 0
        self._bans.clear()

    @property
    def rows(self) -> NDArray[np.int32]:
        """All rows; those not taken hold anything."""
        return self._rows

    def row(self, index: int) -> NDArray[np.int32]:
        """A view, valid until the next `take`."""
        row: NDArray[np.int32] = self._rows[index]
        return row

    def take(self) -> int:
        """An unused row, of any content."""
        if self._used == len(self._rows):
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
        self._used += 1
        return self._used - 1

    def give_back(self, index: int) -> None:
        """The row that was taken last is not needed."""
        assert index == self._used - 1
        self._used -= 1

    def all_but(self, banned: frozenset[int]) -> int:
        """The row in which all but these are legal; made once a step."""
        if banned not in self._bans:
            index = self.take()
            bits = np.ones(32 * self._words, np.bool_)
            bits[list(banned)] = False
            self._rows[index] = np.packbits(bits, bitorder="little").view(np.int32)
            self._bans[banned] = index
        return self._bans[banned]
