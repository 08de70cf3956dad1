"""All values that satisfy a formula, if they are few: what `uniqueItems` can run out of.

Strings and numbers are listed from their automata (numbers in their plain spelling, which is one for each value),
objects and arrays member by member and item by item, each candidate then judged as a whole.
"""

from collections.abc import Iterator
from decimal import Decimal
from functools import lru_cache
from itertools import product as combinations
from typing import TYPE_CHECKING, Final

import numpy as np

from grammar.errors import GrammarTooLarge
from grammar.formula import FALSE, TRUE, Formula, Kind, atoms, evaluate
from grammar.frames.arrays import at_close, told
from grammar.frames.languages import Machine, any_string, few_words, number_machine, string_machine
from grammar.frames.members import numbers_of
from grammar.frames.remaining import listed_words
from grammar.lexical import Dfa, canonical
from grammar.lexical.regex import compile_regex
from grammar.schema.atoms import (
    ARRAY,
    FALSE_VALUE,
    NULL,
    NUMBER,
    OBJECT,
    STRING,
    TRUE_VALUE,
    Constant,
    ItemCount,
    Items,
    OneOfArrays,
    OneOfNumbers,
    restrict,
)
from grammar.schema.constants import equal_to

if TYPE_CHECKING:
    from grammar.frames.satisfy import Satisfiability

MAX_CANDIDATES: Final = 4096
MAX_LENGTH: Final = 1000
"""Strings that must be longer than this are taken to be many."""


def values(judge: "Satisfiability", formula: Formula, most: int) -> frozenset[Constant] | None:
    """All values that satisfy the formula; None if they are more than `most`."""
    found: set[Constant] = set()
    for kind in (NULL, TRUE_VALUE, FALSE_VALUE):
        if restrict(judge.pool, formula, kind) is TRUE:
            found.add((kind, None))
    for kind, listed in ((STRING, _strings), (NUMBER, _numbers), (OBJECT, _objects), (ARRAY, _arrays)):
        asked = restrict(judge.pool, formula, kind)
        if asked is FALSE or not judge.of_type(formula, kind):
            continue
        more = listed(judge, asked, most)
        if more is None:
            return None
        found |= more
        if len(found) > most:
            return None
    return frozenset(found)


def _strings(judge: "Satisfiability", asked: Formula, most: int) -> set[Constant] | None:
    listed = listed_words(asked)
    if listed is not None:
        return None if len(listed) > most else {(STRING, text) for text in listed}
    machine = string_machine(judge.pool, asked, (), lambda _: 0)
    if _is_free(machine) or machine.least > MAX_LENGTH:
        return None if machine.most != 0 else {(STRING, "")}
    words = few_words(machine, 0, most)
    return None if words is None else {(STRING, word) for word in words}


def _is_free(machine: Machine) -> bool:
    free = any_string()
    return machine.table.shape == free.table.shape and np.array_equal(machine.table, free.table)


def _numbers(judge: "Satisfiability", asked: Formula, most: int) -> set[Constant] | None:
    machine = number_machine(judge.pool, asked, (), lambda _: 0)
    plain = canonical(machine.table, machine.labels >= 0, machine.classes).intersect(plain_spellings())
    labels = np.where(plain.accepting, 0, -1).astype(np.int32)
    words = few_words(Machine(plain.classes, plain.table, labels), 0, most)
    if words is None:
        return None
    found: set[Constant] = {(NUMBER, Decimal(word)) for word in words}
    listed = {(NUMBER, v) for a in atoms(asked) if isinstance(a, OneOfNumbers) for v in a.values}
    found |= {value for value in listed if judge(judge.pool.all_of([asked, equal_to(judge.pool, [value])]))}
    return found


@lru_cache(maxsize=1)
def plain_spellings() -> Dfa:
    """One spelling of each number: without exponent, without zeros that say nothing."""
    return compile_regex(r"0|-?[1-9][0-9]*|-?(?:0|[1-9][0-9]*)\.[0-9]*[1-9]")


def _objects(judge: "Satisfiability", asked: Formula, most: int) -> set[Constant] | None:
    frame = judge.objects.start(asked, ())
    shape, found = frame.shape, set[Constant]()
    for way in frame.ways:
        usable = way.good & frame.open
        if usable & shape.rest and (way.most is None or way.needed.bit_count() < way.most):
            return None
        options: list[list[Constant | None]] = []
        numbers = numbers_of(usable & shape.named)
        for number in numbers:
            under = judge.values(way.child(number), most)
            if under is None:
                return None
            options.append([*([] if way.needed >> number & 1 else [None]), *under])
        for choice in _limited(options):
            members = zip(numbers, choice, strict=True)
            found.add((OBJECT, frozenset((shape.names[n], value) for n, value in members if value is not None)))
    pool = judge.pool
    return {value for value in found if judge.of_type(pool.all_of([asked, equal_to(pool, [value])]), OBJECT)}


def _limited(options: list[list[Constant | None]]) -> Iterator[tuple[Constant | None, ...]]:
    size = 1
    for each in options:
        size *= len(each)
    if size > MAX_CANDIDATES:
        raise GrammarTooLarge(f"uniqueItems over more than {MAX_CANDIDATES} possible objects", keyword="uniqueItems")
    return combinations(*options)


def _goes_on(judge: "Satisfiability", asked: Formula) -> bool:
    """Whether it is plain that an array can always have one more item; the array can be finished."""
    parts = asked.args if asked.kind is Kind.AND else (asked,)
    items = [f.atom for f in parts if f.positive and isinstance(f.atom, Items)]
    open_ended = [f for f in parts if f.positive and isinstance(f.atom, ItemCount) and f.atom.most is None]
    if len(items) + len(open_ended) < len(parts):
        return asked is TRUE
    rests = (atom.rest.formula() for atom in items if atom.rest is not None)
    return judge(judge.pool.all_of(rests))


def _arrays(judge: "Satisfiability", asked: Formula, most: int) -> set[Constant] | None:
    if _goes_on(judge, asked):
        return None
    pool, arrays, whole = judge.pool, judge.arrays, asked
    # A value is one of the constants compared with, or it equals none of them.
    constants = {(ARRAY, items) for atom in atoms(whole) if isinstance(atom, OneOfArrays) for items in atom.values}
    asked = pool.replace(whole, lambda a: FALSE if isinstance(a, OneOfArrays) else None, {})
    if arrays.feasible(pool.all_of([asked, pool.literal(ItemCount(most + MAX_LENGTH, None))])):
        return None
    found: set[Constant] = set()
    todo: list[tuple[Formula, tuple[Constant, ...]]] = [(asked, ())]
    for current, items in todo:
        if evaluate(current, at_close):
            found.add((ARRAY, items))
        for goal, following in arrays.options(current):
            if following is FALSE or not arrays.feasible(following):
                continue
            under = judge.values(goal, most)
            if under is None:
                return None
            todo += [(told(pool, following, value), (*items, value)) for value in under]
        if len(todo) > MAX_CANDIDATES:
            raise GrammarTooLarge(f"uniqueItems over more than {MAX_CANDIDATES} arrays", keyword="uniqueItems")
    if not constants:
        return found
    candidates = found | constants
    return {value for value in candidates if judge.of_type(pool.all_of([whole, equal_to(pool, [value])]), ARRAY)}
