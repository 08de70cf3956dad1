"""Sets of Unicode scalar values as sorted, disjoint, inclusive ranges, and the coarsest partition respecting several.

Surrogates are not scalar values: they cannot occur in well-formed UTF-8, so they are dropped wherever a set is made.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

Range = tuple[int, int]
Ranges = tuple[Range, ...]

LAST = 0x10FFFF
SCALARS: Ranges = ((0, 0xD7FF), (0xE000, LAST))


def ranges(pieces: Iterable[Range]) -> Ranges:
    """The normal form of any inclusive ranges: sorted, merged, without surrogates."""
    merged: list[Range] = []
    for low, high in sorted(pieces):
        if merged and low <= merged[-1][1] + 1:
            if high > merged[-1][1]:
                merged[-1] = (merged[-1][0], high)
        elif low <= high:
            merged.append((low, high))
    if any(high >= 0xD800 and low <= 0xDFFF for low, high in merged):
        return _without_surrogates(merged)
    return tuple(merged)


def chars(text: str) -> Ranges:
    """The set of the characters of `text`."""
    return ranges((ord(char), ord(char)) for char in text)


def complement(piece: Ranges) -> Ranges:
    """The scalar values outside of `piece`."""
    outside: list[Range] = []
    at = 0
    for low, high in piece:
        if low > at:
            outside.append((at, low - 1))
        at = high + 1
    if at <= LAST:
        outside.append((at, LAST))
    return _without_surrogates(outside)


def union(*pieces: Ranges) -> Ranges:
    """The scalar values in any of `pieces`."""
    return ranges(each for piece in pieces for each in piece)


def intersection(one: Ranges, other: Ranges) -> Ranges:
    """The scalar values in both."""
    return complement(union(complement(one), complement(other)))


def contains(piece: Ranges, code: int) -> bool:
    """Whether `code` is a member."""
    return any(low <= code <= high for low, high in piece)


def size(piece: Ranges) -> int:
    """The number of members."""
    return sum(high - low + 1 for low, high in piece)


@dataclass(frozen=True, slots=True)
class Partition:
    """Scalar values sorted into classes such that each of some sets is a union of classes."""

    cells: tuple[tuple[int, int, int], ...]
    """(low, high, class), sorted, covering every scalar value; classes are numbered by first occurrence."""
    members: tuple[tuple[int, ...], ...]
    """For each of the sets, in the order given, its classes."""
    count: int


@lru_cache(maxsize=512)
def partition(sets: Sequence[Ranges]) -> Partition:
    """The coarsest partition of the scalar values that respects every one of `sets`."""
    flips: dict[int, int] = {0: 0, 0xD800: 0, 0xE000: 0, LAST + 1: 0}
    for index, piece in enumerate(sets):
        bit = 1 << index
        for low, high in piece:
            flips[low] = flips.get(low, 0) ^ bit
            flips[high + 1] = flips.get(high + 1, 0) ^ bit
    class_of: dict[int, int] = {}
    cells: list[tuple[int, int, int]] = []
    signature = 0
    for low, above in pairwise(sorted(flips)):
        signature ^= flips[low]
        if low == 0xD800:
            continue
        cells.append((low, above - 1, class_of.setdefault(signature, len(class_of))))
    members = tuple(
        tuple(number for signature, number in class_of.items() if signature >> index & 1) for index in range(len(sets))
    )
    return Partition(cells=tuple(cells), members=members, count=len(class_of))


def _without_surrogates(pieces: Iterable[Range]) -> Ranges:
    kept: list[Range] = []
    for low, high in pieces:
        if high < 0xD800 or low > 0xDFFF:
            kept.append((low, high))
            continue
        if low < 0xD800:
            kept.append((low, 0xD7FF))
        if high > 0xDFFF:
            kept.append((0xE000, high))
    return tuple(kept)
