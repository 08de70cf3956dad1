"""Which number texts satisfy a rule, and which prefixes still can: exact fractions, every spelling by its value.

A prefix such as `-1.2` reaches the magnitudes [1.2, 1.3) x 10^t for any t (more digits or an exponent), `1.2e3` those
that the missing exponent digits give. A part has at most 40 digits, an exponent at most 4.

An implementation may leave out exponents after long mantissas (and must say so). A `frugal` rule knows exponents only
after a single digit: what it calls viable must be allowed, what another rule does not call viable must not. A `plain`
rule knows neither point nor exponent.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cache

COMPLETE = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?\Z")
PARTIAL = re.compile(r"(-?)(?:(0|[1-9][0-9]*)(?:(\.)([0-9]*))?(?:(?<=[0-9])([eE])([+-]?)([0-9]*))?)?\Z")
DIGITS, EXPONENT_DIGITS, WINDOW = 40, 4, 45
POWERS = [Fraction(10) ** t for t in sorted(range(-WINDOW, WINDOW), key=abs)]  # the likely ones first


def exact(number: float | int | str) -> Fraction:
    """The decimal value as written."""
    return Fraction(Decimal(str(number)))


@dataclass(frozen=True, slots=True)
class NumberRule:
    """Closed or open bounds, multiples of, not multiples of, the only values (None: any), excluded values."""

    low: Fraction | None = None
    low_open: bool = False
    high: Fraction | None = None
    high_open: bool = False
    multiples: tuple[Fraction, ...] = ()
    not_multiples: tuple[Fraction, ...] = ()
    values: frozenset[Fraction] | None = None
    excluded: frozenset[Fraction] = frozenset()
    frugal: bool = False
    plain: bool = False

    def allows(self, value: Fraction) -> bool:
        """Is this value in the set?"""
        return (
            (self.low is None or value > self.low or (value == self.low and not self.low_open))
            and (self.high is None or value < self.high or (value == self.high and not self.high_open))
            and all((value / m).denominator == 1 for m in self.multiples)
            and all((value / m).denominator != 1 for m in self.not_multiples)
            and (self.values is None or value in self.values)
            and value not in self.excluded
        )

    def complete(self, text: str) -> bool:
        """Is this a whole number text whose value is in the set?"""
        return bool(COMPLETE.match(text)) and self.spelled(text) and self.allows(exact(text))

    def spelled(self, text: str) -> bool:
        """Are point and exponent, if there are any, where this rule knows them?"""
        if self.plain:
            return text.lstrip("-").isdigit() or text in ("", "-")
        return not self.frugal or re.match(r"[^eE]*\Z|-?[0-9][eE]", text) is not None

    @cache  # noqa: B019  (rules are small values, and this is the slowest question)
    def viable(self, text: str) -> bool:
        """Can this text be completed, or is it complete?"""
        found = PARTIAL.match(text)
        if found is None or not within_limits(text) or not self.spelled(text):
            return False
        return any(self.meets(*reach) for reach in self.reaches(found)) or self.complete(text)

    def reaches(self, found: re.Match[str]) -> Iterator[tuple[Fraction, Fraction, bool]]:
        """Intervals [low, high) of values that completions take, or single values (low, low, True)."""
        minus, whole, _, part, mark, sign, exponent = found.groups()
        negative = minus == "-"
        if (self.frugal or self.plain) and not mark:
            yield from frugal_reaches(negative, whole, part, plain=self.plain)
            return
        if whole is None:
            for power in POWERS:
                yield from _signed(Fraction(0), power, negative)
                if not negative:
                    yield from _signed(Fraction(0), power, True)
            yield Fraction(0), Fraction(0), True
            return
        places = len(part or "")
        mantissa = Fraction(int(whole + (part or "")), 10**places)
        if mark:
            for shift in exponents(sign, exponent):
                value = mantissa * Fraction(10) ** shift * (-1 if negative else 1)
                yield value, value, True
            return
        top = mantissa + Fraction(1, 10**places) if places < DIGITS else mantissa
        for power in POWERS:
            yield from _signed(mantissa * power, top * power, negative)
            value = mantissa * power * (-1 if negative else 1)
            yield value, value, True

    def meets(self, low: Fraction, high: Fraction, exactly: bool) -> bool:
        """Does the set meet this interval? Ends of intervals come as single values, so here they are open."""
        if exactly or low == high:
            return self.allows(low)
        if self.values is not None:
            return any(low < v < high and self.allows(v) for v in self.values)
        least = max(low, self.low) if self.low is not None else low
        most = min(high, self.high) if self.high is not None else high
        if least > most:
            return False
        if least == most:
            return low < least < high and self.allows(least)
        if not self.multiples:
            return True
        # The set's own bounds may belong to it, so the first candidate may be one of them.
        step = common_multiple(self.multiples)
        first = math.ceil(least / step)
        candidates = (step * (first + k) for k in range(len(self.excluded) + 64 * bool(self.not_multiples) + 2))
        return any(low < v < high and self.allows(v) for v in candidates)


def _signed(low: Fraction, high: Fraction, negative: bool) -> Iterator[tuple[Fraction, Fraction, bool]]:
    yield (-high, -low, False) if negative else (low, high, False)


def frugal_reaches(
    negative: bool, whole: str | None, part: str | None, *, plain: bool = False
) -> Iterator[tuple[Fraction, Fraction, bool]]:
    """More digits as they stand, or an exponent after a single digit (`plain`: none at all)."""
    if whole is None:
        for digit in "0123456789":
            for sign in {negative, True}:
                yield from frugal_reaches(sign, digit, None, plain=plain)
        return
    places = len(part or "")
    mantissa = Fraction(int(whole + (part or "")), 10**places)
    top = mantissa + (Fraction(1, 10**places) if places < DIGITS else 0)
    value = -mantissa if negative else mantissa
    yield value, value, True
    longer = DIGITS - len(whole) if part is None and whole != "0" else 0
    for power in [Fraction(10) ** t for t in range(longer + 1)]:
        yield from _signed(mantissa * power, top * power, negative)
        yield value * power, value * power, True
    if part is None and len(whole) == 1 and not plain:
        for power in POWERS:
            yield value * power, value * power, True


def exponents(sign: str, digits: str) -> set[int]:
    """Exponents that can still be reached, thinned out: all small ones and the extremes."""
    room = EXPONENT_DIGITS - len(digits)
    sizes = {int(digits + "9" * room or "0"), int(digits + "0" * room or "0")}
    for number in range(WINDOW):
        for width in range(1, EXPONENT_DIGITS + 1):
            spelled = str(number).zfill(width)
            if len(spelled) == width and spelled.startswith(digits):
                sizes.add(number)
    signs = (1,) if sign == "+" else (-1,) if sign == "-" else (1,) if digits else (1, -1)
    return {one * size for one in signs for size in sizes}


def within_limits(text: str) -> bool:
    """At most 40 digits before and after the point, at most 4 in the exponent."""
    mantissa, _, exponent = text.lower().partition("e")
    whole, _, part = mantissa.lstrip("-").partition(".")
    return len(whole) <= DIGITS and len(part) <= DIGITS and len(exponent.lstrip("+-")) <= EXPONENT_DIGITS


def common_multiple(steps: tuple[Fraction, ...]) -> Fraction:
    """The least positive number that is a multiple of all of them."""
    top, bottom = steps[0].numerator, steps[0].denominator
    for step in steps[1:]:
        top = math.lcm(top * step.denominator, step.numerator * bottom)
        bottom *= step.denominator
        shared = math.gcd(top, bottom)
        top, bottom = top // shared, bottom // shared
    return Fraction(top, bottom)
