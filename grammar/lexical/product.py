"""The product of two deterministic automata, explored from the start only: what the Boolean operations share."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from grammar.kernels import kernel
from grammar.lexical.interning import interned, number_of, with_row

Int32s = npt.NDArray[np.int32]
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


@kernel
def product_arrays(pair: Pair, operation: int, limit: int) -> tuple[Int32s, Bools, bool]:
    """The table and acceptance of the pairs reached. The flag says that there are more than `limit`.

    A component that died stays dead; whether the pair is dead then depends on the operation.
    """
    width = pair.second.shape[0] + 1
    start = 0
    if pair.first.shape[0] > 0:
        start += width
    if pair.second.shape[0] > 0:
        start += 1
    found, _ = number_of(interned(32), start)
    table = np.full((32, pair.classes.shape[0]), -1, np.int32)
    head = 0
    while head < found.used[0]:
        if found.used[0] > limit:
            return table[:0], np.empty(0, np.bool_), True
        left, right = int(found.keys[head]) // width - 1, int(found.keys[head]) % width - 1
        table = with_row(table, head)
        for label in range(pair.classes.shape[0]):
            a = int(pair.first[left, pair.classes[label, 0]]) if left >= 0 else -1
            b = int(pair.second[right, pair.classes[label, 1]]) if right >= 0 else -1
            if (a >= 0 or (operation == EITHER and b >= 0)) and (b >= 0 or operation != BOTH):
                found, table[head, label] = number_of(found, (a + 1) * width + b + 1)
        head += 1
    return table[:head], _acceptance(pair, found.keys[:head], operation), False


@kernel
def _acceptance(pair: Pair, keys: npt.NDArray[np.int64], operation: int) -> Bools:
    width = pair.second.shape[0] + 1
    accepting = np.empty(keys.shape[0], np.bool_)
    for state in range(keys.shape[0]):
        left, right = int(keys[state]) // width - 1, int(keys[state]) % width - 1
        one = left >= 0 and pair.first_accepts[left]
        other = right >= 0 and pair.second_accepts[right]
        if operation == BOTH:
            accepting[state] = one and other
        elif operation == EITHER:
            accepting[state] = one or other
        else:
            accepting[state] = one and not other
    return accepting
