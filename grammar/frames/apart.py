"""Which alternatives of a `oneOf` over objects exclude each other, so that "exactly one" need not be spelled out.

Exactly one of n alternatives is n ways, each with the negations of all others, and a negated object is itself a choice
of members to break. Most schemas tell their alternatives apart by a member that each requires and gives another
constant, or by names that only one of them allows. Alternatives that no object satisfies both of are told apart anyway:
with C₁ … Cₖ the connected parts of "may hold together", exactly one holds of all iff it does of one Cᵢ, for the
alternatives of two parts never hold at once. What is found here is proved from constants, types and absent names
alone, without a judge: two alternatives that are not known to be apart are taken to overlap.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from grammar.formula import FALSE, Formula, Formulas, Kind, certain
from grammar.frames.members import Shape, numbers_of
from grammar.schema.atoms import NUMBER, STRING, TYPES, OneOfNumbers, OneOfStrings, Properties, Required, restrict

MAX_ALTERNATIVES: Final = 256
"""Of more than these each pair would be looked at for too long."""


def told_apart(pool: Formulas, formula: Formula, shape: Shape) -> Formula:
    """An object formula that the same objects satisfy, where "exactly one" ranges only over what may hold together."""
    return _rewritten(pool, formula, shape, {})


def _rewritten(pool: Formulas, formula: Formula, shape: Shape, memo: dict[int, Formula]) -> Formula:
    if formula.kind <= Kind.TRUE or formula.kind is Kind.LITERAL:
        return formula
    found = memo.get(formula.number)
    if found is None:
        args = [_rewritten(pool, f, shape, memo) for f in formula.args]
        match formula.kind:
            case Kind.AND:
                found = pool.all_of(args)
            case Kind.OR:
                found = pool.any_of(args)
            case Kind.ONE:
                found = _exactly_one(pool, args, shape)
            case _:
                found = pool.negate(_exactly_one(pool, args, shape))
        memo[formula.number] = found
    return found


def _exactly_one(pool: Formulas, args: Sequence[Formula], shape: Shape) -> Formula:
    distinct = list(dict.fromkeys(args))
    if len(distinct) < len(args) or len(args) > MAX_ALTERNATIVES:
        return pool.one_of(args)
    return pool.any_of(pool.one_of(part) for part in _parts(pool, distinct, shape))


def _parts(pool: Formulas, formulas: Sequence[Formula], shape: Shape) -> list[list[Formula]]:
    """The connected parts of "not known to be apart"."""
    asked = 0
    for formula in formulas:
        asked |= _needed(formula, shape)
    parts: list[list[_Alternative]] = []
    for each in (_Alternative(pool, formula, shape, asked) for formula in formulas):
        touched = [part for part in parts if any(each.may_meet(other) for other in part)]
        parts = [part for part in parts if part not in touched]
        parts.append([each, *(other for part in touched for other in part)])
    return [[each.formula for each in part] for part in parts]


def _needed(formula: Formula, shape: Shape) -> int:
    """The named classes without whose keys the formula cannot hold."""
    names = (name for atom in certain(formula) if isinstance(atom, Required) for name in atom.names)
    return sum(1 << shape.number[name] for name in names if name in shape.number)


class _Alternative:
    """What is plain to see of one alternative: keys that it needs, keys that it bars, and the values it leaves them."""

    __slots__ = ("barred", "formula", "listed", "needed", "values")

    def __init__(self, pool: Formulas, formula: Formula, shape: Shape, asked: int) -> None:
        self.formula = formula
        self.needed = _needed(formula, shape)
        self.barred = self.listed = 0
        self.values: dict[int, frozenset[Any]] = {}
        """By class, of those `asked`: a superset of its values, as far as they are constants; classes left out: any."""
        properties = [atom for atom in certain(formula) if isinstance(atom, Properties)]
        for number in numbers_of(asked):
            child = pool.all_of(shape.child(atom, number) for atom in properties)
            values = _values(pool, child)
            if values is not None:
                self.values[number] = values
                self.listed |= 1 << number
                self.barred |= (not values) << number

    def may_meet(self, other: "_Alternative") -> bool:
        """Whether some object might satisfy both."""
        if self.needed & other.barred or other.needed & self.barred:
            return False
        telling = (self.needed | other.needed) & self.listed & other.listed
        return not any(self.values[number].isdisjoint(other.values[number]) for number in numbers_of(telling))


def _values(pool: Formulas, formula: Formula) -> frozenset[Any] | None:
    """Constants and names of types among which every value of the formula is; None: not to be seen."""
    found: set[Any] = set()
    for kind in TYPES if formula is not FALSE else ():
        asked = restrict(pool, formula, kind)
        if asked is FALSE:
            continue
        constants = _constants(asked) if kind in (STRING, NUMBER) else frozenset([None])
        if constants is None:
            return None
        found.update((kind, constant) for constant in constants)
    return frozenset(found)


def _constants(formula: Formula) -> frozenset[Any] | None:
    """A superset of the strings or numbers that satisfy the formula; None: not to be seen."""
    match formula.kind:
        case Kind.FALSE:
            return frozenset()
        case Kind.LITERAL:
            listed = formula.positive and isinstance(formula.atom, (OneOfStrings, OneOfNumbers))
            return frozenset(formula.atom.values) if listed else None
        case Kind.AND:
            known = [c for c in map(_constants, formula.args) if c is not None]
            return frozenset.intersection(*known) if known else None
        case Kind.OR | Kind.ONE:
            return _union(map(_constants, formula.args))
        case _:
            return None


def _union(sets: Iterable[frozenset[Any] | None]) -> frozenset[Any] | None:
    found: set[Any] = set()
    for each in sets:
        if each is None:
            return None
        found |= each
    return frozenset(found)
