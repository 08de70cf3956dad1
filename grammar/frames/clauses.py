"""Negated conjunctions that are left whole: "not both: these keys, and members as that schema says".

Exactly one of n alternatives that each require a key and say what it is are n ways, if "not the second" stays one
*clause* of a way: to satisfy it, keep one of the keys away or break the other part. Written out, each would be two
ways, and all of them n times two to the n - 1.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Final

from grammar.errors import GrammarTooLarge
from grammar.formula import Formula, Kind
from grammar.schema.atoms import Properties, Required

MAX_CHOICES: Final = 512


@dataclass(frozen=True, slots=True)
class Clause:
    """One of these must happen."""

    absent: tuple[int, ...]
    """Sets of classes of which not all may come."""
    broken: tuple[Properties, ...]
    """What some member may break."""

    def critical(self, needed: int, open_classes: int) -> int:
        """The classes after whose key, and those that are needed, no key of any set is left to keep away; -1: all."""
        left = {each & ~needed for each in self.absent}
        if any(each & ~open_classes or each.bit_count() > 1 for each in left):
            return 0
        left.discard(0)
        return 0 if len(left) > 1 else left.pop() if left else -1


Choice = tuple[tuple[int, ...], tuple[Properties, ...]]


def is_clause(formula: Formula, *, negated: bool = False) -> bool:
    """Whether the formula (or its negation) is a disjunction that is left whole."""
    return formula.kind is (Kind.AND if negated else Kind.OR) and all(
        f.kind is Kind.LITERAL and f.positive is negated and isinstance(f.atom, (Properties, Required))
        for f in formula.args
    )


def clauses_of(formulas: Iterable[Formula], bits: Callable[[Iterable[str]], int]) -> tuple[Clause, ...]:
    """The clauses in the numbers of a shape; left out are those that name a key no text can be."""
    found = []
    for formula in sorted(formulas, key=lambda f: f.number):
        absent = tuple(bits(f.atom.names) for f in formula.args if isinstance(f.atom, Required))
        if all(each >= 0 for each in absent):
            found.append(Clause(absent, tuple(f.atom for f in formula.args if isinstance(f.atom, Properties))))
    return tuple(found)


def choices(clauses: Iterable[Clause], needed: int, open_classes: int) -> Iterator[Choice]:
    """The ways to satisfy every clause, those first that ask for nothing to come."""
    options: list[list[Choice]] = []
    for clause in clauses:
        if any(each & ~open_classes for each in clause.absent):
            continue  # One of the keys cannot come any more.
        kept_away: list[Choice] = [((each,), ()) for each in clause.absent if each & ~needed]
        options.append([*kept_away, *(((), (atom,)) for atom in clause.broken)])
    for count, chosen in enumerate(product(*options)):
        if count == MAX_CHOICES:
            raise GrammarTooLarge(f"more than {MAX_CHOICES} ways to satisfy {len(options)} negated alternatives")
        absent = dict.fromkeys(each for kept_away, _ in chosen for each in kept_away)
        broken = dict.fromkeys(atom for _, atoms in chosen for atom in atoms)
        yield tuple(absent), tuple(broken)
