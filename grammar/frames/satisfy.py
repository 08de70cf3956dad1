"""Whether any value satisfies a formula: by type, strings and numbers by their automata, objects and arrays by frames.

Recursion starts from "no": a value that can only be finished by containing itself cannot be finished. A "yes" is always
remembered, for it names a finite value. A "no" that rested on an unfinished question is presumed until that question is
answered, and asked again if something that was taken for false meanwhile turned out true: the least fixed point, where
asking each time anew would take exponential time in schemas whose parts all refer to each other.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from grammar.errors import GrammarError, GrammarTooLarge
from grammar.formula import TRUE, Formula, Formulas, Kind, atoms, evaluate, pointer_of, satisfying
from grammar.frames.arrays import Arrays
from grammar.frames.arrays import at_close as empty_array
from grammar.frames.languages import Machine, derived_apart, holds, number_machine, string_machine
from grammar.frames.listing import values
from grammar.frames.members import Judge, is_text
from grammar.frames.members import at_close as empty_object
from grammar.frames.objects import Objects
from grammar.frames.plainly import plainly_some
from grammar.schema.atoms import TYPES, Constant, OneOfStrings, Pattern, possible_types, restrict
from grammar.schema.documents import SCHEMA_LISTS

T = TypeVar("T")
MAX_QUESTIONS = 60
MAX_TRIED = 100
"""So many listed texts are tried on patterns before an automaton is made of both."""
MAX_JUDGED = 20_000
"""Decisions about one value before the constraint is refused: seconds of work, that no mask should take."""


class Satisfiability(Judge):
    """The judge of one grammar. Answers are kept in the formulas' memos."""

    def __init__(self, pool: Formulas, *, ordered: bool, strict: bool) -> None:
        super().__init__()
        self.pool = pool
        self.objects = Objects(pool, self, ordered=ordered, strict=strict)
        self.arrays = Arrays(pool, self)
        self.patience: int | None = MAX_JUDGED
        """How many more answers may be worked out while the constraint is compiled; None: it is."""
        self._open: dict[int, int] = {}
        """The questions that are being answered, and at which level."""
        self._presumed: dict[int, int] = {}
        """What was found false as far as the questions above go, and the lowest level of those that it rests on."""
        self._listing: set[Formula] = set()
        self._order: list[int] = []
        self._doubted: set[int] = set()
        self.asked: list[Formula] = []
        """The values that are asked about, the innermost last."""
        self._surprises = 0
        """How many questions were answered with yes after they had been taken for false."""
        self._lowest = 1 << 30

    def __call__(self, formula: Formula) -> bool:
        """Whether some value satisfies the formula."""
        if formula.kind <= Kind.TRUE:
            return formula is TRUE
        known = formula.memo.get("sat")
        if known is not None:
            return bool(known)
        rests_on = self._open.get(formula.number, self._presumed.get(formula.number))
        if rests_on is not None:
            self._lowest = min(self._lowest, rests_on)
            self._doubted.add(formula.number)
            self.doubts += 1
            return False
        return self._settle(formula)

    def _settle(self, formula: Formula) -> bool:
        """Ask, and ask again as long as something that was presumed false on the way turned out true."""
        level, outer, doubts, presumed = len(self._open), self._lowest, self.doubts, len(self._order)
        types = possible_types(formula)
        if level > MAX_QUESTIONS:
            raise GrammarTooLarge(f"required values nest deeper than {MAX_QUESTIONS}")
        while True:
            surprises, self._lowest = self._surprises, 1 << 30
            self._open[formula.number] = level
            self.asked.append(formula)
            try:
                found = any(self.may_be(formula, t) for t in reversed(TYPES) if t in types)
            except GrammarError:
                self._forget(presumed)
                self._lowest = min(outer, self._lowest)
                raise
            finally:
                del self._open[formula.number]
                self.asked.pop()
            if not found and self._lowest < level:
                # It rests on a question that is still open: no, as far as that one is not answered.
                self._presume(formula, presumed)
                self._lowest = min(outer, self._lowest)
                return False
            self._forget(presumed)
            if found or self._surprises == surprises:
                break
        self._lowest, self.doubts = outer, doubts  # What was in doubt is settled with it.
        formula.memo["sat"] = found
        if found and formula.number in self._doubted:
            self._surprises += 1
        if not self._open:
            self._doubted.clear()
        return found

    def _presume(self, formula: Formula, since: int) -> None:
        """Take the formula for false; what was presumed on the way to it rests on all that it rests on."""
        self._presumed[formula.number] = self._lowest
        self._order.append(formula.number)
        for number in self._order[since:]:
            self._presumed[number] = min(self._presumed[number], self._lowest)

    def _forget(self, count: int) -> None:
        """Keep only the first so many presumptions: what the later ones rested on is no longer asked."""
        for number in self._order[count:]:
            del self._presumed[number]
        del self._order[count:]

    def values(self, formula: Formula, most: int) -> frozenset[Constant] | None:
        """All values that satisfy the formula; None if they are more than `most`."""
        key = ("values", most)
        if key in formula.memo:
            known: frozenset[Constant] | None = formula.memo[key]
            return known
        if formula in self._listing:  # one of its values can stand inside of another: there is no end to them
            return None
        doubts = self.doubts
        self._listing.add(formula)
        try:
            found = values(self, formula, most)
        finally:
            self._listing.discard(formula)
        if self.doubts == doubts:
            formula.memo[key] = found
        return found

    def may_be(self, formula: Formula, kind: str) -> bool:
        """As `of_type`; no, and noted, if a limit is met."""
        return self.attempt(lambda: self.of_type(formula, kind), otherwise=False)

    def of_type(self, formula: Formula, kind: str) -> bool:
        """Whether some value of this type satisfies the formula."""
        asked = restrict(self.pool, formula, kind)
        if asked.kind <= Kind.TRUE:
            return asked is TRUE
        key = ("sat", kind)
        known = asked.memo.get(key)
        if known is not None:
            return bool(known)
        self.spend()
        doubts = self.doubts
        match kind:
            case "string":
                listed = True if plainly_some(asked) or derived_apart(self.pool, asked)[1] else _by_lists(asked)
                found = not self.string(asked).is_empty if listed is None else listed
            case "number":
                found = plainly_some(asked) or not self.number(asked).is_empty
            case "object":
                found = evaluate(asked, empty_object) or self.objects.start(asked, ()).feasible
            case "array":
                found = evaluate(asked, empty_array) or self.arrays.frame(asked, ()).feasible
            case _:
                return False
        if found or self.doubts == doubts:
            asked.memo[key] = found
        return found

    def string(self, asked: Formula) -> Machine:
        """The automaton of the strings that satisfy a formula about strings, made once."""
        found: Machine | None = asked.memo.get("string")
        if found is None:
            found = asked.memo["string"] = string_machine(self.pool, asked, (), _zero)
        return found

    def number(self, asked: Formula) -> Machine:
        """As `string`, for numbers."""
        found: Machine | None = asked.memo.get("number")
        if found is None:
            found = asked.memo["number"] = number_machine(self.pool, asked, (), _zero)
        return found

    def attempt(self, question: Callable[[], T], otherwise: T) -> T:
        """As `Judge.attempt`; a limit is told with the place of the value that was asked about."""
        before = len(self.failures)
        found = super().attempt(question, otherwise)
        for at in range(before, len(self.failures)):
            self.failures[at] = self._located(self.failures[at])
        return found

    def _located(self, error: GrammarError) -> GrammarError:
        known = () if error.pointer else (pointer_of(formula) for formula in reversed(self.asked))
        pointer = next((found for found in known if found), None)
        if pointer is None:
            return error
        last = pointer.rpartition("/")[2]
        keyword = error.keyword or (last if last in SCHEMA_LISTS else None)
        return type(error)(error.message, pointer=pointer, keyword=keyword, reason=error.reason)

    def spend(self) -> None:
        """Count one decision, while the constraint is compiled."""
        if self.patience is None:
            return
        self.patience -= 1
        if self.patience < 0:
            raise GrammarTooLarge(f"what may come in one value takes more than {MAX_JUDGED} decisions to tell")


def _by_lists(formula: Formula) -> bool | None:
    """Whether some text satisfies a formula, as far as its lists of texts tell; None: an automaton has to."""
    lists = [atom for atom in atoms(formula) if isinstance(atom, OneOfStrings)]
    patterns = [atom for atom in atoms(formula) if isinstance(atom, Pattern)]
    if len(lists) + len(patterns) < len(atoms(formula)):
        return None
    if not patterns and evaluate(formula, lambda _: False):
        return True  # There is always a text in none of the lists.
    texts = frozenset(text for atom in lists for text in atom.values if is_text(text))
    if patterns and len(texts) > MAX_TRIED:
        return None

    def of(atom: Any) -> frozenset[str]:
        return atom.values if isinstance(atom, OneOfStrings) else frozenset(t for t in texts if holds(atom, t))

    return True if satisfying(formula, of, texts) else None if patterns else False


def _zero(_: tuple[bool, ...]) -> int:
    return 0  # as `Labels` numbers the verdict on nothing
