"""Which rules call which: groups that call each other, and rules small enough to be copied in place."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from grammar.rules.terms import Call, Repeat, Rules, Term, called, children

MAX_COPIED: Final = 300
"""The largest rule, in terms, that is copied to where it is called."""
MAX_NESTED: Final = 40
"""The deepest nest of such copies."""


def small_rules(rules: Rules) -> frozenset[str]:
    """The rules that are copied to where they are called: neither recursive nor large."""
    calls = {name: sorted(called(body)) for name, body in rules.bodies.items()}
    sizes: dict[str, tuple[int, int]] = {}
    for group in strongly_connected(calls):
        name = group[0]
        if len(group) == 1 and name != rules.start and name not in calls[name]:
            size, depth = _size(rules.bodies[name], sizes)
            if size <= MAX_COPIED and depth <= MAX_NESTED:
                sizes[name] = size, depth
    return frozenset(sizes)


def _size(term: Term, sizes: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    """How many terms this is with its copied calls, and how deep they nest."""
    if isinstance(term, Call) and term.name in sizes:
        size, depth = sizes[term.name]
        return size + 1, depth + 1
    parts = [_size(part, sizes) for part in children(term)]
    times = max(term.low + 1, term.high or 0) if isinstance(term, Repeat) else 1
    return 1 + times * sum(size for size, _ in parts), 1 + max((depth for _, depth in parts), default=0)


def strongly_connected(graph: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """The groups of names that reach each other, those that a group reaches before it (Tarjan's algorithm)."""
    walk = _Walk(graph)
    for root in graph:
        if root not in walk.number:
            walk.from_root(root)
    return walk.found


class _Walk:
    """One depth-first walk, without recursion: chains of calls may be long."""

    def __init__(self, graph: Mapping[str, Sequence[str]]) -> None:
        self.graph = graph
        self.number: dict[str, int] = {}
        self.low: dict[str, int] = {}
        self.stack: list[str] = []
        self.held: set[str] = set()
        self.found: list[list[str]] = []

    def from_root(self, root: str) -> None:
        """Walk everything that `root` reaches."""
        work = [(root, self._enter(root))]
        while work:
            name, onward = work[-1]
            fresh = self._next(name, onward)
            if fresh is not None:
                work.append((fresh, self._enter(fresh)))
                continue
            work.pop()
            if work:
                above = work[-1][0]
                self.low[above] = min(self.low[above], self.low[name])
            if self.low[name] == self.number[name]:
                self._leave(name)

    def _enter(self, name: str) -> Iterator[str]:
        self.number[name] = self.low[name] = len(self.number)
        self.stack.append(name)
        self.held.add(name)
        return iter(self.graph[name])

    def _next(self, name: str, onward: Iterator[str]) -> str | None:
        """The next name that was not entered yet."""
        for other in onward:
            if other in self.held:
                self.low[name] = min(self.low[name], self.number[other])
            elif other in self.graph and other not in self.number:
                return other
        return None

    def _leave(self, name: str) -> None:
        group = [self.stack.pop()]
        while group[-1] != name:
            group.append(self.stack.pop())
        self.held.difference_update(group)
        self.found.append(group)
