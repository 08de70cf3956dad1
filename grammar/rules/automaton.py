"""Rules and embedded JSON on the one automaton: a state is a stack set on a base, a frame is the stack set below it.

A byte moves every reading of a state. If readings of the frame below may take the byte too, the state first *merges*
with that frame (the KEEP operation with the state as its label), so that a row never depends on what it cannot see. If
all readings stay above one choke point, the part below becomes a frame. A reading's rule ends only when its next byte
is known, which keeps frames apart as long as they can be told apart.

A JSON text is a frame of JSON states over a state that waits for it. If something else may begin with the same byte,
or a number could not be told from what follows it, the value is read beside the other readings instead, byte by byte.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_
from typing import Any, Final

import numpy as np

from grammar import codes, steps
from grammar.closing import Closing
from grammar.errors import GrammarError, GrammarTooLarge, UnsupportedConstraint
from grammar.formula import TRUE, Formula, Formulas, Kind, atoms
from grammar.frames.languages import Machine, any_string, combine, derived_apart, string_language
from grammar.json_automaton import JsonAutomaton, Tracked
from grammar.lexical import Dfa, spelled_in_json
from grammar.options import JsonOptions
from grammar.places import PlaceKind
from grammar.rules.contents import Contents
from grammar.rules.network import build
from grammar.rules.positions import DONE, END, Position, Positions
from grammar.rules.slices import FEWEST_BYTES, OTHER, Bools, Pairs, Run, Slice, loops, pairs_of, slice_of
from grammar.rules.stacks import BASE, NOTHING, Items, Stacks
from grammar.rules.terms import Rules
from grammar.schema.atoms import Derived
from grammar.states import column
from grammar.tables import (
    ARGUMENT,
    COLUMNS,
    DATA_SEEN,
    DEAD,
    KEEP,
    KIND,
    OFFSET,
    PLAIN,
    POP,
    PUSH,
    PUSH_CHILD,
    SHIFT,
    STACK_PARENT,
    STACK_STATE,
    STEP,
    VISIBLE,
    operation,
)
from grammar.vocabulary import Vocabulary

_FIRST_BYTES: Final = b'{["-0123456789tfn'
ENDLESS: Final = "there is no longest text: only the token budget ends one that goes on"
MAX_LABEL: Final = 1 << 24

_PROBED: Final = 60
_TRIED: Final = b'{["a0:,}]'
_REMEMBERING: Final = "a JSON value whose keys or items must be remembered begins like something else here"
_REMEMBERED: Final = "strings under a grammar that recurses cannot be compared, as uniqueItems asks"
_APART: Final = "strings under a grammar that recurses cannot be told apart from other strings"
_NESTED: Final = "a JSON value with a string under x-grammar begins like something else here"
_ANY_BYTE: Final = (1 << 256) - 1
_DIGITS: Final = frozenset(b"-0123456789")
_IN_NUMBERS: Final = sum(1 << byte for byte in b"0123456789+-.eE")

Begun = tuple[int, int, int, int]
"""A JSON text that may begin: (schema number, the position after it, what may follow it, the stack set below that)."""


@dataclass(frozen=True, slots=True)
class Value:
    """What the JSON texts of one schema satisfy, and the recursive grammars that strings in them may follow."""

    goal: Formula
    contents: tuple[Derived, ...]
    unsatisfiable: Callable[[], GrammarError]
    """What to raise if nothing satisfies the goal."""


class RuleAutomaton(JsonAutomaton):
    """The automaton of one grammar; `values` are those of its schemas."""

    def __init__(
        self, vocabulary: Vocabulary, rules: Rules, pool: Formulas, values: Sequence[Value], options: JsonOptions
    ) -> None:
        super().__init__(vocabulary, pool, TRUE, options)
        self.outside = vocabulary.trie  # Behind a value any text may come.
        self._goals = goals = [value.goal for value in values]
        self._derived = Contents([content for value in values for content in value.contents])
        self._with_contents = frozenset(number for number, value in enumerate(values) if value.contents)
        for value in values:
            if not self.satisfiable(value.goal):
                for failure in self.satisfiable.failures:
                    raise failure
                raise value.unsatisfiable()
        texts = [self.completions.value(goal, ())[1] for goal in goals]
        self._network = build(self._derived.beside(rules), texts)
        self._positions = Positions(self._network, bytewise=bool(goals))
        self._stacks = Stacks(self._positions)
        self._lasting = loops(self._positions.languages)
        self._lasts: dict[tuple[int, Run], bool] = {}
        self._rule_map = self.tables.add_map(self._column_map())
        self._readings_of: dict[int, tuple[dict[int, int], bool]] = {}
        self._options = options
        self._cells: dict[tuple[tuple[int, int], ...], int] = {}
        self._falling_rows: dict[int, list[int]] = {}
        self._clear: dict[int, bool] = {}
        self._told_apart: set[int] = set()
        self._quotes: dict[int, int] = {}
        """By the label that a string returns, the position before its closing quote."""
        self._labels: dict[int, int] = {}
        """By such a position, the label."""
        self._ended: dict[int, int] = {}
        """By the position after that quote, the label."""
        ended = self._stacks.number({END: NOTHING})
        first = {self._positions.entry(rules.start): ended}
        if rules.start in self._network.nullable:
            first[END] = NOTHING
        self.start = self._state(self._stacks.number(first))

    @cached_property
    def _side(self) -> JsonAutomaton:
        """Where values are read beside other readings: its tables grow while this one's are being walked."""
        return JsonAutomaton(self.vocabulary, self.pool, TRUE, self._options)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the author of the grammar should know."""
        return (*self._network.notes, *((ENDLESS,) if self._network.is_endless else ()))

    def probe(self) -> None:
        """Fill the rows near the start, so that a value that cannot be read there is refused at once."""
        todo, seen = [self.start], {self.start}
        while todo and len(seen) < _PROBED:
            state = todo.pop(0)
            self.fill(state)
            near = {self.tables.cell(state, byte) for byte in range(256)}
            targets = [cell & ARGUMENT for cell in near if cell >= 0 and cell >> SHIFT == STEP]
            pushed = [cell & ARGUMENT for cell in near if cell >= 0 and cell >> SHIFT == PUSH]
            targets += [self.tables.get(PUSH_CHILD, push) for push in pushed]
            fresh = {target for target in targets if self.key_of(target)[0] == "rules"} - seen
            seen |= fresh
            todo += sorted(fresh)

    def _column_map(self) -> Any:
        found = np.zeros(COLUMNS, np.uint8)
        found[:256] = self._positions.classes
        return found

    def _state(self, stacks: int) -> int:
        found = self.state(("rules", stacks))
        if found >= MAX_LABEL:
            raise GrammarTooLarge(f"a grammar of more than {MAX_LABEL} states")
        return found

    # ---------------------------------------------------------------- rows

    def fill(self, state: int) -> None:
        """Write the state's row."""
        key = self.key_of(state)
        if key[0] != "rules":
            super().fill(state)
            return
        readings, falls = self._readings(key[1])
        values = [(*value, below) for top, below in readings.items() for value in self._positions.at(top).values]
        targets = self._targets(readings)
        begun = self._beginnings_of(values)
        if not falls and (not targets.keys().isdisjoint(begun) or _is_unclear(begun, values)):
            targets, begun = self._targets(self._with_values_beside(readings, values)), {}
        merged = operation(KEEP, state + 1)
        row = self._falling(readings) if falls else [DEAD] * self._positions.count
        for cls, moved in targets.items():
            # A byte that nothing below may take needs no look at what lies there.
            row[cls] = self._cell(tuple(moved)) if row[cls] == DEAD else merged
        for byte, push in begun.items():
            row[byte] = operation(PUSH, push) if row[byte] == DEAD else merged
        self.tables.set_row(state, self.tables.add_cells(row), self._rule_map)

    def _falling(self, readings: dict[int, int]) -> list[int]:
        """The row of a state from which no reading moves, but some may end: only bytes that may follow go on below."""
        ended = [self._positions.at(top) for top, below in readings.items() if self._stacks.on_base[below]]
        beyond = reduce(or_, (position.beyond for position in ended))
        known = self._falling_rows.get(beyond)
        if known is None:
            keep = operation(KEEP)
            known = self._falling_rows[beyond] = [keep if on else DEAD for on in self._positions.spread(beyond)]
        return known.copy()

    def _cell(self, moved: tuple[tuple[int, int], ...]) -> int:
        """How to come to stand where all these readings stand; many bytes of many states lead to the same ones."""
        known = self._cells.get(moved)
        if known is None:
            found: dict[int, int] = {}
            for to, below in moved:
                self._arrive(found, to, below)
            known = self._cells[moved] = self._operation(self._stacks.number(found))
        return known

    def _operation(self, stacks: int) -> int:
        items = self._stacks.items[stacks]
        if items == ((DONE, BASE),):
            return operation(POP)
        if len(items) == 1 and items[0][0] in self._ended:
            return operation(POP, self._ended[items[0][0]])
        above, below = self._stacks.cut(stacks, self._is_clear)
        if below == BASE:
            return operation(STEP, self._state(above))
        return operation(PUSH, self.tables.push_id(self._state(below), self._state(above)))

    def _is_clear(self, stacks: int) -> bool:
        """Whether no byte both moves a reading and may go on below: what lies below can wait until this has ended."""
        known = self._clear.get(stacks)
        if known is None:
            readings, falls = self._readings(stacks)
            known = not falls
            if falls:
                row = self._falling(readings)
                moving = {cls for top in readings for cls, _ in self._positions.at(top).moves}
                known = all(row[cls] == DEAD for cls in moving)
            self._clear[stacks] = known
        return known

    def _readings(self, stacks: int) -> tuple[dict[int, int], bool]:
        """Where readings stand once finished rules have ended and called ones begun; whether the base is reached."""
        known = self._readings_of.get(stacks)
        if known is None:
            known = self._readings_of[stacks] = self._closed(self._stacks.items[stacks])
        return known

    def _closed(self, readings: Items) -> tuple[dict[int, int], bool]:
        sets, positions = self._stacks, self._positions
        found: dict[int, int] = {}
        falls = False
        todo = list(readings)
        while todo:
            top, below = todo.pop()
            grown = sets.union(found.get(top, NOTHING), below)
            if top in found and grown == found[top]:
                continue
            found[top] = grown
            position = positions.at(top)
            if position.ends:
                falls |= sets.on_base[below]
                todo.extend(sets.items[below])
            todo.extend((entry, sets.pushed(after, grown)) for entry, after in position.calls)
        return found, falls

    def _targets(self, readings: dict[int, int]) -> dict[int, list[tuple[int, int]]]:
        """For each class of bytes: the readings that it moves, each as (position after it, stack set below)."""
        found: dict[int, list[tuple[int, int]]] = {}
        for top, below in sorted(readings.items()):
            for cls, to in self._positions.at(top).moves:
                if cls in found:
                    found[cls].append((to, below))
                else:
                    found[cls] = [(to, below)]
        return found

    def _arrive(self, found: dict[int, int], to: int, below: int) -> None:
        """Add the reading `to` over `below`; where a rule has nothing left, those around it stand next."""
        sets = self._stacks
        if to != DONE:
            found[to] = sets.union(found.get(to, NOTHING), below)
            return
        for top, deeper in sets.items[below]:
            self._arrive(found, top, deeper)
        if sets.on_base[below]:
            found[DONE] = BASE

    # ---------------------------------------------------------------- masks

    def _compute(self, state: int, register: int, stack: int) -> tuple[Any, int, bool]:
        """As for any state; where terminals go on as they are, most tokens are decided by their first two bytes."""
        pairs = self._parted(state) if self._lasting and self.key_of(state)[0] == "rules" else None
        if pairs is None:
            return super()._compute(state, register, stack)
        parts = slice_of(self.vocabulary, pairs.run)
        row = parts.row(pairs.good.reshape(-1), self.vocabulary.words)
        meta = self._begin(state, register, stack)
        self._walk(parts.rest, -1, -1, row)
        self._walk_from(parts, pairs, (state, register, stack), row)
        return row, int(meta[VISIBLE]), bool(meta[DATA_SEEN])

    def _walk_from(self, parts: Slice, pairs: Pairs, here: tuple[int, int, int], row: Any) -> None:
        """Walk those tokens of a slice whose first two bytes do not decide."""
        tables, places = self.tables, []
        for first in np.flatnonzero(pairs.unclear).tolist():
            if parts.trie.tops[first] >= 0:
                places.append((int(parts.trie.tops[first]), *here))
        stepped: dict[int, tuple[int, int, int]] = {}
        for first, second in np.argwhere(pairs.open & (parts.seconds >= 0).reshape(256, 256)).tolist():
            cell = int(pairs.cells[first])
            if cell not in stepped:
                _, *after = steps.step(tables.mem, tables.h, *here, first)
                stepped[cell] = int(after[0]), int(after[1]), int(after[2])
            places.append((int(parts.seconds[first << 8 | second]), *stepped[cell]))
        if not places:
            return
        if len(places) > len(self._work):
            self._work = np.zeros((2 * len(places), 8), np.int64)
        self._work[: len(places)] = 0
        self._work[: len(places), :4] = places
        self._work[: len(places), 5:7] = codes.UNFILLED, here[0]  # which is filled: the walk only goes on from there
        self._complete(parts.trie, len(places), row)

    def _parted(self, state: int) -> Pairs | None:
        """Which first two characters lead to where some run stays; None if too few do."""
        cells = self._row(state)
        if np.count_nonzero(cells >= 0) < FEWEST_BYTES:
            return None
        found: dict[Run, list[tuple[int, Any, Bools]]] = {run: [] for run in self._lasting}
        count = dict.fromkeys(found, 0)
        for cell in _live(cells[:128]):
            child = self._entered(cell)
            if child is None:
                continue
            for run, parted in found.items():
                after, stays = self._second_characters(child, run)
                parted.append((cell, after, stays))
                count[run] += int(np.count_nonzero(cells[:128] == cell) * np.count_nonzero(stays))
        best = max(count, key=lambda run: count[run])
        if count[best] < FEWEST_BYTES * FEWEST_BYTES // 2:
            return None
        return pairs_of(best, cells, found[best], self._goes_on_after(state, cells, best))

    def _second_characters(self, state: int, run: Run) -> tuple[Any, Bools]:
        """(256,): where each byte leads from the state, and whether a character leads to where the run stays."""
        if self._stays_under(state, run):
            return np.full(256, DEAD), run.seconds  # What nothing of the run tells apart need not be known.
        after, stays = self._row(state), np.zeros(256, np.bool_)
        for cell in _live(after):
            target = self._entered(cell)
            if target is not None and self._stays_under(target, run):
                stays |= after == cell
        if run.others:
            stays[OTHER:] = False
            stays[OTHER] = bool(self._goes_on_after(state, after, run))
        return after, stays

    def _goes_on_after(self, state: int, cells: Any, run: Run) -> bool | None:
        """Whether a run that takes all characters beyond ASCII stays after one of them; None if that is not clear."""
        if (cells[OTHER:] == DEAD).all():
            return False
        readings, _ = self._readings(self.key_of(state)[1])
        return True if any(self._positions.goes_on_after(top, run) for top in readings) else None

    def _entered(self, cell: int) -> int | None:
        """The state that a step or a push leads to, if it is one of rules."""
        kind, argument = cell >> SHIFT, cell & ARGUMENT
        if kind not in (STEP, PUSH):
            return None
        target = argument if kind == STEP else self.tables.get(PUSH_CHILD, argument)
        return target if self.key_of(target)[0] == "rules" else None

    def _row(self, state: int) -> Any:
        """(256,): the cells of a state of rules."""
        if not self.tables.is_filled(state):
            self.fill(state)
        offset = self.tables.get(OFFSET, state) - 1
        return self.tables.block(offset, self._positions.count)[self._positions.classes]

    def _stays_under(self, state: int, run: Run) -> bool:
        """Whether some reading stays where it is under the run: then any tokens of its characters may come.

        Others may stand beside it: without a lexer a keyword can begin at each letter of a name that it may follow.
        """
        found = self._lasts.get((state, run))
        if found is None:
            readings, _ = self._readings(self.key_of(state)[1])
            found = self._lasts[state, run] = any(self._positions.lasts(top, run) for top in readings)
        return found

    # ---------------------------------------------------------------- values

    def _beginnings_of(self, values: list[Begun]) -> dict[int, int]:
        """For each byte with which one of the values can begin: the push of its frame."""
        if not values:
            return {}
        goals = [self._goals[number] for number, _, _, _ in values]
        waiting = self.state(("awaits", tuple((to, below) for _, to, _, below in values)))
        tracked = tuple(goals) if len(goals) > 1 else ()
        entry = dict(self._entry(self.pool.any_of(goals), tracked, recorded=False))
        pushes = {where: self.tables.push_id(waiting, child) for where, child in entry.items()}
        return {byte: pushes[column(byte)] for byte in _FIRST_BYTES if column(byte) in pushes}

    def _with_values_beside(self, readings: dict[int, int], values: list[Begun]) -> dict[int, int]:
        for number in {number for number, _, _, _ in values}:
            self._refuse_if_remembering(number)
        more = [
            (self._inside(self._side_start(number)), self._stacks.pushed(to, below)) for number, to, _, below in values
        ]
        return self._closed((*readings.items(), *more))[0]

    def _side_start(self, number: int) -> int:
        side = self._side
        return side.configuration(side.state(("start", self._goals[number])), 0, 0)

    def _inside(self, configuration: int) -> int:
        """The position of a reading inside a JSON value: a configuration of the automaton beside this one."""
        rest = Closing(self._side).plan(configuration)
        return self._positions.foreign(configuration, lambda: self._explore_value(configuration), rest)

    def _refuse_if_remembering(self, number: int) -> None:
        """Refuse a value whose keys or items must be remembered, if a few of its texts show it."""
        if number in self._told_apart:
            return
        if number in self._with_contents:
            raise UnsupportedConstraint(_NESTED, keyword="x-grammar")
        self._told_apart.add(number)
        todo, seen = [self._side_start(number)], {-1}
        while todo and len(seen) < _PROBED:
            configuration = todo.pop(0)
            for byte in _TRIED:
                moved = self._side.run(configuration, bytes([byte]), None)
                if moved is not None and not moved[2]:
                    raise UnsupportedConstraint(_REMEMBERING, keyword="json")
                if moved is not None and moved[0] not in seen:
                    seen.add(moved[0])
                    todo.append(moved[0])

    def _explore_value(self, configuration: int) -> Position:
        side, moves = self._side, []
        for byte in range(256):
            moved = side.run(configuration, bytes([byte]), None)
            if moved is None:
                continue
            if not moved[2]:
                raise UnsupportedConstraint(_REMEMBERING, keyword="json")
            is_whole = side.configurations[moved[0]][0] == side.done
            moves.append((byte, DONE if is_whole else self._inside(moved[0])))
        return Position(tuple(moves), (), (), ends=side.accepts(configuration), beyond=_ANY_BYTE)

    # ---------------------------------------------------------------- strings that a grammar derives

    def string_of(self, goal: Formula, tracked: Tracked) -> Machine:
        """The machine of what is regular of a string goal."""
        return super().string_of(derived_apart(self.pool, goal)[0], tracked)

    def least_string(self, goal: Formula, tracked: Tracked) -> tuple[int, bytes]:
        """As for any JSON; a derived text is taken if there is one."""
        _, derived = derived_apart(self.pool, goal)
        if not derived:
            return super().least_string(goal, tracked)
        least = min((atom.least for atom in derived), key=len)
        return self._told(goal, tracked), json.dumps(least, ensure_ascii=False)[1:-1].encode()

    def _string(self, goal: Formula, tracked: Tracked, mark: int) -> list[tuple[int, int]]:
        """A frame of rules over the closing quote, which returns the label."""
        regular, derived = derived_apart(self.pool, goal)
        if not derived:
            return super()._string(goal, tracked, mark)
        if mark:
            pointer = derived[0].pointer
            raise UnsupportedConstraint(_REMEMBERED, pointer=pointer, keyword="x-grammar", reason=_REMEMBERED)
        quote = self._quote(self._told(goal, tracked))
        ending = self._stacks.number({quote: BASE})
        readings = {self._positions.entry(self._derived.rule(atom)): ending for atom in derived}
        words = combine(self.pool, regular, string_language, any_string())
        if not words.is_empty:
            spelled = spelled_in_json(words)
            readings[self._in_words(spelled, 0)] = ending
        if not all(atom.least for atom in derived):
            readings[quote] = BASE
        return [(column(0x22), self._state(self._stacks.number(readings)))]

    def _told(self, goal: Formula, tracked: Tracked) -> int:
        """What a string of the goal tells, where that is clear: which of its alternatives holds is not read."""
        verdict = [TRUE if told is goal else told for told in tracked]
        unclear = next((a for f in verdict if f.kind > Kind.TRUE for a in atoms(goal) if isinstance(a, Derived)), None)
        if unclear is not None:
            raise UnsupportedConstraint(_APART, pointer=unclear.pointer, keyword="x-grammar", reason=_APART)
        return self.labels.number(tuple(told is TRUE for told in verdict))

    def _quote(self, label: int) -> int:
        """The position before a closing quote that returns this label."""
        found = self._quotes.get(label)
        if found is None:
            nothing = Position((), (), (), ends=False, beyond=0)
            closed = self._positions.foreign(("closed", label), lambda: nothing, b"")
            ending = Position(((0x22, closed),), (), (), ends=False, beyond=0)
            found = self._quotes[label] = self._positions.foreign(("quote", label), lambda: ending, b'"')
            self._labels[found] = self._ended[closed] = label
        return found

    def _in_words(self, words: Dfa, state: int) -> int:
        """The position of a reading in a regular language that is no word of the network's."""

        def explore() -> Position:
            steps = ((byte, words.step(state, byte)) for byte in range(256))
            moves = tuple((byte, self._in_words(words, to)) for byte, to in steps if to >= 0)
            return Position(moves, (), (), ends=bool(words.accepting[state]), beyond=_ANY_BYTE)

        return self._positions.foreign((id(words), state), explore, words.shortest(state))

    # ---------------------------------------------------------------- returns and ends

    def returned(self, parent: int, label: int) -> int:
        """The state that follows when a child returns `label` to `parent`."""
        key = self.key_of(parent)
        if key[0] == "rules":
            return self._state(self._stacks.based(self.key_of(label - 1)[1], key[1])) if label else parent
        if key[0] != "awaits":
            return super().returned(parent, label)
        verdict = self.labels.verdict(label) or (True,)
        found: dict[int, int] = {}
        for (to, below), holds in zip(key[1], verdict, strict=True):
            if holds:
                self._arrive(found, to, below)
        return self._state(self._stacks.number(found))

    def is_accepting(self, state: int, register: int, stack: int) -> bool:  # noqa: ARG002  (no register delays an end)
        """Whether the text may end in this configuration: whether readings reach its end through every frame."""
        tables = self.tables
        while state != self.done:
            key = self.key_of(state)
            if key[0] == "rules":
                readings, falls = self._readings(key[1])
                if END in readings or not falls:
                    return END in readings
                state = tables.get(STACK_STATE, stack)
            else:
                label = self._whole_number(state)
                if label is None:
                    return False
                state = self.returned(tables.get(STACK_STATE, stack), label)
                if state == DEAD:
                    return False
            stack = tables.get(STACK_PARENT, stack)
        return True

    def _whole_number(self, state: int) -> int | None:
        """What a number that may end here returns; None if this is no such place."""
        tables = self.tables
        if tables.get(KIND, state) != PLAIN or not tables.is_filled(state):
            return None
        cell = tables.cell(state, 0)
        return cell & ARGUMENT if cell >= 0 and cell >> SHIFT == KEEP else None

    def _mask_key(self, state: int, saturated: int, register: int, stack: int, visible: int, with_data: bool) -> Any:
        # Whether the text may end can depend on frames that no token reaches.
        shared = super()._mask_key(state, saturated, register, stack, visible, with_data)
        return (*shared, self.is_accepting(state, register, stack))

    def finish(self, state: int, register: int, stack: int) -> tuple[int, bytes]:
        """The shortest way out of the top frame."""
        key = self.key_of(state)
        if key[0] == "rules":
            last, text = self._stacks.shortest(key[1])
            return self._labels.get(last, 0), text
        return super().finish(state, register, stack)

    # ---------------------------------------------------------------- places

    def place_kind(self, configuration: int) -> PlaceKind:
        """What the next token would be part of."""
        if self._is_outside(configuration):
            return PlaceKind.FREE
        key = self.key_of(self.configurations[configuration][0])
        return PlaceKind.STRING if key[0] == "rules" else super().place_kind(configuration)

    def pointer(self, configuration: int, text: bytes) -> str:
        """The JSON Pointer in the embedded value that is open; empty outside of values."""
        if self._is_outside(configuration):
            return ""
        return super().pointer(configuration, text[self._value_start(text) :])

    def _is_outside(self, configuration: int) -> bool:
        """Whether rules are read outside of any JSON value: whether no frame below waits for one."""
        state, _, stack = self.configurations[configuration]
        if self.key_of(state)[0] != "rules":
            return False
        while self._with_contents and state != self.done:
            if self.key_of(state)[0] != "rules":
                return False
            state, stack = self.tables.get(STACK_STATE, stack), self.tables.get(STACK_PARENT, stack)
        return True

    def _value_start(self, text: bytes) -> int:
        """Where the open value begins: read again from the start, as only reports ask."""
        at, begun = self.configuration(self.start, 0, 0), 0
        for i in range(len(text)):
            if self._is_outside(at):
                begun = i
            moved = self.run(at, text[i : i + 1], text[:i])
            assert moved is not None, "the text was generated here"
            at = moved[0]
        return begun


def _live(cells: Any) -> list[int]:
    """The cells that lead somewhere, each once."""
    return [cell for cell in set(cells.tolist()) if cell >= 0]


def _is_unclear(begun: dict[int, int], values: list[Begun]) -> bool:
    """Whether the end of a number could be mistaken for what follows the value."""
    return not _DIGITS.isdisjoint(begun) and any(following & _IN_NUMBERS for _, _, following, _ in values)
