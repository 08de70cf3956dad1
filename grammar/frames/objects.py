"""An open object: its formula in motion, the classes of keys still open, and what each key would ask of its value."""

from typing import Any

from grammar.formula import FALSE, TRUE, Formula, Formulas, atoms, certain, conjuncts, evaluate
from grammar.frames.members import Judge, Shape, Way, at_close, numbers_of, step_key
from grammar.schema.atoms import Properties


class Member:
    """What follows once a key of one class was read: the formulas moved on, and the goal of the value."""

    __slots__ = ("goal", "judged", "next", "tracked")

    def __init__(
        self, following: "ObjectFrame", goal: Formula, judged: tuple[Properties, ...], tracked: tuple[Formula, ...]
    ) -> None:
        self.next = following
        self.goal = goal
        self.judged = judged
        """The atoms whose truth the value decides, in the order of its verdict."""
        self.tracked = tracked


class ObjectFrame:
    """One state of one open object. Interned by `Objects.frame`; compare by identity."""

    __slots__ = ("_allowed", "_members", "_objects", "_ways", "formula", "number", "open", "shape", "tracked")

    def __init__(
        self,
        objects: "Objects",
        number: int,
        formula: Formula,
        tracked: tuple[Formula, ...],
        shape: Shape,
        open_classes: int,
    ) -> None:
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
        found = [w for w in self._objects.ways(self.formula, self.shape) if w.feasible(self.open, judge)]
        if not judge.busy:
            self._ways = found
        return found

    @property
    def feasible(self) -> bool:
        """Whether the object can be finished."""
        judge = self._objects.satisfiable
        return any(w.feasible(self.open, judge) for w in self._objects.ways(self.formula, self.shape))

    def verdict(self) -> tuple[bool, ...] | None:
        """The truth of the tracked formulas if the object ended here; None if it may not."""
        if not evaluate(self.formula, at_close):
            return None
        return tuple(evaluate(f, at_close) for f in self.tracked)

    @property
    def allowed(self) -> int:
        """The classes of keys that may come next."""
        if self._allowed is None:
            found = 0
            for way in self.ways:
                candidates = way.good & self.open & ~found
                if way.broken or way.misnamed or way.least or way.absent_sets:
                    for number in numbers_of(candidates):
                        if self.member(number) is not None:
                            found |= 1 << number
                else:
                    found |= self._simply_allowed(way, candidates)
            self._allowed = found
        return self._allowed

    def _simply_allowed(self, way: Way, candidates: int) -> int:
        if way.most is not None and way.needed.bit_count() >= way.most:
            candidates &= way.needed
        if self.shape.ordered and way.needed:
            first = way.needed & -way.needed
            candidates &= (first << 1) - 1
        return candidates

    @property
    def owes_further_keys(self) -> bool:
        """Whether the object, once its next key came, may need others that are not named and must differ from it."""
        return any(w.broken or w.misnamed or w.least > 1 + w.needed.bit_count() for w in self.ways)

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
        following = objects.frame(formula, tracked, shape, opened)
        goals = [self._asked(way, number, opened) for way in objects.ways(formula, shape)]
        goal = pool.any_of(g for g in goals if g is not None)
        if goal is FALSE or not objects.satisfiable(goal):
            return None
        sure = certain(formula)
        judged = []
        for atom in dict.fromkeys(a for f in (formula, *tracked) for a in atoms(f)):
            if isinstance(atom, Properties) and atom not in sure and shape.child(atom, number) is not TRUE:
                judged.append(atom)
        return Member(following, goal, tuple(judged), tuple(shape.child(a, number) for a in judged))

    def _asked(self, way: Way, number: int, opened: int) -> Formula | None:
        """What this way asks of the value under key class `number`; None if the way is then closed."""
        objects, pool = self._objects, self._objects.pool
        child = way.child(number)
        if child is FALSE:
            return None
        if not way.broken:
            return child if way.feasible(opened, objects.satisfiable) else None
        if way.feasible(opened, objects.satisfiable):
            return child
        # Some negated schema must be broken by this very member.
        broken = way.broken
        choices = []
        for chosen in range(1, 1 << len(broken)):
            rest = [a for i, a in enumerate(broken) if not chosen >> i & 1]
            lighter = way.without(rest)
            if lighter.feasible(opened, objects.satisfiable):
                parts = [pool.negate(self.shape.child(a, number)) for i, a in enumerate(broken) if chosen >> i & 1]
                choices.append(pool.all_of([child, *parts]))
        return pool.any_of(choices) if choices else None

    def broken(self, false: list[Properties]) -> "ObjectFrame":
        """The frame once these atoms turned out false."""
        if not false:
            return self
        gone = frozenset(false)
        memo: dict[int, Formula] = {}

        def change(atom: Any) -> Formula | None:
            return FALSE if isinstance(atom, Properties) and atom in gone else None

        pool = self._objects.pool
        formula = pool.replace(self.formula, change, memo)
        tracked = tuple(pool.replace(f, change, memo) for f in self.tracked)
        return self._objects.frame(formula, tracked, self.shape, self.open)


class Objects:
    """The interned object frames of one grammar."""

    def __init__(self, pool: Formulas, satisfiable: Judge, *, ordered: bool, strict: bool) -> None:
        self.pool = pool
        self.satisfiable = satisfiable
        self._ordered = ordered
        self._strict = strict
        self._shapes: dict[tuple[Any, ...], Shape] = {}
        self._frames: dict[tuple[Any, ...], ObjectFrame] = {}
        self._ways: dict[tuple[int, int], list[Way]] = {}

    def start(self, formula: Formula, tracked: tuple[Formula, ...]) -> ObjectFrame:
        """A new object of which `formula` must hold and `tracked` be told."""
        members = tuple(dict.fromkeys(a for f in (formula, *tracked) for a in atoms(f)))
        shape = self._shapes.get(members)
        if shape is None:
            shape = Shape(self.pool, (formula, *tracked), ordered=self._ordered, strict=self._strict)
            self._shapes[members] = shape
        return self.frame(formula, tracked, shape, shape.everything)

    def frame(self, formula: Formula, tracked: tuple[Formula, ...], shape: Shape, open_classes: int) -> ObjectFrame:
        """The interned frame."""
        key = (formula.number, tuple(f.number for f in tracked), id(shape), open_classes)
        found = self._frames.get(key)
        if found is None:
            found = self._frames[key] = ObjectFrame(self, len(self._frames), formula, tracked, shape, open_classes)
        return found

    def ways(self, formula: Formula, shape: Shape) -> list[Way]:
        """The ways to satisfy the formula, in the numbers of the shape."""
        key = (formula.number, id(shape))
        found = self._ways.get(key)
        if found is None:
            found = self._ways[key] = [Way(shape, c, self.satisfiable) for c in conjuncts(self.pool, formula)]
        return found
