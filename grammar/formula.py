"""Boolean formulas over what can be true of one JSON value, hash-consed so that equal formulas are one object.

Kept in negation normal form: TRUE, FALSE, literals (an atom or its negation), AND, OR, and ONE (exactly one of), which
is kept whole because its normal form is quadratic. Nothing here knows what an atom means; see `grammar.schema.atoms`.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from enum import IntEnum
from typing import Any, Final

from grammar.errors import GrammarTooLarge


class Kind(IntEnum):
    """What a formula is made of."""

    FALSE = 0
    TRUE = 1
    LITERAL = 2
    AND = 3
    OR = 4
    ONE = 5
    NONE_OR_MANY = 6
    """The negation of ONE."""


class Formula:
    """One interned formula; compare by identity."""

    __slots__ = ("__weakref__", "args", "atom", "kind", "memo", "number", "positive")

    def __init__(
        self, kind: Kind, number: int, args: "tuple[Formula, ...]" = (), atom: Any = None, positive: bool = True
    ) -> None:
        self.kind = kind
        self.number = number
        self.args = args
        self.atom = atom
        self.positive = positive
        self.memo: dict[Any, Any] = {}

    def __repr__(self) -> str:
        if self.kind is Kind.LITERAL:
            return f"{'' if self.positive else '¬'}{self.atom}"
        return f"{self.kind.name}({', '.join(map(repr, self.args))})" if self.args else self.kind.name


class _NoMemo(dict[Any, Any]):
    """Remembers nothing: the two constants are shared by all grammars, whose answers must not mix."""

    def __setitem__(self, key: Any, value: Any) -> None:
        return


TRUE: Final = Formula(Kind.TRUE, 1)
FALSE: Final = Formula(Kind.FALSE, 0)
TRUE.memo = _NoMemo()
FALSE.memo = _NoMemo()

POINTER: Final = "pointer"
"""In a formula's memo: where the first subschema stands that asserts just this."""
MAX_BRANCHES: Final = 4096
MAX_CLAUSES: Final = 600
"""So many clauses in all branches together: twenty-five alternatives that are each negated beside the others."""
MAX_STEPS: Final = 20_000
"""Choices tried on the way to the branches, most of which may contradict themselves or repeat: some seconds of work."""


class Conjunct:
    """One way to satisfy a formula: atoms that must hold and atoms that must fail."""

    __slots__ = ("clauses", "negative", "positive")

    def __init__(
        self, positive: frozenset[Any], negative: frozenset[Any], clauses: frozenset[Formula] = frozenset()
    ) -> None:
        self.positive = positive
        self.negative = negative
        self.clauses = clauses
        """Disjunctions that must hold and were left whole."""

    def __repr__(self) -> str:
        return " ∧ ".join([*map(str, self.positive), *(f"¬{a}" for a in self.negative)]) or "⊤"


class Formulas:
    """The pool in which formulas of one grammar are interned. Atoms must be hashable values."""

    def __init__(self) -> None:
        self._literals: dict[tuple[Any, bool], Formula] = {}
        self._compounds: dict[tuple[Kind, tuple[int, ...]], Formula] = {}
        self._count = 2

    @property
    def literals(self) -> Collection[tuple[Any, bool]]:
        """Every atom so far, and whether it was asked for or denied."""
        return self._literals.keys()

    def literal(self, atom: Any, positive: bool = True) -> Formula:
        """The formula that `atom` holds (or fails)."""
        found = self._literals.get((atom, positive))
        if found is None:
            self._count += 1
            found = self._literals[atom, positive] = Formula(Kind.LITERAL, self._count, atom=atom, positive=positive)
        return found

    def all_of(self, formulas: Iterable[Formula]) -> Formula:
        """AND, flattened, sorted, without repeats; FALSE if it contains a literal and its negation."""
        return self._junction(Kind.AND, formulas, TRUE, FALSE)

    def any_of(self, formulas: Iterable[Formula]) -> Formula:
        """OR, likewise."""
        return self._junction(Kind.OR, formulas, FALSE, TRUE)

    def one_of(self, formulas: Iterable[Formula]) -> Formula:
        """Exactly one holds; repeats count."""
        args = [f for f in formulas if f is not FALSE]
        certain = sum(f is TRUE for f in args)
        rest = [f for f in args if f is not TRUE]
        if certain > 1:
            return FALSE
        if certain == 1:
            return self.all_of(self.negate(f) for f in rest)
        # A branch given twice can only fail both times.
        repeated = {number for number, count in Counter(f.number for f in rest).items() if count > 1}
        single = [f for f in rest if f.number not in repeated]
        failed = [self.negate(f) for f in dict.fromkeys(rest) if f.number in repeated]
        if not single:
            return FALSE
        chosen = single[0] if len(single) == 1 else self._compound(Kind.ONE, single)
        return self.all_of([chosen, *failed])

    def negate(self, formula: Formula) -> Formula:
        """NOT, pushed down to the literals."""
        found = formula.memo.get("not")
        if found is None:
            found = formula.memo["not"] = self._negated(formula)
            found.memo["not"] = formula
        return found

    def _negated(self, formula: Formula) -> Formula:
        match formula.kind:
            case Kind.TRUE:
                return FALSE
            case Kind.FALSE:
                return TRUE
            case Kind.LITERAL:
                return self.literal(formula.atom, not formula.positive)
            case Kind.AND:
                return self.any_of(self.negate(f) for f in formula.args)
            case Kind.OR:
                return self.all_of(self.negate(f) for f in formula.args)
            case Kind.ONE:
                return self._compound(Kind.NONE_OR_MANY, formula.args)
            case _:
                return self._compound(Kind.ONE, formula.args)

    def replace(self, formula: Formula, change: Callable[[Any], Formula | None], memo: dict[int, Formula]) -> Formula:
        """The formula with every atom a replaced by change(a) (None: kept); `memo` is the caller's, one per change."""
        if formula.kind <= Kind.TRUE:
            return formula
        found = memo.get(formula.number)
        if found is not None:
            return found
        if formula.kind is Kind.LITERAL:
            new = change(formula.atom)
            result = formula if new is None else new if formula.positive else self.negate(new)
        else:
            result = self.rebuilt(formula, [self.replace(f, change, memo) for f in formula.args])
        memo[formula.number] = result
        return result

    def rebuilt(self, formula: Formula, args: list[Formula]) -> Formula:
        """The compound formula with other arguments, in the same order."""
        if all(a is b for a, b in zip(args, formula.args, strict=True)):
            return formula
        if formula.kind is Kind.AND:
            return self.all_of(args)
        if formula.kind is Kind.OR:
            return self.any_of(args)
        if formula.kind is Kind.ONE:
            return self.one_of(args)
        return self.negate(self.one_of(args))

    def _compound(self, kind: Kind, args: Iterable[Formula]) -> Formula:
        ordered = tuple(sorted(args, key=lambda f: f.number))
        key = (kind, tuple(f.number for f in ordered))
        found = self._compounds.get(key)
        if found is None:
            self._count += 1
            found = self._compounds[key] = Formula(kind, self._count, ordered)
        return found

    def _junction(self, kind: Kind, formulas: Iterable[Formula], unit: Formula, zero: Formula) -> Formula:
        args: dict[int, Formula] = {}
        for formula in formulas:
            if formula is zero:
                return zero
            if formula is unit:
                continue
            if formula.kind is kind:
                args.update((f.number, f) for f in formula.args)
            else:
                args[formula.number] = formula
        if not args:
            return unit
        if len(args) == 1:
            return next(iter(args.values()))
        for formula in args.values():
            opposite = formula.memo.get("not")
            if opposite is None and formula.kind is Kind.LITERAL:
                opposite = self._literals.get((formula.atom, not formula.positive))
            if opposite is not None and opposite.number in args:
                return zero
        return self._compound(kind, args.values())


def pointer_of(formula: Formula) -> str | None:
    """Where the subschemas stand that the formula is made of: the longest pointer that all of theirs begin with."""
    own: str | None = formula.memo.get(POINTER)
    if own is not None:
        return own
    if formula.kind is Kind.LITERAL:
        placed: str | None = getattr(formula.atom, "pointer", None)
        return placed
    found = [p.split("/") for p in map(pointer_of, formula.args) if p is not None]
    if not found:
        return None
    shared = 0
    while all(len(p) > shared and p[shared] == found[0][shared] for p in found):
        shared += 1
    return "/".join(found[0][:shared])


def atoms(formula: Formula) -> tuple[Any, ...]:
    """Every atom in the formula, once, in a fixed order."""
    found = formula.memo.get("atoms")
    if found is None:
        if formula.kind is Kind.LITERAL:
            found = (formula.atom,)
        else:
            found = tuple(dict.fromkeys(a for f in formula.args for a in atoms(f)))
        formula.memo["atoms"] = found
    return found


def certain(formula: Formula) -> frozenset[Any]:
    """The atoms that hold whenever the formula does: the positive literals among its conjuncts."""
    if formula.kind is Kind.LITERAL:
        return frozenset([formula.atom]) if formula.positive else frozenset()
    if formula.kind is Kind.AND:
        return frozenset(f.atom for f in formula.args if f.kind is Kind.LITERAL and f.positive)
    return frozenset()


def evaluate(formula: Formula, truth: Callable[[Any], bool]) -> bool:
    """The formula's value when every atom's is known."""
    match formula.kind:
        case Kind.TRUE:
            return True
        case Kind.FALSE:
            return False
        case Kind.LITERAL:
            return truth(formula.atom) is formula.positive
        case Kind.AND:
            return all(evaluate(f, truth) for f in formula.args)
        case Kind.OR:
            return any(evaluate(f, truth) for f in formula.args)
        case Kind.ONE:
            return sum(evaluate(f, truth) for f in formula.args) == 1
        case _:
            return sum(evaluate(f, truth) for f in formula.args) != 1


def satisfying(formula: Formula, of: Callable[[Any], frozenset[Any]], everything: frozenset[Any]) -> frozenset[Any]:
    """Which of `everything` satisfy the formula, when `of` says which satisfy an atom: O(sum over the formula)."""
    match formula.kind:
        case Kind.TRUE:
            return everything
        case Kind.FALSE:
            return frozenset()
        case Kind.LITERAL:
            held = of(formula.atom) & everything
            return held if formula.positive else everything - held
        case Kind.AND:
            for part in formula.args:
                everything = satisfying(part, of, everything)
            return everything
        case Kind.OR:
            return frozenset().union(*(satisfying(part, of, everything) for part in formula.args))
        case _:
            counts = Counter(value for part in formula.args for value in satisfying(part, of, everything))
            once = frozenset(value for value, count in counts.items() if count == 1)
            return once if formula.kind is Kind.ONE else everything - once


Whole = Callable[[Formula], bool]
_Branch = tuple[frozenset[Any], frozenset[Any], frozenset[Formula]]


def conjuncts(pool: Formulas, formula: Formula, whole: Whole | None = None) -> list[Conjunct]:
    """The formula's disjunctive normal form without contradictory branches; refused beyond MAX_BRANCHES.

    Disjunctions that are `whole` are not distributed, but left as clauses.
    """
    key = ("dnf", whole)
    found = formula.memo.get(key)
    if found is None:
        unique: dict[_Branch, None] = {}
        steps = iter(range(MAX_STEPS))
        clauses = 0
        for branch in _branches(pool, (formula,), (frozenset(), frozenset()), whole, steps):
            unique[branch] = None
            clauses += len(branch[2])
            if len(unique) > MAX_BRANCHES:
                raise GrammarTooLarge(f"a combination of more than {MAX_BRANCHES} alternatives")
            if clauses > MAX_CLAUSES:
                raise GrammarTooLarge(f"more than {MAX_CLAUSES} negations among alternatives that may hold together")
        found = formula.memo[key] = [Conjunct(*branch) for branch in unique]
    return found


def _branches(
    pool: Formulas,
    todo: tuple[Formula, ...],
    literals: tuple[frozenset[Any], frozenset[Any]],
    whole: Whole | None,
    steps: Iterator[int],
) -> Iterator[_Branch]:
    positive, negative = literals
    if next(steps, None) is None:
        raise GrammarTooLarge(f"alternatives that take more than {MAX_STEPS} steps to tell apart")
    while True:
        split = _split(todo, positive, negative)
        if split is None:
            return
        open_, now_positive, now_negative = split
        # What is decided so far closes most branches of what is open, and satisfies others without a choice.
        decided = len(now_positive) + len(now_negative) > len(positive) + len(negative)
        positive, negative = now_positive, now_negative
        if not open_:
            yield positive, negative, frozenset()
            return
        todo = _decided(pool, open_, positive, negative) if decided else open_
        if all(f is g for f, g in zip(todo, open_, strict=True)):
            break
    divided = [i for i, f in enumerate(todo) if whole is None or not whole(f)]
    if not divided:
        yield positive, negative, frozenset(todo)
        return
    at = min(divided, key=lambda i: len(todo[i].args))
    for choice in _choices(pool, todo[at]):
        yield from _branches(pool, (*choice, *todo[:at], *todo[at + 1 :]), (positive, negative), whole, steps)


def _split(
    todo: tuple[Formula, ...], positive: frozenset[Any], negative: frozenset[Any]
) -> tuple[tuple[Formula, ...], frozenset[Any], frozenset[Any]] | None:
    """The compounds among the formulas and all that their literals decide; None if these contradict each other."""
    open_: dict[int, Formula] = {}
    holding, failing = set(positive), set(negative)
    stack = list(todo)
    while stack:
        formula = stack.pop()
        if formula is FALSE:
            return None
        if formula.kind is Kind.LITERAL:
            if formula.atom in (failing if formula.positive else holding):
                return None
            (holding if formula.positive else failing).add(formula.atom)
        elif formula.kind is Kind.AND:
            stack.extend(formula.args)
        elif formula is not TRUE:
            open_[formula.number] = formula
    return tuple(open_.values()), frozenset(holding), frozenset(failing)


def _decided(
    pool: Formulas, formulas: tuple[Formula, ...], positive: frozenset[Any], negative: frozenset[Any]
) -> tuple[Formula, ...]:
    def known(atom: Any) -> Formula | None:
        return TRUE if atom in positive else FALSE if atom in negative else None

    memo: dict[int, Formula] = {}
    return tuple(pool.replace(f, known, memo) for f in formulas)


def _choices(pool: Formulas, formula: Formula) -> Iterator[tuple[Formula, ...]]:
    if formula.kind is Kind.OR:
        for f in formula.args:
            yield (f,)
    elif formula.kind is Kind.ONE:
        for i, f in enumerate(formula.args):
            yield (f, *(pool.negate(g) for j, g in enumerate(formula.args) if j != i))
    else:
        yield tuple(pool.negate(f) for f in formula.args)
        for i, f in enumerate(formula.args):
            for g in formula.args[i + 1 :]:
                yield (f, g)
