"""Looking ahead when a constraint is compiled: limits are met here, not while it generates.

What may come in each object and array that has just been opened is worked out as a walk would, breadth first and up to
a bound. Later in a container the formulas only shrink. What lies beyond the bound and meets a limit is not offered.
"""

from typing import Final

from grammar.formula import TRUE, Formula
from grammar.frames.languages import located, string_language
from grammar.frames.members import numbers_of
from grammar.frames.satisfy import MAX_JUDGED
from grammar.json_automaton import JsonAutomaton, Tracked
from grammar.lexical.regex import as_counted
from grammar.schema.atoms import ARRAY, NUMBER, OBJECT, STRING, Pattern, restrict
from grammar.schema.intricate import heavy_patterns
from grammar.schema.keywords import Schema

MOST_SPENT: Final = 4000
"""Decisions after which no further value is looked into."""
Goal = tuple[Formula, Tracked]


def refuse_large_patterns(source: Schema) -> None:
    """Make the automata of patterns that could be large: they are kept, and wanted once such a text is met."""
    for place in source.reachable():
        for pattern, where in heavy_patterns(place.raw):
            if as_counted(pattern) is None:
                located(string_language, Pattern(pattern, place.pointer + where))


def foresee(automaton: JsonAutomaton, most: int) -> None:
    """Judge up to so many values; what could not be judged is among the judge's failures."""
    judge, spent = automaton.satisfiable, 0
    todo: dict[Goal, None] = {(automaton.root_formula, ()): None}
    waiting = list(todo)
    for goal, tracked in waiting:
        judge.patience = MAX_JUDGED
        for kind in (STRING, NUMBER, OBJECT, ARRAY):
            for found in _inside(automaton, goal, tracked, kind):
                if found not in todo and len(todo) < most:
                    todo[found] = None
                    waiting.append(found)
        spent += MAX_JUDGED - judge.patience
        if judge.failures or spent > MOST_SPENT:
            return


def _inside(automaton: JsonAutomaton, goal: Formula, tracked: Tracked, kind: str) -> list[Goal]:
    """The members or items of a value of this kind; a string or number has none, but an automaton of its own."""
    judge = automaton.satisfiable
    if not judge.may_be(goal, kind):
        return []
    asked, told = restrict(judge.pool, goal, kind), tuple(restrict(judge.pool, f, kind) for f in tracked)
    match kind:
        case "string":
            if asked is not TRUE or told:
                judge.attempt(lambda: automaton.string_of(asked, told), None)
            return []
        case "number":
            if asked is not TRUE or told:
                judge.attempt(lambda: automaton.number_of(asked, told), None)
            return []
        case "object":
            return _members(automaton, asked, told)
        case _:
            item = judge.attempt(lambda: judge.arrays.frame(asked, told).item, None)
            return [] if item is None else [(item.goal, item.tracked)]


def _members(automaton: JsonAutomaton, asked: Formula, told: Tracked) -> list[Goal]:
    judge = automaton.satisfiable
    frame = judge.objects.start(asked, told)
    allowed = judge.attempt(lambda: frame.allowed, 0)
    judge.attempt(lambda: frame.shape.machine, None)
    found = []
    for number in numbers_of(allowed):
        member = frame.member(number)
        found += [] if member is None else [(member.goal, member.tracked)]
        if judge.patience is not None and judge.patience < MAX_JUDGED - MOST_SPENT:
            break
    return found
