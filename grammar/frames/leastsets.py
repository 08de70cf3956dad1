"""Which of several obligations one member has to meet, so that the members after it can meet the others."""

from collections.abc import Callable
from itertools import combinations
from typing import Any, Final

from grammar.errors import GrammarTooLarge

MAX_TRIES: Final = 512


def least_sets(members: list[Any], enough: Callable[[tuple[Any, ...]], bool]) -> list[tuple[Any, ...]]:
    """The least sets of members that are enough, where more is never less; GrammarTooLarge after MAX_TRIES."""
    if enough(()):
        return [()]
    found: list[tuple[Any, ...]] = [(a,) for a in members if enough((a,))]
    # A least set of two or more has none that is enough alone; if all the others are not enough, there is none.
    rest = [a for a in members if (a,) not in found]
    if len(rest) < 2 or not enough(tuple(rest)):
        return found
    tries = 0
    for size in range(2, len(rest) + 1):
        for some in combinations(rest, size):
            if any(set(some).issuperset(known) for known in found):
                continue
            tries += 1
            if tries > MAX_TRIES:
                raise GrammarTooLarge(f"more than {MAX_TRIES} ways to break negated schemas together")
            if enough(some):
                found.append(some)
    return found
