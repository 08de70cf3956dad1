"""Compiled loops: the walk of the token trie that makes a mask.

Where a step needs a row or a return that nobody filled yet, the walk notes the place in the work list and goes on, so
nothing is walked twice. All changes but those to the mask's row are to scratch.
"""

# ruff: noqa: C901, PLR0912, PLR0913, PLR0915, PLR0917, PLR1714, SIM109, E501
# (A kernel's inner loop is one function, for a call costs as much as the step; numba compares faster than it looks up.)

import numpy as np
import numpy.typing as npt

from grammar.characters import character, lookup
from grammar.codes import OK, RECORDED, STUCK
from grammar.kernels import kernel
from grammar.steps import closes, is_blind, step
from grammar.tables import (
    ARGUMENT,
    CLASSMAP,
    COLUMNS,
    DATA_SEEN,
    KEEP,
    KEY,
    KIND,
    MAPS,
    MISSING,
    MISSING_LABEL,
    OFFSET,
    PLAIN,
    POP,
    RETURN_TABLE,
    SHIFT,
    STACK_STATE,
    STEP,
    STRING,
    VISIBLE,
)

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


@kernel
def walk(
    mem: Int32,
    h: Int64,
    byte: npt.NDArray[np.uint8],
    end: Int32,
    token: Int32,
    depth: Int32,
    same: Int32,
    begin: int,
    stop: int,
    levels: Int64,
    work: Int64,
    pending: int,
    row: Int32,
) -> int:
    """Walk trie nodes [begin, stop) from levels[depth - 1] = (s, reg, st, flags), setting the bits of legal tokens.

    Where something is missing, (node, s, reg, st, flags, code) is appended to `work`; returns the new `pending`.
    flags bit 0: a recorded key or item was closed by this token; bit 1: a key was opened by it; bit 2: it was an item.
    """
    offsets, classmaps, kinds = h[OFFSET], h[CLASSMAP], h[KIND]
    maps = h[MAPS]
    # The last return of a string to its parent: most quotes of a walk return from the same frame with the same label.
    known_stack = known_cell = -1
    known_s = known_reg = known_st = 0
    node = begin
    while node < stop:
        level = depth[node]
        # Most nodes are one table look-up within a frame; the general step is for the others.
        s = levels[level - 1, 0]
        reg = levels[level - 1, 1]
        st = levels[level - 1, 2]
        flags = levels[level - 1, 3]
        kind = mem[kinds + s]
        if flags & 4 and is_blind(mem, h, s, int(byte[node])):
            node = end[node]
            continue
        offset = mem[offsets + s]
        cell = np.int64(-1)
        if offset > 0 and (kind == PLAIN or reg & 0xFFFFFFFF == 0):
            cell = np.int64(mem[offset - 1 + mem[maps + mem[classmaps + s] * COLUMNS + byte[node]]])
            if cell < 0:
                node = end[node]
                continue
            op = cell >> SHIFT
            done = False
            if op == STEP:
                if kind == PLAIN or kind == STRING:
                    s = cell & ARGUMENT
                    reg = (reg >> 32) << 32
                else:
                    target, value = character(mem, h, s, reg >> 32, st, int(byte[node]))
                    s = np.int64(target)
                    reg = np.int64(value) << 32
                done = True
            elif op == POP and st == known_stack and cell == known_cell and kind != PLAIN:
                if kind == STRING or closes(mem, h, s, reg >> 32, st, int(cell & ARGUMENT)):
                    s, reg, st = known_s, known_reg, known_st
                else:
                    s = np.int64(-1)
                done = True
            if done:
                if s < 0:
                    node = end[node]
                    continue
                levels[level, 0] = s
                levels[level, 1] = reg
                levels[level, 2] = st
                levels[level, 3] = flags
                t = token[node]
                while t >= 0:
                    row[t >> 5] |= np.int32(1) << np.int32(t & 31)
                    t = same[t]
                node += 1
                continue
        code, s2, reg2, st2 = step(mem, h, s, reg, st, byte[node])
        if code == STUCK:
            node = end[node]
            continue
        if code == OK and kind != PLAIN and cell >= 0 and cell >> SHIFT == POP:
            known_stack, known_cell = int(st), int(cell)
            known_s, known_reg, known_st = s2, reg2, st2
        if code == RECORDED and flags & 1:
            # What was recorded first is not known to the second closing: such tokens are nowhere legal.
            node = end[node]
            continue
        if code == RECORDED:
            if flags & 2:
                h[DATA_SEEN] = 1
            flags |= 1 if kind == KEY else 5
            code = OK
        if code == OK:
            if mem[h[KIND] + s2] == KEY and st2 != st:
                flags |= 2
            levels[level, 0], levels[level, 1], levels[level, 2], levels[level, 3] = s2, reg2, st2, flags
            t = token[node]
            while t >= 0:
                row[t >> 5] |= np.int32(1) << np.int32(t & 31)
                t = same[t]
            node += 1
            continue
        if pending < work.shape[0]:
            work[pending, 0] = node
            work[pending, 1] = s
            work[pending, 2] = reg
            work[pending, 3] = st
            work[pending, 4] = flags
            work[pending, 5] = code
            work[pending, 6] = h[MISSING]
            work[pending, 7] = h[MISSING_LABEL]
        pending += 1
        node = end[node]
    return pending


@kernel
def walk_children(
    mem: Int32,
    h: Int64,
    byte: npt.NDArray[np.uint8],
    end: Int32,
    token: Int32,
    depth: Int32,
    same: Int32,
    tops: Int32,
    begin: int,
    skip: int,
    levels: Int64,
    work: Int64,
    row: Int32,
) -> tuple[int, bool]:
    """`walk` all tokens but those that begin with the byte `skip`: the number of places noted, and whether that was all.

    Tokens that begin with the byte `begin` (-1: none) come first, and if these lack something, the walk ends there.
    `tops` has the node of each first byte: to hop from sibling to sibling would cost a cache miss for each.
    """
    s = levels[0, 0]
    reg = levels[0, 1]
    rows = mem[h[OFFSET] + s] - 1
    columns = h[MAPS] + mem[h[CLASSMAP] + s] * COLUMNS
    is_direct = rows >= 0 and (mem[h[KIND] + s] == PLAIN or reg & 31 == 0)
    pending = 0
    for turn in range(-1, 256):
        first = begin if turn < 0 else turn
        if first < 0 or turn == begin or first == skip:
            continue
        node = tops[first]
        if node < 0:
            continue
        if is_direct:
            cell = mem[rows + mem[columns + first]]
            if cell < 0:
                continue
            if cell >> SHIFT == KEEP:
                # A number ends before any byte: whether this byte is one that its parent waits for is one more look,
                # and the mask then depends on the parent.
                h[VISIBLE] = max(h[VISIBLE], 1)
                parent = mem[h[STACK_STATE] + levels[0, 2]]
                target = lookup(mem, h, RETURN_TABLE, parent, cell & ARGUMENT)
                if target >= 0 and mem[h[OFFSET] + target] > 0 and mem[h[KIND] + target] == PLAIN:
                    after = mem[h[MAPS] + mem[h[CLASSMAP] + target] * COLUMNS + first]
                    if mem[mem[h[OFFSET] + target] - 1 + after] < 0:
                        continue
        pending = walk(mem, h, byte, end, token, depth, same, node, end[node], levels, work, pending, row)
        if turn < 0 and pending:
            return pending, False
    return pending, True


@kernel
def clear(token: Int32, same: Int32, begin: int, stop: int, row: Int32) -> None:
    """Take the tokens of trie nodes [begin, stop) out of the mask."""
    for node in range(begin, stop):
        t = token[node]
        while t >= 0:
            row[t >> 5] &= ~(np.int32(1) << np.int32(t & 31))
            t = same[t]


@kernel
def walk_named(
    mem: Int32,
    h: Int64,
    byte: npt.NDArray[np.uint8],
    end: Int32,
    token: Int32,
    depth: Int32,
    same: Int32,
    loose: int,
    levels: Int64,
    work: Int64,
    row: Int32,
) -> int:
    """Turn the mask of key state `loose` into that of the state in levels[0]; the number of places noted in `work`.

    The two differ only in tokens that go on along a name, or along a key that was used: as soon as neither is left the
    subtree is as it was. (The tokens are those with a quote or an escape: what stays inside the key is not looked at.)
    """
    pending = 0
    node = 0
    while node < byte.shape[0]:
        level = depth[node]
        s = levels[level - 1, 0]
        reg = levels[level - 1, 1]
        st = levels[level - 1, 2]
        cell = mem[mem[h[OFFSET] + s] - 1 + mem[h[MAPS] + mem[h[CLASSMAP] + s] * COLUMNS + byte[node]]]
        if cell >= 0 and cell >> SHIFT == STEP:
            target, value = character(mem, h, s, reg >> 32, st, int(byte[node]))
            if target == loose and value == 0:
                node = end[node]
                continue
            if target >= 0:
                levels[level, 0], levels[level, 1], levels[level, 2], levels[level, 3] = target, value << 32, st, 0
                node += 1
                continue
        clear(token, same, node, end[node], row)
        if cell >= 0 and cell >> SHIFT != STEP:
            pending = walk(mem, h, byte, end, token, depth, same, node, end[node], levels, work, pending, row)
        node = end[node]
    return pending


@kernel
def resume(
    mem: Int32,
    h: Int64,
    byte: npt.NDArray[np.uint8],
    end: Int32,
    token: Int32,
    depth: Int32,
    same: Int32,
    levels: Int64,
    before: Int64,
    count: int,
    work: Int64,
    row: Int32,
) -> int:
    """Walk on from each noted place; what is still missing goes to `work`."""
    pending = 0
    for i in range(count):
        node = before[i, 0]
        level = depth[node] - 1
        for k in range(4):
            levels[level, k] = before[i, k + 1]
        pending = walk(mem, h, byte, end, token, depth, same, node, end[node], levels, work, pending, row)
    return pending
