"""Sets of stacks, hash-consed: everything that may still be open around the readings of a text.

A *stack set* maps the position on top of a stack to the stack set below it, and may include the *base*: the stacks of
whatever frame lies below, which this set does not know. Equal sets are one number, so that configurations are compared
by number and every operation is remembered. A configuration is a stack set too: its tops are where readings stand.

Cutting a set at its first choke point (a set that every stack passes) leaves two parts that know nothing of each other:
the part above becomes a state, the part below a frame of the automaton's stack. So masks are shared however deep a text
nests, as they are for JSON.
"""

import heapq
from collections.abc import Callable, Iterator
from typing import Final

from grammar.errors import GrammarTooLarge
from grammar.rules.positions import DONE, Positions

BASE: Final = 0
"""Whatever lies below."""
NOTHING: Final = 1
"""No stack at all: where nothing can follow."""
MAX_HEIGHT: Final = 256
MAX_SETS: Final = 2_000_000

Items = tuple[tuple[int, int], ...]


class Stacks:
    """The stack sets of one grammar."""

    def __init__(self, positions: Positions) -> None:
        self._positions = positions
        self.items: list[Items] = [(), ()]
        """(top position, stack set below) pairs, sorted."""
        self.on_base: list[bool] = [True, False]
        """Whether the base itself is a member."""
        self._height: list[int] = [0, 0]
        self._numbers: dict[tuple[Items, bool], int] = {((), True): BASE, ((), False): NOTHING}
        self._unions: dict[tuple[int, int], int] = {}
        self._based: dict[tuple[int, int], int] = {}
        self._parts: dict[tuple[int, int], int] = {}
        """The part of a set above another that all its stacks pass: sets of one place have much of it in common."""
        self._costs: dict[int, int] = {BASE: 0, NOTHING: 0}

    def number(self, found: dict[int, int], *, on_base: bool = False) -> int:
        """The stack set with these tops."""
        items = tuple(sorted(found.items()))
        key = (items, on_base)
        known = self._numbers.get(key)
        if known is None:
            known = self._numbers[key] = len(self.items)
            height = 1 + max((self._height[below] for _, below in items), default=0)
            if height > MAX_HEIGHT or known > MAX_SETS:
                raise GrammarTooLarge(f"this grammar is ambiguous over more than {MAX_HEIGHT} levels of nesting")
            self.items.append(items)
            self.on_base.append(on_base)
            self._height.append(height)
        return known

    def union(self, one: int, other: int) -> int:
        """The stacks of either."""
        if other in {one, NOTHING}:
            return one
        if one == NOTHING:
            return other
        key = (one, other) if one < other else (other, one)
        known = self._unions.get(key)
        if known is None:
            found = dict(self.items[one])
            for top, below in self.items[other]:
                found[top] = self.union(found.get(top, NOTHING), below)
            known = self._unions[key] = self.number(found, on_base=self.on_base[one] or self.on_base[other])
        return known

    def pushed(self, top: int, below: int) -> int:
        """Every stack of `below` with `top` on it."""
        if top == DONE:
            return below
        if any(inner == top for inner, _ in self.items[below]) and self._positions.is_starred(top):
            # To stand at `top` inside `top` allows what standing there once allows.
            inner = dict(self.items[below])
            deeper = inner.pop(top)
            below = self.union(self.number(inner, on_base=self.on_base[below]), deeper)
        return self.number({top: below})

    def based(self, stacks: int, base: int) -> int:
        """`stacks` with the set `base` for its base."""
        if stacks == BASE:
            return base
        if stacks == NOTHING or base == BASE:
            return stacks
        key = (stacks, base)
        known = self._based.get(key)
        if known is None:
            found = {top: self.based(below, base) for top, below in self.items[stacks]}
            known = self.number(found)
            if self.on_base[stacks]:
                known = self.union(known, base)
            self._based[key] = known
        return known

    def cut(self, stacks: int, is_clear: Callable[[int], bool]) -> tuple[int, int]:
        """(the part above the first choke point where that is clear, the part from there on): BASE if there is none."""
        for choke in self._chokes(stacks):
            above = self._without(stacks, choke)
            if is_clear(above):
                return above, choke
        return stacks, BASE

    def cost(self, stacks: int) -> int:
        """The bytes of the cheapest way down to the base or to the end."""
        found = self._costs.get(stacks)
        if found is None:
            ways = [self._positions.cost(top) + self.cost(below) for top, below in self.items[stacks]]
            found = self._costs[stacks] = 0 if self.on_base[stacks] else min(ways)
        return found

    def shortest(self, stacks: int) -> tuple[int, bytes]:
        """The last position of that way, and its bytes."""
        parts, top = [], DONE
        while self.items[stacks] and not self.on_base[stacks]:
            top, stacks = min(self.items[stacks], key=lambda item: self._positions.cost(item[0]) + self.cost(item[1]))
            parts.append(self._positions.shortest(top))
        return top, b"".join(parts)

    def _chokes(self, stacks: int) -> Iterator[int]:
        """The sets, this one aside, that every stack passes and that make a frame; highest sets are opened first."""
        waiting = {below for _, below in self.items[stacks]} | ({BASE} if self.on_base[stacks] else set())
        heap = [(-self._height[below], below) for below in waiting]
        heapq.heapify(heap)
        while heap:
            _, found = heapq.heappop(heap)
            if not heap and self._is_frame(found):
                yield found
            below = {below for _, below in self.items[found]} | ({BASE} if self.on_base[found] else set())
            for number in below - waiting:
                waiting.add(number)
                heapq.heappush(heap, (-self._height[number], number))

    def _is_frame(self, stacks: int) -> bool:
        """Whether it is worth a frame of its own.

        A set on the base itself would be looked through all the same, and what `pushed` simplifies must stay in sight.
        """
        items = self.items[stacks]
        return not self.on_base[stacks] and not (
            len(items) > 1 and any(self._positions.is_starred(t) for t, _ in items)
        )

    def _without(self, stacks: int, choke: int) -> int:
        if stacks == choke:
            return BASE
        known = self._parts.get((stacks, choke))
        if known is None:
            found = {top: self._without(below, choke) for top, below in self.items[stacks]}
            known = self._parts[stacks, choke] = self.number(found)
        return known
