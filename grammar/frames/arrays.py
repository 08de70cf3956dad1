"""An open array: its formula in motion, item by item. Atoms shrink as items come, so the formula is the whole state."""

from functools import partial
from itertools import product as combinations
from typing import Any, Final

from grammar.errors import GrammarTooLarge, UnsupportedConstraint
from grammar.formula import FALSE, TRUE, Conjunct, Formula, Formulas, Kind, atoms, certain, conjuncts, evaluate
from grammar.frames.distinct import can_be_distinct
from grammar.frames.leastsets import least_sets
from grammar.frames.members import Judge
from grammar.schema.atoms import Constant, Contains, ItemAmong, ItemCount, Items, OfType, OneOfArrays, Unique
from grammar.schema.constants import equal_to

MAX_SEARCH: Final = 20_000
MAX_LOOKING: Final = 8
UNKNOWN: Final[Constant] = ("unknown", None)
"""The value of an item that could not be told: looking ahead within one token."""
Constants = tuple[Constant, ...]


def item_child(atom: Items) -> Formula:
    """What the atom asks of the next item."""
    if atom.at < len(atom.prefix):
        return atom.prefix[atom.at].formula()
    return atom.rest.formula() if atom.rest is not None else TRUE


def _moved(pool: Formulas, atom: Items) -> Formula:
    if atom.at < len(atom.prefix):
        if atom.at + 1 == len(atom.prefix) and atom.rest is None:
            return TRUE
        return pool.literal(Items(atom.prefix, atom.rest, atom.at + 1))
    return pool.literal(atom)


def _counted(pool: Formulas, atom: ItemCount) -> Formula:
    if atom.most == 0:
        return FALSE
    least, most = max(atom.least - 1, 0), None if atom.most is None else atom.most - 1
    return TRUE if least == 0 and most is None else pool.literal(ItemCount(least, most))


def _contained(pool: Formulas, atom: Contains) -> Formula:
    if atom.most == 0:
        return FALSE
    least, most = max(atom.least - 1, 0), None if atom.most is None else atom.most - 1
    return TRUE if least == 0 and most is None else pool.literal(Contains(atom.item, least, most))


class Item:
    """What follows once an item began: formulas moved on except for the judged atoms, and the item's goal."""

    __slots__ = ("frame", "goal", "judged", "tracked")

    def __init__(
        self, frame: "ArrayFrame", goal: Formula, judged: tuple[Any, ...], tracked: tuple[Formula, ...]
    ) -> None:
        self.frame = frame
        """The frame before the item: what follows depends on the verdict."""
        self.goal = goal
        self.judged = judged
        self.tracked = tracked


class ArrayFrame:
    """One state of one open array. Interned by `Arrays.frame`; compare by identity."""

    __slots__ = ("_arrays", "_item", "formula", "number", "recorded", "tracked")

    def __init__(
        self, arrays: "Arrays", number: int, formula: Formula, tracked: tuple[Formula, ...], *, recorded: bool
    ) -> None:
        self.recorded = recorded
        """Whether the array's value is remembered when it closes: it is an item that others must differ from."""
        self._arrays = arrays
        self.number = number
        self.formula = formula
        self.tracked = tracked
        self._item: tuple[Item | None] | None = None

    def verdict(self) -> tuple[bool, ...] | None:
        """The truth of the tracked formulas if the array ended here; None if it may not."""
        if not evaluate(self.formula, at_close):
            return None
        return tuple(evaluate(f, at_close) for f in self.tracked)

    @property
    def feasible(self) -> bool:
        """Whether the array can be finished."""
        return self._arrays.feasible(self.formula)

    @property
    def item(self) -> Item | None:
        """The next item; None if there can be none."""
        if self._item is None:
            self._item = (self._next(),)
        return self._item[0]

    def _next(self) -> Item | None:
        arrays = self._arrays
        goal = arrays.asked(self.formula)
        if goal is FALSE or not arrays.satisfiable(goal):
            return None
        formula, *told = (arrays.expanded(f) for f in (self.formula, *self.tracked))
        sure = certain(formula)
        judged, tracked = [], []
        for atom in dict.fromkeys(a for f in (formula, *told) for a in atoms(f)):
            child = arrays.child_of(atom)
            if child is None or (atom in sure and not isinstance(atom, Contains)):
                continue
            if child.kind <= TRUE.kind and not isinstance(atom, ItemAmong):
                continue
            judged.append(atom)
            tracked.append(child)
        return Item(self, goal, tuple(judged), tuple(tracked))

    @property
    def is_recorded(self) -> bool:
        """Whether the items' values matter to later ones."""
        return any(isinstance(a, Unique) for f in (self.formula, *self.tracked) for a in atoms(f))

    @property
    def surely_goes_on(self) -> bool:
        """Whether another item can come, whatever the values were that could not be told."""
        if not self.unknown:
            return self.item is not None
        if self.verdict() is None:
            return True  # It was entered because it can be finished, and so it can go on.
        return self.item is not None and self._arrays.satisfiable.has_at_least(self.item.goal, self.unknown + 1)

    @property
    def unknown(self) -> int:
        """How many items have come whose values matter and could not be told."""
        found = (a.unknown for f in (self.formula, *self.tracked) for a in atoms(f) if isinstance(a, Unique))
        return max(found, default=0)

    def surely_takes(self, kind: str) -> bool:
        """Whether the next item can be of this type, whatever the values were that could not be told."""
        if not self.unknown or self.item is None:
            return self.item is not None
        typed = self._arrays.pool.literal(OfType(frozenset([kind])))
        goal = self._arrays.pool.all_of([self.item.goal, typed])
        return self._arrays.satisfiable.has_at_least(goal, self.unknown + 1)

    def after(self, judged: tuple[Any, ...], verdict: tuple[bool, ...], value: Constant | None = None) -> "ArrayFrame":
        """The frame after an item with this verdict on the judged atoms; `value`: what it was, where that matters."""
        arrays = self._arrays
        truth = dict(zip(judged, verdict, strict=True))
        memo: dict[int, Formula] = {}
        formula = arrays.step(arrays.expanded(self.formula), truth, memo, value)
        tracked = tuple(arrays.step(arrays.expanded(f), truth, memo, value) for f in self.tracked)
        return arrays.frame(formula, tracked, recorded=self.recorded)


def at_close(atom: Any) -> bool:
    """An array atom's value when nothing more comes."""
    if isinstance(atom, (ItemCount, Contains)):
        return atom.least == 0
    if isinstance(atom, OneOfArrays):
        return () in atom.values
    return True


class Arrays:
    """The interned array frames of one grammar."""

    def __init__(self, pool: Formulas, satisfiable: Judge) -> None:
        self.pool = pool
        self.satisfiable = satisfiable
        self._frames: dict[tuple[int, tuple[int, ...], bool], ArrayFrame] = {}

    def frame(self, formula: Formula, tracked: tuple[Formula, ...], *, recorded: bool = False) -> ArrayFrame:
        """The interned frame."""
        key = (formula.number, tuple(f.number for f in tracked), recorded)
        found = self._frames.get(key)
        if found is None:
            found = self._frames[key] = ArrayFrame(self, len(self._frames), formula, tracked, recorded=recorded)
        return found

    def child_of(self, atom: Any) -> Formula | None:
        """What an atom asks of the next item, or None if it does not look at items."""
        if isinstance(atom, Items):
            return item_child(atom)
        if isinstance(atom, Unique):
            return self.pool.negate(equal_to(self.pool, atom.seen))
        if isinstance(atom, ItemAmong):
            return equal_to(self.pool, atom.values)
        return atom.item.formula() if isinstance(atom, Contains) else None

    def expanded(self, formula: Formula) -> Formula:
        """The formula as the next item sees it: lists of whole arrays told apart by their first items."""
        found: Formula | None = formula.memo.get("expanded")
        if found is None:
            pool = self.pool
            found = formula.memo["expanded"] = pool.replace(
                formula, lambda a: _begun(pool, a) if isinstance(a, OneOfArrays) else None, {}
            )
        return found

    def step(
        self, formula: Formula, truth: dict[Any, bool], memo: dict[int, Formula], value: Constant | None = None
    ) -> Formula:
        """The expanded formula after an item; atoms about items that `truth` leaves out were satisfied (or certain)."""
        pool = self.pool

        def change(atom: Any) -> Formula | None:
            if isinstance(atom, ItemCount):
                return _counted(pool, atom)
            holds = truth.get(atom)
            if isinstance(atom, Items):
                holds = item_child(atom) is not FALSE if holds is None else holds
                return _moved(pool, atom) if holds else FALSE
            if isinstance(atom, Contains):
                holds = atom.item.formula() is TRUE if holds is None else holds
                return _contained(pool, atom) if holds else None
            if isinstance(atom, ItemAmong):
                return FALSE if holds is False else pool.literal(OneOfArrays(atom.then))
            if isinstance(atom, Unique):
                return FALSE if holds is False else _seen(pool, atom, value)
            raise UnsupportedConstraint(f"an atom about arrays that items do not move: {atom}")

        return pool.replace(formula, change, memo)

    def asked(self, formula: Formula) -> Formula:
        """What the next item must satisfy so that the array can still be finished."""
        found = formula.memo.get("asked")
        if found is None:
            doubts = self.satisfiable.doubts
            found = self._asked(formula)
            if self.satisfiable.doubts == doubts:
                formula.memo["asked"] = found
        return found

    def _asked(self, formula: Formula) -> Formula:
        judge, found = self.satisfiable, list[Formula]()
        for way in conjuncts(self.pool, self.expanded(formula)):
            found += judge.attempt(partial(self._asked_by, way), list[Formula]())
        return self.pool.any_of(found)

    def _asked_by(self, way: Conjunct) -> list[Formula]:
        """What one way to finish asks of the next item: one goal for each course that it can take."""
        pool = self.pool
        sure = [self.child_of(a) or TRUE for a in way.positive if isinstance(a, (Items, Unique, ItemAmong))]
        if FALSE in sure:
            return []
        repeated = _to_repeat(way)
        if repeated is not None:
            return self._asked_to_repeat(way, repeated)
        looking: list[Any] = [a for a in (*way.positive, *way.negative) if isinstance(a, Contains)]
        looking += [a for a in way.negative if isinstance(a, Items)]
        if len(looking) > MAX_LOOKING:
            raise GrammarTooLarge(f"more than {MAX_LOOKING} contains or negated item schemas at once")
        among = [a for a in way.negative if isinstance(a, ItemAmong)]
        whole = _whole(pool, way, without=ItemAmong)
        children = [self.child_of(a) or TRUE for a in looking]
        is_unique = any(isinstance(a, Unique) for a in way.positive)
        courses: list[tuple[tuple[bool, ...], Formula, list[tuple[Any, ...]]]] = []
        for verdict in combinations((False, True), repeat=len(looking)):
            after = self.step(whole, dict(zip(looking, verdict, strict=True)), {})
            now = self._to_differ_now(after, among)
            if now:
                courses.append((verdict, after, now))
        if not is_unique and len(courses) == 1 << len(looking) and all(now == [()] for _, _, now in courses):
            return [pool.all_of(sure)]
        goals = []
        for verdict, after, now in courses:
            picked = [c if yes else pool.negate(c) for c, yes in zip(children, verdict, strict=True)]
            for chosen in now:
                differing = [pool.negate(equal_to(pool, a.values)) for a in chosen]
                goal = pool.all_of([*sure, *picked, *differing])
                goals.append(self._leaving_room(after, goal) if is_unique else goal)
        return goals

    def _asked_to_repeat(self, way: Conjunct, repeated: Unique) -> list[Formula]:
        """As `_asked_by`, where some item has still to be equal to another."""
        pool = self.pool
        goals = []
        for goal, following in self.options(_whole(pool, way, without=Unique)):
            if following is FALSE:
                continue
            if self.feasible(following):
                goals.append(pool.all_of([goal, equal_to(pool, repeated.seen)]))
            if self._repeats(following, [equal_to(pool, repeated.seen)]):
                goals.append(goal)
            else:
                goals.append(pool.all_of([goal, pool.any_of(self._later(following))]))
        return [goal for goal in goals if goal is not FALSE and self.satisfiable(goal)]

    def _repeats(self, formula: Formula, earlier: list[Formula]) -> bool:
        """Whether the array can be finished so that an item equals one of the earlier ones, or another."""
        todo = [(formula, earlier, _horizon(formula))]
        while todo:
            current, goals, left = todo.pop()
            for goal, following in self.options(current):
                if following is FALSE:
                    continue
                both = self.pool.all_of([goal, self.pool.any_of(goals)])
                if both is not FALSE and self.satisfiable(both) and self.feasible(following):
                    return True
                if left:
                    todo.append((following, [*goals, goal], left - 1))
        return False

    def _later(self, formula: Formula) -> list[Formula]:
        """What later items can be, each in some array that can be finished."""
        found: dict[Formula, None] = {}
        todo = [(formula, _horizon(formula))]
        for current, left in todo:
            for goal, following in self.options(current):
                if following is not FALSE and self.feasible(following):
                    found[goal] = None
                if following is not FALSE and left:
                    todo.append((following, left - 1))
        return list(found)

    def _to_differ_now(self, after: Formula, among: list[ItemAmong]) -> list[tuple[ItemAmong, ...]]:
        """The least sets of constants that the next item must differ from, given what then remains; none: no way."""
        if after is FALSE:
            return []

        def later(atoms_left: list[ItemAmong]) -> bool:
            unlike = (self.pool.literal(OneOfArrays(a.then), False) for a in atoms_left)
            return self.feasible(self.pool.all_of([after, *unlike]))

        if not among:
            return [()] if self.feasible(after) else []
        must = [a for a in among if not later([a])]
        others = [a for a in among if a not in must]
        sets = least_sets(others, lambda now: later([a for a in others if a not in now]))
        return [(*must, *more) for more in sets]

    def _leaving_room(self, following: Formula, goal: Formula) -> Formula:
        """The goal without values that required later items need for themselves, where items must differ."""
        path = None if goal is FALSE or following is FALSE else self._path(following)
        if not path:
            return goal
        # A goal with more values than there are goals can be met last, whatever the others and this item took.
        lists = [self.satisfiable.values(g, len(path)) for g in dict.fromkeys(path)]
        needed = sorted({value for found in lists if found is not None for value in found}, key=repr)
        bad = [v for v in needed if not self.feasible(told(self.pool, following, v))]
        return self.pool.all_of([goal, self.pool.negate(equal_to(self.pool, bad))])

    def feasible(self, formula: Formula) -> bool:
        """Whether an array of which `formula` remains can be finished."""
        if formula.kind <= TRUE.kind:
            return formula is TRUE
        found = formula.memo.get("feasible")
        if found is None:
            attempt, doubts = self.satisfiable.attempt, self.satisfiable.doubts
            found = any(attempt(partial(self._finish, way), otherwise=False) for way in conjuncts(self.pool, formula))
            if found or self.satisfiable.doubts == doubts:
                formula.memo["feasible"] = found
        return found

    def _finish(self, way: Conjunct) -> bool:
        repeated = _to_repeat(way)
        if repeated is not None:
            return self._repeats(_whole(self.pool, way, without=Unique), [equal_to(self.pool, repeated.seen)])
        same = [frozenset(a.values) for a in way.positive if isinstance(a, OneOfArrays)]
        unlike = frozenset(v for a in way.negative if isinstance(a, OneOfArrays) for v in a.values)
        rest = _whole(self.pool, way, without=OneOfArrays)
        if same:
            return any(self._fits(rest, value) for value in frozenset.intersection(*same) - unlike)
        if not unlike:
            return self._path(rest) is not None
        longer = ItemCount(1 + max(map(len, unlike)), None)
        if self._path(self.pool.all_of([rest, self.pool.literal(longer)])) is not None:
            return True
        return self._can_differ(rest, list(unlike))

    def _fits(self, rest: Formula, value: Constants) -> bool:
        """Whether exactly these items can come."""
        if not value:
            return evaluate(rest, at_close)
        equal = equal_to(self.pool, value[:1])
        return any(
            following is not FALSE
            and self.satisfiable(self.pool.all_of([goal, equal]))
            and self._fits(told(self.pool, following, value[0]), value[1:])
            for goal, following in self.options(rest)
        )

    def _can_differ(self, rest: Formula, constants: list[Constants]) -> bool:
        """Whether the array can be finished as none of these: along those that are equal so far."""
        if evaluate(rest, at_close) and () not in constants:
            return True
        values = {c[0] for c in constants if c}
        pool = self.pool
        for goal, following in self.options(rest):
            if following is FALSE:
                continue
            other = pool.all_of([goal, pool.negate(equal_to(pool, values))])
            if self.satisfiable(other) and self.feasible(following):
                return True
            for value in values:
                left = [c[1:] for c in constants if c and c[0] == value]
                if self.satisfiable(pool.all_of([goal, equal_to(pool, [value])])) and self._can_differ(
                    told(pool, following, value), left
                ):
                    return True
        return False

    def _path(self, formula: Formula) -> list[Formula] | None:
        """Goals of the fewest items that finish an array of which `formula` remains; None if nothing does."""
        before: dict[Formula, tuple[Formula, Formula] | None] = {formula: None}
        todo, unique = [formula], next((a for a in certain(formula) if isinstance(a, Unique)), None)
        # Of two states that differ only in how many more items may come, the one met first can do all that the other
        # can: otherwise `maxItems: 1000` would be a thousand states. (Where items must differ, the way there matters.)
        seen = {_unbounded(self.pool, formula)}
        for current in todo:
            if evaluate(current, at_close):
                goals = _back(before, current)
                if unique is None:
                    _note_feasible(before, current)
                if unique is None or can_be_distinct(self.satisfiable, goals, unique.seen):
                    return goals
            for goal, following in self.options(current):
                if following is FALSE or following in before:
                    continue
                state = following if unique is not None else _unbounded(self.pool, following)
                if state not in seen:
                    seen.add(state)
                    before[following] = (current, goal)
                    todo.append(following)
            if len(todo) > MAX_SEARCH:
                raise GrammarTooLarge(f"an array whose completion takes more than {MAX_SEARCH} steps to find")
        return None

    def options(self, formula: Formula) -> list[tuple[Formula, Formula]]:
        """(what the item satisfies, the formula afterwards) for each way in which one more item can go."""
        pool = self.pool
        held = certain(formula)
        sure = [self.child_of(a) or TRUE for a in held if isinstance(a, (Items, Unique))]
        if FALSE in sure:
            return []
        looking = [a for a in atoms(formula) if isinstance(a, (Contains, Items, Unique))]
        open_atoms = [a for a in looking if isinstance(a, Contains) or a not in held]
        children = [self.child_of(a) or TRUE for a in open_atoms]
        if len(open_atoms) > MAX_LOOKING:
            raise GrammarTooLarge(f"more than {MAX_LOOKING} contains or negated item schemas at once")
        found = []
        for verdict in combinations((True, False), repeat=len(open_atoms)):
            picked = [c if yes else pool.negate(c) for c, yes in zip(children, verdict, strict=True)]
            goal = pool.all_of([*sure, *picked])
            if goal is not FALSE and self.satisfiable(goal):
                found.append((goal, self.step(formula, dict(zip(open_atoms, verdict, strict=True)), {})))
        return found

    def shortest(self, formula: Formula) -> list[Formula]:
        """Goals of the fewest items that finish an array of which `formula` remains, constants to differ from aside."""
        pool = self.pool
        rest = pool.replace(formula, lambda a: FALSE if isinstance(a, OneOfArrays) else None, {})
        return self._path(rest) or []


def _horizon(formula: Formula) -> int:
    """After so many items two more are as good as any others."""
    return 1 + max((len(a.prefix) - a.at for a in atoms(formula) if isinstance(a, Items)), default=0)


def _unbounded(pool: Formulas, formula: Formula) -> Formula:
    """The formula without what it says of the most items that may come."""
    args = formula.args if formula.kind is Kind.AND else (formula,)
    return pool.all_of(_without_most(pool, each) for each in args)


def _without_most(pool: Formulas, formula: Formula) -> Formula:
    atom = formula.atom
    if not isinstance(atom, ItemCount) or not formula.positive or atom.most is None:
        return formula
    return pool.literal(ItemCount(atom.least, None)) if atom.least else TRUE


def _note_feasible(before: dict[Formula, tuple[Formula, Formula] | None], last: Formula) -> None:
    """What a way to the end passes through can be finished: a thousand items are then not searched for each of them."""
    step = before[last]
    while step is not None:
        if not any(isinstance(a, OneOfArrays | ItemAmong) for a in atoms(step[0])):
            step[0].memo["feasible"] = True
        step = before[step[0]]


def _back(before: dict[Formula, tuple[Formula, Formula] | None], current: Formula) -> list[Formula]:
    goals: list[Formula] = []
    link = before[current]
    while link is not None:
        goals.append(link[1])
        link = before[link[0]]
    return goals[::-1]


def _whole(pool: Formulas, way: Conjunct, *, without: type) -> Formula:
    """The conjunct as a formula, its atoms of one kind left out."""
    return pool.all_of(
        [
            *(pool.literal(a) for a in way.positive if not isinstance(a, without)),
            *(pool.literal(a, False) for a in way.negative if not isinstance(a, without)),
        ]
    )


def _to_repeat(way: Conjunct) -> Unique | None:
    """The uniqueness that the array must not have: two of its items are equal, or one equals what was seen."""
    found = [a for a in way.negative if isinstance(a, Unique)]
    if len(found) > 1 or (found and any(isinstance(a, (OneOfArrays, ItemAmong)) for a in way.negative)):
        raise UnsupportedConstraint("several negated uniqueItems of one array", keyword="uniqueItems")
    return found[0] if found else None


def _begun(pool: Formulas, atom: OneOfArrays) -> Formula:
    """The arrays that have a first item, by what follows it."""
    rests: dict[Constant, set[Constants]] = {}
    for value in atom.values:
        if value:
            rests.setdefault(value[0], set()).add(value[1:])
    groups: dict[frozenset[Constants], set[Constant]] = {}
    for first, found in rests.items():
        groups.setdefault(frozenset(found), set()).add(first)
    return pool.any_of(pool.literal(ItemAmong(frozenset(firsts), then)) for then, firsts in groups.items())


def _seen(pool: Formulas, atom: Unique, value: Constant | None) -> Formula | None:
    if value is None:
        return None
    if value is UNKNOWN:
        return pool.literal(Unique(atom.seen, atom.unknown + 1))
    return pool.literal(Unique(atom.seen | {value}, atom.unknown))


def told(pool: Formulas, formula: Formula, value: Constant) -> Formula:
    """A formula that was moved by an item of unknown value, now that it is known."""
    return pool.replace(formula, lambda a: _seen(pool, a, value) if isinstance(a, Unique) else None, {})
