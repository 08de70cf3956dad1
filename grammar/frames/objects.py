"""An open object: its formula in motion, the classes of keys still open, and what each key would ask of its value."""

from functools import partial
from itertools import product
from typing import Any

from grammar.formula import FALSE, TRUE, Conjunct, Formula, Formulas, atoms, certain, conjuncts, evaluate
from grammar.frames.apart import told_apart
from grammar.frames.cases import by_cases
from grammar.frames.clauses import choices, is_clause
from grammar.frames.leastsets import least_sets
from grammar.frames.members import Judge, Shape, Way, at_close, numbers_of, step_key
from grammar.schema.atoms import MemberAmong, OneOfObjects, Properties, PropertyCount
from grammar.schema.constants import equal_to


class Member:
    """What follows once a key of one class was read: the formulas moved on, and the goal of the value."""

    __slots__ = ("goal", "judged", "next", "tracked")

    def __init__(
        self, following: "ObjectFrame", goal: Formula, judged: tuple[Any, ...], tracked: tuple[Formula, ...]
    ) -> None:
        self.next = following
        self.goal = goal
        self.judged = judged
        """The atoms whose truth the value decides, in the order of its verdict."""
        self.tracked = tracked


class ObjectFrame:
    """One state of one open object. Interned by `Objects.frame`; compare by identity."""

    __slots__ = (
        "_allowed", "_members", "_objects", "_ways", "formula", "number", "open", "recorded", "shape", "tracked",
    )  # fmt: skip

    def __init__(
        self,
        objects: "Objects",
        number: int,
        formula: Formula,
        tracked: tuple[Formula, ...],
        shape: Shape,
        open_classes: int,
        *,
        recorded: bool,
    ) -> None:
        self.recorded = recorded
        """Whether the object's value is remembered when it closes: it is an item that others must differ from."""
        self._objects = objects
        self.number = number
        self.formula = formula
        self.tracked = tracked
        self.shape = shape
        self.open = open_classes
        self._ways: list[Way] | None = None
        self._allowed: int | None = None
        self._members: dict[int, Member | None] = {}

    @property
    def ways(self) -> list[Way]:
        """The ways in which the formula can be satisfied from here on."""
        if self._ways is not None:
            return self._ways
        judge = self._objects.satisfiable
        ways, doubts = self._objects.ways(self.formula, self.shape), judge.doubts
        found = [w for w in ways if judge.attempt(partial(w.feasible, self.open, judge), otherwise=False)]
        if judge.doubts == doubts:
            self._ways = found
        return found

    @property
    def plain_ways(self) -> list[Way]:
        """For each of the ways one in which it can be gone, every negated alternative failed in a certain way."""
        found = (way.settled(self.open, self._objects.satisfiable) for way in self.ways)
        return [way for way in found if way is not None]

    @property
    def only_way(self) -> Way | None:
        """The one way to satisfy the formula, if there is one and it compares nothing with constants."""
        ways = self._objects.ways(self.formula, self.shape)
        if len(ways) != 1 or ways[0].pending or ways[0].among or ways[0].unlike or ways[0].same is not None:
            return None
        return ways[0]

    @property
    def feasible(self) -> bool:
        """Whether the object can be finished."""
        judge = self._objects.satisfiable
        ways = self._objects.ways(self.formula, self.shape)
        return any(judge.attempt(partial(w.feasible, self.open, judge), otherwise=False) for w in ways)

    def verdict(self) -> tuple[bool, ...] | None:
        """The truth of the tracked formulas if the object ended here; None if it may not."""
        if not evaluate(self.formula, at_close):
            return None
        return tuple(evaluate(f, at_close) for f in self.tracked)

    @property
    def allowed(self) -> int:
        """The classes of keys that may come next."""
        if self._allowed is None:
            found = doubts = 0
            for way in self.ways:
                sure, doubtful = self._candidates(way, way.good_among(self.open & ~found))
                found |= sure
                doubts |= doubtful
            # What is in doubt in one way is mostly certain in another: to ask is the last resort.
            for number in numbers_of(doubts & ~found):
                if self._objects.satisfiable.attempt(partial(self._may_come, number), otherwise=False):
                    found |= 1 << number
            self._allowed = found
        return self._allowed

    def _candidates(self, way: Way, candidates: int) -> tuple[int, int]:
        """Which of these classes may come in this way for certain, and of which more has to be asked."""
        if way.broken or way.misnamed or way.least or way.is_compared(self.open):
            return 0, candidates
        simply, critical = self._simply_allowed(way, candidates), 0
        for clause in way.clauses:
            critical |= clause.critical(way.needed, self.open)
        return simply & ~critical, simply & critical

    def _simply_allowed(self, way: Way, candidates: int) -> int:
        if way.most is not None and way.needed.bit_count() >= way.most:
            candidates &= way.needed
        if self.shape.ordered and way.needed:
            first = way.needed & -way.needed
            candidates &= (first << 1) - 1
        for absent in way.absent_sets:
            last = absent & ~way.needed
            if last.bit_count() == 1:
                candidates &= ~last  # With this key all of them would be there.
        return candidates

    @property
    def owes_further_keys(self) -> bool:
        """Whether the object, once its next key came, may need others that are not named and must differ from it."""
        return self.owes_keys(besides=1)

    def owes_keys(self, besides: int = 0) -> bool:
        """Whether keys that are not named may be needed, once so many came."""
        return any(w.broken or w.misnamed or w.least > besides + w.needed.bit_count() for w in self.plain_ways)

    def _may_come(self, number: int) -> bool:
        """Whether there is a member of this class: as `member`, but no more than one way is asked that agrees."""
        if number in self._members:
            return self._members[number] is not None
        objects = self._objects
        opened = self.shape.after(self.open, number)
        for way in objects.ways(step_key(objects.pool, self.formula, self.shape, number), self.shape):
            goal = self._asked(way, number, opened)
            if goal is not None and objects.satisfiable(goal):
                return True
        return False

    def member(self, number: int) -> Member | None:
        """What follows a key of class `number`; None if it may not come."""
        if number not in self._members:
            self._members[number] = self._member(number)
        return self._members[number]

    def _member(self, number: int) -> Member | None:
        objects, shape, pool = self._objects, self.shape, self._objects.pool
        if not self.open >> number & 1:
            return None
        formula = step_key(pool, self.formula, shape, number)
        tracked = tuple(step_key(pool, f, shape, number) for f in self.tracked)
        opened = shape.after(self.open, number)
        following = objects.frame(formula, tracked, shape, opened, recorded=self.recorded)
        goals = [self._asked(way, number, opened) for way in objects.ways(formula, shape)]
        goal = pool.any_of(g for g in goals if g is not None)
        if goal is FALSE or not objects.satisfiable(goal):
            return None
        sure = certain(formula)
        judged = [
            atom
            for atom in dict.fromkeys(a for f in (formula, *tracked) for a in atoms(f))
            if atom not in sure and self._is_judged(atom, number)
        ]
        return Member(following, goal, tuple(judged), tuple(self._judging(a, number) for a in judged))

    def _is_judged(self, atom: Any, number: int) -> bool:
        if isinstance(atom, Properties):
            return self.shape.child(atom, number) is not TRUE
        return isinstance(atom, MemberAmong)

    def _judging(self, atom: Any, number: int) -> Formula:
        """What the value under a key of class `number` has to satisfy for the atom to hold."""
        if isinstance(atom, MemberAmong):
            return equal_to(self._objects.pool, atom.values)
        return self.shape.child(atom, number)

    def _asked(self, way: Way, number: int, opened: int) -> Formula | None:
        """What this way asks of the value under key class `number`; None if the way is then closed."""
        return self._objects.satisfiable.attempt(lambda: self._asked_by(way, number, opened), None)

    def _asked_by(self, way: Way, number: int, opened: int) -> Formula | None:
        if way.clauses:
            return self._asked_by_any(way, number, opened)
        objects, pool = self._objects, self._objects.pool
        child = pool.all_of([way.child(number), *(self._judging(atom, number) for atom in way.among)])
        if child is FALSE:
            return None
        if way.leaving(way.broken, way.pending).feasible(opened, objects.satisfiable):
            return child
        # Some negated schema must be broken, or some constant be differed from, by this very member.
        parts = [
            pool.all_of([child, *(pool.negate(self._judging(a, number)) for a in chosen)])
            for chosen in self._to_break_now(way, opened)
        ]
        return pool.any_of(parts) if parts else None

    def _asked_by_any(self, way: Way, number: int, opened: int) -> Formula | None:
        """As `_asked_by`, over all ways to satisfy its clauses, until nothing more could be asked without them."""
        most = self._asked_by(way.choosing((), ()), number, opened)
        if most is None:
            return None
        found = FALSE
        for absent, broken in choices(way.clauses, way.needed, opened):
            asked = self._asked_by(way.choosing(absent, broken), number, opened)
            found = found if asked is None else self._objects.pool.any_of([found, asked])
            if found is most:
                break
        return None if found is FALSE else found

    def _to_break_now(self, way: Way, opened: int) -> list[tuple[Any, ...]]:
        """The least sets of negated atoms after whose breaking the others can be broken later on."""
        judge = self._objects.satisfiable
        later = way.good & opened
        must: list[Any] = [a for a in way.broken if not way.witnesses(a, later, judge)]
        must += [a for a in way.pending if not way.leaving([], [a]).feasible(opened, judge)]
        others = [a for a in (*way.broken, *way.pending) if a not in must]

        def later_go(now: tuple[Any, ...]) -> bool:
            left = [a for a in others if a not in now]
            broken = [a for a in left if isinstance(a, Properties)]
            return way.leaving(broken, [a for a in left if isinstance(a, MemberAmong)]).feasible(opened, judge)

        return [(*must, *more) for more in least_sets(others, later_go)]

    def settled(self, false: list[Any]) -> "ObjectFrame":
        """The frame once the member's value was judged: these atoms are false, the others hold."""
        gone = frozenset(false)
        memo: dict[int, Formula] = {}
        pool = self._objects.pool

        def change(atom: Any) -> Formula | None:
            if atom in gone:
                return FALSE
            return pool.literal(OneOfObjects(atom.then)) if isinstance(atom, MemberAmong) else None

        formula = pool.replace(self.formula, change, memo)
        tracked = tuple(pool.replace(f, change, memo) for f in self.tracked)
        return self._objects.frame(formula, tracked, self.shape, self.open, recorded=self.recorded)


class Objects:
    """The interned object frames of one grammar."""

    def __init__(self, pool: Formulas, satisfiable: Judge, *, ordered: bool, strict: bool) -> None:
        self.pool = pool
        self.satisfiable = satisfiable
        self._ordered = ordered
        self._strict = strict
        self._shapes: dict[tuple[Any, ...], Shape] = {}
        self._frames: dict[tuple[Any, ...], ObjectFrame] = {}
        self._apart: dict[tuple[int, int], Formula] = {}
        self._cases: dict[tuple[int, int], Formula] = {}
        self._ways: dict[tuple[int, int], list[Way]] = {}
        self._interned: dict[tuple[int, frozenset[Any], frozenset[Any], frozenset[Formula]], Way] = {}

    def start(self, formula: Formula, tracked: tuple[Formula, ...], *, recorded: bool = False) -> ObjectFrame:
        """A new object of which `formula` must hold and `tracked` be told."""
        members = tuple(dict.fromkeys(a for f in (formula, *tracked) for a in atoms(f)))
        shape = self._shapes.get(members)
        if shape is None:
            shape = Shape(self.pool, (formula, *tracked), ordered=self._ordered, strict=self._strict)
            self._shapes[members] = shape
        formula, *others = (self._told_apart(f, shape) for f in (formula, *tracked))
        formula = self._divided(formula, shape)
        return self.frame(formula, tuple(others), shape, shape.everything, recorded=recorded)

    def _told_apart(self, formula: Formula, shape: Shape) -> Formula:
        key = (formula.number, id(shape))
        found = self._apart.get(key)
        if found is None:
            found = self._apart[key] = told_apart(self.pool, formula, shape)
        return found

    def _divided(self, formula: Formula, shape: Shape) -> Formula:
        key = (formula.number, id(shape))
        found = self._cases.get(key)
        if found is None:
            found = self._cases[key] = by_cases(self.pool, formula, shape)
        return found

    def frame(
        self, formula: Formula, tracked: tuple[Formula, ...], shape: Shape, open_classes: int, *, recorded: bool
    ) -> ObjectFrame:
        """The interned frame."""
        key = (formula.number, tuple(f.number for f in tracked), id(shape), open_classes, recorded)
        found = self._frames.get(key)
        if found is None:
            number = len(self._frames)
            found = ObjectFrame(self, number, formula, tracked, shape, open_classes, recorded=recorded)
            self._frames[key] = found
        return found

    def ways(self, formula: Formula, shape: Shape) -> list[Way]:
        """The ways to satisfy the formula, in the numbers of the shape."""
        key = (formula.number, id(shape))
        found = self._ways.get(key)
        if found is None:
            normal = conjuncts(self.pool, formula, is_clause)
            found = self._ways[key] = [self._way(shape, w) for each in normal for w in _with_plain_counts(each)]
        return found

    def _way(self, shape: Shape, conjunct: Conjunct) -> Way:
        """The interned way: a formula that moved on keeps most of its ways, and what was found out about them."""
        key = (id(shape), conjunct.positive, conjunct.negative, conjunct.clauses)
        found = self._interned.get(key)
        if found is None:
            found = self._interned[key] = Way(shape, conjunct, self.satisfiable)
        return found


def _with_plain_counts(conjunct: Conjunct) -> list[Conjunct]:
    """The conjunct without negated counts: too few or too many members, each a way of its own."""
    negated = [a for a in conjunct.negative if isinstance(a, PropertyCount)]
    if not negated:
        return [conjunct]
    rest = conjunct.negative.difference(negated)
    outside = [
        [
            *([PropertyCount(0, a.least - 1)] if a.least else []),
            *([] if a.most is None else [PropertyCount(a.most + 1, None)]),
        ]
        for a in negated
    ]
    return [Conjunct(conjunct.positive.union(counts), rest, conjunct.clauses) for counts in product(*outside)]
