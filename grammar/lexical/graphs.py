"""What can be read off a table of transitions (−1: none) as a graph, in time linear or nearly so in its size."""

import numpy as np
import numpy.typing as npt

from grammar.kernels import kernel

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@kernel
def reached(table: Int32s) -> Bools:
    """The states that some word leads to from state 0."""
    states, columns = table.shape
    found = np.zeros(states, np.bool_)
    stack = np.zeros(states, np.int32)
    left = min(1, states)
    found[:left] = True
    while left:
        left -= 1
        state = stack[left]
        for column in range(columns):
            target = table[state, column]
            if target >= 0 and not found[target]:
                found[target] = True
                stack[left] = target
                left += 1
    return found


@kernel
def behind_cycles(table: Int32s) -> Bools:
    """The states on a cycle, and those that a cycle leads to: what is left once states that nothing enters are taken
    away, again and again."""
    states, columns = table.shape
    entered = np.zeros(states, np.int64)
    for state in range(states):
        for column in range(columns):
            if table[state, column] >= 0:
                entered[table[state, column]] += 1
    found = np.ones(states, np.bool_)
    stack = np.zeros(states, np.int32)
    left = 0
    for state in range(states):
        if entered[state] == 0:
            stack[left] = state
            left += 1
    while left:
        left -= 1
        state = stack[left]
        found[state] = False
        for column in range(columns):
            target = table[state, column]
            if target >= 0:
                entered[target] -= 1
                if entered[target] == 0:
                    stack[left] = target
                    left += 1
    return found


@kernel
def leading_to(table: Int32s, final: Bools) -> Bools:
    """The states from which a final one can be reached. States numbered breadth first take few rounds."""
    states, columns = table.shape
    found = final.copy()
    changed = True
    while changed:
        changed = False
        for state in range(states - 1, -1, -1):
            if found[state]:
                continue
            for column in range(columns):
                target = table[state, column]
                if target >= 0 and found[target]:
                    found[state] = True
                    changed = True
                    break
    return found


@kernel
def alike_within(table: Int32s, labels: Int32s, steps: int) -> Int32s:
    """[state]: the first of all states that no word of so many bytes tells apart, by its life or the labels met."""
    states, columns = table.shape
    found = labels.copy()
    capacity = 4
    while capacity < 2 * states:
        capacity *= 2
    count = 0
    for _ in range(steps):
        slots = np.full(capacity, -1, np.int32)
        finer = np.empty(states, np.int32)
        kinds = 0
        for q in range(states):
            code = int(found[q]) + 2
            for c in range(columns):
                target = table[q, c]
                code = (code * 1000003 + (int(found[target]) + 11 if target >= 0 else 5)) % 2147483647
            at = code * 2654435 & (capacity - 1)
            while slots[at] >= 0 and not _go_alike(table, found, int(slots[at]), q):
                at = (at + 1) & (capacity - 1)
            if slots[at] < 0:
                slots[at] = q
                kinds += 1
            finer[q] = slots[at]
        found = finer
        if kinds == count:
            break
        count = kinds
    return found


@kernel
def _go_alike(table: Int32s, found: Int32s, one: int, other: int) -> bool:
    """Whether two states are of one kind so far, and each byte leads both to states of one kind, or neither."""
    if found[one] != found[other]:
        return False
    for c in range(table.shape[1]):
        left, right = table[one, c], table[other, c]
        if (left < 0) != (right < 0) or (left >= 0 and found[left] != found[right]):
            return False
    return True


@kernel
def capped_counts(table: Int32s, sizes: Int64s, final: Bools, most: int) -> Int64s:
    """[state]: how many words lead from it to a final state; `most` + 1 stands for all larger counts.

    `sizes[column]` letters share a column. Passes over all states until nothing grows, backwards, for most transitions
    lead onward.
    """
    states, columns = table.shape
    counts = np.zeros(states, np.int64)
    grows = True
    while grows:
        grows = False
        for state in range(states - 1, -1, -1):
            count = int(final[state])
            for column in range(columns):
                target = table[state, column]
                if target >= 0:
                    count += sizes[column] * counts[target]
                if count > most:
                    count = most + 1
                    break
            if count != counts[state]:
                counts[state] = count
                grows = True
    return counts


@kernel
def key_reach(table: Int32s, labels: Int32s, words: int) -> Int32s:
    """[state, word]: the labels that words from each state can still end with, as bit sets."""
    states, columns = table.shape
    reach = np.zeros((states, words), np.int32)
    for q in range(states):
        if labels[q] >= 0:
            reach[q, labels[q] >> 5] |= np.int32(1) << np.int32(labels[q] & 31)
    changed = True
    while changed:
        changed = False
        for q in range(states - 1, -1, -1):
            for c in range(columns):
                target = table[q, c]
                if target >= 0:
                    for w in range(words):
                        more = reach[q, w] | reach[target, w]
                        if more != reach[q, w]:
                            reach[q, w] = more
                            changed = True
    return reach


@kernel
def relax(table: Int32s, costs: Int64s, distance: Int64s) -> None:
    """Lower distances until none can be: each state's is at most a step's cost more than its target's."""
    states, columns = table.shape
    changed = True
    while changed:
        changed = False
        for q in range(states - 1, -1, -1):
            for c in range(columns):
                target = table[q, c]
                if target >= 0 and distance[target] + costs[c] < distance[q]:
                    distance[q] = distance[target] + costs[c]
                    changed = True


@kernel
def farthest(table: Int32s, distance: Int64s) -> None:
    """Raise each state's distance to the most of all states that it leads to."""
    states, columns = table.shape
    changed = True
    while changed:
        changed = False
        for q in range(states - 1, -1, -1):
            for c in range(columns):
                target = table[q, c]
                if target >= 0 and distance[target] > distance[q]:
                    distance[q] = distance[target]
                    changed = True
