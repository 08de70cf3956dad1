"""The canonical form of a deterministic automaton: trimmed, minimal, numbered in one way only.

Equal languages get equal arrays, so a language can be compared, hashed and cached by content. Minimisation is
Valmari's refinement of partial automata (Information Processing Letters 112, 2012): O(transitions · log states), and
it needs no dead state, which suits tables that are mostly dead.
"""

import numpy as np
import numpy.typing as npt

from grammar.kernels import kernel

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

_HASH_PRIME = 2147483647


@kernel
def _useful_states(table: Int32s, accepting: Bools, start: int) -> Bools:
    """The states on some path from the start to acceptance."""
    states, classes = table.shape
    reached = np.zeros(states, np.bool_)
    queue = np.empty(states, np.int32)
    queue[0] = start
    reached[start] = True
    head, tail, edges = 0, 1, 0
    while head < tail:
        state = queue[head]
        head += 1
        for label in range(classes):
            target = table[state, label]
            if target >= 0:
                edges += 1
                if not reached[target]:
                    reached[target] = True
                    queue[tail] = target
                    tail += 1
    first = np.zeros(states + 1, np.int32)
    for state in queue[:tail]:
        for label in range(classes):
            target = table[state, label]
            if target >= 0:
                first[target + 1] += 1
    for state in range(states):
        first[state + 1] += first[state]
    fill = first[:states].copy()
    sources = np.empty(edges, np.int32)
    for state in queue[:tail]:
        for label in range(classes):
            target = table[state, label]
            if target >= 0:
                sources[fill[target]] = state
                fill[target] += 1
    useful = np.zeros(states, np.bool_)
    stack = np.empty(states, np.int32)
    top = 0
    for state in queue[:tail]:
        if accepting[state]:
            useful[state] = True
            stack[top] = state
            top += 1
    while top > 0:
        top -= 1
        target = stack[top]
        for edge in range(first[target], first[target + 1]):
            source = sources[edge]
            if not useful[source]:
                useful[source] = True
                stack[top] = source
                top += 1
    return useful


@kernel
def _merge_columns(table: Int32s, classes: Bytes) -> tuple[Int32s, Bytes]:
    """Give bytes whose columns agree one class; classes are numbered by their first byte."""
    states, labels = table.shape
    hashes = np.zeros(labels, np.int64)
    for state in range(states):
        for label in range(labels):
            hashes[label] = (hashes[label] * 1000003 + table[state, label] + 7) % _HASH_PRIME
    kept = np.empty(labels, np.int32)
    new_label = np.full(labels, -1, np.int32)
    count = 0
    merged = np.empty(256, np.uint8)
    for byte in range(256):
        label = int(classes[byte])
        if new_label[label] < 0:
            for other in range(count):
                if hashes[kept[other]] == hashes[label]:
                    same = True
                    for state in range(states):
                        if table[state, kept[other]] != table[state, label]:
                            same = False
                            break
                    if same:
                        new_label[label] = other
                        break
            if new_label[label] < 0:
                new_label[label] = count
                kept[count] = label
                count += 1
        merged[byte] = new_label[label]
    smaller = np.empty((states, count), np.int32)
    for state in range(states):
        for label in range(count):
            smaller[state, label] = table[state, kept[label]]
    return smaller, merged


@kernel
def _mark(element: int, elements: Int32s, place: Int32s, block_of: Int32s, first: Int32s, marked: Int32s, touched: Int32s, count: int) -> int:  # fmt: skip  # noqa: E501, PLR0913
    block = block_of[element]
    at = place[element]
    to = first[block] + marked[block]
    other = elements[to]
    elements[at] = other
    place[other] = at
    elements[to] = element
    place[element] = to
    if marked[block] == 0:
        touched[count] = block
        count += 1
    marked[block] += 1
    return count


@kernel
def _split(elements: Int32s, block_of: Int32s, first: Int32s, past: Int32s, marked: Int32s, touched: Int32s, count: int, blocks: int) -> int:  # fmt: skip  # noqa: E501, PLR0913
    while count > 0:
        count -= 1
        block = touched[count]
        middle = first[block] + marked[block]
        if middle == past[block]:
            marked[block] = 0
            continue
        if marked[block] <= past[block] - middle:
            first[blocks] = first[block]
            past[blocks] = middle
            first[block] = middle
        else:
            past[blocks] = past[block]
            first[blocks] = middle
            past[block] = middle
        for at in range(first[blocks], past[blocks]):
            block_of[elements[at]] = blocks
        marked[block] = 0
        marked[blocks] = 0
        blocks += 1
    return blocks


@kernel
def _equivalence(table: Int32s, accepting: Bools) -> tuple[Int32s, int]:
    """The block of each state in the coarsest congruence, and the number of blocks; every state must be useful."""
    states, labels = table.shape
    elements = np.arange(states).astype(np.int32)
    place = elements.copy()
    block_of = np.zeros(states, np.int32)
    first = np.zeros(states + 1, np.int32)
    past = np.zeros(states + 1, np.int32)
    marked = np.zeros(states + 1, np.int32)
    past[0] = states
    edges = 0
    for label in range(labels):
        for state in range(states):
            if table[state, label] >= 0:
                edges += 1
    touched = np.empty(max(states, edges) + 1, np.int32)
    count = 0
    for state in range(states):
        if accepting[state]:
            count = _mark(state, elements, place, block_of, first, marked, touched, count)
    blocks = _split(elements, block_of, first, past, marked, touched, count, 1)
    if edges == 0:
        return block_of, blocks
    tails = np.empty(edges, np.int32)
    heads = np.empty(edges, np.int32)
    cord_elements = np.arange(edges).astype(np.int32)
    cord_place = cord_elements.copy()
    cord_of = np.empty(edges, np.int32)
    cord_first = np.zeros(edges + 1, np.int32)
    cord_past = np.zeros(edges + 1, np.int32)
    cord_marked = np.zeros(edges + 1, np.int32)
    cords = 0
    edge = 0
    for label in range(labels):
        begin = edge
        for state in range(states):
            if table[state, label] >= 0:
                tails[edge] = state
                heads[edge] = table[state, label]
                cord_of[edge] = cords
                edge += 1
        if edge > begin:
            cord_first[cords] = begin
            cord_past[cords] = edge
            cords += 1
    into_first = np.zeros(states + 1, np.int32)
    for edge in range(edges):
        into_first[heads[edge] + 1] += 1
    for state in range(states):
        into_first[state + 1] += into_first[state]
    fill = into_first[:states].copy()
    into = np.empty(edges, np.int32)
    for edge in range(edges):
        into[fill[heads[edge]]] = edge
        fill[heads[edge]] += 1
    block, cord = 1, 0
    while cord < cords:
        count = 0
        for at in range(cord_first[cord], cord_past[cord]):
            count = _mark(tails[cord_elements[at]], elements, place, block_of, first, marked, touched, count)
        blocks = _split(elements, block_of, first, past, marked, touched, count, blocks)
        cord += 1
        while block < blocks:
            count = 0
            for at in range(first[block], past[block]):
                state = elements[at]
                for into_at in range(into_first[state], into_first[state + 1]):
                    count = _mark(into[into_at], cord_elements, cord_place, cord_of, cord_first, cord_marked, touched, count)  # noqa: E501  # fmt: skip
            cords = _split(cord_elements, cord_of, cord_first, cord_past, cord_marked, touched, count, cords)
            block += 1
    return block_of, blocks


@kernel
def _breadth_first(table: Int32s, start: int) -> Int32s:
    """The new number of each state: breadth first from the start, classes in order."""
    states, labels = table.shape
    number = np.full(states, -1, np.int32)
    queue = np.empty(states, np.int32)
    queue[0] = start
    number[start] = 0
    head, tail = 0, 1
    while head < tail:
        state = queue[head]
        head += 1
        for label in range(labels):
            target = table[state, label]
            if target >= 0 and number[target] < 0:
                number[target] = tail
                queue[tail] = target
                tail += 1
    return number


@kernel
def _distances(table: Int32s, accepting: Bools) -> Int32s:
    """The least number of bytes from each state to acceptance; every state must be useful."""
    states, labels = table.shape
    first = np.zeros(states + 1, np.int32)
    for state in range(states):
        for label in range(labels):
            if table[state, label] >= 0:
                first[table[state, label] + 1] += 1
    for state in range(states):
        first[state + 1] += first[state]
    fill = first[:states].copy()
    sources = np.empty(first[states], np.int32)
    for state in range(states):
        for label in range(labels):
            target = table[state, label]
            if target >= 0:
                sources[fill[target]] = state
                fill[target] += 1
    distance = np.full(states, -1, np.int32)
    queue = np.empty(states, np.int32)
    head, tail = 0, 0
    for state in range(states):
        if accepting[state]:
            distance[state] = 0
            queue[tail] = state
            tail += 1
    while head < tail:
        target = queue[head]
        head += 1
        for at in range(first[target], first[target + 1]):
            source = sources[at]
            if distance[source] < 0:
                distance[source] = distance[target] + 1
                queue[tail] = source
                tail += 1
    return distance


@kernel
def canonical_arrays(
    table: Int32s, accepting: Bools, classes: Bytes, start: int
) -> tuple[Int32s, Bools, Bytes, Int32s]:
    """Table, acceptance, byte classes and distances of the canonical automaton (no states: the empty language)."""
    useful = _useful_states(table, accepting, start)
    labels = table.shape[1]
    kept = 0
    number = np.full(table.shape[0], -1, np.int32)
    for state in range(table.shape[0]):
        if useful[state]:
            number[state] = kept
            kept += 1
    if kept == 0:
        return np.empty((0, 1), np.int32), np.empty(0, np.bool_), np.zeros(256, np.uint8), np.empty(0, np.int32)
    trimmed = np.full((kept, labels), -1, np.int32)
    final = np.zeros(kept, np.bool_)
    for state in range(table.shape[0]):
        if number[state] >= 0:
            final[number[state]] = accepting[state]
            for label in range(labels):
                target = table[state, label]
                if target >= 0:
                    trimmed[number[state], label] = number[target]
    small, merged = _merge_columns(trimmed, classes)
    block_of, blocks = _equivalence(small, final)
    quotient = np.full((blocks, small.shape[1]), -1, np.int32)
    for state in range(kept):
        for label in range(small.shape[1]):
            if small[state, label] >= 0:
                quotient[block_of[state], label] = block_of[small[state, label]]
    narrow, merged = _merge_columns(quotient, merged)
    order = _breadth_first(narrow, block_of[number[start]])
    result = np.full(narrow.shape, -1, np.int32)
    accepts = np.zeros(blocks, np.bool_)
    for state in range(blocks):
        for label in range(narrow.shape[1]):
            if narrow[state, label] >= 0:
                result[order[state], label] = order[narrow[state, label]]
    for state in range(kept):
        accepts[order[block_of[state]]] = final[state]
    return result, accepts, merged, _distances(result, accepts)
