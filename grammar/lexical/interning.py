"""Numbers for keys in order of first sight: what every exploration of states from a start needs, for compiled code.

Sized once, because a table that grows costs compile time at every place that uses it: first for a few keys, which is
what most explorations need, and if that is not enough once more for all that are allowed. To lay out the large table
takes longer than most explorations.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from grammar.kernels import kernel

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]


FEW: Final = 1 << 11


class Interned(NamedTuple):
    """An open-addressing table (a power of two of slots) and the keys by number."""

    numbers: Int32s
    """By slot; −1: free."""
    keys: Int64s
    """By number; there is room for one round of new keys past the limit."""
    used: Int64s
    """One entry: how many keys there are."""


def rooms(limit: int) -> tuple[int, ...]:
    """How many keys to make room for, in the order in which to try."""
    return (limit,) if limit <= 2 * FEW else (FEW, limit)


def interned(limit: int, spare: int) -> Interned:
    """An empty table for `limit` keys and `spare` more."""
    slots = 1 << (2 * (limit + spare)).bit_length()
    return Interned(np.full(slots, -1, np.int32), np.empty(limit + spare, np.int64), np.zeros(1, np.int64))


@kernel
def number_of(table: Interned, key: int) -> int:
    """The number of a key, new or not."""
    mask = table.numbers.shape[0] - 1
    at = ((key % 2147483647) * 2654435 + ((key >> 31) % 65521) * 40503) & mask
    while table.numbers[at] >= 0 and table.keys[table.numbers[at]] != key:
        at = (at + 1) & mask
    if table.numbers[at] < 0:
        table.numbers[at] = table.used[0]
        table.keys[table.used[0]] = key
        table.used[0] += 1
    return int(table.numbers[at])
