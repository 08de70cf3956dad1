"""Rows in bulk: those of a machine laid out as table cells, and masks, of which equal ones are held once."""

import numpy as np
import numpy.typing as npt

from grammar.kernels import kernel

Int32 = npt.NDArray[np.int32]


@kernel
def content_hash(row: Int32) -> int:
    """A hash of a mask's content: rows of one hash are then compared. (A sum: the processor adds in parallel.)"""
    found = np.int64(0)
    for i in range(row.shape[0]):
        found += np.int64(row[i]) * np.int64((i * 40503) & 0xFFFF | 1)
    return int(found)


@kernel
def equal(left: Int32, right: Int32) -> bool:
    """Whether two rows of one length are the same. (All is compared: the processor does so in parallel.)"""
    different = np.int32(0)
    for i in range(left.shape[0]):
        different |= left[i] ^ right[i]
    return bool(different == 0)


@kernel
def lay_out(table: Int32, labels: Int32, base: int, final: int, escape: int, cells: Int32) -> None:
    """Write the rows of a machine whose states are numbered from `base` on: its columns, and then those of the ends.

    A number's end is one column, `final` plus the label. A string has three: dead, its end, and `escape` (-1: none).
    """
    states, columns = table.shape
    at = 0
    for q in range(states):
        for c in range(columns):
            target = table[q, c]
            cells[at] = target + base if target >= 0 else -1
            at += 1
        if escape >= 0:
            cells[at] = -1
            at += 1
        cells[at] = final + labels[q] if labels[q] >= 0 else -1
        at += 1
        if escape >= 0:
            cells[at] = escape
            at += 1
