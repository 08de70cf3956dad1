"""Automata of regular expressions with look-arounds and word boundaries: alternating first, deterministic in the end.

A *config* is a position of the expression and the *obligations* taken on the way there: the rest of the text must begin
with a match of a look-ahead's body (or must not). An obligation holds the configs of that body, so look-aheads nest. A
look-behind asks about the text already read, which a *tracker* follows deterministically: the configs of its body,
restarted at every place. A state is the trackers and a set of configs (any one of which may succeed); a config that
owes a superset of another's obligations is dropped, which keeps tempered expressions such as `(?:(?!x).)*` small.

Slower than `positions`, and only used for what that cannot express.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from grammar.errors import GrammarTooLarge, UnsupportedConstraint
from grammar.lexical.codepoints import Ranges, partition
from grammar.lexical.dfa import DEAD, Dfa
from grammar.lexical.ecma import WORD
from grammar.lexical.limits import Meter
from grammar.lexical.syntax import Alternate, Chars, Concat, Look, Node, Repeat, TextEnd, TextStart, WordBoundary
from grammar.lexical.utf8 import lower

_FINAL: Final = -1
"""The position of a config that has matched."""


@dataclass(frozen=True, slots=True)
class _AtStart:
    """The guard of `^`."""


@dataclass(frozen=True, slots=True)
class _AtEnd:
    """The guard of `$`, and the obligation that it becomes."""


@dataclass(frozen=True, slots=True)
class _LookGuard:
    """The guard of a look-around, by the number of its body among the look-aheads or the look-behinds."""

    body: int
    ahead: bool
    negated: bool


@dataclass(frozen=True, slots=True)
class _Owed:
    """What follows must (not, if `negated`) begin with a match that `configs` have begun."""

    negated: bool
    configs: "Configs"


Guard: TypeAlias = _AtStart | _AtEnd | _LookGuard
Arrival: TypeAlias = tuple[int, frozenset[Guard]]
Arrivals: TypeAlias = frozenset[Arrival]
Obligation: TypeAlias = _AtEnd | _Owed
Config: TypeAlias = tuple[int, frozenset[Obligation]]
Configs: TypeAlias = frozenset[Config]

_NOTHING_OWED: frozenset[Obligation] = frozenset()
_MATCHED: Config = (_FINAL, _NOTHING_OWED)


def determinise_with_lookaround(node: Node, meter: Meter, *, search: bool) -> Dfa:
    """As `positions.determinise`, for any expression."""
    program = _Program(meter)
    first = program.build(node, frozenset({(_FINAL, frozenset())}))
    machine = _Machine(program, first, search=search)
    table, accepting = machine.explore()
    return lower(table, accepting, machine.split, meter.limits)


@dataclass(slots=True)
class _Program:
    """The positions of an expression and of its look-arounds' bodies, and what may follow each."""

    meter: Meter
    follow: list[Arrivals] = field(default_factory=list)
    reads: list[int] = field(default_factory=list)
    sets: dict[Ranges, int] = field(default_factory=dict)
    aheads: list[Arrivals] = field(default_factory=list)
    behinds: list[Arrivals] = field(default_factory=list)
    """Inner look-behinds come before the outer ones that ask about them."""

    def build(self, node: Node, then: Arrivals) -> Arrivals:
        """Where one arrives, and under which guards, when `node` stands here and `then` follows."""
        match node:
            case Chars():
                position = self._position(then, self.sets.setdefault(node.ranges, len(self.sets)))
                return frozenset({(position, frozenset())})
            case Concat():
                for item in reversed(node.items):
                    then = self.build(item, then)
                return then
            case Alternate():
                return frozenset().union(*(self.build(item, then) for item in node.items))
            case Repeat():
                return self._repeat(node, then)
            case TextStart():
                return self._guarded(_AtStart(), then)
            case TextEnd():
                return self._guarded(_AtEnd(), then)
            case WordBoundary():
                return self.build(_boundary(node.negated), then)
            case Look():
                return self._guarded(self._look(node), then)

    def _position(self, follow: Arrivals, reads: int) -> int:
        self.meter.spend(2 + len(follow))
        self.follow.append(follow)
        self.reads.append(reads)
        return len(self.follow) - 1

    def _guarded(self, guard: Guard, then: Arrivals) -> Arrivals:
        self.meter.spend(len(then))
        return frozenset((target, guards | {guard}) for target, guards in then)

    def _look(self, node: Look) -> _LookGuard:
        first = self.build(node.item, frozenset({(_FINAL, frozenset())}))
        bodies = self.aheads if node.ahead else self.behinds
        bodies.append(first)
        return _LookGuard(len(bodies) - 1, node.ahead, node.negated)

    def _repeat(self, node: Repeat, then: Arrivals) -> Arrivals:
        limit = self.meter.limits.max_repeats
        if max(node.low, node.high or 0) > limit:
            raise GrammarTooLarge(f"quantifier {node.spelling} asks for more than {limit} repeats", keyword="pattern")
        if node.high is None:
            again = self._loop(node.item, then)
            then = again if node.low else again | then
        else:
            after = then
            for _ in range(node.high - node.low):
                then = self.build(node.item, then) | after
        for _ in range(node.low - 1 if node.high is None else node.low):
            then = self.build(node.item, then)
        return then

    def _loop(self, item: Node, then: Arrivals) -> Arrivals:
        """`item` at least once: a hole stands for "again" until what begins `item` is known."""
        hole = self._position(frozenset(), -1)
        entry = self.build(item, then | {(hole, frozenset())})
        # Entering again without having read anything adds only stronger guards.
        entry = frozenset(arrival for arrival in entry if arrival[0] != hole)
        for position in range(hole + 1, len(self.follow)):
            self.follow[position] = self._filled(self.follow[position], hole, entry)
        return entry

    def _filled(self, arrivals: Arrivals, hole: int, entry: Arrivals) -> Arrivals:
        holes = [arrival for arrival in arrivals if arrival[0] == hole]
        if not holes:
            return arrivals
        self.meter.spend(len(holes) * len(entry))
        again = {(target, guards | more) for _, more in holes for target, guards in entry}
        return arrivals.difference(holes) | again


def _boundary(negated: bool) -> Node:
    word = Chars(WORD)
    cases = [(True, negated), (False, not negated)]
    return Alternate(
        tuple(
            Concat(
                (Look(word, ahead=False, negated=not before), Look(word, ahead=True, negated=not after)),
            )
            for before, after in cases
        )
    )


@dataclass(frozen=True, slots=True)
class _State:
    trackers: tuple[Configs, ...]
    configs: Configs


class _Machine:
    """The deterministic machine of a program, explored from its start."""

    def __init__(self, program: _Program, first: Arrivals, *, search: bool) -> None:
        self.split = partition(tuple(program.sets))
        self._program = program
        self._first = first
        self._search = search
        self._reads = [frozenset(self.split.members[piece]) if piece >= 0 else frozenset() for piece in program.reads]
        self._won = _State((), frozenset({_MATCHED}))
        """Of a search: the text has a match, whatever follows."""

    def explore(self) -> tuple[list[list[int]], list[bool]]:
        """The table over classes, and which states accept."""
        start = self._start()
        numbers = {start: 0}
        states = [start]
        table: list[list[int]] = []
        while len(table) < len(states):
            state = states[len(table)]
            row: list[int] = []
            for label in range(self.split.count):
                target = self._next(state, label)
                if target is None:
                    row.append(DEAD)
                    continue
                if target not in numbers:
                    numbers[target] = len(states)
                    states.append(target)
                    self._program.meter.check_states(len(states))
                row.append(numbers[target])
            table.append(row)
        return table, [self._accepts(state.configs) for state in states]

    def _start(self) -> _State:
        trackers: list[Configs] = []
        for body in self._program.behinds:
            trackers.append(self._arrive(body, _NOTHING_OWED, trackers, at_start=True))
        return self._settled(trackers, self._arrive(self._first, _NOTHING_OWED, trackers, at_start=True))

    def _next(self, state: _State, label: int) -> _State | None:
        if state == self._won and self._search:
            return state
        trackers: list[Configs] = []
        for body, before in zip(self._program.behinds, state.trackers, strict=True):
            moved = self._move(before, label, trackers, absorbing=False)
            trackers.append(moved | self._arrive(body, _NOTHING_OWED, trackers))
        configs = self._move(state.configs, label, trackers, absorbing=self._search)
        if self._search:
            configs |= self._arrive(self._first, _NOTHING_OWED, trackers)
        # A search without configs may still begin one, but only where a look-behind comes to hold.
        alive = configs or (self._search and trackers)
        return self._settled(trackers, configs) if alive else None

    def _settled(self, trackers: list[Configs], configs: Configs) -> _State:
        if self._search and _MATCHED in configs:
            return self._won
        return _State(tuple(_weakest(tracker) for tracker in trackers), _weakest(configs))

    def _move(self, configs: Configs, label: int, trackers: list[Configs], *, absorbing: bool) -> Configs:
        """The configs after a character of class `label`."""
        after: set[Config] = set()
        self._program.meter.spend(5 * len(configs) + 2)
        for target, owed in configs:
            if target == _FINAL and not absorbing:
                continue
            if target != _FINAL and label not in self._reads[target]:
                continue
            still = self._still_owed(owed, label, trackers)
            if still is None:
                continue
            if target == _FINAL:
                after.add((_FINAL, still))
            else:
                after |= self._arrive(self._program.follow[target], still, trackers)
        return frozenset(after)

    def _still_owed(
        self, owed: frozenset[Obligation], label: int, trackers: list[Configs]
    ) -> frozenset[Obligation] | None:
        """The obligations after a character; None if one is broken."""
        still: set[Obligation] = set()
        for obligation in owed:
            if isinstance(obligation, _AtEnd):
                return None
            moved = _weakest(self._move(obligation.configs, label, trackers, absorbing=True))
            decided = _decided(moved, negated=obligation.negated)
            if decided is False:
                return None
            if decided is None:
                still.add(_Owed(obligation.negated, moved))
        return frozenset(still)

    def _arrive(
        self, arrivals: Arrivals, owed: frozenset[Obligation], trackers: list[Configs], *, at_start: bool = False
    ) -> Configs:
        """The configs of arriving here, with guards checked or turned into obligations."""
        found: set[Config] = set()
        for target, guards in arrivals:
            ways = [owed]
            for guard in guards:
                ways = [way | more for way in ways for more in self._passed(guard, trackers, at_start=at_start)]
            found.update((target, way) for way in ways)
        return frozenset(found)

    def _passed(self, guard: Guard, trackers: list[Configs], *, at_start: bool) -> list[frozenset[Obligation]]:
        """The alternative obligations under which a guard is passed here."""
        if isinstance(guard, _AtStart):
            return [_NOTHING_OWED] if at_start else []
        if isinstance(guard, _AtEnd):
            return [frozenset({guard})]
        if not guard.ahead:
            return _behind_passed(trackers[guard.body], negated=guard.negated)
        configs = _weakest(self._arrive(self._program.aheads[guard.body], _NOTHING_OWED, trackers, at_start=at_start))
        decided = _decided(configs, negated=guard.negated)
        if decided is None:
            return [frozenset({_Owed(guard.negated, configs)})]
        return [_NOTHING_OWED] if decided else []

    def _accepts(self, configs: Configs) -> bool:
        """Whether the text may end here."""
        return any(target == _FINAL and all(map(self._met_at_end, owed)) for target, owed in configs)

    def _met_at_end(self, obligation: Obligation) -> bool:
        return isinstance(obligation, _AtEnd) or self._accepts(obligation.configs) != obligation.negated


def _behind_passed(tracker: Configs, *, negated: bool) -> list[frozenset[Obligation]]:
    matched = [owed for target, owed in tracker if target == _FINAL]
    if not negated:
        return matched
    if any(owed for owed in matched) and _NOTHING_OWED not in matched:
        raise UnsupportedConstraint(
            "a negative look-behind that ends in a look-ahead or boundary is not supported", keyword="pattern"
        )
    return [] if matched else [_NOTHING_OWED]


def _decided(configs: Configs, *, negated: bool) -> bool | None:
    """Whether a look-ahead with these configs is already met (or broken), whatever follows; None: not yet."""
    if _MATCHED in configs:
        return not negated
    return None if configs else negated


def _weakest(configs: Iterable[Config]) -> Configs:
    """Without the configs that owe more than another of the same position."""
    by_position: dict[int, list[frozenset[Obligation]]] = {}
    for target, owed in configs:
        by_position.setdefault(target, []).append(owed)
    return frozenset(
        (target, owed)
        for target, ways in by_position.items()
        for owed in ways
        if len(ways) == 1 or not any(other < owed for other in ways)
    )
