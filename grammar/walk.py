"""Compiled loops: one byte's step, a token's run, and the walk of the token trie that makes a mask.

All read `View` and change only scratch: `meta`, the scratch part of the stack arrays, the work list, the mask row.
A step that needs a row or a return that nobody filled yet says so; the walk notes the place in the work list and goes
on, so nothing is walked twice.

Registers (one int64, of the top frame): a gap keeps its whitespace count in the low 32 bits; a string keeps the phase
of an escape in bits 0..4, its hexadecimal digits in bits 5..20, a high surrogate in bits 21..30. The high 32 bits are
an object's or array's data, a counted string's characters, or a key's node in the trie of used keys.
"""

# ruff: noqa: C901, PLR0912, PLR0913, PLR0915, PLR0917, PLR1714, SIM109, E501
# (A kernel's inner loop is one function, for a call costs as much as the step; numba compares faster than it looks up.)

from typing import Final

import numpy as np
import numpy.typing as npt

from grammar.kernels import kernel
from grammar.tables import (
    ABSENT,
    ALLOW,
    ALLOW_OFFSET,
    ARGUMENT,
    BACKSLASH,
    BASE_DEPTH,
    BUMP,
    CLASSMAP,
    COLUMNS,
    COUNTED,
    COUNTS,
    DATA_SEEN,
    ESCAPE,
    FLAT,
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
    QUOTE,
    REACH,
    RETURN_TABLE,
    SHIFT,
    SPEC,
    SPEC_BASE,
    SPEC_MAXIMUM,
    SPEC_MINIMUM,
    SPEC_OFFSET,
    SPEC_STRICT,
    SPEC_WORDS,
    STACK_DATA,
    STACK_DEPTH,
    STACK_PARENT,
    STACK_ROOM,
    STACK_STATE,
    STEP,
    STRING,
    USED_LAST,
    USED_PARENT,
    USED_TABLE,
    VISIBLE,
)

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

OK: Final = 0
STUCK: Final = 1
UNFILLED: Final = 2
NO_RETURN: Final = 3
FULL: Final = 4
RECORDED: Final = 5

RECORDED_LABEL: Final = 1 << 24
"""Labels from here on tell the parent that the key's text matters."""

CONTENT: Final = b"-0123456789tfn"
"""What numbers, true, false and null begin with: after an item whose value matters, a token may not go on into one."""

IMPOSSIBLE: Final = 1 << 30


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
    cell = mem[h[FLAT] + mem[h[OFFSET] + s] - 1 + mem[h[MAPS] + mem[h[CLASSMAP] + s] * COLUMNS + column]]
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
        least = mem[h[COUNTS] + mem[h[SPEC_OFFSET] + spec] + (target - mem[h[SPEC_BASE] + spec]) * (need + 1) + missing]
        most = np.int64(mem[h[SPEC_MAXIMUM] + spec])
        if most < 0 and value > need:
            value = int(need)
        if least >= IMPOSSIBLE or (most >= 0 and value + least > most):
            return -1, value
    elif kind == KEY:
        spec = mem[h[SPEC] + s]
        words = mem[h[SPEC_WORDS] + spec]
        reach = mem[h[SPEC_OFFSET] + spec] + (target - mem[h[SPEC_BASE] + spec]) * words
        allow = mem[h[ALLOW_OFFSET] + mem[h[STACK_STATE] + st]]
        live = False
        for word in range(words):
            if mem[h[REACH] + reach + word] & mem[h[ALLOW] + allow + word]:
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


@kernel
def closes(mem: Int32, h: Int64, s: int, value: int, st: int, label: int) -> bool:
    """Whether string state `s` may end with `label` here: lengths met, key class allowed, key not used before."""
    kind = mem[h[KIND] + s]
    if kind == COUNTED:
        return bool(value >= mem[h[SPEC_MINIMUM] + mem[h[SPEC] + s]])
    if kind == KEY:
        number = label & (RECORDED_LABEL - 1)
        allow = mem[h[ALLOW] + mem[h[ALLOW_OFFSET] + mem[h[STACK_STATE] + st]] + (number >> 5)]
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
        cell = mem[h[FLAT] + offset + mem[h[MAPS] + mem[h[CLASSMAP] + s] * COLUMNS + byte]]
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
def is_blind(mem: Int32, h: Int64, s: int, byte: int) -> bool:
    """Whether `byte` belongs to the content of a scalar: what a token may not reach once it closed a unique item."""
    if mem[h[KIND] + s] != PLAIN:
        return True
    return byte == 0x2D or 0x30 <= byte <= 0x39 or byte == 0x74 or byte == 0x66 or byte == 0x6E


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
    maps, flat = h[MAPS], h[FLAT]
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
            cell = np.int64(mem[flat + offset - 1 + mem[maps + mem[classmaps + s] * COLUMNS + byte[node]]])
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
    offset = mem[h[OFFSET] + s] - 1
    rows = h[FLAT] + offset
    columns = h[MAPS] + mem[h[CLASSMAP] + s] * COLUMNS
    is_direct = offset >= 0 and (mem[h[KIND] + s] == PLAIN or reg & 31 == 0)
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
                    if mem[h[FLAT] + mem[h[OFFSET] + target] - 1 + after] < 0:
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
        cell = mem[h[FLAT] + mem[h[OFFSET] + s] - 1 + mem[h[MAPS] + mem[h[CLASSMAP] + s] * COLUMNS + byte[node]]]
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


@kernel
def key_reach(table: Int32, labels: Int32, words: int) -> Int32:
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
def relax(table: Int32, costs: Int64, distance: Int64) -> None:
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
def plain_live(
    table: Int32,
    classes: npt.NDArray[np.uint8],
    live: npt.NDArray[np.bool_],
    free: Int32,
    free_classes: npt.NDArray[np.uint8],
) -> npt.NDArray[np.bool_]:
    """Which states stay live under every plain string content, given which states are live at all.

    `free` is the automaton of all texts: it says which bytes may come in the middle of a character. The result is for
    states at a character's start; computed as the complement of those from which some plain byte string dies.
    """
    states = table.shape[0]
    inner = free.shape[0]
    fails = np.zeros((states, inner), np.bool_)
    changed = True
    while changed:
        changed = False
        for q in range(states - 1, -1, -1):
            for u in range(inner):
                if fails[q, u]:
                    continue
                bad = not live[q]
                for b in range(0x20, 256):
                    if bad:
                        break
                    if b == 0x22 or b == 0x5C:
                        continue
                    after = free[u, free_classes[b]]
                    if after >= 0:
                        target = table[q, classes[b]]
                        if target < 0 or fails[target, after]:
                            bad = True
                if bad:
                    fails[q, u] = True
                    changed = True
    return ~fails[:, 0]


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
    maps, flat = h[MAPS], h[FLAT]
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
            cell = np.int64(mem[flat + offset - 1 + mem[maps + mem[classmaps + s] * COLUMNS + byte[node]]])
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
def farthest(table: Int32, distance: Int64) -> None:
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
