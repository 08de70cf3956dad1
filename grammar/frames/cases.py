"""A formula over an object by cases of one member's value, where the alternatives are told apart by that value.

Twelve times "if `kind` is this, then …" are two to the twelfth ways to satisfy an object, all but thirteen of which
contradict themselves: no value of `kind` is two constants at once. Here the values of one key are divided into blocks
that every part of the formula treats alike (a constant or several, the other strings, the other numbers, …, and that
the key does not come at all), and the formula is the disjunction of what it becomes in each block. The blocks are a
partition, so the same objects satisfy it. It is done only where that leaves fewer ways.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Any, Final

from grammar.formula import FALSE, TRUE, Formula, Formulas, Kind, atoms, certain, satisfying
from grammar.frames.clauses import is_clause
from grammar.frames.languages import number_spec
from grammar.frames.members import Shape
from grammar.schema.atoms import (
    NUMBER,
    STRING,
    TYPES,
    Constant,
    Given,
    Leftovers,
    OfType,
    OneOfNumbers,
    OneOfStrings,
    Properties,
    Range,
    Required,
    Whole,
    restrict,
)
from grammar.schema.constants import equal_to

LITTLE: Final = 12
"""Where there are no more ways than these, they are quicker written out than avoided."""
MAX_VALUES: Final = 512
"""Listed values of one key beyond which nothing is divided."""
MAX_KEYS: Final = 2
"""So many keys are divided by, one within the other."""
MANY: Final = 1 << 40


def by_cases(pool: Formulas, formula: Formula, shape: Shape, keys: int = MAX_KEYS) -> Formula:
    """An object formula that the same objects satisfy, divided by the values of a key if that leaves fewer ways."""
    before = labour(formula)
    if before <= LITTLE or not keys:
        return formula
    for number in _telling(pool, formula, shape):
        divided = _Division(pool, formula, shape, number).formula
        if labour(divided) >= before:
            continue
        if divided.kind is not Kind.OR:
            return by_cases(pool, divided, shape, keys - 1)
        return pool.any_of(by_cases(pool, case, shape, keys - 1) for case in divided.args)
    return formula


def labour(formula: Formula) -> int:
    """How many ways there are to satisfy the formula, contradictions among them, as its normal form would have.

    Those of "exactly one" count as often as it has alternatives, all others of which each has to fail.
    """
    return _counts(formula)[0]


def _counts(formula: Formula) -> tuple[int, int]:
    """How many ways to satisfy it, and how many to fail it, up to MANY."""
    if formula.kind <= Kind.TRUE:
        return (1, 0) if formula is TRUE else (0, 1)
    if formula.kind is Kind.LITERAL or is_clause(formula, negated=True) or is_clause(formula):
        return 1, 1
    known: tuple[int, int] | None = formula.memo.get("counts")
    if known is None:
        known = formula.memo["counts"] = _counted(formula.kind, [_counts(f) for f in formula.args])
    return known


def _counted(kind: Kind, parts: Sequence[tuple[int, int]]) -> tuple[int, int]:
    held, failed = [h for h, _ in parts], [f for _, f in parts]
    all_hold, all_fail = min(MANY, prod(held)), min(MANY, prod(failed))
    if kind is Kind.AND:
        return all_hold, min(MANY, sum(failed))
    if kind is Kind.OR:
        return min(MANY, sum(held)), all_fail
    one = min(MANY, len(parts) * sum(h * (all_fail // f if f else 0) for h, f in parts))
    many = min(MANY, all_fail + (sum(held) ** 2 - sum(h * h for h in held)) // 2)
    return (one, many) if kind is Kind.ONE else (many, one)


def _telling(pool: Formulas, formula: Formula, shape: Shape) -> list[int]:
    """The named classes whose value bears on more than one uncertain part of the formula, the most telling first."""
    held, told = certain(formula), dict[int, int]()
    for atom in atoms(formula):
        if not isinstance(atom, Properties) or atom in held:
            continue
        for name in atom.named:
            number = shape.number.get(name)
            if number is not None and _is_telling(pool, shape.child(atom, number)):
                told[number] = told.get(number, 0) + 1
    return sorted((n for n, count in told.items() if count > 1), key=lambda n: -told[n])[:MAX_KEYS]


def _is_telling(pool: Formulas, child: Formula) -> bool:
    """Whether some value is plainly in, and some other plainly out."""
    if child.kind <= Kind.TRUE:
        return child is FALSE
    return any(restrict(pool, child, kind) is FALSE for kind in TYPES) or any(
        isinstance(atom, (OneOfStrings, OneOfNumbers)) for atom in atoms(child)
    )


@dataclass(frozen=True, slots=True)
class _Block:
    """Values of the key that no part tells from each other."""

    values: Formula
    """That the value is one of these."""
    truth: tuple[bool | None, ...]
    """For each atom about members, whether such a value is what it asks for; None: not to be seen."""


class _Division:
    """One formula divided by the values of one key."""

    def __init__(self, pool: Formulas, formula: Formula, shape: Shape, number: int) -> None:
        self._pool, self._shape, self._number = pool, shape, number
        self._name = shape.names[number]
        self._whole = formula
        found = [a for a in atoms(formula) if isinstance(a, Properties) and shape.child(a, number) is not TRUE]
        self._children = {atom: shape.child(atom, number) for atom in found}
        self._without = {atom: self._rest(atom) for atom in found}
        """Each atom as it is where the value is what it asks for; the atom itself where that cannot be said."""

    @property
    def formula(self) -> Formula:
        """The disjunction of the cases; the formula itself if the key's values are too many."""
        pool = self._pool
        blocks = self._blocks()
        if blocks is None:
            return self._whole
        came = pool.literal(Required(frozenset([self._name])))
        needs = any(isinstance(a, Required) and self._name in a.names for a in certain(self._whole))
        cases = [] if needs else [pool.all_of([pool.negate(came), self._absent()])]
        for block in blocks:
            member = Properties({self._name: Given(block.values, "")}, (), None, "")
            cases.append(pool.all_of([came, pool.literal(member), self._within(block)]))
        return pool.any_of(cases)

    def _rest(self, atom: Properties) -> Formula:
        """What the atom asks of all other members."""
        pool, own = self._pool, {pattern for pattern, _ in atom.patterned}
        if isinstance(atom, Leftovers) or own & self._shape.classes[self._number].matches:
            return pool.literal(atom)
        if not own and atom.additional is None and set(atom.named) <= {self._name}:
            return TRUE
        named = {**atom.named, self._name: Given(TRUE, "")}
        return pool.literal(Properties(named, atom.patterned, atom.additional, atom.pointer, atom.constant))

    def _absent(self) -> Formula:
        def change(atom: Any) -> Formula | None:
            if isinstance(atom, Required):
                return FALSE if self._name in atom.names else None
            return self._without.get(atom)

        return self._pool.replace(self._whole, change, {})

    def _within(self, block: _Block) -> Formula:
        truth = dict(zip(self._children, block.truth, strict=True))

        def change(atom: Any) -> Formula | None:
            if isinstance(atom, Required) and self._name in atom.names:
                left = atom.names - {self._name}
                return self._pool.literal(Required(left)) if left else TRUE
            held = truth.get(atom)
            return FALSE if held is False else self._without[atom] if held else None

        return self._pool.replace(self._whole, change, {})

    def _blocks(self) -> list[_Block] | None:
        """The values of the key, divided; None if they are too many."""
        pool, alike = self._pool, dict[tuple[bool | None, ...], list[Formula]]()
        constants = dict[tuple[bool | None, ...], list[Constant]]()
        for kind in TYPES:
            asked = [restrict(pool, child, kind) for child in self._children.values()]
            listed = frozenset(_listed(asked, kind))
            if len(listed) > MAX_VALUES:
                return None
            told = [_holding(f, kind, listed) for f in asked]
            for value in listed:
                vector = tuple(None if held is None else value in held for held in told)
                constants.setdefault(vector, []).append((kind, value))
            typed = pool.literal(OfType(frozenset([kind])))
            apart = pool.negate(equal_to(pool, [(kind, value) for value in listed]))
            vector = tuple(_elsewhere(pool, f) for f in asked)
            alike.setdefault(vector, []).append(pool.all_of([typed, apart]))
        for vector, values in constants.items():
            alike.setdefault(vector, []).append(equal_to(pool, values))
        return [_Block(pool.any_of(parts), vector) for vector, parts in alike.items()]


def _listed(formulas: Iterable[Formula], kind: str) -> Iterator[Any]:
    for formula in formulas:
        for atom in atoms(formula) if kind in (STRING, NUMBER) and formula.kind > Kind.TRUE else ():
            if isinstance(atom, (OneOfStrings, OneOfNumbers)):
                yield from atom.values


def _holding(formula: Formula, kind: str, listed: frozenset[Any]) -> frozenset[Any] | None:
    """Which of the listed values satisfy the formula; None: not to be seen without an automaton."""
    numeric = kind == NUMBER

    def of(atom: Any) -> frozenset[Any]:
        if isinstance(atom, (OneOfStrings, OneOfNumbers)):
            return frozenset(atom.values)
        spec = number_spec([atom])
        return frozenset(v for v in listed if spec.holds(Fraction(v)))

    plain = (OneOfNumbers, Range) if numeric else (OneOfStrings,)
    known = formula.kind <= Kind.TRUE or all(
        isinstance(atom, plain) or (isinstance(atom, Whole) and not atom.plain) for atom in atoms(formula)
    )
    return satisfying(formula, of, listed) if known else None


def _elsewhere(pool: Formulas, formula: Formula) -> bool | None:
    """Whether the values that are not listed satisfy the formula: all, none, or not to be seen."""
    rest = pool.replace(formula, lambda a: FALSE if isinstance(a, (OneOfStrings, OneOfNumbers)) else None, {})
    return True if rest is TRUE else False if rest is FALSE else None
