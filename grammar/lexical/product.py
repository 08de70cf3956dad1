"""The product of two deterministic automata, explored from the start only: what the Boolean operations share."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from grammar.kernels import fixed, kernel
from grammar.lexical.interning import Interned, interned, number_of, rooms

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

BOTH: Final = 0
EITHER: Final = 1
FIRST_ONLY: Final = 2


class Pair(NamedTuple):
    """Two automata, each starting in its state 0 (or dead, without states), read by joint classes of bytes."""

    first: Int32s
    first_accepts: Bools
    second: Int32s
    second_accepts: Bools
    classes: Int32s
    """(joint classes, 2): the class in either."""


def product_arrays(pair: Pair, operation: int, limit: int) -> tuple[Int32s, Bools] | None:
    """The table and acceptance of the pairs reached; None if there are more than `limit`.

    A component that died stays dead; whether the pair is dead then depends on the operation.
    """
    width = len(pair.second) + 1
    explored = _explored(pair, operation, (len(pair.first) > 0) * width + (len(pair.second) > 0), limit)
    if explored is None:
        return None
    keys, table = explored
    left, right = keys // width - 1, keys % width - 1
    one = np.append(pair.first_accepts, False)[left]
    other = np.append(pair.second_accepts, False)[right]
    accepting = {BOTH: one & other, EITHER: one | other, FIRST_ONLY: one & ~other}[operation]
    return table, accepting


def beside(first: Int32s, second: Int32s, classes: Int32s, limit: int) -> tuple[Int32s, Int32s, Int32s] | None:
    """The second automaton run beside the first, which decides when a word is dead: the table, and of each state the
    component in either (−1: dead, the second's only). None if there are more than `limit` states; see `Pair`.
    """
    none = fixed(np.empty(0, np.bool_))
    pair = Pair(fixed(first), none, fixed(second), none, classes)
    width = len(second) + 1
    explored = _explored(pair, FIRST_ONLY, width + (len(second) > 0), limit)
    if explored is None:
        return None
    keys, table = explored
    return table, (keys // width - 1).astype(np.int32), (keys % width - 1).astype(np.int32)


def _explored(pair: Pair, operation: int, start: int, limit: int) -> tuple[Int64s, Int32s] | None:
    """The pairs reached from a pair, as numbers, and the table of their steps; None if there are more than `limit`."""
    labels = len(pair.classes)
    for room in rooms(min(limit, (len(pair.first) + 1) * (len(pair.second) + 1))):
        found = interned(room, labels + 1)
        number_of(found, start)
        table = np.empty((room, labels), np.int32)
        states = _explore(pair, operation, found, table)
        if states <= room:
            return found.keys[:states], table[:states]
    return None


@kernel
def _explore(pair: Pair, operation: int, found: Interned, table: Int32s) -> int:
    """Fill the table; the number of states, which is more than the table has rows if the limit was met."""
    width = pair.second.shape[0] + 1
    head = 0
    while head < found.used[0] <= table.shape[0]:
        left, right = int(found.keys[head]) // width - 1, int(found.keys[head]) % width - 1
        for label in range(pair.classes.shape[0]):
            a = int(pair.first[left, pair.classes[label, 0]]) if left >= 0 else -1
            b = int(pair.second[right, pair.classes[label, 1]]) if right >= 0 else -1
            alive = (a >= 0 or (operation == EITHER and b >= 0)) and (b >= 0 or operation != BOTH)
            table[head, label] = number_of(found, (a + 1) * width + b + 1) if alive else -1
        head += 1
    return int(found.used[0])
