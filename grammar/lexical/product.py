"""The product of two deterministic automata, explored from the start only: what the Boolean operations share."""

import numpy as np
import numpy.typing as npt

from grammar.kernels import kernel

Int32s = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

BOTH = 0
EITHER = 1
FIRST_ONLY = 2


@kernel
def _slot(keys: npt.NDArray[np.int64], key: int) -> int:
    """Where `key` is, or where it belongs, in an open-addressing table of a power of two."""
    mask = keys.shape[0] - 1
    at = ((key % 2147483647) * 2654435 + (key >> 20)) & mask
    while keys[at] >= 0 and keys[at] != key:
        at = (at + 1) & mask
    return at  # type: ignore[no-any-return]


@kernel
def _accepts(first: bool, second: bool, operation: int) -> bool:
    if operation == BOTH:
        return first and second
    if operation == EITHER:
        return first or second
    return first and not second


@kernel
def product_arrays(
    first: Int32s,
    first_accepts: Bools,
    second: Int32s,
    second_accepts: Bools,
    pairs: Int32s,
    operation: int,
    limit: int,
) -> tuple[Int32s, Bools, bool]:
    """Explore pairs of states; `pairs[j]` holds the two classes of joint class j. The flag says: over the limit.

    A component that died stays dead (-1); whether the pair is dead then depends on the operation.
    """
    labels = pairs.shape[0]
    width = second.shape[0] + 1
    capacity = 64
    keys = np.full(capacity, -1, np.int64)
    ids = np.empty(capacity, np.int32)
    size = 32
    left = np.empty(size, np.int32)
    right = np.empty(size, np.int32)
    table = np.full((size, labels), -1, np.int32)
    left[0] = 0 if first.shape[0] > 0 else -1
    right[0] = 0 if second.shape[0] > 0 else -1
    key = (np.int64(left[0]) + 1) * width + right[0] + 1
    at = _slot(keys, key)
    keys[at] = key
    ids[at] = 0
    count, head = 1, 0
    while head < count:
        for label in range(labels):
            a = first[left[head], pairs[label, 0]] if left[head] >= 0 else np.int32(-1)
            b = second[right[head], pairs[label, 1]] if right[head] >= 0 else np.int32(-1)
            if a < 0 and (operation != EITHER or b < 0):
                continue
            if b < 0 and operation == BOTH:
                continue
            key = (np.int64(a) + 1) * width + b + 1
            at = _slot(keys, key)
            if keys[at] < 0:
                if count >= limit:
                    return table[:0], np.empty(0, np.bool_), True
                if count == size:
                    size *= 2
                    grown_left = np.empty(size, np.int32)
                    grown_left[:count] = left
                    left = grown_left
                    grown_right = np.empty(size, np.int32)
                    grown_right[:count] = right
                    right = grown_right
                    grown_table = np.full((size, labels), -1, np.int32)
                    grown_table[:count] = table
                    table = grown_table
                if 2 * count >= capacity:
                    capacity *= 4
                    old_keys = keys
                    old_ids = ids
                    keys = np.full(capacity, -1, np.int64)
                    ids = np.empty(capacity, np.int32)
                    for old in range(old_keys.shape[0]):
                        if old_keys[old] >= 0:
                            to = _slot(keys, old_keys[old])
                            keys[to] = old_keys[old]
                            ids[to] = old_ids[old]
                    at = _slot(keys, key)
                keys[at] = key
                ids[at] = count
                left[count] = a
                right[count] = b
                count += 1
            table[head, label] = ids[at]
        head += 1
    accepting = np.empty(count, np.bool_)
    for state in range(count):
        accepting[state] = _accepts(
            left[state] >= 0 and first_accepts[left[state]],
            right[state] >= 0 and second_accepts[right[state]],
            operation,
        )
    return table[:count], accepting, False
