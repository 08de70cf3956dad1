"""Formulas over one string or one number as labelled automata (`Machine`).

A machine's label at the end of a word says which of the tracked formulas hold (its index in the automaton's table of
verdicts). Literals are laid over the automaton of the rest, so that a thousand enum values cost a trie, not a product.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from grammar.errors import GrammarError, GrammarTooLarge, UnsupportedConstraint
from grammar.formula import FALSE, TRUE, Formula, Formulas, Kind, atoms, certain, conjuncts, satisfying
from grammar.kernels import fixed
from grammar.lexical import Dfa, canonical
from grammar.lexical.formats import INEXACT_FORMATS, compile_format, decided_texts
from grammar.lexical.graphs import behind_cycles, capped_counts, leading_to
from grammar.lexical.literals import overlaid
from grammar.lexical.numbers import NumberSpec
from grammar.lexical.numbers import number_language as spelled_numbers
from grammar.lexical.numbersets import MOST_SPELLED_FREELY, MOST_TOLD_FREELY, is_plain, number_set, plain_numbers
from grammar.lexical.product import beside
from grammar.lexical.regex import as_counted, compile_pattern, compile_regex
from grammar.schema.atoms import (
    Derived,
    Format,
    Length,
    MultipleOf,
    OneOfNumbers,
    OneOfStrings,
    Pattern,
    Range,
    Whole,
    WordOf,
)

MAX_STATES: Final = 50_000
MOST_COPIES: Final = 4
"""Repeats of one character set up to this many stay states: sharing masks by state then beats counting."""
MAX_UNROLLED: Final = 2_000
"""The longest length that is unrolled into states where it cannot be counted in a register."""


@dataclass(frozen=True, slots=True, eq=False)
class Machine:
    """A deterministic automaton over bytes whose final states carry labels; trimmed; state 0 starts."""

    classes: npt.NDArray[np.uint8]
    table: npt.NDArray[np.int32]
    labels: npt.NDArray[np.int32]
    """(states,): the label of a word that ends here, or -1."""
    least: int = 0
    most: int | None = None
    """Characters, counted in a register beside the states."""
    literal: bool = False
    """Whether the words are a finite set of literals."""

    @property
    def is_empty(self) -> bool:
        """Whether there is no word."""
        return len(self.labels) == 0

    def step(self, state: int, byte: int) -> int:
        """The next state, or -1."""
        return int(self.table[state, self.classes[byte]])


@lru_cache(maxsize=1)
def any_string() -> Dfa:
    """Every text."""
    return compile_regex(r"[\s\S]*")


@lru_cache(maxsize=1)
def any_number() -> Dfa:
    """Every JSON number within the stated bounds on digits."""
    return spelled_numbers(NumberSpec()).dfa


def string_language(atom: Any) -> Dfa:
    """The strings that satisfy one atom."""
    if isinstance(atom, Derived):
        reason = "a grammar that recurses is enforced alone or as an alternative, not negated, narrowed or told apart"
        raise UnsupportedConstraint(f"x-grammar: {reason}", pointer=atom.pointer, keyword="x-grammar", reason=reason)
    return atom.words if isinstance(atom, WordOf) else _shared_language(atom)


def derived_apart(pool: Formulas, goal: Formula) -> tuple[Formula, tuple[Derived, ...]]:
    """What is regular of a string goal, and the grammars that recurse of which satisfying one is enough.

    Where such a grammar stands in any other way, it stays in the formula, and its language is refused.
    """
    parts = goal.args if goal.kind is Kind.OR else (goal,)
    apart = tuple(f.atom for f in parts if f.kind is Kind.LITERAL and f.positive and isinstance(f.atom, Derived))
    if not apart:
        return goal, ()
    rest = [f for f in parts if not (f.kind is Kind.LITERAL and f.positive and isinstance(f.atom, Derived))]
    return pool.any_of(rest), apart


@lru_cache(maxsize=256)
def _shared_language(atom: Any) -> Dfa:
    """The language of an atom that other schemas may have too."""
    if isinstance(atom, Pattern):
        return _pattern(atom.text)
    if isinstance(atom, _Characters):
        counted = as_counted(atom.pattern)
        assert counted is not None
        return _star(counted[0])
    if isinstance(atom, Length):
        if max(atom.least, atom.most or 0) > MAX_UNROLLED:
            raise GrammarTooLarge(f"a length over {MAX_UNROLLED} in a combination where it cannot be counted")
        return compile_regex(rf"[\s\S]{{{atom.least},{'' if atom.most is None else atom.most}}}")
    if isinstance(atom, OneOfStrings):
        return literal_dfa(atom.values)
    assert isinstance(atom, Format)
    return compile_format(atom.name, atom.draft)


@lru_cache(maxsize=512)
def _pattern(text: str) -> Dfa:
    return compile_pattern(text)


def literal_dfa(values: frozenset[str]) -> Dfa:
    """Exactly these texts."""
    machine = overlay(None, {v.encode(): 0 for v in values})
    return canonical(machine.table, machine.labels >= 0, machine.classes)


def combine(  # noqa: C901, PLR0912  (one case for each kind of formula)
    pool: Formulas, formula: Formula, language: Callable[[Any], Dfa], universe: Dfa
) -> Dfa:
    """The words of `universe` that satisfy the formula."""
    if formula is TRUE:
        return universe
    if formula is FALSE:
        return Dfa.empty()
    key = ("dfa", universe.fingerprint)
    found: Dfa | None = formula.memo.get(key)
    if found is not None:
        return found
    match formula.kind:
        case Kind.LITERAL:
            result = located(language, formula.atom)
            if not formula.positive:
                result = result.complement(universe)
        case Kind.AND:
            result = combine(pool, formula.args[0], language, universe)
            for part in formula.args[1:]:
                if part.kind is Kind.LITERAL and not part.positive:
                    result = result.difference(located(language, part.atom))
                else:
                    result = result.intersect(combine(pool, part, language, universe))
        case Kind.OR:
            result = Dfa.empty()
            for part in formula.args:
                result = result.union(combine(pool, part, language, universe))
        case Kind.ONE:
            once, more = Dfa.empty(), Dfa.empty()
            for part in formula.args:
                this = combine(pool, part, language, universe)
                more = more.union(once.intersect(this))
                once = once.union(this)
            result = once.difference(more)
        case _:
            result = combine(pool, pool.negate(formula), language, universe).complement(universe)
    formula.memo[key] = result
    return result


def located(language: Callable[[Any], Dfa], atom: Any) -> Dfa:
    """The language of an atom; what is wrong with it is told with its place in the schema."""
    try:
        return language(atom)
    except GrammarError as error:
        if error.pointer or not getattr(atom, "pointer", ""):
            raise
        keyword = "format" if isinstance(atom, Format) else "pattern"
        raise type(error)(error.message, pointer=atom.pointer, keyword=keyword, reason=error.reason) from None


def holds(atom: Any, text: str) -> bool:
    """Whether one string satisfies one string atom."""
    if isinstance(atom, OneOfStrings):
        return text in atom.values
    if isinstance(atom, Length):
        return atom.least <= len(text) and (atom.most is None or len(text) <= atom.most)
    return located(string_language, atom).accepts(text.encode())


Verdict = Callable[[tuple[bool, ...]], int]


def string_machine(pool: Formulas, goal: Formula, tracked: Sequence[Formula], label: Verdict) -> Machine:
    """The strings that satisfy `goal`, labelled with the truth of each tracked formula."""
    literals: dict[bytes, int] = {}
    for atom in dict.fromkeys(a for f in (goal, *tracked) for a in atoms(f)):
        if isinstance(atom, OneOfStrings):
            for text in atom.values:
                literals.setdefault(text.encode(), -1)
    universe = decided_strings([goal, *tracked])
    if literals:
        _label_literals(literals, goal, tracked, label)
        for spelled in literals:
            if universe is not any_string() and not universe.accepts(spelled):
                literals[spelled] = -1

        def absent(atom: Any) -> Formula | None:
            return FALSE if isinstance(atom, OneOfStrings) else None

        memo: dict[int, Formula] = {}
        goal = pool.replace(goal, absent, memo)
        tracked = [pool.replace(f, absent, memo) for f in tracked]
        if goal is FALSE:
            return overlay(None, {text: mark for text, mark in literals.items() if mark >= 0})
    is_plain = universe is any_string() and not literals and all(f.kind <= Kind.TRUE for f in tracked)
    rest = _counted(pool, goal, tracked, label) if is_plain else None
    if rest is None:
        listed = any(mark >= 0 for mark in literals.values())
        rest = _of_some_length(pool, (goal, *tracked), label, universe, shortest_only=listed)
    return replace(overlay(rest, literals), least=rest.least, most=rest.most) if literals else rest


def _of_some_length(
    pool: Formulas, formulas: tuple[Formula, ...], label: Verdict, universe: Dfa, *, shortest_only: bool
) -> Machine:
    """As `labelled`; lengths too long to be unrolled are counted in a register instead, which knows one interval.

    So of the texts that lie on different sides of such a length only one side is offered: the shortest that there are.
    """
    language, found = _within(universe), _empty()
    for least, most in _intervals(formulas):
        goal, *tracked = (within_length(pool, f, least, most) for f in formulas)
        found = labelled(pool, goal, tracked, label, language, universe)
        if (least, most) != (0, None):
            found = _with_bounds(found, least, most)
        if shortest_only or not found.is_empty:
            break
    return found


def _intervals(formulas: Iterable[Formula]) -> list[tuple[int, int | None]]:
    """The lengths between those that are too long to be unrolled."""
    lengths = [a for f in formulas for a in atoms(f) if isinstance(a, Length)]
    starts = {a.least for a in lengths} | {a.most + 1 for a in lengths if a.most is not None}
    cuts = [0, *sorted(n for n in starts if n > MAX_UNROLLED)]
    return [(low, high) for low, high in zip(cuts, [*(n - 1 for n in cuts[1:]), None], strict=True)]


def within_length(pool: Formulas, formula: Formula, least: int, most: int | None) -> Formula:
    """What is left of the formula for texts whose length is known to lie between these."""

    def change(atom: Any) -> Formula | None:
        if not isinstance(atom, Length):
            return None
        if (most is not None and atom.least > most) or (atom.most is not None and atom.most < least):
            return FALSE
        low = atom.least if atom.least > least else 0
        high = None if atom.most is None or (most is not None and atom.most >= most) else atom.most
        return TRUE if not low and high is None else pool.literal(Length(low, high))

    return pool.replace(formula, change, {})


def _with_bounds(machine: Machine, least: int, most: int | None) -> Machine:
    """The machine with its characters counted; empty, and nothing counted, if no text is so long."""
    if machine.is_empty:
        return machine
    counted = replace(machine, least=least, most=most)
    start = int(characters_needed(counted)[0, least])
    return _empty() if start >= 1 << 30 or (most is not None and start > most) else counted


def decided_strings(formulas: Sequence[Formula]) -> Dfa:
    """The texts of which every format that is offered narrowed is decided; all, where none ever needs to fail.

    Left out are only texts that we cannot tell to be in a format or not, such as host names with A-labels.
    """
    inexact = {a for f in formulas for a in atoms(f) if isinstance(a, Format) and a.name in INEXACT_FORMATS}
    universe = any_string()
    if not inexact or (all(f.kind <= Kind.TRUE for f in formulas[1:]) and _monotone(formulas[0])):
        return universe
    for atom in sorted(inexact, key=lambda a: a.name):
        universe = universe.intersect(decided_texts(atom.name, atom.draft))
    return universe


def _within(universe: Dfa) -> Callable[[Any], Dfa]:
    if universe is any_string():
        return string_language
    return lambda atom: string_language(atom).intersect(universe)


def _label_literals(literals: dict[bytes, int], goal: Formula, tracked: Sequence[Formula], label: Verdict) -> None:
    """Give each literal its label, or -1 if the goal excludes it."""
    texts = frozenset(spelled.decode() for spelled in literals)
    found: dict[Any, frozenset[str]] = {}

    def of(atom: Any) -> frozenset[str]:
        if isinstance(atom, OneOfStrings):
            return atom.values
        if atom not in found:
            found[atom] = frozenset(text for text in texts if holds(atom, text))
        return found[atom]

    wanted = satisfying(goal, of, texts)
    told = [satisfying(f, of, texts) for f in tracked]
    for spelled in literals:
        text = spelled.decode()
        literals[spelled] = label(tuple(text in held for held in told)) if text in wanted else -1


def _counted(pool: Formulas, goal: Formula, tracked: Sequence[Formula], label: Verdict) -> Machine | None:
    """With nothing to tell, the lengths that hold in any case go to a register, and the rest is one automaton."""
    if not any(isinstance(a, Length) or _repeated(a) for a in atoms(goal)):
        return None
    goal = _only_way(pool, goal)
    held = certain(goal)
    repeated = {a: counted for a in held if (counted := _repeated(a)) is not None}
    lengths = [a for a in held if isinstance(a, Length)]
    lengths += [Length(low, high) for _, low, high in repeated.values()]
    if not lengths:
        return None
    least = max(a.least for a in lengths)
    most = min((a.most for a in lengths if a.most is not None), default=None)
    if most is not None and least > most:
        return _empty()
    rest = pool.replace(goal, lambda a: TRUE if a in held and (isinstance(a, Length) or a in repeated) else None, {})
    if rest.kind > Kind.TRUE and any(isinstance(a, Length) for a in atoms(rest)):
        return None
    others = pool.all_of([rest, *(pool.literal(_Characters(a.text)) for a in repeated)])
    dfa = combine(pool, others, string_language, any_string())
    mark = label(tuple(f is TRUE for f in tracked))
    machine = Machine(dfa.classes, dfa.table, np.where(dfa.accepting, mark, -1).astype(np.int32))
    return _with_bounds(machine, least, most)


def _only_way(pool: Formulas, goal: Formula) -> Formula:
    """The one way to satisfy the goal; the goal itself, if it has several."""
    ways = conjuncts(pool, goal)
    if len(ways) != 1:
        return goal
    return pool.all_of([*map(pool.literal, ways[0].positive), *(pool.literal(a, False) for a in ways[0].negative)])


@dataclass(frozen=True, slots=True)
class _Characters:
    """The texts made only of the characters that a pattern `^[set]{low,high}$` repeats."""

    pattern: str


def _repeated(atom: Any) -> tuple[Dfa, int, int | None] | None:
    """The character, and the bounds, if the atom is a pattern that repeats one set of characters often enough."""
    counted = as_counted(atom.text) if isinstance(atom, Pattern) else None
    return counted if counted is not None and max(counted[1], counted[2] or 0) > MOST_COPIES else None


def _star(character: Dfa) -> Dfa:
    """Any number of characters: the end of one is the beginning of the next."""
    final = int(np.flatnonzero(character.accepting)[0])
    table = np.where(character.table == final, 0, character.table).astype(np.int32)
    accepting = np.zeros(character.states, np.bool_)
    accepting[0] = True
    return canonical(table, accepting, character.classes)


def characters_needed(machine: Machine) -> npt.NDArray[np.int32]:
    """[state, l]: the least number of further characters, l at least, with which a word can end (2^30: none)."""
    states, least = len(machine.labels), machine.least
    if states * (least + 1) > 4_000_000:
        raise GrammarTooLarge(f"a minimum length of {least} beside a pattern of {states} states")
    starts = np.zeros(machine.table.shape[1], np.bool_)
    inner = np.zeros(machine.table.shape[1], np.bool_)
    for byte in range(256):
        (inner if 0x80 <= byte < 0xC0 else starts)[machine.classes[byte]] = True
    return _needed(machine.table, machine.labels, starts, inner, least)


def _needed(
    table: npt.NDArray[np.int32],
    labels: npt.NDArray[np.int32],
    starts: npt.NDArray[np.bool_],
    inner: npt.NDArray[np.bool_],
    least: int,
) -> npt.NDArray[np.int32]:
    far = np.int32(1 << 30)
    states = len(labels)
    padded = np.full(states + 1, far, np.int32)
    out = np.full((states, least + 1), far, np.int32)
    begin, cont = table[:, starts], table[:, inner & ~starts]
    column = np.where(labels >= 0, 0, far).astype(np.int32)
    while True:
        padded[:states] = column
        best = np.minimum(padded[begin].min(axis=1, initial=far) + 1, padded[cont].min(axis=1, initial=far))
        best = np.minimum(np.minimum(best, far), column)
        if np.array_equal(best, column):
            break
        column = best
    out[:, 0] = column
    for count in range(1, least + 1):
        padded[:states] = out[:, count - 1]
        first = np.minimum(padded[begin].min(axis=1, initial=far) + 1, far)
        column = first
        for _ in range(3):
            padded[:states] = column
            column = np.minimum(first, padded[cont].min(axis=1, initial=far))
        out[:, count] = column
    return out


def _empty() -> Machine:
    return Machine(np.zeros(256, np.uint8), np.empty((0, 1), np.int32), np.empty(0, np.int32))


def labelled(
    pool: Formulas,
    goal: Formula,
    tracked: Sequence[Formula],
    label: Verdict,
    language: Callable[[Any], Dfa],
    universe: Dfa,
) -> Machine:
    """The words of `universe` satisfying `goal`, labelled: a product of one automaton per formula."""
    open_formulas = [f for f in tracked if f.kind > Kind.TRUE]
    dfa = combine(pool, goal, language, universe)
    if not open_formulas:
        mark = label(tuple(f is TRUE for f in tracked))
        return Machine(dfa.classes, dfa.table, np.where(dfa.accepting, mark, -1).astype(np.int32))
    return _told([dfa, *(combine(pool, f, language, universe) for f in open_formulas)], tracked, label)


def _told(parts: Sequence[Dfa], tracked: Sequence[Formula], label: Verdict) -> Machine:
    """The words of the first part, labelled: the others are those of the tracked formulas that are not decided."""

    def verdict(accepts: tuple[bool, ...]) -> int:
        answers = iter(accepts[1:])
        return label(tuple(f is TRUE if f.kind <= Kind.TRUE else next(answers) for f in tracked)) if accepts[0] else -1

    return product(parts, verdict)


def product(parts: Sequence[Dfa], verdict: Callable[[tuple[bool, ...]], int]) -> Machine:
    """All parts run beside each other (a dead part stays dead); the first must live."""
    if parts[0].is_empty:
        return _empty()
    table, classes, accepting = parts[0].table, parts[0].classes, [parts[0].accepting]
    for part in parts[1:]:
        # What joins later never ends a word, so no more states come up here than the whole has.
        codes, joint = np.unique(classes.astype(np.int32) * 256 + part.classes, return_inverse=True)
        found = beside(table, part.table, np.stack([codes // 256, codes % 256], axis=1).astype(np.int32), MAX_STATES)
        if found is None:
            raise GrammarTooLarge(f"a combination of patterns needs more than {MAX_STATES} states")
        table, left, right = found
        classes = joint.reshape(-1).astype(np.uint8)
        accepting = [*(each[left] for each in accepting), np.append(part.accepting, False)[right]]
    told: dict[tuple[bool, ...], int] = {}
    rows = [tuple(row) for row in np.stack(accepting, axis=1).tolist()]
    labels = [told[row] if row in told else told.setdefault(row, verdict(row)) for row in rows]
    return trimmed(classes, table, np.array(labels, np.int32))


def trimmed(
    classes: npt.NDArray[np.uint8],
    table: npt.NDArray[np.int32],
    labels: npt.NDArray[np.int32],
    *,
    literal: bool = False,
) -> Machine:
    """The machine without states from which no label can be reached (all are reachable)."""
    live = leading_to(fixed(table), fixed(labels >= 0))
    if not len(live) or not live[0]:
        return _empty()
    number = np.full(len(labels) + 1, -1, np.int32)
    number[:-1][live] = np.arange(int(live.sum()), dtype=np.int32)
    return Machine(classes, number[table[live]], labels[live], literal=literal)


def overlay(rest: Machine | None, literals: dict[bytes, int]) -> Machine:
    """`rest` with these words relabelled (-1: excluded): a trie whose nodes shadow the states of `rest`."""
    if not literals:
        return rest if rest is not None else _empty()
    below = rest if rest is not None and not rest.is_empty else _empty()
    found = overlaid(literals, below.classes, below.table, below.labels)
    if found is None:
        raise GrammarTooLarge(f"literals of {sum(map(len, literals))} characters in all")
    classes, table, labels = found
    if min(literals.values()) >= 0:
        # Each node leads to a word, and `rest` is trimmed.
        return Machine(classes, table, labels, literal=rest is None)
    return trimmed(classes, table, labels, literal=rest is None)


def endless_labels(machine: Machine) -> set[int]:
    """The labels of infinitely many words, lengths aside: those of states that a cycle leads to."""
    return set(machine.labels[behind_cycles(fixed(machine.table))].tolist()) - {-1}


def few_words(machine: Machine, label: int, most: int) -> list[str] | None:
    """The words with this label, sorted; None if they are more than `most`."""
    counts = _capped_counts(machine, label, most)
    if not len(counts):
        return []
    counted = machine.least > 0 or machine.most is not None
    if counts[0] > most and not counted:
        return None
    needed = characters_needed(machine) if counted else None

    def fits(state: int, length: int, needed: npt.NDArray[np.int32]) -> bool:
        return length + int(needed[state, max(machine.least - length, 0)]) <= (machine.most or 0)

    found: list[bytes] = []
    stack: list[tuple[int, bytes, int]] = [(0, b"", 0)]
    while stack:
        state, word, length = stack.pop()
        if machine.labels[state] == label and length >= machine.least:
            found.append(word)
        if len(found) > most:
            return None
        targets = machine.table[state, machine.classes]
        for byte in np.flatnonzero((targets >= 0) & (counts[targets] > 0)).tolist():
            target = int(targets[byte])
            longer = length + (not 0x80 <= byte < 0xC0)
            if needed is None or machine.most is None or fits(target, longer, needed):
                stack.append((target, word + bytes([byte]), longer))
    return sorted(word.decode() for word in found)


def _capped_counts(machine: Machine, label: int, most: int) -> npt.NDArray[np.int64]:
    """[state]: how many words from here have the label, lengths aside; `most` + 1 stands for all larger counts."""
    sizes = np.bincount(machine.classes, minlength=machine.table.shape[1])
    return capped_counts(fixed(machine.table), fixed(sizes.astype(np.int64)), machine.labels == label, most)


def number_machine(pool: Formulas, goal: Formula, tracked: Sequence[Formula], label: Verdict) -> Machine:
    """The number spellings that satisfy `goal`, labelled with the truth of each tracked formula."""
    if _is_tidy(goal) and all(_is_small(atom) for f in (goal, *tracked) for atom in atoms(f)):
        return _integer_machine(pool, goal, tracked, label)
    goal, *others = _enumerated(pool, goal, tracked)
    listed = _listed(goal, others, label)
    if listed is not None:
        return listed
    goal, *others = [_merged(pool, f) for f in (goal, *others)]
    universe = _decided([goal, *others])

    def within(atom: Any) -> Dfa:
        return number_language(atom).intersect(universe)

    language = number_language if universe == any_number() else within
    return labelled(pool, goal, others, label, language, universe)


def _is_tidy(goal: Formula) -> bool:
    """Whether nothing but integers satisfies the goal, and they are to be spelled as integers are."""
    if goal.kind is Kind.LITERAL:
        return goal.positive and isinstance(goal.atom, Whole) and goal.atom.tidy
    if goal.kind is Kind.AND:
        return any(map(_is_tidy, goal.args))
    return goal.kind in (Kind.OR, Kind.ONE) and all(map(_is_tidy, goal.args))


_SMALL: Final = Decimal(10) ** 20


def _is_small(atom: Any) -> bool:
    """Whether the integers that this atom tells apart have few digits.

    Then whatever holds of some integer holds of one that can be spelled plainly, and nothing becomes unsatisfiable.
    """
    if isinstance(atom, Range):
        return all(abs(bound) < _SMALL for bound in (atom.least, atom.most) if bound is not None)
    if isinstance(atom, MultipleOf):
        return atom.step < _SMALL
    return not isinstance(atom, OneOfNumbers) or all(abs(value) < _SMALL for value in atom.values)


@lru_cache(maxsize=1)
def plain_integers() -> Dfa:
    """Every integer without point and exponent."""
    return spelled_numbers(NumberSpec(integer=True, plain=True)).dfa


def _integer_machine(pool: Formulas, goal: Formula, tracked: Sequence[Formula], label: Verdict) -> Machine:
    """As `number_machine`, of plain integers alone, for which every atom is decided."""
    universe = plain_integers()

    def within(atom: Any) -> Dfa:
        if isinstance(atom, OneOfNumbers):
            return number_language(atom).intersect(universe)
        spec = atom.spec if isinstance(atom, _Numbers) else number_spec([atom])
        return spelled_numbers(replace(spec, plain=True)).dfa.intersect(universe)

    goal, *others = [_merged(pool, f) for f in _enumerated(pool, goal, tracked)]
    return labelled(pool, goal, others, label, within, universe)


def _listed(goal: Formula, tracked: Sequence[Formula], label: Verdict) -> Machine | None:
    """The numbers of a list, which only other lists tell apart; None where that is not all, or they are few."""
    lists = [f.atom.values for f in (goal, *tracked) if isinstance(f.atom, OneOfNumbers) and f.positive]
    if len(lists) < 1 + sum(f.kind > Kind.TRUE for f in tracked) or not isinstance(goal.atom, OneOfNumbers):
        return None
    if len(lists[0]) <= MOST_SPELLED_FREELY or not all(map(is_plain, lists[0])):
        return None
    return _told(list(map(number_set, lists)), tracked, label)


def _enumerated(pool: Formulas, goal: Formula, tracked: Sequence[Formula]) -> list[Formula]:
    """A goal that only listed numbers satisfy, and what is tracked of it, as plain lists of those numbers."""
    formulas = [goal, *tracked]
    values = frozenset(v for a in atoms(goal) if isinstance(a, OneOfNumbers) for v in a.values)
    if any(isinstance(a, Whole) and a.plain for f in formulas for a in atoms(f)):
        return formulas  # the spelling matters, not only the value
    if not values or pool.replace(goal, lambda a: FALSE if isinstance(a, OneOfNumbers) else None, {}) is not FALSE:
        return formulas

    def of(atom: Any) -> frozenset[Decimal]:
        if isinstance(atom, OneOfNumbers):
            return atom.values
        spec = number_spec([atom])
        return frozenset(v for v in values if spec.holds(Fraction(v)))

    wanted = satisfying(goal, of, values)
    held = [wanted, *(satisfying(f, of, wanted) for f in tracked)]
    return [
        pool.literal(OneOfNumbers(h)) if h and (at == 0 or h != wanted) else TRUE if h else FALSE
        for at, h in enumerate(held)
    ]


def _decided(formulas: Sequence[Formula]) -> Dfa:
    """The spellings for which every atom is decided; needed as soon as it matters that an atom does *not* hold."""
    if all(f.kind <= Kind.TRUE for f in formulas[1:]) and _monotone(formulas[0]):
        return any_number()
    domains = {_domain(atom).fingerprint: atom for f in formulas for atom in atoms(f)}
    domains.pop(any_number().fingerprint, None)
    universe = any_number()
    for atom in domains.values():
        universe = universe.intersect(_domain(atom))
    return universe


def _monotone(formula: Formula) -> bool:
    """Whether the formula can only gain by an atom that holds."""
    if formula.kind is Kind.LITERAL:
        return formula.positive
    return formula.kind <= Kind.TRUE or (formula.kind in (Kind.AND, Kind.OR) and all(map(_monotone, formula.args)))


def _domain(atom: Any) -> Dfa:
    """The spellings for which the language of a number atom is exact."""
    if isinstance(atom, OneOfNumbers):
        if len(atom.values) > MOST_TOLD_FREELY:
            return plain_numbers()
        value = Fraction(min(atom.values, default=0))
        return spelled_numbers(NumberSpec(minimum=value, maximum=value)).domain
    return spelled_numbers(atom.spec if isinstance(atom, _Numbers) else number_spec([atom])).domain


@dataclass(frozen=True, slots=True)
class _Numbers:
    """Several positive number atoms as one automaton, which is far smaller than their product."""

    spec: NumberSpec


def _merged(pool: Formulas, formula: Formula) -> Formula:
    """Conjunctions of bounds, multiples and wholeness merged into one atom each."""
    if formula.kind is not Kind.AND:
        return formula
    simple = [
        f
        for f in formula.args
        if f.kind is Kind.LITERAL and f.positive and isinstance(f.atom, (Range, MultipleOf, Whole))
    ]
    steps = [f.atom.step for f in simple if isinstance(f.atom, MultipleOf)]
    if len(simple) < 2 or len(steps) > 1:
        return formula
    rest = [f for f in formula.args if f not in simple]
    return pool.all_of([pool.literal(_Numbers(number_spec([f.atom for f in simple]))), *rest])


def number_spec(parts: Sequence[Any]) -> NumberSpec:
    """Bounds, wholeness and at most one multiple, taken together."""
    ranges = [a for a in parts if isinstance(a, Range)]

    def bound(pick: Callable[[Iterable[Fraction]], Fraction], side: str, *, is_open: bool) -> Fraction | None:
        found = [
            Fraction(getattr(a, side))
            for a in ranges
            if getattr(a, side) is not None and getattr(a, side + "_open") is is_open
        ]
        return pick(found) if found else None

    steps = [Fraction(a.step) for a in parts if isinstance(a, MultipleOf)]
    return NumberSpec(
        integer=any(isinstance(a, Whole) for a in parts),
        plain=any(isinstance(a, Whole) and a.plain for a in parts),
        minimum=bound(max, "least", is_open=False),
        maximum=bound(min, "most", is_open=False),
        exclusive_minimum=bound(max, "least", is_open=True),
        exclusive_maximum=bound(min, "most", is_open=True),
        multiple_of=steps[0] if steps else None,
    )


@lru_cache(maxsize=1024)
def number_language(atom: Any) -> Dfa:
    """The spellings of the numbers that satisfy one atom."""
    if isinstance(atom, OneOfNumbers):
        few = len(atom.values) <= MOST_TOLD_FREELY
        listed = frozenset() if few else frozenset(v for v in atom.values if is_plain(v))
        others = sorted(atom.values - listed)
        if len(others) > MOST_TOLD_FREELY:
            raise GrammarTooLarge(f"more than {MOST_TOLD_FREELY} listed numbers of over 40 digits")
        parts = [_equal_to(Fraction(value)) for value in others]
        return _united([*parts, number_set(listed)] if listed else parts)
    return spelled_numbers(atom.spec if isinstance(atom, _Numbers) else number_spec([atom])).dfa


def _united(parts: Sequence[Dfa]) -> Dfa:
    """The union, by halves: each state is then copied a logarithm of times, not once for every part."""
    if len(parts) <= 1:
        return parts[0] if parts else Dfa.empty()
    middle = len(parts) // 2
    return _united(parts[:middle]).union(_united(parts[middle:]))


@lru_cache(maxsize=1024)
def _equal_to(value: Fraction) -> Dfa:
    return spelled_numbers(NumberSpec(minimum=value, maximum=value)).dfa
