"""Whether several goals can be met by values that all differ: where items must be unique and there are few values.

A goal that more values meet than there are others never stands in the way. The rest are listed and matched to their
goals one by one, which is possible exactly if augmenting paths find a place for each (Hall; Kuhn's algorithm).
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from grammar.formula import Formula
from grammar.schema.atoms import Constant


class Lister(Protocol):
    """What lists the values of a formula."""

    def values(self, formula: Formula, most: int) -> frozenset[Constant] | None:
        """All values that satisfy the formula; None if they are more than `most`."""
        ...


def can_be_distinct(lister: Lister, goals: Sequence[Formula], seen: Iterable[Constant]) -> bool:
    """Whether the goals can be met by values that differ from each other and from those seen."""
    if len(goals) <= 1:
        return True  # A goal already excludes what was seen.
    taken = frozenset(seen)
    found = {goal: lister.values(goal, len(goals) + len(taken)) for goal in dict.fromkeys(goals)}
    lists = [values - taken for goal in goals if (values := found[goal]) is not None]
    return _matched(sorted(lists, key=len))


def _matched(lists: Sequence[frozenset[Constant]]) -> bool:
    owner: dict[Constant, int] = {}

    def place(number: int, tried: set[Constant]) -> bool:
        free = next((value for value in lists[number] if value not in owner), None)
        for value in lists[number] if free is None else (free,):
            if value in tried:
                continue
            tried.add(value)
            if value not in owner or place(owner[value], tried):
                owner[value] = number
                return True
        return False

    return all(place(number, set()) for number in range(len(lists)))
