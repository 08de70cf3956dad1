"""Strings and numbers that surely exist: told from the atoms alone, so that no automaton is made before it is needed.

Most members of a schema are optional and most are never generated, but whether a key may come depends on whether some
value can follow. What is not plain here is left to the automata, which tell exactly. A "yes" from here must also mean
that the automaton, when it is made, meets no limit.
"""

from fractions import Fraction
from functools import lru_cache
from typing import Any, Final

from grammar.formula import Formula, Kind
from grammar.frames.languages import number_spec
from grammar.lexical.codepoints import SCALARS, intersection
from grammar.lexical.ecma import parse
from grammar.lexical.numbers import NumberSpec
from grammar.lexical.syntax import Alternate, Chars, Concat, Node, Repeat, TextEnd, TextStart
from grammar.schema.atoms import Format, Length, OneOfNumbers, OneOfStrings, Pattern, Range, Whole

MOST_PLAIN: Final = 10**12
"""Bounds up to here, in their numerators and denominators, can be spelled with room to spare."""
MOST_POSITIONS: Final = 10
"""So many places for characters make at most a thousand sets of them, in whatever way the pattern is ambiguous."""


def plainly_some(formula: Formula) -> bool:
    """Whether it is plain that some string (or number) satisfies a formula about strings (or numbers)."""
    if formula.kind is Kind.LITERAL:
        return _by_itself(formula.atom, positive=formula.positive)
    if formula.kind is not Kind.AND:
        return False
    parts: list[Any] = [f.atom for f in formula.args if f.kind is Kind.LITERAL and f.positive]
    if len(parts) < len(formula.args) or not all(isinstance(a, (Range, Whole)) for a in parts):
        return False
    return _has_member(number_spec(parts))


def _by_itself(atom: Any, *, positive: bool) -> bool:
    if isinstance(atom, (OneOfStrings, OneOfNumbers, Whole)):
        return True
    if isinstance(atom, Length):
        return positive or atom.least > 0 or atom.most is not None
    if isinstance(atom, Range):
        return atom.least is None or atom.most is None or (positive and _has_member(number_spec([atom])))
    return positive and (isinstance(atom, Format) or (isinstance(atom, Pattern) and _matches_something(atom.text)))


def _has_member(spec: NumberSpec) -> bool:
    """Whether some number satisfies the specification; no, where that takes more than a few digits to tell."""
    low, high = spec.minimum, spec.maximum
    open_low, open_high = spec.exclusive_minimum, spec.exclusive_maximum
    given = [n for n in (low, high, open_low, open_high) if n is not None]
    if any(abs(n.numerator) > MOST_PLAIN or n.denominator > MOST_PLAIN for n in given):
        return False
    if spec.integer:
        candidates = [Fraction(0), *(Fraction(bound // 1 + step) for bound in given for step in (-1, 0, 1))]
    else:
        lows, highs = [n for n in (low, open_low) if n is not None], [n for n in (high, open_high) if n is not None]
        candidates = [Fraction(0), *lows, *highs, *((max(lows) + min(highs)) / 2 for _ in range(bool(lows and highs)))]
    return any(spec.holds(each) for each in candidates)


@lru_cache(maxsize=1024)
def _matches_something(pattern: str) -> bool:
    """Whether a pattern with no conditions but the text's start in front and its end behind surely matches a text."""
    node = parse(pattern)
    items = node.items if isinstance(node, Concat) else (node,)
    start = 1 if items and isinstance(items[0], TextStart) else 0
    end = len(items) - 1 if len(items) > start and isinstance(items[-1], TextEnd) else len(items)
    return sum(map(_positions, items)) <= MOST_POSITIONS and all(map(_has_word, items[start:end]))


def _positions(node: Node) -> int:
    """The places for characters, repeats unrolled."""
    match node:
        case Chars():
            return 1
        case Concat() | Alternate():
            return sum(map(_positions, node.items))
        case Repeat():
            return _positions(node.item) * max(1, node.low, node.high or 0)
        case _:
            return 0


def _has_word(node: Node) -> bool:
    match node:
        case Chars():
            return bool(intersection(node.ranges, SCALARS))
        case Concat():
            return all(map(_has_word, node.items))
        case Alternate():
            return any(map(_has_word, node.items))
        case Repeat():
            return node.low == 0 or _has_word(node.item)
        case _:
            return False
