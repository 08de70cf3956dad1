"""What the members of an object may be: key classes, and for each way to satisfy a formula, which keys can come next.

A *class* is one named key, or one set of patterns that further keys match. A `Shape` fixes the classes of one object
formula; what has been seen, and in schema order how far we are, is a bit set of the classes still `open`. Everything
asked per frame is then a few operations on Python integers.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final, TypeVar

import numpy as np

from grammar.errors import GrammarError, GrammarTooLarge, UnsupportedConstraint
from grammar.formula import FALSE, TRUE, Conjunct, Formula, Formulas, atoms, evaluate
from grammar.frames.clauses import choices, clauses_of
from grammar.frames.languages import (
    MAX_UNROLLED,
    Machine,
    any_string,
    combine,
    decided_strings,
    endless_labels,
    few_words,
    holds,
    overlay,
    product,
    string_language,
    within_length,
)
from grammar.kernels import fixed
from grammar.lexical import Dfa
from grammar.lexical.graphs import reached
from grammar.schema.atoms import (
    STRING,
    Constant,
    Length,
    MemberAmong,
    OneOfObjects,
    Pattern,
    Properties,
    PropertyCount,
    PropertyNames,
    Required,
    restrict,
)
from grammar.schema.constants import equal_to

T = TypeVar("T")
Members = frozenset[tuple[str, Constant]]
_NONE: Final[frozenset[Any]] = frozenset()
MAX_WITNESSES: Final = 16
MAX_SEARCH: Final = 4096
"""Steps in the search for members that break all negated object schemas together."""
MAX_REACH: Final = 1 << 24
"""Words of the table that tells of each state of the key automaton which classes it can still reach."""
MAX_FEW_KEYS: Final = 64
"""A rule about keys that no more keys than this satisfy is a list of them: each comes once, and they run out."""


@dataclass(frozen=True, slots=True)
class KeyClass:
    """Keys that every atom of the shape treats alike; `name` is None for an open class."""

    name: str | None
    matches: frozenset[str]
    """The patterns that such keys match."""
    passes: frozenset[PropertyNames]
    """The propertyNames atoms that such keys satisfy."""


class Shape:
    """The key classes of one object formula, named keys first (in order of appearance), and their automaton."""

    def __init__(self, pool: Formulas, formulas: Iterable[Formula], *, ordered: bool, strict: bool) -> None:
        self.pool = pool
        self.strict = strict
        found = dict.fromkeys(a for f in formulas for a in atoms(f))
        self.ordered = ordered and not any(isinstance(a, Properties) and a.constant for a in found)
        self._properties = [a for a in found if isinstance(a, Properties)]
        self._key_rules = [a for a in found if isinstance(a, PropertyNames)]
        self._patterns = list(dict.fromkeys(p for a in self._properties for p, _ in a.patterned))
        names = dict.fromkeys(n for a in self._properties for n in a.named)
        required = dict.fromkeys(n for a in found if isinstance(a, Required) for n in sorted(a.names))
        names.update(required)
        self.sequenced = sum(is_text(n) for n in names)
        """So many of the names, the first ones, have a place in schema order; the others may come in any order."""
        remembered = {key for a in found if isinstance(a, OneOfObjects) for value in a.values for key, _ in value}
        names.update(dict.fromkeys(sorted(remembered)))
        kinds, self._plain = self._open_keys()
        if not self.is_simple:
            endless = endless_labels(self._plain)
            few = (label for label in range(len(kinds)) if label not in endless)
            each = (few_words(self._plain, label, MAX_FEW_KEYS) or () for label in few)
            names.update(dict.fromkeys(word for words in each for word in words))
        self.names = [n for n in names if is_text(n)]
        self.number = {n: i for i, n in enumerate(self.names)}
        self.classes: list[KeyClass] = [*(self._classify(n) for n in self.names), *kinds]
        self.named = (1 << len(self.names)) - 1
        # A class whose keys all have names of their own is never reached; if there is only one class, it is.
        open_classes = {len(self.names)} if self.is_simple else _reached_labels(self.machine)
        self.rest = sum(1 << n for n in open_classes if n >= len(self.names))
        if sum(map(len, self.names)) * self.words > MAX_REACH:
            _ = self.machine  # which may be too large, and should then be so before any member is looked at
        self.everything = self.named | self.rest
        self._children: dict[tuple[Properties, int], Formula] = {}
        self.judged: dict[frozenset[Any], list[int]] = {}
        """For sets of atoms, the classes under which some value is known to satisfy them all, and those under which
        none does: filled by `Way`, class by class, so that a frame asks only about what is new to it."""
        self.breaking: dict[tuple[frozenset[Any], Properties], list[int]] = {}
        """For a set of atoms to keep and one to break, the classes whose value is known to do both, and those whose
        value cannot: filled likewise."""

    @property
    def words(self) -> int:
        """How many 32-bit words a set of classes takes."""
        return max(1, -(-len(self.classes) // 32))

    @cached_property
    def machine(self) -> Machine:
        """Keys → class numbers: the names, beside them the open kinds. Made late: most shapes are only asked about."""
        labels = np.where(self._plain.labels >= 0, self._plain.labels + len(self.names), -1).astype(np.int32)
        rest = Machine(self._plain.classes, self._plain.table, labels)
        found = overlay(rest, {name.encode(): i for i, name in enumerate(self.names)})
        if len(found.labels) * self.words > MAX_REACH:
            raise GrammarTooLarge(f"an object of {len(self.names)} names, {len(found.labels)} characters in all")
        return found

    @property
    def is_simple(self) -> bool:
        """Whether all keys that are not named are alike."""
        return not self._patterns and not self._key_rules

    def _classify(self, name: str) -> KeyClass:
        if self.is_simple:
            return KeyClass(name, _NONE, _NONE)
        matches = frozenset(p for p in self._patterns if holds(Pattern(p, ""), name))
        passes = frozenset(a for a in self._key_rules if _key_passes(self.pool, a, name))
        return KeyClass(name, matches, passes)

    def _open_keys(self) -> tuple[list[KeyClass], Machine]:
        """The kinds of keys as if none had a name, and the automaton that tells them apart, labelled by kind."""
        if self.is_simple:
            return [KeyClass(None, _NONE, _NONE)], _any_key()
        rules = [restrict(self.pool, a.names.formula(), STRING) for a in self._key_rules]
        universe = decided_strings([TRUE, *rules])
        if any(isinstance(a, Length) and max(a.least, a.most or 0) > MAX_UNROLLED for f in rules for a in atoms(f)):
            # Keys are not counted: longer ones are left out, and so every longer bound is decided.
            universe = universe.intersect(string_language(Length(0, MAX_UNROLLED)))
            rules = [within_length(self.pool, f, 0, MAX_UNROLLED) for f in rules]
        parts: list[Dfa] = [
            universe,
            *(string_language(Pattern(p, "")) for p in self._patterns),
            *(combine(self.pool, f, string_language, universe) for f in rules),
        ]
        numbers: dict[tuple[bool, ...], int] = {}

        def verdict(accepts: tuple[bool, ...]) -> int:
            # No text ends inside a character, and no key does.
            return numbers.setdefault(accepts, len(numbers)) if accepts[0] else -1

        machine = product(parts, verdict)
        return [self._kind(accepts) for accepts in numbers], machine

    def _kind(self, accepts: tuple[bool, ...]) -> KeyClass:
        split = 1 + len(self._patterns)
        matches = frozenset(p for p, yes in zip(self._patterns, accepts[1:split], strict=True) if yes)
        passes = frozenset(a for a, yes in zip(self._key_rules, accepts[split:], strict=True) if yes)
        return KeyClass(None, matches, passes)

    def child(self, atom: Properties, number: int) -> Formula:
        """What `atom` asks of the value under a key of this class."""
        key = (atom, number)
        found = self._children.get(key)
        if found is None:
            cls = self.classes[number]
            children = atom.asked_of(cls.name, cls.matches)
            found = children[0].formula() if len(children) == 1 else self.pool.all_of(c.formula() for c in children)
            self._children[key] = found
        return found

    def bits(self, names: Iterable[str]) -> int:
        """The bit set of named keys."""
        found = 0
        for name in names:
            number = self.number.get(name)
            if number is None:
                return -1
            found |= 1 << number
        return found

    def after(self, open_classes: int, number: int) -> int:
        """The classes still open once a key of class `number` came."""
        left = open_classes & ~(1 << number) if number < len(self.names) else open_classes
        if self.ordered:
            return left & ~((1 << min(number + 1, self.sequenced)) - 1)
        return left

    def key_atoms(self, positive: frozenset[Any]) -> frozenset[Any]:
        """The atoms among these that judge single members."""
        return frozenset(a for a in positive if isinstance(a, (Properties, PropertyNames)))


@lru_cache(maxsize=1)
def _any_key() -> Machine:
    free = any_string()
    return Machine(free.classes, free.table, np.where(free.accepting, 0, -1).astype(np.int32))


def _key_passes(pool: Formulas, atom: PropertyNames, name: str) -> bool:
    return evaluate(restrict(pool, atom.names.formula(), STRING), lambda a: holds(a, name))


def is_text(name: str) -> bool:
    """Whether a name can be written in UTF-8: a lone surrogate cannot."""
    return name.isascii() or not any(0xD800 <= ord(c) < 0xE000 for c in name)


def _reached_labels(machine: Machine) -> set[int]:
    """The labels of states that some word leads to: a trie laid over an automaton leaves others behind."""
    return {int(label) for label in np.unique(machine.labels[reached(fixed(machine.table))]) if label >= 0}


class Way:
    """One conjunct of an object formula, in the numbers of its shape."""

    __slots__ = (
        "_children", "_chosen", "_feasible", "_judge", "_judged", "_left", "_settled", "absent_sets", "among", "broken",
        "clauses", "least", "misnamed", "most", "needed", "pending", "possible", "properties", "rules", "same", "shape",
        "unlike",
    )  # fmt: skip

    def __init__(self, shape: Shape, conjunct: Conjunct, satisfiable: "Judge") -> None:
        self.shape = shape
        self.possible = True
        self.needed = 0
        self.least = 0
        self.most: int | None = None
        self.absent_sets: list[int] = []
        self.broken: list[Properties] = [a for a in conjunct.negative if isinstance(a, Properties)]
        self.misnamed: list[PropertyNames] = [a for a in conjunct.negative if isinstance(a, PropertyNames)]
        self.properties: list[Properties] = [a for a in conjunct.positive if isinstance(a, Properties)]
        self.pending: tuple[MemberAmong, ...] = tuple(a for a in conjunct.negative if isinstance(a, MemberAmong))
        """Constants from which this object still has to differ: by the member just begun, or by what follows."""
        self.unlike: frozenset[Members] = frozenset(
            value for a in conjunct.negative if isinstance(a, OneOfObjects) for value in a.values
        )
        """What the members still to come must not be, all together."""
        self.among: tuple[MemberAmong, ...] = tuple(a for a in conjunct.positive if isinstance(a, MemberAmong))
        self.same = _common(a.values for a in conjunct.positive if isinstance(a, OneOfObjects))
        """One of these is what the members still to come must be, all together; None: no matter."""
        for atom in conjunct.positive:
            if isinstance(atom, Required):
                bits = shape.bits(atom.names)
                if bits < 0:
                    self.possible = False
                self.needed |= max(bits, 0)
            elif isinstance(atom, PropertyCount):
                self.least = max(self.least, atom.least)
                self.most = (
                    atom.most if self.most is None else self.most if atom.most is None else min(self.most, atom.most)
                )
        for atom in conjunct.negative:
            if isinstance(atom, Required):
                bits = shape.bits(atom.names)
                if bits >= 0:
                    self.absent_sets.append(bits)
        self.clauses = clauses_of(conjunct.clauses, shape.bits)
        self.rules = [a for a in conjunct.positive if isinstance(a, PropertyNames)]
        self._judge = satisfiable
        self._judged = shape.judged.setdefault(frozenset([*self.properties, *self.rules]), [0, 0])
        self._children: dict[int, Formula] = {}
        self._feasible: dict[int, bool] = {}
        self._left: dict[tuple[tuple[Any, ...], tuple[Any, ...]], Way] = {}
        self._chosen: dict[tuple[tuple[int, ...], tuple[Properties, ...]], Way] = {}
        self._settled: dict[int, Way] = {}

    @property
    def good(self) -> int:
        """The classes under which some value satisfies what this way asks."""
        return self.good_among(self.shape.everything)

    @property
    def is_plain(self) -> bool:
        """Whether it asks only for needed members and for what each member's value is, up to some number of them."""
        return not (self.broken or self.misnamed or self.absent_sets or self.least or self.clauses)

    def good_among(self, bits: int) -> int:
        """As `good`, of these classes: none is asked about that need not be."""
        judged = self._judged
        for number in _numbers(bits & ~(judged[0] | judged[1])):
            cls, doubts = self.shape.classes[number], self._judge.doubts
            if all(a in cls.passes for a in self.rules) and self._judge(self.child(number)):
                judged[0] |= 1 << number
            elif self._judge.doubts == doubts:
                judged[1] |= 1 << number
        return bits & judged[0]

    def leaving(self, broken: list[Properties], pending: Iterable[MemberAmong]) -> "Way":
        """This way once a member was taken, with only these atoms left to break and these constants to differ from."""
        key = (tuple(broken), tuple(pending))
        if not self.pending and not self.among and len(broken) == len(self.broken):
            return self  # Nothing was broken, and nothing is compared.
        known = self._left.get(key)
        if known is None:
            known = self._left[key] = self._leaving(broken, key[1])
        return known

    def choosing(self, absent: tuple[int, ...], broken: tuple[Properties, ...]) -> "Way":
        """This way with its clauses satisfied so; by nothing: as if it had none."""
        key = (absent, broken)
        known = self._chosen.get(key)
        if known is None:
            known = self._chosen[key] = self._copy()
            known.clauses = ()
            known.absent_sets = [*self.absent_sets, *absent]
            known.broken = [*self.broken, *(atom for atom in broken if atom not in self.broken)]
        return known

    def settled(self, open_classes: int, satisfiable: "Judge") -> "Way | None":
        """This way with its clauses satisfied in one way that can be finished; None if there is none."""
        if not self.clauses:
            return self
        known = self._settled.get(open_classes)
        if known is None:
            if not self.choosing((), ()).feasible(open_classes, satisfiable):
                return None
            ways = (self.choosing(*each) for each in choices(self.clauses, self.needed, open_classes))
            known = next((way for way in ways if way.feasible(open_classes, satisfiable)), None)
            if known is not None:
                self._settled[open_classes] = known
        return known

    def _copy(self) -> "Way":
        copy = object.__new__(Way)
        for name in Way.__slots__:
            setattr(copy, name, getattr(self, name))
        copy._feasible, copy._left, copy._chosen, copy._settled = {}, {}, {}, {}
        return copy

    def _leaving(self, broken: list[Properties], pending: Iterable[MemberAmong]) -> "Way":
        lighter = self._copy()
        lighter.broken = broken
        lighter.pending = lighter.among = ()
        lighter.same = _common([*(atom.then for atom in self.among), *([] if self.same is None else [self.same])])
        lighter.unlike = self.unlike.union(*(atom.then for atom in pending))
        return lighter

    def child(self, number: int) -> Formula:
        """What this way asks of a value under class `number`, negations aside."""
        found = self._children.get(number)
        if found is None:
            asked = [self.shape.child(a, number) for a in self.properties]
            found = asked[0] if len(asked) == 1 else self.shape.pool.all_of(asked)
            self._children[number] = found
        return found

    def feasible(self, open_classes: int, satisfiable: "Judge") -> bool:
        """Whether an object that stands here can still be finished this way."""
        found = self._feasible.get(open_classes)
        if found is None:
            doubts = satisfiable.doubts
            if self.clauses:
                found = self.settled(open_classes, satisfiable) is not None
            else:
                found = self._is_feasible(open_classes, satisfiable)
            if found or satisfiable.doubts == doubts:
                self._feasible[open_classes] = found
        return found

    def _is_feasible(self, open_classes: int, satisfiable: "Judge") -> bool:
        satisfiable.spend()
        if not self.possible:
            return False
        if self.needed & ~open_classes or any(not bits & ~self.needed for bits in self.absent_sets):
            return False
        count = self.needed.bit_count()
        if self.most is not None and count > self.most:
            return False
        # Optional members are judged only where they matter: a recursive schema must not ask itself in vain.
        if self.good_among(self.needed) != self.needed:
            return False
        if self.least > count:
            usable = self.good & open_classes
            if not usable & self.shape.rest and self._free_names(usable) < self.least:
                return False
        if self.same is not None:
            return any(self._fits(value, open_classes, satisfiable) for value in self.same - self.unlike)
        if self.unlike and not self._can_differ(open_classes, satisfiable):
            return False
        if not self.broken and not self.misnamed:
            return True
        return self._witnessed(self.good & open_classes, count, satisfiable)

    def _fits(self, value: Members, open_classes: int, satisfiable: "Judge") -> bool:
        """Whether exactly these members can come, and then satisfy all that this way asks."""
        taken = {self.shape.number.get(key, -1): equal_to(self.shape.pool, [constant]) for key, constant in value}
        bits = sum(1 << number for number in taken if number >= 0)
        if -1 in taken or bits & ~open_classes or self.needed & ~bits or len(taken) < self.least:
            return False
        if (self.most is not None and len(taken) > self.most) or any(not absent & ~bits for absent in self.absent_sets):
            return False
        named = [self.shape.classes[number] for number in taken]
        if any(rule not in each.passes for rule in self.rules for each in named):
            return False
        if any(all(rule in each.passes for each in named) for rule in self.misnamed):
            return False
        pool = self.shape.pool
        if not all(satisfiable(pool.all_of([equal, self.child(number)])) for number, equal in taken.items()):
            return False
        return all(
            any(satisfiable(pool.all_of([e, pool.negate(self.shape.child(atom, n))])) for n, e in taken.items())
            for atom in self.broken
        )

    def is_compared(self, open_classes: int) -> bool:
        """Whether constants bear on which keys may come."""
        return self.same is not None or not self.differs_anyway(open_classes)

    def differs_anyway(self, open_classes: int) -> bool:
        """Whether a key that no constant has can always be added."""
        return not self.unlike or (self.most is None and bool(self.good & open_classes & self.shape.rest))

    def _can_differ(self, open_classes: int, satisfiable: "Judge") -> bool:
        """Whether what is still to come can differ from each of the `unlike` objects."""
        if self.differs_anyway(open_classes):
            return True
        return Difference(self, self.good & open_classes, satisfiable).possible

    def _free_names(self, usable: int) -> int:
        free = usable & self.shape.named
        lost = 0
        for bits in self.absent_sets:
            if not bits & ~(free | self.needed):
                lost += 1
        return free.bit_count() - lost

    def witnesses(self, atom: Properties, usable: int, satisfiable: "Judge") -> int:
        """The classes whose value can break `atom` while it satisfies the rest."""
        return sum(1 << number for number in self._breaking(atom, usable, satisfiable))

    def _breaking(self, atom: Properties, usable: int, satisfiable: "Judge") -> Iterator[int]:
        """As `witnesses`, one by one: what is known first, then keys without a name, of which another can come."""
        known = self.shape.breaking.setdefault((frozenset(self.properties), atom), [0, 0])
        yield from _numbers(usable & known[0])
        pool, asked = self.shape.pool, usable & ~(known[0] | known[1])
        for number in (*_numbers(asked & self.shape.rest), *_numbers(asked & self.shape.named)):
            broken, doubts = pool.negate(self.shape.child(atom, number)), satisfiable.doubts
            if broken is not FALSE and satisfiable(pool.all_of([self.child(number), broken])):
                known[0] |= 1 << number
                yield number
            elif satisfiable.doubts == doubts:
                known[1] |= 1 << number

    def _freely_witnessed(self, usable: int, satisfiable: "Judge") -> bool:
        """Whether each negated atom is broken by a member of its own, where any members may come."""
        if self.most is not None or self.absent_sets or self.misnamed:
            return False
        taken = 0
        for atom in self.broken:
            free = (n for n in self._breaking(atom, usable & ~taken, satisfiable))
            number = next(free, None)
            if number is None:
                return False
            taken |= 1 << number & self.shape.named
        return True

    def misnaming(self, atom: PropertyNames, usable: int) -> int:
        """The classes whose keys break a propertyNames atom."""
        return sum(1 << n for n in _numbers(usable) if atom not in self.shape.classes[n].passes)

    def _witnessed(self, usable: int, count: int, satisfiable: "Judge") -> bool:
        """Each negated atom has some member to break it, within the count that is left."""
        if len(self.broken) + len(self.misnamed) > MAX_WITNESSES:
            raise GrammarTooLarge(f"more than {MAX_WITNESSES} negated object schemas at once")
        if self._freely_witnessed(usable, satisfiable):
            return True
        choices: list[tuple[int, Properties | None]] = [
            *((self.witnesses(a, usable, satisfiable), a) for a in self.broken),
            *((self.misnaming(a, usable), None) for a in self.misnamed),
        ]
        if not all(bits for bits, _ in choices):
            return False
        if self.most is None:
            # Of a key that has no name another can always come, just to break this atom.
            choices = [(bits, atom) for bits, atom in choices if not bits & self.shape.rest]
        return self._assign(sorted(choices, key=lambda c: c[0].bit_count()), count, satisfiable)

    def _assign(self, choices: list[tuple[int, Properties | None]], count: int, satisfiable: "Judge") -> bool:
        """Search for members that break all negated atoms together; members may break several at once."""
        pool, shape = self.shape.pool, self.shape
        steps = iter(range(MAX_SEARCH))

        def has_room(taken: int, extra: int) -> bool:
            few = self.most is None or count + extra <= self.most
            return few and all(absent & ~taken for absent in self.absent_sets)

        def search(at: int, chosen: dict[int, Formula], taken: int, extra: int) -> bool:
            if at == len(choices):
                return True
            if next(steps, None) is None:
                raise GrammarTooLarge(f"{len(choices)} negated object schemas, which take too long to break together")
            bits, atom = choices[at]
            for number in _numbers(bits):
                bit = 1 << number
                new = number not in chosen and not bit & self.needed
                if new and not has_room(taken | bit, extra + 1):
                    continue
                asked = chosen.get(number, self.child(number))
                if atom is not None:
                    asked = pool.all_of([asked, pool.negate(shape.child(atom, number))])
                if satisfiable(asked) and search(at + 1, {**chosen, number: asked}, taken | bit, extra + new):
                    return True
            return False

        return search(0, {}, self.needed, 0)


def _common(sets: Iterable[frozenset[Members]]) -> frozenset[Members] | None:
    """What all the sets have; None if there is no set."""
    found: frozenset[Members] | None = None
    for each in sets:
        found = each if found is None else found & each
    return found


class Difference:
    """Whether an object can be finished in one way so that it equals none of some constants.

    Key by key, only along the constants that are still equal: at most as many steps as they have members in all.
    """

    def __init__(self, way: Way, usable: int, satisfiable: "Judge") -> None:
        self._way = way
        self._shape = way.shape
        self._satisfiable = satisfiable
        self._numbers = _numbers((usable | way.needed) & way.shape.named)
        self._spare = bool(usable & way.shape.rest)

    @property
    def possible(self) -> bool:
        """The answer."""
        constants = [dict(value) for value in self._way.unlike]
        return self._from(0, constants, 0)

    def _from(self, at: int, constants: list[dict[str, Constant]], taken: int) -> bool:
        """From the at-th key on, having taken some, against the constants that agree so far."""
        if not constants or (self._spare and self._has_room(taken)):
            return self._can_end(taken, at)
        if at == len(self._numbers):
            return self._can_end(taken, at) and all(constants)
        number = self._numbers[at]
        name = self._shape.names[number]
        without = [c for c in constants if name not in c]
        if not self._way.needed >> number & 1 and self._from(at + 1, without, taken):
            return True
        return self._with(at, number, [c for c in constants if name in c], taken)

    def _with(self, at: int, number: int, constants: list[dict[str, Constant]], taken: int) -> bool:
        name, child = self._shape.names[number], self._way.child(number)
        values = {c[name] for c in constants}
        taken |= 1 << number
        pool = self._shape.pool
        if self._satisfiable(pool.all_of([child, pool.negate(equal_to(pool, values))])) and self._from(
            at + 1, [], taken
        ):
            return True
        return any(
            self._satisfiable(pool.all_of([child, equal_to(pool, [value])]))
            and self._from(at + 1, [_less(c, name) for c in constants if c[name] == value], taken)
            for value in values
        )

    def _has_room(self, taken: int) -> bool:
        most = self._way.most
        return most is None or (taken | self._way.needed).bit_count() < most

    def _can_end(self, taken: int, at: int) -> bool:
        """Whether the counts and the keys that must not all come allow these; keys from the at-th on are free."""
        way = self._way
        taken |= way.needed
        free = 0 if self._spare else sum(not taken >> n & 1 for n in self._numbers[at:])
        enough = self._spare or taken.bit_count() + free >= way.least
        few = way.most is None or taken.bit_count() <= way.most
        return enough and few and all(bits & ~taken for bits in way.absent_sets)


def _less(constant: dict[str, Constant], name: str) -> dict[str, Constant]:
    return {key: value for key, value in constant.items() if key != name}


class Judge:
    """Callable type: whether a value formula can be satisfied."""

    def __init__(self) -> None:
        self.failures: list[GrammarError] = []
        """What could not be judged within the limits, and was therefore taken for impossible."""
        self.doubts = 0
        """How many answers were a "no" only because a question was open on which they rest: while this does not
        change, a "no" is for good and may be remembered."""

    def spend(self) -> None:
        """Count one decision, while the constraint is compiled."""

    def attempt(self, question: Callable[[], T], otherwise: T) -> T:
        """The answer, or `otherwise`, noted, if a limit is met on the way.

        Saying no is safe: what is optional is then not offered, and what is needed is refused when it is compiled.
        """
        try:
            return question()
        except (GrammarTooLarge, UnsupportedConstraint) as error:
            self.failures.append(error)
            return otherwise

    def __call__(self, formula: Formula) -> bool:
        """Whether some value satisfies it."""
        raise NotImplementedError

    def values(self, formula: Formula, most: int) -> frozenset[Constant] | None:
        """All values that satisfy it; None if they are more than `most`."""
        raise NotImplementedError

    def has_at_least(self, formula: Formula, count: int) -> bool:
        """Whether so many different values satisfy it."""
        found = self.values(formula, count - 1)
        return found is None or len(found) >= count


def _numbers(bits: int) -> list[int]:
    """The members of a bit set; by bytes, for clearing bit after bit of a large integer is quadratic."""
    if bits < 1 << 64:
        return _small_numbers(bits)
    octets = bits.to_bytes(-(-bits.bit_length() // 8), "little")
    return [8 * at + bit for at, octet in enumerate(octets) if octet for bit in _small_numbers(octet)]


def _small_numbers(bits: int) -> list[int]:
    found = []
    while bits:
        low = bits & -bits
        found.append(low.bit_length() - 1)
        bits ^= low
    return found


def lowest(bits: int) -> int:
    """The least member of a bit set that is not empty."""
    return (bits & -bits).bit_length() - 1


def step_key(pool: Formulas, formula: Formula, shape: Shape, number: int) -> Formula:
    """The formula once a key of class `number` came, its value not yet judged."""
    cls = shape.classes[number]

    def change(atom: Any) -> Formula | None:
        if isinstance(atom, Required):
            if cls.name is None or cls.name not in atom.names:
                return None
            left = atom.names - {cls.name}
            return pool.literal(Required(left)) if left else TRUE
        if isinstance(atom, PropertyCount):
            if atom.most == 0:
                return FALSE
            least, most = max(atom.least - 1, 0), None if atom.most is None else atom.most - 1
            return TRUE if least == 0 and most is None else pool.literal(PropertyCount(least, most))
        if isinstance(atom, PropertyNames):
            return None if atom in cls.passes else FALSE
        if isinstance(atom, Properties):
            return FALSE if shape.child(atom, number) is FALSE else None
        if isinstance(atom, OneOfObjects):
            return _begun(pool, atom, cls.name)
        raise UnsupportedConstraint(f"an atom about objects that members do not move: {atom}")

    return pool.replace(formula, change, {})


def _begun(pool: Formulas, atom: OneOfObjects, name: str | None) -> Formula:
    """Which constants are left once a key came, by what its value is to be."""
    groups: dict[frozenset[Members], set[Constant]] = {}
    rests: dict[Constant, set[Members]] = {}
    for members in atom.values:
        for key, value in members:
            if key == name:
                rests.setdefault(value, set()).add(members - {(key, value)})
    for value, found in rests.items():
        groups.setdefault(frozenset(found), set()).add(value)
    return pool.any_of(pool.literal(MemberAmong(frozenset(values), then)) for then, values in groups.items())


def at_close(atom: Any) -> bool:
    """An object atom's value when nothing more comes."""
    if isinstance(atom, OneOfObjects):
        return frozenset() in atom.values
    if isinstance(atom, Required):
        return False
    if isinstance(atom, PropertyCount):
        return atom.least == 0
    return True


numbers_of = _numbers
