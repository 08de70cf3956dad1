"""Compiled loops: walks of the token trie that tell where the tokens lead, for masks within a budget."""

# ruff: noqa: C901, PLR0912, PLR0913, PLR0915, PLR0917, PLR1714, SIM109, E501
# (A kernel's inner loop is one function, for a call costs as much as the step; numba compares faster than it looks up.)

import numpy as np
import numpy.typing as npt

from grammar.characters import character
from grammar.codes import OK, RECORDED, STUCK, UNFILLED
from grammar.kernels import kernel
from grammar.steps import is_blind, step
from grammar.tables import (
    ARGUMENT,
    CLASSMAP,
    COLUMNS,
    KEY,
    KIND,
    MAPS,
    MISSING,
    MISSING_LABEL,
    OFFSET,
    PLAIN,
    SHIFT,
    SPEC,
    SPEC_BASE,
    STEP,
    STRING,
)

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


@kernel
def same_end(ends: Int64, at: int, s: int, reg: int, st: int, recorded: int) -> bool:
    """Whether ends[at] is this place."""
    return bool(ends[at, 0] == s and ends[at, 1] == reg and ends[at, 2] == st and ends[at, 3] == recorded)


@kernel
def collect(
    mem: Int32,
    h: Int64,
    byte: npt.NDArray[np.uint8],
    end: Int32,
    token: Int32,
    depth: Int32,
    same: Int32,
    pure: npt.NDArray[np.bool_],
    base: int,
    free: npt.NDArray[np.bool_],
    levels: Int64,
    work: Int64,
    tokens: Int32,
    which: Int32,
    ends: Int64,
    slots: Int32,
) -> tuple[int, int, int]:
    """As `walk`, over all of a trie: each legal token with the index in `ends` of the (s, reg, st, recorded) after it.

    Returns the number of tokens, of ends, and of places where something was missing; stops when `ends` is full. Each
    end has the first of its tokens in its last column. `slots` is a hash table of ends, a power of two in size and at
    least twice as large as their room; recorded: something recorded was closed.

    free[s - base]: that whole plain characters lead from s back to it. The pure subtrees of the trie, which have nothing
    else, are then taken at once.
    """
    slots[:] = -1
    offsets, classmaps, kinds = h[OFFSET], h[CLASSMAP], h[KIND]
    maps = h[MAPS]
    node = 0
    count = 0
    distinct = 0
    pending = 0
    last = -1
    while node < byte.shape[0] and distinct < ends.shape[0]:
        level = depth[node]
        s, reg, st, recorded = levels[level - 1, 0], levels[level - 1, 1], levels[level - 1, 2], levels[level - 1, 3]
        if recorded & 4 and is_blind(mem, h, s, int(byte[node])):
            node = end[node]
            continue
        kind = mem[kinds + s]
        offset = mem[offsets + s]
        cell = np.int64(-1)
        code = UNFILLED
        s2, reg2, st2 = s, reg, st
        if offset > 0 and (kind == PLAIN or reg & 0xFFFFFFFF == 0):
            # As in `walk`: most nodes are one look-up within a frame.
            cell = np.int64(mem[offset - 1 + mem[maps + mem[classmaps + s] * COLUMNS + byte[node]]])
            if cell < 0:
                node = end[node]
                continue
            if cell >> SHIFT == STEP:
                code = OK
                if kind == PLAIN or kind == STRING:
                    s2 = cell & ARGUMENT
                    reg2 = (reg >> 32) << 32
                else:
                    target, value = character(mem, h, s, reg >> 32, st, int(byte[node]))
                    if target < 0:
                        node = end[node]
                        continue
                    s2 = np.int64(target)
                    reg2 = np.int64(value) << 32
        if code != OK:
            code, s2, reg2, st2 = step(mem, h, s, reg, st, byte[node])
        if code == RECORDED and recorded:
            node = end[node]
            continue
        if code == OK or code == RECORDED:
            if code == RECORDED:
                recorded = 1 if kind == KEY else 5
            levels[level, 0], levels[level, 1], levels[level, 2], levels[level, 3] = s2, reg2, st2, recorded
            stop = node + 1
            if pure[node] and 0 <= s2 - base < free.shape[0] and free[s2 - base] and reg2 == 0 and st2 == levels[0, 2]:
                stop = end[node]
            t = token[node]
            if (t >= 0 or stop > node + 1) and (last < 0 or not same_end(ends, last, s2, reg2, st2, recorded)):
                at = (s2 * 40503 + (reg2 & 0xFFFF) * 977 + (reg2 >> 32) * 7919 + st2 * 31 + recorded) & (
                    slots.shape[0] - 1
                )
                while slots[at] >= 0 and not same_end(ends, slots[at], s2, reg2, st2, recorded):
                    at = (at + 1) & (slots.shape[0] - 1)
                if slots[at] < 0:
                    slots[at] = distinct
                    ends[distinct, 0], ends[distinct, 1], ends[distinct, 2] = s2, reg2, st2
                    ends[distinct, 3] = recorded
                    ends[distinct, 4] = t
                    distinct += 1
                last = slots[at]
            for inner in range(node, stop):
                t = token[inner]
                while t >= 0:
                    tokens[count] = t
                    which[count] = last
                    count += 1
                    t = same[t]
            node = stop
            continue
        if code != STUCK:
            if pending < work.shape[0]:
                work[pending, 5] = code
                work[pending, 6] = h[MISSING]
                work[pending, 7] = h[MISSING_LABEL]
            pending += 1
        node = end[node]
    return count, distinct, pending


@kernel
def set_ranked(tokens: Int32, which: Int32, ranks: Int64, rows: Int32) -> None:
    """Set the bit of each token in the row of its end's rank."""
    for i in range(tokens.shape[0]):
        t = tokens[i]
        rows[ranks[which[i]], t >> 5] |= np.int32(1) << np.int32(t & 31)


@kernel
def stations(
    mem: Int32,
    h: Int64,
    byte: npt.NDArray[np.uint8],
    end: Int32,
    token: Int32,
    depth: Int32,
    levels: Int64,
    work: Int64,
    found: Int64,
) -> tuple[int, int]:
    """Where tokens of a trie lead, roughly: distinct (s, st), all states of one string automaton taken for its first.

    Returns their number, at most the room in `found`, and that of places where something was missing.
    """
    node = 0
    count = 0
    pending = 0
    last = 0
    while node < byte.shape[0] and count < found.shape[0]:
        level = depth[node]
        s, reg, st, recorded = levels[level - 1, 0], levels[level - 1, 1], levels[level - 1, 2], levels[level - 1, 3]
        code, s2, reg2, st2 = step(mem, h, s, reg, st, byte[node])
        if code == RECORDED and recorded:
            node = end[node]
            continue
        if code == OK or code == RECORDED:
            if code == RECORDED:
                recorded = 1
            levels[level, 0], levels[level, 1], levels[level, 2], levels[level, 3] = s2, reg2, st2, recorded
            if token[node] >= 0:
                station = s2
                if mem[h[KIND] + s2] != PLAIN:
                    station = mem[h[SPEC_BASE] + mem[h[SPEC] + s2]]
                if count == 0 or found[last, 0] != station or found[last, 1] != st2:
                    last = 0
                    while last < count and (found[last, 0] != station or found[last, 1] != st2):
                        last += 1
                    if last == count:
                        found[count, 0], found[count, 1] = station, st2
                        count += 1
            node += 1
            continue
        if code != STUCK:
            if pending < work.shape[0]:
                work[pending, 5] = code
                work[pending, 6] = h[MISSING]
                work[pending, 7] = h[MISSING_LABEL]
            pending += 1
        node = end[node]
    return count, pending
