"""Half-read arrays and objects of the reference: what may come next in them, and whether they can still be finished."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, combinations
from typing import Any

from tests.oracles import regular
from tests.oracles.json_schemas import (
    KINDS,
    Branch,
    Goal,
    Kind,
    Literal,
    Reading,
    booleans,
    number_rule,
    string_language,
)
from tests.oracles.regular import Language

Ask = Callable[[Goal], bool]
Debts = frozenset[tuple[Any, ...]]


def subsets(debts: Debts) -> Iterator[Debts]:
    """All of them."""
    ordered = sorted(debts, key=repr)
    for chosen in chain.from_iterable(combinations(ordered, n) for n in range(len(ordered) + 1)):
        yield frozenset(chosen)


def bounds(branch: Branch) -> tuple[int, int | None]:
    """The tightest counts."""
    lows = [atom[1] for atom in branch if atom[0] == "count"]
    highs = [atom[2] for atom in branch if atom[0] == "count" and atom[2] is not None]
    return max(lows, default=0), min(highs, default=None)


@dataclass(frozen=True, slots=True)
class Array:
    """So many items read; `debts` are items that must still come: ("some", from index, literal)."""

    branch: Branch
    index: int
    debts: Debts

    @classmethod
    def start(cls, branch: Branch) -> "Array":
        return cls(branch, 0, frozenset(atom for atom in branch if atom[0] == "some"))

    def goal(self) -> Goal:
        """What the next item must meet in any case."""
        here = [atom[2] for atom in self.branch if atom[0] == "item" and atom[1] == self.index]
        rest = [atom[2] for atom in self.branch if atom[0] == "rest" and atom[1] <= self.index]
        return frozenset(here + rest)

    def items(self, ask: Ask) -> Iterator[tuple[Goal, "Array"]]:
        """Goals for the next item, one for each choice of debts that it pays, and the array after it."""
        _, high = bounds(self.branch)
        if high is not None and self.index >= high:
            return
        payable = frozenset(debt for debt in self.debts if debt[1] <= self.index)
        for paid in subsets(payable):
            goal = self.goal() | {debt[2] for debt in paid}
            if ask(goal):
                yield goal, replace(self, index=self.index + 1, debts=self.debts - paid)

    def closable(self) -> bool:
        """May `]` come now?"""
        low, high = bounds(self.branch)
        return not self.debts and self.index >= low and (high is None or self.index <= high)

    def completable(self, ask: Ask) -> bool:
        """Can it be finished? Past the last special index only a paid debt is progress."""
        if self.closable():
            return True
        low, _ = bounds(self.branch)
        special = [atom[1] + 1 for atom in self.branch if atom[0] in ("item", "rest", "some")]
        idle = self.index >= max([low, *special])
        return any(
            follower.completable(ask) for _, follower in self.items(ask) if not idle or follower.debts != self.debts
        )


@dataclass(frozen=True, slots=True)
class KeyClass:
    """Keys that are treated alike: their texts, what their value must meet, the debts that they can pay."""

    texts: Language
    goal: Goal
    name: str | None
    payable: Debts


@dataclass(frozen=True, slots=True)
class Object:
    """The keys read so far; `place` is the position in the property order (None: any order)."""

    branch: Branch
    seen: frozenset[str]
    debts: Debts
    order: tuple[str, ...] | None = None
    place: int = 0

    @classmethod
    def start(cls, branch: Branch, order: tuple[str, ...] | None = None) -> "Object":
        debts = frozenset(atom for atom in branch if atom[0] in ("some matching", "some other", "some name"))
        return cls(branch, frozenset(), debts, order)

    def known(self) -> frozenset[str]:
        """The names that the atoms mention."""
        single = {atom[1] for atom in self.branch if atom[0] in ("property", "required")}
        return frozenset(single.union(*(atom[1] for atom in self.branch if atom[0] in ("others", "some other"))))

    def required(self) -> frozenset[str]:
        return frozenset(atom[1] for atom in self.branch if atom[0] == "required")

    def names(self, reading: Reading) -> Language:
        """Which keys propertyNames allows."""
        language = regular.EVERY
        for atom in self.branch:
            if atom[0] == "names":
                language = regular.both(language, texts_of(reading, atom[1]))
        return language

    def class_of(self, texts: Language, name: str | None, matched: frozenset[str]) -> KeyClass:
        """The class of keys that match just these patterns."""
        goal: set[Literal] = set()
        payable: set[tuple[Any, ...]] = set()
        for atom in self.branch:
            match atom:
                case ("property", other, literal) if other == name:
                    goal.add(literal)
                case ("matching", pattern, literal) if pattern in matched:
                    goal.add(literal)
                case ("others", names, patterns, literal) if name not in names and not patterns & matched:
                    goal.add(literal)
        for debt in self.debts:
            match debt:
                case ("some matching", pattern, _) if pattern in matched:
                    payable.add(debt)
                case ("some other", names, patterns, _) if name not in names and not patterns & matched:
                    payable.add(debt)
                case ("some name", _):
                    payable.add(debt)
        return KeyClass(texts, frozenset(goal), name, frozenset(payable))

    def classes(self, reading: Reading) -> Iterator[KeyClass]:
        """Every class of keys that may come now, used keys left out."""
        names = self.names(reading)
        patterns: set[str] = {atom[1] for atom in self.branch if atom[0] in ("matching", "some matching")}
        patterns |= {p for atom in self.branch if atom[0] in ("others", "some other") for p in atom[2]}
        known = self.known()
        for name in sorted(known - self.seen):
            matched = frozenset(p for p in patterns if regular.holds(regular.matching(p), name))
            if regular.holds(names, name):
                yield self.class_of(regular.literal(name), name, matched)
        for matched_debts in subsets(frozenset((p,) for p in patterns)):
            matched = frozenset(p for (p,) in matched_debts)
            parts = [regular.matching(p) if p in matched else regular.without(regular.matching(p)) for p in patterns]
            used = [regular.complement(regular.literal(name)) for name in known | self.seen]
            texts = regular.both(names, *parts, *used)
            if regular.possible(texts):
                yield self.class_of(texts, None, matched)

    def position(self, name: str | None) -> int | None:
        """Where a key stands in the order; None where it may not come any more."""
        if self.order is None:
            return 0
        place = self.order.index(name) if name in self.order else len(self.order)
        return place if place >= self.place else None

    def keys(self, reading: Reading, ask: Ask) -> Iterator[tuple[Language, Goal, "Object", KeyClass]]:
        """Possible next keys: their texts, the goal of their value, and the object after them, less the key itself."""
        _, high = bounds(self.branch)
        if high is not None and len(self.seen) >= high:
            return
        for each in self.classes(reading):
            place = self.position(each.name)
            if place is None:
                continue
            for paid in subsets(each.payable):
                texts = each.texts
                goal = set(each.goal)
                for debt in paid:
                    if debt[0] == "some name":
                        texts = regular.both(texts, texts_of(reading, debt[1]))
                    else:
                        goal.add(debt[-1])
                if regular.possible(texts) and ask(frozenset(goal)):
                    after = replace(self, debts=self.debts - paid, place=place)
                    yield texts, frozenset(goal), after, each

    def with_key(self, name: str) -> "Object":
        return replace(self, seen=self.seen | {name})

    def closable(self) -> bool:
        """May `}` come now?"""
        low, high = bounds(self.branch)
        count = len(self.seen)
        return self.required() <= self.seen and not self.debts and low <= count and (high is None or count <= high)

    def completable(self, reading: Reading, ask: Ask) -> bool:
        """Can it be finished? Only required keys, payers of debts, and any while there are too few, are progress."""
        if self.closable():
            return True
        low, _ = bounds(self.branch)
        for texts, _, follower, key in self.keys(reading, ask):
            useful = key.name in self.required() or follower.debts != self.debts or len(self.seen) < low
            if useful and follower.with_key(key.name if key.name is not None else example(texts)).completable(
                reading, ask
            ):
                return True
        return False


def texts_of(reading: Reading, literal: Literal) -> Language:
    """The strings that meet a literal."""
    branches = reading.branches(frozenset({literal}), "string")
    return regular.either(*(string_language(branch) for branch in branches))


def example(language: Language) -> str:
    """A shortest text of a marked language."""
    queue: list[tuple[str, Language]] = [("", language)]
    seen = {language}
    for text, current in queue:
        if regular.nullable(regular.after(current, regular.END)):
            return text
        for char in sorted((regular.cuts(current) | {0x61}) - {regular.END, regular.END + 1}):
            follower = regular.after(current, char)
            if follower not in seen and regular.possible(follower):
                seen.add(follower)
                queue.append((text + chr(char), follower))
    raise ValueError("an empty language has no example")


class Meaning(Reading):
    """A schema document that also knows which goals any value can meet."""

    def __init__(self, root: Any) -> None:
        super().__init__(root)
        self.settled: dict[Goal, bool] = {}

    def possible(self, goal: Goal) -> bool:
        """Does any value meet it? The least fixed point over all goals that matter."""
        if goal in self.settled:
            return self.settled[goal]
        found: dict[Goal, bool] = {goal: False}

        def ask(other: Goal) -> bool:
            return self.settled[other] if other in self.settled else found.setdefault(other, False)

        before: list[bool] = []
        while before != list(found.values()):
            before = list(found.values())
            for current in list(found):
                found[current] = found[current] or self.met(current, ask)
        self.settled.update(found)
        return found[goal]

    def met(self, goal: Goal, ask: Ask) -> bool:
        """Given which inner goals can be met."""
        return any(self.branch_met(branch, kind, ask) for kind in KINDS for branch in self.branches(goal, kind))

    def branch_met(self, branch: Branch, kind: Kind, ask: Ask) -> bool:
        match kind:
            case "null":
                return True
            case "boolean":
                return bool(list(booleans(branch)))
            case "number":
                return number_rule(branch).viable("")
            case "string":
                return regular.possible(string_language(branch))
            case "array":
                return Array.start(branch).completable(ask)
        return Object.start(branch).completable(self, ask)
