"""How an open JSON value can be finished: short texts for goals, and for every kind of state what closes its frame.

Plans are good, not always least: a scalar is taken before an object or array is tried, and among the ways to finish an
object the one whose needed members are shortest. What matters is that each plan is finite and legal.
"""

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from grammar.codes import OK, STUCK
from grammar.errors import GrammarTooLarge
from grammar.formula import FALSE, TRUE, Formula
from grammar.frames.arrays import ArrayFrame
from grammar.frames.languages import Machine, characters_needed
from grammar.frames.members import Shape, Way, lowest, numbers_of
from grammar.frames.objects import Member, ObjectFrame
from grammar.frames.remaining import WordList, ending_with
from grammar.kernels import fixed
from grammar.lexical.graphs import relax
from grammar.schema.atoms import ARRAY, FALSE_VALUE, NULL, NUMBER, OBJECT, STRING, TRUE_VALUE, restrict
from grammar.schema.constants import constant_in
from grammar.steps import step
from grammar.tables import STACK_STATE

if TYPE_CHECKING:
    from grammar.json_automaton import JsonAutomaton

_FAR: Final = 1 << 28
_LACKING: Final = 1000
_ESCAPE: Final = 16
MAX_MEMBERS: Final = 10_000
"""More than the end of an open escape or character and a closing quote take."""
_SHORT: Final = {8: b"\\b", 9: b"\\t", 10: b"\\n", 12: b"\\f", 13: b"\\r", 0x22: b'\\"', 0x5C: b"\\\\"}
_FAVOURITES: Final = b"a0 A1_-bcdefghijklmnopqrstuvwxyzBCDEFGHIJKLMNOPQRSTUVWXYZ23456789"
Finished = tuple[int, bytes]
Members = list[tuple[bytes, bytes]]


def price(lacking: frozenset[int], spelled: bytes) -> int:
    """In bytes; one that the vocabulary lacks may still be part of some token, but that is a last resort."""
    return len(spelled) if not lacking else sum(_LACKING if b in lacking else 1 for b in spelled)


Alphabet = Sequence[tuple[int, bytes, int]]
"""(byte of decoded text, how it is spelled, its price), favourites first among equals in price."""


@lru_cache(maxsize=16)
def alphabet(lacking: frozenset[int], *, string: bool) -> Alphabet:
    """The bytes of text as they stand (`string`: inside a JSON string), for vocabularies that lack these bytes."""
    favourites_first = [*_FAVOURITES, *(b for b in range(256) if b not in _FAVOURITES)]
    spelled = [(b, _escaped(b) if string else bytes([b])) for b in favourites_first]
    return sorted(((b, text, price(lacking, text)) for b, text in spelled), key=lambda letter: letter[2])


def _escaped(byte: int) -> bytes:
    return _SHORT.get(byte) or (b"\\u%04x" % byte if byte < 0x20 else bytes([byte]))


class Route:
    """Cheapest continuations of one machine: spelled bytes to a label, from each state."""

    def __init__(self, machine: Machine, letters: Alphabet) -> None:
        self.machine = machine
        classes = machine.classes.tolist()
        self._alphabet = [(spelled, cost, classes[byte]) for byte, spelled, cost in letters]
        self._letters: dict[int, bytes] = {}
        costs = [_FAR] * machine.table.shape[1]
        for spelled, cost, cls in self._alphabet:
            if cls not in self._letters:
                self._letters[cls], costs[cls] = spelled, cost
        self.costs = np.array(costs, np.int64)
        self._far: dict[int, npt.NDArray[np.int64]] = {}
        self.distance = self.distances(machine.labels >= 0)

    def distances(self, final: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """[state]: what the cheapest way to a final state costs."""
        distance = np.where(final, 0, _FAR).astype(np.int64)
        relax(fixed(self.machine.table), self.costs, distance)
        return distance

    def from_state(self, state: int) -> Finished:
        """(label, bytes) of the cheapest word end from here."""
        return self._along(state, self.distance)

    def towards(self, state: int, final: npt.NDArray[np.bool_]) -> Finished:
        """As `from_state`, where words may only end in these states."""
        return self._along(state, self.distances(final))

    def _along(self, state: int, distance: npt.NDArray[np.int64]) -> Finished:
        parts: list[bytes] = []
        machine = self.machine
        while distance[state]:
            targets = machine.table[state]
            costs = np.where(targets >= 0, distance[targets] + self.costs, _FAR)
            best = int(costs.argmin())
            parts.append(self._letters[best])
            state = int(targets[best])
        return int(machine.labels[state]), b"".join(parts)

    def counted(self, state: int, count: int, needed: npt.NDArray[np.int32]) -> Finished:
        """As `from_state`, with at least the machine's least characters, `count` of which have come."""
        machine, parts = self.machine, []
        classes = range(machine.table.shape[1])
        continuing = [all(0x80 <= b < 0xC0 for b in self._letters[c]) for c in classes]
        while machine.labels[state] < 0 or count < machine.least:
            best: tuple[int, int, int, int] | None = None
            for cls in classes:
                target = int(machine.table[state, cls])
                if target < 0:
                    continue
                after = count + (not continuing[cls])
                far = int(needed[target, max(machine.least - after, 0)]) + after
                rank = (
                    far,
                    int(self.costs[cls]) + (not continuing[cls] and self._letters[cls][0] >= 0x80),
                    cls,
                    target,
                )
                best = rank if best is None or rank < best else best
            assert best is not None
            parts.append(self._letters[best[2]])
            count += not continuing[best[2]]
            state = best[3]
        return int(machine.labels[state]), b"".join(parts)

    def letters(self, state: int) -> list[bytes]:
        """One spelled letter for each class of bytes that can follow."""
        return [self._letters[c] for c, t in enumerate(self.machine.table[state].tolist()) if t >= 0]

    def words(self, state: int, label: int) -> Iterator[bytes]:
        """Words from `state` that end with `label`, cheapest first: A* along the distances to that label."""
        machine = self.machine
        far = self._far.get(label)
        if far is None:
            far = self._far[label] = self.distances(machine.labels == label)
        distance = far.tolist()
        heap = [(distance[state], 0, state, b"")]
        pushed = 0
        while heap:
            total, _, q, word = heappop(heap)
            if machine.labels[q] == label:
                yield word
            so_far, targets = total - distance[q], machine.table[q].tolist()
            for spelled, cost, c in self._alphabet:
                target = targets[c]
                if target >= 0 and distance[target] < _FAR:
                    pushed += 1
                    heappush(heap, (so_far + cost + distance[target], pushed, target, word + spelled))


class Completions:
    """The plans of one JSON automaton."""

    def __init__(self, automaton: "JsonAutomaton") -> None:
        self._automaton = automaton
        self._routes: dict[int, Route] = {}
        self._values: dict[tuple[int, tuple[int, ...]], Finished] = {}
        self._open: set[tuple[int, tuple[int, ...]]] = set()
        self._tainted = False
        self._members: dict[tuple[int, frozenset[bytes]], tuple[int, Members]] = {}
        self._items: dict[int, tuple[int, list[bytes]]] = {}
        self._needed: dict[int, npt.NDArray[np.int32]] = {}
        self._comma = b", " if automaton.spaced else b","
        self._alphabets = {
            string: alphabet(automaton.vocabulary.lacking_bytes, string=string) for string in (False, True)
        }
        self._farthest: dict[int, int] = {}
        # Keys of a class, cheapest first: as they are spelled and as they are remembered, and whence more come.
        self._words: dict[tuple[int, int], tuple[list[tuple[bytes, bytes]], Iterator[bytes]]] = {}
        self._names: dict[int, list[bytes]] = {}
        self._value_sizes: dict[tuple[int, frozenset[Any]], dict[int, int]] = {}
        self._colon = b": " if automaton.spaced else b":"

    # ---------------------------------------------------------------- states

    def finish(self, state: int, register: int, stack: int) -> Finished:
        """What closes the frame of `state`: the label it returns and the bytes."""
        automaton = self._automaton
        key = automaton.key_of(state)
        match key[0]:
            case "start":
                label, text = self._value(key[1], ())
                return label, text
            case "word":
                return key[2], key[1][1 + state - automaton.state(key) :]
            case "in number":
                machine = automaton.machine_at(state)
                return self._route(machine, string=False).from_state(state - key[1])
            case "in string" | "in enum" | "in pattern":
                return self._finish_string(state, register, stack)
            case "in key":
                return self._finish_key(state, register, stack)
            case "in words":
                return self._finish_word(state, register, stack)
            case "blank":
                label, text = self._finish_structure(key[1], self._taken(register))
                return label, b" " + text
            case _:
                return self._finish_structure(key, self._taken(register))

    def _finish_structure(self, key: Any, taken: frozenset[bytes]) -> Finished:
        """`taken`: the keys that the object holds so far, as far as it must know them."""
        match key[0]:
            case "object":
                return self._object_rest(key[1], first=True)
            case "after member":
                return self._object_rest(key[1], first=False, taken=taken)
            case "next key":
                label, members = self._next_members(key[1], taken)
                return label, self._joined(members) + b"}"
            case "colon":
                label, text = self._from_value(key[1], key[2], taken)
                return label, self._colon + text
            case "value":
                return self._from_value(key[1], key[2], taken)
            case "array":
                return self._array_rest(key[1], first=True)
            case "after item":
                return self._array_rest(key[1], first=False)
            case _:
                label, items = self._next_items(key[1])
                return label, self._comma.join(items) + b"]"

    def _taken(self, register: int) -> frozenset[bytes]:
        return self._automaton.tables.used_keys(register >> 32)

    def _finish_string(self, state: int, register: int, stack: int) -> Finished:
        automaton = self._automaton
        prefix = b""
        if register & 31:
            state, register, prefix = self._finish_escape(state, register, stack)
        base = automaton.key_of(state)[1]
        machine = automaton.machine_at(state)
        route = self._route(machine, string=True)
        if machine.least or machine.most is not None:
            label, rest = route.counted(state - base, register >> 32, self._needed_by(machine))
        else:
            label, rest = route.from_state(state - base)
        return label, prefix + rest + b'"'

    def _finish_word(self, state: int, register: int, stack: int) -> Finished:
        automaton = self._automaton
        state, register, prefix = self._finish_escape(state, register, stack)
        machine = automaton.machine_at(state)
        final = ending_with(machine, automaton.words_left(automaton.tables.get(STACK_STATE, stack)))
        label, rest = self._route(machine, string=True).towards(state - automaton.key_of(state)[1], final)
        return label, prefix + rest + b'"'

    def _finish_escape(self, state: int, register: int, stack: int) -> tuple[int, int, bytes]:
        """Any end of the escape will do: the walk lets no escape begin that cannot be finished."""
        spelled = b""
        tables = self._automaton.tables
        while register & 31:
            for byte in b'n"\\/brtfu0123456789abcdef':
                code, s, reg, _ = step(tables.mem, tables.h, state, register, stack, byte)
                if code == OK:
                    state, register, spelled = int(s), int(reg), spelled + bytes([byte])
                    break
            else:
                raise AssertionError("an escape that cannot be finished")
        return state, register, spelled

    # ---------------------------------------------------------------- bounds

    def farthest(self, machine: Machine, *, string: bool) -> int:
        """The most bytes that the plan of any state of the machine takes, an open escape and the quote included."""
        found = self._farthest.get(id(machine))
        if found is None:
            if string and (machine.least or machine.most is not None):
                needed = self._needed_by(machine)
                found = 4 * int(needed[needed < _FAR].max(initial=0)) + _ESCAPE
            else:
                distance = self._route(machine, string=string).distance
                found = int(distance[distance < _FAR].max(initial=0)) + _ESCAPE * string
            self._farthest[id(machine)] = found
        return found

    def longest_word(self, words: WordList) -> int:
        """The most bytes that finish a word of a list which was begun, an open escape and the quote included."""
        return max(len(json.dumps(word, ensure_ascii=False).encode()) for word in words.words) + _ESCAPE

    def key_bounds(self, frame: ObjectFrame) -> dict[int, int]:
        """For each class of keys that may come: the most bytes that finish one that was begun."""
        shape = frame.shape
        spelled = self._spelled_names(shape)
        allowed = numbers_of(frame.allowed)
        most = max((len(spelled[n]) for n in allowed if n < len(spelled)), default=0)
        if frame.allowed & shape.rest:
            route = self._route(shape.machine, string=True)
            far = route.distances(np.isin(shape.machine.labels, [n for n in allowed if n >= len(spelled)]))
            most = max(most, int(far[far < _FAR].max(initial=0)) + _ESCAPE)
        return dict.fromkeys(allowed, most + _ESCAPE)

    def simple_bound(self, frame: ObjectFrame) -> tuple[int, int] | None:
        """Where one more member never makes the rest longer: the label, and the most bytes from a colon to the end."""
        ways = frame.ways
        if len(ways) != 1 or frame.tracked or not ways[0].is_plain:
            return None
        way = ways[0]
        sizes = self._value_sizes.setdefault((id(frame.shape), frozenset(way.properties)), {})
        allowed = numbers_of(frame.allowed)
        for number in allowed:
            if number not in sizes:
                sizes[number] = len(self._value(way.child(number), ())[1])
        label, rest = self._object_rest(frame, first=False)
        return label, len(self._colon) + max((sizes[n] for n in allowed), default=0) + len(rest)

    def _spelled_names(self, shape: Shape) -> list[bytes]:
        found = self._names.get(id(shape))
        if found is None:
            found = self._names[id(shape)] = [json.dumps(n, ensure_ascii=False).encode() for n in shape.names]
        return found

    # ---------------------------------------------------------------- values

    def value(self, goal: Formula, tracked: tuple[Formula, ...]) -> Finished:
        """A short text that satisfies the goal, and its verdict on the tracked formulas as a label."""
        return self._value(goal, tracked)

    def _value(self, goal: Formula, tracked: tuple[Formula, ...]) -> Finished:
        found = self._try_value(goal, tracked)
        assert found is not None, "a satisfiable goal has a value"
        return found

    def _try_value(self, goal: Formula, tracked: tuple[Formula, ...]) -> Finished | None:
        key = (goal.number, tuple(f.number for f in tracked))
        found = self._values.get(key)
        if found is not None:
            return found
        if key in self._open:
            self._tainted = True
            return None
        best = self._scalar(goal, tracked)
        if best is None:
            self._open.add(key)
            try:
                best = self._composite(goal, tracked)
            finally:
                self._open.discard(key)
        if best is not None:
            self._values[key] = best
        return best

    def _scalar(self, goal: Formula, tracked: tuple[Formula, ...]) -> Finished | None:
        automaton, pool = self._automaton, self._automaton.pool
        found: list[Finished] = []
        for kind, word in ((NULL, b"null"), (TRUE_VALUE, b"true"), (FALSE_VALUE, b"false")):
            if restrict(pool, goal, kind) is TRUE:
                found.append((automaton.labels.number(tuple(restrict(pool, f, kind) is TRUE for f in tracked)), word))
        for kind in (NUMBER, STRING):
            asked = restrict(pool, goal, kind)
            if asked is FALSE or not automaton.satisfiable.of_type(goal, kind):
                continue
            told = tuple(restrict(pool, f, kind) for f in tracked)
            if kind == NUMBER:
                found.append(self._route(automaton.number_of(asked, told), string=False).from_state(0))
            else:
                label, text = automaton.least_string(asked, told)
                found.append((label, b'"' + text + b'"'))
        return min(found, key=lambda f: price(automaton.vocabulary.lacking_bytes, f[1]), default=None)

    def least_word(self, machine: Machine) -> Finished:
        """The label and the bytes of a short word of a string machine."""
        route = self._route(machine, string=True)
        if machine.least or machine.most is not None:
            return route.counted(0, 0, self._needed_by(machine))
        return route.from_state(0)

    def _composite(self, goal: Formula, tracked: tuple[Formula, ...]) -> Finished | None:
        automaton, pool = self._automaton, self._automaton.pool
        found: list[Finished] = []
        judge = automaton.satisfiable
        for kind in (OBJECT, ARRAY):
            asked = restrict(pool, goal, kind)
            if asked is FALSE or not judge.of_type(goal, kind):
                continue
            told = tuple(restrict(pool, f, kind) for f in tracked)
            if kind == OBJECT:
                rest = self._try_object(judge.objects.start(asked, told))
                if rest is not None:
                    found.append((rest[0], b"{" + self._joined(rest[1]) + b"}"))
            else:
                items = self._try_array(judge.arrays.frame(asked, told))
                if items is not None:
                    found.append((items[0], b"[" + self._comma.join(items[1]) + b"]"))
        return min(found, key=lambda f: price(automaton.vocabulary.lacking_bytes, f[1]), default=None)

    def _route(self, machine: Machine, *, string: bool) -> Route:
        found = self._routes.get(id(machine))
        if found is None:
            found = self._routes[id(machine)] = Route(machine, self._alphabets[string])
        return found

    def _needed_by(self, machine: Machine) -> npt.NDArray[np.int32]:
        found = self._needed.get(id(machine))
        if found is None:
            found = self._needed[id(machine)] = characters_needed(machine)
        return found

    # ---------------------------------------------------------------- objects

    def _joined(self, members: Members) -> bytes:
        return self._comma.join(key + self._colon + value for key, value in members)

    def _object_rest(self, frame: ObjectFrame, *, first: bool, taken: frozenset[bytes] = frozenset()) -> Finished:
        label, members = self._object(frame, taken)
        separator = b"" if first or not members else self._comma
        return label, separator + self._joined(members) + b"}"

    def _object(self, frame: ObjectFrame, taken: frozenset[bytes] = frozenset()) -> tuple[int, Members]:
        found = self._try_object(frame, taken)
        assert found is not None, "a feasible object can be finished"
        return found

    def _try_object(self, frame: ObjectFrame, taken: frozenset[bytes] = frozenset()) -> tuple[int, Members] | None:
        """Members that finish the object; their keys, decoded, are none of those taken."""
        ident = (frame.number, taken)
        known = self._members.get(ident)
        if known is not None:
            return known
        members: Members = []
        current = frame
        while (verdict := current.verdict()) is None:
            known = self._members.get((current.number, frozenset()))
            if known is not None and taken.isdisjoint(_unescaped(key) for key, _ in known[1]):
                # The rest was planned before: a long object must not be planned anew at each of its members.
                return known[0], members + known[1]
            named = self._named_rest(current)
            if named is not None:
                verdict = ()
                members += named
                break
            step = self._cheapest_step(current, taken)
            if step is None:
                return None
            key, value, current = step
            members.append((key, value))
            taken |= {_unescaped(key)}
        result = (self._automaton.labels.number(verdict), members)
        if not self._open:
            self._members[ident] = result
        return result

    def _named_rest(self, frame: ObjectFrame) -> Members | None:
        """The members still needed where they are all that is asked, and nothing is judged or told apart on the way.

        A thousand required names are then looked up, not stepped through.
        """
        way = frame.only_way
        if way is None or not way.is_plain or frame.tracked:
            return None
        found: Members = []
        for number in numbers_of(way.needed):
            value = self._try_value(way.child(number), ())
            if value is None:
                return None
            found.append((self._key(frame.shape, number, frozenset()), value[1]))
        return found

    def _cheapest_step(self, frame: ObjectFrame, taken: frozenset[bytes]) -> tuple[bytes, bytes, ObjectFrame] | None:
        """The first member of the cheapest way to finish."""
        ways = frame.plain_ways
        if ways and min(way.least for way in ways) > MAX_MEMBERS:
            raise GrammarTooLarge(f"an object that needs more than {MAX_MEMBERS} members", keyword="minProperties")
        best: tuple[int, Way] | None = None
        for way in ways:
            cost = 0 if len(ways) == 1 else self._way_cost(frame, way)
            if cost is not None and (best is None or cost < best[0]):
                best = (cost, way)
        return None if best is None else self._step(frame, best[1], taken)

    def _way_cost(self, frame: ObjectFrame, way: Way) -> int | None:
        cost = 0
        for number in numbers_of(way.needed):
            value = self._try_value(way.child(number), ())
            if value is None:
                return None
            cost += len(frame.shape.names[number]) + len(value[1]) + 6
        return cost + 12 * (len(way.broken) + len(way.misnamed) + max(way.least - way.needed.bit_count(), 0))

    def _step(self, frame: ObjectFrame, way: Way, taken: frozenset[bytes]) -> tuple[bytes, bytes, ObjectFrame] | None:
        shape = frame.shape
        pool = self._automaton.pool
        if way.needed and not (shape.ordered and self._must_precede(frame, way)):
            number = lowest(way.needed)
            return self._take(frame, number, way.child(number), taken)
        usable = way.good & frame.open & frame.allowed
        judge = self._automaton.satisfiable
        for atom in way.broken:
            for number in numbers_of(way.witnesses(atom, usable, judge)):
                asked = pool.all_of([way.child(number), pool.negate(shape.child(atom, number))])
                taken_step = self._take(frame, number, asked, taken)
                if taken_step is not None:
                    return taken_step
        for rule in way.misnamed:
            usable &= way.misnaming(rule, usable)
        options = [self._take(frame, number, way.child(number), taken) for number in numbers_of(usable)]
        return min((o for o in options if o is not None), key=lambda o: len(o[0]) + len(o[1]), default=None)

    def _must_precede(self, frame: ObjectFrame, way: Way) -> bool:
        """In schema order: whether something else has to come before the next needed member."""
        first = lowest(way.needed)
        after = way.shape.after(frame.open, first)
        return bool(way.broken or way.misnamed or way.least) and frame.member(first) is None and after >= 0

    def _take(
        self, frame: ObjectFrame, number: int, asked: Formula, taken: frozenset[bytes]
    ) -> tuple[bytes, bytes, ObjectFrame] | None:
        member = frame.member(number)
        if member is None:
            return None
        goal = self._automaton.pool.all_of([member.goal, asked])
        if not self._automaton.satisfiable(goal):
            goal = member.goal
        value = self._try_value(goal, member.tracked)
        if value is None:
            return None
        return self._key(frame.shape, number, taken), value[1], self._landed(member, value[0])

    def _landed(self, member: Member, label: int) -> ObjectFrame:
        verdict = self._automaton.labels.verdict(label)
        return member.next.settled([a for a, held in zip(member.judged, verdict, strict=True) if not held])

    def _key(self, shape: Shape, number: int, taken: frozenset[bytes]) -> bytes:
        if number < len(shape.names):
            return self._spelled_names(shape)[number]
        known, further = self._words.setdefault(
            (id(shape.machine), number), ([], self._route(shape.machine, string=True).words(0, number))
        )
        for spelled, key in known:
            if key not in taken:
                return spelled
        for word in further:
            spelled = b'"' + word + b'"'
            known.append((spelled, _unescaped(spelled)))
            if known[-1][1] not in taken:
                return spelled
        raise AssertionError("an open class of keys has words without end")

    def unused_key(self, shape: Shape, number: int, taken: frozenset[bytes]) -> bytes:
        """The shortest key of a class that is none of those taken, decoded."""
        return _unescaped(self._key(shape, number, taken))

    def _from_value(self, frame: ObjectFrame, number: int, taken: frozenset[bytes]) -> Finished:
        member = frame.member(number)
        assert member is not None
        child_label, text = self._value(member.goal, member.tracked)
        label, rest = self._object_rest(self._landed(member, child_label), first=False, taken=taken)
        return label, text + rest

    def _next_members(self, frame: ObjectFrame, taken: frozenset[bytes]) -> tuple[int, Members]:
        """At least one member, then whatever closes the object: what must follow a comma."""
        label, members = self._object(frame, taken)
        if members:
            return label, members
        best: tuple[int, Members] | None = None
        for number in numbers_of(frame.allowed):
            step = self._take(frame, number, TRUE, taken)
            if step is None:
                continue
            label, rest = self._object(step[2], taken | {_unescaped(step[0])})
            candidate = (label, [(step[0], step[1]), *rest])
            if best is None or len(self._joined(candidate[1])) < len(self._joined(best[1])):
                best = candidate
        assert best is not None, "a comma is legal only where a member can follow"
        return best

    def _finish_key(self, state: int, register: int, stack: int) -> Finished:
        """Finish the key that is open: the planned one where it fits, else the nearest that is allowed and unused."""
        automaton, tables = self._automaton, self._automaton.tables
        prefix = b""
        if register & 31:
            state, register, prefix = self._finish_escape(state, register, stack)
        base = automaton.key_of(state)[1]
        machine = automaton.machine_at(state)
        level = [(state, register, b"")]
        route = self._route(machine, string=True)
        for _ in range(512):
            following = []
            for s, reg, word in level:
                code, *_rest = step(tables.mem, tables.h, s, reg, stack, 0x22)
                if code not in (STUCK,):
                    label = int(machine.labels[s - base])
                    return label, prefix + word + b'"'
                for letter in route.letters(s - base):
                    at, q, r = 0, s, reg
                    while at < len(letter):
                        code, q, r, _ = step(tables.mem, tables.h, q, r, stack, letter[at])
                        if code != OK:
                            break
                        at += 1
                    if at == len(letter):
                        following.append((int(q), int(r), word + letter))
            level = list({(s, r): (s, r, w) for s, r, w in reversed(following)}.values())[::-1][:256]
        raise AssertionError("a live key can be finished")

    # ---------------------------------------------------------------- arrays

    def _array_rest(self, frame: ArrayFrame, *, first: bool) -> Finished:
        label, items = self._array(frame)
        separator = b"" if first or not items else self._comma
        return label, separator + self._comma.join(items) + b"]"

    def _array(self, frame: ArrayFrame) -> tuple[int, list[bytes]]:
        found = self._try_array(frame)
        assert found is not None, "a feasible array can be finished"
        return found

    def _try_array(self, frame: ArrayFrame) -> tuple[int, list[bytes]] | None:
        known = self._items.get(frame.number)
        if known is not None:
            return known
        items: list[bytes] = []
        current = frame
        goals = self._automaton.satisfiable.arrays.shortest(frame.formula)
        while (verdict := current.verdict()) is None or goals:
            # Past the goals, only constants that the array must differ from keep it open.
            step = self._item(current, goals.pop(0) if goals else TRUE)
            if step is None:
                return None
            current = step[1]
            items.append(step[0])
        result = (self._automaton.labels.number(verdict), items)
        if not self._open:
            self._items[frame.number] = result
        return result

    def _item(self, frame: ArrayFrame, goal: Formula) -> tuple[bytes, ArrayFrame] | None:
        item = frame.item
        assert item is not None
        asked = self._automaton.pool.all_of([item.goal, goal])
        value = self._try_value(asked, item.tracked) or self._try_value(item.goal, item.tracked)
        if value is None:
            return None
        seen = constant_in(value[1]) if frame.is_recorded else None
        return value[1], frame.after(item.judged, self._automaton.labels.verdict(value[0]), seen)

    def _next_items(self, frame: ArrayFrame) -> tuple[int, list[bytes]]:
        label, items = self._array(frame)
        if items:
            return label, items
        step = self._item(frame, TRUE)
        assert step is not None
        label, rest = self._array(step[1])
        return label, [step[0], *rest]


def _unescaped(key: bytes) -> bytes:
    """The text of a key as it is remembered."""
    return str(json.loads(key)).encode()
