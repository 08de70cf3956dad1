"""An open array: its formula in motion, item by item. Atoms shrink as items come, so the formula is the whole state."""

from itertools import product as combinations
from typing import Any, Final

from grammar.errors import GrammarTooLarge, UnsupportedConstraint
from grammar.formula import FALSE, TRUE, Formula, Formulas, atoms, certain, conjuncts, evaluate
from grammar.frames.members import Judge
from grammar.schema.atoms import Contains, ItemCount, Items, Unique

MAX_SEARCH: Final = 20_000


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

    __slots__ = ("_arrays", "_feasible", "_item", "formula", "number", "tracked")

    def __init__(self, arrays: "Arrays", number: int, formula: Formula, tracked: tuple[Formula, ...]) -> None:
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
        arrays, pool = self._arrays, self._arrays.pool
        goal = arrays.asked(self.formula)
        if goal is FALSE or not arrays.satisfiable(goal):
            return None
        sure = certain(self.formula)
        judged, tracked = [], []
        for atom in dict.fromkeys(a for f in (self.formula, *self.tracked) for a in atoms(f)):
            child = judged_child(atom)
            if child is None or child.kind <= TRUE.kind or (isinstance(atom, (Items, Unique)) and atom in sure):
                continue
            judged.append(atom)
            tracked.append(child)
        del pool
        return Item(self, goal, tuple(judged), tuple(tracked))

    @property
    def is_recorded(self) -> bool:
        """Whether the items' values matter to later ones."""
        return any(isinstance(a, Unique) for f in (self.formula, *self.tracked) for a in atoms(f))

    def after(self, judged: tuple[Any, ...], verdict: tuple[bool, ...], value: Formula | None = None) -> "ArrayFrame":
        """The frame after an item with this verdict on the judged atoms; `value` holds of what equals the item."""
        arrays = self._arrays
        truth = dict(zip(judged, verdict, strict=True))
        memo: dict[int, Formula] = {}
        formula = arrays.step(self.formula, truth, memo, value)
        tracked = tuple(arrays.step(f, truth, memo, value) for f in self.tracked)
        return arrays.frame(formula, tracked)


def unique(pool: Formulas, seen: frozenset[Formula]) -> Formula:
    """The literal that further items differ from those seen and from each other."""
    return pool.literal(Unique(seen, pool.negate(pool.any_of(seen))))


def judged_child(atom: Any) -> Formula | None:
    """What an atom asks of the next item, or None if it does not look at items."""
    if isinstance(atom, Items):
        return item_child(atom)
    if isinstance(atom, Unique):
        return atom.unseen
    return atom.item.formula() if isinstance(atom, Contains) else None


def at_close(atom: Any) -> bool:
    """An array atom's value when nothing more comes."""
    if isinstance(atom, (ItemCount, Contains)):
        return atom.least == 0
    return True


class Arrays:
    """The interned array frames of one grammar."""

    def __init__(self, pool: Formulas, satisfiable: Judge) -> None:
        self.pool = pool
        self.satisfiable = satisfiable
        self._frames: dict[tuple[int, tuple[int, ...]], ArrayFrame] = {}

    def frame(self, formula: Formula, tracked: tuple[Formula, ...]) -> ArrayFrame:
        """The interned frame."""
        key = (formula.number, tuple(f.number for f in tracked))
        found = self._frames.get(key)
        if found is None:
            found = self._frames[key] = ArrayFrame(self, len(self._frames), formula, tracked)
        return found

    def step(
        self, formula: Formula, truth: dict[Any, bool], memo: dict[int, Formula], value: Formula | None = None
    ) -> Formula:
        """The formula after an item; atoms about items that `truth` leaves out were satisfied (or certain)."""
        pool = self.pool

        def change(atom: Any) -> Formula | None:
            if isinstance(atom, ItemCount):
                return _counted(pool, atom)
            if isinstance(atom, Items):
                holds = truth.get(atom)
                if holds is None:
                    holds = item_child(atom) is not FALSE
                return _moved(pool, atom) if holds else FALSE
            if isinstance(atom, Contains):
                holds = truth.get(atom)
                if holds is None:
                    holds = atom.item.formula() is TRUE
                return _contained(pool, atom) if holds else None
            if isinstance(atom, Unique):
                if not truth.get(atom, True):
                    return FALSE
                return None if value is None else unique(pool, atom.seen | {value})
            raise UnsupportedConstraint(f"an atom about arrays that items do not move: {atom}")

        return pool.replace(formula, change, memo)

    def asked(self, formula: Formula) -> Formula:
        """What the next item must satisfy so that the array can still be finished."""
        found = formula.memo.get("asked")
        if found is None:
            found = self._asked(formula)
            if not self.satisfiable.busy:
                formula.memo["asked"] = found
        return found

    def _asked(self, formula: Formula) -> Formula:
        pool = self.pool
        goals = []
        for way in conjuncts(pool, formula):
            sure = [judged_child(a) or TRUE for a in way.positive if isinstance(a, (Items, Unique))]
            if any(isinstance(a, Unique) for a in way.negative):
                raise UnsupportedConstraint("uniqueItems under a negation cannot be enforced", keyword="uniqueItems")
            if FALSE in sure:
                continue
            open_atoms: list[Any] = [a for a in (*way.positive, *way.negative) if isinstance(a, Contains)]
            open_atoms += [a for a in way.negative if isinstance(a, Items)]
            if len(open_atoms) > 8:
                raise GrammarTooLarge("more than 8 contains or negated item schemas at once")
            whole = pool.all_of(
                [*(pool.literal(a) for a in way.positive), *(pool.literal(a, False) for a in way.negative)]
            )
            fine: list[tuple[bool, ...]] = []
            for verdict in combinations((False, True), repeat=len(open_atoms)):
                after = self.step(whole, dict(zip(open_atoms, verdict, strict=True)), {})
                if after is not FALSE and self.feasible(after):
                    fine.append(verdict)
            if len(fine) == 1 << len(open_atoms):
                goals.append(pool.all_of(sure))
                continue
            children = [judged_child(a) or TRUE for a in open_atoms]
            for verdict in fine:
                picked = [c if yes else pool.negate(c) for c, yes in zip(children, verdict, strict=True)]
                goals.append(pool.all_of([*sure, *picked]))
        return pool.any_of(goals)

    def feasible(self, formula: Formula) -> bool:
        """Whether an array of which `formula` remains can be finished."""
        if formula.kind <= TRUE.kind:
            return formula is TRUE
        found = formula.memo.get("feasible")
        if found is None:
            found = any(self._finish(way.positive, way.negative) for way in conjuncts(self.pool, formula))
            if found or not self.satisfiable.busy:
                formula.memo["feasible"] = found
        return found

    def _finish(self, positive: frozenset[Any], negative: frozenset[Any]) -> bool:
        """Search item by item, each item as helpful as can be; simple bounds are answered at once."""
        pool = self.pool
        formula = pool.all_of([*(pool.literal(a) for a in positive), *(pool.literal(a, False) for a in negative)])
        steps = 0
        seen = {formula}
        todo = [formula]
        while todo:
            current = todo.pop()
            if evaluate(current, at_close):
                return True
            for _, following in self.options(current):
                if following not in seen and following is not FALSE:
                    seen.add(following)
                    todo.append(following)
            steps += 1
            if steps > MAX_SEARCH:
                raise GrammarTooLarge(f"an array whose completion takes more than {MAX_SEARCH} steps to find")
        return False

    def options(self, formula: Formula) -> list[tuple[Formula, Formula]]:
        """(what the item satisfies, the formula afterwards) for each way in which one more item can go."""
        pool = self.pool
        held = certain(formula)
        sure = [judged_child(a) or TRUE for a in held if isinstance(a, (Items, Unique))]
        if FALSE in sure:
            return []
        looking = [a for a in atoms(formula) if isinstance(a, (Contains, Items, Unique))]
        open_atoms = [a for a in looking if isinstance(a, Contains) or a not in held]
        children = [judged_child(a) or TRUE for a in open_atoms]
        found = []
        for verdict in combinations((True, False), repeat=len(open_atoms)):
            picked = [c if yes else pool.negate(c) for c, yes in zip(children, verdict, strict=True)]
            goal = pool.all_of([*sure, *picked])
            if goal is not FALSE and self.satisfiable(goal):
                found.append((goal, self.step(formula, dict(zip(open_atoms, verdict, strict=True)), {})))
        return found

    def shortest(self, formula: Formula) -> list[Formula]:
        """Goals of the fewest items that finish an array of which `formula` remains."""
        before: dict[Formula, tuple[Formula, Formula] | None] = {formula: None}
        todo = [formula]
        for current in todo:
            if evaluate(current, at_close):
                goals: list[Formula] = []
                link = before[current]
                while link is not None:
                    goals.append(link[1])
                    link = before[link[0]]
                return goals[::-1]
            for goal, following in self.options(current):
                if following is not FALSE and following not in before:
                    before[following] = (current, goal)
                    todo.append(following)
            if len(todo) > MAX_SEARCH:
                break
        raise GrammarTooLarge(f"an array whose completion takes more than {MAX_SEARCH} steps to find")
