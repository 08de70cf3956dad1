"""Compiled loops: one decoded character of a string, and the escapes that spell it.

An escape is legal as soon as some character that it can still spell may follow, so the digits of `\\u` are judged one by
one. Registers: see `grammar.steps`.
"""

# ruff: noqa: C901, PLR0912, PLR0913, PLR0917, PLR1714, E501
# (A kernel's inner loop is one function, for a call costs as much as the step; numba compares faster than it looks up.)

import numpy as np
import numpy.typing as npt

from grammar.codes import IMPOSSIBLE, OK, STUCK
from grammar.kernels import kernel
from grammar.tables import (
    ABSENT,
    ALLOW_OFFSET,
    ARGUMENT,
    BACKSLASH,
    CLASSMAP,
    COLUMNS,
    COUNTED,
    KEY,
    KIND,
    MAPS,
    OFFSET,
    QUOTE,
    SHIFT,
    SPEC,
    SPEC_BASE,
    SPEC_MAXIMUM,
    SPEC_MINIMUM,
    SPEC_OFFSET,
    SPEC_STRICT,
    SPEC_WORDS,
    STACK_STATE,
    STEP,
    USED_TABLE,
)

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


@kernel
def lookup(mem: Int32, h: Int64, table: int, first: int, second: int) -> int:
    """The value at the key (first, second) of an open-addressing table, or ABSENT. Slots are (first + 1, second, value)."""
    mask = h[table + 1] - 1
    base = h[table]
    at = (np.int64(first) * 40503 + np.int64(second) * 2654435) & mask
    while mem[base + 3 * at] != 0:
        if mem[base + 3 * at] == first + 1 and mem[base + 3 * at + 1] == second:
            return int(mem[base + 3 * at + 2])
        at = (at + 1) & mask
    return ABSENT


@kernel
def character(mem: Int32, h: Int64, s: int, value: int, st: int, column: int) -> tuple[int, int]:
    """Step string state `s` by one byte of decoded text (`column`); the new state (-1: dead) and value."""
    cell = mem[mem[h[OFFSET] + s] - 1 + mem[h[MAPS] + mem[h[CLASSMAP] + s] * COLUMNS + column]]
    if cell < 0 or (cell >> SHIFT) != STEP:
        return -1, value
    target = cell & ARGUMENT
    kind = mem[h[KIND] + s]
    if kind == COUNTED:
        spec = mem[h[SPEC] + s]
        if column < 0x80 or column >= 0xC0:
            value += 1
        need = np.int64(mem[h[SPEC_MINIMUM] + spec])  # or, interpreted, the count would become 32 bits wide
        missing = max(need - value, 0)
        least = mem[mem[h[SPEC_OFFSET] + spec] + (target - mem[h[SPEC_BASE] + spec]) * (need + 1) + missing]
        most = np.int64(mem[h[SPEC_MAXIMUM] + spec])
        if most < 0 and value > need:
            value = int(need)
        if least >= IMPOSSIBLE or (most >= 0 and value + least > most):
            return -1, value
    elif kind >= KEY:
        spec = mem[h[SPEC] + s]
        words = mem[h[SPEC_WORDS] + spec]
        reach = mem[h[SPEC_OFFSET] + spec] + (target - mem[h[SPEC_BASE] + spec]) * words
        allow = mem[h[ALLOW_OFFSET] + mem[h[STACK_STATE] + st]]
        live = False
        for word in range(words):
            if mem[reach + word] & mem[allow + word]:
                live = True
                break
        if not live:
            return -1, value
        if value > 0:
            byte = column
            if column == QUOTE:
                byte = 0x22
            elif column == BACKSLASH:
                byte = 0x5C
            elif column >= 256:
                byte = column - 256
            value = max(lookup(mem, h, USED_TABLE, value, byte), 0)
    return target, value


@kernel
def code_point(mem: Int32, h: Int64, s: int, value: int, st: int, cp: int) -> tuple[int, int]:
    """Step by one decoded character."""
    if mem[h[SPEC_STRICT] + mem[h[SPEC] + s]] and 0x20 <= cp < 0x7F and cp != 0x22 and cp != 0x5C:
        return -1, value
    if cp < 0x20:
        return character(mem, h, s, value, st, 256 + cp)
    if cp == 0x22:
        return character(mem, h, s, value, st, QUOTE)
    if cp == 0x5C:
        return character(mem, h, s, value, st, BACKSLASH)
    if cp < 0x80:
        return character(mem, h, s, value, st, cp)
    if cp < 0x800:
        s, value = character(mem, h, s, value, st, 0xC0 | (cp >> 6))
    else:
        if cp < 0x10000:
            s, value = character(mem, h, s, value, st, 0xE0 | (cp >> 12))
        else:
            s, value = character(mem, h, s, value, st, 0xF0 | (cp >> 18))
            if s >= 0:
                s, value = character(mem, h, s, value, st, 0x80 | ((cp >> 12) & 63))
        if s >= 0:
            s, value = character(mem, h, s, value, st, 0x80 | ((cp >> 6) & 63))
    if s >= 0:
        s, value = character(mem, h, s, value, st, 0x80 | (cp & 63))
    return s, value


@kernel
def any_character(mem: Int32, h: Int64, s: int, value: int, st: int, low: int, high: int) -> bool:
    """Whether some character in [low, high] (no surrogates) can follow; dead lead bytes are skipped whole."""
    cp = low
    while cp <= high:
        if 0xD800 <= cp < 0xE000:
            cp = 0xE000
            continue
        found, _ = code_point(mem, h, s, value, st, cp)
        if found >= 0:
            return True
        if cp < 0x80:
            cp += 1
            continue
        if cp < 0x800:
            lead = 0xC0 | (cp >> 6)
            block = 6
        elif cp < 0x10000:
            lead = 0xE0 | (cp >> 12)
            block = 12
        else:
            lead = 0xF0 | (cp >> 18)
            block = 18
        first, _ = character(mem, h, s, value, st, lead)
        if first < 0:
            cp = ((cp >> block) + 1) << block
        else:
            cp += 1
    return False


@kernel
def any_follow(mem: Int32, h: Int64, s: int, value: int, st: int) -> bool:
    """Whether any character at all can follow, other than one that may not be escaped."""
    strict = mem[h[SPEC_STRICT] + mem[h[SPEC] + s]]
    for column in range(290):
        # A continuation byte is no beginning: inside a character no escape may come.
        if 0x80 <= column < 0xC0 or (strict and 0x20 <= column < 0x7F):
            continue
        found, _ = character(mem, h, s, value, st, column)
        if found >= 0:
            return True
    return False


@kernel
def escape_live(mem: Int32, h: Int64, s: int, value: int, st: int, phase: int, digits: int, high: int) -> bool:
    """Whether an escape that stands in `phase` can still be finished."""
    if phase == 2:
        return any_follow(mem, h, s, value, st)
    if phase <= 5:
        left = 4 * (6 - phase)
        low = digits << left
        top = low + (1 << left) - 1
        if any_character(mem, h, s, value, st, low, top):
            return True
        if top < 0xD800 or low > 0xDBFF:
            return False
        first = max(low, 0xD800) - 0xD800
        last = min(top, 0xDBFF) - 0xD800
        return any_character(mem, h, s, value, st, 0x10000 + (first << 10), 0x10000 + (last << 10) + 0x3FF)
    base = 0x10000 + (high << 10)
    if phase <= 8:
        return any_character(mem, h, s, value, st, base, base + 0x3FF)
    left = 4 * (12 - phase)
    low = max(digits << left, 0xDC00)
    top = min((digits << left) + (1 << left) - 1, 0xDFFF)
    return low <= top and any_character(mem, h, s, value, st, base + low - 0xDC00, base + top - 0xDC00)


@kernel
def short_escape(byte: int) -> int:
    """The character that backslash + `byte` spells, or -1."""
    if byte == 0x22 or byte == 0x5C or byte == 0x2F:
        return byte
    if byte == 0x62:
        return 8
    if byte == 0x66:
        return 12
    if byte == 0x6E:
        return 10
    if byte == 0x72:
        return 13
    if byte == 0x74:
        return 9
    return -1


@kernel
def escape_open(mem: Int32, h: Int64, s: int, value: int, st: int) -> bool:
    """Whether a backslash can begin an escape here."""
    return any_follow(mem, h, s, value, st)


@kernel
def escaped(mem: Int32, h: Int64, s: int, reg: int, st: int, byte: int) -> tuple[int, int, int]:
    """One raw byte inside an escape: (code, state, register)."""
    value = reg >> 32
    phase = reg & 31
    if phase == 1:
        if byte == 0x75:
            if escape_live(mem, h, s, value, st, 2, 0, 0):
                return OK, s, (value << 32) | 2
            return STUCK, s, reg
        cp = short_escape(byte)
        if cp < 0:
            return STUCK, s, reg
        s, value = code_point(mem, h, s, value, st, cp)
        return (OK if s >= 0 else STUCK), s, value << 32
    high = (reg >> 21) & 1023
    if phase == 6 or phase == 7:
        if byte != (0x5C if phase == 6 else 0x75):
            return STUCK, s, reg
        return OK, s, (value << 32) | (high << 21) | (phase + 1)
    if 0x30 <= byte <= 0x39:
        digit = int(byte) - 0x30
    elif 0x61 <= byte <= 0x66:
        digit = int(byte) - 0x57
    elif 0x41 <= byte <= 0x46:
        digit = int(byte) - 0x37
    else:
        return STUCK, s, reg
    digits = (((reg >> 5) & 0xFFFF) << 4) | digit
    if phase == 5:
        if 0xD800 <= digits < 0xDC00:
            high = digits - 0xD800
            if escape_live(mem, h, s, value, st, 6, 0, high):
                return OK, s, (value << 32) | (high << 21) | 6
            return STUCK, s, reg
        if 0xDC00 <= digits < 0xE000:
            return STUCK, s, reg
        s, value = code_point(mem, h, s, value, st, digits)
        return (OK if s >= 0 else STUCK), s, value << 32
    if phase == 11:
        if not 0xDC00 <= digits < 0xE000:
            return STUCK, s, reg
        s, value = code_point(mem, h, s, value, st, 0x10000 + (high << 10) + digits - 0xDC00)
        return (OK if s >= 0 else STUCK), s, value << 32
    phase += 1
    if not escape_live(mem, h, s, value, st, phase, digits, high):
        return STUCK, s, reg
    return OK, s, (value << 32) | (high << 21) | (digits << 5) | phase
