"""The texts of JSON numbers that satisfy type, bounds and multipleOf, in exact decimal arithmetic.

A set of numbers is a set of *values*; every spelling of a value belongs to it: 1, 1.0, 10e-1 and 1E0 are one integer,
and −0 equals 0. Parts are limited to `MOST_DIGITS` digits and `MOST_EXPONENT_DIGITS` exponent digits; further limits
that a set needed are in its notes.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from grammar.errors import GrammarError, GrammarTooLarge, UnsupportedConstraint
from grammar.lexical import numberstates as ns
from grammar.lexical.dfa import Dfa, canonical
from grammar.lexical.limits import DEFAULT_LIMITS, Limits

MOST_DIGITS = 40
MOST_EXPONENT_DIGITS = 4

_MOST_MODULUS = 10_000
_MOST_COUNTED_MODULUS = 64
_MOST_RAW_STATES = 60_000
_MOST_BOUND_DIGITS = 400


@dataclass(frozen=True, slots=True)
class NumberSpec:
    """What JSON Schema says of a number. `plain`: no point and no exponent (draft 4's integers)."""

    integer: bool = False
    minimum: Fraction | None = None
    maximum: Fraction | None = None
    exclusive_minimum: Fraction | None = None
    exclusive_maximum: Fraction | None = None
    multiple_of: Fraction | None = None
    plain: bool = False

    def holds(self, value: Fraction) -> bool:
        """Whether the value satisfies everything but `plain`, which is about spelling."""
        return (
            (not self.integer or value.denominator == 1)
            and (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
            and (self.exclusive_minimum is None or value > self.exclusive_minimum)
            and (self.exclusive_maximum is None or value < self.exclusive_maximum)
            and (self.multiple_of is None or (value / self.multiple_of).denominator == 1)
        )


@dataclass(frozen=True, slots=True)
class NumberLanguage:
    """The texts, within the spellings that were looked at: `domain` without `dfa` are the numbers outside of the set.

    The domain is every JSON number within the general limits, or fewer if the set would need too many states; the notes
    then say which spellings are missing. Never take the complement within anything larger.
    """

    dfa: Dfa
    domain: Dfa
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Bound:
    value: Fraction
    inclusive: bool


@lru_cache(maxsize=1024)
def number_language(spec: NumberSpec, limits: Limits = DEFAULT_LIMITS) -> NumberLanguage:
    """The automaton of `spec`, minimal; the empty language if nothing satisfies it."""
    multiple = _multiple(spec)
    modulus, scale = (1, 0) if multiple is None else _split_scale(multiple)
    if modulus > _MOST_MODULUS:
        raise UnsupportedConstraint(
            f"a multiple of {multiple} needs residues modulo {modulus}, more than {_MOST_MODULUS}", keyword="multipleOf"
        )
    counted = modulus <= _MOST_COUNTED_MODULUS
    rules, digits = _rules(_low(spec), _high(spec), multiple)
    bounded = bool(rules[:, [ns.LOW, ns.HIGH]].any())
    room = _ANY_ROOM if spec.plain else _room(multiple, modulus, bounded=bounded)
    top = max(len(room), 1 + int(rules[:, [ns.LOW + 1, ns.HIGH + 1]].max()))
    shape = _Shape(multiple is not None, modulus, scale, plain=spec.plain, counted=counted, most_place=top)
    dfa = _explored(rules, digits, shape, room, limits)
    return NumberLanguage(dfa, _domain(room, counted=counted), _notes(room, counted=counted))


@lru_cache(maxsize=32)
def _domain(room: tuple[int, ...], *, counted: bool) -> Dfa:
    """Every number that `room` and the general limits allow."""
    rules, digits = _rules(None, None, None)
    shape = _Shape(has_multiple=False, modulus=1, scale=0, plain=False, counted=counted, most_place=len(room))
    return _explored(rules, digits, shape, room, DEFAULT_LIMITS)


@dataclass(frozen=True, slots=True)
class _Shape:
    has_multiple: bool
    modulus: int
    scale: int
    plain: bool
    counted: bool
    most_place: int


def _explored(
    rules: npt.NDArray[np.int64], digits: npt.NDArray[np.int64], shape: _Shape, room: tuple[int, ...], limits: Limits
) -> Dfa:
    padded = room + (ns.NO_EXPONENT,) * (MOST_DIGITS + 1 - len(room))
    entries = [MOST_DIGITS, MOST_EXPONENT_DIGITS, shape.has_multiple, shape.modulus, shape.scale, shape.plain]
    entries += [shape.counted, shape.most_place, len(set(padded)) == 1]
    question = ns.Question(
        rules=rules,
        digits=digits,
        shape=np.array(entries, np.int64),
        room=np.array(padded, np.int64),
        reach=_reach(shape.modulus),
        powers=_powers(shape.modulus),
    )
    explored = ns.explore(question, max(_MOST_RAW_STATES, limits.max_states))
    if explored is None:
        raise GrammarTooLarge("these bounds and this multiple need too many states", keyword="multipleOf")
    return canonical(*explored, _BYTE_CLASSES)


def _notes(room: tuple[int, ...], *, counted: bool) -> tuple[str, ...]:
    """What was left out, or let in, beyond the general limits."""
    notes = []
    if room != _ANY_ROOM:
        notes.append(
            f"an exponent is offered only after at most {len(room) - 1} digits before the point and {room[1]} after it "
            "(fewer after it if there is more than one before it)"
        )
    if not counted:
        notes.append("the number of digits before the point is not limited")
    return tuple(notes)


def _multiple(spec: NumberSpec) -> Fraction | None:
    """The one multiple that type and multipleOf ask for together."""
    if spec.multiple_of is None:
        return Fraction(1) if spec.integer else None
    if spec.multiple_of <= 0:
        raise GrammarError("multipleOf must be greater than 0", keyword="multipleOf")
    if not spec.integer:
        return spec.multiple_of
    # The least common multiple of 1 and a reduced fraction is its numerator.
    return Fraction(spec.multiple_of.numerator)


def _split_scale(multiple: Fraction) -> tuple[int, int]:
    """(n, s) with multiple = n·10^−s and n no multiple of ten."""
    scale = 0
    while multiple.denominator != 1:
        if scale > 400:
            raise UnsupportedConstraint("multipleOf is no decimal number", keyword="multipleOf")
        multiple *= 10
        scale += 1
    number = multiple.numerator
    while number % 10 == 0:
        number //= 10
        scale -= 1
    return number, scale


@lru_cache(maxsize=64)
def _reach(modulus: int) -> npt.NDArray[np.int64]:
    """x(r) for each residue: how many tens make it vanish."""
    tens = [pow(10, x) for x in range(modulus.bit_length() + 1)]
    return np.array(
        [
            next((x for x, ten in enumerate(tens) if residue * ten % modulus == 0), ns.NEVER)
            for residue in range(modulus)
        ],
        np.int64,
    )


@lru_cache(maxsize=64)
def _powers(modulus: int) -> npt.NDArray[np.int64]:
    return np.array([pow(10, exponent, modulus) for exponent in range(256)], np.int64)


_ANY_ROOM = (MOST_DIGITS,) * (MOST_DIGITS + 1)


def _room(multiple: Fraction | None, modulus: int, *, bounded: bool) -> tuple[int, ...]:
    """How many fraction digits an exponent may follow, by whole digits (0: the whole part is 0).

    States grow with the product, so it is generous where numbers are usually spelled: the shortest spelling that reads
    back as the same double (one whole digit, up to sixteen after the point) fits wherever the modulus is small.
    """
    if multiple is None:
        return (12, 17, 6, 6, 6, 3, 3, 0, 0, 0) if bounded else _ANY_ROOM
    if modulus == 1:
        return (4, 17, 3, 3, 3, 0, 0, 0, 0, 0)
    return (2, 3, 1, 1, 0, 0) if modulus <= 16 else (0, 1, 0, 0)


def _low(spec: NumberSpec) -> _Bound | None:
    """The stricter of the lower bounds."""
    bounds = [
        *([] if spec.minimum is None else [_Bound(spec.minimum, True)]),
        *([] if spec.exclusive_minimum is None else [_Bound(spec.exclusive_minimum, False)]),
    ]
    return max(bounds, key=lambda bound: (bound.value, not bound.inclusive), default=None)


def _high(spec: NumberSpec) -> _Bound | None:
    bounds = [
        *([] if spec.maximum is None else [_Bound(spec.maximum, True)]),
        *([] if spec.exclusive_maximum is None else [_Bound(spec.exclusive_maximum, False)]),
    ]
    return min(bounds, key=lambda bound: (bound.value, bound.inclusive), default=None)


def _rules(
    low: _Bound | None, high: _Bound | None, multiple: Fraction | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The rules of both signs, and the digits of their bounds: a negative number's magnitude has them swapped."""
    rules = np.zeros((2, ns.RULES), np.int64)
    digits = np.zeros((4, _MOST_BOUND_DIGITS), np.int64)
    negated_low = None if high is None else _Bound(-high.value, high.inclusive)
    negated_high = None if low is None else _Bound(-low.value, low.inclusive)
    for sign, (least, most) in enumerate([(low, high), (negated_low, negated_high)]):
        above = least is None or least.value < 0 or (least.value == 0 and least.inclusive)
        below = most is None or most.value > 0 or (most.value == 0 and most.inclusive)
        rules[sign, ns.ZERO_ALLOWED] = above and below
        tight_least, tight_most = _tightened(least, most, multiple)
        rules[sign, ns.NONZERO_ALLOWED] = tight_most is None or tight_most.value > 0
        if tight_least is not None:
            _write_bound(tight_least, rules[sign, ns.LOW :], digits[2 * sign])
        if tight_most is not None and tight_most.value > 0:
            _write_bound(tight_most, rules[sign, ns.HIGH :], digits[2 * sign + 1])
    return rules, digits


def _tightened(
    least: _Bound | None, most: _Bound | None, multiple: Fraction | None
) -> tuple[_Bound | None, _Bound | None]:
    """The bounds of nonzero magnitudes moved to multiples; a lower bound that every one meets is dropped."""
    if least is not None and least.value <= 0:
        least = None
    if multiple is None:
        return least, most
    if least is not None:
        first = math.ceil(least.value / multiple)
        first += first * multiple == least.value and not least.inclusive
        least = None if first <= 1 else _Bound(first * multiple, True)
    if most is not None:
        last = math.floor(most.value / multiple)
        last -= last * multiple == most.value and not most.inclusive
        most = _Bound(last * multiple, True)
    return least, most


def _write_bound(bound: _Bound, rule: npt.NDArray[np.int64], digits: npt.NDArray[np.int64]) -> None:
    number, scale = _split_scale(bound.value)
    text = str(number)
    if len(text) > _MOST_BOUND_DIGITS:
        raise GrammarTooLarge(f"a bound has more than {_MOST_BOUND_DIGITS} digits")
    rule[:4] = 1, len(text) - 1 - scale, bound.inclusive, len(text)
    digits[: len(text)] = [int(digit) for digit in text]


def _byte_classes() -> npt.NDArray[np.uint8]:
    classes = np.full(256, ns.COLUMNS - 1, np.uint8)
    for column, spellings in enumerate([*map(str, range(10)), "-", "+", ".", "eE"]):
        for char in spellings:
            classes[ord(char)] = column
    return classes


_BYTE_CLASSES = _byte_classes()
