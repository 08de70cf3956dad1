"""Looking ahead when a constraint is compiled: limits are met here, not while it generates.

Only where a schema is intricate: from the root along the members and items that lead to an intricate subschema, breadth
first and up to a bound. What may come in an object or array that combines much is worked out as a walk would; one that
asks for several things at once and nothing else can meet no limit itself, and is only passed through. Later in a
container the formulas only shrink. What lies beyond the bound and meets a limit is not offered.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from grammar.formula import TRUE, Formula, Kind, atoms
from grammar.frames.arrays import item_child
from grammar.frames.languages import located, string_language
from grammar.frames.members import Shape, Way, numbers_of
from grammar.frames.satisfy import MAX_JUDGED, Satisfiability
from grammar.json_automaton import JsonAutomaton, Tracked
from grammar.lexical.formats import INEXACT_FORMATS
from grammar.lexical.regex import as_counted
from grammar.schema.atoms import (
    ARRAY,
    NUMBER,
    OBJECT,
    STRING,
    Child,
    Contains,
    Derived,
    Format,
    Given,
    Items,
    MultipleOf,
    OneOfNumbers,
    OneOfStrings,
    Pattern,
    Properties,
    PropertyNames,
    Unique,
    Whole,
    restrict,
)
from grammar.schema.evaluated import Either
from grammar.schema.intricate import heavy_patterns
from grammar.schema.keywords import Location
from grammar.schema.reach import Reach

MOST_SPENT: Final = 1000
"""Decisions after which no further value is looked into."""
MANY_PATTERNS: Final = 3
MANY_WAYS: Final = 256
MANY_OWED: Final = 8
"""An object with no more ways to satisfy it, and fewer negated atoms in them all, combines little."""
Goal = tuple[Formula, Tracked]


def refuse_large_patterns(reach: Reach) -> None:
    """Make the automata of patterns that could be large: they are kept, and wanted once such a text is met."""
    for place in reach.places:
        for pattern, where in heavy_patterns(place.raw):
            if as_counted(pattern) is None:
                located(string_language, Pattern(pattern, place.pointer + where))


def foresee(automaton: JsonAutomaton, leading: frozenset[int], most: int) -> None:
    """Judge up to so many values; what could not be judged is among the judge's failures.

    `leading`: the identities of the schema objects that are intricate or lead to one that is.
    """
    if not leading:
        return
    judge, spent = automaton.satisfiable, 0
    ahead = _Ahead(automaton, leading)
    todo: dict[Goal, None] = {(automaton.root_formula, ()): None}
    waiting = list(todo)
    for goal, tracked in waiting:
        judge.patience, judge.asked = MAX_JUDGED, [goal]
        for kind in (STRING, NUMBER, OBJECT, ARRAY):
            for found in ahead.inside(goal, tracked, kind):
                if found not in todo and len(todo) < most:
                    todo[found] = None
                    waiting.append(found)
        spent += MAX_JUDGED - judge.patience
        if judge.failures or spent > MOST_SPENT:
            return


class _Ahead:
    """The steps of the look ahead, over one automaton and what leads to something intricate in its schema."""

    def __init__(self, automaton: JsonAutomaton, leading: frozenset[int]) -> None:
        self._automaton = automaton
        self._judge: Satisfiability = automaton.satisfiable
        self._leading = leading

    def inside(self, goal: Formula, tracked: Tracked, kind: str) -> list[Goal]:
        """The members or items of a value of this kind; a string or number has none, but an automaton of its own."""
        judge, automaton = self._judge, self._automaton
        asked, told = restrict(judge.pool, goal, kind), tuple(restrict(judge.pool, f, kind) for f in tracked)
        if _is_plain(asked) and all(f.kind <= Kind.TRUE for f in told):
            return self._passed(asked, kind)
        match kind:
            case "object":
                return self._members(goal, asked, told)
            case "array":
                return self._items(goal, asked, told)
            case _:
                if not _is_light(asked, told):
                    make = automaton.string_of if kind == STRING else automaton.number_of
                    judge.attempt(lambda: judge.may_be(goal, kind) and make(asked, told), None)
                return []

    def _members(self, goal: Formula, asked: Formula, told: Tracked) -> list[Goal]:
        judge = self._judge
        if asked.kind <= Kind.TRUE:
            return []
        frame = judge.objects.start(asked, told)
        ways = judge.attempt(lambda: judge.objects.ways(frame.formula, frame.shape), list[Way]())
        if not frame.shape.is_simple:
            judge.attempt(lambda: frame.shape.machine, None)
        if len(ways) <= MANY_WAYS and sum(_owed(way) for way in ways) <= MANY_OWED:
            # No later frame of this object combines more: only what leads on matters.
            properties = [atom for f in (asked, *told) for atom in atoms(f) if isinstance(atom, Properties)]
            numbers = self._leading_classes(properties, frame.shape)
        elif judge.may_be(goal, OBJECT):
            numbers = numbers_of(judge.attempt(lambda: frame.allowed, 0))
        else:
            numbers = []
        found = []
        for number in numbers:
            member = frame.member(number)
            found += [] if member is None else [(member.goal, member.tracked)]
            if judge.patience is not None and judge.patience < MAX_JUDGED - MOST_SPENT:
                break
        return found

    def _items(self, goal: Formula, asked: Formula, told: Tracked) -> list[Goal]:
        judge = self._judge
        looking = {atom for f in (asked, *told) for atom in atoms(f) if isinstance(atom, (Contains, Items, Unique))}
        children = [c for a in looking for c in (_item_children(a) if not isinstance(a, Unique) else ())]
        if len(looking) <= MANY_OWED and not self._leads(children):
            return []
        if not judge.may_be(goal, ARRAY):
            return []
        item = judge.attempt(lambda: judge.arrays.frame(asked, told).item, None)
        return [] if item is None else [(item.goal, item.tracked)]

    def _passed(self, asked: Formula, kind: str) -> list[Goal]:
        """The members and items of a plain value that lead to something intricate."""
        if kind == OBJECT:
            return [(goal, ()) for goal in self._passed_members(asked)]
        items = [atom for atom in atoms(asked) if isinstance(atom, Items)] if kind == ARRAY else []
        last = max((len(atom.prefix) for atom in items), default=0)
        found: list[Goal] = []
        for at in range(min((atom.at for atom in items), default=0), last + 1):
            moved = [Items(atom.prefix, atom.rest, min(at, len(atom.prefix))) for atom in items]
            if self._leads(child for atom in moved for child in (*atom.prefix[at : at + 1], atom.rest)):
                found.append((self._judge.pool.all_of(map(item_child, moved)), ()))
        return found

    def _passed_members(self, asked: Formula) -> list[Formula]:
        properties = [atom for atom in atoms(asked) if isinstance(atom, Properties)]
        if not any(self._leads(_member_children(atom)) for atom in properties):
            return []
        shape = self._judge.objects.start(asked, ()).shape
        return [
            self._judge.pool.all_of(shape.child(atom, number) for atom in properties)
            for number in self._leading_classes(properties, shape)
        ]

    def _leading_classes(self, properties: list[Properties], shape: Shape) -> list[int]:
        """The classes of keys of which some property asks what leads to something intricate."""
        if not any(self._leads(_member_children(atom)) for atom in properties):
            return []
        found = []
        for number in numbers_of(shape.everything):
            cls = shape.classes[number]
            if self._leads(child for atom in properties for child in atom.asked_of(cls.name, cls.matches)):
                found.append(number)
        return found

    def _leads(self, children: Iterable[Child | None]) -> bool:
        """Whether one of these subschemas is intricate or leads to one that is."""
        return any(child is not None and self._does_lead(child) for child in children)

    def _does_lead(self, child: Child) -> bool:
        match child:
            case Location():
                return id(child.place.raw) in self._leading
            case Either():
                return self._leads(child.children)
            case Given():
                return not _is_plain(child.known)
            case _:
                return True


def _member_children(atom: Properties) -> Iterator[Child | None]:
    yield from atom.named.values()
    yield from (child for _, child in atom.patterned)
    yield atom.additional


def _item_children(atom: Items | Contains) -> list[Child | None]:
    return [atom.item] if isinstance(atom, Contains) else [*atom.prefix, atom.rest]


def _owed(way: Way) -> int:
    """How many things this way to satisfy an object has to do by members that are not fixed."""
    constants = way.same is not None or bool(way.unlike)
    negated = len(way.broken) + len(way.misnamed) + len(way.clauses)
    return negated + len(way.pending) + len(way.among) + MANY_OWED * constants


def _is_light(asked: Formula, told: Tracked) -> bool:
    """Whether the automaton of a string or number is small, and exact, whatever the formula makes of its atoms."""
    found = {atom for f in (asked, *told) for atom in atoms(f)}
    if any(
        isinstance(atom, (Derived, MultipleOf)) or (isinstance(atom, Format) and atom.name in INEXACT_FORMATS)
        for atom in found
    ):
        return False
    return sum(not isinstance(atom, (OneOfStrings, OneOfNumbers, Whole)) for atom in found) <= 1


def _is_plain(formula: Formula) -> bool:
    """Whether the formula asks for certain things and nothing else, none of which could be large by itself."""
    if formula.kind is Kind.AND:
        return all(f.kind is Kind.LITERAL and _is_plain(f) for f in formula.args) and _patterns(formula) < MANY_PATTERNS
    if formula.kind is Kind.LITERAL:
        return formula.positive and not isinstance(formula.atom, (Contains, MultipleOf, PropertyNames, Unique))
    return formula.kind <= TRUE.kind


def _patterns(formula: Formula) -> int:
    found: list[Any] = list(atoms(formula))
    return sum(len(a.patterned) if isinstance(a, Properties) else isinstance(a, Pattern) for a in found)
