"""The states in which a JSON number can be read under bounds and a multiple, explored by one compiled search.

Theory. A number is ±D·10^(e−j): D its digits, j of them after the point, e the exponent. Write P for the place of the
first significant digit. Against a bound with digits a and first place q only two things matter: how the digits compare
with a's, and whether P + e is above, at or below q; so what a bound asks of e is an interval that starts at q − P or
q − P + 1. For a multiple m = n·10^−s (n no multiple of ten) let D = D0·10^z with D0 no multiple of ten: m divides the
number iff z + e − j + s ≥ x(D0 mod n), where x(r) is the least x ≥ 0 with r·10^x ≡ 0 (mod n), infinite if there is
none. That is a lower limit on e again. So a state needs P, j, z, D0 mod n and two comparisons, and from the letter e on
just an interval of exponents; without an exponent the number counts iff the interval holds 0.

P, j and z together are many states. An exponent is therefore offered only after a mantissa of moderate length:
`room[w]` is the most fraction digits it may have after w whole digits (w = 0: the whole part is 0), and `NO_EXPONENT`
says that there is no exponent after w whole digits. Past it, P is replaced by its outcome.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from grammar.kernels import kernel
from grammar.lexical.interning import Interned, interned, number_of, rooms

Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

COLUMNS: Final = 15
"""Digits 0–9, then minus, plus, point, e, anything else."""
MINUS: Final = 10
PLUS: Final = 11
POINT: Final = 12
EXPONENT: Final = 13
NEVER: Final = 1 << 20
"""A lower limit on the exponent that no exponent meets."""

NO_EXPONENT: Final = -1

# Columns of the `rules` row of a sign.
ZERO_ALLOWED: Final = 0
NONZERO_ALLOWED: Final = 1
LOW: Final = 2
HIGH: Final = 6
# From LOW or HIGH on: whether there is such a bound, its first place, whether it is itself allowed, how many digits.
RULES: Final = 10

# Entries of `shape`.
MOST_DIGITS: Final = 0
MOST_EXPONENT_DIGITS: Final = 1
HAS_MULTIPLE: Final = 2
MODULUS: Final = 3
SCALE: Final = 4
PLAIN: Final = 5
"""No point and no exponent at all."""
COUNTED: Final = 6
"""Whether whole digits are counted up to the limit, or only as far as places matter."""
MOST_PLACE: Final = 7
"""The place from which on places make no difference."""
UNIFORM_ROOM: Final = 8
"""Whether `room` is the same after any whole part."""

_START: Final = 0
_SIGNED: Final = 1
_WHOLE_ZERO: Final = 2
_WHOLE: Final = 3
_POINT_ZERO: Final = 4
_POINT: Final = 5
_FRACTION_ZERO: Final = 6
_FRACTION: Final = 7
_E: Final = 8
_E_SIGNED: Final = 9
_E_DIGITS: Final = 10

_EQUAL: Final = 0
_LESS: Final = 1
_MORE: Final = 2


class Question(NamedTuple):
    """A set of numbers, as arrays that compiled code reads."""

    rules: Int64s
    """(2, RULES): the rules of either sign."""
    digits: Int64s
    """(4, …): the bounds' digits, in rows 2·sign for the lower and 2·sign + 1 for the upper."""
    shape: Int64s
    room: Int64s
    """(MOST_DIGITS + 1,)"""
    reach: Int64s
    """(modulus,): x(r)"""
    powers: Int64s
    """10^i mod the modulus"""


# Fields of an unpacked state before the exponent: phase, sign, place, fraction digits, zeros, residue, the comparisons
# with the lower and the upper bound, and whether an exponent may still follow.
_FIELDS: Final = 9
_PLACE_OFFSET: Final = 128
_EXPONENT_OFFSET: Final = 16384


@kernel
def _pack(s: Int64s) -> int:
    """One number for a state before the exponent."""
    key = s[0]
    key = key * 2 + s[1]
    key = key * 256 + s[2] + _PLACE_OFFSET
    key = key * 128 + s[3]
    key = key * 256 + s[4]
    key = key * 9 + s[6] * 3 + s[7]
    key = key * 2 + s[8]
    return key * 2097152 + s[5]  # type: ignore[no-any-return]


@kernel
def _unpack(key: int, s: Int64s) -> None:
    s[5] = key % 2097152
    key //= 2097152
    s[8] = key % 2
    key //= 2
    s[7] = key % 3
    s[6] = key // 3 % 3
    key //= 9
    s[4] = key % 256
    key //= 256
    s[3] = key % 128
    key //= 128
    s[2] = key % 256 - _PLACE_OFFSET
    key //= 256
    s[1] = key % 2
    s[0] = key // 2


@kernel
def _pack_exponent(phase: int, low: int, high: int, count: int, value: int) -> int:
    """One number for a state in the exponent, disjoint from the others by its sign."""
    key = phase
    key = key * 32768 + low + _EXPONENT_OFFSET
    key = key * 32768 + high + _EXPONENT_OFFSET
    key = key * 8 + count
    return -(key * 16384 + value) - 1


@kernel
def _compare(before: int, digit: int, index: int, digits: Int64s, length: int) -> int:
    """The comparison with a bound's digits after one more significant digit, its `index`-th from zero."""
    if before != _EQUAL:
        return before
    expected = digits[index] if index < length else 0
    if digit == expected:
        return _EQUAL
    return _LESS if digit < expected else _MORE


@kernel
def _bound_limits(s: Int64s, rule: Int64s, significant: int) -> tuple[int, int]:
    """The interval of exponents that the bounds allow; with no exponent possible, places are already compared."""
    low, high = -NEVER, NEVER
    if rule[LOW]:
        enough = s[6] == _MORE or (s[6] == _EQUAL and significant >= rule[LOW + 3] and rule[LOW + 2] == 1)
        if s[8]:
            low = rule[LOW + 1] - s[2] + (0 if enough else 1)
        elif not enough:
            low = NEVER
    if rule[HIGH]:
        fits = s[7] == _LESS or (s[7] == _EQUAL and (significant < rule[HIGH + 3] or rule[HIGH + 2] == 1))
        if s[8]:
            high = rule[HIGH + 1] - s[2] - (0 if fits else 1)
        elif not fits:
            high = -NEVER
    return low, high


@kernel
def _significant(s: Int64s, rule: Int64s) -> int:
    """How many significant digits were read, as far as a comparison that is still equal needs it."""
    if s[0] == _WHOLE:
        return s[2] + 1  # type: ignore[no-any-return]
    place = s[2]
    if not s[8]:
        # Places were compared when the exponent was given up: an equal comparison means the bound's own place.
        place = rule[LOW + 1] if rule[LOW] and s[6] == _EQUAL else rule[HIGH + 1]
    return place + 1 + s[3]  # type: ignore[no-any-return]


@kernel
def _limits(s: Int64s, q: Question) -> tuple[int, int]:
    """The exponents that make the number read so far count; an empty interval if none does."""
    rule = q.rules[s[1]]
    if s[0] == _WHOLE_ZERO or s[0] == _FRACTION_ZERO:
        return (-NEVER, NEVER) if rule[ZERO_ALLOWED] else (NEVER, -NEVER)
    if s[0] != _WHOLE and s[0] != _FRACTION:
        return NEVER, -NEVER
    if s[0] == _WHOLE and not s[8]:
        settled = s.copy()
        _settle_places(settled, q)
        low, high = _bound_limits(settled, rule, s[2] + 1)
    else:
        low, high = _bound_limits(s, rule, _significant(s, rule))
    if q.shape[HAS_MULTIPLE]:
        below = s[3] - q.shape[SCALE]
        if not s[8] and q.shape[SCALE] >= 0:
            # Digits below the scale are zeros, and the residue has not taken them in.
            below = min(below, 0)
        low = max(low, q.reach[s[5]] - s[4] + below)
    return low, high


@kernel
def _settle_places(s: Int64s, q: Question) -> None:
    """With e = 0 certain, let the first place decide the comparisons that it decides."""
    rule = q.rules[s[1]]
    if rule[LOW] and s[2] != rule[LOW + 1]:
        s[6] = _MORE if s[2] > rule[LOW + 1] else _LESS
    if rule[HIGH] and s[2] != rule[HIGH + 1]:
        s[7] = _MORE if s[2] > rule[HIGH + 1] else _LESS


@kernel
def _give_up_exponent(s: Int64s, q: Question, fraction: int) -> bool:
    """No exponent can follow: keep only what a plain decimal of `fraction` digits so far needs. False: none counts."""
    s[8] = 0
    if q.shape[HAS_MULTIPLE] and q.shape[SCALE] >= 0:
        zeros = s[4] - max(0, fraction - q.shape[SCALE])
        if zeros < 0:
            return False
        s[5] = s[5] * q.powers[zeros] % q.shape[MODULUS]
        s[4] = 0
    return True


@kernel
def _significant_digit(s: Int64s, digit: int, q: Question, index: int) -> None:
    """Take the `index`-th significant digit into comparisons, zeros and residue."""
    rule = q.rules[s[1]]
    if rule[LOW]:
        s[6] = _compare(s[6], digit, index, q.digits[2 * s[1]], rule[LOW + 3])
    if rule[HIGH]:
        s[7] = _compare(s[7], digit, index, q.digits[2 * s[1] + 1], rule[HIGH + 3])
    if not q.shape[HAS_MULTIPLE]:
        return
    if not s[8] and q.shape[SCALE] >= 0:
        if s[3] <= q.shape[SCALE]:
            s[5] = (s[5] * 10 + digit) % q.shape[MODULUS]
    elif digit == 0:
        s[4] += 1
        if not s[8] and q.shape[MODULUS] == 1:
            s[4] = min(s[4], s[3] - q.shape[SCALE])
    else:
        s[5] = (s[5] * q.powers[s[4] + 1] + digit) % q.shape[MODULUS]
        s[4] = 0


@kernel
def _step_digit(s: Int64s, digit: int, q: Question) -> bool:
    """Move `s` over a digit of the mantissa; False if it cannot follow."""
    phase = s[0]
    if phase <= _SIGNED:
        return _first_digit(s, digit, q)
    if phase == _WHOLE:
        return _whole_digit(s, digit, q)
    if phase == _WHOLE_ZERO or s[3] >= q.shape[MOST_DIGITS]:
        return False
    s[3] += 1
    if phase in (_POINT_ZERO, _FRACTION_ZERO):
        if digit == 0:
            s[0] = _FRACTION_ZERO
            return True
        return _first_fraction_digit(s, digit, q)
    s[0] = _FRACTION
    if s[8] and s[3] > q.room[s[2] + 1 if s[2] >= 0 else 0]:
        _settle_places(s, q)
        if not _give_up_exponent(s, q, s[3] - 1):
            return False
    _significant_digit(s, digit, q, _significant(s, q.rules[s[1]]) - 1)
    return _settle_fraction(s, digit, q)


@kernel
def _first_digit(s: Int64s, digit: int, q: Question) -> bool:
    """The first digit of the whole part."""
    if digit == 0:
        s[0] = _WHOLE_ZERO
        return True
    s[0] = _WHOLE
    s[8] = 0 if q.shape[PLAIN] else 1
    _significant_digit(s, digit, q, 0)
    return bool(q.rules[s[1], NONZERO_ALLOWED])


@kernel
def _whole_digit(s: Int64s, digit: int, q: Question) -> bool:
    """A further digit of a whole part that is not 0."""
    if s[2] + 1 >= q.shape[MOST_DIGITS] and q.shape[COUNTED]:
        return False
    s[2] += 1
    if not q.shape[COUNTED]:
        s[2] = min(s[2], q.shape[MOST_PLACE])
    if s[8] and q.room[s[2] + 1] == NO_EXPONENT:
        _give_up_exponent(s, q, 0)
    _significant_digit(s, digit, q, s[2])
    return True


@kernel
def _first_fraction_digit(s: Int64s, digit: int, q: Question) -> bool:
    """The first nonzero digit, after the point."""
    s[0] = _FRACTION
    s[2] = -s[3]
    s[8] = 1
    if s[3] > q.room[0]:
        _settle_places(s, q)
        s[8] = 0
    _significant_digit(s, digit, q, 0)
    return q.rules[s[1], NONZERO_ALLOWED] == 1 and _settle_fraction(s, digit, q)


@kernel
def _settle_fraction(s: Int64s, digit: int, q: Question) -> bool:
    """Forget what no continuation depends on; False if none counts, because of a digit that the multiple forbids."""
    if not s[8]:
        s[2] = 0
    if not q.shape[HAS_MULTIPLE]:
        if q.shape[UNIFORM_ROOM] and not (q.rules[s[1], LOW] or q.rules[s[1], HIGH]):
            s[2] = 0
        return True
    most = 0
    if s[8]:
        most = q.rules[s[1], HIGH + 1] - s[2] if q.rules[s[1], HIGH] else NEVER
    if digit != 0 and most - s[3] + q.shape[SCALE] < 0:
        return False
    if not s[8] and 0 <= q.shape[SCALE] <= s[3]:
        # Only zeros can follow, so the residue has its final value.
        if q.reach[s[5]] != 0:
            return False
        s[5] = 0
    return True


@kernel
def _step(key: int, column: int, q: Question, before: Int64s, s: Int64s) -> tuple[bool, int]:
    """The state after a column, and whether there is one. `before`: the state unpacked, if no exponent has begun; `s`
    is scratch."""
    if key < 0:
        return _step_exponent(key, column, q.shape)
    for field in range(_FIELDS):
        s[field] = before[field]
    phase = s[0]
    if column < 10:
        alive = _step_digit(s, column, q)
        return alive, _pack(s)
    if column == MINUS:
        s[0] = _SIGNED
        s[1] = 1
        return phase == _START, _pack(s)
    zero = phase in (_WHOLE_ZERO, _FRACTION_ZERO)
    if q.shape[PLAIN] or not (zero or phase in (_WHOLE, _FRACTION)):
        return False, 0
    if column == POINT and phase < _FRACTION_ZERO:
        s[0] = _POINT_ZERO if zero else _POINT
        if not zero and not s[8]:
            _settle_places(s, q)
            s[2] = 0
        return True, _pack(s)
    if column == EXPONENT and (zero or s[8]):
        low, high = _limits(s, q)
        most = 10 ** q.shape[MOST_EXPONENT_DIGITS] - 1
        low = max(low, -most)
        high = min(high, most)
        return low <= high, _pack_exponent(_E, low, high, 0, 0) if low <= high else 0
    return False, 0


@kernel
def _step_exponent(key: int, column: int, shape: Int64s) -> tuple[bool, int]:
    """A state inside the exponent: the digits so far, as long as the interval does not already decide."""
    rest = -(key + 1)
    value = rest % 16384
    rest //= 16384
    count = rest % 8
    rest //= 8
    high = rest % 32768 - _EXPONENT_OFFSET
    rest //= 32768
    low = rest % 32768 - _EXPONENT_OFFSET
    phase = rest // 32768
    if column in (MINUS, PLUS):
        if phase != _E:
            return False, 0
        if column == MINUS:
            low, high = -high, -low
        return high >= 0, _pack_exponent(_E_SIGNED, max(low, 0), high, 0, 0)
    if column >= 10 or count >= shape[MOST_EXPONENT_DIGITS]:
        return False, 0
    low = max(low, 0)
    value = value * 10 + column
    count += 1
    remaining = shape[MOST_EXPONENT_DIGITS] - count
    widest = (value + 1) * 10**remaining - 1
    if value > high or widest < low:
        return False, 0
    if value >= low and widest <= high:
        # Every continuation counts: forget the digits.
        return True, _pack_exponent(_E_DIGITS, 0, 9999, count, 0)
    return True, _pack_exponent(_E_DIGITS, low, high, count, value)


@kernel
def _counts(key: int, q: Question, s: Int64s) -> bool:
    """Whether the text read so far is a number of the set."""
    if key < 0:
        rest = -(key + 1)
        value = rest % 16384
        rest //= 16384 * 8
        high = rest % 32768 - _EXPONENT_OFFSET
        rest //= 32768
        low = rest % 32768 - _EXPONENT_OFFSET
        return rest // 32768 == _E_DIGITS and low <= value <= high
    _unpack(key, s)
    low, high = _limits(s, q)
    return low <= 0 <= high


def explore(q: Question, limit: int) -> tuple[Int32s, Bools] | None:
    """The raw table and acceptance of all states from the start on; None if there are more than `limit`."""
    for room in rooms(limit):
        found = interned(room, COLUMNS)
        table = np.empty((room, COLUMNS), np.int32)
        accepting = np.empty(room, np.bool_)
        states = _explore(q, found, table, accepting)
        if states <= room:
            return table[:states], accepting[:states]
    return None


@kernel
def _explore(q: Question, found: Interned, table: Int32s, accepting: Bools) -> int:
    """Fill table and acceptance; the number of states, which is more than there are rows if the limit was met."""
    before, s = np.zeros(_FIELDS, np.int64), np.zeros(_FIELDS, np.int64)
    number_of(found, _pack(s))
    head = 0
    while head < found.used[0] <= table.shape[0]:
        state = int(found.keys[head])
        accepting[head] = _counts(state, q, s)
        if state >= 0:
            _unpack(state, before)
        for column in range(COLUMNS):
            alive, key = _step(state, column, q, before, s)
            table[head, column] = number_of(found, key) if alive else -1
        head += 1
    return int(found.used[0])
