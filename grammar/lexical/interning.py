"""Numbers for keys in order of first sight: what every exploration of states from a start needs, for compiled code."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from grammar.kernels import kernel

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]


class Interned(NamedTuple):
    """An open-addressing table (a power of two of slots) and the keys by number. Replaced by a larger one when full."""

    numbers: Int32s
    """By slot; −1: free."""
    keys: Int64s
    """By number."""
    used: Int64s
    """One entry: how many keys there are."""


@kernel
def interned(size: int) -> Interned:
    """An empty table for `size` keys, a power of two."""
    return Interned(np.full(4 * size, -1, np.int32), np.empty(size, np.int64), np.zeros(1, np.int64))


@kernel
def number_of(table: Interned, key: int) -> tuple[Interned, int]:
    """The number of a key, new or not, and the table to go on with."""
    at = _slot(table, key)
    if table.numbers[at] >= 0:
        return table, int(table.numbers[at])
    count = int(table.used[0])
    if count == table.keys.shape[0]:
        table = _doubled(table)
        at = _slot(table, key)
    table.numbers[at] = count
    table.keys[count] = key
    table.used[0] = count + 1
    return table, count


@kernel
def _doubled(table: Interned) -> Interned:
    larger = interned(2 * table.keys.shape[0])
    for number in range(table.keys.shape[0]):
        larger.keys[number] = table.keys[number]
        larger.numbers[_slot(larger, int(table.keys[number]))] = number
    larger.used[0] = table.used[0]
    return larger


@kernel
def _slot(table: Interned, key: int) -> int:
    """Where `key` is, or belongs."""
    mask = table.numbers.shape[0] - 1
    at = ((key % 2147483647) * 2654435 + ((key >> 31) % 65521) * 40503) & mask
    while table.numbers[at] >= 0 and table.keys[table.numbers[at]] != key:
        at = (at + 1) & mask
    return at  # type: ignore[no-any-return]


@kernel
def with_row(table: Int32s, row: int) -> Int32s:
    """The table, or one of twice the rows if it has no such row; new entries are −1."""
    if row < table.shape[0]:
        return table
    larger = np.full((2 * table.shape[0], table.shape[1]), -1, np.int32)
    larger[: table.shape[0]] = table
    return larger
