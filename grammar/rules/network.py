"""Rules as one nondeterministic graph without empty edges, nullable calls or left recursion.

What it is for: everything about a grammar that does not depend on where a text stands. `build` refuses what derives
nothing and leaves a graph in which (a) every node can reach the end of its rule, (b) a called rule consumes at least a
byte, so that (c) calls can be predicted to any depth without coming round to themselves.

The stages: calls of small rules that do not recurse are copied in place; a cheapest completion is found for every node
(Knuth's generalisation of Dijkstra's algorithm), which also finds what derives nothing; calls that may be empty become
optional and rules lose the empty word; empty edges are followed away; left recursion is turned into loops: rules that
begin with each other are a left-linear grammar over what follows their first symbol, which is an automaton.
"""

import heapq
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from operator import or_
from typing import Final

from grammar.errors import GrammarTooLarge, UnsatisfiableConstraint
from grammar.rules.callgraph import small_rules, strongly_connected
from grammar.rules.terms import Call, Choice, Concat, Json, Leaf, Repeat, Rules, Term, Word, called

MAX_NODES: Final = 60_000
MAX_EDGES: Final = 300_000
MAX_LEAST: Final = 1 << 20
"""The bytes that the shortest way to an end may take, from wherever a text may stand."""
MAX_MERGE_WORK: Final = 3_000_000
FAR: Final = 1 << 60

Step = tuple[Leaf, int]
LooseStep = tuple[Leaf | None, int]


@dataclass
class Network:
    """The finished graph: nodes are numbers, `edges[node]` leads on, and nothing leads to an entry."""

    entries: dict[str, int] = field(default_factory=dict)
    edges: list[list[Step]] = field(default_factory=list)
    final: list[bool] = field(default_factory=list)
    """Whether the node's rule may end here."""
    cost: list[int] = field(default_factory=list)
    """The bytes of the cheapest way from the node to the end of its rule."""
    json_texts: Sequence[bytes] = ()
    """A short text for each schema."""
    roots: Mapping[str, int] = field(default_factory=dict)
    """See `Rules.roots`."""
    nullable: frozenset[str] = frozenset()
    """Which of the start rule and the roots derive the empty text."""
    notes: tuple[str, ...] = ()

    def shortest(self, node: int) -> bytes:
        """The cheapest bytes from a node to its rule's end: calls go to a stack of nodes still to finish."""
        parts, todo = [], [node]
        while todo:
            at = todo.pop()
            if self.final[at]:
                continue
            # No label is empty here, so every step brings the end nearer.
            label, target = min(self.edges[at], key=lambda step: self._price(step[0]) + self.cost[step[1]])
            todo.append(target)
            if isinstance(label, Call):
                todo.append(self.entries[label.name])
            else:
                parts.append(label.shortest if isinstance(label, Word) else self.json_texts[label.number])
        return b"".join(parts)

    def measure(self) -> None:
        """Find `cost`."""
        finals = [node for node, ends in enumerate(self.final) if ends]
        self.cost = measure(self.edges, finals, self.entries, self._leaf_price)

    @property
    def is_endless(self) -> bool:
        """Whether there is no longest text, values aside: a word without a longest one, a loop, or recursion."""
        labels = {label for edges in self.edges for label, _ in edges}
        if any(isinstance(label, Word) and not label.language.is_finite for label in labels):
            return True
        steps: dict[str, list[str]] = {}
        for node, edges in enumerate(self.edges):
            begun = [self.entries[label.name] for label, _ in edges if isinstance(label, Call)]
            steps[str(node)] = [str(other) for other in (*begun, *(target for _, target in edges))]
        return any(len(group) > 1 or group[0] in steps[group[0]] for group in strongly_connected(steps))

    @cached_property
    def rule_of(self) -> list[str]:
        """The rule of each node: nodes are numbered rule by rule, the entry first."""
        names = {node: name for name, node in self.entries.items()}
        found: list[str] = []
        for node in range(len(self.edges)):
            found.append(names.get(node, found[-1] if found else ""))
        return found

    @cached_property
    def _next_bytes(self) -> tuple[list[int], dict[str, int]]:
        """For each node, and after each rule, the bytes that may come next in some text, as bit sets."""
        after = {**dict.fromkeys(self.entries, 0), **self.roots}
        found = [0] * len(self.edges)
        changed = True
        while changed:
            changed = False
            for node in range(len(self.edges) - 1, -1, -1):
                bits = after[self.rule_of[node]] if self.final[node] else 0
                for label, target in self.edges[node]:
                    bits |= found[self.entries[label.name]] if isinstance(label, Call) else label.first_bytes
                    if isinstance(label, Call) and found[target] | after[label.name] != after[label.name]:
                        after[label.name] |= found[target]
                        changed = True
                if bits != found[node]:
                    found[node], changed = bits, True
        return found, after

    def following(self, node: int) -> int:
        """The bytes that may come next at a node, as a bit set."""
        return self._next_bytes[0][node]

    def after_rule(self, node: int) -> int:
        """The bytes that may come next where the node's rule has ended."""
        return self._next_bytes[1][self.rule_of[node]]

    @cached_property
    def after_any_rule(self) -> int:
        """The bytes that may come next where some rule has ended."""
        return reduce(or_, self._next_bytes[1].values(), 0)

    def _price(self, label: Leaf) -> int:
        return self.cost[self.entries[label.name]] if isinstance(label, Call) else self._leaf_price(label)

    def _leaf_price(self, label: Word | Json) -> int:
        return len(label.shortest) if isinstance(label, Word) else len(self.json_texts[label.number])


def build(rules: Rules, json_texts: Sequence[bytes]) -> Network:
    """The network of a grammar; `json_texts` holds a short text for each of its schemas."""
    graph = _Graph(rules, json_texts)
    graph.wire()
    return _Tight(graph).network()


class _Graph:
    """Rules as nodes and edges, empty edges included; an entry and an exit for each rule that is called."""

    def __init__(self, rules: Rules, json_texts: Sequence[bytes]) -> None:
        self.rules = rules
        self.json_texts = json_texts
        self.edges: list[list[LooseStep]] = []
        self.owner: list[str] = []
        self.entry: dict[str, int] = {}
        self.exit: dict[str, int] = {}
        self.cost: list[int] = []
        self._edge_count = 0
        self._copied = small_rules(rules)
        self._todo: list[str] = []
        self._name = rules.start
        self._barren: list[str] = []

    def wire(self) -> None:
        """Wire every rule that the start rule reaches and that is not copied, then measure."""
        first = (self.rules.start, *self.rules.roots)
        self._todo.extend(first)
        while self._todo:
            self._name = name = self._todo.pop()
            if name not in self.entry:
                self.entry[name], self.exit[name] = self._node(), self._node()
                self._wire(self.rules.bodies[name], self.entry[name], self.exit[name])
        self.cost = measure(self.edges, self.exit.values(), self.entry, self._leaf_price)
        barren = next((name for name in first if self.cost[self.entry[name]] >= FAR), None)
        if barren is not None:
            raise UnsatisfiableConstraint(f"rule {barren!r} derives no text: every way through it recurses")
        longest = max(cost for cost in self.cost if cost < FAR)
        if longest > MAX_LEAST:
            raise GrammarTooLarge(f"a part of this grammar cannot be finished in {MAX_LEAST} bytes")

    def price(self, label: Leaf) -> int:
        """The bytes of the shortest text of a label: none if it may be empty."""
        return self.cost[self.entry[label.name]] if isinstance(label, Call) else self._leaf_price(label)

    def _leaf_price(self, label: Word | Json) -> int:
        return int(label.language.distance[0]) if isinstance(label, Word) else len(self.json_texts[label.number])

    def notes(self) -> tuple[str, ...]:
        """What the author should know: rules that derive nothing, and rules that nothing reaches."""
        todo = [self.rules.start, *self.rules.roots]
        reached = set(todo)
        while todo:
            more = called(self.rules.bodies[todo.pop()]) - reached
            reached |= more
            todo.extend(more)
        found = [f"rule {name!r} is unreachable" for name in self.rules.bodies if name not in reached]
        for name, node in self.entry.items():
            if self.cost[node] >= FAR:
                found.append(f"rule {name!r} derives no text: branches that need it are never taken")
        found += [f"a pattern in {name!r} matches nothing: the branch is never taken" for name in self._barren]
        return tuple(dict.fromkeys(found))

    def _node(self) -> int:
        self.edges.append([])
        self.owner.append(self._name)
        _check(len(self.edges), MAX_NODES, "places")
        return len(self.edges) - 1

    def _edge(self, source: int, label: Leaf | None, target: int) -> None:
        self._edge_count += 1
        _check(self._edge_count, MAX_EDGES, "steps")
        self.edges[source].append((label, target))

    def _wire(self, term: Term, source: int, target: int) -> None:
        """Add the ways of `term` from `source` to `target`."""
        if isinstance(term, Call) and term.name in self._copied:
            self._wire(self.rules.bodies[term.name], source, target)
        elif isinstance(term, Word | Call | Json):
            if isinstance(term, Call):
                self._todo.append(term.name)
            if isinstance(term, Word) and term.language.is_empty:
                self._barren.append(self._name)
            else:
                self._edge(source, term, target)
        elif isinstance(term, Choice):
            for item in term.items:
                self._wire(item, source, target)
        elif isinstance(term, Concat):
            for item in term.items:
                source = self._after(item, source)
            self._edge(source, None, target)
        else:
            self._wire_repeat(term, source, target)

    def _after(self, term: Term, source: int) -> int:
        following = self._node()
        self._wire(term, source, following)
        return following

    def _wire_repeat(self, term: Repeat, at: int, target: int) -> None:
        for _ in range(term.low):
            at = self._after(term.item, at)
        if term.high is None:
            loop = self._node()
            self._edge(at, None, loop)
            self._wire(term.item, loop, loop)
            at = loop
        else:
            for _ in range(term.high - term.low):
                self._edge(at, None, target)
                at = self._after(term.item, at)
        self._edge(at, None, target)


class _Tight:
    """The graph without empty edges, then without left recursion."""

    def __init__(self, graph: _Graph) -> None:
        self.graph = graph
        self._exits = frozenset(graph.exit.values())
        self._steps: dict[int, tuple[list[Step], bool]] = {}
        self._edge_count = 0
        self._groups = self._left_recursive()

    def network(self) -> Network:
        """Each rule with what it may begin with by recursion, numbered as it is reached."""
        graph = self.graph
        network = Network(json_texts=graph.json_texts)
        first = (graph.rules.start, *graph.rules.roots)
        todo = list(first)
        while todo:
            name = todo.pop()
            if name not in network.entries:
                todo.extend(_Body(self, network, name, self._groups.get(name, ())).wire())
        network = _merged(network)
        network.measure()
        network.roots = graph.rules.roots
        network.nullable = frozenset(name for name in first if graph.cost[graph.entry[name]] == 0)
        network.notes = graph.notes()
        return network

    def steps(self, node: int) -> tuple[list[Step], bool]:
        """What leads on from a node, empty edges followed, and whether its rule may end here."""
        found = self._steps.get(node)
        if found is None:
            found = self._steps[node] = self._closure(node)
            self._edge_count += len(found[0])
            _check(self._edge_count, MAX_EDGES, "steps")
        return found

    def continued(self, rule: str, group: Iterable[str]) -> list[int]:
        """The nodes after a `rule` with which a body of the group begins."""
        entries = [self.graph.entry[name] for name in group]
        return [target for entry in entries for label, target in self.steps(entry)[0] if label == Call(rule)]

    def _closure(self, node: int) -> tuple[list[Step], bool]:
        graph = self.graph
        seen, todo = {node}, [node]
        steps: dict[Step, None] = {}
        ends = False
        while todo:
            at = todo.pop()
            ends |= at in self._exits
            for label, target in graph.edges[at]:
                if graph.cost[target] >= FAR or (label is not None and graph.price(label) >= FAR):
                    continue
                if label is not None and not (isinstance(label, Word) and label.is_blank):
                    steps[label, target] = None
                # A price of nothing: the label may be empty.
                if (label is None or graph.price(label) == 0) and target not in seen:
                    seen.add(target)
                    todo.append(target)
        return list(steps), ends

    def _left_recursive(self) -> dict[str, tuple[str, ...]]:
        """For each rule that may begin with itself: the rules that it and they may begin with."""
        graph = self.graph
        begins = {
            name: sorted({label.name for label, _ in self.steps(node)[0] if isinstance(label, Call)})
            for name, node in graph.entry.items()
            if graph.cost[node] < FAR
        }
        found: dict[str, tuple[str, ...]] = {}
        for group in strongly_connected(begins):
            if len(group) > 1 or group[0] in begins[group[0]]:
                found.update(dict.fromkeys(group, tuple(sorted(group))))
        return found


class _Body:
    """One rule's part of the network.

    If it is in a left-recursive group, it begins with any first symbol of a body of the group that is not itself in the
    group. Where a body ends, whatever follows its rule at the head of a body of the group may come next, and the whole
    ends where a body of the rule itself does.
    """

    def __init__(self, tight: _Tight, network: Network, name: str, group: tuple[str, ...]) -> None:
        self._tight = tight
        self._graph = tight.graph
        self._network = network
        self._name = name
        self._group = group
        self._numbers: dict[int, int] = {}
        self._pending: list[int] = []

    def wire(self) -> set[str]:
        """Add the rule to the network; the rules that it calls."""
        network = self._network
        first = entry = network.entries[self._name] = self._new()
        for rule in self._group or (self._name,):
            for label, target in self._tight.steps(self._graph.entry[rule])[0]:
                if not (isinstance(label, Call) and label.name in self._group):
                    network.edges[entry].append((label, self._at(target)))
        while self._pending:
            self._fill(self._pending.pop())
        edges = (edge for edges in network.edges[first:] for edge in edges)
        return {label.name for label, _ in edges if isinstance(label, Call)}

    def _new(self) -> int:
        network = self._network
        network.edges.append([])
        network.final.append(False)
        _check(len(network.edges), MAX_NODES, "places")
        return len(network.edges) - 1

    def _at(self, node: int) -> int:
        """The network's node for one of the graph's."""
        found = self._numbers.get(node)
        if found is None:
            found = self._numbers[node] = self._new()
            self._pending.append(node)
        return found

    def _fill(self, node: int) -> None:
        number, owner = self._numbers[node], self._graph.owner
        seen, todo = {node}, [node]
        steps: dict[Step, None] = {}
        while todo:
            at = todo.pop()
            onward, ends = self._tight.steps(at)
            steps.update(dict.fromkeys(onward))
            if ends:
                self._network.final[number] |= owner[at] == self._name
                more = [n for n in self._tight.continued(owner[at], self._group) if n not in seen]
                seen.update(more)
                todo.extend(more)
        self._network.edges[number] = [(label, self._at(target)) for label, target in steps]


def measure(
    edges: Sequence[Sequence[LooseStep]],
    ends: Iterable[int],
    entries: Mapping[str, int],
    price: Callable[[Word | Json], int],
) -> list[int]:
    """The cheapest way from each node to an end, in bytes; FAR where there is none."""
    backward: list[list[LooseStep]] = [[] for _ in edges]
    for source, onward in enumerate(edges):
        for label, target in onward:
            backward[target].append((label, source))
    cost = [FAR] * len(edges)
    names = {node: name for name, node in entries.items()}
    waiting: dict[str, list[tuple[int, int]]] = {}
    heap = [(0, node) for node in ends]
    heapq.heapify(heap)
    while heap:
        reached, node = heapq.heappop(heap)
        if cost[node] <= reached:
            continue
        # Far beyond the limit, how far does not matter; sums must not reach FAR.
        cost[node] = reached = min(reached, 1 << 40)
        for label, source in backward[node]:
            if not isinstance(label, Call):
                heapq.heappush(heap, (reached + (0 if label is None else price(label)), source))
            elif cost[entries[label.name]] < FAR:
                heapq.heappush(heap, (reached + cost[entries[label.name]], source))
            else:
                waiting.setdefault(label.name, []).append((reached, source))
        for other, source in waiting.pop(names.get(node, ""), ()):
            heapq.heappush(heap, (reached + other, source))
    return cost


def _merged(network: Network) -> Network:
    """The network with the nodes of a rule that lead on alike made one: classes are split until none must be."""
    rules = {node: number for number, node in enumerate(network.entries.values())}
    labels: dict[object, int] = {}
    edges = [[(labels.setdefault(_identity(label), len(labels)), target) for label, target in e] for e in network.edges]
    rule, found, count = 0, [], 0
    for node, ends in enumerate(network.final):
        rule = rules.get(node, rule)
        found.append((rule, ends, node in rules))
    classes = _numbered(found)
    for _ in range(MAX_MERGE_WORK // (1 + sum(map(len, edges)))):
        classes = _numbered(
            (c, frozenset((label, classes[to]) for label, to in e)) for c, e in zip(classes, edges, strict=True)
        )
        if max(classes) == count:
            return _quotient(network, classes)
        count = max(classes)
    return network


def _numbered(keys: Iterable[Hashable]) -> list[int]:
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(key, len(numbers)) for key in keys]


def _identity(label: Leaf) -> Hashable:
    return label.fingerprint if isinstance(label, Word) else label


def _quotient(network: Network, classes: Sequence[int]) -> Network:
    """One node for each class, numbered by its first member."""
    words: dict[Hashable, Leaf] = {}
    merged = Network(
        entries={name: classes[node] for name, node in network.entries.items()}, json_texts=network.json_texts
    )
    for node, number in enumerate(classes):
        if number < len(merged.edges):
            continue
        steps = {(words.setdefault(_identity(label), label), classes[to]): None for label, to in network.edges[node]}
        merged.edges.append(list(steps))
        merged.final.append(network.final[node])
    return merged


def _check(count: int, most: int, what: str) -> None:
    if count > most:
        raise GrammarTooLarge(f"a grammar of more than {most} {what}")
