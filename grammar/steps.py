"""Compiled loops: one byte's step, and a token's run of them.

A step reads the tables and changes only scratch: `h` and the scratch part of the stack. Where it needs a row or a return
that nobody filled yet it says so, and whoever asked fills it and asks again.

Registers (one int64, of the top frame): a gap keeps its whitespace count in the low 32 bits; a string keeps the phase
of an escape in bits 0..4, its hexadecimal digits in bits 5..20, a high surrogate in bits 21..30. The high 32 bits are
an object's or array's data, a counted string's characters, or a key's node in the trie of used keys.
"""

# ruff: noqa: C901, PLR0912, PLR0913, PLR0915, PLR0917, PLR1714, SIM109, E501
# (A kernel's inner loop is one function, for a call costs as much as the step; numba compares faster than it looks up.)

import numpy as np
import numpy.typing as npt

from grammar.characters import character, escape_open, escaped, lookup
from grammar.codes import FULL, NO_RETURN, OK, RECORDED, RECORDED_LABEL, STUCK, UNFILLED
from grammar.kernels import kernel
from grammar.tables import (
    ABSENT,
    ALLOW_OFFSET,
    ARGUMENT,
    BASE_DEPTH,
    BUMP,
    CLASSMAP,
    COLUMNS,
    COUNTED,
    ESCAPE,
    GAP_BLANK,
    GAP_NEWLINE,
    INTERNED,
    KEEP,
    KEY,
    KIND,
    MAPS,
    MAX_BLANKS,
    MISSING,
    MISSING_LABEL,
    OFFSET,
    PLAIN,
    POP,
    PUSH,
    PUSH_CHILD,
    PUSH_KEY,
    PUSH_RETURN,
    RETURN_TABLE,
    SHIFT,
    SPEC,
    SPEC_MINIMUM,
    STACK_DATA,
    STACK_DEPTH,
    STACK_PARENT,
    STACK_ROOM,
    STACK_STATE,
    STEP,
    USED_LAST,
    USED_PARENT,
    VISIBLE,
)

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


@kernel
def closes(mem: Int32, h: Int64, s: int, value: int, st: int, label: int) -> bool:
    """Whether string state `s` may end with `label` here: lengths met, key class allowed, key not used before."""
    kind = mem[h[KIND] + s]
    if kind == COUNTED:
        return bool(value >= mem[h[SPEC_MINIMUM] + mem[h[SPEC] + s]])
    if kind >= KEY:
        number = label & (RECORDED_LABEL - 1)
        allow = mem[mem[h[ALLOW_OFFSET] + mem[h[STACK_STATE] + st]] + (number >> 5)]
        if not (allow >> (number & 31)) & 1:
            return False
        if value > 0 and label >= RECORDED_LABEL:
            used = mem[h[STACK_DATA] + st]
            while used > 0:
                if mem[h[USED_LAST] + used] == value:
                    return False
                used = mem[h[USED_PARENT] + used]
    return True


@kernel
def step(mem: Int32, h: Int64, s: int, reg: int, st: int, byte: int) -> tuple[int, int, int, int]:
    """One byte: (code, state, register, stack node). Records in meta what is missing and what was seen."""
    done = OK
    while True:
        offset = mem[h[OFFSET] + s] - 1
        if offset < 0:
            h[MISSING] = s
            return UNFILLED, s, reg, st
        kind = mem[h[KIND] + s]
        if kind != PLAIN and reg & 31:
            code, s, reg = escaped(mem, h, s, reg, st, byte)
            return code, s, reg, st
        cell = mem[offset + mem[h[MAPS] + mem[h[CLASSMAP] + s] * COLUMNS + byte]]
        if cell < 0:
            return STUCK, s, reg, st
        op = cell >> SHIFT
        argument = cell & ARGUMENT
        if op == STEP:
            if kind == PLAIN:
                return done, argument, (reg >> 32) << 32, st
            target, value = character(mem, h, s, reg >> 32, st, byte)
            return (OK if target >= 0 else STUCK), target, value << 32, st
        if op == PUSH:
            node = h[BUMP]
            for older in range(node - 1, max(h[INTERNED], node - 9) - 1, -1):
                if (
                    mem[h[STACK_PARENT] + older] == st
                    and mem[h[STACK_STATE] + older] == mem[h[PUSH_RETURN] + argument]
                    and mem[h[STACK_DATA] + older] == reg >> 32
                ):
                    node = older
                    break
            if node >= h[STACK_ROOM]:
                return FULL, s, reg, st
            if node == h[BUMP]:
                h[BUMP] = node + 1
            data = reg >> 32
            mem[h[STACK_PARENT] + node] = st
            mem[h[STACK_STATE] + node] = mem[h[PUSH_RETURN] + argument]
            mem[h[STACK_DATA] + node] = data
            child_reg = 0
            if mem[h[PUSH_KEY] + argument] and data > 0:
                child_reg = 1 << 32
            return OK, mem[h[PUSH_CHILD] + argument], child_reg, node
        if op == ESCAPE:
            if not escape_open(mem, h, s, reg >> 32, st):
                return STUCK, s, reg, st
            return OK, s, ((reg >> 32) << 32) | 1, st
        if op == POP or op == KEEP:
            if kind != PLAIN and not closes(mem, h, s, reg >> 32, st, argument):
                return STUCK, s, reg, st
            if st < h[INTERNED]:
                seen = h[BASE_DEPTH] - mem[h[STACK_DEPTH] + st] + 1
                h[VISIBLE] = max(h[VISIBLE], seen)
            parent = mem[h[STACK_STATE] + st]
            target = lookup(mem, h, RETURN_TABLE, parent, argument)
            if target == ABSENT:
                h[MISSING] = parent
                h[MISSING_LABEL] = argument
                return NO_RETURN, s, reg, st
            if target < 0:
                return STUCK, s, reg, st
            if argument >= RECORDED_LABEL:
                done = RECORDED
            s = target
            reg = int(mem[h[STACK_DATA] + st]) << 32
            st = mem[h[STACK_PARENT] + st]
            if op == POP:
                return done, s, reg, st
            continue
        low = reg & 0xFFFFFFFF
        if low == 0:
            if op == GAP_BLANK:
                return done, s, reg + 1, st
            if op == GAP_NEWLINE:
                return done, s, reg + 2, st
            return STUCK, s, reg, st
        if low == 1 or op == GAP_NEWLINE or low - 2 >= h[MAX_BLANKS]:
            return STUCK, s, reg, st
        return OK, s, reg + 1, st


@kernel
def run(
    mem: Int32,
    h: Int64,
    interned: int,
    text: npt.NDArray[np.uint8],
    at: int,
    stop: int,
    s: int,
    reg: int,
    st: int,
    flags: int,
) -> tuple[int, int, int, int, int, int]:
    """Step through text[at:stop]; stops before a recorded key's closing quote.

    Returns (code, position, s, reg, st, flags). flags bit 0: some frame was entered or left. Stack nodes from `interned`
    on are scratch.
    """
    h[BUMP] = interned
    h[INTERNED] = interned
    code = OK
    while at < stop:
        code, s2, reg2, st2 = step(mem, h, s, reg, st, text[at])
        if code != OK:
            break
        if st2 != st:
            flags |= 1
        s, reg, st = s2, reg2, st2
        at += 1
    return code, at, s, reg, st, flags


@kernel
def only_byte(mem: Int32, h: Int64, s: int, reg: int, st: int) -> tuple[int, int]:
    """(code, byte): the one byte that can follow, -1 if there are several or none; code says if something is missing."""
    only = -1
    for byte in range(256):
        code, _, _, _ = step(mem, h, s, reg, st, byte)
        if code == STUCK:
            continue
        if code != OK and code != RECORDED:
            return code, -1
        if only >= 0:
            return OK, -1
        only = byte
    return OK, only


@kernel
def is_blind(mem: Int32, h: Int64, s: int, byte: int) -> bool:
    """Whether `byte` belongs to the content of a scalar: what a token may not reach once it closed a unique item."""
    if mem[h[KIND] + s] != PLAIN:
        return True
    return byte == 0x2D or 0x30 <= byte <= 0x39 or byte == 0x74 or byte == 0x66 or byte == 0x6E
